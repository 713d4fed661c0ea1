"""Names of inputs and outputs: taken from the module or the example."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

from export.from_torch.nets import (
    EXPORTERS,
    Net,
    OneInput,
    assert_agrees,
    refused,
)
from streamgru_export.from_torch.export import export


@pytest.mark.parametrize("exporter", EXPORTERS)
def test_gru_cell_is_a_step_whose_result_is_its_state(path: Path, exporter: Any) -> None:
    cell = nn.GRUCell(4, 8)
    result = export(cell, (torch.randn(2, 4), torch.randn(2, 8)), path, exporter=exporter)
    assert (result.kind, result.inputs, result.outputs) == ("step", ("input", "h_in"), ("h_out",))
    assert_agrees(path, cell, torch.randn(2, 4), torch.randn(2, 8))


@pytest.mark.parametrize("exporter", EXPORTERS)
def test_lstm_state_is_a_pair(path: Path, exporter: Any) -> None:
    lstm = nn.LSTM(4, 8)
    example = torch.randn(1, 1, 4), (torch.randn(1, 1, 8), torch.randn(1, 1, 8))
    result = export(lstm, example, path, exporter=exporter)
    assert result.state == (("h_in", "h_out"), ("c_in", "c_out"))
    assert result.outputs == ("y", "h_out", "c_out")
    assert not result.warnings
    assert_agrees(path, lstm, *example)


def test_list_of_states(path: Path) -> None:
    class Stack(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cells = nn.ModuleList([nn.GRUCell(4, 8), nn.GRUCell(8, 6)])

        def forward(self, x: Tensor, states: list[Tensor]) -> dict[str, Any]:
            a = self.cells[0](x, states[0])
            b = self.cells[1](a, states[1])
            return {"gain": torch.sigmoid(b), "states": [a, b]}

    example = torch.randn(1, 4), [torch.randn(1, 8), torch.randn(1, 6)]
    result = export(Stack(), example, path, exporter="legacy")
    assert result.inputs == ("x", "states_0_in", "states_1_in")
    assert result.outputs == ("gain", "states_0_out", "states_1_out")
    assert result.state == (("states_0_in", "states_0_out"), ("states_1_in", "states_1_out"))


def test_example_by_argument_name(path: Path) -> None:
    result = export(Net(), {"h": torch.zeros(2, 1, 8), "x": torch.randn(1, 1, 4)}, path, exporter="legacy")
    assert result.inputs == ("x", "h_in")


def test_named_tuple_names_the_outputs(path: Path) -> None:
    class Result(NamedTuple):
        gain: Tensor
        vad: Tensor

    net = OneInput(lambda self, x: Result(self.a(x), self.b(x)), a=nn.Linear(4, 3), b=nn.Linear(4, 1))
    assert export(net, torch.randn(1, 4), path, exporter="legacy").outputs == ("gain", "vad")


def test_several_outputs_without_names(path: Path) -> None:
    net = OneInput(lambda self, x: (self.a(x), [self.b(x), None]), a=nn.Linear(4, 3), b=nn.Linear(4, 1))
    assert export(net, torch.randn(1, 4), path, exporter="legacy").outputs == ("y", "y1")


def test_a_result_that_is_no_tensor_is_refused(path: Path) -> None:
    net = OneInput(lambda self, x: {"y": x, "length": 3})
    refused(path, net, torch.randn(1, 1, 4), r"returns int at \['length'\]")
