"""How long a step takes, beside onnxruntime and torch in the same run.

It is not a profiler. Figures of two runs or two machines do not compare; the ratios do. All subjects take
turns, round after round, so that a busy moment of the machine touches each of them, on one thread each. The
median is over rounds (a round is a tight loop, its mean counts), the percentiles over single calls,
where the clock itself adds about 0.05 µs. The suite of benchmarks/ measures in the same way.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

import streamgru
from streamgru._options import as_path, whole_number
from streamgru._options import seed as checked_seed
from streamgru._types import Array
from streamgru._workshop import workshop

from .environment import cpu_name

if TYPE_CHECKING:
    import torch

    from .ort import Session

ROUND_NS = 2_000_000  # each subject runs this long in a round
BLOCK = 64  # frames in one call of `run`
LEAST_ROUNDS = 3
MOST_ROUNDS = 10**6


@dataclass(frozen=True)
class Timing:
    """One subject's times, in microseconds: for one frame, and of single calls, which may do many frames."""

    name: str
    median_us: float
    low_us: float  # first and third quartile of the rounds: the spread
    high_us: float
    ratio: float  # over stream.step: the median of the rounds' ratios
    p99_us: float
    p999_us: float
    max_us: float


@dataclass(frozen=True)
class BenchReport:
    """The timings of one run, and what they were measured on."""

    model: str
    cpu: str
    isa: str
    rounds: int
    timings: tuple[Timing, ...]

    def __getitem__(self, name: str) -> Timing:
        return next(t for t in self.timings if t.name == name)

    def to_dict(self) -> dict[str, Any]:
        """The report as plain data: names, numbers, strings."""
        return asdict(self)

    def to_json(self) -> str:
        """The report as JSON."""
        return json.dumps(self.to_dict(), indent=2)

    def text(self) -> str:
        """The report as a table for people."""
        lines = [
            f"{self.model}: µs per frame, one thread, {self.rounds} interleaved rounds",
            f"{self.cpu}, kernels {self.isa}",
            f"{'':<24}{'median':>9}{'quartiles':>18}{'ratio':>9}   {'a call: p99':>12}{'p99.9':>10}{'max':>10}",
        ]
        for t in self.timings:
            spread = f"{t.low_us:.2f} .. {t.high_us:.2f}"
            lines.append(
                f"{t.name:<24}{t.median_us:>9.2f}{spread:>18}{t.ratio:>8.1f}×   "
                f"{t.p99_us:>12.2f}{t.p999_us:>10.2f}{t.max_us:>10.1f}"
            )
        return "\n".join(lines)


@dataclass
class Subject:
    """What is timed: a call, and how many frames it does. A subclass may count without Python's loop."""

    name: str
    call: Callable[[], object]
    frames: float = 1

    def loop(self, calls: int) -> float:
        """Mean time of a call in a tight loop, ns."""
        start = time.perf_counter_ns()
        for _ in range(calls):
            self.call()
        return (time.perf_counter_ns() - start) / calls

    def each(self, calls: int) -> NDArray[np.int64]:
        """Time of each call, ns."""
        stamps = np.empty(calls + 1, np.int64)
        clock = time.perf_counter_ns
        stamps[0] = clock()
        for i in range(calls):
            self.call()
            stamps[i + 1] = clock()
        return np.diff(stamps)


@dataclass(frozen=True)
class Samples:
    """What was measured of one subject."""

    name: str
    means: NDArray[np.float64]  # [round], ns of a frame
    calls: NDArray[np.int64]  # [call], ns

    def timing(self, reference: Samples) -> Timing:
        """Their summary; the ratio is to `reference`, measured in the same rounds."""
        low, median, high = np.percentile(self.means, [25, 50, 75]) / 1e3
        p99, p999, most = np.percentile(self.calls, [99, 99.9, 100]) / 1e3
        ratio = np.median(self.means / reference.means)
        return Timing(self.name, *map(float, (median, low, high, ratio, p99, p999, most)))


