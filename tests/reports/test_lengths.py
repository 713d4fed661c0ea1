"""Sequences of several lengths: packed, masked, reversed, padded."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

import streamgru
from export.graphs import model, node, onnxruntime
from reports.test_export import recurrent
from reports.trial import (
    close,
    does_not_stream,
    export_is_refused,
    exported,
    floats,
    near,
    seeded,
    tensor,
    torch_says,
    written,
)  # fmt: skip

T = 6


class Packed(nn.Module):
    """A recurrent layer around pack and pad."""

    def __init__(self, layer: nn.Module, padding: float = 0.0, *, by_hand: bool = False, total: bool = True) -> None:
        super().__init__()
        self.layer, self.padding, self.by_hand, self.total = layer, padding, by_hand, total

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        back = None
        if self.by_hand:
            lengths, order = torch.sort(lengths, descending=True)
            x, back = x.index_select(0, order), torch.sort(order)[1]
        u = self.layer(pack_padded_sequence(x, lengths, batch_first=True))[0]
        total = x.shape[1] if self.total else None
        y = pad_packed_sequence(u, batch_first=True, padding_value=self.padding, total_length=total)[0]
        return y if back is None else y.index_select(0, back)


def lengths_are_obeyed(path, module, x, *cases: list[int]) -> None:
    """Run whole, with the lengths as the graph takes them: what torch gives."""
    loaded = streamgru.load(path, mode="whole")
    for case in cases:
        n = np.array(case, np.int64)
        near(loaded.run({"x": x, "lengths": n}), torch_says(module, tensor(x), tensor(n)))


def test_a_packed_lstm(tmp_path):
    """pytorch/pytorch#62240: LSTM between pack and pad, two sequences of two or one of four frames."""
    example = (torch.zeros(2, T, 4), torch.tensor([T, 4]))
    options = {"stream": "sequence", "dynamic_batch": True}
    short = seeded(lambda: Packed(nn.LSTM(4, 3, batch_first=True), total=False))
    export_is_refused(short, example, tmp_path, "total_length", **options)
    module = seeded(lambda: Packed(nn.LSTM(4, 3, batch_first=True)))
    path = exported(module, example, tmp_path, **options)
    x = floats(2, T, 4)
    lengths_are_obeyed(path, module, x, [T, 4], [3, 1], [T, T])
    lengths_are_obeyed(path, module, floats(1, T, 4), [4])
    n = np.array([5, 2])
    near(streamgru.load(path, batch=2).run({"x": x, "lengths": n}), torch_says(module, tensor(x), tensor(n)))


def test_lengths_sorted_by_hand_around_a_bidirectional_lstm(tmp_path):
    """pytorch/pytorch#41774: sort, index_select, pack, a bidirectional LSTM, pad, index_select back."""
    module = seeded(lambda: Packed(nn.LSTM(4, 3, 2, batch_first=True, bidirectional=True), by_hand=True))
    path = exported(
        module, (torch.zeros(3, T, 4), torch.tensor([4, T, 2])), tmp_path, stream="sequence", dynamic_batch=True
    )
    x = floats(3, T, 4)
    lengths_are_obeyed(path, module, x, [4, T, 2], [1, 2, 3], [5, 5, T])
    with pytest.raises(streamgru.ModelError, match=r"TopK node .* mixes its entries.*It can run whole"):
        streamgru.load(path, batch=3)


def test_a_padding_value_that_is_not_zero(tmp_path):
    """pytorch/pytorch#28423: pad_packed_sequence(padding_value=...) is not exported."""
    module = seeded(lambda: Packed(nn.GRU(4, 3, batch_first=True), -7.0))
    example = (torch.zeros(2, T, 4), torch.tensor([T, 4]))
    export_is_refused(module, example, tmp_path, "differ|padding", stream="sequence", dynamic_batch=True)


class NormOfPacked(nn.Module):
    """BatchNorm on the frames of a packed sequence, which is then made by hand."""

    def __init__(self, *, rnn: bool) -> None:
        super().__init__()
        self.norm, self.gru = nn.BatchNorm1d(4), nn.GRU(4, 3, batch_first=True)
        self.norm.running_mean.normal_()
        self.rnn = rnn

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        normed = PackedSequence(
            self.norm(packed.data), packed.batch_sizes, packed.sorted_indices, packed.unsorted_indices
        )
        return pad_packed_sequence(
            self.gru(normed)[0] if self.rnn else normed, batch_first=True, total_length=x.shape[1]
        )[0]


