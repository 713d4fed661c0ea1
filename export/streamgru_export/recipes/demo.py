"""The whole road in a minute: the recipe `co2` trains a GRU, exports, compiles, streams and proves it; here a step is
timed too, and all of it told on one screen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.box import SIMPLE_HEAD
from rich.console import Console, Group
from rich.table import Table

import streamgru

from ..bench import BenchReport, bench
from ..zoo import GRUNet
from . import co2, train


@dataclass(frozen=True)
class Result:
    """What the demo found. `ok`: parity holds."""

    ok: bool
    folder: Path
    training_seconds: float
    rmse_ppm: dict[str, float]  # of the held-out years, by forecast
    parity: streamgru.ParityReport
    timing: BenchReport

    def to_dict(self) -> dict[str, Any]:
        """The result as plain data."""
        return {
            "ok": self.ok,
            "folder": str(self.folder),
            "training_seconds": self.training_seconds,
            "rmse_ppm": self.rmse_ppm,
            "parity": self.parity.to_dict(),
            "timing": self.timing.to_dict(),
        }


def run(
    folder: str | Path = "build/demo",
    *,
    epochs: int = co2.CONFIG.epochs,
    seed: int = 0,
    rounds: int = 30,
    say: Callable[[str], None] = print,
) -> Result:
    """Go the whole road and leave co2.onnx, co2.sgru, report.html and forecast.png in `folder`.

    Parameters
    ----------
    folder : str or Path
        Made where it is missing.
    epochs, seed : int
        Of the training.
    rounds : int
        Of the timing.
    say : callable
        Told each step in one line.

    Returns
    -------
    Result
    """
    folder = Path(folder)
    outcome = train("co2", folder, settings=[f"epochs={epochs}", f"seed={seed}"], say=say)
    (folder / "co2.html").replace(folder / "report.html")
    say("time a step, beside onnxruntime and torch")
    net = GRUNet(1, co2.HIDDEN_SIZE, 1)
    net.load_state_dict(torch.load(folder / "co2.pt", weights_only=True))
    example = (torch.zeros(1, 1, 1), net.initial_state())
    timing = bench(folder / "co2.sgru", onnx=folder / "co2.onnx", module=net, example=example, rounds=rounds)
    parity = outcome.parity["co2"]
    rmse = {name.removesuffix(co2.PPM): error for name, error in outcome.figures.items()}
    return Result(parity.ok, folder, outcome.run.seconds, rmse, parity, timing)


def summary(result: Result) -> Group:
    """The result as one screen."""
    best = result.rmse_ppm["streamed GRU"]
    errors = [(name, f"{rmse:.3f}", f"{rmse / best:.2f}×") for name, rmse in result.rmse_ppm.items()]
    proof = [
        (
            c.difference.reference,
            f"{c.difference.max_abs:.1e}",
            f"{c.difference.rmse:.1e}",
            f"{c.allowed:.1e}",
        )
        for c in result.parity.checks
    ]
    times = [(t.name, f"{t.median_us:.2f}", f"{t.p99_us:.2f}", f"{t.ratio:.1f}×") for t in result.timing.timings]
    return Group(
        _table(("forecast a week ahead, held-out years", "error, ppm", "ratio"), errors),
        "",
        _table(("parity: the stream against", "max abs", "RMS", "allowed"), proof),
        "",
        _table(("one step, one thread", "median µs", "p99 of a call, µs", "ratio"), times),
        "",
        f"{result.parity.conclusion}.",
        f"Trained in {result.training_seconds:.0f} s. "
        f"In {result.folder}/: co2.onnx, co2.sgru, report.html, forecast.png",
    )


def _table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """Names on the left, numbers on the right."""
    table = Table(*headers, box=SIMPLE_HEAD, show_edge=False, pad_edge=False)
    table.columns[0].min_width = 36
    for column in table.columns[1:]:
        column.justify, column.min_width = "right", 8
    for row in rows:
        table.add_row(*row)
    return table


def answer(
    folder: str | Path = "build/demo", *, epochs: int | None = None, seed: int = 0, quiet: bool = False
) -> tuple[bool, dict[str, Any], str]:
    """Run the demo and, unless it is quiet, print its progress and summary. Gives whether parity holds, the result as
    plain data, and nothing more to print."""
    console = Console(highlight=False, quiet=quiet)
    result = run(
        folder,
        epochs=co2.CONFIG.epochs if epochs is None else epochs,
        seed=seed,
        say=lambda line: console.print(line, markup=False),
    )
    console.print()
    console.print(summary(result))
    return result.ok, result.to_dict(), ""
