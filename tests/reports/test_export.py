"""Models that an exporter or a converter got wrong, or that run otherwise elsewhere."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from onnx import TensorProto, helper
from torch import Tensor, nn

import streamgru
from export.compiler.static.keras import I as KERAS_I
from export.compiler.static.keras import keras_loop
from export.from_torch.nets import projected_step
from export.graphs import gru_weights, model, node, onnxruntime
from reports.trial import (
    close,
    does_not_stream,
    export_is_refused,
    exported,
    floats,
    near,
    rng,
    seeded,
    steps_like,
    streamed,
    streams_as_whole,
    tensor,
    torch_says,
    whole_is_right,
    written,
)  # fmt: skip
from streamgru_export.oracle.model import Float64Model


def recurrent(op: str, i: int, h: int, directions: int = 1, tag: str = "") -> dict[str, Any]:
    gates = {"GRU": 3, "LSTM": 4, "RNN": 1}[op]
    return {k + tag: v for k, v in gru_weights(rng(), i, h, directions, gates).items()}


def test_a_batch_folded_into_time_by_a_reshape(tmp_path):
    """onnx/keras-onnx#122: a Keras GRU whose Reshape makes N sequences of 3 frames one sequence of 3N."""
    constants = recurrent("GRU", 4, 5) | {"to": np.array([-1, 1, 4]), "back": np.array([-1, 3, 5])}
    nodes = [
        node("Reshape", ["x", "to"], ["frames"]),
        node("GRU", ["frames", "W", "R", "B"], ["Y"], hidden_size=5),
        node("Reshape", ["Y", "back"], ["y"]),
    ]
    graph = model(nodes, {"x": ["N", 3, 4]}, ["y"], constants)
    for n in (1, 2):
        whole_is_right(graph, {"x": floats(n, 3, 4)}, tmp_path)
        does_not_stream(graph, tmp_path, "GRU_Y.*It can run whole", batch=n)  # N is no batch: they follow one another


def test_a_cudnn_gru_whose_state_only_goes_in(tmp_path):
    """onnx/tensorflow-onnx#939: CuDNNGRU of 8 units, one frame, its initial state an input."""
    constants = recurrent("GRU", 5, 8) | {"axis": np.array([0]), "one": np.array([1])}
    nodes = [
        node("Transpose", ["x"], ["frames"], perm=[1, 0, 2]),
        node("Unsqueeze", ["state", "axis"], ["h"]),
        node("GRU", ["frames", "W", "R", "B", "", "h"], ["Y"], hidden_size=8, linear_before_reset=1),
        node("Squeeze", ["Y", "one"], ["s"]),
        node("Transpose", ["s"], ["y"], perm=[1, 0, 2]),
    ]
    graph = model(nodes, {"x": ["N", 1, 5], "state": ["N", 8]}, ["y"], constants)
    loaded = streamgru.load(written(graph, tmp_path), batch=3)
    with loaded.stream() as stream:
        for scale in (1, 2):
            feeds = {"x": floats(3, 1, 5, scale=scale), "state": floats(3, 8, scale=scale)}
            close(loaded.named(stream.step(feeds)), onnxruntime(graph, feeds))


def test_a_keras_gru_that_became_a_loop_over_unknown_dimensions(tmp_path):
    """onnx/tensorflow-onnx#1684: Dense, GRU, Dense with softmax; tf2onnx makes a Loop, its dimensions unk__N."""
    graph = keras_loop()
    graph.graph.input[0].name = "features"
    for axis, name in ((0, "unk__6"), (1, "unk__7")):
        graph.graph.input[0].type.tensor_type.shape.dim[axis].dim_param = name
    dense = [helper.make_node("MatMul", ["features", "D"], ["u"]), helper.make_node("Relu", ["u"], ["x"])]
    rest = [helper.make_node("Softmax", ["y"], ["likely"], axis=-1)]
    nodes = [*dense, *graph.graph.node, *rest]
    del graph.graph.node[:], graph.graph.output[:]
    graph.graph.node.extend(nodes)
    graph.graph.output.append(helper.make_tensor_value_info("likely", TensorProto.FLOAT, None))
    graph.graph.initializer.append(
        helper.make_tensor("D", TensorProto.FLOAT, (KERAS_I, KERAS_I), floats(KERAS_I, KERAS_I).ravel())
    )
    feeds = {"features": floats(1, 9, KERAS_I)}
    streams_as_whole(graph, feeds, tmp_path)


