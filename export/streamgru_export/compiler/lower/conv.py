"""Lowers convolutions and pools; one-dimensional ones have height 1."""

from __future__ import annotations

from dataclasses import dataclass

from streamgru.errors import ModelError
from streamgru.layout import Code, Pooling, Unary

from ..graph.graph import Node
from ..program.views import View
from .context import Context
from .dense import affine


@dataclass
class Window:
    """How a kernel moves: two numbers each, height before width."""

    kernel: list[int]
    strides: list[int]
    dilations: list[int]
    begin: list[int]
    end: list[int]


def _window(node: Node, kernel: list[int], size: tuple[int, ...], out: tuple[int, ...], transposed: bool) -> Window:
    """The attributes with their defaults; auto_pad becomes pads."""
    n = len(kernel)
    if n not in (1, 2):
        raise ModelError(f"{node}: {n} spatial dimensions; 1 and 2 are supported")
    strides = list(node.attrs.get("strides", [1] * n))
    dilations = list(node.attrs.get("dilations", [1] * n))
    pads = list(node.attrs.get("pads", [0] * 2 * n))
    begin, end = pads[:n], pads[n:]
    auto = node.attrs.get("auto_pad", "NOTSET")
    if auto.startswith("SAME") or (transposed and "output_shape" in node.attrs):
        extra = node.attrs.get("output_padding", [0] * n)
        for i in range(n):
            reach = (kernel[i] - 1) * dilations[i] + 1
            if transposed:
                total = max(0, (size[i] - 1) * strides[i] + extra[i] + reach - out[i])
            else:
                total = max(0, (out[i] - 1) * strides[i] + reach - size[i])
            small = total // 2
            begin[i] = total - small if auto == "SAME_LOWER" else small
            end[i] = total - begin[i]
    elif auto not in ("NOTSET", "VALID"):
        raise ModelError(f"{node}: auto_pad '{auto}' is not known")
    return Window(*(_two(v, d) for v, d in ((kernel, 1), (strides, 1), (dilations, 1), (begin, 0), (end, 0))))


def _two(values: list[int], default: int) -> list[int]:
    return values if len(values) == 2 else [default, *values]


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
    window = _window(node, list(w[2:]), x.shape[2:], out[2:], code == Code.CONV_TRANSPOSE)
    if code == Code.CONV and _one_position(ctx, node, x, window):
        return
    kernel = ctx.row(ctx.view(node.inputs[1]), w if len(w) == 4 else (*w[:2], 1, w[2]))
    bias = ctx.row(ctx.view(node.inputs[2])) if node.input(2) else None
    params: list[int | float] = [*x.shape[:2], *_plane(x.shape), out[1], *_plane(out), node.attrs.get("group", 1)]
    params += [*window.kernel, *window.strides, *window.begin, *window.dilations, Unary.IDENTITY, 0.0, 0.0]
    ctx.emit(code, [ctx.row(x), kernel, bias], [ctx.output(node)], params, node.name)


def _one_position(ctx: Context, node: Node, x: View, window: Window) -> bool:
    """One output for each channel: a matrix product, which fills its vectors with the channels."""
    w, bias, out = ctx.const(node.inputs[1]), ctx.const(node.input(2)), ctx.type(node.outputs[0]).shape
    apart = any(d != 1 for d in out[2:]) or any((*window.begin, *window.end)) or node.attrs.get("group", 1) != 1
    if apart or w is None or (node.input(2) and bias is None):
        return False
    seen = x
    for axis, (count, step) in enumerate(
        zip(window.kernel[-len(out[2:]) :], window.dilations[-len(out[2:]) :], strict=True)
    ):
        seen = seen.slice(axis + 2, 0, count, step)
    affine(ctx, node, seen, w.reshape(len(w), -1), bias, ctx.output(node))
    return True


def pool(ctx: Context, node: Node) -> None:
    """MaxPool and AveragePool."""
    x, out = ctx.view(node.inputs[0]), ctx.type(node.outputs[0]).shape
    if any(node.outputs[1:]):
        raise ModelError(f"{node}: its output Indices is not supported")
    window = _window(node, list(node.attrs["kernel_shape"]), x.shape[2:], out[2:], False)
    pooling = Pooling.AVERAGE if node.op_type == "AveragePool" else Pooling.MAX
    include_pad = int(node.attrs.get("count_include_pad", 0))
    params = [pooling, *x.shape[:2], *_plane(x.shape), *_plane(out), *window.kernel, *window.strides,
              *window.begin, *window.dilations, include_pad, *window.end]  # fmt: skip
    ctx.emit(Code.POOL, [ctx.row(x)], [ctx.output(node)], params, node.name)


LOWER = {
    "Conv": conv,
    "ConvTranspose": conv_transpose,
    "MaxPool": pool,
    "AveragePool": pool,
}
