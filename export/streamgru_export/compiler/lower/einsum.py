"""Lowers Einsum: transposes, sums and one product for each further operand."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from streamgru.codes import Binary, Code, Reduction

from ..graph.graph import Array, Node
from ..graph.operators import equation
from ..program.views import View, whole
from .context import Context
from .dense import affine, product


def einsum(ctx: Context, node: Node) -> None:
    """Einsum of any number of operands, taken together from left to right."""
    views = [ctx.view(name) for name in node.inputs]
    terms, out = equation(node, [len(v.shape) for v in views])
    view, term = _summed(ctx, node, views[0], terms[0], "".join(terms[1:]) + out)
    for i in range(1, len(terms)):
        later = "".join(terms[i + 1 :]) + out
        other, letters = _summed(ctx, node, views[i], terms[i], term + later)
        view, term = _summed(ctx, node, view, term, letters + later)
        constant = ctx.const(node.inputs[i]) if letters == terms[i] else None
        view, term = _pair(ctx, node, (view, term), (other, letters), later, constant)
    ctx.views[node.outputs[0]] = view.transpose([term.index(c) for c in out])


def _summed(ctx: Context, node: Node, view: View, term: str, wanted: str) -> tuple[View, str]:
    """The view with what nobody wants summed up."""
    kept = [i for i, c in enumerate(term) if c in wanted]
    gone = [i for i, c in enumerate(term) if c not in wanted]
    if not gone:
        return view, term
    shape = [view.shape[i] for i in kept]
    n = _product(view.shape[i] for i in gone)
    y = ctx.new(node.outputs[0], shape, view.tensor.dtype)
    ctx.check_dtype(node, Code.REDUCE, Reduction.SUM, y.dtype)
    ctx.emit(Code.REDUCE, [ctx.row(view.transpose([*kept, *gone]))], [y], [Reduction.SUM, y.size, n, 1], node.name)
    return whole(y), "".join(term[i] for i in kept)


def _product(dims: Iterable[int]) -> int:
    return int(np.prod(list(dims), dtype=np.int64))


def _pair(
    ctx: Context, node: Node, left: tuple[View, str], right: tuple[View, str], wanted: str, w: Array | None
) -> tuple[View, str]:
    """The product of two operands: what both have and nobody wants is summed over. `w`: the second, if constant."""
    (a, a_term), (b, b_term) = left, right
    sizes = dict(zip(a_term, a.shape, strict=True))
    for c, d in zip(b_term, b.shape, strict=True):
        sizes[c] = d if sizes.get(c, 1) == 1 else sizes[c]
    both = [c for c in a_term if c in b_term]
    batch, summed = "".join(c for c in both if c in wanted), "".join(c for c in both if c not in wanted)
    rows, columns = "".join(c for c in a_term if c not in both), "".join(c for c in b_term if c not in both)

    def laid(view: View, term: str, order: str) -> View:
        """Axes in this order, those of size 1 broadcast."""
        return view.transpose([term.index(c) for c in order]).expand([sizes[c] for c in order])

    def size(letters: str) -> int:
        return _product([sizes[c] for c in letters])

    term = batch + rows + columns
    if not summed:
        y = ctx.new(node.outputs[0], [sizes[c] for c in term], a.tensor.dtype)
        a, b = laid(a, a_term, batch + rows), laid(b, b_term, batch + columns)
        inside = View(a.tensor, a.offset, (*a.shape, *[1] * len(columns)), (*a.strides, *[0] * len(columns)))
        middle = len(batch)
        outside = View(b.tensor, b.offset, (*b.shape[:middle], *[1] * len(rows), *b.shape[middle:]),
                       (*b.strides[:middle], *[0] * len(rows), *b.strides[middle:]))  # fmt: skip
        ctx.binary(node, Binary.MUL, inside, outside, y)
        return whole(y), term
    leads, m, k, n = [sizes[c] for c in batch], size(rows), size(summed), size(columns)
    y = ctx.new(node.outputs[0], [*leads, m, n])
    if w is not None and not batch and w.dtype == np.float32 and w.shape == tuple(sizes[c] for c in b_term):
        w = w.transpose([b_term.index(c) for c in columns + summed]).reshape(n, k)
        affine(ctx, node, _grouped(ctx, laid(a, a_term, rows + summed), (m, k)), w, None, y)
    else:
        product(ctx, node, _grouped(ctx, laid(a, a_term, batch + rows + summed), (*leads, m, k)),
                _grouped(ctx, laid(b, b_term, batch + summed + columns), (*leads, k, n)), y)  # fmt: skip
    return whole(y, [sizes[c] for c in term]), term


def _grouped(ctx: Context, view: View, shape: Sequence[int]) -> View:
    """The view in that shape; a copy where strides cannot say it."""
    return view.reshape(shape) or whole(ctx.row(view, shape))


LOWER = {"Einsum": einsum}
