"""One call of the whole beside our stream: what is fed, what the stream makes of it, and how far the two are apart.

The whole is a graph or a module that takes several frames, or several entries of a batch, in one call. Nothing that we
believe of its time is used to read it: an output's axis is the one that grew with the input's. `axes.py` says what is
tried, and judges.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from streamgru._types import AnyDtype, Array

from ..differences import Difference, Trace, compare
from .traces import STEP, Arrays, Case, plain

Place = tuple[str, int]  # an input and one of its axes
Draw = Callable[[str, int], Array]  # an input's name and a count -> so many frames of it


class Whole(Protocol):
    """What can be called with more than a frame. It raises NotComparedError where it refuses."""

    def run(self, feeds: Mapping[str, Array]) -> Arrays: ...


def listed(words: Sequence[str], most: int = 3) -> str:
    """The words, joined by "and"; of many the first few."""
    shown = words if len(words) <= most else [*words[: most - 1], f"{len(words) - most + 1} more"]
    return " and ".join(shown)


@dataclass(frozen=True)
class Port:
    """An input of the whole: its shape for one entry and one frame, and how it is filled."""

    name: str
    shape: tuple[int, ...]
    dtype: AnyDtype
    time_axis: int | None = None
    heard: bool = False  # by the stream
    drawn: bool = False  # else zeros, or where it is `counted` the number of frames in the call
    counted: bool = False

    def size(self, axis: int) -> int:
        return self.shape[axis]


@dataclass(frozen=True)
class Axes:
    """Axes of inputs that grow together, for the file gives them one name, or none takes another length alone."""

    places: tuple[Place, ...]
    symbol: str = ""  # the file's name in quotes, or words

    def of(self, port: Port) -> list[int]:
        return [axis for name, axis in self.places if name == port.name]

    def __add__(self, other: Axes) -> Axes:
        symbols = dict.fromkeys(filter(None, (self.symbol, other.symbol)))
        return Axes(self.places + other.places, " and ".join(symbols))

    def __str__(self) -> str:
        return f"{listed([f'axis {axis} of {name!r}' for name, axis in self.places])} ({self.symbol or 'unnamed'})"


@dataclass(frozen=True)
class Trial:
    """Frames for the whole that is `n` times as long along some axes, and for the streams that must give the same.

    Along an axis that we call time a stream takes the parts one after the other; along any other each part has a
    stream of its own, unless they are `carried` from one to the next.
    """

    case: Case
    ports: Sequence[Port]
    axes: Axes
    n: int
    frames: int  # along the axes that we call time, where they do not grow
    feeds: Arrays
    carried: bool = False

    @property
    def grows_time(self) -> bool:
        return any(port.time_axis in self.axes.of(port) for port in self.ports if port.time_axis is not None)

    @property
    def entries(self) -> int:
        """How many parts there are along axes that are not our time."""
        return self.n if any(set(self.axes.of(p)) - {p.time_axis} for p in self.ports) else 1

    @property
    def length(self) -> int:
        return self.n if self.grows_time else self.frames

    def parts(self, chosen: Sequence[int]) -> Arrays:
        """What the whole takes for these parts alone, in this order."""
        fed = {}
        for port in self.ports:
            values = self.feeds[port.name]
            for axis in self.axes.of(port):
                size = values.shape[axis] // self.n
                values = np.take(values, [k * size + i for k in chosen for i in range(size)], axis)
            if port.counted and self.grows_time:
                values = np.full_like(values, len(chosen))
            fed[port.name] = values
        return fed

    def ours(self) -> dict[str, Trace]:
        """Each output of our streams as [steps, entries, *frame], and after the last step the graph's own states."""
        stream = self.case.model.stream(**self.case.options)
        found: dict[str, list[Array]] = {}
        for entry in range(self.entries):
            if entry and not self.carried:
                stream = self.case.model.stream(**self.case.options)
            frames = [self.case.model.named(stream.step(plain(self.frame(entry, t)))) for t in range(self.length)]
            values = {name: np.stack([frame[name] for frame in frames]) for name in frames[0]}
            for state in self.case.model.states:
                if state.source is not None and state.source[1] not in values:
                    values[state.source[1]] = stream.state[state.name][None].copy()
            for name, value in values.items():
                found.setdefault(name, []).append(value)
        joined = {name: np.stack(values, axis=1) for name, values in found.items()}
        return {n: Trace(STEP, {n: np.arange(self.length)[-len(v) :]}, {n: v}) for n, v in joined.items()}

    def frame(self, entry: int, t: int) -> Arrays:
        """What the stream of one entry takes at one step."""
        frame = {}
        for port in self.ports:
            if not port.heard:
                continue
            values = np.ones_like(self.feeds[port.name]) if port.counted else self.feeds[port.name]
            for axis in set(self.axes.of(port)) - {port.time_axis}:
                size = port.size(axis)
                values = np.take(values, range(entry * size, (entry + 1) * size), axis)
            frame[port.name] = np.ascontiguousarray(
                values if port.time_axis is None else values.take(t, port.time_axis)
            )
        return frame

    def difference(
        self, name: str, whole: Arrays, grown: Mapping[str, Sequence[int]], time: Mapping[str, int]
    ) -> Difference:
        """Our streams from the whole's results.

        Parameters
        ----------
        name : str
            Of the whole.
        whole : dict
            What it gave.
        grown : mapping
            Output -> its axes that grow with the input's.
        time : mapping
            Output -> where its time is, where it does not grow.
        """
        worst: Difference | None = None
        for output, ours in self.ours().items():
            if output not in whole or self._is_of_one_frame(output, whole, grown):
                continue
            readings = [compare(*pair) for pair in self._readings(name, output, ours, whole[output], grown, time)]
            unread = Difference(
                STEP, name, (), problem=f"{output!r} has the shape {whole[output].shape}: no time in it"
            )
            best = min(readings, key=_badness, default=unread)
            worst = best if worst is None or _badness(best) > _badness(worst) else worst
        return worst or Difference(STEP, name, (), problem="no output in common")

    def _is_of_one_frame(self, output: str, whole: Arrays, grown: Mapping[str, Sequence[int]]) -> bool:
        """Of a module that takes one frame at a time, taken further: it may give the first frame's result or the last
        one's, or sum them up. Where its states are seen, they tell whether it goes on as our steps do."""
        states = self.case.state_names.values() & whole.keys()
        return self.carried and bool(states) and output not in states and not grown.get(output)

    def _readings(
        self,
        name: str,
        output: str,
        ours: Trace,
        whole: Array,
        grown: Mapping[str, Sequence[int]],
        time: Mapping[str, int],
    ) -> Iterator[tuple[Trace, Trace]]:
        """Every way to read the whole's result as [steps, entries, *frame]: random numbers fit one of them at most."""
        axes: list[int | None] = [*grown.get(output, ())] or [None]
        for entry_axis in axes if self.entries > 1 else [None]:
            for entries in _entries(whole, entry_axis, self.entries):
                last = self.carried and entry_axis is None  # what the whole gives once, a carried stream gives last
                for time_axis in axes if self.grows_time else [time.get(output)]:
                    if time_axis is not None and time_axis + 1 >= entries.ndim:
                        continue
                    values = entries[None] if time_axis is None else np.moveaxis(entries, time_axis + 1, 0)
                    steps = np.array([self.length - 1]) if time_axis is None else np.arange(len(values))
                    mine = Trace(STEP, ours.steps, {output: ours.values[output][:, -1:]}) if last else ours
                    theirs = values[:, -1:] if last else values
                    yield mine, Trace(name, {output: steps}, {output: theirs})


