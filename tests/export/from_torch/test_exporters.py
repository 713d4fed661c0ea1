"""torch's exporters are called in an environment in which they are right, and their failures explained."""

from __future__ import annotations

import importlib.metadata
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn

import streamgru
from export.from_torch.nets import (
    TOLERANCE,
    Loop,
    OneInput,
    Step,
    assert_agrees,
    declared,
    refused,
)
from streamgru_export.from_torch import exporters as torch_env
from streamgru_export.from_torch.export import export


def test_time_stays_dynamic_after_other_exports_in_the_process(path: Path) -> None:
    """torch keeps a GRU's static decomposition in a dispatch cache: the next export lost its time axis."""
    cache = torch.ops.aten.gru.input._dispatch_cache
    cache.clear()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.export.export(nn.GRU(4, 8), (torch.randn(5, 1, 4),))
    assert cache, "this torch no longer caches the dispatch: the workaround may go"
    gru = nn.GRU(4, 8, batch_first=True)
    export(gru, torch.randn(1, 5, 4), path)
    assert declared(path)["input"] == [1, "time", 4]
    assert_agrees(path, gru, torch.randn(1, 12, 4))
    assert not cache, "the next export in this process would use the decomposition of this one"


def test_no_length_of_the_example_is_left_in_shapes(path: Path) -> None:
    """Stale lengths gave Reshape(Y, [5, -1, 16]): T=10, B=2 came out as (5, 4, 16), without an error."""
    gru = nn.GRU(4, 16)
    export(gru, torch.randn(5, 2, 4), path, dynamic_batch=True)
    assert declared(path) == {
        "input": ["time", "batch", 4],
        "y": ["time", "batch", 16],
        "h_n": [1, "batch", 16],
    }
    graph = onnx.load(path).graph
    assert {v.name for v in graph.value_info} <= {w.name for w in graph.initializer}  # only weights keep inner shapes
    assert_agrees(path, gru, torch.randn(10, 2, 4))


def test_gru_before_attention(path: Path) -> None:
    def call(self: Any, x: Tensor) -> Tensor:
        y, _ = self.gru(x)
        return self.mha(y, y, y, need_weights=False)[0]

    net = OneInput(call, gru=nn.GRU(4, 8, batch_first=True), mha=nn.MultiheadAttention(8, 2, batch_first=True))
    export(net, torch.randn(1, 5, 4), path)
    assert_agrees(path, net, torch.randn(1, 10, 4))
    path.unlink()
    refused(path, net, torch.randn(1, 5, 4), "its length is fixed in the graph", exporter="legacy")


def test_attention_inside_a_step_has_an_onnx_form_in_the_legacy_exporter(path: Path) -> None:
    """Its fast path has none; it is switched off for the export, and on again."""
    encoder = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    net = Step(lambda self, x, h: (self.encoder(x), self.cell(x[:, 0], h)), encoder=encoder, cell=nn.GRUCell(8, 6))
    example = torch.randn(1, 3, 8), torch.zeros(1, 6)
    export(net, example, path, exporter="legacy", stream="step")
    assert torch.backends.mha.get_fastpath_enabled()
    assert_agrees(path, net, *example)


def test_nothing_of_torch_is_changed_after_an_export(path: Path) -> None:
    gru = nn.GRU(4, 8)
    x = torch.randn(5, 1, 4)
    before = gru(x)[0]
    kernels = dict(torch.ops.aten.gru.input.py_kernels)
    export(gru, x, path)
    assert torch.equal(gru(x)[0], before)
    assert torch.ops.aten.gru.input.py_kernels == kernels
    assert torch.is_grad_enabled()
    gru(x)[0].sum().backward()


@pytest.mark.slow
def test_python_loop_over_time_is_refused_by_the_default_exporter(path: Path) -> None:
    refused(path, Loop(), torch.randn(1, 5, 4), "fixed in the module's Python code.*Run nn.GRU over the time axis")
    whole = OneInput(lambda self, x: self.b(self.a(x)[0])[0], a=nn.GRU(4, 4), b=nn.GRU(4, 8))
    assert export(whole, torch.randn(5, 1, 4), path, exporter="legacy").kind == "sequence"


def packed(self: Any, x: Tensor) -> Tensor:
    sequences = nn.utils.rnn.pack_padded_sequence(x, torch.tensor([x.shape[1]]), batch_first=True)
    return nn.utils.rnn.pad_packed_sequence(self.gru(sequences)[0], batch_first=True)[0]


def test_packed_sequences_are_refused_with_a_way_out(path: Path) -> None:
    net = OneInput(packed, gru=nn.GRU(4, 8, batch_first=True))
    refused(path, net, torch.randn(1, 5, 4), "no packed sequences.*call nn.GRU on the tensor itself")
    net.call = lambda self, x: self.gru(x)[0]
    assert export(net, torch.randn(1, 5, 4), path, exporter="legacy").time_axis == {"x": 1, "y": 1}


def last_frames(self: Any, x: Tensor, lengths: Tensor) -> Tensor:
    """What packing is used for where the lengths differ, without it."""
    y, _ = self.gru(x)
    return y.gather(1, (lengths - 1).view(-1, 1, 1).expand(-1, 1, y.shape[2]))[:, 0]


