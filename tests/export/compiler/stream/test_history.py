"""The past frames that convolutions reach are states of the stream, shared where they are the same."""

from __future__ import annotations

import io

import numpy as np
import onnx
import pytest
import torch
from torch import nn
from torch.nn import functional

from export.compiler.stream.streams import END, C, T, assert_streams, conv1d, cut, kernel, sequence
from export.graphs import gru_weights, model, node, rng


def test_padding_with_another_number_is_what_the_history_is_reset_to():
    r = rng()
    source = conv1d(r, spelling="pad", value=0.75)
    compiled = assert_streams(source, sequence(r, 1, C, T))
    (state,) = compiled.program.states
    np.testing.assert_array_equal(state.reset.data, np.full((1, C, 2), 0.75, np.float32))


def test_two_convolutions_of_one_value_share_its_history():
    r = rng()
    constants = {"w": kernel(r, C, C, 3), "v": kernel(r, C, C, 3)}
    nodes = [node("Conv", ["x", "w"], ["a"], pads=[2, 0]), node("Conv", ["x", "v"], ["b"], pads=[2, 0]),
             node("Tanh", ["a"], ["ta"]), node("Sigmoid", ["b"], ["sb"]), node("Mul", ["ta", "sb"], ["m"]),
             node("Add", ["m", "x"], ["y"])]  # fmt: skip
    assert_streams(model(nodes, {"x": [1, C, "T"]}, ["y"], constants), sequence(r, 1, C, T), [(1, C, 2)])


def test_histories_that_begin_differently_are_two():
    r = rng()
    constants = {"p": np.array([0, 0, 2, 0, 0, 0]), "one": np.float32(1), "two": np.float32(2), "w": kernel(r, 4, C, 3)}
    nodes = [node("Pad", ["x", "p", "one"], ["xa"]), node("Pad", ["x", "p", "two"], ["xb"]),
             node("Conv", ["xa", "w"], ["a"]), node("Conv", ["xb", "w"], ["b"]),
             node("Concat", ["a", "b"], ["y"], axis=1)]  # fmt: skip
    assert_streams(model(nodes, {"x": [1, C, "T"]}, ["y"], constants), sequence(r, 1, C, T), [(1, C, 2)] * 2)


def test_one_pad_for_a_whole_stack():
    """The receptive field is padded once: later layers use up what earlier ones left."""
    r = rng()
    constants = {"p": np.array([0, 0, 6, 0, 0, 0]), "w": kernel(r, C, C, 3), "v": kernel(r, 4, C, 3)}
    nodes = [node("Pad", ["x", "p"], ["xp"]), node("Conv", ["xp", "w"], ["c"]), node("Tanh", ["c"], ["t"]),
             node("Conv", ["t", "v"], ["y"], dilations=[2])]  # fmt: skip
    assert_streams(model(nodes, {"x": [1, C, "T"]}, ["y"], constants), sequence(r, 1, C, T), [(1, C, 6)])


class CausalConv(nn.Module):
    def __init__(self, i, o, k, d=1, groups=1, chop=True):
        super().__init__()
        self.pad, self.chop = (k - 1) * d, chop
        self.conv = nn.Conv1d(i, o, k, dilation=d, groups=groups, padding=self.pad if chop else 0)

    def forward(self, x):
        if self.chop:
            return self.conv(x)[..., : -self.pad]
        return self.conv(functional.pad(x, (self.pad, 0)))


class Separable(nn.Module):
    """Depthwise over time, then pointwise, with a residual."""

    def __init__(self, c, k, d):
        super().__init__()
        self.deep, self.point = CausalConv(c, c, k, d, groups=c, chop=False), nn.Conv1d(c, c, 1)
        self.norm = nn.BatchNorm1d(c)

    def forward(self, x):
        return x + self.point(torch.relu(self.norm(self.deep(x))))


class Front(nn.Module):
    """A TCN, a GRU and a Linear over [B, T, C]."""

    def __init__(self):
        super().__init__()
        self.tcn = nn.Sequential(CausalConv(C, 8, 3), nn.PReLU(), Separable(8, 3, 2), Separable(8, 3, 4),
                                 CausalConv(8, 8, 2, 8))  # fmt: skip
        self.gru, self.linear = nn.GRU(8, 10, batch_first=True), nn.Linear(10, 4)

    def forward(self, x):
        y, _ = self.gru(self.tcn(x.transpose(1, 2)).transpose(1, 2))
        return self.linear(y)


