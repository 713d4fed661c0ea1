"""How far two runs of the same model are apart: the numbers of a parity check.

It runs nothing (`parity/traces.py` does) and judges nothing (`parity/check.py` does).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from streamgru._types import Array

F64 = NDArray[np.float64]

WINDOWS = 10  # of a drift
SMALL = 1e-6


@dataclass(frozen=True)
class Trace:
    """What one implementation gave.

    Attributes
    ----------
    name : str
        Of the implementation.
    steps : mapping
        For each output, the steps it has a value for, ascending: int64 [n].
    values : mapping
        For each output, these values: [n, *frame].
    ended : str
        Why it has no more steps than it has, such as a time limit; empty where it ran to the end.
    """

    name: str
    steps: Mapping[str, NDArray[np.int64]]
    values: Mapping[str, Array]
    ended: str = ""

    @property
    def reached(self) -> int:
        """How many steps it was taken through."""
        return max((int(steps[-1]) + 1 for steps in self.steps.values() if len(steps)), default=0)


@dataclass(frozen=True)
class Worst:
    """The place of the largest absolute difference."""

    output: str
    step: int
    index: tuple[int, ...]
    candidate: float
    reference: float


@dataclass(frozen=True)
class OutputDifference:
    """The difference in one output, over all common steps."""

    output: str
    steps: int
    max_abs: float
    max_rel: float  # where |reference| > SMALL × scale: below, only the absolute difference says anything
    rmse: float
    max_ulp: int | None  # in float32's last place, likewise; None for integers, infinities and NaN
    scale: float  # max(1, largest finite |reference|): what a tolerance is multiplied with
    mismatches: int  # of integers and booleans, which must be equal
    rms: float  # root mean square of the finite reference
    worst: Worst

    @property
    def scaled(self) -> float:
        """max_abs / scale: the number held against a tolerance."""
        return self.max_abs / self.scale

    @property
    def relative(self) -> float:
        """rmse / rms: what weights of fewer bits are judged by."""
        return self.rmse / self.rms if self.rms > 0 else float(self.rmse > 0)


@dataclass(frozen=True)
class DriftWindow:
    """The difference within steps `first` to `last`, both included."""

    first: int
    last: int
    max_abs: float
    rmse: float


@dataclass(frozen=True)
class Difference:
    """A candidate's difference from a reference."""

    candidate: str
    reference: str
    outputs: tuple[OutputDifference, ...]
    windows: tuple[DriftWindow, ...] = ()
    problem: str = ""  # shapes that do not fit, no common step; then there are no numbers
    per_step: tuple[NDArray[np.int64], F64] | None = field(default=None, repr=False, compare=False)

    @property
    def max_abs(self) -> float:
        return max((o.max_abs for o in self.outputs), default=np.inf)

    @property
    def max_rel(self) -> float:
        return max((o.max_rel for o in self.outputs), default=np.inf)

    @property
    def rmse(self) -> float:
        return max((o.rmse for o in self.outputs), default=np.inf)

    @property
    def max_ulp(self) -> int | None:
        return max((o.max_ulp for o in self.outputs if o.max_ulp is not None), default=None)

    @property
    def mismatches(self) -> int:
        return sum(o.mismatches for o in self.outputs)

    @property
    def scaled(self) -> float:
        """The largest difference of any output, over that output's scale. Infinite where nothing was
        compared."""
        return np.inf if self.problem else max((o.scaled for o in self.outputs), default=np.inf)

    @property
    def steps(self) -> int:
        """How many steps were compared, of the output that both have at the most."""
        return max((o.steps for o in self.outputs), default=0)

    @property
    def worst(self) -> Worst | None:
        """Where the absolute difference is largest."""
        return max(self.outputs, key=lambda o: o.max_abs).worst if self.outputs else None

    @property
    def decisive(self) -> Worst | None:
        """Where the output that a verdict fails on first is furthest off: by integers, then by its scale."""
        return max(self.outputs, key=lambda o: (o.mismatches, o.scaled)).worst if self.outputs else None


def compare(candidate: Trace, reference: Trace) -> Difference:
    """The difference over all outputs and steps that both have.

    Values are compared in float64. Equal infinities and NaN against NaN count as no difference, NaN against
    anything else as an infinite one.
    """
    outputs, squares = [], {}
    for name in (name for name in candidate.values if name in reference.values):
        _, rows, other_rows = np.intersect1d(candidate.steps[name], reference.steps[name], return_indices=True)
        a, b = candidate.values[name][rows], reference.values[name][other_rows]
        if a.shape != b.shape:
            problem = f"output {name!r}: a frame is {a.shape[1:]}, that of {reference.name} is {b.shape[1:]}"
            return Difference(candidate.name, reference.name, (), problem=problem)
        if not a.size:
            continue
        steps, difference = candidate.steps[name][rows], _absolute(a, b)
        outputs.append(_output_difference(name, steps, a, b, difference))
        if b.dtype.kind == "f":
            squares[name] = steps, difference.reshape(len(steps), -1)
    if not outputs:
        return Difference(candidate.name, reference.name, (), problem="no output and step in common")
    windows, per_step = _drift(squares)
    return Difference(candidate.name, reference.name, tuple(outputs), windows, per_step=per_step)


