"""The family in one table: every member of the zoo exported, compiled, streamed, proved and timed.

Cells stand under a Linear (:class:`CellNet`), H = 64, with random weights and normalisers as if trained; the nets are
of like size. The error is the largest difference of the stream from the float64 oracle, torch and onnxruntime over the
frames asked for, in the output's scale; the speed-up is over onnxruntime's `run` of the same step. A member that needs
the whole sequence is compiled for WHOLE frames, and called as often as makes up the frames asked for. An
encoder–decoder writes sequences greedily, and its symbols must be those that the torch module writes.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from onnx import load_model
from torch import nn

import streamgru
import streamgru_export
from streamgru._disk import make_folder, write_bytes, write_text
from streamgru.decode import SequenceWriter
from streamgru_export.bench import bench
from streamgru_export.environment import environment

from ..zoo import (
    CELLS,
    AdditiveAttentionDecoder,
    BandGains,
    BidirectionalClassifier,
    CellNet,
    Decoder,
    DotAttentionDecoder,
    Encoder,
    EncoderDecoder,
    EncoderStep,
    GRUNet,
    LanguageModel,
    LSTMNet,
    RNNNet,
    StackedGRU,
)

INPUTS, HIDDEN_SIZE, OUTPUTS = 16, 64, 8
STEPS, WHOLE = 10_000, 50
SOURCES, SYMBOLS, LONGEST, WRITTEN = 500, 30, 12, 16  # inputs, alphabet, longest source, longest target
EXPORTERS: tuple[Literal["dynamo", "legacy"], ...] = ("dynamo", "legacy")

# The nets: what each is called with, states included. The first is whole sequences.
NETS: dict[str, Callable[[], tuple[nn.Module, tuple[torch.Tensor, ...]]]] = {
    "BidirectionalClassifier": lambda: (
        BidirectionalClassifier(INPUTS, HIDDEN_SIZE, OUTPUTS), (torch.randn(1, WHOLE, INPUTS),)
    ),
    "GRUNet": lambda: _with_state(GRUNet(INPUTS, HIDDEN_SIZE, OUTPUTS), torch.zeros(1, 1, INPUTS)),
    "StackedGRU": lambda: _with_state(StackedGRU(INPUTS), torch.zeros(1, 1, INPUTS)),
    "BandGains": lambda: _with_state(BandGains(INPUTS, HIDDEN_SIZE), torch.zeros(1, 1, INPUTS)),
    "LSTMNet": lambda: _with_state(LSTMNet(INPUTS, HIDDEN_SIZE, OUTPUTS), torch.zeros(1, 1, INPUTS)),
    "RNNNet": lambda: _with_state(RNNNet(INPUTS, HIDDEN_SIZE, OUTPUTS), torch.zeros(1, 1, INPUTS)),
    "LanguageModel": lambda: _with_state(
        LanguageModel(SYMBOLS, INPUTS, HIDDEN_SIZE), torch.zeros(1, 1, dtype=torch.int64)
    ),
}  # fmt: skip
DECODERS: dict[str, Any] = {kind.__name__: kind for kind in (Decoder, AdditiveAttentionDecoder, DotAttentionDecoder)}
MEMBERS = (*CELLS, *NETS)


@dataclass
class FamilyRow:
    """One member by one exporter."""

    cell: str
    exporter: str
    runs_as: str
    operators: int
    error: float
    holds: bool
    step_us: float
    speed_up: float


@dataclass
class Written:
    """One encoder–decoder by one exporter."""

    decoder: str
    exporter: str
    inputs: int
    identical: int
    symbols: int


def _with_state(net: Any, x: torch.Tensor) -> tuple[nn.Module, tuple[torch.Tensor, ...]]:
    """The net, and its example: a frame and the state, which an LSTM has as a pair in one argument."""
    state = net.initial_state()
    return net, (x, *state) if isinstance(net, StackedGRU) else (x, state)


def make_net(name: str, seed: int = 0) -> CellNet:
    """The cell under a Linear; normalisers have running values, gains and offsets of their own."""
    torch.manual_seed(seed)
    net = CellNet([CELLS[name](INPUTS, HIDDEN_SIZE)], OUTPUTS)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm1d) and module.running_mean is not None and module.running_var is not None:
            module.running_mean.uniform_(-0.3, 0.3)
            module.running_var.uniform_(0.1, 1.0)
        if isinstance(module, nn.BatchNorm1d | nn.LayerNorm):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.3, 0.3)
    return net.eval()


def member(name: str, seed: int = 0) -> tuple[nn.Module, tuple[torch.Tensor, ...]]:
    """A member in eval mode, and what it is called with."""
    if name in CELLS:
        net = make_net(name, seed)
        return net, (torch.zeros(1, INPUTS), net.initial_state())
    torch.manual_seed(seed)
    made, example = NETS[name]()
    return made.eval(), example


def measure(
    name: str, exporter: Literal["dynamo", "legacy"], folder: Path, *, steps: int = STEPS, rounds: int = 30
) -> FamilyRow:
    """One row; leaves the model and its parity page in `folder`."""
    net, example = member(name)
    whole = isinstance(net, BidirectionalClassifier)
    onnx, sgru = folder / f"{name}-{exporter}.onnx", folder / f"{name}-{exporter}.sgru"
    if whole:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # that it cannot stream, which is known
            streamgru_export.export(net, example, onnx, stream="sequence", exporter=exporter)
        compiled = streamgru_export.compile(onnx, sgru, mode="whole", length=WHOLE)
    else:
        streamgru_export.export(net, example, onnx, stream="step", exporter=exporter)
        compiled = streamgru_export.compile(onnx, sgru)
    operators = compiled.program.operators
    report = streamgru.parity(sgru, module=net, onnx=onnx, steps=max(1, steps // WHOLE) if whole else steps)
    report.save_html(sgru.with_suffix(".html"))
    codes = [operator.code.name for operator in operators]
    runs_as = next((code for code in ("GRU", "LSTM", "RNN") if code in codes), "parts")
    error = max(check.difference.scaled for check in report.checks)
    peer = _of_length(onnx, WHOLE) if whole else onnx
    return FamilyRow(name, exporter, runs_as, len(operators), error, report.ok, *time_step(sgru, peer, rounds))


def _of_length(onnx: Path, length: int) -> Path:
    """The graph with its dynamic axes bound to a length, beside it: onnxruntime is timed at what it declares."""
    model = load_model(onnx)
    for port in model.graph.input:
        for dim in port.type.tensor_type.shape.dim:
            if dim.dim_param:
                dim.dim_value = length
    path = onnx.with_stem(f"{onnx.stem}-{length}")
    write_bytes(path, model.SerializeToString())
    return path


def time_step(sgru: Path, onnx: Path, rounds: int) -> tuple[float, float]:
    """µs of `stream.step`, and the speed-up over onnxruntime: by each one's quick quartile of the rounds.

    What else runs on the machine makes rounds longer, never shorter, and onnxruntime's long calls meet more of it.
    """
    timing = bench(sgru, onnx=onnx, rounds=rounds)
    ours, theirs = timing["stream.step"].low_us, timing["onnxruntime run"].low_us
    return ours, theirs / ours


def write_sequences(
    name: str, exporter: Literal["dynamo", "legacy"], folder: Path, *, inputs: int = SOURCES, seed: int = 0
) -> Written:
    """Greedy sequences of the compiled models beside those of the torch module."""
    torch.manual_seed(seed)
    net = EncoderDecoder(Encoder(SYMBOLS, INPUTS, HIDDEN_SIZE), DECODERS[name](SYMBOLS, INPUTS, HIDDEN_SIZE)).eval()
    for weight in net.parameters():
        weight.data *= 2  # an untrained net finds all symbols about as probable
    models = []
    parts = {"encoder": (EncoderStep(net.encoder), EncoderStep.OUTPUTS), "decoder": (net.decoder, ("logits", "h_out"))}
    for part, (module, names) in parts.items():
        example = module.example(LONGEST) if part == "decoder" else module.example()
        onnx = folder / f"{name}-{exporter}-{part}.onnx"
        streamgru_export.export(module, example, onnx, stream="step", exporter=exporter, output_names=names)
        mode: Literal["stream", "whole"] = "whole" if part == "decoder" else "stream"
        models.append(streamgru.Model(streamgru_export.compile(onnx, onnx.with_suffix(".sgru"), mode=mode).image))
    writer = SequenceWriter(*models, start=0, end=1, max_length=WRITTEN)
    rng = np.random.default_rng(seed)
    identical = symbols = 0
    for _ in range(inputs):
        source = rng.integers(0, SYMBOLS, rng.integers(1, LONGEST + 1)).tolist()
        expected = _by_torch(net, source)
        identical += list(writer.greedy(source).symbols) == expected
        symbols += len(expected)
    writer.close()
    return Written(name, exporter, inputs, identical, symbols)


def _by_torch(net: EncoderDecoder, source: list[int]) -> list[int]:
    """What the module writes, one symbol at a time."""
    x, written = torch.tensor([source]), []
    with torch.no_grad():
        encoded, summary, h = net.encoder(x, torch.tensor([len(source)]))
        context = net.decoder.context(encoded, torch.ones(1, len(source)), summary)
        symbol = 0
        for _ in range(WRITTEN):
            logits, h = net.decoder(torch.tensor([[symbol]]), h, *context)
            symbol = int(logits.argmax())
            if symbol == 1:
                break
            written.append(symbol)
    return written


def measure_all(
    folder: Path, say: Callable[[str], None] = print, *, steps: int = STEPS, rounds: int = 30
) -> tuple[list[FamilyRow], list[Written]]:
    """Every member by both exporters; leaves family.md, family.json, and each one's model and parity page."""
    make_folder(folder)
    rows, written = [], []
    for name in MEMBERS:
        for exporter in EXPORTERS:
            rows.append(measure(name, exporter, folder, steps=steps, rounds=rounds))
            say(line(rows[-1]))
    for name in DECODERS:
        for exporter in EXPORTERS:
            written.append(write_sequences(name, exporter, folder))
            say(line(written[-1]))
    save(folder, rows, written, steps)
    return rows, written


