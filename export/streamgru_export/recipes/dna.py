"""Label DNA base by base: outside, promoter, or which base of a codon, by a known rule that only a memory can follow.

The sequences are generated, the labels are those of an automaton that reads them from the left:

    outside              until the box TATAAT has been read; its last base is promoter
    promoter             until the codon ATG has been read; its last base is the third of a codon
    first, second, third in turn from there on; the last base of TAA, TAG or TGA, in frame, is outside again

So the net must know which region it is in, and inside a gene the place modulo three; gene finders label the reading
frame too (Burge and Karlin 1997). The bases are random, with boxes and start codons put in so that the regions are
about as long as each other. To beat: the label that is most frequent after the last 6 bases (the box's length),
counted in the training sequences.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from ..training.config import TrainConfig
from ..training.fit import Task, fit
from ..zoo import LanguageModel
from .outcome import Outcome, ship

CONFIG = TrainConfig(
    epochs=12, batch_size=32, learning_rate=6e-3, schedule="cosine", loss="cross_entropy",
    recurrent_initialiser="orthogonal",
)  # fmt: skip
BASES = "ACGT"
LABELS = ("outside", "promoter", "first", "second", "third")
BOX, START, STOPS = "TATAAT", "ATG", ("TAA", "TAG", "TGA")
LENGTH = 200
TRAIN, VALID = 2000, 200  # sequences
STREAM = 50_000  # bases that judge, in one sequence
CONTEXT = 6
HIDDEN_SIZE, EMBEDDING_SIZE = 64, 8
RIGHT = 0.98  # what is asked for

Ids = NDArray[np.int64]


def label(sequence: str) -> list[int]:
    """The label of every base, as places in LABELS."""
    labels, state, begin = [], 0, 0
    for end in range(1, len(sequence) + 1):
        read = sequence[:end] if end < len(BOX) else sequence[end - len(BOX) : end]
        in_frame = (end - begin) % 3 == 0
        if state == 0 and read.endswith(BOX):
            state, begin = 1, end
        elif state == 1 and read.endswith(START) and end - begin >= len(START):
            state, begin = 2, end
        elif state == 2 and in_frame and read.endswith(STOPS):
            state, begin = 0, end
        labels.append(state if state < 2 else 2 + (end - begin - 1) % 3)
    return labels


def generate(length: int, rng: np.random.Generator) -> str:
    """A sequence of random bases, with a box or a start codon every 20 to 60 of them."""
    pieces: list[str] = []
    while sum(map(len, pieces)) < length:
        pieces.append("".join(rng.choice(list(BASES), rng.integers(20, 60))))
        pieces.append(str(rng.choice([BOX, START])))
    return "".join(pieces)[:length]


def encode(sequence: str) -> Ids:
    """The bases' places in BASES."""
    return np.array([BASES.index(base) for base in sequence], np.int64)


def examples(count: int, rng: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Bases and labels, [count, LENGTH] of int64."""
    sequences = [generate(LENGTH, rng) for _ in range(count)]
    x = np.stack([encode(s) for s in sequences])
    return torch.from_numpy(x), torch.tensor([label(s) for s in sequences])


def context_accuracy(x: Ids, labels: Ids, test: Ids, truth: Ids) -> float:
    """The share of `test` [N] that the label most frequent after its last CONTEXT bases has right; x: [B, T]."""
    powers = len(BASES) ** np.arange(CONTEXT)

    def context(ids: Ids) -> Ids:
        windows = np.lib.stride_tricks.sliding_window_view(ids, CONTEXT, axis=-1)
        places: Ids = windows @ powers
        return places

    counts = np.zeros((len(BASES) ** CONTEXT, len(LABELS)))
    np.add.at(counts, (context(x).ravel(), labels[:, CONTEXT - 1 :].ravel()), 1)
    guess = counts.argmax(-1)[context(test)]
    return float((guess == truth[CONTEXT - 1 :]).mean())


def run(folder: Path, config: TrainConfig, say: Callable[[str], None]) -> Outcome:
    """Generate, train, ship, label."""
    rng = np.random.default_rng(config.seed)
    train, valid = examples(TRAIN, rng), examples(VALID, rng)
    torch.manual_seed(config.seed)
    net = LanguageModel(len(BASES), EMBEDDING_SIZE, HIDDEN_SIZE)
    net.head = torch.nn.Linear(HIDDEN_SIZE, len(LABELS))
    say(f"train a GRU, H = {HIDDEN_SIZE}, on {TRAIN} sequences of {LENGTH} bases")
    training = fit(Task(net, train, valid, lambda x: net(x)[0]), config, folder)
    say(f"ship it, and label {STREAM} bases in one stream")
    sequence = generate(STREAM, rng)
    test, truth = encode(sequence), np.array(label(sequence))
    example = (torch.zeros(1, 1, dtype=torch.int64), net.initial_state())
    frames = test[:2000].reshape(-1, 1, 1)
    model, report = ship(net, example, folder, "dna", inputs=frames, labels=LABELS, metadata={"bases": BASES})
    with model.stream() as stream:
        found = stream.run(test.reshape(-1, 1, 1)).reshape(len(test), -1).argmax(-1)
    figures = {"streamed GRU, share of bases right": float((found == truth).mean())}
    figures |= {f"of {name}": float((found == truth)[truth == i].mean()) for i, name in enumerate(LABELS)}
    naive = context_accuracy(train[0].numpy(), train[1].numpy(), test, truth)
    figures[f"most frequent label after {CONTEXT} bases"] = naive
    right = figures["streamed GRU, share of bases right"]
    criterion = f"at least {RIGHT:.0%} of the bases have the label of the rule"
    met = right >= RIGHT and right > naive
    return Outcome("dna", folder, criterion, met, figures, {"dna": report}, training)
