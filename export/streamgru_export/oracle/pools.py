"""MaxPool and AveragePool in float64, as plain NumPy.

onnx's own evaluator refuses ceil_mode with auto_pad, pads that differ at the two ends are not always where they
belong, and a last window that begins in the padding is counted.

With SAME_UPPER and SAME_LOWER there are ceil(n / stride) windows, as ONNX says; onnxruntime leaves the dilation out of
it.

Sizes: https://onnx.ai/onnx/operators/onnx__MaxPool.html.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]
Array = NDArray[Any]


class Axis(NamedTuple):
    """One spatial axis: n elements between two pads, and `size` windows over them."""

    n: int
    kernel: int
    stride: int
    dilation: int
    begin: int
    end: int
    size: int

    @property
    def reach(self) -> int:
        """The elements from the first window's begin to the last one's end."""
        return (self.size - 1) * self.stride + (self.kernel - 1) * self.dilation + 1


def max_pool(x: Array, storage_order: int | None = None, **attributes: Any) -> tuple[Array, Array]:
    """The ONNX operator MaxPool: x [N, C, *S] -> the largest of each window [N, C, *S'], and where it stands.

    Indices count the elements of x; within [*S] column by column where storage_order is 1.
    """
    lowest = -np.inf if x.dtype.kind == "f" else np.iinfo(x.dtype).min
    axes = _axes(x.shape[2:], **attributes)
    numbers = np.arange(math.prod(x.shape[2:])).reshape(x.shape[2:], order="F" if storage_order else "C")
    firsts = np.arange(math.prod(x.shape[:2])).reshape(*x.shape[:2], *[1] * len(axes)) * numbers.size
    met = np.stack(list(_views(_canvas(x, axes, lowest), axes)))
    places = np.stack(list(_views(_canvas(firsts + numbers, axes, -1), axes)))
    best = np.where(places >= 0, met, lowest).argmax(0)[None]
    return np.take_along_axis(met, best, 0)[0], np.take_along_axis(places, best, 0)[0]


def average_pool(x: F64, count_include_pad: int = 0, **attributes: Any) -> F64:
    """The ONNX operator AveragePool: the mean of what a window covers. x [N, C, *S] -> [N, C, *S'].

    The padding counts where count_include_pad is 1. What ceil_mode adds beyond it never does.
    """
    axes = _axes(x.shape[2:], **attributes)
    ones = np.ones((1, 1, *x.shape[2:]))
    if count_include_pad:
        ones = np.pad(ones, [(0, 0), (0, 0), *((axis.begin, axis.end) for axis in axes)], constant_values=1.0)
        counted = _canvas(ones, [axis._replace(begin=0) for axis in axes], 0.0)
    else:
        counted = _canvas(ones, axes, 0.0)
    total: F64 = np.sum(list(_views(_canvas(x, axes, 0.0), axes)), axis=0)
    count: F64 = np.sum(list(_views(counted, axes)), axis=0)
    return total / count


def _axes(
    shape: Sequence[int],
    *,
    kernel_shape: Sequence[int],
    strides: Sequence[int] | None = None,
    dilations: Sequence[int] | None = None,
    pads: Sequence[int] | None = None,
    auto_pad: str | None = None,
    ceil_mode: int | None = None,
) -> list[Axis]:
    """The geometry of each axis."""
    ones, count = [1] * len(shape), len(shape)
    pads = pads if pads and auto_pad in (None, "", "NOTSET") else [0] * (2 * count)
    each = zip(shape, kernel_shape, strides or ones, dilations or ones, pads[:count], pads[count:], strict=True)
    return [_axis(Axis(n, k, s, d, b, e, 0), auto_pad or "NOTSET", bool(ceil_mode)) for n, k, s, d, b, e in each]


def _axis(axis: Axis, auto_pad: str, ceil: bool) -> Axis:
    """The axis with the number of its windows, and the pads that auto_pad asks for."""
    if auto_pad in ("SAME_UPPER", "SAME_LOWER"):
        axis = axis._replace(size=-(-axis.n // axis.stride))
        total = max(0, axis.reach - axis.n)
        first = total // 2 if auto_pad == "SAME_UPPER" else total - total // 2
        return axis._replace(begin=first, end=total - first)
    room = axis.n + axis.begin + axis.end - (axis.kernel - 1) * axis.dilation - 1
    if room < 0:
        raise ValueError(f"a window of {axis.kernel} elements, {axis.dilation} apart, does not fit into {axis.n}")
    size = (-(-room // axis.stride) if ceil else room // axis.stride) + 1
    if ceil and (size - 1) * axis.stride >= axis.n + axis.begin:
        size -= 1  # a window that begins in the padding at the end
    return axis._replace(size=size)


def _canvas(x: Array, axes: Sequence[Axis], fill: float) -> Array:
    """x with all that its windows reach around it."""
    widths = [
        (axis.begin, max(0, axis.reach - axis.begin - size)) for axis, size in zip(axes, x.shape[2:], strict=True)
    ]
    return np.pad(x, [(0, 0), (0, 0), *widths], constant_values=fill)


def _views(canvas: Array, axes: Sequence[Axis]) -> Iterator[Array]:
    """For each element of the kernel, what it meets: [N, C, *S']."""
    for offsets in itertools.product(*(range(axis.kernel) for axis in axes)):
        firsts = [k * axis.dilation for k, axis in zip(offsets, axes, strict=True)]
        at = (slice(f, f + (a.size - 1) * a.stride + 1, a.stride) for f, a in zip(firsts, axes, strict=True))
        yield canvas[(slice(None), slice(None), *at)]
