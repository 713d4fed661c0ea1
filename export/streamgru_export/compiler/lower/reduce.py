"""Lowers what runs along dimensions: reductions, Softmax, the normalisations, ArgMax, TopK, CumSum."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from streamgru.errors import ModelError

from ..graph.graph import Node
from ..program.program import Code, Tensor
from ..program.views import View, whole
from .context import Context, checked_axis
from .elementwise import ADD, AFFINE, MUL, SUB, converted

REDUCE = {
    "ReduceSum": 0, "ReduceMean": 1, "ReduceMax": 2, "ReduceMin": 3, "ReduceProd": 4, "ReduceL1": 5,
    "ReduceL2": 6, "ReduceSumSquare": 7, "ReduceLogSumExp": 8,
}  # fmt: skip
OF_ELEMENTS = {"ReduceL1", "ReduceL2", "ReduceSumSquare"}  # they compute even where they have nothing to reduce
MEAN, MAX, SQUARES = 1, 2, 7
LOG, SQRT, RECIPROCAL = 14, 15, 16


def reduce(ctx: Context, node: Node) -> None:
    """Reduce* over any axes: they are brought together, then REDUCE."""
    view = ctx.view(node.inputs[0])
    axes = ctx.ints(node, "axes", 1)
    if not axes:
        if node.attrs.get("noop_with_empty_axes", 0):
            if node.op_type in OF_ELEMENTS:
                _reduce(ctx, node, view, [], REDUCE[node.op_type])
            else:
                ctx.views[node.outputs[0]] = view
            return
        axes = list(range(len(view.shape)))
    if view.tensor.dtype == np.bool_ and node.op_type in ("ReduceMax", "ReduceMin"):
        view = converted(ctx, node, view, np.int32)
    axes = [checked_axis(node, a, len(view.shape)) for a in axes]
    if len(set(axes)) != len(axes):
        raise ModelError(f"{node}: an axis stands twice among its axes {axes}")
    _reduce(ctx, node, view, axes, REDUCE[node.op_type])


def log_sum(ctx: Context, node: Node) -> None:
    """ReduceLogSum: the log of ReduceSum."""
    node.op_type = "ReduceSum"
    reduce(ctx, node)
    total = ctx.row(ctx.view(node.outputs[0]))
    ctx.unary(node, total, ctx.output(node), LOG)


def global_pool(ctx: Context, node: Node) -> None:
    """GlobalAveragePool, GlobalMaxPool: over all axes after the channel."""
    view = ctx.view(node.inputs[0])
    function = MEAN if node.op_type == "GlobalAveragePool" else MAX
    _reduce(ctx, node, view, list(range(2, len(view.shape))), function)


def _reduce(ctx: Context, node: Node, view: View, axes: Sequence[int], function: int) -> None:
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


def _around(shape: Sequence[int], axis: int) -> tuple[int, int, int]:
    return _product(shape[:axis]), shape[axis], _product(shape[axis + 1 :])


def softmax(ctx: Context, node: Node) -> None:
    """Softmax, LogSoftmax; before operator set 13 over all dimensions from `axis` on."""
    view = ctx.view(node.inputs[0])
    old = ctx.graph.opset < 13
    axis = ctx.axis(node, 1 if old else -1, len(view.shape))
    outer, n, inner = _around(view.shape, axis)
    if old:
        n, inner = n * inner, 1
    log = int(node.op_type == "LogSoftmax")
    ctx.emit(Code.SOFTMAX, [ctx.row(view)], [ctx.output(node)], [outer, n, inner, log], node.name)


def layer_normalization(ctx: Context, node: Node) -> None:
    """LayerNormalization over the dimensions from `axis` on."""
    view = ctx.view(node.inputs[0])
    axis = ctx.axis(node, -1, len(view.shape))
    n = _product(view.shape[axis:])
    scale, shift = (_vector(ctx, node, i, view.shape[axis:]) for i in (1, 2))
    _normalize(ctx, node, ctx.row(view), n, scale, shift, ctx.output(node))
    if any(ctx.uses[o] for o in node.outputs[1:] if o):
        _statistics(ctx, node, ctx.row(view), n)


def _statistics(ctx: Context, node: Node, x: Tensor, n: int) -> None:
    """The other outputs of LayerNormalization: Mean, and InvStdDev = 1 / sqrt(mean((x - Mean)^2) + epsilon)."""
    outer = x.size // n

    def reduced(x: Tensor, function: int, y: Tensor) -> Tensor:
        ctx.emit(Code.REDUCE, [x], [y], [function, outer, n, 1], node.name)
        return y

    named = [i < len(node.outputs) and node.outputs[i] != "" for i in (1, 2)]
    mean = reduced(x, MEAN, ctx.output(node, 1) if named[0] else ctx.new(node.name, (outer,)))
    if not named[1]:
        return
    away, y = ctx.new(node.name, (outer, n)), ctx.output(node, 2)
    ctx.binary(node, SUB, whole(x, (outer, n)), whole(mean, (outer, 1)), away)
    square, shifted, root = (ctx.new(node.name, y.shape) for _ in range(3))
    reduced(away, SQUARES, square)
    ctx.unary(node, square, shifted, AFFINE, 1 / n, float(node.attrs.get("epsilon", 1e-5)))
    ctx.unary(node, shifted, root, SQRT)
    ctx.unary(node, root, y, RECIPROCAL)


def _vector(ctx: Context, node: Node, i: int, shape: Sequence[int]) -> Tensor | None:
    if not node.input(i):
        return None
    value = ctx.const(node.input(i))
    if value is not None:
        return ctx.constant(node.input(i), np.ascontiguousarray(np.broadcast_to(value, shape)).reshape(-1))
    return ctx.row(ctx.view(node.input(i)).expand(shape))


def _normalize(
    ctx: Context, node: Node, x: Tensor, n: int, scale: Tensor | None, shift: Tensor | None, y: Tensor
) -> None:
    epsilon = float(node.attrs.get("epsilon", 1e-5))
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
    groups, channels = int(node.attrs["num_groups"]), view.shape[1]
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
    ctx.binary(node, MUL, view, parts[0], scaled)
    ctx.binary(node, ADD, whole(scaled), parts[1], ctx.output(node))


def arg(ctx: Context, node: Node) -> None:
    """ArgMax, ArgMin."""
    view = ctx.view(node.inputs[0])
    around = _around(view.shape, ctx.axis(node, 0, len(view.shape)))
    params = [int(node.op_type == "ArgMin"), *around, int(node.attrs.get("select_last_index", 0))]
    ctx.emit(Code.ARG, [ctx.row(view)], [ctx.output(node)], params, node.name)


def top_k(ctx: Context, node: Node) -> None:
    """TopK with a constant k."""
    view = ctx.view(node.inputs[0])
    k = int(node.attrs["k"]) if "k" in node.attrs else int(ctx.need_const(node, 1, "k").reshape(-1)[0])
    around = _around(view.shape, ctx.axis(node, -1, len(view.shape)))
    shape = ctx.type(next(o for o in node.outputs if o)).shape
    outs = []
    for i, dtype in ((0, view.tensor.dtype), (1, np.dtype(np.int64))):
        outs.append(ctx.output(node, i) if node.output(i) else ctx.new(node.name, shape, dtype))
    flags = [int(node.attrs.get("largest", 1)), int(node.attrs.get("sorted", 1))]
    ctx.emit(Code.TOPK, [ctx.row(view)], outs, [*around, k, *flags], node.name)


def cumsum(ctx: Context, node: Node) -> None:
    """CumSum along a constant axis."""
    view = ctx.view(node.inputs[0])
    axis = checked_axis(node, int(ctx.need_const(node, 1, "axis").reshape(-1)[0]), len(view.shape))
    flags = [int(node.attrs.get("exclusive", 0)), int(node.attrs.get("reverse", 0))]
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
