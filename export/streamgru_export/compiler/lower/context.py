"""What every lowering function works with: the views of the values so far, and the program under
construction.

A value is a view until an operator needs it in a row; only then is it copied, and once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence, Set
from typing import Any

import numpy as np

from streamgru.codes import Binary, Code, Reduction, Unary
from streamgru.errors import ModelError
from streamgru.layout import Kind, Layout

from ..graph.budget import Budget, root
from ..graph.graph import Array, Graph, Node, TensorType
from ..graph.operators import axis
from ..program.program import Operator, Program, Tensor, constant, packed
from ..program.views import View, merge, row_major, whole

_LOGIC = {Binary.AND, Binary.OR, Binary.XOR}
_UNARY_INTEGERS = {Unary.NEG, Unary.ABS}
_BINARY_INTEGERS = set(Binary) - _LOGIC - {Binary.POW, Binary.PRELU}
_REDUCE_INTEGERS = {Reduction.SUM, Reduction.MEAN, Reduction.MAX, Reduction.MIN, Reduction.PROD}
# operator -> dtype -> the functions that it has for it
ACCEPTED: dict[Code, dict[str, Set[int]]] = {
    Code.UNARY: {
        "float32": set(Unary) - {Unary.NOT, Unary.THRESHOLDED_RELU_EQ},
        "int64": _UNARY_INTEGERS,
        "int32": _UNARY_INTEGERS,
        "bool": {Unary.NOT},
    },
    Code.BINARY: {
        "float32": set(Binary) - _LOGIC,
        "int64": _BINARY_INTEGERS,
        "int32": _BINARY_INTEGERS,
        "bool": {Binary.EQUAL, *_LOGIC},
    },
    Code.REDUCE: {"float32": set(Reduction), "int64": _REDUCE_INTEGERS, "int32": _REDUCE_INTEGERS},
}
FLOAT_ONLY = {
    Code.AFFINE, Code.MATMUL, Code.SOFTMAX, Code.NORMALIZE, Code.CONV, Code.CONV_TRANSPOSE, Code.POOL,
}  # fmt: skip

LOOKED_AT = 8  # operations for each element of a constant that goes into the image


class Context:
    """The lowering of one graph."""

    def __init__(self, graph: Graph, budget: Budget | None = None) -> None:
        self.graph = graph
        self.budget = budget or Budget()
        self.program = Program()
        self.views: dict[str, View] = {}
        self.uses = graph.uses()
        self.node: Node | None = None  # the one being lowered
        self._parts: dict[Tensor, list[tuple[int, int, View]]] = {}
        self._pieces: dict[tuple[Tensor, int, tuple[int, ...]], Tensor] = {}
        self._copies: dict[View, View] = {}
        self._constants: dict[tuple[Any, ...], Tensor] = {}  # by what is in them
        self._met: dict[tuple[Any, ...], Tensor] = {}  # by where the graph's own lie, which last
        self._lasting = {id(root(value)) for value in graph.constants.values()}
        self._bytes = 0  # of these tensors

    # ---- what is known of a value ----

    def type(self, name: str) -> TensorType:
        """Its dtype and shape."""
        return self.graph.types[name]

    def const(self, name: str) -> Array | None:
        """Its array, where it is a constant."""
        return self.graph.constants.get(name) if name else None

    def need_const(self, node: Node, i: int, what: str) -> Array:
        """The constant at input `i`, which an image must know."""
        value = self.const(node.input(i))
        if value is None:
            raise ModelError(
                f"{node}: its {what} '{node.input(i)}' depends on an input; only a constant is supported: "
                "export the model with its weights in it (export_params=True)"
            )
        return value

    def need_consts(self, node: Node, *what: str) -> Mapping[str, Array]:
        """All constants, where inputs 1, 2 .. of the node, so called, are such ones or absent."""
        for i, name in enumerate(what, 1):
            if name and node.input(i):
                self.need_const(node, i, name)
        return self.graph.constants

    def axis(self, node: Node, rank: int) -> int:
        """The attribute `axis`, counted from the front."""
        return axis(node, rank, self.graph.opset)

    # ---- views and the tensors behind them ----

    def view(self, name: str) -> View:
        """The view of a value; a constant gets its tensor now."""
        if name not in self.views:
            value = self.const(name)
            if value is None:
                raise ModelError(f"'{name}' has not been computed")
            self.views[name] = whole(self.constant(name, value))
        return self.views[name]

    def constant(self, name: str, value: Array) -> Tensor:
        """A row-major constant of the image; equal ones are stored once."""
        return self._stored(constant, name, value)

    def packed(self, name: str, matrix: Array) -> Tensor:
        """A matrix [M, K] as the image keeps weights; equal ones are stored once."""
        return self._stored(packed, name, matrix)

    def _stored(self, form: Callable[[str, Array], Tensor], name: str, value: Array) -> Tensor:
        """One tensor for all equal arrays of one form. What the graph keeps is looked at once, however many nodes use
        it; the rest is paid for each time.

        Raises
        ------
        ModelError
            The constants of the image take more bytes or operations than a model may.
        """
        place = form, value.__array_interface__["data"][0], value.dtype, value.shape, value.strides
        if place in self._met:
            return self._met[place]
        who = f"constant '{name}'"
        self.budget.spend(who, LOOKED_AT * value.size)
        self.budget.claim(who, 0, self._bytes + 2 * value.nbytes)
        content = hashlib.blake2b(np.ascontiguousarray(value).data, digest_size=16).digest()
        key = form, value.dtype, value.shape, content
        if key not in self._constants:
            self._constants[key] = form(name, value)
            self._bytes += value.nbytes
        if id(root(value)) in self._lasting:
            self._met[place] = self._constants[key]
        return self._constants[key]

    def new(self, name: str, shape: Sequence[int], dtype: Any = np.float32) -> Tensor:
        """A tensor in the arena."""
        return Tensor(name, np.dtype(dtype), tuple(shape), Kind.ARENA)

    def output(self, node: Node, i: int = 0) -> Tensor:
        """A tensor for output `i`, bound to its name."""
        t = self.type(node.outputs[i])
        tensor = self.new(node.outputs[i], t.shape, t.dtype)
        self.views[node.outputs[i]] = whole(tensor)
        return tensor

    def piece(self, tensor: Tensor, offset: int, shape: Sequence[int]) -> Tensor:
        """The tensor record of `shape` that begins `offset` elements into `tensor`."""
        shape = tuple(shape)
        if offset == 0 and shape == tensor.shape:
            return tensor
        if tensor.kind == Kind.CONSTANT:
            assert tensor.data is not None
            n = int(np.prod(shape, dtype=np.int64))
            return self.constant(tensor.name, tensor.data.reshape(-1)[offset : offset + n].reshape(shape))
        key = (tensor, offset, shape)
        if key not in self._pieces:
            self._pieces[key] = Tensor(tensor.name, tensor.dtype, shape, tensor.kind, base=tensor, base_offset=offset)
        return self._pieces[key]

    def in_row(self, view: View) -> View:
        """The view itself where its elements lie in a row, else a copy of it."""
        if view.is_row_major and view.tensor.layout == Layout.ROWS:
            return view
        if view not in self._copies:
            self._copies[view] = self.copied(view)
        return self._copies[view]

    def copied(self, view: View) -> View:
        """A copy, made now."""
        tensor = self.new(view.tensor.name, view.shape, view.tensor.dtype)
        self.copy(view, whole(tensor), view.tensor.name)
        return whole(tensor)

    def forget(self, tensor: Tensor) -> None:
        """A state has been written: copies of what it was are no copies of what it is."""
        self._copies = {v: c for v, c in self._copies.items() if v.tensor is not tensor}

    def row(self, view: View, shape: Sequence[int] | None = None) -> Tensor:
        """A tensor with exactly the elements of the view in a row, shaped as `shape`."""
        view = self.in_row(view)
        return self.piece(view.tensor, view.offset, view.shape if shape is None else shape)

    def strided(self, view: View) -> tuple[Tensor, View]:
        """A tensor whose first element is the view's, and the view; for operators that take strides but no
        offset."""
        if any(s < 0 for s in view.strides):
            view = self.in_row(view)
        if view.offset == 0:
            return view.tensor, view
        start, end = view.span()
        return self.piece(view.tensor, start, (end - start,)), view

    def place(self, view: View) -> tuple[Tensor, int]:
        """Tensor and offset of the view's first element. Of a state only the part in view, so that operators
        which touch different parts of one state are seen to do so."""
        if view.tensor.kind != Kind.STATE:
            return view.tensor, view.offset
        start, end = view.span()
        return self.piece(view.tensor, start, (end - start,)), view.offset - start

    def remember_parts(self, tensor: Tensor, parts: Sequence[View], axis: int) -> None:
        """`tensor` is the concatenation of these; where they lie one after the other, a look at one is a look
        there."""
        if int(np.prod(tensor.shape[:axis])) != 1:
            return
        start, known = 0, []
        for part in parts:
            if part.tensor.kind == Kind.STATE:  # it may be written before the look
                return
            known.append((start, start + part.size, part))
            start += part.size
        self._parts[tensor] = known

    def shorten(self, view: View) -> View:
        """The same elements, looked at where they were before a concatenation."""
        first, end = view.span()
        for start, stop, part in self._parts.get(view.tensor, ()):
            if start <= first and end <= stop and part.is_row_major:
                offset = part.offset + view.offset - start
                return self.shorten(View(part.tensor, offset, view.shape, view.strides))
        return view

    # ---- operators ----

    def emit(
        self,
        code: Code,
        inputs: Sequence[Tensor | None],
        outputs: Sequence[Tensor | None],
        params: Sequence[int | float],
        name: str,
    ) -> Operator:
        """Appends an operator."""
        x = inputs[0] if inputs else None
        if code in FLOAT_ONLY and x is not None and x.dtype != np.float32:
            raise ModelError(f"{self.node}: {x.dtype} is not supported here; cast to float before it")
        operator = Operator(code, list(inputs), list(outputs), list(params), name, self.node)
        self.program.operators.append(operator)
        return operator

    def copy(self, src: View, dst: View, name: str) -> None:
        """COPY of one view onto another of the same shape."""
        dims, (src_steps, dst_steps) = merge(src.shape, [src.strides, dst.strides])
        (src_tensor, src_offset), (dst_tensor, dst_offset) = self.place(src), self.place(dst)
        params = [len(dims), src_offset, dst_offset, *dims, *src_steps, *dst_steps]
        self.emit(Code.COPY, [src_tensor], [dst_tensor], params, name)

    def check_dtype(self, node: Node, code: Code, function: int, dtype: Any) -> None:
        """The C core computes these and no others (docs/format.md)."""
        name = np.dtype(dtype).name
        if function not in ACCEPTED[code].get(name, ()):
            hint = "; cast to float before it" if code == Code.REDUCE else ""
            raise ModelError(f"{node}: {node.op_type} of {name} is not supported{hint}")

    def unary(self, node: Node, x: Tensor, y: Tensor, function: Unary, alpha: float = 0.0, beta: float = 0.0) -> None:
        """UNARY of tensors with the same number of elements."""
        self.check_dtype(node, Code.UNARY, function, x.dtype)
        self.emit(Code.UNARY, [x], [y], [function, float(alpha), float(beta)], node.name)

    def binary(self, node: Node, function: Binary, a: View, b: View, y: Tensor) -> None:
        """BINARY with broadcasting; `y` has the broadcast shape."""
        self.check_dtype(node, Code.BINARY, function, a.tensor.dtype)
        (a_tensor, a), (b_tensor, b) = self.strided(a.expand(y.shape)), self.strided(b.expand(y.shape))
        dims, (a_steps, b_steps, _) = merge(y.shape, [a.strides, b.strides, row_major(y.shape)])
        if not dims:
            dims, a_steps, b_steps = [1], [0], [0]
        self.emit(
            Code.BINARY,
            [a_tensor, b_tensor],
            [y],
            [function, len(dims), *dims, *a_steps, *b_steps],
            node.name,
        )
