"""ONNX sequences, as scripted loops use them."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from onnx import helper
from torch import nn

from export.cells import TOLERANCE, H, I, exported, grus
from export.compiler.static.keras import (
    INT64,
    SEED,
    frames,
    node,
)
from export.graphs import assert_close, model, onnxruntime, stream, whole
from streamgru.errors import ModelError
from streamgru_export.compiler.compile import compile
from streamgru_export.compiler.static import sequences


class Scripted(nn.Module):
    """A scripted loop that appends to a list."""

    def __init__(self, inner):
        super().__init__()
        self.cell = inner

    def forward(self, x, h):
        outs: list[torch.Tensor] = []
        for t in range(x.size(1)):
            h = self.cell(x[:, t], h)
            outs.append(h)
        return torch.stack(outs, 1), h


class ScriptedCell(nn.Module):
    def __init__(self):
        super().__init__()
        self.x, self.h = nn.Linear(I, 3 * H), nn.Linear(H, 3 * H)

    def forward(self, x, h):
        ar, az, an = self.x(x).chunk(3, 1)
        br, bz, bn = self.h(h).chunk(3, 1)
        z = torch.sigmoid(az + bz)
        return (1 - z) * torch.tanh(an + torch.sigmoid(ar + br) * bn) + z * h


def test_a_scripted_loop_streams():
    torch.manual_seed(SEED)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = torch.jit.script(Scripted(ScriptedCell()).eval())
    source = exported(module, (torch.randn(1, 5, I), torch.zeros(1, H)), (["x", "h"], ["y", "hn"]), False,
                      {"x": {1: "time"}, "y": {1: "time"}})  # fmt: skip
    compiled, x = compile(source), frames()
    assert compiled.pairs == [("h", "hn")]
    assert [g["T"] for g in grus(compiled)] == [1]
    expected = onnxruntime(source, {**x, "h": np.zeros((1, H), np.float32)})
    assert_close(stream(compiled, x), {"y": expected["y"]}, TOLERANCE)


def test_sequences_of_known_length():
    nodes = [
        node("SequenceEmpty", [], ["s0"]), node("SequenceInsert", ["s0", "x"], ["s1"]),
        node("Neg", ["x"], ["m"]), node("SequenceInsert", ["s1", "m", "zero"], ["s2"]),
        node("SequenceConstruct", ["x", "m"], ["s3"]), node("SequenceAt", ["s3", "last"], ["at"]),
        node("SequenceErase", ["s2", "zero"], ["s4"]), node("SequenceLength", ["s4"], ["length"]),
        node("ConcatFromSequence", ["s2"], ["joined"], axis=1), node("ConcatFromSequence", ["s2"], ["new"],
        axis=-1, new_axis=1),
    ]  # fmt: skip
    source = model(nodes, {"x": [2, 3]}, ["joined", "new", "at", "length"], {"zero": np.int64(0), "last": np.int64(-1)},
                   dtypes={"length": INT64})  # fmt: skip
    x = {"x": np.random.default_rng(1).normal(size=(2, 3)).astype(np.float32)}
    assert_close(whole(compile(source, mode="whole"), x), onnxruntime(source, x), 0.0)


@pytest.mark.parametrize("position", [3, -4, 99])
def test_a_position_outside_of_the_sequence_is_refused_by_node(position):
    nodes = [node("SequenceConstruct", ["x", "x", "x"], ["s"]),
             helper.make_node("SequenceAt", ["s", "at"], ["y"], name="pick")]  # fmt: skip
    with pytest.raises(ModelError, match=r"'pick': position .* lies outside of its sequence of 3"):
        compile(model(nodes, {"x": [2]}, ["y"], {"at": np.int64(position)}), mode="whole")


def test_a_sequence_has_a_greatest_length(monkeypatch):
    monkeypatch.setattr(sequences, "MAX_ITEMS", 2)
    nodes = [node("SequenceEmpty", [], ["s0"])]
    nodes += [helper.make_node("SequenceInsert", [f"s{k}", "x"], [f"s{k + 1}"], name=f"put{k}") for k in range(3)]
    nodes.append(node("ConcatFromSequence", ["s3"], ["y"], axis=0))
    with pytest.raises(ModelError, match=r"'put2': its sequence has more than 2 items"):
        compile(model(nodes, {"x": [2]}, ["y"]), mode="whole")
    del nodes[3]
    nodes[-1].input[0] = "s2"
    x = {"x": np.float32([1, 2])}
    assert_close(whole(compile(model(nodes, {"x": [2]}, ["y"]), mode="whole"), x), {"y": np.float32([1, 2, 1, 2])}, 0)