def test_a_second_lstm_whose_initial_state_is_sized_by_the_wrong_dimension(tmp_path):
    """onnx/onnx#921: torch took num_directions for the batch in the second layer's zeros."""
    constants = recurrent("LSTM", 3, 4, tag="1") | recurrent("LSTM", 4, 4, tag="2")
    constants |= {"i": np.array(1), "ax": np.array([0]), "d": np.array([1]), "h": np.array([4]), "one": np.array([1])}
    nodes = [
        node("LSTM", ["x", "W1", "R1", "B1"], ["Y1"], hidden_size=4),
        node("Shape", ["Y1"], ["shape"]), node("Gather", ["shape", "i"], ["g"]), node("Unsqueeze", ["g", "ax"], ["b"]),
        node("Concat", ["d", "b", "h"], ["size"], axis=0), node("ConstantOfShape", ["size"], ["zeros"]),
        node("Squeeze", ["Y1", "one"], ["u"]),
        node("LSTM", ["u", "W2", "R2", "B2", "", "zeros", "zeros"], ["Y2"], hidden_size=4),
        node("Squeeze", ["Y2", "one"], ["y"]),
    ]  # fmt: skip
    graph = model(nodes, {"x": ["seq", "batch", 3]}, ["y"], constants)
    streams_as_whole(graph, {"x": floats(7, 1, 3)}, tmp_path)
    with pytest.raises(streamgru.ModelError, match="LSTM_Y2"):
        streamgru.load(written(graph, tmp_path), batch=2)


def test_a_backward_lstm_is_not_streamed(tmp_path):
    """microsoft/onnxruntime#4187: Embedding, LSTM(go_backwards=True), Dense."""
    constants = recurrent("LSTM", 6, 5) | {"E": floats(10, 6), "V": floats(5, 1), "one": np.array([1])}
    nodes = [
        node("Gather", ["E", "ids"], ["e"]), node("Transpose", ["e"], ["x"], perm=[1, 0, 2]),
        node("LSTM", ["x", "W", "R", "B"], ["Y"], hidden_size=5, direction="reverse"),
        node("Squeeze", ["Y", "one"], ["s"]), node("Transpose", ["s"], ["t"], perm=[1, 0, 2]),
        node("MatMul", ["t", "V"], ["v"]), node("Sigmoid", ["v"], ["y"]),
    ]  # fmt: skip
    graph = model(nodes, {"ids": ["N", "T"]}, ["y"], constants, dtypes={"ids": TensorProto.INT64})
    does_not_stream(graph, tmp_path, "LSTM_Y")
    whole_is_right(graph, {"ids": rng().integers(0, 10, (2, 8))}, tmp_path)


@pytest.mark.parametrize("given", ["h", "c"])
def test_an_lstm_with_one_of_its_two_initial_states(tmp_path, given):
    """onnx/onnx-tensorflow#408: initial_h without initial_c."""
    constants = recurrent("LSTM", 3, 4) | {"s": floats(1, 2, 4)}
    states = ["s", ""] if given == "h" else ["", "s"]
    lstm = node("LSTM", ["x", "W", "R", "B", "", *states], ["Y", "Y_h", "Y_c"], hidden_size=4)
    graph = model([lstm], {"x": ["T", 2, 3]}, ["Y", "Y_h", "Y_c"], constants)
    streams_as_whole(graph, {"x": floats(6, 2, 3)}, tmp_path)


