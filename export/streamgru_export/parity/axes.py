"""The whole against the stream: what the file lets run in one call must be what our stream makes of it.

Every other subject of the certificate steps the graph that we believe in, and shares the belief. Here onnxruntime and
the module take 2, 3 and 17 frames in one call along every axis that the file leaves open, whatever we call it. Along
the axis that we call time the stream must give what the whole gives; along any other each entry must be what a stream
of its own gives. Where neither holds, the axis is named, with what it seems to be.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from itertools import combinations

import numpy as np

from streamgru._types import Array
from streamgru.errors import StreamgruError

from ..differences import Difference
from .advice import Advice
from .findings import COUNTED, GATHERED, MEMORY, MIXED, SINGLE, AxisCheck, Outcome
from .traces import Arrays, Case, NotComparedError, Shape, plain
from .trial import Axes, Draw, Port, Trial, Whole, grown_axes, trial

SIZES = (2, 3, 17)
FRAMES = 3  # along time, while another axis is tried
ALIKE = 1e-5  # of the scale: what two calls of one float32 implementation may differ by
MODULE = "the module"  # the name of a whole that is no graph
UNIONS = 32  # attempts at axes that run only together


@dataclass
class Attempt:
    """What the whole gave for each size that it takes, and why it refused the others."""

    axes: Axes
    trials: dict[int, Trial] = field(default_factory=dict)
    results: dict[int, Arrays] = field(default_factory=dict)
    refused: dict[int, str] = field(default_factory=dict)

    @property
    def grown(self) -> dict[str, list[int]]:
        """For each output, the axes that grow; known once two sizes were run."""
        sizes = sorted(self.results)
        return grown_axes(*(self.results[n] for n in sizes[:2])) if len(sizes) > 1 else {}


def open_axes(shapes: Mapping[str, Shape]) -> list[Axes]:
    """The axes that a file leaves open: those of one name together, each unnamed one by itself."""
    named: dict[str, list[tuple[str, int]]] = {}
    unnamed = []
    for name, shape in shapes.items():
        for axis, size in enumerate(shape):
            if isinstance(size, int) and size > 0:
                continue
            if size:
                named.setdefault(str(size), []).append((name, axis))
            else:
                unnamed.append(Axes(((name, axis),)))
    return [Axes(tuple(places), repr(symbol)) for symbol, places in named.items()] + unnamed


def ports_of(case: Case, shapes: Mapping[str, Shape]) -> list[Port]:
    """Every input of the file, in the sizes that the stream is bound to."""
    heard = {tensor.name: tensor for tensor in case.model.inputs}
    states = case.initial_states()
    found = []
    for name in shapes:
        if name in heard:
            tensor, axis = heard[name], heard[name].time_axis
            shape = tensor.shape if axis is None else (*tensor.shape[:axis], 1, *tensor.shape[axis:])
            length = name in case.lengths
            found.append(Port(name, shape, tensor.dtype, axis, heard=True, drawn=not length, counted=length))
        elif name in states:
            found.append(Port(name, states[name].shape, states[name].dtype))
        elif name in case.unheard:
            fill = case.unheard[name]
            found.append(Port(name, fill.shape, fill.dtype, counted=fill.dtype.kind in "iu"))
    return found


class Comparison:
    """One whole beside the streams of a case.

    Parameters
    ----------
    name : str
        Of the whole.
    whole : Whole
    case : Case
    shapes : mapping
        The file's own input shapes.
    draw : Draw
    tolerance : float
    advice : Advice
    """

    def __init__(
        self,
        name: str,
        whole: Whole,
        case: Case,
        shapes: Mapping[str, Shape],
        draw: Draw,
        tolerance: float,
        advice: Advice,
    ) -> None:
        self.name, self.whole, self.case, self.draw = name, whole, case, draw
        self.tolerance, self.advice = tolerance, advice
        self.ports = ports_of(case, shapes)
        by_name = {port.name: port for port in self.ports}
        self.open = [
            axes for axes in open_axes(shapes) if all(a < len(by_name[n].shape) for n, a in axes.places if n in by_name)
        ]
        self.time = [(p.name, p.time_axis) for p in self.ports if p.time_axis is not None]
        lengths = [shapes[n][a] for n, a in self.time]
        self.burnt_in = next(
            (n for n in lengths if isinstance(n, int) and n > 0), None
        )  # frames that the file insists on
        self.time_grew: dict[str, int] = {t.name: t.time_axis for t in case.model.outputs if t.time_axis is not None}

    def checks(self, longer: bool = False) -> Iterator[AxisCheck]:
        """Every open axis; with `longer` also those that the file fixes and the whole may take longer."""
        timely = [axes for axes in self.open if set(axes.places) & set(self.time)]
        others = [axes for axes in self.open if axes not in timely]
        if timely or (longer and self.time):
            missing = tuple(place for place in self.time if not any(place in axes.places for axes in timely))
            if missing and longer:
                timely.append(Axes(missing, f"{self.burnt_in} in the file"))
            yield self._check(_union(timely), others, "time")
        for axes in others:
            yield self._check(axes, [other for other in others if other is not axes], "batch")

    def ignored(self) -> Iterator[str]:
        """The inputs of the file that the stream does not take, though the results depend on them."""
        frames = FRAMES if self.time and self.burnt_in is None else self.burnt_in or 1
        for port in (port for port in self.ports if port.name in self.case.unheard):
            usual = trial(self.case, self.ports, Axes(()), 1, frames, self.draw).feeds
            other = np.ones_like(usual[port.name])
            try:
                one, two = (self.whole.run({**usual, port.name: value}) for value in (usual[port.name], other))
            except NotComparedError:
                continue
            names = [tensor.name for tensor in self.case.model.outputs if tensor.name in one]
            if any(not _alike(one[name], two[name]) for name in names):
                what = ", which says how long the sequences are" if port.counted else ""
                yield f"the stream does not take the input {port.name!r}{what}, and the graph's results depend on it"

    def disobeyed(self) -> Iterator[str]:
        """The lengths that a run of a sequence does not obey: each of a sequence that has more frames."""
        for name in self.case.lengths if self.time and self.burnt_in is None else ():
            feeds = trial(self.case, self.ports, Axes(()), 1, 2 * FRAMES, self.draw).feeds
            feeds[name] = np.full_like(feeds[name], FRAMES)
            heard = {port.name: feeds[port.name] for port in self.ports if port.heard}
            try:
                whole = self.whole.run(feeds)
                ours = self.case.model.named(self.case.model.run(plain(heard)))
            except StreamgruError:  # a length that is refused is not ignored
                continue
            if any(not _alike(ours[key], whole[key]) for key in ours if key in whole):
                yield f"Model.run does not obey {name!r}, which says how long the sequences are"

    def step_checks(self, shapes: Mapping[str, Shape]) -> Iterator[AxisCheck]:
        """Of a step graph's module: the axes of length 1 that the module takes longer, as if each were time."""
        inputs = {tensor.name: shapes[tensor.name] for tensor in self.case.model.inputs if tensor.name in shapes}
        for axis in range(max(map(len, inputs.values()), default=0)):
            places = tuple((name, axis) for name, shape in inputs.items() if axis < len(shape) and shape[axis] == 1)
            if places:
                yield from self._as_time(Axes(places, "1 in the file"))

    def _check(self, axes: Axes, others: Sequence[Axes], taken_for: str) -> AxisCheck:
        attempt = self._attempt(axes)
        alone = dict(attempt.refused)
        for union in _unions(axes, others) if not attempt.results else ():
            attempt = self._attempt(union)
            if attempt.results:
                break
        if not attempt.results:
            return self._made(axes, taken_for, (), None, "untried", _refusals(self.name, alone))
        if taken_for == "time":
            self.time_grew.update({name: grown[0] for name, grown in attempt.grown.items() if len(grown) == 1})
        return self._judge(attempt, taken_for)

    def _attempt(self, axes: Axes, carried: bool = False) -> Attempt:
        """The whole at each size that it takes."""
        attempt = Attempt(axes)
        frames = self.burnt_in or FRAMES
        for n in SIZES:
            made = trial(self.case, self.ports, axes, n, frames if self.time else 1, self.draw, carried)
            try:
                attempt.results[n] = self.whole.run(made.feeds)
                attempt.trials[n] = made
            except NotComparedError as reason:
                attempt.refused[n] = str(reason)
        return attempt

    def _differences(self, attempt: Attempt) -> dict[int, Difference]:
        return {
            n: made.difference(self.name, attempt.results[n], attempt.grown, self.time_grew)
            for n, made in attempt.trials.items()
        }

    def _judge(self, attempt: Attempt, taken_for: str) -> AxisCheck:
        try:
            differences = self._differences(attempt)
        except StreamgruError as error:
            return self._made(attempt.axes, taken_for, (), None, "untried", f"our stream refuses the frames: {error}")
        worst = max(differences.values(), key=lambda d: (d.mismatches, d.scaled))
        refused = f"; {_refusals(self.name, attempt.refused)}" if attempt.refused else ""
        if worst.scaled <= self.tolerance and not worst.mismatches:
            return self._made(attempt.axes, taken_for, attempt.trials, worst, "holds", refused[2:])
        seems = self._seems(attempt)
        if taken_for == "batch" and seems in (MIXED, GATHERED, COUNTED) and self._bound(attempt.axes) > 1:
            words = (
                f"bound to {self._bound(attempt.axes)}, and its entries depend on one another: held for that size alone"
            )
            return self._made(attempt.axes, taken_for, attempt.trials, worst, "bound", words)
        words = self._words(attempt.axes, taken_for, seems, worst)
        return self._made(attempt.axes, taken_for, attempt.trials, worst, "fails", words + refused, seems)

    def _as_time(self, axes: Axes) -> Iterator[AxisCheck]:
        """A longer call of a module against as many of our steps; nothing where the axis is no time of it."""
        try:
            as_time, as_batch = self._attempt(axes, carried=True), None
            held = self._holds(as_time)
            if as_time.results and not held:
                as_batch = self._attempt(axes)
        except StreamgruError:  # our stream refuses the frames
            return
        if held:
            worst = max(self._differences(as_time).values(), key=lambda d: d.scaled)
            yield self._made(axes, "time", as_time.trials, worst, "holds", "")
        elif as_batch is not None and not self._holds(as_batch) and self._seems(as_time) == MEMORY:
            worst = max(self._differences(as_time).values(), key=lambda d: (d.mismatches, d.scaled))
            words = (
                f"{self.name} carries memory along {axes}, and our steps, one after the other, do not give it: off by "
                f"{worst.scaled:.2g}. {self._paired(axes)}"
            )
            yield self._made(axes, "time", as_time.trials, worst, "fails", words, MEMORY)

    def _paired(self, axes: Axes) -> str:
        """Which other pairs of states give what the module gives; tried, so that the advice is right."""
        for pairs, model in self.advice.pairings(self.case.model):
            other = copy(self)
            other.case = replace(self.case, model=model)
            if other._holds(other._attempt(axes, carried=True)):
                return f"With state={pairs} they do"
        return "A state is lost, or continued by the output of another, and no exchange of two mends it"

    def _holds(self, attempt: Attempt) -> bool:
        found = self._differences(attempt).values()
        return bool(found) and all(d.scaled <= self.tolerance and not d.mismatches for d in found)

    def _bound(self, axes: Axes) -> int:
        """How many entries the stream takes at once."""
        return max(port.size(axis) for port in self.ports for axis in axes.of(port))

    def _seems(self, attempt: Attempt) -> str:
        """What the whole itself does along the axes: our stream has no part in it."""
        longest = attempt.trials.get(3)
        if longest is None:
            return ""
        whole, grown = attempt.results[3], attempt.grown
        try:
            two, *alone = (self.whole.run(longest.parts(chosen)) for chosen in ((0, 1), (0,), (1,), (2,)))
        except NotComparedError:
            return ""
        names = [name for name in whole if grown.get(name)]
        if not names:
            return self._gathered(longest, whole, alone[2])
        thirds = {name: _parts(whole[name], grown[name][0], 3) for name in names}
        if all(_alike(thirds[name][k], alone[k][name]) for name in names for k in range(3)):
            return SINGLE
        halves = {name: _parts(two[name], grown[name][0], 2) for name in names}
        if all(_alike(thirds[name][k], halves[name][k]) for name in names for k in range(2)):
            return MEMORY
        other = self.whole.run(longest.parts((0, 1, 0)))
        others = {name: _parts(other[name], grown[name][0], 3) for name in names}
        return COUNTED if all(_alike(thirds[name][k], others[name][k]) for name in names for k in range(2)) else MIXED

    def _gathered(self, longest: Trial, whole: Arrays, last: Arrays) -> str:
        """What the whole does where no output grows: of what gathers up its entries, their order tells a recurrence."""
        if all(_alike(values, last[name]) for name, values in whole.items()):
            return SINGLE
        turned = self.whole.run(longest.parts((1, 0, 2)))
        return GATHERED if all(_alike(values, turned[name]) for name, values in whole.items()) else MEMORY

    def _words(self, axes: Axes, taken_for: str, seems: str, worst: Difference) -> str:
        """Why a check fails."""
        off = worst.problem or f"off by {worst.scaled:.2g} of the scale"
        whose = self.name if self.name == MODULE else "the graph"
        if seems == COUNTED:
            kind = "a batch" if taken_for == "batch" else "time"
            return f"{whose}'s results depend on the length of {axes}, which the stream takes for {kind}: {off}"
        if taken_for == "batch":
            believed = "which the stream takes for a batch"
            if seems in (MEMORY, GATHERED):
                inputs = {tensor.name for tensor in self.case.model.inputs}
                advice = self.advice.time({name: axis for name, axis in axes.places if name in inputs})
                return f"{whose} {seems} {axes}, {believed}{advice}"
            if seems == MIXED:
                return f"the entries along {axes}, {believed}, depend on one another in {whose}: {off}"
            return f"along {axes}, {believed}, an entry of the whole is not what a stream gives for it: {off}"
        if seems == MIXED:
            return f"{whose} looks ahead along {axes}, which the stream takes for time: {off}"
        if seems == SINGLE:
            return f"{whose} keeps no memory along {axes}, which the stream takes for time: {off}"
        return f"along {axes}, our time, the stream does not give what {self.name} gives in one call: {off}"

    def _made(
        self,
        axes: Axes,
        taken_for: str,
        sizes: Iterable[int],
        worst: Difference | None,
        outcome: Outcome,
        words: str,
        seems: str = "",
    ) -> AxisCheck:
        scaled = None if worst is None else worst.scaled
        return AxisCheck(self.name, axes.places, str(axes), taken_for, tuple(sizes), scaled, outcome, words, seems)


def _union(axes: Sequence[Axes]) -> Axes:
    first, *rest = axes
    for other in rest:
        first += other
    return first


def _unions(axes: Axes, others: Sequence[Axes]) -> Iterator[Axes]:
    """The axes together with others, few at first."""
    found = (_union((axes, *more)) for count in range(1, len(others) + 1) for more in combinations(others, count))
    for _, union in zip(range(UNIONS), found, strict=False):
        yield union


def _refusals(name: str, refused: Mapping[int, str]) -> str:
    *most, last = map(str, refused)
    sizes = f"{', '.join(most)} and {last}" if most else last
    return f"{name} refuses {sizes}: {next(iter(refused.values()))}"


def _parts(values: Array, axis: int, count: int) -> list[Array]:
    """The parts of an axis that grew: of equal length, where they can be."""
    return np.array_split(values, count, axis)


def _alike(a: Array, b: Array) -> bool:
    if a.shape != b.shape:
        return False
    if a.dtype.kind != "f":
        return bool(np.array_equal(a, b))
    scale = max(1.0, float(np.max(np.abs(b[np.isfinite(b)]), initial=0.0)))
    return bool(np.allclose(a, b, rtol=0, atol=ALIKE * scale, equal_nan=True))
