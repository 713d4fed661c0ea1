"""Denoise speech in the manner of RNNoise: a small GRU hears energies in bands and says how much of each is speech.

Speech and noise are made by `speech.py`; with a mixture X = S + N in bins k, the gain that suits band b best is the
part of the mixture that is in phase with the speech, and it is learnt where the mixture is loud:

    g*_b = Σ_k w_bk Re(S_k X̄_k) / Σ_k w_bk |X_k|²,   cut to 0 ... 1
    loss = mean (a_b (g_b − g*_b))²,   a_b = (E_b / mean E)^(POWER/2)

`streamgru.denoise` does the rest, a hop of 16 ms at a time. Judged by the scale-invariant ratio of signal to
distortion (Le Roux et al. 2019, https://arxiv.org/abs/1811.02508), of voices and noises that never trained:

    SI-SDR(y, s) = 10 log₁₀ |αs|² / |αs − y|²,   α = y·s / |s|²

Beside it stands a filter that cheats: a fixed Wiener filter told the very spectra of the speech and of the noise.
Where espeak-ng is installed, it speaks one more recording to listen to; sox brings it to the model's sample rate.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from streamgru.denoise import FLOOR, Bands, Denoiser, read_wav, write_wav

from ..training.config import TrainConfig
from ..training.fit import Task, fit
from ..zoo import BandGains
from .outcome import Outcome, ship
from .speech import F64, KNOWN, RATE, UNSEEN, Noise, Rng, speak

CONFIG = TrainConfig(
    epochs=20, batch_size=16, learning_rate=4e-3, schedule="cosine", loss="mse", recurrent_initialiser="orthogonal"
)
HOP = 256
CENTRES = tuple(range(1, 41)) + tuple(round(40 * 1.08**n) for n in range(1, 25))  # bins of 31.25 Hz
HIDDEN_SIZE = 96
POWER = 0.7
TRAIN, VALID, TEST = 480, 48, 15  # mixtures; of TEST as many for each kind and each ratio
SECONDS = 3
SNR = (-5.0, 15.0)  # dB, in training
JUDGED = (0.0, 5.0)  # dB
LEVEL = (-35.0, -15.0)  # dB below full scale
BETTER = 5.0  # dB, what is asked for
SENTENCE = "The quick brown fox jumps over the lazy dog, and nobody hears the engine any more."


class Mixture(NamedTuple):
    """Speech, and the same with noise. [samples] each."""

    speech: F64
    noisy: F64


def mix(speech: F64, noise: F64, snr: float, level: float) -> Mixture:
    """The sum at `snr` dB, the speech at `level` dB below full scale."""
    speech = speech * 10 ** (level / 20) / np.sqrt(np.mean(speech**2))
    noise = noise * np.sqrt(np.mean(speech**2) / np.mean(noise**2)) * 10 ** (-snr / 20)
    return Mixture(speech, speech + noise)


def mixtures(count: int, kinds: Mapping[str, Noise], snr: tuple[float, float], rng: Rng) -> list[Mixture]:
    """Voices in noise, the kinds in turn, ratio and level drawn evenly."""
    made, samples = [], SECONDS * RATE
    for n in range(count):
        noise = list(kinds.values())[n % len(kinds)](samples, rng)
        made.append(mix(speak(samples, rng), noise, float(rng.uniform(*snr)), float(rng.uniform(*LEVEL))))
    return made


def frames(samples: F64) -> F64:
    """The frames that a stream sees of them, [T, 2 HOP]: the first begins with a hop of silence."""
    padded = np.pad(samples[: len(samples) // HOP * HOP], (HOP, 0))
    return np.lib.stride_tricks.sliding_window_view(padded, 2 * HOP)[::HOP]


def examples(made: list[Mixture], bands: Bands) -> tuple[F64, F64, F64]:
    """log₁₀ E, a and g*, [N, T, bands] each."""
    x = np.stack([bands.spectrum(frames(m.noisy)) for m in made])
    s = np.stack([bands.spectrum(frames(m.speech)) for m in made])
    energies = bands.energies(x)
    ideal = np.clip(((s * x.conj()).real @ bands.weights.T) / (energies + FLOOR), 0, 1)
    return np.log10(energies + FLOOR), (energies / energies.mean((1, 2), keepdims=True)) ** (POWER / 2), ideal


def si_sdr(y: NDArray[np.floating], s: NDArray[np.floating]) -> float:
    """SI-SDR of an estimate y of s, in dB."""
    projected = (y @ s) / (s @ s) * s
    return float(10 * np.log10((projected @ projected) / ((projected - y) @ (projected - y))))


def wiener(mixture: Mixture) -> F64:
    """The mixture through the fixed filter S/(S + N) of its own long-term spectra."""
    bands = Bands(HOP, range(HOP + 1))
    x, s, n = (bands.spectrum(frames(v)) for v in (mixture.noisy, mixture.speech, mixture.noisy - mixture.speech))
    speech, noise = bands.energies(s).mean(0), bands.energies(n).mean(0)
    out = bands.samples(x, np.broadcast_to(speech / (speech + noise), x.shape))
    y = np.zeros((len(out) + 1) * HOP)
    y[:-HOP] += out[:, :HOP].ravel()
    y[HOP:] += out[:, HOP:].ravel()
    return y[HOP:]


def improvement(y: NDArray[np.floating], mixture: Mixture) -> float:
    """By how many dB y is nearer to the speech than the mixture is."""
    n = len(y) // HOP * HOP - HOP  # the last hop of a fixed filter is incomplete
    return si_sdr(y[:n], mixture.speech[:n]) - si_sdr(mixture.noisy[:n], mixture.speech[:n])


def spoken(folder: Path, rng: Rng) -> Mixture | None:
    """SENTENCE by espeak-ng in the noise of an engine; None where it or sox is not installed, or does not run."""
    espeak, sox = shutil.which("espeak-ng"), shutil.which("sox")
    if espeak is None or sox is None:
        return None
    raw, path = folder / "espeak-raw.wav", folder / "espeak-clean.wav"
    resample = [sox, str(raw), "-b", "16", "-c", "1", "-r", str(RATE), str(path)]
    try:
        for command in ([espeak, "-w", str(raw), SENTENCE], resample):
            subprocess.run(command, check=True, capture_output=True, timeout=60)
    except (OSError, subprocess.SubprocessError):
        return None
    raw.unlink()
    speech = read_wav(path)[1][:, 0].astype(np.float64)
    return mix(speech, UNSEEN["engine"](len(speech), rng), JUDGED[0], LEVEL[1])


def run(folder: Path, config: TrainConfig, say: Callable[[str], None]) -> Outcome:
    """Speak, make noise, train, ship, denoise."""
    rng = np.random.default_rng(config.seed)
    bands = Bands(HOP, CENTRES)
    say(f"make {TRAIN} mixtures, and train a GRU, H = {HIDDEN_SIZE}, on {len(CENTRES)} bands of them")
    train, valid = (examples(mixtures(count, KNOWN, SNR, rng), bands) for count in (TRAIN, VALID))
    mean, deviation = train[0].mean((0, 1)), train[0].std((0, 1))

    def tensors(log_energies: F64, a: F64, ideal: F64) -> tuple[torch.Tensor, ...]:
        arrays = ((log_energies - mean) / deviation, a, a * ideal)
        return tuple(torch.from_numpy(array.astype(np.float32)) for array in arrays)

    torch.manual_seed(config.seed)
    net = BandGains(len(CENTRES), HIDDEN_SIZE)
    training = fit(Task(net, tensors(*train), tensors(*valid), lambda x, a: a * net(x)[0]), config, folder)
    say("ship it, and denoise voices in noises of a kind that it has never heard")
    x = tensors(*valid)[0][:5].reshape(-1, 1, 1, len(CENTRES)).numpy()
    model, report = ship(
        net, (torch.zeros(1, 1, len(CENTRES)), net.initial_state()), folder, "denoise", inputs=x, sample_rate=RATE,
        normalisation={"mean": mean, "deviation": deviation}, metadata={"hop": HOP, "centres": CENTRES},
    )  # fmt: skip
    denoiser = Denoiser(model)
    figures: dict[str, float] = {}
    gains, peers = [], []
    for kind, noise in UNSEEN.items():
        for snr in JUDGED:
            made = mixtures(TEST, {kind: noise}, (snr, snr), rng)
            better = [improvement(denoiser.denoise(m.noisy), m) for m in made]
            figures[f"{kind} at {snr:g} dB: SI-SDR better by, dB"] = float(np.mean(better))
            gains += better
            peers += [improvement(wiener(m), m) for m in made]
        listen(folder, kind, made[0], denoiser)
    figures["all: SI-SDR better by, dB"] = better_by = float(np.mean(gains))
    figures["all: the worst of them, dB"] = min(gains)
    figures["a fixed filter told both spectra, dB"] = float(np.mean(peers))
    if (read := spoken(folder, rng)) is not None:
        figures["espeak-ng in an engine at 0 dB, dB"] = improvement(denoiser.denoise(read.noisy), read)
        listen(folder, "espeak", read, denoiser)
    criterion = f"SI-SDR is better by at least {BETTER:g} dB in noises of a kind that never trained"
    return Outcome("denoise", folder, criterion, better_by >= BETTER, figures, {"denoise": report}, training)


def listen(folder: Path, name: str, mixture: Mixture, denoiser: Denoiser) -> None:
    """Leave the mixture for a person to hear: clean, noisy, and what the stream made of it."""
    write_wav(folder / f"{name}-clean.wav", RATE, mixture.speech)
    write_wav(folder / f"{name}-noisy.wav", RATE, mixture.noisy)
    write_wav(folder / f"{name}-denoised.wav", RATE, denoiser.denoise(mixture.noisy))
