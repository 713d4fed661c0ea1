"""Find faults in a machine's sensors: a GRU learns what they should show, and what they show instead is an anomaly.

The machine is simulated (`motor.py`), and has no faults in training. The GRU reads the command u_t and says what
the sensors show, y_t. With σ_i the deviation of sensor i from that on a stream without faults:

    m_t = 0.9 m_(t−1) + 0.1 (x_t − y_t) / σ              the deviation that lasts
    score  a_t = max_i m_ti²

A frame is called anomalous above what a stream without faults reaches once in a thousand frames. To beat: the same
with a linear model of the command and of its averages over 4, 16 and 64 frames, fitted by least squares.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray

from streamgru._disk import writing

from ..training.config import TrainConfig
from ..training.fit import Task, fit
from ..zoo import GRUNet
from .motor import EVERY, F64, FAULT, SENSORS, simulate, with_faults
from .outcome import Outcome, ship

CONFIG = TrainConfig(epochs=60, batch_size=16, learning_rate=1e-2, schedule="cosine", loss="mse")
HIDDEN_SIZE = 32
WINDOW, SETTLE = 200, 100  # frames of a training sequence, and those that are not scored: temperature is slow
FRAMES = 24000
KEEP = 0.9
FOUND = 0.9  # what is asked for

Model = Callable[[F64], F64]  # command [N] -> what the sensors should show [N, 3]


@dataclass
class Detection:
    """What a model finds in a stream with faults."""

    scores: F64
    threshold: float
    area: float  # under the ROC curve
    found: float  # of the faults
    false_alarms: float  # of the frames without a fault

    def figures(self, name: str) -> dict[str, float]:
        """For people."""
        return {
            f"{name}: area under the ROC curve": self.area,
            f"{name}: faults found": self.found,
            f"{name}: false alarms per 1000 frames": 1000 * self.false_alarms,
        }


def score(x: F64, y: F64, sigma: F64) -> F64:
    """a_t of sensors x [N, 3] where y [N, 3] was expected. [N]"""
    m = np.zeros(3)
    a = np.zeros(len(x))
    for t, deviation in enumerate((x - y) / sigma):
        m = KEEP * m + (1 - KEEP) * deviation
        a[t] = np.max(m * m)
    return a


def judge(model: Model, clean: tuple[F64, F64], u: F64, x: F64, kind: NDArray[np.int64]) -> Detection:
    """What a model finds: its threshold is of the stream `clean`, (command, sensors), without faults."""
    expected = model(clean[0])
    sigma = (clean[1] - expected)[SETTLE:].std(0)
    threshold = float(np.quantile(score(clean[1], expected, sigma)[SETTLE:], 0.999))
    a = score(x, model(u), sigma)
    starts = np.flatnonzero(np.diff(kind) > 0) + 1
    found = [bool((a[start : start + FAULT] > threshold).any()) for start in starts]
    calm = kind == 0
    for start in starts:
        calm[start : start + FAULT + 50] = False  # m forgets a fault
    calm[:SETTLE] = False
    return Detection(
        a, threshold, area(a[kind > 0], a[calm]), float(np.mean(found)), float((a[calm] > threshold).mean())
    )


def area(faulty: F64, calm: F64) -> float:
    """Area under the ROC curve: how often a faulty frame scores higher than a calm one (Mann and Whitney 1947)."""
    rank = np.argsort(np.argsort(np.concatenate([faulty, calm]))) + 1.0
    return float((rank[: len(faulty)].sum() - len(faulty) * (len(faulty) + 1) / 2) / (len(faulty) * len(calm)))


def linear(u: F64, x: F64) -> Model:
    """The linear model, fitted to a command and sensors."""

    def features(u: F64) -> F64:
        columns = [np.ones(len(u)), u]
        for frames in (4, 16, 64):
            average = np.zeros(len(u))
            for t in range(1, len(u)):
                average[t] = average[t - 1] + (u[t] - average[t - 1]) / frames
            columns.append(average)
        return np.stack(columns, 1)

    weights = np.linalg.lstsq(features(u), x, rcond=None)[0]

    def model(u: F64) -> F64:
        y: F64 = features(u) @ weights
        return y

    return model


def windows(u: F64, x: F64) -> tuple[torch.Tensor, torch.Tensor]:
    """Commands [N, WINDOW, 1] and sensors [N, WINDOW, 3], NaN while the state settles."""
    at = np.arange(0, len(u) - WINDOW, WINDOW // 2)[:, None] + np.arange(WINDOW)
    target = x[at].astype(np.float32)
    target[:, :SETTLE] = np.nan
    return torch.from_numpy(u[at, None].astype(np.float32)), torch.from_numpy(target)


def plot(x: F64, kind: NDArray[np.int64], detection: Detection, path: Path) -> None:
    """The first faults, and the scores."""
    figure = Figure(figsize=(11, 6), layout="constrained")
    above, below = figure.subplots(2, sharex=True)
    frames = 6 * EVERY
    for i, name in enumerate(SENSORS):
        above.plot(x[:frames, i] + 1.2 * i, lw=0.8, label=name)
    below.semilogy(np.maximum(detection.scores[:frames], 1e-3), color="0.3", lw=0.8)
    below.axhline(detection.threshold, color="C3", lw=1, label="threshold")
    for axes in (above, below):
        across = axes.get_xaxis_transform()
        axes.fill_between(np.arange(frames), 0, 1, where=kind[:frames] > 0, alpha=0.2, transform=across, lw=0)
        axes.legend(frameon=False, ncols=3)
    below.set(xlabel="frame, with faults shaded", ylabel="score")
    with writing(path) as file:
        figure.savefig(file, dpi=110)


def run(folder: Path, config: TrainConfig, say: Callable[[str], None]) -> Outcome:
    """Simulate, train, ship, find."""
    rng = np.random.default_rng(config.seed)
    train, valid, clean, (u, base) = (simulate(FRAMES, rng) for _ in range(4))
    x, kind = with_faults(u, base, rng)
    torch.manual_seed(config.seed)
    net = GRUNet(1, HIDDEN_SIZE, 3, num_layers=1)
    say(f"train a GRU, H = {HIDDEN_SIZE}, on {FRAMES} frames without a fault")
    training = fit(Task(net, windows(*train), windows(*valid), lambda u: net.every_step(u)[0]), config, folder)
    say("ship it, and look for faults in a stream that it has not seen")
    example = (torch.zeros(1, 1, 1), net.initial_state())
    frames = u[:3000].astype(np.float32).reshape(-1, 1, 1, 1)
    model, report = ship(net, example, folder, "anomaly", inputs=frames, labels=SENSORS)

    def streamed(u: F64) -> F64:
        with model.stream() as stream:
            y: F64 = stream.run(u.astype(np.float32).reshape(-1, 1, 1, 1)).reshape(-1, 3).astype(np.float64)
        return y

    gru, baseline = (judge(m, clean, u, x, kind) for m in (streamed, linear(*train)))
    plot(x, kind, gru, folder / "anomalies.png")
    figures = gru.figures("streamed GRU") | baseline.figures("linear model")
    met = gru.found >= FOUND and gru.area > baseline.area
    criterion = "nine faults of ten are found, and frames are told apart better than by the linear model"
    return Outcome("anomaly", folder, criterion, met, figures, {"anomaly": report}, training)
