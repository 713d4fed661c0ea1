"""The machine of the recipe `anomaly`: a motor that follows a command, three sensors, and what can break.

With u_t the command, ε ~ N(0, NOISE²), the speed s and the sensors x = (current, temperature, vibration):

    s_t = s_(t−1) + (u_t − s_(t−1)) / 5
    current      s_t + (u_t − s_t) / 2 + ε              more while it speeds up
    temperature  T_t + ε,  T_t = T_(t−1) + (s_t² − T_(t−1)) / 30
    vibration    0.3 s_t + 0.5 exp(−((s_t − 0.6) / 0.2)²) + ε              a resonance at 0.6
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]

NOISE = 0.02
SENSORS = ("current", "temperature", "vibration")
LEVELS = (0.2, 0.4, 0.6, 0.8, 1.0)
FAULT, EVERY = 60, 300  # frames: of a fault, and from one to the next


def simulate(frames: int, rng: np.random.Generator) -> tuple[F64, F64]:
    """The command [frames] and the sensors [frames, 3] of a machine without faults."""
    count = frames // 10 + 1
    u = np.repeat(rng.choice(LEVELS, count), 10 + rng.integers(0, 30, count))[:frames]
    return u, sensors(u, resonance=0.6) + NOISE * rng.standard_normal((frames, 3))


def sensors(u: F64, resonance: float) -> F64:
    """What the sensors show without noise, [len(u), 3]."""
    x = np.zeros((len(u), 3))
    speed = heat = 0.0
    for t, command in enumerate(u):
        speed += (command - speed) / 5
        heat += (speed**2 - heat) / 30
        peak = 0.5 * np.exp(-(((speed - resonance) / 0.2) ** 2))
        x[t] = speed + (command - speed) / 2, heat, 0.3 * speed + peak
    return x


def _loses_current(x: F64, u: F64, rng: np.random.Generator) -> None:
    x[:, 0] *= 0.9


def _heats(x: F64, u: F64, rng: np.random.Generator) -> None:
    x[:, 1] += np.linspace(0, 0.15, len(x))


def _sticks(x: F64, u: F64, rng: np.random.Generator) -> None:
    x[:, 2] = x[0, 2] + NOISE * rng.standard_normal(len(x))


def _loosens(x: F64, u: F64, rng: np.random.Generator) -> None:
    x[:, 2] = sensors(u, resonance=0.8)[:, 2] + NOISE * rng.standard_normal(len(x))


# What breaks, and how the sensors x [FAULT, 3] then change in place, given the command u [FAULT].
FAULTS: tuple[tuple[str, Callable[[F64, F64, np.random.Generator], None]], ...] = (
    ("the current falls by a tenth", _loses_current),
    ("the temperature drifts up", _heats),
    ("the vibration sensor sticks", _sticks),
    ("the resonance moves", _loosens),
)


def with_faults(u: F64, x: F64, rng: np.random.Generator) -> tuple[F64, NDArray[np.int64]]:
    """The sensors with a fault in every EVERY frames, and which: 0 for none, else 1 + its place in FAULTS. [frames]"""
    x, kind = x.copy(), np.zeros(len(x), np.int64)
    for n, start in enumerate(range(EVERY, len(x) - EVERY, EVERY)):
        begin = start + int(rng.integers(0, EVERY - 2 * FAULT))
        during = slice(begin, begin + FAULT)
        FAULTS[n % len(FAULTS)][1](x[during], u[during], rng)
        kind[during] = 1 + n % len(FAULTS)
    return x, kind
