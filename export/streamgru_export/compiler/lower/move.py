"""Lowers what only moves data: nearly all of it becomes a view; the rest COPY, FILL and the gathers and
scatters."""

from __future__ import annotations

import numpy as np

from streamgru.codes import Code, Scatter
from streamgru.errors import ModelError

from ..graph.budget import check_room
from ..graph.graph import Array, Node
from ..graph.operators import gathered, integer, pad_value, pads, perm, slices, text
from ..program.program import Tensor, word
from ..program.views import View, whole
from .context import Context


def identity(ctx: Context, node: Node) -> None:
    """Identity: the same view."""
    ctx.views[node.outputs[0]] = ctx.view(node.inputs[0])


def reshape(ctx: Context, node: Node) -> None:
    """Reshape, Flatten, Squeeze, Unsqueeze: the same elements under another shape, which inference has
    found."""
    view, shape = ctx.view(node.inputs[0]), ctx.type(node.outputs[0]).shape
    again = view.reshape(shape)
    if again is None:
        again = ctx.in_row(view).reshape(shape)
        assert again is not None
    ctx.views[node.outputs[0]] = again


def transpose(ctx: Context, node: Node) -> None:
    """Transpose."""
    view = ctx.view(node.inputs[0])
    ctx.views[node.outputs[0]] = view.transpose(perm(node, len(view.shape)))


def expand(ctx: Context, node: Node) -> None:
    """Expand."""
    ctx.views[node.outputs[0]] = ctx.view(node.inputs[0]).expand(ctx.type(node.outputs[0]).shape)


def slice_(ctx: Context, node: Node) -> None:
    """Slice."""
    view = ctx.view(node.inputs[0])
    taken = slices(node, view.shape, ctx.need_consts(node, "starts", "ends", "axes", "steps"))
    assert taken is not None
    for axis, entries in taken.items():
        view = view.slice(axis, entries.start, len(entries), entries.step)
    ctx.views[node.outputs[0]] = ctx.shorten(view)


def split(ctx: Context, node: Node) -> None:
    """Split: a view for each output."""
    view = ctx.view(node.inputs[0])
    axis, start = ctx.axis(node, len(view.shape)), 0
    for o in node.outputs:
        if not o:
            raise ModelError(f"{node}: all outputs of a Split must be named")
        n = ctx.type(o).shape[axis]
        ctx.views[o] = ctx.shorten(view.slice(axis, start, n))
        start += n


def concat(ctx: Context, node: Node) -> None:
    """Concat: a COPY for each part."""
    parts = [i for i in node.inputs if ctx.type(i).size]
    if len(parts) == 1:
        ctx.views[node.outputs[0]] = ctx.view(parts[0])
        return
    y = whole(ctx.output(node))
    axis, start = ctx.axis(node, len(y.shape)), 0
    ctx.remember_parts(y.tensor, [ctx.view(p) for p in parts], axis)
    for part in parts:
        view = ctx.view(part)
        ctx.copy(view, y.slice(axis, start, view.shape[axis]), node.name)
        start += view.shape[axis]


def tile(ctx: Context, node: Node) -> None:
    """Tile: each dimension d becomes [repeats, d] with stride 0, then they are merged by a COPY."""
    view = ctx.view(node.inputs[0])
    repeats = [int(r) for r in ctx.need_const(node, 1, "repeats")]
    shape = tuple(n for r, d in zip(repeats, view.shape, strict=True) for n in (r, d))
    strides = tuple(n for s in view.strides for n in (0, s))
    y = ctx.output(node)
    ctx.copy(View(view.tensor, view.offset, shape, strides), whole(y, shape), node.name)


def gather(ctx: Context, node: Node) -> None:
    """Gather: with constant, evenly spaced indices a view, else GATHER."""
    view = ctx.view(node.inputs[0])
    axis = ctx.axis(node, len(view.shape))
    indices = ctx.const(node.inputs[1])
    if indices is not None:
        strided = _even(gathered(node, indices, view.shape[axis]))
        if strided is not None:
            start, steps = strided
            stride = view.strides[axis]
            picked = View(
                view.tensor,
                view.offset + start * stride,
                view.shape[:axis] + indices.shape + view.shape[axis + 1 :],
                view.strides[:axis] + tuple(s * stride for s in steps) + view.strides[axis + 1 :],
            )
            ctx.views[node.outputs[0]] = ctx.shorten(picked)
            return
    outer, inner = int(np.prod(view.shape[:axis])), int(np.prod(view.shape[axis + 1 :]))
    params = [outer, view.shape[axis], inner, ctx.type(node.inputs[1]).size]
    ctx.emit(Code.GATHER, [ctx.row(view), ctx.row(ctx.view(node.inputs[1]))], [ctx.output(node)], params, node.name)


