"""The implementations that a parity check compares, each asked for the same frames: their traces.

Ours a step at a time and in blocks; an ONNX graph whole, or a step at a time with the state fed back. Who runs the
graph stands in `ort_graph.py` and `oracle_graph.py`, who runs the module in `torch_module.py`: each of them needs a
package of its own, this file numpy alone. What cannot be run raises `NotComparedError` with the reason.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol, TypedDict

import numpy as np
from numpy.typing import NDArray

from streamgru._types import AnyDtype, Array, Frames
from streamgru.errors import StreamgruError
from streamgru.model import Model, NonFinite
from streamgru.notes import Note, notes_of
from streamgru.stream import Stream
from streamgru.tensors import TensorInfo

from ..differences import Trace

Arrays = dict[str, Array]
Shape = tuple[int | str | None, ...]  # a number, a name or nothing for each axis

STEP, RUN = "streamgru step", "streamgru run"
ORACLE = "float64 oracle"
ORT_WHOLE, ORT_STEPPED = "onnxruntime whole", "onnxruntime stepped"
TORCH_WHOLE, TORCH_STEPPED = "torch whole", "torch stepped"
FIRST_TRY, TRIES = 256, 8  # frames of the first run that is timed, and how many times longer each next one is
PREFIXES = 24  # whole runs of an output that has no time axis: half of them short, half spread evenly


class NotComparedError(StreamgruError):
    """An implementation that cannot be compared. The message is the reason."""


class PeerGraph(Protocol):
    """An ONNX graph that can be run, with the shapes and dtypes that the file gives its inputs."""

    input_shapes: dict[str, Shape]
    input_dtypes: dict[str, AnyDtype]
    output_names: list[str]

    def run(self, feeds: Mapping[str, Array]) -> Arrays: ...


class StreamOptions(TypedDict):
    """Of :meth:`Model.stream`."""

    block: int | None
    nonfinite: NonFinite
    threads: int | None


@dataclass(frozen=True)
class Case:
    """A model and what to feed it: for each input [T, *frame].

    `unheard` are inputs of the file that the stream does not take, each filled for one frame: lengths with 1, all else
    with zeros.
    """

    model: Model
    frames: Arrays
    options: StreamOptions
    unheard: Arrays = field(default_factory=dict)

    @property
    def steps(self) -> int:
        return len(next(iter(self.frames.values())))

    @property
    def is_sequence(self) -> bool:
        return any(tensor.time_axis is not None for tensor in self.model.inputs)

    @property
    def state_names(self) -> dict[str, str]:
        """The graph output that continues each state input of the graph."""
        return dict(state.source for state in self.model.states if state.source is not None)

    @property
    def lengths(self) -> tuple[str, ...]:
        """The inputs that say how long a sequence is: 1 in a stream, the number of frames in a call of the whole."""
        return self.model.lengths.inputs if self.is_sequence else ()

    @property
    def notes(self) -> list[Note]:
        """What the compiler had to say."""
        return notes_of(self.model.metadata)

    @property
    def hidden_states(self) -> list[str]:
        """The states that only our stream owns."""
        return [state.name for state in self.model.states if state.source is None]

    def takes_one_frame(self, graph: PeerGraph) -> bool:
        """Whether the graph can be run on a single frame."""
        return _fixed_length(self, graph) in (None, 1)

    def initial_states(self) -> Arrays:
        return {s.source[0]: np.zeros(s.shape, s.dtype) for s in self.model.states if s.source is not None}

    def frame(self, step: int) -> Arrays:
        """The frame of one step, as a stream takes it."""
        return {name: frames[step] for name, frames in self.frames.items()}

    def feed(self, first: int, last: int) -> Arrays:
        """The steps first ... last - 1, as a graph takes them in one call; a length is that of the call."""
        heard = {t.name: _as_sequence(t, self.frames[t.name][first:last]) for t in self.model.inputs}
        heard.update({name: heard[name] * (last - first) for name in self.lengths})
        return {**heard, **{name: (one * (last - first)).astype(one.dtype) for name, one in self.unheard.items()}}


def _as_sequence(tensor: TensorInfo, frames: Array) -> Array:
    """[T, *frame] with the time axis where the graph has it; the first frame where it has none."""
    return frames[0] if tensor.time_axis is None else np.moveaxis(frames, 0, tensor.time_axis)


def as_frames(tensor: TensorInfo, values: Array) -> Array:
    """A graph's output as [T, *frame], or as [1, *frame] where it has no time axis. NotComparedError where it has too
    few axes: a module may give anything."""
    if tensor.time_axis is not None and tensor.time_axis >= values.ndim:
        raise NotComparedError(f"{tensor.name!r} has its time on axis {tensor.time_axis}, not the shape {values.shape}")
    return values[None] if tensor.time_axis is None else np.moveaxis(values, tensor.time_axis, 0)


def unheard(model: Model, *graphs: PeerGraph | NotComparedError) -> Arrays:
    """The inputs of the file that the stream does not take, each filled for one frame (`Case.unheard`)."""
    graph = next((g for g in graphs if not isinstance(g, NotComparedError)), None)
    if graph is None:
        return {}
    heard = {t.name for t in model.inputs} | {s.source[0] for s in model.states if s.source is not None}
    found = {}
    for name, dtype in graph.input_dtypes.items():
        if name not in heard and dtype.kind in "fiub":
            shape = [size if isinstance(size, int) else 1 for size in graph.input_shapes[name]]
            found[name] = np.full(shape, dtype.kind in "iu", dtype)
    return found


def several(count: int, what: str) -> str:
    """A count in words: "1 frame", "2 frames"."""
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


# Ours


def stream_step(case: Case) -> Trace:
    """Our stream, a step at a time."""
    stream = case.model.stream(**case.options)
    results = [case.model.named(stream.step(plain(case.frame(t)))) for t in range(case.steps)]
    return _our_trace(STEP, case, stream, {n: np.stack([r[n] for r in results]) for n in results[0]})


def stream_run(case: Case) -> Trace:
    """Our stream in two blocks, so that the state has to cross from one call to the next."""
    stream = case.model.stream(**case.options)
    middle = max(1, case.steps // 3)
    parts = []
    for first, last in ((0, middle), (middle, case.steps)):
        if first < last:
            block = {
                t.name: np.ascontiguousarray(np.moveaxis(case.frames[t.name][first:last], 0, t.time_axis or 0))
                for t in case.model.inputs
            }
            results = case.model.named(stream.run(plain(block)))
            parts.append({t.name: np.moveaxis(results[t.name], t.time_axis or 0, 0) for t in case.model.outputs})
    return _our_trace(RUN, case, stream, {n: np.concatenate([p[n] for p in parts]) for n in parts[0]})


def step_call(case: Case, frames: int) -> Callable[[int], object]:
    """`step` of a fresh stream, as a function of the frame's number: what a latency is measured on."""
    step = case.model.stream(**case.options).step
    prepared = [plain(case.frame(t)) for t in range(frames)]
    return lambda t: step(prepared[t])