def _badness(difference: Difference) -> tuple[bool, int, float]:
    return bool(difference.problem), difference.mismatches, difference.scaled


def _entries(whole: Array, axis: int | None, count: int) -> Iterator[Array]:
    """The whole's result as [entries, ...]: blocks along the axis, or every count-th; all alike where none grows."""
    if axis is None:
        yield np.broadcast_to(whole, (count, *whole.shape))
    elif whole.shape[axis] % count == 0:
        size = whole.shape[axis] // count
        before, after = whole.shape[:axis], whole.shape[axis + 1 :]
        yield np.moveaxis(whole.reshape(*before, count, size, *after), axis, 0)
        if size > 1:
            yield np.moveaxis(whole.reshape(*before, size, count, *after), axis + 1, 0)
    else:
        yield whole[None]


def grown_axes(short: Arrays, long: Arrays) -> dict[str, list[int]]:
    """For each output, the axes that are longer in the second of two results."""
    return {
        name: [axis for axis, (m, n) in enumerate(zip(values.shape, long[name].shape, strict=False)) if m != n]
        for name, values in short.items()
    }


def trial(
    case: Case, ports: Sequence[Port], axes: Axes, n: int, frames: int, draw: Draw, carried: bool = False
) -> Trial:
    """A trial with drawn frames."""
    made = Trial(case, ports, axes, n, frames, {}, carried)
    for port in ports:
        made.feeds[port.name] = _filled(made, port, draw)
    return made


def _filled(made: Trial, port: Port, draw: Draw) -> Array:
    """An input of the whole, `n` times as long along the axes that grow."""
    grow = sorted(set(made.axes.of(port)) - {port.time_axis})
    if not port.drawn:
        shape = [size * (made.n if axis in grow else 1) for axis, size in enumerate(port.shape)]
        if port.time_axis is not None:
            shape[port.time_axis] = made.length
        return np.full(shape, made.length if port.counted else 0, port.dtype)
    timed = port.time_axis is not None
    blocks, k = [made.n] * len(grow), len(grow)
    frame = [size for axis, size in enumerate(port.shape) if axis != port.time_axis]
    values = draw(port.name, made.n**k * (made.length if timed else 1))
    values = values.reshape(*blocks, *([made.length] if timed else []), *frame)
    if port.time_axis is not None:
        values = np.moveaxis(values, k, k + port.time_axis)
    for done, axis in enumerate(grow):  # each block's axis goes before the one that it makes longer, and into it
        at = k - done - 1 + axis
        values = np.moveaxis(values, 0, at)
        values = values.reshape(*values.shape[:at], -1, *values.shape[at + 2 :])
    return np.ascontiguousarray(values)