@pytest.mark.parametrize("rnn", [False, True])
def test_a_packed_sequence_made_by_hand(tmp_path, rnn):
    """pytorch/pytorch#49936: BatchNorm1d on a PackedSequence's data."""
    module = seeded(lambda: NormOfPacked(rnn=rnn))
    example = (torch.zeros(2, T, 4), torch.tensor([T, 4]))
    export_is_refused(module, example, tmp_path, "pack_padded_sequence", stream="sequence", time_axis=1)


class Unsorted(nn.Module):
    """Two layers, unsorted lengths; the initial state is zeros made for the batch."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.LSTM(4, 3, 2, batch_first=True)

    def run(self, x: Tensor, lengths: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        u = pack_padded_sequence(x, lengths.reshape(-1).cpu(), batch_first=True, enforce_sorted=False)
        y, (h, c) = self.rnn(u, (h, c))
        return pad_packed_sequence(y, batch_first=True, total_length=x.shape[1])[0], h, c

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        zeros = torch.zeros(2, x.size(0), 3)
        return self.run(x, lengths, zeros, zeros)[0]


class UnsortedState(Unsorted):
    """The initial state is an argument, the final one a result."""

    def forward(self, x: Tensor, lengths: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return self.run(x, lengths, h, c)


def test_unsorted_lengths_in_a_batch_of_another_size(tmp_path):
    """microsoft/onnxruntime#11830: 11 sequences in the example, 8 in use: ScatterElements fails."""
    module = seeded(Unsorted)
    example = (torch.zeros(5, T, 4), torch.tensor([2, T, 1, 4, 5]))
    path = exported(module, example, tmp_path, stream="sequence", dynamic_batch=True)
    lengths_are_obeyed(path, module, floats(5, T, 4), [2, T, 1, 4, 5], [5, 5, 5, 5, T])
    lengths_are_obeyed(path, module, floats(3, T, 4), [2, T, 1], [1, 1, 4])
    with pytest.raises(streamgru.ModelError, match=r"TopK node .* Give its number, such as dims="):
        streamgru.load(path, batch=3)
    with pytest.raises(streamgru.ModelError, match=r"LSTM node .* Give it as an input of its own"):
        streamgru.load(path, dims={"batch": 3})
    zeros = torch.zeros(2, 3, 3)
    given = (torch.zeros(3, T, 4), torch.tensor([2, T, 1]), zeros, zeros)
    loaded = streamgru.load(exported(seeded(UnsortedState), given, tmp_path, stream="sequence"))
    x, n = floats(3, T, 4), np.array([2, 5, 1])
    near(loaded.run({"x": x, "lengths": n}), torch_says(module, tensor(x), tensor(n)))
    with loaded.stream() as stream, pytest.raises(streamgru.ShapeError, match="length"):
        stream.run({"x": x, "lengths": np.tile(n, (T, 1))})  # a stream's frames are sequences of one


# ---- ONNX graphs ----


def run_whole(graph: onnx.ModelProto, folder, feeds: dict[str, Any]) -> dict[str, Any]:
    loaded = streamgru.load(written(graph, folder), mode="whole")
    y = loaded.run(feeds)
    return y if isinstance(y, dict) else {loaded.outputs[0].name: y}


@pytest.mark.parametrize("direction", ["reverse", "bidirectional"])
@pytest.mark.parametrize("op", ["GRU", "LSTM", "RNN"])
def test_lengths_of_a_backward_layer(tmp_path, op, direction):
    """onnx/onnx-tensorflow#342: GRU(direction="reverse") with sequence_lens began at the end of the padding."""
    w = recurrent(op, 9, 5, 2 if direction == "bidirectional" else 1)
    cell = node(op, ["x", "W", "R", "B", "lens"], ["Y", "Y_h"], hidden_size=5, direction=direction)
    graph = model([cell], {"x": ["T", "N", 9], "lens": ["N"]}, ["Y", "Y_h"], w, dtypes={"lens": TensorProto.INT32})
    feeds = {"x": floats(7, 3, 9), "lens": np.array([3, 7, 1], np.int32)}
    close(run_whole(graph, tmp_path, feeds), onnxruntime(graph, feeds))
    with pytest.raises(streamgru.CannotStreamError, match=f"{op}_Y"):
        streamgru.load(written(graph, tmp_path), batch=3)