class Tcn(nn.Module):
    """Without a recurrent node: the name of the dimension tells the time."""

    def __init__(self):
        super().__init__()
        self.tcn = nn.Sequential(CausalConv(C, 8, 3), nn.ReLU(), CausalConv(8, 8, 3, 2, chop=False), Separable(8, 5, 1))

    def forward(self, x):
        return self.tcn(x.transpose(1, 2)).transpose(1, 2)


@pytest.mark.parametrize(
    "make, dynamo", [(Front, False), (Tcn, False), (Tcn, True), pytest.param(Front, True, marks=pytest.mark.slow)]
)
def test_networks_from_both_exporters(make, dynamo):
    r = rng()
    torch.manual_seed(1)
    module = make().eval()
    x = torch.from_numpy(sequence(r, 1, T, C))
    file = io.BytesIO()
    if dynamo:
        shapes = ({1: torch.export.Dim("time", min=2, max=4096)},)
        torch.onnx.export(module, (x,), dynamo=True, dynamic_shapes=shapes, input_names=["x"]).save(file)
    else:
        torch.onnx.export(module, (x,), file, dynamo=False, dynamic_axes={"x": {1: "time"}}, input_names=["x"])
    source = onnx.load_from_string(file.getvalue())
    compiled = assert_streams(source, x.numpy())
    assert sum(name.endswith("history") for name in compiled.states) == (4 if make is Front else 3)


def test_a_convolution_behind_a_gru_keeps_its_own_history():
    r = rng()
    constants = {**gru_weights(r, C, 8), "w": kernel(r, 4, 8, 3), "one": np.array([1])}
    nodes = [node("GRU", ["x", "W", "R", "B"], ["Y"], hidden_size=8), node("Squeeze", ["Y", "one"], ["s"]),
             node("Transpose", ["s"], ["t"], perm=[1, 2, 0]), node("Conv", ["t", "w"], ["y"], pads=[2, 0])]  # fmt: skip
    assert_streams(model(nodes, {"x": ["T", 1, C]}, ["y"], constants), sequence(r, T, 1, C))


def test_a_padded_value_that_is_padded_again_has_two_histories():
    r = rng()
    constants = {"w": kernel(r, 5, C, 2), "p": np.array([0, 0, 2, 0, 0, 0]), **cut(2)}
    constants["s"], constants["e"] = np.array([3]), END
    nodes = [
        node("Pad", ["x", "p"], ["xp"]),
        node("Conv", ["xp", "w"], ["c"], pads=[2, 0]),
        node("Slice", ["c", "s", "e", "a"], ["y"]),
    ]
    source = model(nodes, {"x": [1, C, "T"]}, ["y"], constants)
    assert_streams(source, r.standard_normal((1, C, T)).astype(np.float32))


@pytest.mark.parametrize("opset", [9, 10, 17])
def test_older_operator_sets(opset):
    """Slice and Pad with attributes."""
    r = rng()
    cut = {"starts": [0], "ends": [-2], "axes": [2]}
    names = {"s": np.array([0]), "e": np.array([-2]), "a": np.array([2])} if opset >= 10 else {}
    pad = node("Pad", ["x", "p"], ["xp"]) if opset >= 11 else node("Pad", ["x"], ["xp"], pads=[0, 0, 1, 0, 0, 0])
    nodes = [pad, node("Conv", ["xp", "w"], ["c"]), node("Conv", ["c", "v"], ["long"], pads=[2, 2]),
             node("Slice", ["long", *names], ["y"], **({} if names else cut))]  # fmt: skip
    constants = {**names, "w": kernel(r, C, C, 2), "v": kernel(r, 4, C, 3)}
    if opset >= 11:
        constants["p"] = np.array([0, 0, 1, 0, 0, 0])
    assert_streams(model(nodes, {"x": [1, C, "T"]}, ["y"], constants, opset), sequence(r, 1, C, T))
