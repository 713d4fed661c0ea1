"""Speech and noise for the recipe `denoise`, made from numbers alone. It says nothing; it only sounds like speech.

A voice is a source through a filter (Fant 1960): pulses at the pitch, or noise, and the resonances of a vocal tract.
Every 5 ms the sound has formants F_i, a strength of voice and one of noise; a frame of the source is multiplied with

    H(f) = 1/(1 + jf/F_tilt) · Π_i (F_i² + b_i²)/((b_i + jf)² + F_i²)             of the voice, b_i the bandwidths
    N(f) = exp(−½((f − c)/d)²)                                                     of the noise, c and d of the sound

and the frames are added up. Syllables, words and pauses are drawn at random. Vowels after Peterson and Barney 1952.
Noises have a kind each; some kinds train, others only judge.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]
Rng = np.random.Generator

RATE = 16_000  # Hz
STEP, FRAME, FFT = 80, 320, 1024  # samples: 5 ms, 20 ms, and the frame with room for what rings on


class Sound(NamedTuple):
    """A sound of speech: formants and the noise's centre and width in Hz, a range of seconds."""

    formants: tuple[float, float, float]
    voice: float
    noise: float
    centre: float
    width: float
    seconds: tuple[float, float]


def _voiced(f1: float, f2: float, f3: float, voice: float, seconds: tuple[float, float]) -> Sound:
    return Sound((f1, f2, f3), voice, 0.0, 3000, 2000, seconds)


def _noisy(voice: float, noise: float, centre: float, width: float, seconds: tuple[float, float]) -> Sound:
    return Sound((350, 1500, 2500), voice, noise, centre, width, seconds)


_LONG, _SHORT = (0.07, 0.22), (0.04, 0.09)
VOWELS = tuple(
    _voiced(*formants, 1.0, _LONG)
    for formants in (
        (270, 2290, 3010), (390, 1990, 2550), (530, 1840, 2480), (660, 1720, 2410), (730, 1090, 2440),
        (570, 840, 2410), (440, 1020, 2240), (300, 870, 2240), (640, 1190, 2390), (490, 1350, 1690),
    )
)  # fmt: skip
_SONORANTS = (
    _voiced(360, 1300, 2600, 0.6, _SHORT), _voiced(310, 1060, 1380, 0.6, _SHORT),  # l, r
    _voiced(290, 610, 2150, 0.6, _SHORT), _voiced(260, 2070, 3020, 0.6, _SHORT),  # w, j
    _voiced(250, 1100, 2200, 0.45, _SHORT), _voiced(250, 1500, 2500, 0.45, _SHORT),  # m, n
)  # fmt: skip
_FRICATIVES = (
    _noisy(0.0, 0.35, 6000, 1200, (0.07, 0.14)), _noisy(0.0, 0.35, 3500, 900, (0.07, 0.14)),  # s, sh
    _noisy(0.0, 0.12, 5000, 3000, (0.05, 0.11)), _noisy(0.0, 0.15, 1500, 1000, _SHORT),  # f, h
    _noisy(0.35, 0.20, 5500, 1300, _SHORT), _noisy(0.45, 0.08, 4500, 2500, _SHORT),  # z, v
)  # fmt: skip
_BURSTS = tuple(
    _noisy(0.0, 0.4, centre, width, (0.012, 0.03)) for centre, width in ((1000, 700), (4500, 1500), (2200, 600))
)
_CLOSED = (_noisy(0.0, 0.0, 1000, 500, (0.04, 0.08)), _noisy(0.12, 0.0, 1000, 500, (0.03, 0.06)))  # voiceless, voiced


def speak(samples: int, rng: Rng) -> F64:
    """Speech of one voice, at an RMS of 1. [samples]"""
    frames = samples // STEP + 1
    tract = float(rng.uniform(0.85, 1.2))  # 1 / length of the vocal tract
    pitch = 115 * tract**3 * float(rng.uniform(0.8, 1.3))
    tracks = _tracks(frames, tract, rng)
    contour = _smooth(rng.standard_normal(frames), 60) * 1.2 + 0.15 * np.sin(np.arange(frames) * STEP / RATE * 2.5)
    f0 = np.repeat(pitch * np.exp(0.15 * contour), STEP)[:samples] * (1 + 0.01 * rng.standard_normal(samples))
    voice = _filtered(_pulses(f0), _formants(tracks, float(rng.uniform(200, 800))), tracks["voice"])
    noise = _filtered(rng.standard_normal(samples), _noise_band(tracks), tracks["noise"])
    speech = voice / max(_rms(voice), 1e-9) + 0.6 * noise  # the voice's level over the whole, the noise beside it
    return speech / _rms(speech)