def test_a_gru_without_bias_for_three_at_once(tmp_path):
    """microsoft/onnxruntime#3893: linear_before_reset, no B, no initial_h, a batch of 3: it kept old values."""
    w = recurrent("GRU", 4, 5)
    gru = node("GRU", ["x", "W", "R"], ["Y", "Y_h"], hidden_size=5, linear_before_reset=1)
    graph = model([gru], {"x": ["T", 3, 4]}, ["Y", "Y_h"], {k: w[k] for k in "WR"})
    feeds = {"x": floats(6, 3, 4)}
    loaded = streams_as_whole(graph, feeds, tmp_path)
    close(streamed(loaded, feeds), Float64Model(graph).run(feeds))


@pytest.mark.parametrize("lbr", [0, 1])
def test_a_gru_on_large_numbers_of_both_signs(tmp_path, lbr):
    """microsoft/onnxruntime#4628: 512 inputs, gates driven far into saturation, against NumPy."""
    w = {k: v * 20 for k, v in recurrent("GRU", 512, 8).items()}
    gru = node("GRU", ["x", "W", "R", "B"], ["Y"], hidden_size=8, linear_before_reset=lbr)
    graph = model([gru], {"x": ["T", 2, 512]}, ["Y"], w)
    feeds = {"x": floats(12, 2, 512, scale=5)}
    # A sum of 512 products of size 100 is exact to 512 * 100 * 2^-24; where a gate does not saturate that shows.
    close(streamed(streamgru.load(written(graph, tmp_path)), feeds), Float64Model(graph).run(feeds), 3e-3)


class CellLoop(nn.Module):
    """nn.LSTMCell over the frames of a batch, in Python."""

    def __init__(self, *, returns: bool = False) -> None:
        super().__init__()
        self.cell, self.returns = nn.LSTMCell(6, 5), returns

    def forward(self, x: Tensor, h: Tensor, c: Tensor) -> Tensor | tuple[Tensor, Tensor, Tensor]:
        out = []
        for t in range(x.shape[0]):
            h, c = self.cell(x[t], (h, c))
            out.append(h)
        return (torch.stack(out), h, c) if self.returns else torch.stack(out)


class CellStep(CellLoop):
    """One frame of it."""

    def forward(self, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        h, c = self.cell(x, (h, c))
        return h + 0, h, c


def test_a_loop_over_an_lstm_cell_is_to_be_a_step(tmp_path):
    """pytorch/pytorch#59530: LSTMCell in a loop over the frames; tracing burns in length and batch."""
    loop, step = seeded(CellLoop), seeded(CellStep)
    example = (torch.zeros(4, 3, 6), torch.zeros(3, 5), torch.zeros(3, 5))
    export_is_refused(loop, example, tmp_path, "'h'.*does not return its successor")
    returns = seeded(lambda: CellLoop(returns=True))
    export_is_refused(returns, example, tmp_path, "export one step")
    path = exported(step, (torch.zeros(3, 6), torch.zeros(3, 5), torch.zeros(3, 5)), tmp_path, stream="step")
    x = floats(9, 3, 6)
    steps_like(path, step, list(x), example[1:])
    expected = torch_says(loop, tensor(x), *example[1:])
    with streamgru.load(path).stream() as stream:
        near(stream.run(x), expected)


class Projected(nn.Module):
    """An LSTM whose output is projected."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(6, 8, proj_size=3)

    def forward(self, x: Tensor) -> Tensor:
        return self.lstm(x)[0]


class ProjectedStep(Projected):
    """One frame of it, of the same weights."""

    def forward(self, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return projected_step(self.lstm, x, h, c)


def test_an_lstm_with_projections(tmp_path):
    """k2-fsa/sherpa-onnx#7: the LSTM transducer's encoder has projections, its exported form had not."""
    module = seeded(Projected)
    for exporter in ("legacy", "dynamo"):
        export_is_refused(module, torch.zeros(4, 1, 6), tmp_path, r"lstm.*proj_size=3", exporter=exporter)
    states = [torch.zeros(1, 3), torch.zeros(1, 8)]
    x, path = floats(9, 1, 6), exported(seeded(ProjectedStep), (torch.zeros(1, 6), *states), tmp_path, stream="step")
    with streamgru.load(path).stream() as stream:
        near(stream.run(x), torch_says(module, tensor(x)))