def bench(
    path: str | Path,
    *,
    onnx: str | Path | None = None,
    module: torch.nn.Module | None = None,
    example: Sequence[torch.Tensor] = (),
    rounds: int = 30,
    seed: int = 0,
) -> BenchReport:
    """Time one step of a model, and of its peers where they are there.

    >>> print(bench("model.onnx").text())

    Parameters
    ----------
    path : str or Path
        The model, `.sgru` or `.onnx`.
    onnx : str or Path, optional
        The same model for onnxruntime. By default `path`, where that is an `.onnx`. onnxruntime is timed
        where it is installed; its inputs, state included, stay as they are, so no time goes into handing
        the state back.
    module : torch.nn.Module, optional
        The same model in PyTorch, called as `module(*example)`.
    example : sequence of torch.Tensor
        What `module` is called with: one step.
    rounds : int
        More rounds, a steadier median.
    seed : int
        Of the random frame.

    Returns
    -------
    BenchReport

    Raises
    ------
    OptionError
        `rounds` or `seed` cannot be that.
    ModelError
        The model cannot be loaded.
    """
    rounds, seed = whole_number("rounds", rounds, 1, MOST_ROUNDS), checked_seed(seed)
    path = as_path("path", path)
    peer = as_path("onnx", onnx) if onnx is not None else path if path.suffix == ".onnx" else None
    with ExitStack() as stack:
        subjects = _streamgru_subjects(streamgru.load(path), np.random.default_rng(seed), stack)
        if peer is not None and find_spec("onnxruntime"):
            subjects.append(_onnxruntime_subject(peer, np.random.default_rng(seed)))
        if module is not None:
            subjects.append(_torch_subject(module, example, stack))
        samples = measure(subjects, rounds)
    timings = tuple(s.timing(samples[0]) for s in samples)
    return BenchReport(path.name, cpu_name(), streamgru.isa(), rounds, timings)


def _frame(shape: Sequence[int], dtype: np.dtype[Any], rng: np.random.Generator) -> Array:
    """A random frame; zeros where the dtype is no float, since any index is valid then."""
    if np.issubdtype(dtype, np.floating):
        return rng.standard_normal(shape).astype(dtype)
    return np.zeros(shape, dtype)


def _streamgru_subjects(model: streamgru.Model, rng: np.random.Generator, stack: ExitStack) -> list[Subject]:
    frames = {t.name: _frame(t.shape, t.dtype, rng) for t in model.inputs}
    frames |= {name: np.ones_like(frames[name]) for name in model.lengths.inputs}
    blocks = {t.name: np.stack([frames[t.name]] * BLOCK, axis=t.time_axis or 0) for t in model.inputs}
    one = len(frames) == 1
    x = next(iter(frames.values())) if one else frames
    X = next(iter(blocks.values())) if one else blocks
    stepped, placed, ran = (stack.enter_context(model.stream()) for _ in range(3))
    placed.step(x)  # leaves the frame where step_inplace reads it
    return [
        Subject("stream.step", lambda: stepped.step(x)),
        Subject("stream.step_inplace", placed.step_inplace),
        Subject(f"stream.run, {BLOCK} frames", lambda: ran.run(X), BLOCK),
    ]


def _dtype(word: str) -> np.dtype[Any]:
    """NumPy's name for what onnxruntime calls tensor(float)."""
    name = word.removeprefix("tensor(").removesuffix(")")
    return np.dtype({"float": "float32"}.get(name, name))


def _onnxruntime_subject(path: Path, rng: np.random.Generator) -> Subject:
    session: Session = workshop("ort", f"{path}: timing onnxruntime").open_session(path)
    feeds = {}
    for node in session.get_inputs():
        shape = [d if isinstance(d, int) else 1 for d in node.shape]  # a dynamic axis: one of it
        feeds[node.name] = _frame(shape, _dtype(node.type), rng)
    return Subject("onnxruntime run", lambda: session.run(None, feeds))


def _torch_subject(module: torch.nn.Module, example: Sequence[torch.Tensor], stack: ExitStack) -> Subject:
    modes = workshop("torch_modes", "timing a module")
    for mode in (modes.one_thread(), modes.eval_mode(module), modes.inference_mode()):
        stack.enter_context(mode)
    return Subject("torch module", lambda: module(*example))


def measure(subjects: Sequence[Subject], rounds: int, seconds: float = float("inf")) -> list[Samples]:
    """Time every subject in every round; after `seconds` no more rounds, but at least three."""
    calls = [_calibrate(s) for s in subjects]
    means: list[list[float]] = [[] for _ in subjects]  # [subject][round]
    singles: list[list[NDArray[np.int64]]] = [[] for _ in subjects]
    end = time.monotonic() + seconds
    for turn in range(rounds):
        if turn >= LEAST_ROUNDS and time.monotonic() > end:
            break
        for place in range(len(subjects)):
            i = (place + turn) % len(subjects)  # each begins a round in its turn
            single = subjects[i].each(calls[i])
            mean = subjects[i].loop(calls[i]) if calls[i] > 1 else float(single[0])  # a long call: once is enough
            singles[i].append(single)
            means[i].append(mean / subjects[i].frames)
    return [
        Samples(subject.name, np.array(mean), np.concatenate(single))
        for subject, mean, single in zip(subjects, means, singles, strict=True)
    ]


def _calibrate(subject: Subject) -> int:
    """How many calls fill a round. Warms the subject up as well; twice, as another process may have had the core."""
    calls = 1
    while (ns := min(subject.loop(calls), subject.loop(calls)) * calls) < ROUND_NS and calls < 1 << 20:
        calls *= 2
    return max(1, round(calls * ROUND_NS / ns))