def _tracks(frames: int, tract: float, rng: Rng) -> dict[str, F64]:
    """What the sounds ask for in every step of 5 ms: formants [frames, 3], voice, noise, centre, width [frames]."""
    sounds: list[Sound] = []
    counts: list[int] = []
    while sum(counts) < frames:
        for sound in _word(rng):
            sounds.append(sound)
            counts.append(max(2, round(float(rng.uniform(*sound.seconds)) * RATE / STEP)))
    at = np.repeat(np.arange(len(sounds)), counts)[:frames]
    loud = np.array([rng.uniform(0.6, 1.0) for _ in sounds])
    formants = np.array([sound.formants for sound in sounds])[at] * tract
    return {
        "formants": np.stack([_smooth(f, 10) for f in formants.T], 1),
        **{
            name: _smooth((np.array([getattr(sound, name) for sound in sounds]) * loud)[at], 4)
            for name in ("voice", "noise")
        },
        **{name: np.array([getattr(sound, name) for sound in sounds])[at] for name in ("centre", "width")},
    }


def _word(rng: Rng) -> list[Sound]:
    """One to four syllables and a pause, which ends a phrase one time in five."""
    sounds: list[Sound] = []
    for _ in range(int(rng.integers(1, 5))):
        sounds += _consonant(rng) if rng.random() < 0.8 else []
        sounds.append(VOWELS[rng.integers(len(VOWELS))])
        sounds += _consonant(rng) if rng.random() < 0.3 else []
    pause = (0.2, 0.5) if rng.random() < 0.2 else (0.01, 0.08)
    return [*sounds, _CLOSED[0]._replace(seconds=pause)]


def _consonant(rng: Rng) -> list[Sound]:
    kind = rng.random()
    if kind < 0.4:
        return [_CLOSED[rng.integers(2)], _BURSTS[rng.integers(len(_BURSTS))]]
    group = _SONORANTS if kind < 0.7 else _FRICATIVES
    return [group[rng.integers(len(group))]]


def _pulses(f0: F64) -> F64:
    """A pulse of area 1 where the phase Σ f0/RATE passes a whole number, between the two nearest samples. [samples]"""
    phase = np.cumsum(f0 / RATE)
    at = np.flatnonzero(np.diff(np.floor(phase)) > 0) + 1
    late = (phase[at] - np.floor(phase[at])) / (f0[at] / RATE)
    pulses = np.zeros(len(f0))
    np.add.at(pulses, at, 1 - late)
    np.add.at(pulses, at - 1, late)
    return pulses


def _formants(tracks: dict[str, F64], tilt: float) -> NDArray[np.complex128]:
    """H(f) of each step, [frames, bins]; two more formants stand still."""
    jf = 1j * np.fft.rfftfreq(FFT, 1 / RATE)
    response: NDArray[np.complex128] = np.tile(jf / (jf + 80) / (1 + jf / tilt), (len(tracks["voice"]), 1))
    fixed = np.broadcast_to([3500.0, 4500.0], (len(response), 2))
    for f, b in zip(np.hstack([tracks["formants"], fixed]).T, (40, 50, 70, 120, 160), strict=True):
        response *= (f**2 + b**2)[:, None] / ((b + jf) ** 2 + (f**2)[:, None])
    return response


def _noise_band(tracks: dict[str, F64]) -> F64:
    f = np.fft.rfftfreq(FFT, 1 / RATE)
    band: F64 = np.exp(-0.5 * ((f - tracks["centre"][:, None]) / tracks["width"][:, None]) ** 2)
    return band


