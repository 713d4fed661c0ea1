"""The whole road in a minute: train a GRU on a real series, export, compile, stream, prove, time.

It is not part of the edge install: it needs `streamgru[export]`.

The series is the weekly CO2 at Mauna Loa (`data/co2_weekly.csv`). A frame is one number, the change since the
week before; the forecast is the change to the week after:

    x_t = (c_t − c_{t−1}) / s      y_t ≈ (c_{t+1} − c_t) / s      s: the deviation of c's changes before 1992

Differences leave no trend to remove, and nothing of the held-out years enters s. The season is nowhere in a
frame: the net carries it in its state, so the forecast is right only if the state is. A week without a
measurement repeats the last one, which needs no look ahead; forecasts from or of such a week are neither
trained on nor scored.
"""

from __future__ import annotations

import csv
import datetime
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from rich.box import SIMPLE_HEAD
from rich.console import Console, Group
from rich.table import Table
from tqdm import tqdm

import streamgru
import streamgru_export
from streamgru_export.bench import BenchReport, bench
from streamgru_export.zoo import GRUNet

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

HELD_OUT_FROM = 1992  # the last ten years
HIDDEN_SIZE = 64
YEAR = 52
WINDOW = 5 * YEAR  # steps in a training sequence
WARM_UP = YEAR  # its first steps weigh little: the state knows no season yet
BATCH = 12


@dataclass(frozen=True)
class Series:
    """A weekly series, and how it is cut."""

    dates: list[datetime.date]
    ppm: F64  # [N], missing weeks repeat the last value
    measured: NDArray[np.bool_]  # [N]
    split: int  # the first held-out week

    @property
    def change(self) -> F64:
        """c_t − c_{t−1}, zero for the first week. [N]"""
        return np.diff(self.ppm, prepend=self.ppm[0])

    @property
    def scale(self) -> float:
        """s, of the training years alone, in ppm."""
        return float(self.change[: self.split].std())

    @property
    def frames(self) -> F32:
        """x. [N]"""
        return (self.change / self.scale).astype(np.float32)

    @property
    def scored(self) -> NDArray[np.bool_]:
        """Weeks t that are measured, as is the week after. [N]; the last has no week after."""
        scored = self.measured.copy()
        scored[:-1] &= self.measured[1:]
        scored[-1] = False
        return scored


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


def load_series() -> Series:
    """Read the shipped CSV."""
    text = files("streamgru_export.recipes").joinpath("data/co2_weekly.csv").read_text(encoding="utf-8")
    rows = list(csv.DictReader(line for line in text.splitlines() if not line.startswith("#")))
    dates = [datetime.date.fromisoformat(row["date"]) for row in rows]
    ppm = np.array([float(row["co2"] or "nan") for row in rows])
    measured = ~np.isnan(ppm)
    last = np.maximum.accumulate(np.where(measured, np.arange(len(ppm)), 0))  # the last measured week
    split = next(i for i, date in enumerate(dates) if date.year >= HELD_OUT_FROM)
    return Series(dates, ppm[last], measured, split)


def train(series: Series, *, epochs: int, seed: int) -> GRUNet:
    """Fit a two-layer GRUNet to the training years.

    Each epoch takes random windows of five years from a zero state and scores the forecast after every
    step, as the stream will give it. Windows start anywhere in the year, so the state must find the season
    by itself.
    """
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    net = GRUNet(input_size=1, hidden_size=HIDDEN_SIZE, output_size=1, num_layers=2)
    x = torch.from_numpy(series.frames[: series.split, None])  # [N, 1]
    target = x[1:]  # the next frame
    weight = torch.from_numpy(series.scored[: series.split - 1].astype(np.float32))[:, None]
    fade = torch.ones(WINDOW, 1)
    fade[:WARM_UP] = 0.1
    optimiser = torch.optim.AdamW(net.parameters(), weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=5e-3, total_steps=epochs)
    bar = tqdm(range(epochs), desc="training", unit="epoch", disable=None, leave=False)
    for _ in bar:
        starts = rng.integers(0, len(target) - WINDOW, BATCH)
        window = torch.from_numpy(starts[:, None] + np.arange(WINDOW))  # [BATCH, WINDOW]
        y, _ = net.every_step(x[window])
        w = weight[window] * fade
        loss = ((y - target[window]) ** 2 * w).sum() / w.sum()
        optimiser.zero_grad()
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        bar.set_postfix(rmse=f"{loss.item() ** 0.5 * series.scale:.3f} ppm")
    return net.eval()


def frames_for(model: streamgru.Model, series: Series) -> F32:
    """x, each week in the shape of the model's frame."""
    return series.frames.reshape(-1, *model.inputs[0].shape)


