"""Shortens a program: what nobody reads goes; a bias or an activation moves into the product before it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from streamgru.codes import Binary, Code, Unary, index_of, lists_of
from streamgru.layout import Kind

from .program import Operator, Program, Tensor

PRODUCTS = {code: index_of(code, "activation") for code in (Code.AFFINE, Code.CONV, Code.CONV_TRANSPOSE)}
NO_ACTIVATION = {Unary.NOT, Unary.SIN, Unary.COS}


def fuse_in_place(program: Program) -> None:
    """All of it."""
    _drop_unread(program)
    for attempt in (_fuse_bias, _fuse_activation):
        _each_pair(program, attempt)


def _kept(program: Program) -> set[Tensor]:
    return {t.root for t in (*program.outputs, *program.inputs)}


def _drop_unread(program: Program) -> None:
    """Operators whose results are in the arena and never read."""
    read = _kept(program)
    kept: list[Operator] = []
    for op in reversed(program.operators):
        outs = [t.root for t in op.outputs if t is not None]
        if any(t in read or t.kind == Kind.STATE for t in outs):
            kept.append(op)
            read.update(t.root for t in op.inputs if t is not None)
    program.operators = kept[::-1]


def _each_pair(program: Program, attempt: Callable[[Operator, Operator, int], bool]) -> None:
    """Calls `attempt(product, follower, i)` for each follower whose input `i` is a product that only it
    reads."""
    reads: Counter[Tensor] = Counter()
    writers: dict[Tensor, list[Operator]] = {}
    for op in program.operators:
        reads.update({t.root for t in op.inputs if t is not None})
        for t in op.outputs:
            if t is not None:
                writers.setdefault(t.root, []).append(op)
    reads.update(_kept(program))
    gone: set[int] = set()
    for op in program.operators:
        if op.code not in (Code.UNARY, Code.BINARY):
            continue
        for i, operand in enumerate(op.inputs[:2]):
            if operand is None or reads[operand.root] != 1 or len(writers.get(operand.root, [])) != 1:
                continue
            product = writers[operand.root][0]
            result = product.outputs[0]
            if product.code in PRODUCTS and result is not None and attempt(product, op, i):
                product.outputs = list(op.outputs)
                assert op.outputs[0] is not None
                writers[op.outputs[0].root] = [product]
                gone.add(id(op))
                break
    program.operators = [op for op in program.operators if id(op) not in gone]


def _fuse_activation(product: Operator, op: Operator, i: int) -> bool:
    """AFFINE or CONV, then UNARY."""
    at, x = PRODUCTS[product.code], op.inputs[0]
    done = product.outputs[0]
    assert x is not None
    assert done is not None
    free = product.params[at] == Unary.IDENTITY
    if op.code != Code.UNARY or not free or op.params[0] in NO_ACTIVATION or x.size != done.size:
        return False
    product.params[at : at + 3] = op.params
    return True


def _fuse_bias(product: Operator, op: Operator, i: int) -> bool:
    """AFFINE without bias, then BINARY add of a constant row that is the same for all."""
    if op.code != Code.BINARY or op.params[0] != Binary.ADD or product.code != Code.AFFINE:
        return False
    done, x, b = product.outputs[0], op.inputs[i], op.inputs[1 - i]
    assert done is not None
    assert x is not None
    m = int(product.params[index_of(Code.AFFINE, "M")])
    free = product.inputs[2] is None and product.params[PRODUCTS[product.code]] == Unary.IDENTITY
    if b is None or b.data is None or not free:
        return False
    dims, *steps = lists_of(op.code, op.params)
    bias = _row_for_all(dims, steps[1 - i], b, m)
    if bias is None or not _is_dense(dims, steps[i]) or x.size != done.size:
        return False
    product.inputs[2] = bias
    return True


def _is_dense(dims: Sequence[int], steps: Sequence[int]) -> bool:
    n = 1
    for d, s in zip(reversed(dims), reversed(steps), strict=True):
        if d > 1 and s != n:
            return False
        n *= d
    return True


def _row_for_all(dims: Sequence[int], steps: Sequence[int], b: Tensor, m: int) -> Tensor | None:
    """The constant as a bias of `m`: its last dimension is the row, all others repeat it."""
    if dims[-1] != m and not (m == 1 and b.size == 1):
        return None
    if any(s != 0 for s in steps[:-1]) or b.size != m or (m > 1 and steps[-1] != 1):
        return None
    assert b.data is not None
    return b if b.shape == (m,) else Tensor(b.name, b.dtype, (m,), Kind.CONSTANT, data=b.data.reshape(m))