def _filtered(source: F64, response: NDArray[np.complex128] | F64, strength: F64) -> F64:
    """The source in frames, each through its response [frames, bins] and at its strength [frames], added up."""
    window = np.hanning(FRAME + 1)[:-1] * 2 * STEP / FRAME  # the windows of all frames add up to 1
    at = np.arange(len(response))[:, None] * STEP + np.arange(FRAME)
    frames = np.pad(source, (FRAME // 2, 2 * FRAME + STEP))[at] * window
    out = np.fft.irfft(np.fft.rfft(frames, FFT) * response * strength[:, None], FFT)
    sum_ = np.zeros(len(response) * STEP + FFT)
    for start, frame in zip(range(0, len(response) * STEP, STEP), out, strict=True):
        sum_[start : start + FFT] += frame
    return sum_[FRAME // 2 :][: len(source)]


# Noise: each kind is a function of (samples, rng) that gives [samples] at any level.


def _coloured(samples: int, rng: Rng) -> F64:
    """Power that falls like 1/f^a, a between 0 (white) and 2 (brown)."""
    a = rng.uniform(0, 2)
    return _shaped(rng.standard_normal(samples), lambda f: np.maximum(f, 20) ** (-a / 2))


def _hum(samples: int, rng: Rng) -> F64:
    """Mains of 50 or 60 Hz with harmonics, and hiss."""
    t, base = np.arange(samples) / RATE, rng.choice([50.0, 60.0])
    sound = 0.1 * rng.standard_normal(samples)
    for k in range(1, 25):
        sound += rng.exponential(1 / k) * np.sin(2 * np.pi * (k * base * t + rng.random()))
    return sound


def _fan(samples: int, rng: Rng) -> F64:
    """Air with a broad resonance, and the tone of the blades."""
    centre, width = rng.uniform(200, 3000), rng.uniform(200, 2000)
    air = _shaped(rng.standard_normal(samples), lambda f: 0.1 + np.exp(-0.5 * ((f - centre) / width) ** 2))
    tone = np.sin(2 * np.pi * rng.uniform(80, 700) * np.arange(samples) / RATE)
    return air / _rms(air) + rng.uniform(0, 0.5) * tone


def _wind(samples: int, rng: Rng) -> F64:
    """Brown noise in gusts."""
    rumble = _shaped(rng.standard_normal(samples), lambda f: 1 / np.maximum(f, 30))
    gusts = _smooth(rng.standard_normal(samples // STEP + 1), 80)
    return rumble * np.exp(np.repeat(gusts / _rms(gusts), STEP)[:samples])


def _babble(samples: int, rng: Rng) -> F64:
    """Four voices at once."""
    voices: F64 = np.sum([speak(samples, rng) for _ in range(4)], 0)
    return voices


def _keys(samples: int, rng: Rng) -> F64:
    """Clicks that ring for some milliseconds, and a little hiss."""
    hits = (rng.random(samples) < rng.uniform(5, 20) / RATE) * rng.uniform(0.3, 1, samples)
    ring = np.exp(-np.arange(600) / rng.uniform(30, 120)) * rng.standard_normal(600)
    return _convolved(hits, ring) + 0.02 * rng.standard_normal(samples)


def _engine(samples: int, rng: Rng) -> F64:
    """Explosions at a wandering rate through a muffler, and exhaust."""
    revs = np.repeat(_smooth(rng.standard_normal(samples // STEP + 1), 200), STEP)[:samples]
    bangs = _pulses(rng.uniform(25, 60) * np.exp(0.3 * revs / _rms(revs)))
    ring = np.exp(-np.arange(800) / 150) * np.sin(2 * np.pi * rng.uniform(90, 250) * np.arange(800) / RATE)
    muffled = _convolved(bangs, ring + 0.2 * np.exp(-np.arange(800) / 40) * rng.standard_normal(800))
    exhaust = _shaped(rng.standard_normal(samples), lambda f: np.maximum(f, 100) ** -0.7)
    return muffled / _rms(muffled) + rng.uniform(0.2, 0.6) * exhaust / _rms(exhaust)


def _rain(samples: int, rng: Rng) -> F64:
    """Many drops, each a short ring of its own, over a hiss."""
    drops = np.zeros(samples + 200)
    for _ in range(int(samples / RATE * rng.uniform(200, 600))):
        length = np.arange(200)
        ring = np.exp(-length / rng.uniform(8, 40)) * np.sin(2 * np.pi * rng.uniform(1000, 6000) * length / RATE)
        start = rng.integers(samples)
        drops[start : start + 200] += rng.exponential() * ring
    hiss = _shaped(rng.standard_normal(samples), lambda f: np.minimum(f, 2000) / 2000)
    return drops[:samples] / _rms(drops) + 0.7 * hiss / _rms(hiss)


def _applause(samples: int, rng: Rng) -> F64:
    """Many hands, each clap a burst of a band of its own where speech has its formants."""
    claps, ring = np.zeros(samples + 400), np.arange(400)
    for _ in range(int(samples / RATE * rng.uniform(30, 150))):
        burst = np.exp(-ring / rng.uniform(20, 100)) * rng.standard_normal(400)
        band = np.exp(-0.5 * ((np.fft.rfftfreq(400, 1 / RATE) - rng.uniform(500, 3000)) / 800) ** 2)
        start = rng.integers(samples)
        claps[start : start + 400] += rng.exponential() * np.fft.irfft(np.fft.rfft(burst) * band, 400)
    return claps[:samples]


Noise = Callable[[int, Rng], F64]
KNOWN: dict[str, Noise] = {
    "coloured": _coloured, "hum": _hum, "fan": _fan, "wind": _wind, "babble": _babble, "keys": _keys,
}  # fmt: skip
UNSEEN: dict[str, Noise] = {"engine": _engine, "rain": _rain, "applause": _applause}  # nothing like them trains


# Helpers.


def _smooth(x: F64, width: int) -> F64:
    """The mean over `width` neighbours."""
    padded = np.pad(x, (width // 2, width - 1 - width // 2), mode="edge")
    return np.convolve(padded, np.full(width, 1 / width), "valid")


def _shaped(x: F64, magnitude: Callable[[F64], F64]) -> F64:
    """x [samples] through a filter of that magnitude at each frequency."""
    response = magnitude(np.fft.rfftfreq(len(x), 1 / RATE).astype(np.float64))
    return np.fft.irfft(np.fft.rfft(x) * response, len(x))


def _convolved(x: F64, ring: F64) -> F64:
    size = len(x) + len(ring)
    return np.fft.irfft(np.fft.rfft(x, size) * np.fft.rfft(ring, size), size)[: len(x)]


def _rms(x: F64) -> float:
    return float(np.sqrt(np.mean(x * x)))