def _even(indices: Array) -> tuple[int, list[int]] | None:
    """`(start, steps)` where `indices[i, j, ...] = start + i·steps[0] + j·steps[1] + ...`, else None."""
    first = int(indices.reshape(-1)[0])
    steps, want = [], np.full((), first)
    for axis, n in enumerate(indices.shape):
        at = [0] * indices.ndim
        at[axis] = 1
        step = int(indices[tuple(at)]) - first if n > 1 else 0
        steps.append(step)
        want = want[..., None] + np.arange(n) * step
    return (first, steps) if np.array_equal(want, indices) else None


def gather_elements(ctx: Context, node: Node) -> None:
    """GatherElements."""
    data, indices = ctx.view(node.inputs[0]), ctx.view(node.inputs[1])
    axis = ctx.axis(node, len(data.shape))
    ctx.emit(Code.GATHER_ELEMENTS, [ctx.row(data), ctx.row(indices)], [ctx.output(node)], [axis], node.name)


REDUCTIONS = {function.name.lower(): function for function in Scatter}


def _reduction(node: Node) -> int:
    """How an update meets what it is scattered onto."""
    name = text(node, "reduction") if node.op_type != "Scatter" else "none"
    if name not in REDUCTIONS:
        raise ModelError(f"{node}: reduction '{name}' is not supported")
    return REDUCTIONS[name]


def scatter_elements(ctx: Context, node: Node) -> None:
    """ScatterElements and its old name Scatter."""
    data, indices, updates = (ctx.row(ctx.view(i)) for i in node.inputs)
    axis = ctx.axis(node, len(data.shape))
    params = [axis, _reduction(node)]
    ctx.emit(Code.SCATTER_ELEMENTS, [data, indices, updates], [ctx.output(node)], params, node.name)


def scatter_nd(ctx: Context, node: Node) -> None:
    """ScatterND: with constant indices that name a box, two COPYs; else SCATTER_ND."""
    data, updates = ctx.view(node.inputs[0]), ctx.view(node.inputs[2])
    reduction = _reduction(node)
    indices = ctx.const(node.inputs[1])
    y = ctx.output(node)
    box = _box(whole(y), indices) if indices is not None and reduction == Scatter.NONE else None
    if box is None:
        ctx.emit(Code.SCATTER_ND, [ctx.row(data), ctx.row(ctx.view(node.inputs[1])), ctx.row(updates)], [y],
                 [reduction], node.name)  # fmt: skip
        return
    if box.size != data.size:
        ctx.copy(data, whole(y), node.name)
    ctx.copy(updates, box, node.name)


def _box(y: View, indices: Array) -> View | None:
    """The part of `y` that ScatterND writes, shaped as its updates; None where it is no strided box."""
    strides = np.array(y.strides[: indices.shape[-1]], np.int64)
    dims = np.array(y.shape[: indices.shape[-1]], np.int64)
    starts = (np.where(indices < 0, indices + dims, indices) * strides).sum(-1)
    even = _even(starts) if starts.size else None
    if even is None or len(np.unique(starts)) != starts.size:
        return None
    rest = indices.shape[-1]
    return View(y.tensor, even[0], starts.shape + y.shape[rest:], (*even[1], *y.strides[rest:]))


def pad(ctx: Context, node: Node) -> None:
    """Pad: constant by FILL and COPY; edge, reflect and wrap by gathering; negative pads by slicing."""
    view = ctx.view(node.inputs[0])
    mode, given = text(node, "mode"), pads(node, len(view.shape), ctx.need_consts(node, "pads", "", "axes"))
    assert given is not None
    for axis, (before, after) in enumerate(given):
        cut = max(0, -before)
        view = view.slice(axis, cut, view.shape[axis] - cut - max(0, -after))
    ends = [(max(0, before), max(0, after)) for before, after in given]
    if mode == "constant":
        _pad_constant(ctx, node, view, ends)
    else:
        _pad_gather(ctx, node, view, ends, mode)


