"""How long a step takes, beside onnxruntime and torch in the same run.

It is not a profiler. Figures of two runs or two machines do not compare; the ratios do. All subjects take
turns, round after round, so that a busy moment of the machine touches each of them, on one thread each. The
median is over rounds (a round is a tight loop, its mean counts), the 99th percentile over single calls,
where the clock itself adds about 0.05 µs.
"""

from __future__ import annotations

import json
import platform
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

if TYPE_CHECKING:
    import torch

ROUND_NS = 2_000_000  # each subject runs this long in a round
BLOCK = 64  # frames in one call of `run`

# onnxruntime names its types this way.
_DTYPES = {
    "tensor(float)": np.float32,
    "tensor(double)": np.float64,
    "tensor(float16)": np.float16,
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
    "tensor(int8)": np.int8,
    "tensor(uint8)": np.uint8,
    "tensor(bool)": np.bool_,
}


@dataclass(frozen=True)
class Timing:
    """One subject's time for one frame, in microseconds."""

    name: str
    median_us: float
    low_us: float  # first and third quartile of the rounds: the spread
    high_us: float
    p99_us: float | None  # of single calls; None where a call does many frames
    ratio: float  # this median over the median of stream.step


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
            f"{'':<24}{'median':>9}{'quartiles':>18}{'p99':>9}{'ratio':>9}",
        ]
        for t in self.timings:
            p99 = "" if t.p99_us is None else f"{t.p99_us:.2f}"
            spread = f"{t.low_us:.2f} .. {t.high_us:.2f}"
            lines.append(f"{t.name:<24}{t.median_us:>9.2f}{spread:>18}{p99:>9}{t.ratio:>8.1f}×")
        return "\n".join(lines)


@dataclass
class _Subject:
    name: str
    call: Callable[[], object]
    frames: int = 1  # frames that one call does


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
    """
    if rounds < 1:
        raise ValueError(f"rounds is {rounds}; at least one is needed")
    path = Path(path)
    peer = Path(onnx) if onnx is not None else path if path.suffix == ".onnx" else None
    with ExitStack() as stack:
        subjects = _streamgru_subjects(streamgru.load(path), np.random.default_rng(seed), stack)
        if peer is not None and find_spec("onnxruntime"):
            subjects.append(_onnxruntime_subject(peer, np.random.default_rng(seed)))
        if module is not None:
            subjects.append(_torch_subject(module, example, stack))
        timings = _measure(subjects, rounds)
    return BenchReport(path.name, cpu_name(), streamgru.isa(), rounds, timings)


def _frame(shape: Sequence[int], dtype: Any, rng: np.random.Generator) -> NDArray[Any]:
    """A random frame; zeros where the dtype is no float, since any index is valid then."""
    if np.issubdtype(dtype, np.floating):
        return rng.standard_normal(shape).astype(dtype)
    return np.zeros(shape, dtype)


def _streamgru_subjects(model: streamgru.Model, rng: np.random.Generator, stack: ExitStack) -> list[_Subject]:
    frames = {t.name: _frame(t.shape, t.dtype, rng) for t in model.inputs}
    blocks = {t.name: np.stack([frames[t.name]] * BLOCK, axis=t.time_axis or 0) for t in model.inputs}
    one = len(frames) == 1
    x: Any = next(iter(frames.values())) if one else frames
    X: Any = next(iter(blocks.values())) if one else blocks
    stepped, placed, ran = (stack.enter_context(model.stream()) for _ in range(3))
    placed.step(x)  # leaves the frame where step_inplace reads it
    return [
        _Subject("stream.step", lambda: stepped.step(x)),
        _Subject("stream.step_inplace", placed.step_inplace),
        _Subject(f"stream.run, {BLOCK} frames", lambda: ran.run(X), BLOCK),
    ]


def _onnxruntime_subject(path: Path, rng: np.random.Generator) -> _Subject:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    feeds = {}
    for node in session.get_inputs():
        shape = [d if isinstance(d, int) else 1 for d in node.shape]  # a dynamic axis: one of it
        feeds[node.name] = _frame(shape, _DTYPES[node.type], rng)
    return _Subject("onnxruntime run", lambda: session.run(None, feeds))


def _torch_subject(module: torch.nn.Module, example: Sequence[torch.Tensor], stack: ExitStack) -> _Subject:
    import torch

    stack.callback(torch.set_num_threads, torch.get_num_threads())
    torch.set_num_threads(1)
    stack.callback(module.train, module.training)
    module.eval()
    stack.enter_context(torch.inference_mode())
    return _Subject("torch module", lambda: module(*example))


def _measure(subjects: Sequence[_Subject], rounds: int) -> tuple[Timing, ...]:
    """Time every subject in every round."""
    calls = [_calibrate(s) for s in subjects]
    means: list[list[float]] = [[] for _ in subjects]  # [subject][round], ns per call
    singles: list[list[NDArray[np.int64]]] = [[] for _ in subjects]
    for turn in range(rounds):
        for place in range(len(subjects)):
            i = (place + turn) % len(subjects)  # each begins a round in its turn
            means[i].append(_loop(subjects[i].call, calls[i]))
            singles[i].append(_each(subjects[i].call, calls[i]))
    medians = [float(np.median(m)) / s.frames for m, s in zip(means, subjects, strict=True)]
    timings = []
    for subject, mean, single, median in zip(subjects, means, singles, medians, strict=True):
        low, high = np.percentile(mean, [25, 75]) / subject.frames
        p99 = float(np.percentile(np.concatenate(single), 99)) / 1e3 if subject.frames == 1 else None
        timings.append(Timing(subject.name, median / 1e3, low / 1e3, high / 1e3, p99, median / medians[0]))
    return tuple(timings)


def _calibrate(subject: _Subject) -> int:
    """How many calls fill a round. Warms the subject up as well."""
    calls = 1
    while (ns := _loop(subject.call, calls) * calls) < ROUND_NS and calls < 1 << 20:
        calls *= 2
    return max(1, round(calls * ROUND_NS / ns))


def _loop(call: Callable[[], object], calls: int) -> float:
    """Mean time of a call in a tight loop, ns."""
    start = time.perf_counter_ns()
    for _ in range(calls):
        call()
    return (time.perf_counter_ns() - start) / calls


def _each(call: Callable[[], object], calls: int) -> NDArray[np.int64]:
    """Time of each call, ns."""
    stamps = np.empty(calls + 1, np.int64)
    clock = time.perf_counter_ns
    stamps[0] = clock()
    for i in range(calls):
        call()
        stamps[i + 1] = clock()
    return np.diff(stamps)


def cpu_name() -> str:
    """The CPU's name as the system tells it."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        return platform.processor() or platform.machine()
    return platform.processor() or platform.machine()
