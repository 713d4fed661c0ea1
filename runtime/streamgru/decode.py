"""Writing sequences from a step of a decoder: greedy, sampled, and by beam search. Needs numpy alone.

An encoder–decoder is two models. The encoder streams: a symbol in, a row of its states out. The decoder is a
function of one symbol and everything that it depends on, compiled with `mode="whole"`, so that its state h goes
in and comes out and a search can hold as many as it likes. With s(u | past) the decoder's logits:

    log p(u | past) = s(u | past) − log Σ_v exp s(v | past)
    greedy    u_t = argmax p(u | past)
    sampled   u_t ~ p(u | past)^(1/temperature), renormalised
    beam      the `width` sequences of the largest Σ_t log p(u_t | past) / length^penalty, kept step by step

Sources: Sutskever et al. 2014, https://arxiv.org/abs/1409.3215 (beam search); Wu et al. 2016,
https://arxiv.org/abs/1609.08144 (dividing by a power of the length).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ._alone import Alone, alone, to_the_end
from ._options import seed as checked_seed
from ._options import whole_number, zero_or_more
from ._types import Array
from .errors import ModelError, NonFiniteError, OptionError, ShapeError
from .model import Model

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]

MOST = 2**31 - 1  # symbols, or sequences
INPUTS = {"u", "h_in", "summary", "encoded", "mask"}


@dataclass(frozen=True)
class Hypothesis:
    """A sequence written.

    Attributes
    ----------
    symbols : tuple of int
        Without the start and the end symbol.
    log_probability : float
        Of these symbols, and of the end symbol where `complete`.
    complete : bool
        The end symbol was written; otherwise `max_length` was reached.
    """

    symbols: tuple[int, ...] = ()
    log_probability: float = 0.0
    complete: bool = False

    def score(self, penalty: float) -> float:
        """Log probability divided by length^penalty; the end symbol counts."""
        length = max(1, len(self.symbols) + self.complete)
        return self.log_probability / float(length**penalty)


class SequenceWriter(Alone[bool]):
    """An encoder and a decoder that write a sequence from a sequence.

    Parameters
    ----------
    encoder : Model
        A step: ids [1, 1] in; "encoded" [1, H] and "start" [1, H], the decoder's first state, out.
    decoder : Model
        Compiled with `mode="whole"`. Inputs "u" [1, 1] and "h_in" [1, H]; and "summary" [1, H], which is given
        the last row of "encoded", or "encoded" [1, S, H] and "mask" [1, S], which are given all. Outputs
        "logits" of any shape, and "h_out" [1, H].
    start, end : int
        The symbol before the first, and the one after the last.
    max_length : int
        The most symbols written.

    Raises
    ------
    ModelError
        The models are not such.

    Notes
    -----
    It holds one stream of each model: one thread at a time, and a second one gets a ConcurrencyError.
    """

    def __init__(self, encoder: Model, decoder: Model, *, start: int, end: int, max_length: int) -> None:
        for which, model in (("encoder", encoder), ("decoder", decoder)):
            if not isinstance(model, Model):
                raise ModelError(f"the {which} is a model as load() gives it, not {type(model).__name__}")
        _check_names("encoder's outputs", {t.name for t in encoder.outputs}, {"encoded", "start"}, {"encoded", "start"})
        _check_names("decoder's inputs", {t.name for t in decoder.inputs}, {"u", "h_in"}, INPUTS)
        _check_names("decoder's outputs", {t.name for t in decoder.outputs}, {"logits", "h_out"}, {"logits", "h_out"})
        self.start, self.end = start, end
        self.max_length = whole_number("max_length", max_length, 1, MOST)
        self._encoder = encoder.stream()
        self._decoder = decoder.stream()
        self._shapes = {tensor.name: tensor.shape for tensor in decoder.inputs}
        self._turn = True

    @alone
    def greedy(self, source: Sequence[int]) -> Hypothesis:
        """The most probable symbol at every step. `source`: the ids to read."""
        return self._write(source, lambda logp: int(np.argmax(logp)))

    @alone
    def sample(self, source: Sequence[int], *, temperature: float = 1.0, seed: int = 0) -> Hypothesis:
        """Symbols drawn as probable as the decoder says; a temperature below 1 prefers the more probable."""
        rng = np.random.default_rng(checked_seed(seed))
        return self._write(source, lambda logp: draw(logp, temperature, rng))

    @alone
    def beam(self, source: Sequence[int], *, width: int = 4, penalty: float = 0.0) -> list[Hypothesis]:
        """The best sequences found, the best first.

        Parameters
        ----------
        source : sequence of int
        width : int
            How many sequences are kept at each step, and returned.
        penalty : float
            The power of the length that scores are divided by: 0 prefers short sequences, 1 long ones.
        """
        width = whole_number("width", width, 1, MOST)
        context, h = self._read(source)
        done: list[Hypothesis] = []
        alive = [(Hypothesis(), h)]
        for _ in range(self.max_length):
            grown = [new for hypothesis, state in alive for new in self._grow(hypothesis, state, context, width)]
            grown.sort(key=lambda pair: -pair[0].log_probability)
            best = grown[:width]
            done += [hypothesis for hypothesis, _ in best if hypothesis.complete]
            alive = [pair for pair in best if not pair[0].complete]
            if not alive or len(done) >= width:
                break
        unfinished = [hypothesis for hypothesis, _ in alive] if len(done) < width else []
        return sorted(done + unfinished, key=lambda hypothesis: -hypothesis.score(penalty))[:width]

    @to_the_end
    def close(self) -> None:
        """End the streams."""
        self._encoder.close()
        self._decoder.close()

    # ---- reading ----

    def _read(self, source: Sequence[int]) -> tuple[dict[str, F32], F32]:
        """What the decoder takes besides `u` and `h_in`, and the first h."""
        if not len(source):
            raise ShapeError("there is nothing to read: the source has no symbols")
        self._encoder.reset()
        read = self._encoder.run(np.asarray(source, np.int64).reshape(-1, 1, 1))
        rows: F32 = read["encoded"]  # [S, 1, H]
        start: F32 = read["start"][-1]
        if "summary" in self._shapes:
            return {"summary": rows[-1]}, start
        return self._padded(rows), start

    def _padded(self, rows: F32) -> dict[str, F32]:
        """The encoder's states in the decoder's fixed shape, and the mask."""
        shape = self._shapes["encoded"]
        if len(rows) > shape[1]:
            raise ShapeError(f"a source of {len(rows)} symbols; this decoder was exported for at most {shape[1]}")
        encoded, mask = np.zeros(shape, np.float32), np.zeros(shape[:2], np.float32)
        encoded[0, : len(rows)] = rows[:, 0]
        mask[0, : len(rows)] = 1
        return {"encoded": encoded, "mask": mask}

    # ---- writing ----

    def _step(self, symbol: int, h: F32, context: dict[str, F32]) -> tuple[F64, F32]:
        """One symbol in; log probabilities [symbols] and the next h out."""
        y = self._decoder.step({"u": np.array([[symbol]], np.int64), "h_in": h, **context})
        return log_softmax(y["logits"].ravel()), y["h_out"]

    def _write(self, source: Sequence[int], choose: Any) -> Hypothesis:
        context, h = self._read(source)
        symbol, total = self.start, 0.0
        symbols: list[int] = []
        for _ in range(self.max_length):
            logp, h = self._step(symbol, h, context)
            symbol = choose(logp)
            total += float(logp[symbol])
            if symbol == self.end:
                return Hypothesis(tuple(symbols), total, True)
            symbols.append(symbol)
        return Hypothesis(tuple(symbols), total, False)

    def _grow(
        self, hypothesis: Hypothesis, h: F32, context: dict[str, F32], width: int
    ) -> list[tuple[Hypothesis, F32]]:
        """The `width` best continuations by one symbol."""
        last = hypothesis.symbols[-1] if hypothesis.symbols else self.start
        logp, after = self._step(last, h, context)
        grown = []
        for symbol in np.argsort(-logp, kind="stable")[:width].tolist():
            complete = symbol == self.end
            symbols = hypothesis.symbols if complete else (*hypothesis.symbols, symbol)
            grown.append((Hypothesis(symbols, hypothesis.log_probability + float(logp[symbol]), complete), after))
        return grown


def log_softmax(logits: Array) -> F64:
    """log p of logits [V], in float64."""
    shifted = logits.astype(np.float64) - float(np.max(logits))
    result: F64 = shifted - np.log(np.exp(shifted).sum())
    return result


def draw(logits: Array, temperature: float, rng: np.random.Generator) -> int:
    """A symbol drawn from softmax(logits / temperature).

    Raises
    ------
    OptionError
        The temperature is not positive.
    ShapeError
        There are no logits.
    NonFiniteError
        The logits hold NaN or infinity; -inf is a symbol that is never drawn, where another can be.
    """
    temperature = zero_or_more("temperature", temperature, "a positive number")
    if not 0 < temperature < np.inf:
        raise OptionError(f"temperature is a positive number, not {temperature}")
    wide = np.ravel(logits).astype(np.float64)
    if not len(wide):
        raise ShapeError("there is nothing to draw from: no logits")
    if not np.isfinite(wide.max()):
        raise NonFiniteError("the logits hold NaN or infinity")
    with np.errstate(over="ignore"):  # of a tiny temperature: the largest logit alone is left
        p = np.exp(log_softmax((wide - wide.max()) / temperature))
    return int(rng.choice(len(p), p=p / p.sum()))


def _check_names(what: str, found: set[str], needed: set[str], known: set[str]) -> None:
    if not needed <= found <= known:
        raise ModelError(f"the {what} are {sorted(found)}; {sorted(needed)} were expected, of {sorted(known)}")
