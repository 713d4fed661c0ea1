"""The family in one table: every cell of the zoo exported, compiled, streamed, proved and timed.

Each is a :class:`CellNet` of one cell, H = 64, of random weights, with normalisers as if trained. The error is the
largest difference between the stream and the float64 oracle, torch and onnxruntime over the frames asked for, in the
output's scale; the speed-up is over onnxruntime's `run` of the same step.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

import streamgru
import streamgru_export
from streamgru.bench import bench

from ..zoo import CELLS, CellNet

INPUTS, HIDDEN_SIZE, OUTPUTS = 16, 64, 8
STEPS = 10_000


@dataclass
class Row:
    """One cell by one exporter."""

    cell: str
    exporter: str
    runs_as: str
    operators: int
    error: float
    holds: bool
    step_us: float
    speed_up: float


def make_net(name: str, seed: int = 0) -> CellNet:
    """The cell under a Linear; normalisers have running values, gains and offsets of their own."""
    torch.manual_seed(seed)
    net = CellNet([CELLS[name](INPUTS, HIDDEN_SIZE)], OUTPUTS)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm1d) and module.running_mean is not None and module.running_var is not None:
            module.running_mean.uniform_(-0.3, 0.3)
            module.running_var.uniform_(0.1, 1.0)
        if isinstance(module, nn.BatchNorm1d | nn.LayerNorm):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.3, 0.3)
    return net.eval()


def measure(name: str, exporter: str, folder: Path, *, steps: int = STEPS, rounds: int = 30) -> Row:
    """One row; leaves the model and its parity page in `folder`."""
    net = make_net(name)
    onnx, sgru = folder / f"{name}-{exporter}.onnx", folder / f"{name}-{exporter}.sgru"
    example = (torch.zeros(1, INPUTS), net.initial_state())
    streamgru_export.export(net, example, onnx, stream="step", exporter="legacy" if exporter == "legacy" else "dynamo")
    operators = streamgru_export.compile(onnx, sgru).program.operators
    report = streamgru.parity(sgru, module=net, onnx=onnx, steps=steps)
    report.save_html(sgru.with_suffix(".html"))
    codes = {operator.code.name for operator in operators}
    runs_as = next((code for code in ("GRU", "LSTM", "RNN") if code in codes), "parts")
    timing = bench(sgru, onnx=onnx, rounds=rounds)
    error = max(check.difference.scaled for check in report.checks)
    speed_up = timing["onnxruntime run"].ratio
    step = timing["stream.step"].median_us
    return Row(name, exporter, runs_as, len(operators), error, report.ok, step, speed_up)


def measure_all(folder: Path, say: Callable[[str], None] = print, *, steps: int = STEPS, rounds: int = 30) -> list[Row]:
    """Every cell by both exporters."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for name in CELLS:
        for exporter in ("dynamo", "legacy"):
            rows.append(measure(name, exporter, folder, steps=steps, rounds=rounds))
            say(line(rows[-1]))
    return rows


def line(row: Row) -> str:
    """A row of the Markdown table."""
    verdict = "holds" if row.holds else "**fails**"
    return (
        f"| {row.cell} | {row.exporter} | {row.runs_as} | {row.operators} | {row.error:.1e} | {verdict} "
        f"| {row.step_us:.2f} | {row.speed_up:.1f}× |"
    )


def table(rows: list[Row]) -> str:
    """The Markdown table."""
    header = "| cell | exporter | runs as | operators | error | parity | µs a step | over onnxruntime |"
    return "\n".join([header, "|--|--|--|--|--|--|--|--|", *map(line, rows)])
