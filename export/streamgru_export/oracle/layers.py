"""ConvTranspose, BatchNormalization and LogSoftmax in float64, as plain NumPy: the layers onnx's own evaluator gets
wrong.

In the reference evaluator of onnx 1.23 ConvTranspose keeps one output channel a group and fails on more, and
BatchNormalization of opsets 9 to 13 mixes the statistics of the batch into those of the model, which only
training does; Softmax of opsets before 13 runs along one axis, and should along all from it on. Its other layers agree
with onnxruntime on every model tried, so they are not here.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]

_ALL3: tuple[Any, ...] = (slice(None),) * 3


def conv_transpose(
    x: F64,
    w: F64,
    b: F64 | None = None,
    *,
    auto_pad: str = "NOTSET",
    dilations: Sequence[int] | None = None,
    group: int = 1,
    kernel_shape: Sequence[int] | None = None,
    output_padding: Sequence[int] | None = None,
    output_shape: Sequence[int] | None = None,
    pads: Sequence[int] | None = None,
    strides: Sequence[int] | None = None,
) -> F64:
    """The ONNX operator ConvTranspose: y[m, s · stride + k · dilation] += x[c, s] · w[c, m, k], then
    cropped by pads.

    Padding rules: https://onnx.ai/onnx/operators/onnx__ConvTranspose.html.

    Parameters
    ----------
    x : [N, C, *S]
    w : [C, M / group, *K]
    b : [M]; zero where absent

    Returns
    -------
    float64 [N, M, *S']

    Raises
    ------
    ValueError
        kernel_shape is not the shape of w.
    """
    kernel, axes = w.shape[2:], w.ndim - 2
    if kernel_shape is not None and tuple(kernel_shape) != kernel:
        raise ValueError(f"kernel_shape is {tuple(kernel_shape)}, but W has the shape {w.shape}")
    stride, dilation = strides or [1] * axes, dilations or [1] * axes
    extra = output_padding or [0] * axes
    full = [stride[i] * (x.shape[2 + i] - 1) + extra[i] + (kernel[i] - 1) * dilation[i] + 1 for i in range(axes)]
    begins, sizes = _window(full, x.shape[2:], stride, auto_pad, output_shape, pads)
    N, C = x.shape[:2]
    grouped = x.reshape(N, group, C // group, *x.shape[2:])
    # For each k: [g, C / g, M / g]
    weights = np.moveaxis(w.reshape(group, C // group, *w.shape[1:]), (0, 1, 2), (-3, -2, -1))
    # output_padding and output_shape may reach beyond the last product: those elements hold the bias alone.
    canvas = (max(full[i], sizes[i]) for i in range(axes))
    y = np.zeros((N, group, w.shape[1], *canvas))
    for k in itertools.product(*map(range, kernel)):
        at = tuple(
            slice(k[i] * dilation[i], k[i] * dilation[i] + stride[i] * (x.shape[2 + i] - 1) + 1, stride[i])
            for i in range(axes)
        )
        y[(*_ALL3, *at)] += np.einsum("ngc...,gcm->ngm...", grouped, weights[k])
    y = y.reshape(N, group * w.shape[1], *y.shape[3:])
    kept = (slice(begin, begin + size) for begin, size in zip(begins, sizes, strict=True))
    y = y[(slice(None), slice(None), *kept)]
    return y if b is None else y + b.reshape(-1, *[1] * axes)


def _window(
    full: Sequence[int],
    size: Sequence[int],
    stride: Sequence[int],
    auto_pad: str,
    output_shape: Sequence[int] | None,
    pads: Sequence[int] | None,
) -> tuple[list[int], list[int]]:
    """What of the uncropped result is kept, on each axis: the begin and the size."""
    axes = len(full)
    same = auto_pad in ("SAME_UPPER", "SAME_LOWER")
    if output_shape is None and not same:
        cut = list(pads) if pads is not None and auto_pad == "NOTSET" else [0] * (2 * axes)
        return cut[:axes], [full[i] - cut[i] - cut[axes + i] for i in range(axes)]
    sizes = list(output_shape or (size[i] * stride[i] for i in range(axes)))
    total = [max(0, full[i] - sizes[i]) for i in range(axes)]
    return [t // 2 if auto_pad == "SAME_UPPER" else t - t // 2 for t in total], sizes


def batch_normalization(
    x: F64, scale: F64, b: F64, mean: F64, var: F64, *, epsilon: float = 1e-5, training: bool = False
) -> F64:
    """The ONNX operator BatchNormalization, inference: (x - mean) / sqrt(var + epsilon) · scale + b, per
    channel.

    Parameters
    ----------
    x : [N, C, ...]
    scale, b, mean, var : [C]

    Raises
    ------
    ValueError
        Statistics of the batch are asked for (training): they are no part of a deployed model.
    """
    if training:
        raise ValueError("BatchNormalization in training mode: export the model after model.eval()")
    per_channel = (-1, *[1] * (x.ndim - 2))
    scale, b, mean, var = (each.reshape(per_channel) for each in (scale, b, mean, var))
    return (x - mean) / np.sqrt(var + epsilon) * scale + b


def log_softmax(x: F64, axis: int, as_matrix: bool) -> F64:
    """x - log(sum(exp(x))) along one axis, or along all from `axis` on: ONNX before operator set 13.

    Parameters
    ----------
    x : float64 array
    axis : int
    as_matrix : bool
        All axes from `axis` on are one.
    """
    first = axis % x.ndim
    rows = x.reshape(*x.shape[:first], -1) if as_matrix else np.moveaxis(x, axis, -1)
    shifted = rows - rows.max(-1, keepdims=True)
    result = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    return result.reshape(x.shape) if as_matrix else np.moveaxis(result, -1, axis)