@pytest.mark.parametrize("op", ["GRU", "LSTM"])
def test_lengths_that_are_all_shorter_than_the_sequence(tmp_path, op):
    """microsoft/onnxruntime#1193: behind the longest length the output was not written."""
    cell = node(op, ["x", "W", "R", "B", "lens"], ["Y", "Y_h"], hidden_size=5)
    ins = {"x": ["T", "N", 4], "lens": ["N"]}
    graph = model([cell], ins, ["Y", "Y_h"], recurrent(op, 4, 5), dtypes={"lens": TensorProto.INT32})
    feeds = {"x": floats(9, 3, 4), "lens": np.array([2, 4, 3], np.int32)}
    expected = onnxruntime(graph, feeds)
    assert not expected["Y"][4:].any()
    for _ in range(2):
        close(run_whole(graph, tmp_path, feeds), expected)
    loaded = streamgru.load(written(graph, tmp_path), batch=3)
    close(loaded.named(loaded.run(feeds)), expected)


def masked_loop() -> onnx.ModelProto:
    """What tf2onnx makes of LSTM behind Embedding(mask_zero=True): a Loop whose Where keeps the state of a 0."""
    w = recurrent("LSTM", 5, 3)
    body = [
        node("Gather", ["embedded", "i"], ["x_t"], axis=0), node("Gather", ["mask", "i"], ["m_t"], axis=0),
        node("MatMul", ["x_t", "Wt"], ["xw"]), node("MatMul", ["h", "Rt"], ["hr"]), node("Add", ["xw", "hr"], ["s"]),
        node("Add", ["s", "b"], ["a"]), node("Split", ["a"], ["ai", "af", "ag", "ao"], axis=-1, num_outputs=4),
        node("Sigmoid", ["ai"], ["gi"]), node("Sigmoid", ["af"], ["gf"]), node("Tanh", ["ag"], ["gg"]),
        node("Sigmoid", ["ao"], ["go_"]), node("Mul", ["gf", "c"], ["fc"]), node("Mul", ["gi", "gg"], ["ig"]),
        node("Add", ["fc", "ig"], ["c1"]), node("Tanh", ["c1"], ["tc"]), node("Mul", ["go_", "tc"], ["h1"]),
        node("Where", ["m_t", "h1", "last"], ["y_t"]), node("Where", ["m_t", "h1", "h"], ["h_new"]),
        node("Where", ["m_t", "c1", "c"], ["c_new"]), node("Identity", ["y_t"], ["y_out"]),
        node("Identity", ["go"], ["go_on"]),
    ]  # fmt: skip
    value = helper.make_tensor_value_info
    ins = [value("i", TensorProto.INT64, []), value("go", TensorProto.BOOL, [])]
    ins += [value(name, TensorProto.FLOAT, None) for name in ("last", "h", "c")]
    outs = [value("go_on", TensorProto.BOOL, [])]
    outs += [value(name, TensorProto.FLOAT, None) for name in ("y_t", "h_new", "c_new", "y_out")]
    loop = node(
        "Loop", ["count", "true", "zeros", "zeros", "zeros"], ["last_end", "h_end", "c_end", "all"],
        body=helper.make_graph(body, "body", ins, outs),
    )  # fmt: skip
    nodes = [
        node("Transpose", ["ids"], ["frames"], perm=[1, 0]), node("Gather", ["E", "frames"], ["embedded"]),
        node("Equal", ["frames", "none"], ["pads"]), node("Not", ["pads"], ["kept"]),
        node("Unsqueeze", ["kept", "two"], ["mask"]), node("Shape", ["frames"], ["shape"]),
        node("Gather", ["shape", "none"], ["count"]), loop, node("Transpose", ["all"], ["y"], perm=[1, 0, 2]),
    ]  # fmt: skip
    constants = {
        "E": floats(5, 5), "Wt": w["W"][0].T, "Rt": w["R"][0].T, "b": w["B"][0, :12] + w["B"][0, 12:],
        "none": np.int64(0), "two": np.array([2]), "true": np.bool_(True), "zeros": np.zeros((1, 3), np.float32),
    }  # fmt: skip
    return model(nodes, {"ids": [1, "unk__4"]}, ["y"], constants, 18, {"ids": TensorProto.INT64})