def save(folder: Path, rows: Sequence[FamilyRow], written: Sequence[Written], steps: int) -> None:
    """Write family.md and family.json."""
    data = {"rows": [asdict(row) for row in rows], "written": [asdict(row) for row in written], "made": environment()}
    write_text(folder / "family.json", json.dumps(data, indent=2) + "\n")
    write_text(folder / "family.md", document(rows, written, steps))


def line(row: FamilyRow | Written) -> str:
    """A row of a Markdown table."""
    if isinstance(row, Written):
        return f"| {row.decoder} | {row.exporter} | {row.identical} of {row.inputs} | {row.symbols} |"
    verdict = "holds" if row.holds else "**fails**"
    return (
        f"| {row.cell} | {row.exporter} | {row.runs_as} | {row.operators} | {row.error:.1e} | {verdict} "
        f"| {row.step_us:.2f} | {row.speed_up:.1f}× |"
    )


def table(rows: Sequence[FamilyRow], written: Sequence[Written] = ()) -> str:
    """The Markdown tables."""
    header = "| cell or net | exporter | runs as | operators | error | parity | µs a step | over onnxruntime |"
    lines = [header, "|--|--|--|--|--|--|--|--|", *map(line, rows)]
    if written:
        lines += ["", "| encoder–decoder | exporter | same symbols as torch | symbols written |", "|--|--|--|--|"]
        lines += map(line, written)
    return "\n".join(lines)


