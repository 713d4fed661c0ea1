"""A character language model of Shakespeare's Coriolanus, and text that it writes.

The first 80 % of the text train it, the next 10 % choose the epoch, the last 10 % are streamed character by
character and scored in bits per character, −log₂ p(x_(t+1) | x_1 ... x_t) on average. To beat: the n-gram model of
order 2, which looks at two characters, interpolated with the lower orders as suits the 10 % that choose best:

    p₂(c | ab) = λ₂ n(abc)/n(ab) + λ₁ n(bc)/n(b) + λ₀ n(c)/n + λ uniform        (Jelinek and Mercer 1980)
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.resources import files
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

import streamgru
from streamgru._disk import write_text
from streamgru.decode import draw, log_softmax

from ..training.config import TrainConfig
from ..training.fit import Task, fit
from ..zoo import LanguageModel
from .outcome import Outcome, ship

CONFIG = TrainConfig(
    epochs=30, batch_size=32, learning_rate=4e-3, schedule="cosine", optimiser="adamw", loss="cross_entropy",
    weight_decay=0.01, dropout=0.3, recurrent_initialiser="orthogonal",
)  # fmt: skip
HIDDEN_SIZE, EMBEDDING_SIZE = 160, 32
WINDOW, STRIDE = 100, 50  # characters
WRITTEN, TEMPERATURE = 400, 0.7

Ids = NDArray[np.int64]


def read_text() -> str:
    """The shipped text, without the lines that name its source."""
    text = files("streamgru_export.recipes").joinpath("data/coriolanus.txt").read_text(encoding="utf-8")
    return "".join(line for line in text.splitlines(keepends=True) if not line.startswith("#"))


def split(text: str) -> tuple[str, Ids, Ids, Ids]:
    """The alphabet, in order, and the places in it of the text's first 80 %, next 10 % and last 10 %."""
    alphabet = "".join(sorted(set(text)))
    ids = np.array([alphabet.index(c) for c in text], np.int64)
    train, valid, test = np.split(ids, [len(ids) * 8 // 10, len(ids) * 9 // 10])
    return alphabet, train, valid, test


def windows(ids: Ids, stride: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Pieces x [N, WINDOW] and their next characters."""
    starts = np.arange(0, len(ids) - WINDOW - 1, stride)
    at = torch.from_numpy(starts[:, None] + np.arange(WINDOW))
    tensor = torch.from_numpy(ids)
    return tensor[at], tensor[at + 1]


# The n-gram model.


def ngram_bits(train: Ids, valid: Ids, test: Ids, size: int) -> float:
    """Bits per character of the interpolated model of order 2 on `test`."""
    counts = np.zeros((size, size, size))
    np.add.at(counts, (train[:-2], train[1:-1], train[2:]), 1)
    orders = [counts, counts.sum(0), counts.sum((0, 1))]
    tables = [
        np.divide(n, n.sum(-1, keepdims=True), out=np.zeros_like(n), where=n.sum(-1, keepdims=True) > 0) for n in orders
    ]

    def probabilities(ids: Ids) -> NDArray[np.float64]:
        a, b, c = ids[:-2], ids[1:-1], ids[2:]
        uniform = np.full(len(c), 1 / size)
        return np.stack([tables[0][a, b, c], tables[1][b, c], tables[2][c], uniform])

    weights = _interpolation(probabilities(valid))
    return float(-np.log2(weights @ probabilities(test)).mean())


def _interpolation(p: NDArray[np.float64]) -> NDArray[np.float64]:
    """The weights of the mixture that finds `p` [models, N] most likely, by expectation–maximisation."""
    weights = np.full(len(p), 1 / len(p))
    for _ in range(100):
        shares = weights[:, None] * p
        weights = (shares / shares.sum(0)).mean(1)
    return weights


# The stream.


def streamed_bits(model: streamgru.Model, ids: Ids) -> float:
    """Bits per character of the streamed model: of each character but the first two, as the n-gram model's."""
    with model.stream() as stream:
        logits = stream.run(ids[:-1].reshape(-1, 1, 1)).reshape(len(ids) - 1, -1)
    nats = [-log_softmax(row)[c] for row, c in zip(logits[1:], ids[2:], strict=True)]
    return float(np.mean(nats) / np.log(2))


def write(model: streamgru.Model, alphabet: str, seed: int, begin: str = "\n\n") -> str:
    """Text drawn from the streamed model, a character at a time."""
    rng = np.random.default_rng(seed)
    written = list(begin)
    with model.stream() as stream:
        for i in range(len(begin) + WRITTEN - 1):
            logits = stream.step(np.array([[alphabet.index(written[i])]], np.int64))
            if i >= len(begin) - 1:
                written.append(alphabet[draw(logits, TEMPERATURE, rng)])
    return "".join(written).strip()


def run(folder: Path, config: TrainConfig, say: Callable[[str], None]) -> Outcome:
    """Train, ship, score, write."""
    alphabet, train, valid, test = split(read_text())
    torch.manual_seed(config.seed)
    net = LanguageModel(len(alphabet), EMBEDDING_SIZE, HIDDEN_SIZE)
    say(f"train a GRU, H = {HIDDEN_SIZE}, on {len(train)} characters")
    task = Task(net, windows(train, STRIDE), windows(valid, WINDOW), lambda x: net(x)[0])
    training = fit(task, config, folder)
    say("ship it, and score the last tenth of the text from the stream")
    example = (torch.zeros(1, 1, dtype=torch.int64), net.initial_state())
    frames = test[:2000].reshape(-1, 1, 1)
    model, report = ship(net, example, folder, "characters", inputs=frames, metadata={"alphabet": alphabet})
    figures = {
        "streamed GRU, bits per character": streamed_bits(model, test),
        "n-gram model of order 2, bits per character": ngram_bits(train, valid, test, len(alphabet)),
    }
    text = write(model, alphabet, config.seed)
    write_text(folder / "written.txt", text + "\n")
    bits, order_2 = figures.values()
    criterion = "the streamed model needs fewer bits per character than the n-gram model of order 2"
    return Outcome("characters", folder, criterion, bits < order_2, figures, {"characters": report}, training, text)
