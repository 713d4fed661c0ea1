"""Lowers convolutions and pools; one-dimensional ones have height 1."""

from __future__ import annotations

from streamgru.codes import Code, Pooling, Unary
from streamgru.errors import ModelError

from ..graph.graph import Node
from ..graph.operators import flag
from ..graph.windows import Window, window
from ..program.views import View
from .context import Context
from .dense import affine


def _window(ctx: Context, node: Node) -> tuple[Window, list[list[int]]]:
    """How the kernel moves; and its size, strides, begins, dilations and ends, each as height and width."""
    moves = window(node, ctx.graph.types)
    n = len(moves.kernel)
    if n not in (1, 2):
        raise ModelError(f"{node}: {n} spatial dimensions; 1 and 2 are supported")
    numbers = ((moves.kernel, 1), (moves.strides, 1), (moves.begins, 0), (moves.dilations, 1), (moves.ends, 0))
    return moves, [list(v) if n == 2 else [default, *v] for v, default in numbers]


def _plane(shape: tuple[int, ...]) -> list[int]:
    """Height and width."""
    return [1, shape[2]] if len(shape) == 3 else list(shape[2:])


def conv(ctx: Context, node: Node) -> None:
    """Conv: kernels [M, C/g, kh, kw]."""
    _convolution(ctx, node, Code.CONV)


def conv_transpose(ctx: Context, node: Node) -> None:
    """ConvTranspose: kernels [C, M/g, kh, kw]."""
    _convolution(ctx, node, Code.CONV_TRANSPOSE)


def _convolution(ctx: Context, node: Node, code: Code) -> None:
    x, w, out = ctx.view(node.inputs[0]), ctx.type(node.inputs[1]).shape, ctx.type(node.outputs[0]).shape
    moves, (size, strides, begins, dilations, _) = _window(ctx, node)
    if code == Code.CONV and _one_position(ctx, node, x, moves):
        return
    kernel = ctx.row(ctx.view(node.inputs[1]), w if len(w) == 4 else (*w[:2], 1, w[2]))
    bias = ctx.row(ctx.view(node.inputs[2])) if node.input(2) else None
    params: list[int | float] = [*x.shape[:2], *_plane(x.shape), out[1], *_plane(out), moves.group]
    params += [*size, *strides, *begins, *dilations, Unary.IDENTITY, 0.0, 0.0]
    ctx.emit(code, [ctx.row(x), kernel, bias], [ctx.output(node)], params, node.name)


def _one_position(ctx: Context, node: Node, x: View, moves: Window) -> bool:
    """One output for each channel: a matrix product, which fills its vectors with the channels."""
    w, bias, out = ctx.const(node.inputs[1]), ctx.const(node.input(2)), ctx.type(node.outputs[0]).shape
    apart = any(d != 1 for d in out[2:]) or any((*moves.begins, *moves.ends)) or moves.group != 1
    if apart or w is None or (node.input(2) and bias is None):
        return False
    seen = x
    for axis, (count, step) in enumerate(zip(moves.kernel, moves.dilations, strict=True), 2):
        seen = seen.slice(axis, 0, count, step)
    affine(ctx, node, seen, w.reshape(len(w), -1), bias, ctx.output(node))
    return True


def pool(ctx: Context, node: Node) -> None:
    """MaxPool and AveragePool."""
    x, out = ctx.view(node.inputs[0]), ctx.type(node.outputs[0]).shape
    if any(node.outputs[1:]):
        raise ModelError(f"{node}: its output Indices is not supported")
    _, (size, strides, begins, dilations, ends) = _window(ctx, node)
    pooling = Pooling.AVERAGE if node.op_type == "AveragePool" else Pooling.MAX
    include_pad = int(pooling == Pooling.AVERAGE and flag(node, "count_include_pad"))
    params = [pooling, *x.shape[:2], *_plane(x.shape), *_plane(out), *size, *strides, *begins, *dilations,
              include_pad, *ends]  # fmt: skip
    ctx.emit(Code.POOL, [ctx.row(x)], [ctx.output(node)], params, node.name)


LOWER = {
    "Conv": conv,
    "ConvTranspose": conv_transpose,
    "MaxPool": pool,
    "AveragePool": pool,
}
