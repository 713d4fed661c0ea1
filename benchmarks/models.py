"""Whole models: a step of ours against a run of onnxruntime, turn by turn, on one thread each.

    python benchmarks/models.py [MODEL ...] [--models FOLDER] [--rounds 60] [--json FILE]

A round runs each for two milliseconds; shown are medians over the rounds, also of the rounds' ratios. A frame is
made of random numbers; onnxruntime's state inputs stay as they are, so no time goes into handing them back. Not a test:
it judges nothing. The figures of docs/speed.md come from here.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import torch
from torch import nn

import streamgru
from streamgru.bench import cpu_name

FOLDER = Path(os.environ.get("STREAMGRU_MODELS") or Path(__file__).parents[2] / "shared" / "models")
# name -> (file, batch, how many times as fast as onnxruntime it should be)
MODELS = {
    "GTCRN": ("gtcrn/gtcrn_simple", 1, 6.0),
    "RNNoise": ("rnnoise-2018/rnnoise_stream", 1, 8.0),
    "g2p decoder": ("g2p-en/decoder_gru", 1, 3.5),
    "g2p decoder, GRUCell": ("g2p-en/decoder_grucell", 1, 3.5),
    "NKF-AEC, batch 513": ("nkf-aec/nkf_kgnet_step", 513, 2.0),
    "NSNet2": ("nsnet2/nsnet2_state_ts_op17", 1, 1.15),
}
STACK = "three GRUs of 64, Linear"
WANTED = {name: wanted for name, (_, _, wanted) in MODELS.items()} | {STACK: 7.0}
ROUND_NS = 2_000_000


@dataclass(frozen=True)
class Row:
    """One model; times in microseconds a frame."""

    name: str
    step: float
    step_inplace: float
    onnxruntime: float
    ratio: float  # onnxruntime's over step's, the median of the rounds' ratios
    low: float  # its quartiles
    high: float
    ratio_inplace: float
    wanted: float


class Stack(nn.Module):
    """Three GRUs of 64 on each other, and a Linear."""

    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(64, 64, num_layers=3)
        self.linear = nn.Linear(64, 1)

    def forward(self, x: torch.Tensor, h: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        y, h = self.gru(x, h)
        return self.linear(y), h


def export_stack(path: Path) -> None:
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        streamgru.export(Stack().eval(), (torch.randn(1, 1, 64), torch.zeros(3, 1, 64)), path, stream="step")


def measure(name: str, path: Path, batch: int, rounds: int) -> Row:
    model = streamgru.load(path, batch=batch)
    random = np.random.default_rng(0)
    feeds = onnxruntime_feeds(session := onnxruntime_session(path), batch, random)
    frames = {t.name: feeds[t.name].reshape(t.shape) for t in model.inputs}
    x: Any = frames if len(frames) > 1 else next(iter(frames.values()))
    with model.stream() as stepped, model.stream() as placed:
        placed.step(x)
        calls: list[Callable[[], object]] = [
            lambda: stepped.step(x),
            placed.step_inplace,
            lambda: session.run(None, feeds),
        ]
        counts = [calibrated(call) for call in calls]
        times = np.empty((rounds, len(calls)))
        for turn in range(rounds):
            for place in range(len(calls)):
                i = (place + turn) % len(calls)  # each begins a round in its turn
                times[turn, i] = mean_ns(calls[i], counts[i])
    step, inplace, theirs = np.median(times, axis=0) / 1e3
    ratios = times[:, 2] / times[:, 0]
    low, ratio, high = np.percentile(ratios, [25, 50, 75])
    ratio_inplace = np.median(times[:, 2] / times[:, 1])
    return Row(name, *map(float, (step, inplace, theirs, ratio, low, high, ratio_inplace)), WANTED[name])


def onnxruntime_session(path: Path) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def onnxruntime_feeds(session: ort.InferenceSession, batch: int, random: np.random.Generator) -> dict[str, Any]:
    """Random floats, zeros as ids; a dynamic dimension is the batch."""
    feeds = {}
    for port in session.get_inputs():
        shape = [d if isinstance(d, int) else batch for d in port.shape]
        floats = random.standard_normal(shape).astype(np.float32)
        feeds[port.name] = floats if port.type == "tensor(float)" else np.zeros(shape, np.int64)
    return feeds


def mean_ns(call: Callable[[], object], count: int) -> float:
    start = time.perf_counter_ns()
    for _ in range(count):
        call()
    return (time.perf_counter_ns() - start) / count


def calibrated(call: Callable[[], object]) -> int:
    """Calls that fill a round; warms the subject up."""
    count = 1
    while (ns := mean_ns(call, count) * count) < ROUND_NS:
        count *= 2
    return max(1, round(count * ROUND_NS / ns))


def table(rows: list[Row]) -> str:
    lines = [
        f"{cpu_name()}, kernels {streamgru.isa()}; µs a frame, medians",
        f"{'':<26}{'step':>8}{'in place':>10}{'onnxruntime':>13}{'ratio':>8}{'quartiles':>16}"
        f"{'in place':>10}{'asked':>8}",
    ]
    for r in rows:
        spread = f"{r.low:.2f} .. {r.high:.2f}"
        lines.append(
            f"{r.name:<26}{r.step:>8.2f}{r.step_inplace:>10.2f}{r.onnxruntime:>13.1f}{r.ratio:>7.2f}×{spread:>16}"
            f"{r.ratio_inplace:>9.2f}×{r.wanted:>7}×"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="MODEL", help=f"some of: {', '.join(WANTED)} (default: all)")
    parser.add_argument("--models", type=Path, default=FOLDER, help="the folder of the real models")
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--json", type=Path, help="also write the figures here")
    arguments = parser.parse_args()
    names = arguments.names or list(WANTED)
    if unknown := sorted(set(names) - set(WANTED)):
        parser.error(f"no such model: {', '.join(unknown)}")
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            file, batch, _ = MODELS.get(name, ("", 1, 0))
            path = arguments.models / f"{file}.onnx" if file else Path(folder) / "stack.onnx"
            if not file:
                export_stack(path)
            rows.append(measure(name, path, batch, arguments.rounds))
    print(table(rows))
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps([asdict(r) for r in rows], indent=2))


if __name__ == "__main__":
    main()
