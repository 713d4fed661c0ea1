"""GRU against LSTM against plain RNN: the same task, as many parameters, one table.

After Chung et al. 2014 (https://arxiv.org/abs/1412.3555), who give each unit about the same number of parameters. The
task is the character language model of `characters.py`; each net is trained alike, streamed, and timed in streamgru.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure

from streamgru._disk import make_folder, write_text, writing
from streamgru_export.bench import bench

from ..training.config import TrainConfig
from ..training.fit import Run, Task, fit
from ..zoo import LanguageModel
from . import characters
from .outcome import ship

CONFIG = characters.CONFIG.updated({"epochs": 15})
LAYERS = ("gru", "lstm", "rnn")
PARAMETERS = 80_000  # of each net, as near as a whole number of units comes


@dataclass
class Compared:
    """One net: its loss on unseen text, its size and its speed."""

    layer: str
    hidden_size: int
    parameters: int
    bits_per_character: float
    image_bytes: int
    step_us: float
    training_seconds: float
    parity: bool


def hidden_size(layer: str, symbols: int) -> int:
    """The number of units that gives a net about PARAMETERS parameters."""
    sizes = range(16, 512, 2)
    counts = [abs(_count(layer, symbols, size) - PARAMETERS) for size in sizes]
    return sizes[int(np.argmin(counts))]


def _count(layer: str, symbols: int, size: int) -> int:
    net = LanguageModel(symbols, characters.EMBEDDING_SIZE, size, layer=layer)
    return sum(p.numel() for p in net.parameters())


def compare(
    folder: Path, config: TrainConfig = CONFIG, say: Callable[[str], None] = print, *, rounds: int = 30
) -> list[Compared]:
    """Train, ship and time each; leaves compare.json, compare.png, and a model and a parity page of each.

    Parameters
    ----------
    folder : Path
    config : TrainConfig
    say : callable
        Told each step in one line.
    rounds : int
        Of the timing.
    """
    make_folder(folder)
    alphabet, train, valid, test = characters.split(characters.read_text())
    data = characters.windows(train, characters.STRIDE), characters.windows(valid, characters.WINDOW)
    rows, runs = [], {}
    for layer in LAYERS:
        size = hidden_size(layer, len(alphabet))
        say(f"train {layer}, H = {size}, on {len(train)} characters")
        torch.manual_seed(config.seed)
        net = LanguageModel(len(alphabet), characters.EMBEDDING_SIZE, size, layer=layer)
        runs[layer] = fit(Task(net, *data, lambda x, net=net: net(x)[0]), config)
        example = (torch.zeros(1, 1, dtype=torch.int64), net.initial_state())
        model, report = ship(net, example, folder, layer, inputs=test[:1000].reshape(-1, 1, 1))
        timing = bench(folder / f"{layer}.sgru", onnx=folder / f"{layer}.onnx", rounds=rounds)
        bits = characters.streamed_bits(model, test)
        parameters = sum(p.numel() for p in net.parameters())
        step = timing["stream.step"].median_us
        rows.append(Compared(layer, size, parameters, bits, len(model.image), step, runs[layer].seconds, report.ok))
    data_out = {"rows": [asdict(row) for row in rows], "config": asdict(config)}
    write_text(folder / "compare.json", json.dumps(data_out, indent=2) + "\n")
    plot(rows, runs, folder / "compare.png")
    return rows


def table(rows: list[Compared]) -> str:
    """The rows for people."""
    header = f"{'':<6} {'units':>6} {'parameters':>11} {'bits/char':>10} {'image, KB':>10} {'step, µs':>9}  parity"
    lines = [
        f"{r.layer:<6} {r.hidden_size:>6} {r.parameters:>11,} {r.bits_per_character:>10.3f} "
        f"{r.image_bytes / 1024:>10.0f} {r.step_us:>9.2f}  {'holds' if r.parity else 'FAILS'}"
        for r in rows
    ]
    return "\n".join([header, *lines])


def plot(rows: list[Compared], runs: dict[str, Run], path: Path) -> None:
    """Learning curves, and loss against the time of a step."""
    figure = Figure(figsize=(10, 4), layout="constrained")
    curves, cost = figure.subplots(1, 2)
    for row in rows:
        valid = [epoch["valid"] / np.log(2) for epoch in runs[row.layer].history]
        curves.plot(valid, label=row.layer)
        cost.scatter(row.step_us, row.bits_per_character, s=60, label=row.layer)
    curves.set(xlabel="epoch", ylabel="bits per character, validation")
    cost.set(xlabel="µs a step, streamed", ylabel="bits per character, unseen text")
    curves.legend(frameon=False)
    with writing(path) as file:
        figure.savefig(file, dpi=110)
