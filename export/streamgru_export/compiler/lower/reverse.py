"""Lowers ReverseSequence: y[t, b] = x[L_b - 1 - t, b] where t < L_b, else x[t, b].

Where all are of full length it is a view with a negative stride. Otherwise x is taken for T · B rows, and one GATHER
picks them; of lengths that depend on an input the rows are computed, in int64.
"""

from __future__ import annotations

import numpy as np

from streamgru.codes import Binary, Code
from streamgru.errors import ModelError

from ..graph.budget import check_room
from ..graph.graph import Array, Node
from ..graph.operators import reversal
from ..program.views import View, merge, row_major, whole
from .context import Context

INT64 = np.dtype(np.int64)


def reverse_sequence(ctx: Context, node: Node) -> None:
    """ReverseSequence."""
    x, lens = ctx.view(node.inputs[0]), ctx.const(node.inputs[1])
    axes = reversal(node)
    steps, batch = (x.shape[a] for a in axes)
    if lens is not None and ((lens < 0) | (lens > steps)).any():
        raise ModelError(f"{node}: its sequence_lens {lens.tolist()} lie outside 0 .. {steps}")
    if lens is not None and (lens == steps).all():
        ctx.views[node.outputs[0]] = x.slice(axes[0], steps - 1, steps, -1)
        return
    check_room(node, [steps, batch], 8)
    order = [*axes, *range(2, len(x.shape))]
    x = x.transpose(order)
    if lens is not None:
        rows = whole(ctx.constant(f"{node.name}/rows", _rows(lens, steps)))
    else:
        rows = _computed_rows(ctx, node, steps, batch)
    y = ctx.new(node.outputs[0], x.shape, x.tensor.dtype)
    params = [1, steps * batch, x.size // (steps * batch), steps * batch]
    ctx.emit(Code.GATHER, [ctx.row(x), ctx.row(rows)], [y], params, node.name)
    ctx.views[node.outputs[0]] = whole(y).transpose([order.index(a) for a in range(len(order))])


def _rows(lens: Array, steps: int) -> Array:
    """[T, B]: which row of x each row of y is."""
    t = np.arange(steps)[:, None]
    return np.where(t < lens, lens - 1 - t, t) * len(lens) + np.arange(len(lens))


def _computed_rows(ctx: Context, node: Node, steps: int, batch: int) -> View:
    """The same while the model runs. Of a length outside of 0 .. T some row lies outside of x, which the core
    refuses."""
    shape = (steps, batch)

    def number(value: Array | int, what: str) -> View:
        return whole(ctx.constant(f"{node.name}/{what}", np.array(value, INT64)))

    def binary(function: Binary, a: View, b: View, dtype: type = np.int64) -> View:
        y = ctx.new(node.outputs[0], shape, dtype)
        ctx.binary(node, function, a, b, y)
        return whole(y)

    t = number(np.arange(steps)[:, None], "t")
    lens = binary(Binary.MIN, ctx.view(node.inputs[1]).expand(shape), number(steps + 1, "most"))
    lens = binary(Binary.MAX, lens, number(-1, "least"))
    from_end = binary(Binary.SUB, binary(Binary.SUB, lens, t), number(1, "one"))
    picked = _where(ctx, node, binary(Binary.GREATER, lens, t, np.bool_), from_end, t.expand(shape))
    below = binary(Binary.MUL, binary(Binary.MIN, lens, number(0, "zero")), number(2 * steps * batch, "beyond"))
    rows = binary(Binary.ADD, binary(Binary.MUL, picked, number(batch, "batch")), number(np.arange(batch), "entry"))
    return binary(Binary.ADD, rows, below)


def _where(ctx: Context, node: Node, condition: View, a: View, b: View) -> View:
    y = ctx.new(node.outputs[0], condition.shape, a.tensor.dtype)
    placed = [ctx.strided(view) for view in (condition, a, b)]
    dims, steps = merge(y.shape, [*(view.strides for _, view in placed), row_major(y.shape)])
    dims, steps = (dims, steps) if dims else ([1], [[0], [0], [0]])
    tensors = [tensor for tensor, _ in placed]
    ctx.emit(Code.WHERE, tensors, [y], [len(dims), *dims, *steps[0], *steps[1], *steps[2]], node.name)
    return whole(y)


LOWER = {"ReverseSequence": reverse_sequence}
