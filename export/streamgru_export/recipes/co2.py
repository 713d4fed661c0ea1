"""Forecast the weekly CO2 at Mauna Loa a week ahead (real data; `streamgru_export.recipes.demo` describes the series).

A frame is the change since the week before, the target the change to the week after. The last five of the training
years choose the epoch; the last ten years of the series are forecast week by week from the stream, and scored.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from ..training.config import TrainConfig
from ..training.fit import Task, fit
from ..zoo import GRUNet
from . import demo
from .outcome import Outcome, ship

CONFIG = TrainConfig(epochs=12, batch_size=12, learning_rate=5e-3, schedule="cosine", optimiser="adamw")
STRIDE = 6  # weeks from one training window to the next
CHOOSING = 5 * demo.YEAR  # weeks that choose the epoch


def make_task(series: demo.Series) -> Task:
    """Windows of five years; the first year of each only fills the state."""
    target = np.append(series.frames[1:], np.nan).astype(np.float32)
    target[~series.scored] = np.nan
    begin, end = series.split - CHOOSING, series.split - 1
    starts = range(0, begin - demo.WINDOW, STRIDE)
    train = [_window(series.frames, target, start, start + demo.WINDOW) for start in starts]
    valid = _window(series.frames, target, begin - demo.YEAR, end)
    net = GRUNet(1, demo.HIDDEN_SIZE, 1)
    x, y = (torch.stack(part) for part in zip(*train, strict=True))
    return Task(net, (x, y), (valid[0][None], valid[1][None]), lambda x: net.every_step(x)[0])


def _window(frames: demo.F32, target: demo.F32, start: int, end: int) -> tuple[torch.Tensor, torch.Tensor]:
    """x and target, [T, 1] each."""
    y = target[start:end].copy()
    y[: demo.YEAR] = np.nan
    return torch.from_numpy(frames[start:end, None]), torch.from_numpy(y[:, None])


def run(folder: Path, config: TrainConfig, say: Callable[[str], None]) -> Outcome:
    """Train, ship, forecast, score."""
    series = demo.load_series()
    torch.manual_seed(config.seed)
    task = make_task(series)
    say(f"train a two-layer GRU, H = {demo.HIDDEN_SIZE}, on {len(task.train[0])} windows of five years")
    training = fit(task, config, folder)
    net = task.model
    assert isinstance(net, GRUNet)
    say("ship it, and forecast the last ten years from the stream")
    example = (torch.zeros(1, 1, 1), net.initial_state())
    x = series.frames.reshape(-1, 1, 1, 1)
    _, report = ship(net, example, folder, "co2", inputs=x, metadata={"scale_ppm": series.scale})
    forecast = demo.stream_forecast(series, folder / "co2.sgru")
    demo.plot(series, forecast, folder / "forecast.png")
    errors = {"streamed GRU, ppm": demo.score(series, forecast)}
    errors |= {f"{name}, ppm": demo.score(series, naive) for name, naive in demo.baselines(series).items()}
    best = min(errors, key=lambda name: errors[name])
    criterion = "the forecast beats every naive one, the seasonal ones among them"
    return Outcome("co2", folder, criterion, best == "streamed GRU, ppm", errors, {"co2": report}, training)
