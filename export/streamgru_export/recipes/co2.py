"""Forecast the weekly CO2 at Mauna Loa a week ahead, from real data (`data/co2_weekly.csv`).

A frame is one number, the change since the week before; the forecast is the change to the week after:

    x_t = (c_t − c_{t−1}) / s      y_t ≈ (c_{t+1} − c_t) / s      s: the deviation of c's changes before 1992

Differences leave no trend to remove, and nothing of the held-out years enters s. The season is nowhere in a
frame: the net carries it in its state, so the forecast is right only if the state is. A week without a
measurement repeats the last one, which needs no look ahead; forecasts from or of such a week are neither
trained on nor scored. The last five of the training years choose the epoch; the last ten years of the series are
forecast week by week from the stream, and scored.
"""

from __future__ import annotations

import csv
import datetime
from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray

import streamgru
from streamgru._disk import writing

from ..training.config import TrainConfig
from ..training.fit import Task, fit
from ..zoo import GRUNet
from .outcome import Outcome, ship

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

HELD_OUT_FROM = 1992  # the last ten years
HIDDEN_SIZE = 64
YEAR = 52
WINDOW = 5 * YEAR  # steps in a training sequence
STRIDE = 6  # weeks from one training window to the next
CHOOSING = 5 * YEAR  # weeks that choose the epoch
PPM = ", ppm"  # how a figure's name ends
CONFIG = TrainConfig(epochs=12, batch_size=12, learning_rate=5e-3, schedule="cosine", optimiser="adamw")


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


def make_task(series: Series) -> Task:
    """Windows of five years; the first year of each only fills the state."""
    target = np.append(series.frames[1:], np.nan).astype(np.float32)
    target[~series.scored] = np.nan
    begin, end = series.split - CHOOSING, series.split - 1
    starts = range(0, begin - WINDOW, STRIDE)
    train = [_window(series.frames, target, start, start + WINDOW) for start in starts]
    valid = _window(series.frames, target, begin - YEAR, end)
    net = GRUNet(1, HIDDEN_SIZE, 1)
    x, y = (torch.stack(part) for part in zip(*train, strict=True))
    return Task(net, (x, y), (valid[0][None], valid[1][None]), lambda x: net.every_step(x)[0])


def _window(frames: F32, target: F32, start: int, end: int) -> tuple[torch.Tensor, torch.Tensor]:
    """x and target, [T, 1] each."""
    y = target[start:end].copy()
    y[:YEAR] = np.nan
    return torch.from_numpy(frames[start:end, None]), torch.from_numpy(y[:, None])


def stream_forecast(series: Series, sgru: Path) -> F64:
    """Stream the whole series: the training years in one call, then the held-out years week by week.

    Returns
    -------
    ndarray [N]
        The forecast of week t + 1, made after week t, in ppm.
    """
    model = streamgru.load(sgru)
    x = series.frames.reshape(-1, *model.inputs[0].shape)
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
    with writing(path) as file:
        figure.savefig(file, dpi=110)


def run(folder: Path, config: TrainConfig, say: Callable[[str], None]) -> Outcome:
    """Train, ship, forecast, score."""
    series = load_series()
    torch.manual_seed(config.seed)
    task = make_task(series)
    say(f"train a two-layer GRU, H = {HIDDEN_SIZE}, on {len(task.train[0])} windows of five years")
    training = fit(task, config, folder)
    net = task.model
    assert isinstance(net, GRUNet)
    say("ship it, and forecast the last ten years from the stream")
    example = (torch.zeros(1, 1, 1), net.initial_state())
    x = series.frames.reshape(-1, 1, 1, 1)
    _, report = ship(net, example, folder, "co2", inputs=x, metadata={"scale_ppm": series.scale})
    forecast = stream_forecast(series, folder / "co2.sgru")
    plot(series, forecast, folder / "forecast.png")
    errors = {f"streamed GRU{PPM}": score(series, forecast)}
    errors |= {f"{name}{PPM}": score(series, naive) for name, naive in baselines(series).items()}
    best = min(errors, key=lambda name: errors[name])
    criterion = "the forecast beats every naive one, the seasonal ones among them"
    return Outcome("co2", folder, criterion, best == f"streamed GRU{PPM}", errors, {"co2": report}, training)
