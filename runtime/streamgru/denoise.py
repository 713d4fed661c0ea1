"""Denoising speech with a streamed model of band gains: samples in, samples out, a hop at a time. Needs numpy alone.

A hop of new samples and the one before make a frame, as in RNNoise (Valin 2018, https://arxiv.org/abs/1709.08243):

    X = FFT(v ⊙ frame)                      v the root of a Hann window
    E_b = Σ_k w_bk |X_k|²                    energy in band b; the bands' triangles w_bk add up to 1 in every bin k
    g = model((log₁₀(E + 10⁻¹⁰) − mean) / deviation)          a gain between 0 and 1 for each band
    out += v ⊙ IFFT(X_k Σ_b w_bk g_b)        overlapped and added: v² of neighbours add up to 1

The model says how it wants its frames: `metadata` has `sample_rate`, `normalisation` (mean, deviation) and, in
`meta`, `hop` and `centres`, the bins of the bands' peaks. The recipe `denoise` trains one. Output lags by one hop.
"""

from __future__ import annotations

import os
import wave
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._alone import Alone, alone
from ._disk import opened, writing
from ._options import as_path, whole_number
from ._types import Array
from .errors import DataError, ModelError, ShapeError
from .model import Model

F64 = NDArray[np.float64]
FLOOR = 1e-10  # energy of silence
MOST_CHANNELS = 2**15 - 1  # of a WAV


class Bands:
    """Frames of samples as energies in bands, and gains of bands back to samples.

    Parameters
    ----------
    hop : int
        Half a frame, in samples.
    centres : sequence of int
        The bin of each band's peak, ascending, of 0 ... hop; the first band holds all below, the last all above.
    """

    def __init__(self, hop: int, centres: Any) -> None:
        self.hop = hop
        self.window = np.sin(np.pi * (np.arange(2 * hop) + 0.5) / (2 * hop))
        bins = np.arange(hop + 1)
        self.weights = np.stack([np.interp(bins, centres, row) for row in np.eye(len(centres))])  # [bands, bins]

    def spectrum(self, frame: Array) -> NDArray[np.complex128]:
        """Samples [..., 2 hop] -> bins [..., hop + 1]."""
        return np.fft.rfft(frame * self.window)

    def energies(self, x: NDArray[np.complex128]) -> F64:
        """Bins [..., hop + 1] -> bands [..., B]."""
        energies: F64 = (x.real**2 + x.imag**2) @ self.weights.T
        return energies

    def samples(self, x: NDArray[np.complex128], gains: Array) -> F64:
        """Bins and gains [..., B] -> samples [..., 2 hop], to be overlapped and added."""
        return np.fft.irfft(x * (gains @ self.weights), 2 * self.hop) * self.window


