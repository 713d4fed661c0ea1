"""Whole sequences: a streaming model through a fresh stream, any other compiled for each shape it is fed.

Lengths are exact, not masked: what comes out for a sequence is what it gives alone, at its own length.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict, defaultdict, deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ._isa import isa
from ._status import needs_onnx
from .errors import ModelError, ShapeError
from .model import Model, TensorInfo
from .stream import Array, Frames, Stream, as_frame, as_frames, as_list, one_or_all

if TYPE_CHECKING:
    from streamgru_export.whole.graph import WholeGraph

CACHED_IMAGES = 64
CACHED_BYTES = 256 * 1024 * 1024


@dataclass(frozen=True)
class NodeArg:
    """An input or output as onnxruntime describes it.

    Attributes
    ----------
    name : str
    shape : list of int, str or None
        A number, the name of a dynamic dimension, or None where it has no name.
    type : str
        ``"tensor(float)"``, ``"tensor(int64)"``, ...
    """

    name: str
    shape: list[int | str | None]
    type: str


class Bound:
    """An image for one set of shapes, with the streams that wait for their next use. It has no state to reset."""

    def __init__(self, image: bytes) -> None:
        self.model = Model(image)
        self.bytes = len(image)
        self._idle: defaultdict[tuple[str, str], deque[Stream]] = defaultdict(deque)

    def run(self, feeds: Mapping[str, Array], nonfinite: str) -> dict[str, Array]:
        """All outputs by name. `feeds` are contiguous, and of the right dtypes and shapes."""
        idle = self._idle[isa(), nonfinite]
        try:
            stream = idle.pop()
        except IndexError:
            stream = self.model.stream(block=1, nonfinite=nonfinite)
        results = stream.step(feeds if len(feeds) != 1 else next(iter(feeds.values())))
        idle.append(stream)
        return results if isinstance(results, dict) else {self.model.outputs[0].name: results}


class Images:
    """The images of a graph, one for each set of shapes it was fed: at most 64, or 256 MB. Threads may share it."""

    def __init__(self, graph: WholeGraph) -> None:
        self.graph = graph
        self._cached: OrderedDict[tuple[tuple[str, int], ...], Bound] = OrderedDict()
        self._lock = threading.Lock()

    def prepare(self) -> None:
        """Compiles a graph that takes one set of shapes only, so that what is wrong with it shows at once."""
        shapes = self.graph.only_shapes()
        if shapes is not None:
            self._bound(shapes)

    def run(self, feeds: Mapping[str, Array], nonfinite: str) -> dict[str, Array]:
        """All outputs by name."""
        return self._bound({name: array.shape for name, array in feeds.items()}).run(feeds, nonfinite)

    def _bound(self, shapes: Mapping[str, tuple[int, ...]]) -> Bound:
        dims = self.graph.bind(shapes)
        key = tuple(sorted(dims.items()))
        with self._lock:
            if key not in self._cached:
                self._cached[key] = Bound(self.graph.image(dims))
                while len(self._cached) > 1 and (len(self._cached) > CACHED_IMAGES or self._bytes() > CACHED_BYTES):
                    self._cached.popitem(last=False)
            self._cached.move_to_end(key)
            return self._cached[key]

    def _bytes(self) -> int:
        return sum(bound.bytes for bound in self._cached.values())


class WholeModel:
    """A graph that runs whole sequences of any length. Made by ``streamgru.load(path, mode="whole")``.

    Each length (and batch) is compiled when it is first met; the last 64 stay, or 256 MB of them. Threads may share it.

    Attributes
    ----------
    inputs, outputs : tuple of NodeArg
    """

    def __init__(self, path: str | os.PathLike[str], **options: Any) -> None:
        """``options`` are ``dims``, ``time_axis`` and ``weights`` as :func:`streamgru_export.compile` takes them."""
        with needs_onnx(path):
            from streamgru_export.whole.graph import WholeGraph
        self._images = Images(WholeGraph(path, **options))
        self.inputs = self._images.graph.inputs
        self.outputs = self._images.graph.outputs
        self._batch_axes: dict[str, int] | None = None

    def run(self, x: Frames, lengths: npt.ArrayLike | None = None, *, nonfinite: str = "refuse") -> Any:
        """Whole sequences.

        Parameters
        ----------
        x : array, or dict of name to array for a graph of several inputs
            What the ONNX graph takes.
        lengths : sequence of int, optional
            How many frames of each sequence of the batch are valid. Each gives what it gives alone; what an output has
            beyond that is zero. The batch must be a dynamic dimension, or there is one length for all.
        nonfinite : {"refuse", "pass"}
            As :meth:`Model.stream`.

        Returns
        -------
        y : array, or dict of name to array
            What the ONNX graph gives.

        Raises
        ------
        ShapeError
            Wrong shapes, dtypes or lengths.
        NonFiniteError
            A NaN or an infinity within the valid frames.
        ModelError
            The graph cannot be compiled for this shape, or not be run sequence by sequence.
        """
        feeds = dict(zip([p.name for p in self.inputs], as_list(self.inputs, x), strict=True))
        feeds = {name: np.asarray(array, order="C") for name, array in feeds.items()}
        if lengths is None:
            results = self._images.run(feeds, nonfinite)
        else:
            results = self._one_by_one(feeds, lengths, nonfinite)
        return one_or_all(self.outputs, tuple(results[p.name] for p in self.outputs))

    def _one_by_one(self, feeds: Mapping[str, Array], lengths: npt.ArrayLike, nonfinite: str) -> dict[str, Array]:
        """Every sequence alone, at its own length."""
        graph = self._images.graph
        dims = graph.bind({name: array.shape for name, array in feeds.items()})
        time = graph.timeline.axes()
        frames = {dims[d] for d in graph.timeline.time}
        if len(frames) != 1:
            raise ShapeError(f"lengths: this graph has {'several' if frames else 'no'} time dimensions; leave it out")
        count = dims[min(graph.timeline.batch)] if graph.timeline.batch else 1
        valid = checked_lengths(lengths, count, frames.pop())
        batch = self._find_batch_axes(int(valid.max()))
        results = {name: np.zeros(t.shape, t.dtype) for name, t in graph.output_types(dims).items()}
        for name in results.keys() - batch.keys() if count > 1 else ():
            raise ModelError(f"output '{name}' has no batch axis: it cannot be put together from sequences run alone")
        for b in np.argsort(valid):  # one length after the other, so that each is compiled once
            here, length = slice(int(b), int(b) + 1), slice(int(valid[b]))
            alone = {name: _part(x, {time.get(name): length, batch.get(name): here}) for name, x in feeds.items()}
            for name, y in self._images.run(alone, nonfinite).items():
                place = [slice(n) for n in y.shape]
                if name in batch:
                    place[batch[name]] = here
                results[name][tuple(place)] = y
        return results

    def _find_batch_axes(self, length: int) -> dict[str, int]:
        if self._batch_axes is None:
            self._batch_axes = self._images.graph.timeline.batch_axes(length)
        return self._batch_axes


def _part(x: Array, slices: Mapping[int | None, slice]) -> Array:
    """The array cut along some of its axes; None is no axis."""
    return np.asarray(x[tuple(slices.get(axis, slice(None)) for axis in range(x.ndim))], order="C")


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


# ---- a model that streams ----


def run_fresh(model: Model, x: Frames, lengths: npt.ArrayLike | None, nonfinite: str) -> Any:
    """:meth:`Model.run`."""
    if model.metadata.get("kind") == "whole":
        if lengths is not None:
            raise ShapeError("lengths: this model is bound to one length; load it with mode='whole' and no length=")
        return model.stream(block=1, nonfinite=nonfinite).step(x)
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
    results = model.stream(nonfinite=nonfinite).run({t.name: _unmoved(t, frames[t]) for t in model.inputs})
    if not isinstance(results, dict):
        results = {model.outputs[0].name: results}
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


def _batch(model: Model) -> int:
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
