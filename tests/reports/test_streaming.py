"""Models that gave other numbers frame by frame than all at once."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from torch import Tensor, nn
from torch.nn import functional

import streamgru
from export.graphs import model, node, onnxruntime
from reports.trial import (
    EXPORTERS,
    does_not_stream,
    exported,
    floats,
    near,
    seeded,
    steps_like,
    tensor,
    torch_says,
    whole_is_right,
    written,
)  # fmt: skip


class Enhancer(nn.Module):
    """Causal convolutions over frames and bands, a GRU, a mask: DeepFilterNet's encoder and ERB decoder in small."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(1, 4, 3, padding=(0, 1)), nn.BatchNorm2d(4)
        self.norm.running_mean.normal_()
        self.gru, self.mask = nn.GRU(24, 8, 2, batch_first=True), nn.Linear(8, 6)

    def forward(self, x: Tensor) -> Tensor:
        u = torch.relu(self.norm(self.conv(functional.pad(x[:, None], (0, 0, 2, 0)))))
        return x * torch.sigmoid(self.mask(self.gru(u.permute(0, 2, 1, 3).flatten(2))[0]))


def all_ways(path, module, x, blocks=(1, 4, 7)) -> None:
    """Whole, frame by frame and in blocks of any size: what the module gives for x [B, T, ...]. And the certificate."""
    expected, loaded = torch_says(module, tensor(x)), streamgru.load(path)
    near(loaded.run(x), expected)
    for block in blocks:
        with loaded.stream() as stream:
            parts = [stream.run(x[:, t : t + block]) for t in range(0, x.shape[1], block)]
            near(np.concatenate(parts, 1), expected)
    streamgru.parity(path, module, steps=20).raise_for_verdict()


@EXPORTERS
def test_an_enhancer_in_frames(tmp_path, exporter):
    """Rikorose/DeepFilterNet#106: encoder and decoder gave other numbers after they were made to stream."""
    module = seeded(Enhancer)
    path = exported(module, torch.zeros(1, 5, 6), tmp_path, stream="sequence", exporter=exporter)
    all_ways(path, module, floats(1, 20, 6))


def scan(backward_in: int, backward_out: int) -> onnx.ModelProto:
    """h := tanh(h + x) over the frames of x, each way in either order."""
    names = ("h", "x_t"), ("h_new", "y_t")
    ins, outs = ([helper.make_tensor_value_info(n, TensorProto.FLOAT, [3]) for n in pair] for pair in names)
    nodes = [node("Add", ["h", "x_t"], ["s"]), node("Tanh", ["s"], ["h_new"]), node("Identity", ["h_new"], ["y_t"])]
    loop = node(
        "Scan", ["h0", "x"], ["h_n", "y"], body=helper.make_graph(nodes, "body", ins, outs), num_scan_inputs=1,
        scan_input_directions=[backward_in], scan_output_directions=[backward_out],
    )  # fmt: skip
    return model([loop], {"x": ["L", 3]}, ["y"], {"h0": np.zeros(3, np.float32)}, 16)


@pytest.mark.parametrize("backward", [(1, 0), (0, 1), (1, 1), (0, 0)])
def test_a_scan_that_runs_backward(tmp_path, backward):
    """sonos/tract#2848: scan_input_directions and scan_output_directions were ignored: forward, and wrong."""
    graph, feeds = scan(*backward), {"x": floats(7, 3)}
    whole_is_right(graph, feeds, tmp_path)
    if any(backward):
        does_not_stream(graph, tmp_path, "Scan_h_n.*from the last one.*It can run whole")
        return
    does_not_stream(graph, tmp_path, "Scan_h_n.*Export one step, with its state as an input and an output")
    step = [node("Add", ["h", "x"], ["s"]), node("Tanh", ["s"], ["h_new"]), node("Identity", ["h_new"], ["y"])]
    one = model(step, {"x": [3], "h": [3]}, ["y", "h_new"])
    with streamgru.load(written(one, tmp_path), state=[("h", "h_new")]).stream() as stream:
        near(stream.run(feeds["x"]), tensor(onnxruntime(graph, feeds)["y"]))


