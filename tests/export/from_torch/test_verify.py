"""A graph that differs from the module is found, located and never left behind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn

from export.from_torch.nets import (
    TOLERANCE,
    Loop,
    Net,
    OneInput,
    Step,
    assert_agrees,
    declared,
    drop_linear_before_reset,
    refused,
    tampered,
)
from streamgru_export.from_torch.export import export


def test_a_length_the_module_refuses_is_reported_as_not_verified(path: Path) -> None:
    net = OneInput(
        lambda self, x: self.gru(self.conv(x).transpose(1, 2))[0],
        conv=nn.Conv1d(4, 4, 3, stride=2),
        gru=nn.GRU(4, 8, batch_first=True),
    )
    with pytest.warns(UserWarning, match="not verified at T=1"):
        result = export(net, torch.randn(1, 4, 8), path, exporter="legacy")
    assert result.time_axis == {"x": 2, "y": 1}
    assert declared(path)["y"] == [1, "y_time", 8]
    assert_agrees(path, net, torch.randn(1, 4, 21))


def test_python_loop_traced_by_the_legacy_exporter_fails_the_verification(path: Path) -> None:
    """It declares the axis dynamic, and runs the first five steps of nine without an error."""
    refused(path, Loop(), torch.randn(1, 5, 4), "It is right at T=5, B=1", exporter="legacy")


def test_an_argument_forward_ignores_is_not_dropped_silently(path: Path) -> None:
    linear, x = nn.Linear(4, 3), torch.randn(1, 4)
    net = Step(lambda self, x, h: self.linear(x), linear=linear)
    match = "no result of forward.. depends on the values of h. Remove the argument"
    refused(path, net, (x, torch.zeros(1, 8)), match, exporter="legacy")
    export(OneInput(lambda self, x: self.linear(x), linear=linear), x, path, exporter="legacy")


def test_packed_sequences_are_verified_at_lengths_below_the_longest(path: Path) -> None:
    """And where the module cuts to the longest one, which the graph does not, the way to write it works."""

    class Packed(nn.Module):
        def __init__(self, total: bool) -> None:
            super().__init__()
            self.gru, self.total = nn.GRU(4, 8, batch_first=True), total

        def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
            packed = nn.utils.rnn.pack_padded_sequence(x, lengths.cpu(), batch_first=True, enforce_sorted=False)
            total = x.shape[1] if self.total else None
            return nn.utils.rnn.pad_packed_sequence(self.gru(packed)[0], batch_first=True, total_length=total)[0]

    example = torch.randn(2, 9, 4), torch.tensor([9, 4])
    refused(path, Packed(False), example, r"pass total_length=x.shape\[1\] to it", exporter="legacy")
    net = Packed(True)
    result = export(net, example, path, exporter="legacy", stream="sequence")
    assert (result.time_axis, result.warnings) == ({"x": 1, "y": 1}, ())
    assert_agrees(path, net, torch.randn(2, 12, 4), torch.tensor([3, 12]))


def test_a_result_without_axes_is_compared(path: Path) -> None:
    net = OneInput(lambda self, x: self.linear(x).sum(), linear=nn.Linear(4, 3))
    export(net, torch.randn(1, 4), path, exporter="legacy")
    assert_agrees(path, net, torch.randn(1, 4))


def test_a_module_that_takes_few_values_is_compared_at_the_examples_at_every_length(path: Path) -> None:
    def call(self: Any, x: Tensor) -> Tensor:
        torch._assert(bool((x == 0).all()), "zeros only")
        return self.gru(x)[0]

    net = OneInput(call, gru=nn.GRU(4, 8))
    with pytest.warns(UserWarning, match="at T=10, B=1 verified on the example's values alone"):
        export(net, torch.zeros(5, 1, 4), path, exporter="legacy")


def test_lost_linear_before_reset_is_found_and_named(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tampered(monkeypatch, drop_linear_before_reset)
    example = torch.randn(1, 1, 4), torch.zeros(1, 1, 8)
    refused(
        path,
        nn.GRU(4, 8),
        example,
        "(?s)differs from the module.*has linear_before_reset=0",
        exporter="legacy",
    )


def test_a_wrong_weight_is_located(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def change(model: onnx.ModelProto) -> None:
        bias = next(w for w in model.graph.initializer if w.name.endswith("head.bias"))
        values = onnx.numpy_helper.to_array(bias).copy()
        values[1] += 0.25
        bias.CopyFrom(onnx.numpy_helper.from_array(values, bias.name))

    tampered(monkeypatch, change)
    match = r"output 'y' differs from the module by 0\.25 at index \(0, 1\).*\(T=5, B=1, seed 0\)"
    refused(path, Net(), torch.randn(1, 5, 4), match, exporter="legacy")


def test_a_state_that_is_not_computed_is_found(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With equal shapes nothing else would notice: the first step is right, the next ones are not."""

    def change(model: onnx.ModelProto) -> None:
        for node in model.graph.node:
            for k, name in enumerate(node.output):
                node.output[k] = "unused" if name == "h_out" else name
        model.graph.node.append(onnx.helper.make_node("Identity", ["h_in"], ["h_out"]))

    tampered(monkeypatch, change)
    net = Step(lambda self, x, h: (self.linear(h), self.cell(x, h)), linear=nn.Linear(8, 3), cell=nn.GRUCell(4, 8))
    refused(path, net, (torch.randn(1, 4), torch.zeros(1, 8)), "output 'h_out' differs", exporter="legacy")


def test_the_tolerance_decides(path: Path) -> None:
    example = torch.randn(1, 1, 4), torch.zeros(2, 1, 8)
    result = export(Net(), example, path, exporter="legacy")
    assert 0 < result.max_abs_error <= TOLERANCE
    path.unlink()
    refused(path, Net(), example, "raise tolerance=", exporter="legacy", tolerance=1e-12)


def test_nan_in_the_graph_alone_is_a_difference(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def change(model: onnx.ModelProto) -> None:
        bias = next(w for w in model.graph.initializer if w.name.endswith("bias"))
        bias.CopyFrom(onnx.numpy_helper.from_array(np.float32([np.nan] * 3), bias.name))

    tampered(monkeypatch, change)
    refused(path, nn.Linear(4, 3), torch.randn(1, 4), "differs from the module by nan", exporter="legacy")