class Denoiser(Alone[bool]):
    """A stream of samples without the noise.

    Parameters
    ----------
    model : Model
        Band gains, as the module's text has it.

    Attributes
    ----------
    sample_rate : int
        That the model was trained for.
    hop : int
        Samples that a step takes and gives.

    Raises
    ------
    ModelError
        The model does not say how it wants its frames, or has another form.
    """

    def __init__(self, model: Model) -> None:
        if not isinstance(model, Model):
            raise ModelError(f"a denoiser is made of a model as load() gives it, not of {type(model).__name__}")
        try:
            meta, normalisation = model.metadata["meta"], model.metadata["normalisation"]
            self.sample_rate, self.hop = int(model.metadata["sample_rate"]), int(meta["hop"])
            centres = np.array(meta["centres"], np.int64)
            self._mean = np.array(normalisation["mean"], np.float64)
            self._deviation = np.array(normalisation["deviation"], np.float64)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise ModelError(f"this model is no denoiser: its metadata lack or garble {error}") from error
        (x, *more), (y, *others) = model.inputs or (None,), model.outputs or (None,)
        bands = len(centres) if centres.ndim == 1 else 0
        fits = x and y and not more and not others and int(np.prod(x.shape)) == int(np.prod(y.shape)) == bands > 1
        ordered = fits and centres[0] >= 0 and centres[-1] <= self.hop <= 2**16 and bool((np.diff(centres) > 0).all())
        if not ordered or self._mean.shape != (bands,) != self._deviation.shape or not self._deviation.all():
            raise ModelError(
                "this model is no denoiser: one input and one output of a number for each band was expected"
            )
        assert x is not None
        self._shape = x.shape
        self._bands = Bands(self.hop, centres)
        self._stream = model.stream()
        self._reset()
        self._turn = True

    @alone
    def reset(self) -> None:
        """Forget all that was heard."""
        self._reset()

    def _reset(self) -> None:
        self._stream.reset()
        self._before = np.zeros(self.hop)  # the last hop of samples
        self._tail = np.zeros(self.hop)  # what the last frame adds to the next hop

    @alone
    def step(self, samples: Array) -> NDArray[np.float32]:
        """The next `hop` samples in ±1 -> the denoised hop before. [hop] of float32.

        Raises
        ------
        ShapeError
            Another number of samples.
        NonFiniteError
            A sample is no number; the state is as it was.
        ConcurrencyError
            Another thread is in it.
        """
        return self._step(samples)

    def _step(self, samples: Array) -> NDArray[np.float32]:
        new = np.asarray(samples, np.float64)
        if new.shape != (self.hop,):
            raise ShapeError(f"a step takes {self.hop} samples, got shape {list(new.shape)}")
        spectrum = self._bands.spectrum(np.concatenate([self._before, new]))
        features = (np.log10(self._bands.energies(spectrum) + FLOOR) - self._mean) / self._deviation
        gains = self._stream.step(features.astype(np.float32).reshape(self._shape)).ravel()
        out = self._bands.samples(spectrum, gains)
        done = self._tail + out[: self.hop]
        self._before, self._tail = new, out[self.hop :]
        return done.astype(np.float32)

    @alone
    def denoise(self, samples: Array) -> NDArray[np.float32]:
        """A whole recording [N], from a fresh state; the output is as long and not late."""
        self._reset()
        hops = -(-len(samples) // self.hop) + 1
        padded = np.zeros(hops * self.hop)
        padded[: len(samples)] = samples
        out = np.concatenate([self._step(hop) for hop in padded.reshape(hops, self.hop)])
        return out[self.hop :][: len(samples)]


def read_wav(path: str | os.PathLike[str]) -> tuple[int, NDArray[np.float32]]:
    """The sample rate, and the samples [N, channels] in ±1, of a PCM file of 8, 16, 24 or 32 bits.

    Raises
    ------
    DataError
        It holds no PCM.
    FileError
        It cannot be read.
    """
    path = as_path("path", path)
    try:
        with opened(path) as source, wave.open(source, "rb") as file:
            channels, width, rate = file.getnchannels(), file.getsampwidth(), file.getframerate()
            data = np.frombuffer(file.readframes(file.getnframes()), np.uint8)
    except (wave.Error, EOFError) as error:
        raise DataError(f"{path} is no WAV of PCM: {str(error) or 'it ends early'}") from error
    data = data[: len(data) // (width * channels) * width * channels].reshape(-1, width)
    if width > 4:
        raise DataError(f"{path}: {8 * width} bits a sample; 8, 16, 24 or 32 were expected")
    if width == 1:
        samples = (data.astype(np.float32) - 128) / np.float32(128)
    else:
        wide = np.zeros((len(data), 4), np.uint8)
        wide[:, 4 - width :] = data
        samples = wide.view("<i4").astype(np.float32) / np.float32(2**31)
    return rate, samples.reshape(-1, channels)


def write_wav(path: str | os.PathLike[str], rate: int, samples: Array) -> None:
    """Samples [N] or [N, channels] in ±1, as PCM of 16 bits; what is louder is cut.

    Raises
    ------
    DataError
        The samples are no numbers, or have another shape.
    OptionError
        No file has such a rate.
    FileError
        It cannot be written there.
    """
    path, rate = as_path("path", path), whole_number("rate", rate, 1, 2**31 - 1)
    pcm = _as_pcm(samples, path)
    with writing(path) as target, wave.open(target, "wb") as file:
        file.setnchannels(1 if pcm.ndim == 1 else pcm.shape[1])
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(pcm.tobytes())


def _as_pcm(samples: Array, path: Path) -> NDArray[np.int16]:
    try:
        wide = np.asarray(samples, np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(f"{path}: samples are numbers: {error}") from None
    if wide.ndim not in (1, 2) or (wide.ndim == 2 and not 1 <= wide.shape[1] <= MOST_CHANNELS) or np.isnan(wide).any():
        raise DataError(f"{path}: samples are numbers, [N] or [N, channels], not {list(wide.shape)} or NaN")
    return np.rint(np.clip(wide, -1, 32767 / 32768) * 32768).astype("<i2")