def _pad_constant(ctx: Context, node: Node, view: View, ends: list[tuple[int, int]]) -> None:
    if not any(b or a for b, a in ends):
        ctx.views[node.outputs[0]] = view
        return
    y = ctx.output(node)
    value = pad_value(node, ctx.graph.constants)
    if value is None:
        given = ctx.view(node.inputs[2])
        ctx.copy(View(given.tensor, given.offset, (), ()).expand(y.shape), whole(y), node.name)
    else:
        fill(ctx, y, value, node.name)
    inside = whole(y)
    for axis, (before, _) in enumerate(ends):
        inside = inside.slice(axis, before, view.shape[axis])
    ctx.copy(view, inside, node.name)


def fill(ctx: Context, y: Tensor, value: float, name: str) -> None:
    """FILL with one number."""
    bits = np.array(value, y.dtype).tobytes().ljust(8, b"\0")
    low, high = (int.from_bytes(bits[i : i + 4], "little") for i in (0, 4))
    ctx.emit(Code.FILL, [], [y], [word(low), word(high)], name)


def _pad_gather(ctx: Context, node: Node, view: View, ends: list[tuple[int, int]], mode: str) -> None:
    numpy_mode = {"edge": "edge", "reflect": "reflect", "wrap": "wrap"}.get(mode)
    if numpy_mode is None:
        raise ModelError(f"{node}: mode '{mode}' is not supported")
    for axis, (before, after) in enumerate(ends):
        if not before and not after:
            continue
        check_room(node, [view.shape[axis] + before + after], 8)
        index = np.pad(np.arange(view.shape[axis]), (before, after), mode=numpy_mode)  # type: ignore[call-overload]
        tensor = ctx.constant(f"{node.name}/index", index.astype(np.int64))
        shape = (*view.shape[:axis], len(index), *view.shape[axis + 1 :])
        y = ctx.new(node.outputs[0], shape, view.tensor.dtype)
        outer, inner = int(np.prod(shape[:axis])), int(np.prod(shape[axis + 1 :]))
        ctx.emit(Code.GATHER, [ctx.row(view), tensor], [y], [outer, view.shape[axis], inner, len(index)], node.name)
        view = whole(y)
    ctx.views[node.outputs[0]] = view


def depth_to_space(ctx: Context, node: Node) -> None:
    """DepthToSpace: a Reshape, a Transpose and a Reshape."""
    n, c, h, w = ctx.type(node.inputs[0]).shape
    b = integer(node, "blocksize")
    view = ctx.in_row(ctx.view(node.inputs[0]))
    if text(node, "mode") == "DCR":
        split_, perm = (n, b, b, c // b**2, h, w), (0, 3, 4, 1, 5, 2)
    else:
        split_, perm = (n, c // b**2, b, b, h, w), (0, 1, 4, 2, 5, 3)
    _reshaped(ctx, node, view, split_, perm)


def space_to_depth(ctx: Context, node: Node) -> None:
    """SpaceToDepth: the other way round."""
    n, c, h, w = ctx.type(node.inputs[0]).shape
    b = integer(node, "blocksize")
    view = ctx.in_row(ctx.view(node.inputs[0]))
    _reshaped(ctx, node, view, (n, c, h // b, b, w // b, b), (0, 3, 5, 1, 2, 4))


def _reshaped(ctx: Context, node: Node, view: View, shape: tuple[int, ...], perm: tuple[int, ...]) -> None:
    parts = view.reshape(shape)
    assert parts is not None
    ctx.views[node.outputs[0]] = whole(ctx.row(parts.transpose(perm)), ctx.type(node.outputs[0]).shape)


LOWER = {
    "Identity": identity,
    "Reshape": reshape,
    "Flatten": reshape,
    "Squeeze": reshape,
    "Unsqueeze": reshape,
    "Transpose": transpose,
    "Expand": expand,
    "Slice": slice_,
    "Split": split,
    "Concat": concat,
    "Tile": tile,
    "Gather": gather,
    "GatherElements": gather_elements,
    "ScatterElements": scatter_elements,
    "Scatter": scatter_elements,
    "ScatterND": scatter_nd,
    "Pad": pad,
    "DepthToSpace": depth_to_space,
    "SpaceToDepth": space_to_depth,
}
# What reads nothing when it is lowered as a view: the reader is whoever takes the view.
VIEWS = {
    "Identity",
    "Reshape",
    "Flatten",
    "Squeeze",
    "Unsqueeze",
    "Transpose",
    "Expand",
    "Slice",
    "Split",
    "Gather",
}