def stream_forecast(series: Series, sgru: Path) -> F64:
    """Stream the whole series: the training years in one call, then the held-out years week by week.

    Returns
    -------
    ndarray [N]
        The forecast of week t + 1, made after week t, in ppm.
    """
    model = streamgru.load(sgru)
    x = frames_for(model, series)
    with model.stream() as stream:
        history = stream.run(x[: series.split])
        weeks = [stream.step(frame) for frame in x[series.split :]]
    y = np.concatenate([np.ravel(history), np.ravel(weeks)])
    return series.ppm + series.scale * y


def baselines(series: Series) -> dict[str, F64]:
    """The forecasts to beat, each of week t + 1 from the weeks up to t. [N], ppm, from year two."""
    c = series.ppm
    a_year_before = np.roll(c, YEAR - 1)  # of week t + 1
    return {
        "persistence: as this week": c,
        "seasonal naive: as a year before": a_year_before,
        "seasonal naive + drift over the year": a_year_before + c - np.roll(c, YEAR),
    }


def score(series: Series, forecast: F64) -> float:
    """Root mean square error over the held-out years, ppm."""
    weeks = np.flatnonzero(series.scored)
    weeks = weeks[weeks >= series.split]
    return float(np.sqrt(np.mean((forecast[weeks] - series.ppm[weeks + 1]) ** 2)))


def plot(series: Series, forecast: F64, path: Path) -> None:
    """The held-out years, and the last two of them closely."""
    figure = Figure(figsize=(11, 7), layout="constrained")
    for axes, first in zip(figure.subplots(2), (series.split, len(series.ppm) - 2 * YEAR), strict=True):
        weeks = np.arange(first, len(series.ppm))
        dates = [series.dates[week] for week in weeks]
        axes.plot(dates, series.ppm[weeks], color="0.25", lw=1, marker=".", ms=4, label="measured")
        axes.plot(dates, forecast[weeks - 1], color="C1", lw=1.2, label="forecast a week ahead, streamed")
        axes.set_ylabel("CO2, ppm")
        axes.legend(loc="upper left", frameon=False)
    figure.suptitle("Weekly CO2 at Mauna Loa: years the network has not seen")
    figure.savefig(path, dpi=110)


def run(
    folder: str | Path = "build/demo",
    *,
    epochs: int = 160,
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
    folder.mkdir(parents=True, exist_ok=True)
    onnx, sgru = folder / "co2.onnx", folder / "co2.sgru"
    series = load_series()
    weeks = len(series.ppm)
    say(f"train    a two-layer GRU, H = {HIDDEN_SIZE}, on {series.split} weeks up to {HELD_OUT_FROM - 1}")
    start = time.perf_counter()
    net = train(series, epochs=epochs, seed=seed)
    training_seconds = time.perf_counter() - start
    say(f"export   {onnx}")
    example = (torch.zeros(1, 1, 1), net.initial_state())
    streamgru_export.export(net, example, onnx, stream="step")
    say(f"compile  {sgru}")
    streamgru_export.compile(onnx, sgru)
    say(f"stream   {weeks - series.split} held-out weeks, one by one")
    forecast = stream_forecast(series, sgru)
    say(f"prove    all {weeks} weeks against the module, onnxruntime and float64")
    parity = streamgru.parity(sgru, module=net, onnx=onnx, inputs=frames_for(streamgru.load(sgru), series))
    parity.save_html(folder / "report.html")
    say("time     a step, beside onnxruntime and torch")
    timing = bench(sgru, onnx=onnx, module=net, example=example, rounds=rounds)
    plot(series, forecast, folder / "forecast.png")
    rmse = {"streamed GRU": score(series, forecast)}
    rmse |= {name: score(series, naive) for name, naive in baselines(series).items()}
    return Result(parity.ok, folder, training_seconds, rmse, parity, timing)


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
        f"{result.parity.verdict}.",
        f"Trained in {result.training_seconds:.0f} s. "
        f"In {result.folder}/: co2.onnx, co2.sgru, report.html, forecast.png",
    )


def _table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """Names on the left, numbers on the right."""
    table = Table(*headers, box=SIMPLE_HEAD, show_edge=False, pad_edge=False)
    table.columns[0].min_width = 40
    for column in table.columns[1:]:
        column.justify, column.min_width = "right", 10
    for row in rows:
        table.add_row(*row)
    return table


def answer(
    folder: str | Path = "build/demo", *, epochs: int = 160, seed: int = 0, quiet: bool = False
) -> tuple[bool, dict[str, Any], str]:
    """Run the demo on one thread and, unless it is quiet, print its progress and summary. Gives whether parity holds,
    the result as plain data, and nothing more to print."""
    console = Console(highlight=False, quiet=quiet)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        result = run(folder, epochs=epochs, seed=seed, say=lambda line: console.print(line, markup=False))
    finally:
        torch.set_num_threads(threads)
    console.print()
    console.print(summary(result))
    return result.ok, result.to_dict(), ""
