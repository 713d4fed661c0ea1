"""What goes into a stream and comes out of it: the description of a tensor, and the checks of the arrays given for one.

It runs nothing and knows no image.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from ._printable import printable
from ._types import AnyDtype, Array, Frames, Outputs
from .errors import ShapeError
from .layout import Dtype, rounded

FRAME_DTYPES = (Dtype.F32, Dtype.I64, Dtype.I32, Dtype.BOOL)


@dataclass(frozen=True)
class TensorInfo:
    """An input, an output or a state, as one frame sees it.

    Attributes
    ----------
    name : str
    shape : tuple of int
        Of one frame: the ONNX shape without the time axis.
    dtype : numpy.dtype
    time_axis : int or None
        Where the time axis stands in the ONNX shape; None where there is none.
    batch_axis : int or None
        Where the batch stands in the ONNX shape; None where there is none, or where it is a number in the graph.
    source : tuple of (str, str) or None
        Of a state: the graph input and output it replaces, where the graph had them.
    """

    name: str
    shape: tuple[int, ...]
    dtype: AnyDtype
    time_axis: int | None = None
    source: tuple[str, str] | None = None
    batch_axis: int | None = None

    def __str__(self) -> str:
        return f"{printable(self.name)}: {self.dtype}{list(self.shape)}"


class Named(Protocol):
    """A tensor as far as its place among the others goes."""

    @property
    def name(self) -> str: ...


def check_array(tensor: TensorInfo, array: Array, shape: tuple[int, ...]) -> Array:
    """The array, where its dtype, shape (up to axes of length 1) and layout are what the input takes."""
    if not isinstance(array, np.ndarray):
        raise ShapeError(
            f"input {tensor.name!r}: expected a numpy array of {tensor.dtype}{list(shape)}, got {type(array).__name__}"
        )
    if array.dtype != tensor.dtype:
        raise ShapeError(
            f"input {tensor.name!r}: expected {tensor.dtype}, got {array.dtype}; "
            f"convert it with x.astype(numpy.{tensor.dtype})"
        )
    if array.shape != shape and _squeezed(array.shape) != _squeezed(shape):
        raise ShapeError(f"input {tensor.name!r}: expected shape {list(shape)}, got {list(array.shape)}")
    if not array.flags.c_contiguous:
        raise ShapeError(f"input {tensor.name!r}: the array is not C-contiguous; pass numpy.ascontiguousarray(x)")
    return array


def as_frame(tensor: TensorInfo, array: Array) -> Array:
    """A checked array in the frame's own shape."""
    return check_array(tensor, array, tensor.shape).reshape(tensor.shape)


def as_frames(tensor: TensorInfo, array: Array) -> Array:
    """A checked sequence as ``[T, *frame]``, a view."""
    axis = tensor.time_axis or 0
    frames = np.shape(array)[axis] if np.ndim(array) > axis else 0
    shape = (*tensor.shape[:axis], frames, *tensor.shape[axis:])
    return np.moveaxis(check_array(tensor, array, shape).reshape(shape), axis, 0)


def as_sequences(inputs: Sequence[TensorInfo], x: Frames) -> list[Array]:
    """Checked sequences of one length, as contiguous ``[T, *frame]`` arrays."""
    pairs = zip(inputs, as_list(inputs, x), strict=True)
    arrays = [np.ascontiguousarray(as_frames(tensor, array)) for tensor, array in pairs]
    if len({len(a) for a in arrays}) > 1:
        lengths = {t.name: len(a) for t, a in zip(inputs, arrays, strict=True)}
        raise ShapeError(f"the inputs must have the same number of frames, got {lengths}")
    return arrays


def states_in(states: Sequence[TensorInfo], saved: Array) -> dict[str, Array]:
    """The states inside of saved bytes, by name: views. They end where the bytes do."""
    sizes = [int(np.prod(t.shape, dtype=np.int64)) * t.dtype.itemsize for t in states]
    at = len(saved) - sum(map(rounded, sizes))
    found = {}
    for tensor, size in zip(states, sizes, strict=True):
        found[tensor.name] = saved[at : at + size].view(tensor.dtype).reshape(tensor.shape)
        at += rounded(size)
    return found


def as_list(inputs: Sequence[Named], x: Frames) -> list[Array]:
    """The arrays in the order of the inputs."""
    if not isinstance(x, Mapping):
        if len(inputs) != 1:
            raise ShapeError(f"this model has {len(inputs)} inputs: pass a dict with {', '.join(map(str, inputs))}")
        return [x]
    names = [tensor.name for tensor in inputs]
    if set(x) != set(names):
        raise ShapeError(f"the inputs are {names}, got {sorted(map(str, x))}")
    return [x[name] for name in names]


def _squeezed(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(n for n in shape if n != 1)


def one_or_all(tensors: Sequence[Named], arrays: tuple[Array, ...]) -> Array:
    """The array of a single tensor, or all by name. Typed as an array; :func:`by_name` types it right."""
    if len(arrays) == 1:
        return arrays[0]
    return {tensor.name: array for tensor, array in zip(tensors, arrays, strict=True)}  # type: ignore[return-value]


def by_name(tensors: Sequence[Named], y: Outputs) -> dict[str, Array]:
    """What :func:`one_or_all` gave, by name however many there are."""
    return y if isinstance(y, dict) else {tensors[0].name: y}