def _our_trace(name: str, case: Case, stream: Stream, values: Arrays) -> Trace:
    """The outputs of every step, and after the last one the states that the graph gives as outputs too."""
    steps = dict.fromkeys(values, np.arange(case.steps))
    state = stream.state
    for tensor in case.model.states:
        if tensor.source is not None and tensor.source[1] not in values:
            values[tensor.source[1]] = state[tensor.name][None]
            steps[tensor.source[1]] = np.array([case.steps - 1])
    return Trace(name, steps, values)


def plain(arrays: Arrays) -> Frames:
    """What a stream takes: the array itself where there is one."""
    return next(iter(arrays.values())) if len(arrays) == 1 else arrays


# The ONNX graph


def graph_whole(name: str, case: Case, graph: PeerGraph, seconds: float = np.inf) -> Trace:
    """The graph over the whole sequence in one call; over prefixes too for outputs that have no time axis. Over fewer
    frames where all would take longer than `seconds`."""
    if not case.is_sequence:
        raise NotComparedError("a step graph has no time axis")
    length = _fixed_length(case, graph)
    if length is not None and length > case.steps:
        raise NotComparedError(f"the graph takes exactly {length} frames, the check has {case.steps}")

    def run(steps: int) -> Arrays:
        return graph.run({**case.initial_states(), **case.feed(0, steps)})

    if length is not None:
        return whole_trace(name, case, run, length, f"the graph takes exactly {several(length, 'frame')}")
    affordable = _affordable(case, run, seconds)
    return whole_trace(name, case, run, affordable, _limit(seconds)) if affordable else whole_trace(name, case, run)


def _limit(seconds: float) -> str:
    return f"its time limit of {seconds:g} s"


def _affordable(case: Case, run: Callable[[int], Arrays], seconds: float) -> int | None:
    """How many frames can be run whole within the seconds; None where all can."""
    if seconds == np.inf:
        return None
    timeless = any(tensor.time_axis is None for tensor in case.model.outputs)
    runs = sum(_prefixes(case.steps)) / case.steps if timeless else 1.0  # of prefixes too, in lengths of the whole
    tried = FIRST_TRY
    while tried < case.steps:
        start = time.monotonic()
        run(tried)
        per_frame = runs * max(time.monotonic() - start, 1e-9) / tried
        if per_frame * case.steps <= seconds:
            break
        if per_frame * tried * TRIES >= seconds:  # a longer try would cost as much as it may tell
            return max(1, min(case.steps - 1, int(seconds / per_frame)))
        tried *= TRIES
    return None


