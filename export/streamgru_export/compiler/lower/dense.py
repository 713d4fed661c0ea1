"""Lowers matrix products: AFFINE where one side is constant, MATMUL where both are computed."""

from __future__ import annotations

import numpy as np

from streamgru.codes import Binary, Code, Unary

from ..graph.graph import Array, Node
from ..graph.operators import gemm as gemm_of
from ..program.program import Tensor
from ..program.views import View, whole
from .context import Context


def affine(ctx: Context, node: Node, x: View, w: Array, bias: Array | None, y: Tensor) -> None:
    """AFFINE: `y[.., m] = bias[m] + Σ_k w[m, k] · x[.., k]`, w: [M, K]."""
    (m, k), name = w.shape, node.name or node.outputs[0]
    weights = ctx.packed(f"{name}/weight", w)
    vector = None if bias is None else ctx.constant(f"{name}/bias", bias)
    n = x.size // k
    ctx.emit(Code.AFFINE, [ctx.row(x, (n, k)), weights, vector], [y], [n, m, k, Unary.IDENTITY, 0.0, 0.0], node.name)


def matmul(ctx: Context, node: Node) -> None:
    """MatMul of any rank, either side constant or computed."""
    a, b = ctx.view(node.inputs[0]), ctx.view(node.inputs[1])
    a_const, b_const = ctx.const(node.inputs[0]), ctx.const(node.inputs[1])
    if b_const is not None and b_const.ndim <= 2:
        w = b_const.reshape(len(b_const), -1).T
        affine(ctx, node, a, w, None, ctx.output(node))
        return
    if a_const is not None and a_const.ndim <= 2 and len(b.shape) >= 2:
        _constant_left(ctx, node, a_const, b)
        return
    a2 = a.reshape((1, *a.shape)) if len(a.shape) == 1 else a
    b2 = b.reshape((*b.shape, 1)) if len(b.shape) == 1 else b
    assert a2 is not None
    assert b2 is not None
    product(ctx, node, a2, b2, ctx.output(node))


def _constant_left(ctx: Context, node: Node, w: Array, b: View) -> None:
    """A constant w [M, K] times b [.., K, N]: the transpose of bᵀ · wᵀ."""
    rank = len(b.shape)
    columns = b.transpose([*range(rank - 2), rank - 1, rank - 2])
    y = ctx.new(node.outputs[0], (*columns.shape[:-1], len(w) if w.ndim == 2 else 1))
    affine(ctx, node, columns, w.reshape(-1, w.shape[-1]), None, y)
    view = whole(y).transpose([*range(rank - 2), rank - 1, rank - 2])
    ctx.views[node.outputs[0]] = view if w.ndim == 2 else view.squeeze(rank - 2)


def product(ctx: Context, node: Node, a: View, b: View, y: Tensor) -> None:
    """MATMUL of [.., M, K] and [.., K, N], batch dimensions broadcast."""
    if a.shape[-1] > 1 and a.strides[-1] != 1:
        a = ctx.in_row(a)
    if b.shape[-1] > 1 and b.strides[-1] != 1:
        b = ctx.in_row(b)
    batch = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    (a_tensor, a), (b_tensor, b) = (
        ctx.strided(a.expand(batch + a.shape[-2:])),
        ctx.strided(b.expand(batch + b.shape[-2:])),
    )
    m, k, n = a.shape[-2], a.shape[-1], b.shape[-1]
    params = [len(batch), m, n, k, a.strides[-2], b.strides[-2], *batch, *a.strides[:-2], *b.strides[:-2]]
    ctx.emit(Code.MATMUL, [a_tensor, b_tensor], [y], params, node.name)


def gemm(ctx: Context, node: Node) -> None:
    """Gemm: alpha · A' · B' + beta · C. What is constant is scaled at compile time, in float32."""
    form = gemm_of(node)
    alpha, beta = np.float32(form.alpha), np.float32(form.beta)
    a, b = ctx.view(node.inputs[0]), ctx.view(node.inputs[1])
    if form.trans_a:
        a = a.transpose((1, 0))
    weights = ctx.const(node.inputs[1])
    if weights is not None:
        w = weights if form.trans_b else weights.T
        _gemm_affine(ctx, node, a, w * alpha if alpha != 1 else w, beta)
        return
    if form.trans_b:
        b = b.transpose((1, 0))
    y = ctx.new(node.outputs[0], ctx.type(node.outputs[0]).shape)
    product(ctx, node, a, b, y)
    if alpha != 1:
        scaled = ctx.new(node.outputs[0], y.shape)
        ctx.unary(node, y, scaled, Unary.AFFINE, float(alpha))
        y = scaled
    _add_c(ctx, node, y, beta)


def _gemm_affine(ctx: Context, node: Node, a: View, w: Array, beta: np.float32) -> None:
    """The bias goes into the product where C is one row for all."""
    c = ctx.const(node.input(2))
    y = ctx.new(node.outputs[0], ctx.type(node.outputs[0]).shape)
    one_row = c is not None and c.size in (1, len(w)) and (c.ndim == 0 or c.shape[-1] == c.size)
    if c is not None and one_row:
        bias = np.broadcast_to((c * beta if beta != 1 else c).reshape(-1), (len(w),))
        affine(ctx, node, a, w, np.ascontiguousarray(bias, np.float32), y)
        ctx.views[node.outputs[0]] = whole(y)
        return
    affine(ctx, node, a, w, None, y)
    _add_c(ctx, node, y, beta)


def _add_c(ctx: Context, node: Node, y: Tensor, beta: np.float32) -> None:
    """y + beta · C, where there is a C."""
    ctx.views[node.outputs[0]] = whole(y)
    if not node.input(2) or beta == 0:
        return
    c = ctx.view(node.input(2))
    if beta != 1:
        scaled = ctx.new(node.outputs[0], c.shape)
        ctx.binary(node, Binary.MUL, c, whole(ctx.constant(f"{node.name}/beta", np.array(beta))), scaled)
        c = whole(scaled)
    ctx.binary(node, Binary.ADD, whole(y), c, ctx.output(node))


LOWER = {"MatMul": matmul, "Gemm": gemm}
