"""Whole sequences through a stream of their own.

Lengths are exact, not masked: what comes out for a sequence is what it gives alone, at its own length.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ._types import Array, Frames
from .errors import ModelError, ShapeError
from .image import Image
from .lengths import of_sequence
from .stream import Stream
from .tensors import TensorInfo, as_frame, as_frames, as_list, by_name, one_or_all


def run_fresh(stream: Stream, x: Frames, lengths: npt.ArrayLike | None) -> Array:
    """:meth:`Model.run`, through a stream that has seen nothing."""
    model = stream.model
    if model.metadata.get("kind") == "whole":
        if lengths is not None:
            raise ShapeError("lengths: this model is bound to one length; load it with mode='whole' and no length=")
        return stream.step(x)
    given = dict(zip(model.inputs, as_list(model.inputs, x), strict=True))
    is_sequence = any(t.time_axis is not None for t in model.inputs)
    still = {t for t in (*model.inputs, *model.outputs) if is_sequence and t.time_axis is None}
    frames = {t: as_frames(t, array) for t, array in given.items() if t not in still}
    count = min(map(len, frames.values()), default=0)
    if count == 0:
        raise ShapeError("a sequence of at least one frame was expected")
    valid = None if lengths is None else checked_lengths(lengths, _batch(model), count)
    if valid is not None:
        frames = {t: _zero_padded(t, array, valid) for t, array in frames.items()}
    frames |= {t: np.repeat(as_frame(t, given[t])[None], count, axis=0) for t in given.keys() & still}
    if model.lengths.state:
        stream.set_state({model.lengths.state: of_sequence(count)})
    results = by_name(model.outputs, stream.run({t.name: _unmoved(t, frames[t]) for t in model.inputs}))
    ends = np.array([count]) if valid is None else valid
    done = {t: np.moveaxis(results[t.name], t.time_axis or 0, 0) for t in model.outputs}
    for tensor, y in done.items():
        if tensor in still:
            done[tensor] = _at_the_end(tensor, y, ends)
        else:
            done[tensor] = _unmoved(tensor, y if valid is None else _zero_padded(tensor, y, valid))
    return one_or_all(model.outputs, tuple(done[t] for t in model.outputs))


def _unmoved(tensor: TensorInfo, frames: Array) -> Array:
    """[T, *frame] with its time axis where the graph has it."""
    return np.ascontiguousarray(np.moveaxis(frames, 0, tensor.time_axis or 0))


def _batch_in_frame(tensor: TensorInfo) -> int | None:
    """Where the batch stands in a frame; None where it is not known."""
    if tensor.batch_axis is None:
        return None
    return tensor.batch_axis - (tensor.time_axis is not None and tensor.time_axis < tensor.batch_axis)


def _batch(model: Image) -> int:
    """How many sequences a frame holds, as far as they can be told apart."""
    return next((t.shape[axis] for t in model.inputs if (axis := _batch_in_frame(t)) is not None), 1)


def _along_batch(tensor: TensorInfo, values: Array, batch: int) -> Array:
    """`values` [..., batch] in a shape that broadcasts over [T, *frame]."""
    axis = _batch_in_frame(tensor)
    if axis is None and batch > 1:
        raise ModelError(f"'{tensor.name}' has no batch axis: the sequences in it cannot be told apart")
    return values.reshape(-1, *(batch if i == axis else 1 for i in range(len(tensor.shape))))


def _zero_padded(tensor: TensorInfo, frames: Array, valid: npt.NDArray[np.int64]) -> Array:
    """[T, *frame] with zeros beyond each sequence's length."""
    is_valid = np.arange(len(frames))[:, None] < valid
    return np.where(_along_batch(tensor, is_valid, len(valid)), frames, np.zeros((), frames.dtype))


def _at_the_end(tensor: TensorInfo, frames: Array, valid: npt.NDArray[np.int64]) -> Array:
    """Of [T, *frame] each sequence's last valid frame."""
    last: Array = np.take_along_axis(frames, _along_batch(tensor, valid - 1, len(valid)), axis=0)[0]
    return last


def checked_lengths(lengths: npt.ArrayLike, count: int, frames: int) -> npt.NDArray[np.int64]:
    """`lengths` as an array.

    Raises
    ------
    ShapeError
        They are not `count` whole numbers of 1 .. `frames`.
    """
    given = np.asarray(lengths)
    if given.shape != (count,) or given.dtype.kind not in "iu" or given.min() < 1 or given.max() > frames:
        raise ShapeError(f"lengths: expected {count} whole number(s) of 1 .. {frames}, got {given.tolist()}")
    return given.astype(np.int64)