def graph_stepped(name: str, case: Case, graph: PeerGraph, seconds: float = np.inf) -> Trace:
    """The graph a step at a time, its state outputs fed back. Ends after `seconds`, and says so."""
    if case.hidden_states:
        raise NotComparedError(f"the graph keeps {', '.join(case.hidden_states)} inside: no state to feed back")
    if _fixed_length(case, graph) not in (None, 1):
        raise NotComparedError(f"the graph takes exactly {_fixed_length(case, graph)} frames, not one")
    pairs, state, results = case.state_names, case.initial_states(), []
    deadline = time.monotonic() + seconds
    for t in range(case.steps):
        result = graph.run({**state, **case.feed(t, t + 1)})
        state = {name: result[output] for name, output in pairs.items()}
        results.append(result)
        if time.monotonic() > deadline:
            break
    return stepped_trace(name, case, results, _limit(seconds))


def _fixed_length(case: Case, graph: PeerGraph) -> int | None:
    """How many frames the graph insists on, or None."""
    for tensor in case.model.inputs:
        size = None if tensor.time_axis is None else graph.input_shapes[tensor.name][tensor.time_axis]
        if isinstance(size, int):
            return size
    return None


def whole_trace(name: str, case: Case, run: Callable[[int], Arrays], length: int | None = None, why: str = "") -> Trace:
    """Assemble a trace from runs over the first `steps` frames.

    Parameters
    ----------
    length : int, optional
        Of the only run that there is, where it is not over all frames.
    why : str
        What keeps it from more.
    """
    total = length or case.steps
    prefixes = [total] if length else _prefixes(total)
    whole = run(total)
    timeless = [t for t in case.model.outputs if t.time_axis is None and t.name in whole]
    runs = [run(steps) for steps in prefixes[:-1]] if timeless else []
    steps: dict[str, NDArray[np.int64]] = {}
    values: Arrays = {}
    for tensor in case.model.outputs:
        if tensor in timeless:
            steps[tensor.name] = np.array(prefixes) - 1
            values[tensor.name] = _joined(tensor.name, [r[tensor.name][None] for r in (*runs, whole)])
        elif tensor.name in whole:
            values[tensor.name] = as_frames(tensor, whole[tensor.name])
            steps[tensor.name] = np.arange(len(values[tensor.name]))
    _add_states(case, total, whole, steps, values)
    return Trace(name, steps, values, why if total < case.steps else "")


def _prefixes(total: int) -> list[int]:
    """The lengths of whole runs, the last one `total`."""
    spread = [space(1, total, PREFIXES // 2) for space in (np.geomspace, np.linspace)]
    lengths: list[int] = np.unique(np.concatenate(spread).round().astype(int)).tolist()
    return lengths


def stepped_trace(name: str, case: Case, results: Sequence[Arrays], why: str = "") -> Trace:
    """Assemble a trace from the results of the first steps, one each; `why` is what kept it from more."""
    outputs = [t for t in case.model.outputs if t.name in results[0]]
    values = {t.name: _joined(t.name, [as_frames(t, r[t.name])[:1] for r in results]) for t in outputs}
    steps = dict.fromkeys(values, np.arange(len(results)))
    _add_states(case, len(results), results[-1], steps, values)
    return Trace(name, steps, values, why if len(results) < case.steps else "")


def _joined(name: str, parts: Sequence[Array]) -> Array:
    """The results of several calls, one after the other. NotComparedError where they differ in shape or dtype."""
    shapes = dict.fromkeys(part.shape[1:] for part in parts)
    if len(shapes) > 1:
        raise NotComparedError(f"{name!r} has another shape in another call: {', '.join(map(str, shapes))}")
    return np.concatenate(parts)


def _add_states(case: Case, total: int, last: Arrays, steps: dict[str, NDArray[np.int64]], values: Arrays) -> None:
    """The states after the last step."""
    for output in case.state_names.values():
        if output in last and output not in values:
            steps[output], values[output] = np.array([total - 1]), last[output][None]


@contextmanager
def its_reason(who: str) -> Iterator[None]:
    """Turn whatever others raise into the reason why they were not compared."""
    try:
        yield
    except NotComparedError:
        raise
    except Exception as error:
        lines = str(error).strip().splitlines() or [""]
        raise NotComparedError(f"{who} failed: {type(error).__name__}: {lines[0]}") from error
