"""Lowers what runs along dimensions: reductions, Softmax, the normalisations, ArgMax, TopK, CumSum."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from streamgru.codes import Binary, Code, Extreme, Reduction, Unary

from ..graph.budget import check_room
from ..graph.graph import Node
from ..graph.operators import cumsum_axis, flag, integer, normalised_axes, number, reduction_axes, top_count
from ..program.program import Tensor
from ..program.views import View, whole
from .context import Context
from .elementwise import converted

REDUCE = {
    "ReduceSum": Reduction.SUM,
    "ReduceMean": Reduction.MEAN,
    "ReduceMax": Reduction.MAX,
    "ReduceMin": Reduction.MIN,
    "ReduceProd": Reduction.PROD,
    "ReduceL1": Reduction.L1,
    "ReduceL2": Reduction.L2,
    "ReduceSumSquare": Reduction.SQUARES,
    "ReduceLogSumExp": Reduction.LOG_SUM_EXP,
}
OF_ELEMENTS = {"ReduceL1", "ReduceL2", "ReduceSumSquare"}  # they compute even where they have nothing to reduce


def reduce(ctx: Context, node: Node) -> None:
    """Reduce* over any axes: they are brought together, then REDUCE."""
    view = ctx.view(node.inputs[0])
    axes = reduction_axes(node, len(view.shape), ctx.graph.opset, ctx.need_consts(node, "axes"))
    assert axes is not None
    if not axes and view.shape and node.op_type not in OF_ELEMENTS:
        ctx.views[node.outputs[0]] = view
        return
    if view.tensor.dtype == np.bool_ and node.op_type in ("ReduceMax", "ReduceMin"):
        view = converted(ctx, node, view, np.int32)
    _reduce(ctx, node, view, axes, REDUCE[node.op_type])


def log_sum(ctx: Context, node: Node) -> None:
    """ReduceLogSum: the log of ReduceSum."""
    node.op_type = "ReduceSum"
    reduce(ctx, node)
    total = ctx.row(ctx.view(node.outputs[0]))
    ctx.unary(node, total, ctx.output(node), Unary.LOG)


def global_pool(ctx: Context, node: Node) -> None:
    """GlobalAveragePool, GlobalMaxPool: over all axes after the channel."""
    view = ctx.view(node.inputs[0])
    function = Reduction.MEAN if node.op_type == "GlobalAveragePool" else Reduction.MAX
    _reduce(ctx, node, view, list(range(2, len(view.shape))), function)


def _reduce(ctx: Context, node: Node, view: View, axes: Sequence[int], function: Reduction) -> None:
    """REDUCE over `axes`; where they do not lie side by side the view is copied with them last."""
    rank = len(view.shape)
    first, last = min(axes, default=0), max(axes, default=0)
    between = range(first, last + 1) if axes else ()
    adjacent = all(a in axes or view.shape[a] == 1 for a in between) and view.is_row_major
    if adjacent and axes:
        outer, n, inner = (_product(view.shape[a:b]) for a, b in ((0, first), (first, last + 1), (last + 1, rank)))
    else:
        kept = [a for a in range(rank) if a not in axes]
        view = view.transpose([*kept, *axes])
        outer, n, inner = _product(view.shape[: len(kept)]), _product(view.shape[len(kept) :]), 1
    ctx.check_dtype(node, Code.REDUCE, function, view.tensor.dtype)
    x, y = ctx.row(view, (outer, n, inner)), ctx.output(node)
    done = y if y.dtype == x.dtype else ctx.new(y.name, y.shape, x.dtype)
    ctx.emit(Code.REDUCE, [x], [done], [function, outer, n, inner], node.name)
    if done is not y:
        ctx.emit(Code.CAST, [done], [y], [], node.name)


def _product(dims: Sequence[int]) -> int:
    return int(np.prod(dims, dtype=np.int64))


def _parts(shape: Sequence[int], axes: range) -> tuple[Sequence[int], Sequence[int], Sequence[int]]:
    """The dimensions before these axes, of them and behind them."""
    return shape[: axes.start], shape[axes.start : axes.stop], shape[axes.stop :]


def _around(shape: Sequence[int], axis: int) -> tuple[int, int, int]:
    return _product(shape[:axis]), shape[axis], _product(shape[axis + 1 :])


def softmax(ctx: Context, node: Node) -> None:
    """Softmax, LogSoftmax; before operator set 13 over all dimensions from `axis` on."""
    view = ctx.view(node.inputs[0])
    axes = normalised_axes(node, len(view.shape), ctx.graph.opset)
    outer, n, inner = (_product(part) for part in _parts(view.shape, axes))
    log = int(node.op_type == "LogSoftmax")
    ctx.emit(Code.SOFTMAX, [ctx.row(view)], [ctx.output(node)], [outer, n, inner, log], node.name)


def layer_normalization(ctx: Context, node: Node) -> None:
    """LayerNormalization over the dimensions from `axis` on."""
    view = ctx.view(node.inputs[0])
    axis = ctx.axis(node, len(view.shape))
    n = _product(view.shape[axis:])
    scale, shift = (_vector(ctx, node, i, view.shape[axis:]) for i in (1, 2))
    _normalize(ctx, node, ctx.row(view), n, scale, shift, ctx.output(node))
    if any(ctx.uses[o] for o in node.outputs[1:] if o):
        _statistics(ctx, node, ctx.row(view), n)


def _statistics(ctx: Context, node: Node, x: Tensor, n: int) -> None:
    """The other outputs of LayerNormalization: Mean, and InvStdDev = 1 / sqrt(mean((x - Mean)^2) + epsilon)."""
    outer = x.size // n

    def reduced(x: Tensor, function: Reduction, y: Tensor) -> Tensor:
        ctx.emit(Code.REDUCE, [x], [y], [function, outer, n, 1], node.name)
        return y

    named = [i < len(node.outputs) and node.outputs[i] != "" for i in (1, 2)]
    mean = reduced(x, Reduction.MEAN, ctx.output(node, 1) if named[0] else ctx.new(node.name, (outer,)))
    if not named[1]:
        return
    away, y = ctx.new(node.name, (outer, n)), ctx.output(node, 2)
    ctx.binary(node, Binary.SUB, whole(x, (outer, n)), whole(mean, (outer, 1)), away)
    square, shifted, root = (ctx.new(node.name, y.shape) for _ in range(3))
    reduced(away, Reduction.SQUARES, square)
    ctx.unary(node, square, shifted, Unary.AFFINE, 1 / n, number(node, "epsilon"))
    ctx.unary(node, shifted, root, Unary.SQRT)
    ctx.unary(node, root, y, Unary.RECIPROCAL)


def _vector(ctx: Context, node: Node, i: int, shape: Sequence[int]) -> Tensor | None:
    if not node.input(i):
        return None
    value = ctx.const(node.input(i))
    if value is not None:
        check_room(node, shape, 4)
        return ctx.constant(node.input(i), np.ascontiguousarray(np.broadcast_to(value, shape)).reshape(-1))
    return ctx.row(ctx.view(node.input(i)).expand(shape))


def _normalize(
    ctx: Context, node: Node, x: Tensor, n: int, scale: Tensor | None, shift: Tensor | None, y: Tensor
) -> None:
    epsilon = number(node, "epsilon")
    ctx.emit(Code.NORMALIZE, [x, scale, shift], [y], [x.size // n, n, epsilon], node.name)


def instance_normalization(ctx: Context, node: Node) -> None:
    """InstanceNormalization: NORMALIZE over each channel, then its own scale and shift."""
    view = ctx.view(node.inputs[0])
    normal = ctx.new(node.outputs[0], view.shape)
    _normalize(ctx, node, ctx.row(view), _product(view.shape[2:]), None, None, normal)
    _per_channel(ctx, node, whole(normal))


def group_normalization(ctx: Context, node: Node) -> None:
    """GroupNormalization: NORMALIZE over each group of channels, then scale and shift by channel (or
    group)."""
    view = ctx.view(node.inputs[0])
    groups, channels = integer(node, "num_groups"), view.shape[1]
    normal = ctx.new(node.outputs[0], view.shape)
    _normalize(ctx, node, ctx.row(view), channels // groups * _product(view.shape[2:]), None, None, normal)
    _per_channel(ctx, node, whole(normal))


def _per_channel(ctx: Context, node: Node, view: View) -> None:
    """view · scale[c] + shift[c]; a scale for each group is repeated for its channels."""
    channels, tail = view.shape[1], [1] * (len(view.shape) - 2)
    parts = []
    for i in (1, 2):
        if ctx.type(node.inputs[i]).size == channels and ctx.const(node.inputs[i]) is None:
            parts.append(whole(ctx.row(ctx.view(node.inputs[i])), (channels, *tail)))
            continue
        value = ctx.need_const(node, i, "scale" if i == 1 else "bias").reshape(-1)
        value = np.repeat(value, channels // value.size)
        parts.append(whole(ctx.constant(f"{node.name}/{i}", value.reshape(-1, *tail))))
    scaled = ctx.new(node.outputs[0], view.shape)
    ctx.binary(node, Binary.MUL, view, parts[0], scaled)
    ctx.binary(node, Binary.ADD, whole(scaled), parts[1], ctx.output(node))


def arg(ctx: Context, node: Node) -> None:
    """ArgMax, ArgMin."""
    view = ctx.view(node.inputs[0])
    around = _around(view.shape, ctx.axis(node, len(view.shape)))
    extreme = Extreme.MIN if node.op_type == "ArgMin" else Extreme.MAX
    params = [extreme, *around, int(flag(node, "select_last_index"))]
    ctx.emit(Code.ARG, [ctx.row(view)], [ctx.output(node)], params, node.name)


def top_k(ctx: Context, node: Node) -> None:
    """TopK with a constant k."""
    view = ctx.view(node.inputs[0])
    k = top_count(node, ctx.need_consts(node, "k"))
    assert k is not None
    around = _around(view.shape, ctx.axis(node, len(view.shape)))
    shape = ctx.type(next(o for o in node.outputs if o)).shape
    outs = []
    for i, dtype in ((0, view.tensor.dtype), (1, np.dtype(np.int64))):
        outs.append(ctx.output(node, i) if node.output(i) else ctx.new(node.name, shape, dtype))
    flags = [int(flag(node, "largest")), int(flag(node, "sorted"))]
    ctx.emit(Code.TOPK, [ctx.row(view)], outs, [*around, k, *flags], node.name)


def cumsum(ctx: Context, node: Node) -> None:
    """CumSum along a constant axis."""
    view = ctx.view(node.inputs[0])
    axis = cumsum_axis(node, len(view.shape), ctx.need_consts(node, "axis"))
    assert axis is not None
    flags = [int(flag(node, "exclusive")), int(flag(node, "reverse"))]
    params = [*_around(view.shape, axis), *flags]
    ctx.emit(Code.CUMSUM, [ctx.row(view)], [ctx.output(node)], params, node.name)


LOWER = {
    **dict.fromkeys(REDUCE, reduce),
    "ReduceLogSum": log_sum,
    "GlobalAveragePool": global_pool,
    "GlobalMaxPool": global_pool,
    "Softmax": softmax,
    "LogSoftmax": softmax,
    "LayerNormalization": layer_normalization,
    "InstanceNormalization": instance_normalization,
    "GroupNormalization": group_normalization,
    "ArgMax": arg,
    "ArgMin": arg,
    "TopK": top_k,
    "CumSum": cumsum,
}