class CausalChunk(nn.Module):
    """A conformer's convolution with the last frames of the chunk before as its cache."""

    def __init__(self) -> None:
        super().__init__()
        self.into, self.conv, self.out = nn.Conv1d(4, 8, 1), nn.Conv1d(4, 4, 5, groups=4), nn.Conv1d(4, 4, 1)

    def forward(self, x: Tensor, cache: Tensor) -> tuple[Tensor, Tensor]:
        u = torch.cat([cache, functional.glu(self.into(x), 1)], 2)
        return self.out(functional.silu(self.conv(u))), u[:, :, -4:]


@EXPORTERS
@pytest.mark.parametrize("chunk", [1, 3, 8])
def test_a_causal_convolution_with_a_cache_in_chunks(tmp_path, chunk, exporter):
    """k2-fsa/icefall#661: the causal module with its cache differed from torch, the other one did not."""
    module = seeded(CausalChunk)
    cache = torch.zeros(1, 4, 4)
    path = exported(module, (torch.zeros(1, 4, chunk), cache), tmp_path, stream="step", exporter=exporter)
    x = floats(1, 4, 6 * chunk)
    chunks = [np.ascontiguousarray(u) for u in np.split(x, 6, 2)]
    steps_like(path, module, chunks, [cache])
    whole = torch_says(module, tensor(x), cache)[0]
    with streamgru.load(path).stream() as stream:
        near(np.concatenate([stream.step(u) for u in chunks], 2), whole)


class OneArgument(nn.Module):
    """A module as a function of its layers."""

    def __init__(self, call, **layers: nn.Module) -> None:
        super().__init__()
        self.call = call
        for name, layer in layers.items():
            self.add_module(name, layer)

    def forward(self, x: Tensor) -> Tensor:
        return self.call(self, x)


def refused_but_whole(module: nn.Module, folder, x, match: str) -> None:
    """No stream, with the node and the reason; mode="whole", as the message says, gives what torch gives."""
    path = exported(module, torch.zeros(1, 6, *x.shape[2:]), folder, stream="sequence")
    with pytest.raises(streamgru.CannotStreamError, match=match) as caught:
        streamgru.load(path)
    assert "It can run whole" in str(caught.value)
    near(streamgru.load(path, mode="whole").run(x), torch_says(module, tensor(x)))


def test_a_bidirectional_lstm_does_not_filter_in_real_time(tmp_path):
    """maum-ai/voicefilter#3: a mask by convolution and a bidirectional LSTM."""
    module = seeded(
        lambda: OneArgument(
            lambda m, x: x * torch.sigmoid(m.mask(m.lstm(m.conv(x.transpose(1, 2)).transpose(1, 2))[0])),
            conv=nn.Conv1d(5, 6, 1),
            lstm=nn.LSTM(6, 4, batch_first=True, bidirectional=True),
            mask=nn.Linear(8, 5),
        )
    )
    refused_but_whole(module, tmp_path, floats(1, 11, 5), "LSTM")


def test_a_group_norm_over_time_is_not_causal(tmp_path):
    """seorim0/SE-using-SRL-Model#2: GroupNorm takes its mean over all frames."""
    module = seeded(
        lambda: OneArgument(
            lambda m, x: m.gru(m.norm(x.transpose(1, 2)).transpose(1, 2))[0],
            norm=nn.GroupNorm(1, 5),
            gru=nn.GRU(5, 4, batch_first=True),
        )
    )
    refused_but_whole(module, tmp_path, floats(1, 9, 5), "Norm|Reduce|Mean")


class Chomped(nn.Module):
    """Convolutions padded on both sides whose last frames are cut off, as temporal convolutional nets are written."""

    def __init__(self) -> None:
        super().__init__()
        self.convs = nn.ModuleList(
            nn.Conv1d(5, 5, 3, padding=2 * dilation, dilation=dilation) for dilation in (1, 2, 4)
        )
        self.norms = nn.ModuleList(nn.BatchNorm1d(5) for _ in range(3))
        for norm in self.norms:
            norm.running_mean.normal_()
            norm.running_var.uniform_(0.5, 2)

    def forward(self, x: Tensor) -> Tensor:
        u = x.transpose(1, 2)
        for conv, norm in zip(self.convs, self.norms, strict=True):
            u = u + torch.relu(norm(conv(u)[:, :, : -conv.padding[0]]))
        return u.transpose(1, 2)