def document(rows: Sequence[FamilyRow], written: Sequence[Written], steps: int) -> str:
    """docs/family.md, whole."""
    made = environment()
    versions = ", ".join(f"{package} {made[package]}" for package in ("torch", "onnx", "onnxruntime", "onnxscript"))
    return f"""# The family

Written by `streamgru train --family`, which leaves it in `build/family/`; do not edit it by hand. {date.today()},
{made["cpu"]}, kernels {made["isa"]}, one thread;
{versions}.
Other work ran on the machine: compare times within a row, not between rows.

Each member of the [zoo](../export/streamgru_export/zoo/) is exported by both of torch's exporters, compiled, and
streamed over {steps:,} random frames. Cells have I = {INPUTS}, H = {HIDDEN_SIZE} and a Linear to {OUTPUTS} above them.

- **runs as**: the operator that the compiler found in the graph, or "parts" where the cell is no GRU, LSTM or RNN of
  ONNX and runs operator by operator.
- **error**: the largest difference of the stream from the float64 oracle, torch and onnxruntime, over the output's
  scale max(1, largest |y|). Parity holds up to 2e-6.
- **µs a step**, **over onnxruntime**: `stream.step`, and onnxruntime's `run` of the same step over it, in turns; of
  each the quick quartile. The BidirectionalClassifier reads {WHOLE} frames in a call; its time is that of a call.

{table(rows)}

Encoder–decoders write greedily, encoder and decoder step by step in streamgru; torch is asked for the same sources.

{table(rows, written).partition(chr(10) * 2)[2]}
"""