@pytest.mark.parametrize("exporter", ["legacy", pytest.param("dynamo", marks=pytest.mark.slow)])
def test_the_last_frames_are_gathered_as_the_refusal_of_packing_says(path: Path, exporter: Any) -> None:
    net = Step(last_frames, gru=nn.GRU(4, 8, batch_first=True))
    export(net, (torch.randn(2, 5, 4), torch.tensor([1, 1])), path, exporter=exporter, time_axis=1, state=[])
    assert_agrees(path, net, torch.randn(2, 9, 4), torch.tensor([2, 8]))


@pytest.mark.slow
def test_the_other_exporter_is_recommended_where_it_was_seen_to_work(path: Path) -> None:
    net = OneInput(lambda self, x: self.gru(x[:, : self.most(x)])[0], gru=nn.GRU(4, 8, batch_first=True))
    net.most = lambda x: (x[0, :, 0] > -9).sum()
    refused(
        path,
        net,
        torch.randn(1, 5, 4),
        r"(?s)shape that depends on values.*multiply with the mask.*Pass exporter=\"legacy\": it exports this module",
        time_axis=1,
    )
    export(net, torch.randn(1, 5, 4), path, exporter="legacy", time_axis=1)
    assert_agrees(path, net, torch.randn(1, 9, 4))
    net.call = lambda self, x: self.gru(x * (x[:, :, :1] > -9))[0]
    export(net, torch.randn(1, 5, 4), path, exporter="legacy")


def test_an_operator_without_an_onnx_form_is_written_with_others(path: Path) -> None:
    net = OneInput(lambda self, x: torch.hypot(x, self.linear(x)), linear=nn.Linear(4, 4))
    refused(path, net, torch.randn(1, 4), "has no ONNX form: write it with simpler ones", exporter="legacy")
    net.call = lambda self, x: torch.sqrt(x * x + self.linear(x) ** 2)
    export(net, torch.randn(1, 4), path, exporter="legacy")


class Cut(nn.Module):
    """One state that is cut into an LSTM's two, and put together again."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(8, 8, batch_first=True)

    def forward(self, x: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        h, c = (part.contiguous() for part in memory.chunk(2, -1))
        y, state = self.lstm(input=x, hx=(h, c))
        return y, torch.cat(state, -1)


@pytest.mark.parametrize(
    "exporter, time",
    [("legacy", 1), ("legacy", 5), ("dynamo", 1), pytest.param("dynamo", 5, marks=pytest.mark.slow)],
)
def test_a_state_cut_from_one_tensor_exports_and_streams(path: Path, exporter: Any, time: int) -> None:
    net = Cut().eval()
    result = export(net, (torch.randn(1, time, 8), torch.zeros(1, 1, 16)), path, exporter=exporter)
    assert (result.kind, result.state) == ("step" if time == 1 else "sequence", (("memory_in", "memory_out"),))
    stream, memory = streamgru.load(path).stream(), torch.zeros(1, 1, 16)
    for x in torch.randn(20, 1, 1, 8):
        with torch.no_grad():
            y, memory = net(x, memory)
        frame = x.numpy() if time == 1 else x[:, 0].numpy()
        np.testing.assert_allclose(stream.step(frame).ravel(), y.numpy().ravel(), rtol=0, atol=TOLERANCE)


@pytest.mark.slow
def test_a_state_cut_from_one_tensor_may_have_a_dynamic_batch(path: Path) -> None:
    net = Cut()
    export(net, (torch.randn(1, 1, 8), torch.zeros(1, 1, 16)), path, dynamic_batch=True)
    assert_agrees(path, net, torch.randn(3, 1, 8), torch.randn(1, 3, 16))


def test_plain_rnn_needs_the_legacy_exporter_for_a_dynamic_time(path: Path) -> None:
    rnn = nn.RNN(4, 8)
    refused(path, rnn, torch.randn(5, 1, 4), 'unrolls nn.RNN.*exporter="legacy"')
    export(rnn, torch.randn(5, 1, 4), path, exporter="legacy")
    assert_agrees(path, rnn, torch.randn(9, 1, 4))
    step = export(rnn, (torch.randn(1, 1, 4), torch.zeros(1, 1, 8)), path, exporter="legacy", stream="step")
    assert step.state == (("h_in", "h_out"),)


def with_onnxscript(monkeypatch: pytest.MonkeyPatch, version: str | None) -> None:
    def lookup(_name: str) -> str:
        if version is None:
            raise importlib.metadata.PackageNotFoundError("onnxscript")
        return version

    monkeypatch.setattr(importlib.metadata, "version", lookup)


@pytest.mark.parametrize("version", ["0.5.7", "0.6.2", "0.7.0", "0.7.1.dev20260301"])
def test_onnxscript_that_writes_wrong_grus_is_refused(
    path: Path, monkeypatch: pytest.MonkeyPatch, version: str
) -> None:
    with_onnxscript(monkeypatch, version)
    match = rf"onnxscript {version} exports nn.GRU with linear_before_reset=0.*pip install 'onnxscript>=0.7.1'"
    refused(path, nn.GRU(4, 8), torch.randn(5, 1, 4), match)


@pytest.mark.parametrize("version", ["0.7.1", "0.10.0", "1.0"])
def test_later_onnxscript_is_accepted(monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    with_onnxscript(monkeypatch, version)
    torch_env.check_onnxscript()


def test_missing_onnxscript_is_reported(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_onnxscript(monkeypatch, None)
    refused(path, nn.GRU(4, 8), torch.randn(5, 1, 4), 'onnxscript is not installed.*pass exporter="legacy"')
    export(nn.GRU(4, 8), torch.randn(5, 1, 4), path, exporter="legacy")
