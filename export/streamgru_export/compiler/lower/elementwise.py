"""Lowers operators of one element at a time: UNARY, BINARY, WHERE, CAST, and what is made of them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from streamgru.codes import Binary, Code, Unary
from streamgru.errors import ModelError

from ..graph.budget import check_room
from ..graph.graph import Node
from ..graph.operators import clip_bounds, flag, is_training, number, text
from ..program.program import Tensor
from ..program.views import View, merge, row_major, whole
from .context import Context

# ONNX operator -> (function, the attributes that are its parameters)
UNARY: dict[str, tuple[Unary, tuple[str, ...]]] = {
    "Sigmoid": (Unary.SIGMOID, ()),
    "Tanh": (Unary.TANH, ()),
    "Relu": (Unary.RELU, ()),
    "LeakyRelu": (Unary.LEAKY_RELU, ("alpha",)),
    "Elu": (Unary.ELU, ("alpha",)),
    "HardSigmoid": (Unary.HARD_SIGMOID, ("alpha", "beta")),
    "Softsign": (Unary.SOFTSIGN, ()),
    "Softplus": (Unary.SOFTPLUS, ()),
    "ThresholdedRelu": (Unary.THRESHOLDED_RELU, ("alpha",)),
    "Exp": (Unary.EXP, ()),
    "Log": (Unary.LOG, ()),
    "Sqrt": (Unary.SQRT, ()),
    "Reciprocal": (Unary.RECIPROCAL, ()),
    "Neg": (Unary.NEG, ()),
    "Abs": (Unary.ABS, ()),
    "Floor": (Unary.FLOOR, ()),
    "Ceil": (Unary.CEIL, ()),
    "Sign": (Unary.SIGN, ()),
    "Erf": (Unary.ERF, ()),
    "Selu": (Unary.SELU, ("alpha", "gamma")),
    "HardSwish": (Unary.HARD_SWISH, ()),
    "Round": (Unary.ROUND, ()),
    "Celu": (Unary.CELU, ("alpha",)),
    "Not": (Unary.NOT, ()),
    "Mish": (Unary.MISH, ()),
    "Sin": (Unary.SIN, ()),
    "Cos": (Unary.COS, ()),
}
BOUNDS: dict[str, tuple[int, int | None]] = {"Relu": (0, None), "Sign": (-1, 1)}  # of integers
BINARY = {
    "Add": Binary.ADD,
    "Sub": Binary.SUB,
    "Mul": Binary.MUL,
    "Div": Binary.DIV,
    "Pow": Binary.POW,
    "Min": Binary.MIN,
    "Max": Binary.MAX,
    "PRelu": Binary.PRELU,
    "Mod": Binary.MOD,
    "Equal": Binary.EQUAL,
    "Less": Binary.LESS,
    "LessOrEqual": Binary.LESS_OR_EQUAL,
    "Greater": Binary.GREATER,
    "GreaterOrEqual": Binary.GREATER_OR_EQUAL,
    "And": Binary.AND,
    "Or": Binary.OR,
    "Xor": Binary.XOR,
}


def unary(ctx: Context, node: Node) -> None:
    """One function of one element; of integers Relu and Sign are bounds."""
    dtype = ctx.type(node.inputs[0]).dtype
    if dtype.kind == "i" and node.op_type in BOUNDS:
        low, high = BOUNDS[node.op_type]
        a, bounds = ctx.view(node.inputs[0]), [(Binary.MAX, low), (Binary.MIN, high)][: 1 if high is None else 2]
        for nearer, bound in bounds:
            b, last = ctx.constant(f"{node.name}/bound", np.array(bound, dtype)), (nearer, bound) == bounds[-1]
            y = ctx.output(node) if last else ctx.new(node.outputs[0], a.shape, dtype)
            ctx.binary(node, nearer, a, whole(b), y)
            a = whole(y)
        return
    function, params = UNARY[node.op_type]
    numbers = [number(node, name) for name in params]
    _unary(ctx, node, function, *numbers)


def _unary(ctx: Context, node: Node, function: Unary, alpha: float = 0.0, beta: float = 0.0) -> None:
    x = ctx.row(ctx.view(node.inputs[0]))
    ctx.unary(node, x, ctx.output(node), function, alpha, beta)


def binary(ctx: Context, node: Node) -> None:
    """Two operands with broadcasting; more than two are taken in turn."""
    function = BINARY[node.op_type]
    if node.op_type == "Mod" and flag(node, "fmod"):
        function = Binary.FMOD
    _chain(ctx, node, function)


def _chain(ctx: Context, node: Node, function: Binary) -> None:
    """The function over all inputs from left to right."""
    if len(node.inputs) == 1:
        ctx.views[node.outputs[0]] = ctx.view(node.inputs[0])
        return
    a = ctx.view(node.inputs[0])
    for i in node.inputs[1:-1]:
        b = ctx.view(i)
        y = ctx.new(node.outputs[0], np.broadcast_shapes(a.shape, b.shape), a.tensor.dtype)
        ctx.binary(node, function, a, b, y)
        a = whole(y)
    ctx.binary(node, function, a, ctx.view(node.inputs[-1]), ctx.output(node))


def sum_(ctx: Context, node: Node) -> None:
    """Sum of any number of operands."""
    _chain(ctx, node, Binary.ADD)


def mean(ctx: Context, node: Node) -> None:
    """Mean of any number of operands."""
    _chain(ctx, node, Binary.ADD)
    total = ctx.row(ctx.view(node.outputs[0]))
    ctx.unary(node, total, ctx.output(node), Unary.AFFINE, 1.0 / len(node.inputs))


def pow_(ctx: Context, node: Node) -> None:
    """Pow: squares, roots and reciprocals by the exact operation, the rest by BINARY."""
    exponent = ctx.const(node.inputs[1])
    value = float(exponent.reshape(-1)[0]) if exponent is not None and exponent.size == 1 else math.nan
    x = ctx.view(node.inputs[0])
    if value == 2.0 and ctx.type(node.outputs[0]).shape == x.shape:
        ctx.binary(node, Binary.MUL, x, x, ctx.output(node))
    elif value in (0.5, -1.0) and ctx.type(node.outputs[0]).shape == x.shape:
        _unary(ctx, node, Unary.SQRT if value == 0.5 else Unary.RECIPROCAL)
    else:
        exponents = ctx.view(node.inputs[1])
        if exponents.tensor.dtype != x.tensor.dtype:
            exponents = converted(ctx, node, exponents, x.tensor.dtype)
        ctx.binary(node, Binary.POW, x, exponents, ctx.output(node))


def converted(ctx: Context, node: Node, view: View, dtype: Any) -> View:
    """The view with its elements in another dtype."""
    constant = view.tensor.data
    if constant is not None and view == whole(view.tensor):
        return whole(ctx.constant(view.tensor.name, constant.reshape(view.shape).astype(dtype)))
    y = ctx.new(node.outputs[0], view.shape, dtype)
    ctx.emit(Code.CAST, [ctx.row(view)], [y], [], node.name)
    return whole(y)


def cast(ctx: Context, node: Node) -> None:
    """Cast, CastLike."""
    ctx.emit(Code.CAST, [ctx.row(ctx.view(node.inputs[0]))], [ctx.output(node)], [], node.name)


def prelu(ctx: Context, node: Node) -> None:
    """PRelu: the slope broadcasts to x."""
    slope = ctx.const(node.inputs[1])
    if slope is not None and slope.size == 1:
        _unary(ctx, node, Unary.LEAKY_RELU, float(slope.reshape(-1)[0]))
        return
    binary(ctx, node)


def clip(ctx: Context, node: Node) -> None:
    """Clip with constant or computed bounds."""
    x = ctx.view(node.inputs[0])
    is_float = x.tensor.dtype == np.float32
    low, high = clip_bounds(node, ctx.graph.constants) if is_float else (None, None)
    if low is not None and high is not None:
        # With low > high ONNX gives high everywhere.
        _unary(ctx, node, Unary.CLIP, min(low, high), high)
        return
    for i, function, given in ((1, Binary.MAX, low), (2, Binary.MIN, high)):
        if node.input(i):
            bound = ctx.view(node.inputs[i])
        elif given is not None:
            bound = whole(ctx.constant(f"{node.name}/bound", np.array(given, np.float32)))
        else:
            continue
        y = ctx.new(node.outputs[0], x.shape, x.tensor.dtype)
        ctx.binary(node, function, x, bound, y)
        x = whole(y)
    ctx.views[node.outputs[0]] = x


def gelu(ctx: Context, node: Node) -> None:
    """Gelu, exact or by tanh."""
    _unary(ctx, node, Unary.GELU_TANH if text(node, "approximate") == "tanh" else Unary.GELU)


def swish(ctx: Context, node: Node) -> None:
    """Swish: x · sigmoid(alpha · x)."""
    alpha = number(node, "alpha")
    if alpha == 1.0:
        _unary(ctx, node, Unary.SILU)
        return
    view = ctx.view(node.inputs[0])
    gate, y = ctx.new(node.outputs[0], view.shape), ctx.output(node)
    ctx.unary(node, ctx.row(view), gate, Unary.AFFINE, alpha)
    sigmoid = ctx.new(node.outputs[0], view.shape)
    ctx.unary(node, gate, sigmoid, Unary.SIGMOID)
    ctx.binary(node, Binary.MUL, view, whole(sigmoid), y)


def where(ctx: Context, node: Node) -> None:
    """Where, all three operands broadcast."""
    y = ctx.output(node)
    tensors: list[Tensor] = []
    strides: list[tuple[int, ...]] = []
    for i in node.inputs:
        tensor, view = ctx.strided(ctx.view(i).expand(y.shape))
        tensors.append(tensor)
        strides.append(view.strides)
    dims, steps = merge(y.shape, [*strides, row_major(y.shape)])
    if not dims:
        dims, steps = [1], [[0], [0], [0]]
    ctx.emit(Code.WHERE, tensors, [y], [len(dims), *dims, *steps[0], *steps[1], *steps[2]], node.name)


def batch_normalization(ctx: Context, node: Node) -> None:
    """BatchNormalization at inference, where it could not be folded into its producer: y = x · scale +
    shift."""
    scale, shift = batch_norm_affine(ctx.graph.constants, node)
    view = ctx.view(node.inputs[0])
    shape = (-1, *[1] * (len(view.shape) - 2))
    scaled = ctx.new(node.outputs[0], view.shape)
    ctx.binary(node, Binary.MUL, view, whole(ctx.constant(f"{node.name}/scale", scale.reshape(shape))), scaled)
    shift_view = whole(ctx.constant(f"{node.name}/shift", shift.reshape(shape)))
    ctx.binary(node, Binary.ADD, whole(scaled), shift_view, ctx.output(node))


def batch_norm_affine(constants: dict[str, Any], node: Node) -> tuple[Any, Any]:
    """Scale and shift of a BatchNormalization, computed in float64 and rounded once."""
    if is_training(node):
        raise ModelError(f"{node}: it is in training mode; call model.eval() and export again")
    if not flag(node, "spatial"):
        raise ModelError(f"{node}: spatial=0, another scale for each entry of a channel, is not supported")
    values = [constants[i] for i in node.inputs[1:5] if i in constants]
    if len(values) < 4:
        raise ModelError(f"{node}: its scale, bias, mean or variance depend on an input; only constants are supported")
    check_room(node, [len(values), *np.shape(values[0])], 8)
    gamma, beta, mean_, var = (np.asarray(v, np.float64) for v in values)
    scale = gamma / np.sqrt(var + number(node, "epsilon"))
    return scale.astype(np.float32), (beta - mean_ * scale).astype(np.float32)


LOWER = {
    **dict.fromkeys(UNARY, unary),
    **dict.fromkeys(BINARY, binary),
    "Pow": pow_,
    "PRelu": prelu,
    "Sum": sum_,
    "Mean": mean,
    "Cast": cast,
    "CastLike": cast,
    "Clip": clip,
    "Gelu": gelu,
    "Swish": swish,
    "Where": where,
    "BatchNormalization": batch_normalization,
}
