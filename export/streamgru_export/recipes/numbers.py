"""Translate numbers in words to digits, with the encoder–decoder, bare or with attention.

    four hundred and seven thousand and twelve  →  4 0 7 0 1 2

A source is a sequence of words, a target one of digits. Numbers have one to six digits, each length as often; those
that the translator is judged by are drawn first and never trained on. The loop that writes runs in `streamgru.decode`
on the compiled encoder and decoder; the figure is the share of numbers written without any error.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import streamgru
from streamgru._types import Array
from streamgru.decode import SequenceWriter

from ..training.config import TrainConfig
from ..training.fit import Task, fit
from ..zoo import (
    AdditiveAttentionDecoder,
    Decoder,
    DotAttentionDecoder,
    Encoder,
    EncoderDecoder,
    EncoderStep,
)
from .outcome import Outcome, ship

DECODERS: dict[str, Callable[[int, int, int], Decoder | AdditiveAttentionDecoder | DotAttentionDecoder]] = {
    "numbers": Decoder,
    "numbers-additive": AdditiveAttentionDecoder,
    "numbers-dot": DotAttentionDecoder,
}
CONFIG = TrainConfig(
    epochs=16,
    batch_size=64,
    learning_rate=4e-3,
    schedule="cosine",
    loss="cross_entropy",
    recurrent_initialiser="orthogonal",
)
TRAIN, VALID, HELD_OUT = 8000, 500, 1000
DIGITS = 6
HIDDEN_SIZE, EMBEDDING_SIZE = 96, 24
EXACT = 0.95  # what is asked for
# Trained attention is steep: torch and onnxruntime are themselves 3e-6 off float64 in some of these decoders.
DECODER_TOLERANCE = 1e-5

ONES = [
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
    "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
]  # fmt: skip
TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
WORDS = [*ONES, *TENS, "hundred", "thousand", "and"]
LONGEST = 11  # words: nine hundred and ninety nine thousand nine hundred and ninety nine
START, END = 10, 11  # after the digits


def in_words(number: int) -> list[str]:
    """A number below a million, as it is said."""
    thousands, rest = divmod(number, 1000)
    if not thousands:
        return _below_thousand(rest)
    words = [*_below_thousand(thousands), "thousand"]
    if rest:
        words += [*(["and"] if rest < 100 else []), *_below_thousand(rest)]
    return words


def _below_thousand(number: int) -> list[str]:
    hundreds, rest = divmod(number, 100)
    words = [ONES[hundreds], "hundred"] if hundreds else []
    if rest or not hundreds:
        words += [*(["and"] if hundreds else []), *_below_hundred(rest)]
    return words


def _below_hundred(number: int) -> list[str]:
    if number < 20:
        return [ONES[number]]
    tens, ones = divmod(number, 10)
    return [TENS[tens - 2], *([ONES[ones]] if ones else [])]


def ids(number: int) -> list[int]:
    """The words' places in WORDS."""
    return [WORDS.index(word) for word in in_words(number)]


def draw(rng: np.random.Generator) -> tuple[list[int], list[int], list[int]]:
    """Numbers to train on, to choose the epoch by, and to judge by: none is in two of them but by its training
    twice."""
    lengths = rng.integers(1, DIGITS + 1, VALID + HELD_OUT + 4 * TRAIN)
    numbers = [int(rng.integers(10 ** (n - 1) if n > 1 else 0, 10**n)) for n in lengths]
    distinct = list(dict.fromkeys(n for n in numbers if n >= 100))  # all the shorter ones are trained on
    held_out, valid = distinct[:HELD_OUT], distinct[HELD_OUT : HELD_OUT + VALID]
    apart = {*held_out, *valid}
    return [n for n in numbers if n not in apart][:TRAIN], valid, held_out