class MaskedStep(nn.Module):
    """One frame of that loop, of the same weights."""

    def __init__(self) -> None:
        super().__init__()
        w = {k: tensor(v[0]) for k, v in recurrent("LSTM", 5, 3).items()}
        self.embedding, self.cell = nn.Embedding.from_pretrained(tensor(floats(5, 5))), nn.LSTMCell(5, 3)
        for name, value in zip(
            ("weight_ih", "weight_hh", "bias_ih", "bias_hh"), (w["W"], w["R"], *w["B"].chunk(2)), strict=True
        ):
            setattr(self.cell, name, nn.Parameter(value))

    def forward(self, ids: Tensor, last: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        kept = (ids != 0)[:, None]
        h_new, c_new = self.cell(self.embedding(ids), (h, c))
        y = torch.where(kept, h_new, last)
        return y + 0, y, torch.where(kept, h_new, h), torch.where(kept, c_new, c)


@pytest.mark.slow  # the loop is written out at four lengths
def test_a_masked_lstm_that_became_a_loop(tmp_path):
    """onnx/tensorflow-onnx#1871: Embedding(mask_zero=True), LSTM."""
    graph = masked_loop()
    ids = np.array([[1, 4, 0, 2, 0, 0, 3]])
    expected = tensor(onnxruntime(graph, {"ids": ids})["y"])
    near(run_whole(graph, tmp_path, ids)["y"], expected)
    does_not_stream(graph, tmp_path, "Loop_last_end.*Export one step, with its state as an input and an output")
    example = (torch.tensor([1]), *[torch.zeros(1, 3)] * 3)
    pairs = [(name, f"{name}_out") for name in ("last", "h", "c")]
    path = exported(MaskedStep().eval(), example, tmp_path, stream="step", state=pairs)
    with streamgru.load(path).stream() as stream:
        near(stream.run(ids.T)[:, 0], expected[0])


def test_lengths_that_are_counted_from_the_input(tmp_path):
    """onnx/keras-onnx#386: Masking: the lengths are the frames that are not all zero, 0 of a sequence of zeros."""
    nodes = [
        node("Abs", ["x"], ["size"]), node("ReduceMax", ["size"], ["most"], axes=[2], keepdims=0),
        node("Greater", ["most", "zero"], ["valid"]), node("Cast", ["valid"], ["ones"], to=TensorProto.INT32),
        node("ReduceSum", ["ones", "first"], ["lens"], keepdims=0),
        node("RNN", ["x", "W", "R", "B", "lens"], ["Y", "Y_h"], hidden_size=5),
    ]  # fmt: skip
    constants = recurrent("RNN", 4, 5) | {"zero": np.float32(0), "first": np.array([0])}
    graph = model(nodes, {"x": ["T", "N", 4]}, ["Y", "Y_h"], constants, 13)
    x = floats(5, 3, 4)
    x[3:, 1] = 0
    feeds = {"x": x}
    close(run_whole(graph, tmp_path, x), onnxruntime(graph, feeds))
    x[:, 2] = 0  # onnxruntime gives zeros for a length of 0
    close(run_whole(graph, tmp_path, x), onnxruntime(graph, feeds))
    with pytest.raises(streamgru.ModelError, match=r"ReduceSum|RNN_Y"):
        streamgru.load(written(graph, tmp_path), batch=3)


def reversed_by(lens: Any) -> onnx.ModelProto:
    reverse = node("ReverseSequence", ["x", "lens"], ["y"], time_axis=0, batch_axis=1)
    if lens is None:
        return model([reverse], {"x": ["T", "N", 2], "lens": ["N"]}, ["y"], dtypes={"lens": TensorProto.INT64})
    return model([reverse], {"x": ["T", "N", 2]}, ["y"], {"lens": lens})


@pytest.mark.parametrize("given", [True, False])
def test_a_sequence_of_length_zero_is_not_reversed(tmp_path, given):
    """openvinotoolkit/openvino#20872: onnxruntime gives zeros for it, OpenVINO the sequence; ONNX names neither."""
    x, lens = floats(4, 3, 2), np.array([4, 0, 2])
    expected = x.copy()
    for n, length in enumerate(lens):
        expected[:length, n] = x[:length, n][::-1]
    graph = reversed_by(None if given else lens)
    feeds = {"x": x, "lens": lens} if given else x
    np.testing.assert_array_equal(run_whole(graph, tmp_path, feeds)["y"], expected)
