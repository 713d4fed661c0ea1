"""Who is compared runs the file as it was compiled: an input that was bound to a value has it everywhere."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper

import streamgru
from export.graphs import gru_weights, model, node, rng

IN, H, STEPS = 3, 4, 12
RATE = {"rate": np.int64(2)}


class Module(torch.nn.Module):
    def forward(self, x, rate):
        return torch.relu(x) if rate == 2 else -x


def branching(nodes, outputs, constants=()):
    """x or -x by the rate, as a voice detector for several rates has it."""
    branches = [
        helper.make_graph([node(op, ["x"], [o])], o, [], [helper.make_tensor_value_info(o, TensorProto.FLOAT, None)])
        for op, o in (("Relu", "a"), ("Neg", "b"))
    ]
    pick = [node("Equal", ["rate", "two"], ["is"]),
            node("If", ["is"], ["v"], then_branch=branches[0], else_branch=branches[1])]  # fmt: skip
    return model([*pick, *nodes], {"x": ["T", 1, IN], "rate": []}, outputs, {"two": np.int64(2), **dict(constants)},
                 dtypes={"rate": TensorProto.INT64})  # fmt: skip


@pytest.mark.parametrize("rate", [2, 1])
def test_a_value_that_was_bound_is_fed_to_all(rate, tmp_path):
    gru = node("GRU", ["v", "W", "R", "B"], ["Y"], hidden_size=H, linear_before_reset=1)
    path = tmp_path / "net.onnx"
    onnx.save(branching([gru], ["Y"], gru_weights(rng(), IN, H).items()), path)
    report = streamgru.parity(streamgru.load(path, values={"rate": rate}), onnx=path, steps=STEPS)
    assert report.ok, report.conclusion
    assert {"float64 oracle", "onnxruntime whole"} <= {check.difference.reference for check in report.checks}
    assert [check.outcome for check in report.axes] == ["holds"]


def test_the_module_is_called_with_it_too(tmp_path):
    path = tmp_path / "net.onnx"
    onnx.save(branching([node("Identity", ["v"], ["y"])], ["y"]), path)
    image = streamgru.load(path, values=RATE, time_axis={"x": 0})
    report = streamgru.parity(image, Module(), onnx=path, steps=STEPS)
    assert report.ok, report.conclusion
    assert "torch whole" in {check.difference.reference for check in report.checks}
