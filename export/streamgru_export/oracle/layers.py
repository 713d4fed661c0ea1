"""Layers in float64, as plain NumPy: those that onnx's own evaluator gets wrong or slow.

In the reference evaluator of onnx 1.23

- ConvTranspose keeps one output channel a group and fails on more;
- BatchNormalization of opsets 9 to 13 mixes the statistics of the batch into those of the model, which only training
  does;
- Softmax and LogSoftmax below opset 13 take one axis, where ONNX flattens all from that axis on, and LogSoftmax is
  the logarithm of a quotient that underflows;
- Erf rounds to float32; Gelu and HardSwish have constants in float32, GroupNormalization computes in float32;
- Pad refuses negative pads, GatherElements indices that cover a part of an axis, and Scatter (ScatterElements below
  opset 11) is missing;
- ScatterND is right, and takes most of a step of a model whose caches are written by it.

Its other layers that the compiler takes agree with onnxruntime at every opset, so they are not here.
"""

from __future__ import annotations

import itertools
import math
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


def log_softmax(x: F64, axis: int, flatten: bool) -> F64:
    """The ONNX operator LogSoftmax: x - log(sum(exp(x))) along `axis`, or, below opset 13, along all from there on.

    Parameters
    ----------
    flatten : bool
        Whether x is seen as a matrix whose rows hold the axes from `axis` on.
    """
    rows = x.reshape(math.prod(x.shape[:axis]), -1) if flatten else np.moveaxis(x, axis, -1)
    shifted = rows - rows.max(-1, keepdims=True, initial=-np.inf)
    y = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    return y.reshape(x.shape) if flatten else np.moveaxis(y, -1, axis)


def softmax(x: F64, axis: int, flatten: bool) -> F64:
    """The ONNX operator Softmax: exp(x) / sum(exp(x)). Parameters are as of :func:`log_softmax`."""
    rows = x.reshape(math.prod(x.shape[:axis]), -1) if flatten else np.moveaxis(x, axis, -1)
    powers = np.exp(rows - rows.max(-1, keepdims=True, initial=-np.inf))
    y = powers / powers.sum(-1, keepdims=True)
    return y.reshape(x.shape) if flatten else np.moveaxis(y, -1, axis)


_erf = np.vectorize(math.erf, otypes=[np.float64])


def erf(x: F64) -> F64:
    """The ONNX operator Erf."""
    return np.asarray(_erf(x), np.float64)


def gelu(x: F64, approximate: str = "none") -> F64:
    """The ONNX operator Gelu: x / 2 · (1 + erf(x / √2)), or with tanh(√(2 / π) · (x + 0.044715 x³)) for the erf."""
    tanh = approximate == "tanh"
    inner = np.tanh(np.sqrt(2.0 / np.pi) * (x + 0.044715 * x**3)) if tanh else erf(x / np.sqrt(2.0))
    return np.asarray(0.5 * x * (1.0 + inner))


def hard_swish(x: F64) -> F64:
    """The ONNX operator HardSwish: x · max(0, min(1, x / 6 + 1 / 2))."""
    return x * np.clip(x / 6.0 + 0.5, 0.0, 1.0)


def group_normalization(x: F64, scale: F64, b: F64, *, num_groups: int, epsilon: float = 1e-5) -> F64:
    """The ONNX operator GroupNormalization: (x - mean) / sqrt(var + epsilon) · scale + b, over each group of channels.

    Parameters
    ----------
    x : [N, C, ...]
    scale, b : [C]; below opset 21 [num_groups]
    """
    groups = x.reshape(len(x), num_groups, -1)
    y = (groups - groups.mean(-1, keepdims=True)) / np.sqrt(groups.var(-1, keepdims=True) + epsilon)
    scale, b = (each.reshape(-1, 1) for each in (scale, b))
    return np.asarray(y.reshape(len(x), len(scale), -1) * scale + b).reshape(x.shape)


def pad(
    x: NDArray[Any],
    pads: Sequence[int],
    value: float = 0.0,
    axes: Sequence[int] | None = None,
    mode: str = "constant",
) -> NDArray[Any]:
    """The ONNX operator Pad: negative pads cut off, and what is left is extended.

    Parameters
    ----------
    pads : [2 n], the n begins and then the n ends, of `axes` or of all
    """
    axes = range(x.ndim) if axes is None else axes
    widths, kept = [(0, 0)] * x.ndim, [slice(None)] * x.ndim
    for axis, begin, end in zip(axes, pads[: len(axes)], pads[len(axes) :], strict=True):
        kept[axis] = slice(max(0, -begin), x.shape[axis] - max(0, -end))
        widths[axis] = (max(0, begin), max(0, end))
    left = x[tuple(kept)]
    if mode == "constant":
        return np.pad(left, widths, constant_values=value)
    if mode not in ("edge", "reflect", "wrap"):
        raise ValueError(f"mode: constant, edge, reflect or wrap expected, not {mode!r}")
    return np.pad(left, widths, mode=mode)  # type: ignore[call-overload, no-any-return]


def _covered(x: NDArray[Any], indices: NDArray[np.integer[Any]], axis: int) -> NDArray[Any]:
    """What of x the indices cover: all of `axis`, of the others the beginning."""
    return x[tuple(slice(None if k == axis % x.ndim else n) for k, n in enumerate(indices.shape))]


def gather_elements(x: NDArray[Any], indices: NDArray[np.integer[Any]], axis: int = 0) -> NDArray[Any]:
    """The ONNX operator GatherElements: y[i, j] = x[indices[i, j], j] for axis 0."""
    return np.take_along_axis(_covered(x, indices, axis), indices, axis)


def scatter(x: NDArray[Any], indices: NDArray[np.integer[Any]], updates: NDArray[Any], axis: int = 0) -> NDArray[Any]:
    """The ONNX operator Scatter: y = x, but y[indices[i, j], j] = updates[i, j] for axis 0."""
    y = x.copy()
    np.put_along_axis(_covered(y, indices, axis), indices, updates, axis)
    return y


_REDUCTIONS = {"add": np.add, "mul": np.multiply, "min": np.minimum, "max": np.maximum}


def scatter_nd(
    x: NDArray[Any], indices: NDArray[np.integer[Any]], updates: NDArray[Any], reduction: str = "none"
) -> NDArray[Any]:
    """The ONNX operator ScatterND: y = x, but y[indices[i, :]] = updates[i], or is added, multiplied, ... with it.

    Parameters
    ----------
    indices : [*I, k], of the first k axes of x
    updates : [*I, *x.shape[k:]]
    """
    y, at = x.copy(), tuple(np.moveaxis(indices, -1, 0))
    if reduction == "none":
        y[at] = updates
    else:
        _REDUCTIONS[reduction].at(y, at, updates)
    return y