@EXPORTERS
def test_a_convolution_whose_future_is_cut_off(tmp_path, exporter):
    """STMicroelectronics/stm32ai-modelzoo-services#41: the causal TCNN, a Slice between Conv and BatchNorm."""
    module = seeded(Chomped)
    path = exported(module, torch.zeros(1, 6, 5), tmp_path, stream="sequence", exporter=exporter)
    all_ways(path, module, floats(1, 25, 5))


class Keyword(nn.Module):
    """A convolution, a GRU, its last frame decides. `padding` in front of the convolution."""

    def __init__(self, padding: int) -> None:
        super().__init__()
        self.conv, self.gru, self.head = nn.Conv1d(5, 6, 3), nn.GRU(6, 4, batch_first=True), nn.Linear(4, 3)
        self.padding = padding

    def forward(self, x: Tensor) -> Tensor:
        u = torch.relu(self.conv(functional.pad(x.transpose(1, 2), (self.padding, 0))))
        return self.head(self.gru(u.transpose(1, 2))[0][:, -1])


@EXPORTERS
def test_a_keyword_net_that_was_trained_on_windows(tmp_path, exporter):
    """google-research/google-research#819: a CRNN that was far worse streamed than on windows.

    Without padding the convolution gives nothing for its first frames, a stream would: refused; padded in front, as
    the message says, it streams.
    """
    refused_but_whole(
        seeded(lambda: Keyword(0)), tmp_path, floats(1, 16, 5), "Conv.*all its padding, 2, at the beginning"
    )
    module = seeded(lambda: Keyword(2))
    x, path = floats(1, 16, 5), exported(module, torch.zeros(1, 8, 5), tmp_path, stream="sequence", exporter=exporter)
    with streamgru.load(path).stream() as stream:
        for t in range(16):
            near(stream.step(x[:, t]), torch_says(module, tensor(x[:, : t + 1])))


def test_convolutions_padded_on_both_sides_do_not_stream(tmp_path):
    """google-research/google-research#1425: bc_resnet with paddings="same"."""
    module = seeded(
        lambda: OneArgument(
            lambda m, x: x + m.two(torch.relu(m.one(x.transpose(1, 2)))).transpose(1, 2),
            one=nn.Conv1d(5, 5, 3, padding="same"),
            two=nn.Conv1d(5, 5, 3, padding=2, dilation=2),
        )
    )
    refused_but_whole(module, tmp_path, floats(1, 14, 5), "Conv")


class Detector(nn.Module):
    """Samples with the last of the frame before in front of them, a strided convolution, an LSTM, a probability."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.cell, self.head = nn.Conv1d(1, 6, 8, 4), nn.LSTMCell(6, 5), nn.Linear(5, 1)

    def forward(self, x: Tensor, context: Tensor, state: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        u = torch.relu(self.conv(torch.cat([context, x], 1)[:, None])).mean(2)
        h, c = self.cell(u, (state[0], state[1]))
        return torch.sigmoid(self.head(h)), x[:, -4:], torch.stack([h, c])


@EXPORTERS
def test_a_detector_that_wants_the_samples_before(tmp_path, exporter):
    """snakers4/silero-vad#771: 512 samples without the 64 before them give no speech, and no error."""
    module = seeded(Detector)
    states = [torch.zeros(1, 4), torch.zeros(2, 1, 5)]
    pairs = [("context", "context_out"), ("state", "state_out")]
    path = exported(module, (torch.zeros(1, 32), *states), tmp_path, stream="step", state=pairs, exporter=exporter)
    loaded = steps_like(path, module, list(floats(12, 1, 32)), states)
    assert [t.name for t in loaded.inputs] == ["x"]
    assert sorted(t.shape for t in loaded.states) == [(1, 4), (2, 1, 5)]


@EXPORTERS
def test_an_effect_without_clicks_between_buffers(tmp_path, exporter):
    """yeeking/ai-enhanced-audio-book#5: the LSTM's state was not handed to the next buffer."""
    module = seeded(
        lambda: OneArgument(
            lambda m, x: m.head(m.lstm(x)[0]) + x, lstm=nn.LSTM(1, 12, batch_first=True), head=nn.Linear(12, 1)
        )
    )
    path = exported(module, torch.zeros(1, 16, 1), tmp_path, stream="sequence", exporter=exporter)
    all_ways(path, module, floats(1, 200, 1), blocks=(1, 64, 17))