def tensors(numbers: Sequence[int]) -> tuple[Tensor, ...]:
    """x [B, S], lengths [B], u [B, T], target [B, T] of a list of numbers."""
    sources = [ids(n) for n in numbers]
    targets = [[int(digit) for digit in str(n)] for n in numbers]
    x = torch.tensor([s + [0] * (LONGEST - len(s)) for s in sources])
    u = torch.tensor([[START, *t] + [END] * (DIGITS - len(t)) for t in targets])
    wanted = torch.tensor([[*t, END] + [-100] * (DIGITS - len(t)) for t in targets])
    return x, torch.tensor([len(s) for s in sources]), u, wanted


def ship_both(
    net: EncoderDecoder, folder: Path, sample: Sequence[int]
) -> tuple[SequenceWriter, dict[str, streamgru.ParityReport]]:
    """The encoder and the decoder, each exported, compiled and proved on a sample of numbers."""
    step = EncoderStep(net.encoder)
    words = np.concatenate([ids(n) for n in sample]).reshape(-1, 1, 1)
    encoder, of_encoder = ship(
        step, step.example(), folder, "encoder", inputs=words, output_names=step.OUTPUTS, metadata={"words": WORDS}
    )
    decoder, of_decoder = ship(
        net.decoder,
        net.decoder.example(LONGEST),
        folder,
        "decoder",
        inputs=decoder_frames(net, sample),
        mode="whole",
        output_names=["logits", "h_out"],
        tolerance=DECODER_TOLERANCE,
    )
    writer = SequenceWriter(encoder, decoder, start=START, end=END, max_length=DIGITS + 1)
    return writer, {"encoder": of_encoder, "decoder": of_decoder}


def decoder_frames(net: EncoderDecoder, sample: Sequence[int]) -> dict[str, Array]:
    """What the decoder is called with to write a sample of numbers: one step of each."""
    x, lengths, u, _ = tensors(sample)
    with torch.no_grad():
        encoded, summary, h = net.encoder(x, lengths)
    mask = (torch.arange(LONGEST) < lengths[:, None]).float()
    frames = {"u": u[:, None, :1], "h_in": h[:, None]}
    if isinstance(net.decoder, Decoder):
        frames["summary"] = summary[:, None]
    else:
        frames |= {"encoded": encoded[:, None], "mask": mask[:, None]}
    return {name: np.ascontiguousarray(tensor.numpy()) for name, tensor in frames.items()}


def run(folder: Path, config: TrainConfig, say: Callable[[str], None], name: str = "numbers") -> Outcome:
    """Train, ship, translate, score."""
    train, valid, held_out = draw(np.random.default_rng(config.seed))
    torch.manual_seed(config.seed)
    net = EncoderDecoder(
        Encoder(len(WORDS), EMBEDDING_SIZE, HIDDEN_SIZE), DECODERS[name](12, EMBEDDING_SIZE, HIDDEN_SIZE)
    )
    say(f"train {type(net.decoder).__name__}, H = {HIDDEN_SIZE}, on {len(train)} numbers")
    training = fit(Task(net, tensors(train), tensors(valid)), config, folder)
    say("ship it, and write the numbers held out from the compiled models")
    writer, parity = ship_both(net, folder, held_out[:200])
    greedy = [writer.greedy(ids(n)).symbols for n in held_out]
    beam = [writer.beam(ids(n), width=3)[0].symbols for n in held_out[:200]]
    exact = _share(greedy, held_out)
    figures = {"exact, greedy": exact, "exact, beam of 3 (200 numbers)": _share(beam, held_out)}
    shown = "\n".join(f"  {' '.join(in_words(n))} → {_digits(s)}" for n, s in zip(held_out[:5], greedy, strict=False))
    criterion = f"at least {EXACT:.0%} of {len(held_out)} numbers never trained on are written without an error"
    return Outcome(name, folder, criterion, exact >= EXACT, figures, parity, training, shown)


def _share(written: Sequence[tuple[int, ...]], numbers: Sequence[int]) -> float:
    pairs = zip(written, numbers, strict=False)
    return sum(_digits(symbols) == str(number) for symbols, number in pairs) / len(written)


def _digits(symbols: Sequence[int]) -> str:
    return "".join(str(s) if s < START else "?" for s in symbols)
