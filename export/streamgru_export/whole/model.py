"""Whole sequences: a streaming model through a fresh stream, any other compiled for each shape it is fed.

Lengths are exact, not masked: what comes out for a sequence is what it gives alone, at its own length.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict, defaultdict, deque
from collections.abc import Mapping
from weakref import WeakSet

import numpy as np
import numpy.typing as npt

from streamgru._isa import isa
from streamgru._types import Array, Frames
from streamgru.errors import ModelError, ShapeError
from streamgru.model import Model, NonFinite, Weights
from streamgru.sequences import checked_lengths
from streamgru.stream import Stream
from streamgru.tensors import as_list, one_or_all

from .graph import WholeGraph

CACHED_IMAGES = 64
CACHED_BYTES = 256 * 1024 * 1024


class Bound:
    """An image for one set of shapes, with the streams that wait for their next use. It has no state to reset."""

    def __init__(self, image: bytes) -> None:
        self.model = Model(image, max_ops=None)
        self.bytes = len(image)
        self._idle: defaultdict[tuple[str, str], deque[Stream]] = defaultdict(deque)

    def run(self, feeds: Mapping[str, Array], nonfinite: NonFinite) -> dict[str, Array]:
        """All outputs by name. `feeds` are contiguous, and of the right dtypes and shapes."""
        idle = self._idle[isa(), nonfinite]
        try:
            stream = idle.pop()
        except IndexError:
            stream = self.model.stream(block=1, nonfinite=nonfinite)
        results = stream.step(feeds if len(feeds) != 1 else next(iter(feeds.values())))
        idle.append(stream)
        return self.model.named(results)


class Images:
    """The images of a graph, one for each set of shapes it was fed: at most 64, or 256 MB. Threads may share it."""

    def __init__(self, graph: WholeGraph) -> None:
        self.graph = graph
        self._cached: OrderedDict[tuple[tuple[str, int], ...], Bound] = OrderedDict()
        self._lock = threading.Lock()
        _all.add(self)

    def prepare(self) -> None:
        """Compiles a graph that takes one set of shapes only, so that what is wrong with it shows at once."""
        shapes = self.graph.only_shapes()
        if shapes is not None:
            self._bound(shapes)

    def run(self, feeds: Mapping[str, Array], nonfinite: NonFinite) -> dict[str, Array]:
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


_all: WeakSet[Images] = WeakSet()


def _in_child() -> None:
    """After a fork: a thread that held a lock is not there to give it back."""
    for images in _all:
        images._lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)


class WholeModel:
    """A graph that runs whole sequences of any length. Made by ``streamgru.load(path, mode="whole")``.

    Each length (and batch) is compiled when it is first met; the last 64 stay, or 256 MB of them. Threads may share it.

    Attributes
    ----------
    inputs, outputs : tuple of NodeArg
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        dims: Mapping[str, int] | None = None,
        time_axis: Mapping[str, int] | None = None,
        weights: Weights = "f32",
        values: Mapping[str, npt.ArrayLike] | None = None,
    ) -> None:
        """`dims`, `time_axis`, `weights` and `values` as :func:`streamgru.compile` takes them."""
        self._images = Images(WholeGraph(path, dims, time_axis, weights, values))
        self.inputs = self._images.graph.inputs
        self.outputs = self._images.graph.outputs
        self._batch_axes: dict[str, int] | None = None

    def run(self, x: Frames, lengths: npt.ArrayLike | None = None, *, nonfinite: NonFinite = "refuse") -> Array:
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

    def _one_by_one(self, feeds: Mapping[str, Array], lengths: npt.ArrayLike, nonfinite: NonFinite) -> dict[str, Array]:
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
