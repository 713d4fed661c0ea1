"""Names of inputs, outputs and states: taken from the module, found, or given."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

from export.from_torch.nets import (
    EXPORTERS,
    Lambda,
    Net,
    OneInput,
    Step,
    assert_agrees,
    declared,
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


@pytest.mark.parametrize(
    "argument, name",
    [
        ("h", "h_in"),
        ("hx", "h_in"),
        ("h0", "h_in"),
        ("h_in", "h_in"),
        ("h_prev", "h_in"),
        ("gru_state", "gru_state_in"),
        ("hidden", "hidden_in"),
        ("convCache", "convCache_in"),
    ],
)
def test_a_state_is_recognised_by_its_name(path: Path, argument: str, name: str) -> None:
    source = f"class M(Base):\n def forward(self, x, {argument}): return self.call(self, x, {argument})"
    scope: dict[str, Any] = {"Base": Lambda}
    exec(source, scope)  # an argument's name is what is under test
    module = scope["M"](lambda self, x, h: (2 * x, self.cell(x, h)), cell=nn.GRUCell(4, 8))
    result = export(module, (torch.randn(1, 4), torch.zeros(1, 8)), path, exporter="legacy")
    assert result.state == ((name, name.removesuffix("_in") + "_out"),)
    assert result.outputs[0] == "y"


def test_given_names_and_state_are_kept(path: Path) -> None:
    net = Step(lambda self, x, h: (self.cell(x, h), x), cell=nn.GRUCell(8, 8))
    result = export(
        net,
        (torch.randn(1, 8), torch.zeros(1, 8)),
        path,
        exporter="legacy",
        input_names=["frame", "memory"],
        output_names=["memory_next", "echo"],
        state=[("memory", "memory_next")],
    )
    assert (result.inputs, result.outputs) == (("frame", "memory"), ("memory_next", "echo"))
    assert result.state == (("memory", "memory_next"),)
    assert list(declared(path)) == ["frame", "memory", "memory_next", "echo"]


def test_a_state_of_any_name_can_be_given(path: Path) -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell = nn.GRUCell(4, 8)

        def forward(self, x: Tensor, q: Tensor) -> Tensor:
            return self.cell(x, q)

    example = torch.randn(1, 4), torch.zeros(1, 8)
    result = export(Odd(), example, path, exporter="legacy", state=[("q", "q_next")])
    assert result.state == (("q", "q_next"),)


def test_state_called_alike_on_both_sides_gets_two_names(path: Path) -> None:
    net = Step(lambda self, x, h: {"y": 2 * x, "h": self.cell(x, h)}, cell=nn.GRUCell(4, 8))
    example = torch.randn(1, 4), torch.zeros(1, 8)
    result = export(net, example, path, exporter="legacy", state=[("h", "h")])
    assert result.state == (("h_in", "h_out"),)


def test_a_state_is_continued_by_the_output_of_its_name(path: Path) -> None:
    """And not by the last output of its shape."""
    net = Step(lambda self, x, h: {"h_new": self.a(x, h), "z": self.b(x, h)}, a=nn.GRUCell(4, 8), b=nn.GRUCell(4, 8))
    example = torch.randn(1, 4), torch.zeros(1, 8)
    result = export(net, example, path, exporter="legacy")
    assert (result.outputs, result.state) == (("h_out", "z"), (("h_in", "h_out"),))
    given = export(net, example, path, exporter="legacy", output_names=["h_next", "z"])
    assert given.state == (("h_in", "h_next"),)


def test_a_guessed_state_does_not_take_the_output_another_is_named_after(path: Path) -> None:
    class Pair(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.GRUCell(4, 8), nn.GRUCell(4, 8)

        def forward(self, x: Tensor, h: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
            return self.b(x, memory), self.a(x, h)

    example = torch.randn(1, 4), torch.zeros(1, 8), torch.ones(1, 8)
    result = export(Pair(), example, path, exporter="legacy", output_names=["other", "h_out"])
    assert result.state == (("h_in", "h_out"), ("memory_in", "other"))


def test_named_tuple_names_the_outputs(path: Path) -> None:
    class Result(NamedTuple):
        gain: Tensor
        vad: Tensor

    net = OneInput(lambda self, x: Result(self.a(x), self.b(x)), a=nn.Linear(4, 3), b=nn.Linear(4, 1))
    assert export(net, torch.randn(1, 4), path, exporter="legacy").outputs == ("gain", "vad")


def test_several_outputs_without_names(path: Path) -> None:
    net = OneInput(lambda self, x: (self.a(x), [self.b(x), None]), a=nn.Linear(4, 3), b=nn.Linear(4, 1))
    assert export(net, torch.randn(1, 4), path, exporter="legacy").outputs == ("y", "y1")


@pytest.mark.parametrize("exporter", EXPORTERS)
def test_the_same_tensor_may_be_result_and_state(path: Path, exporter: Any) -> None:
    def call(self: Any, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        h = self.cell(x, h)
        return h, h

    net = Step(call, cell=nn.GRUCell(4, 8))
    example = torch.randn(1, 4), torch.zeros(1, 8)
    result = export(net, example, path, exporter=exporter)
    assert (result.outputs, result.warnings) == (("y", "h_out"), ())
    assert_agrees(path, net, *example)


def test_ambiguous_state_is_warned_about(path: Path) -> None:
    net = Step(lambda self, x, h: (self.a(x, h), self.b(x, h)), a=nn.GRUCell(4, 8), b=nn.GRUCell(4, 8))
    with pytest.warns(UserWarning, match=r"outputs \[0, 1\] all have the shape of the state"):
        result = export(net, (torch.randn(1, 4), torch.zeros(1, 8)), path, exporter="legacy")
    assert result.outputs == ("y", "h_out")


def test_state_input_without_an_output_is_warned_about(path: Path) -> None:
    net = Step(lambda self, x, h: self.gru(x, h)[0], gru=nn.GRU(4, 8))
    with pytest.warns(UserWarning, match="'h' reads as a state"):
        result = export(net, (torch.randn(5, 1, 4), torch.zeros(1, 1, 8)), path, exporter="legacy")
    assert result.state == ()


def test_a_result_that_is_no_tensor_is_refused(path: Path) -> None:
    net = OneInput(lambda self, x: {"y": x, "length": 3})
    refused(path, net, torch.randn(1, 1, 4), r"returns int at \['length'\]")