def same_bits(a: Trace, b: Trace) -> bool:
    """Whether both hold the same outputs, steps and bits."""
    return a.values.keys() == b.values.keys() and all(
        np.array_equal(a.steps[name], b.steps[name])
        and a.values[name].dtype == b.values[name].dtype
        and a.values[name].shape == b.values[name].shape
        and np.ascontiguousarray(a.values[name]).tobytes() == np.ascontiguousarray(b.values[name]).tobytes()
        for name in a.values
    )


def ulp_distance(a: Array, b: Array) -> NDArray[np.int64]:
    """How many float32 numbers lie from a to b, both rounded to float32 first. +0 and -0 are one number."""

    def rank(x: Array) -> NDArray[np.int64]:
        bits = np.ascontiguousarray(x, np.float32).view(np.int32).astype(np.int64)
        ranks: NDArray[np.int64] = np.where(bits < 0, -(bits & 0x7FFFFFFF), bits)
        return ranks

    with np.errstate(over="ignore"):
        distance: NDArray[np.int64] = np.abs(rank(a) - rank(b))
        return distance


def _absolute(a: Array, b: Array) -> F64:
    """|a - b| in float64."""
    with np.errstate(invalid="ignore"):
        x, y = a.astype(np.float64), b.astype(np.float64)
        difference = np.abs(x - y)
    difference[(x == y) | (np.isnan(x) & np.isnan(y))] = 0.0
    difference[np.isnan(difference)] = np.inf
    return difference


def _output_difference(name: str, steps: NDArray[np.int64], a: Array, b: Array, difference: F64) -> OutputDifference:
    """The numbers of one output: a, b and difference are [n, *frame]."""
    at = tuple(int(k) for k in np.unravel_index(np.argmax(difference), difference.shape))
    worst = Worst(name, int(steps[at[0]]), at[1:], float(a[at]), float(b[at]))
    if b.dtype.kind != "f":
        return OutputDifference(name, len(steps), 0.0, 0.0, 0.0, None, 1.0, int(np.sum(a != b)), 0.0, worst)
    size = np.abs(b.astype(np.float64))
    finite = np.isfinite(a) & np.isfinite(b)
    scale = max(1.0, float(np.max(size[np.isfinite(size)], initial=0.0)))
    counted = finite & (size > SMALL * scale)
    return OutputDifference(
        output=name,
        steps=len(steps),
        max_abs=float(difference.max()),
        max_rel=float(np.max(difference[counted] / size[counted], initial=0.0)),
        rmse=float(np.sqrt(np.mean(difference**2))),
        max_ulp=int(np.max(ulp_distance(a[counted], b[counted]), initial=0)) if finite.all() else None,
        scale=scale,
        mismatches=0,
        rms=float(np.sqrt(np.mean(size[np.isfinite(size)] ** 2))) if np.isfinite(size).any() else 0.0,
        worst=worst,
    )


def _drift(
    differences: Mapping[str, tuple[NDArray[np.int64], F64]],
) -> tuple[tuple[DriftWindow, ...], tuple[NDArray[np.int64], F64] | None]:
    """The windows, and the largest difference at each step. differences: steps [n] and values [n, elements].

    Only over the outputs known at the most steps: one that is known after the last step alone, as a state is,
    would look like drift.
    """
    if not differences:
        return (), None
    most = max(len(steps) for steps, _ in differences.values())
    full = [(steps, values) for steps, values in differences.values() if len(steps) == most]
    steps = full[0][0]
    largest = np.max([values.max(axis=1) for _, values in full], axis=0)
    squares = np.sum([(values**2).sum(axis=1) for _, values in full], axis=0)
    elements = sum(values.shape[1] for _, values in full)
    windows = tuple(
        DriftWindow(
            int(steps[part[0]]),
            int(steps[part[-1]]),
            float(largest[part].max()),
            float(np.sqrt(squares[part].mean() / elements)),
        )
        for part in np.array_split(np.arange(len(steps)), WINDOWS)
        if len(part)
    )
    return windows, (steps, largest)


@dataclass(frozen=True)
class Latency:
    """Times of single calls, in microseconds, the clock's own 0.05 µs included."""

    name: str
    median_us: float
    p99_us: float
    max_us: float
    samples_us: F64 = field(repr=False, compare=False)


def measure_latency(calls: Mapping[str, Callable[[int], object]], frames: int, rounds: int = 20) -> list[Latency]:
    """Time calls side by side: they take turns, so that a busy moment of the machine touches each of them.

    Parameters
    ----------
    calls : mapping
        Name and function of a frame's number, 0 ... frames - 1.
    frames : int
        Each call is timed so often, or up to `rounds - 1` times less.
    """
    samples: dict[str, list[int]] = {name: [] for name in calls}
    for part in np.array_split(np.arange(frames), min(rounds, frames)):
        for name, call in calls.items():
            samples[name] += _time_calls(call, part.tolist())
    return [_latency(name, times) for name, times in samples.items()]


def _time_calls(call: Callable[[int], object], frames: Sequence[int]) -> list[int]:
    clock = time.perf_counter_ns
    call(frames[0])  # the first call after a change finds cold caches
    times = []
    for frame in frames:
        start = clock()
        call(frame)
        times.append(clock() - start)
    return times


def _latency(name: str, nanoseconds: Sequence[int]) -> Latency:
    us = np.asarray(nanoseconds) / 1000.0
    return Latency(name, float(np.median(us)), float(np.percentile(us, 99)), float(us.max()), us)
