"""Which inputs are states and which results continue them: by names, by the way through a layer, by place; never by
shape alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import streamgru
from export.from_torch.nets import EXPORTERS, TOLERANCE, Lambda, Step, assert_agrees, declared, refused
from streamgru_export.from_torch.export import export


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
    other = {"output_names": ["h_out", "y"], "state": [("h", "h_out")]}
    said = export(net, (torch.randn(1, 4), torch.zeros(1, 8)), path, exporter="legacy", **other)
    assert (said.outputs, said.state, said.warnings) == (("h_out", "y"), (("h", "h_out"),), ())


class Frames(nn.Module):
    """A layer that takes its state, and gives its result alone."""

    def __init__(self, kind: type[nn.RNNBase]) -> None:
        super().__init__()
        self.rnn = kind(4, 8)


class LSTMFrames(Frames):
    def forward(self, x: Tensor, hx: Tensor, cx: Tensor) -> Tensor:
        return self.rnn(x, (hx, cx))[0]


class GRUFrames(Frames):
    def forward(self, x: Tensor, h0: Tensor) -> Tensor:
        return self.rnn(x, h0)[0]


class LSTMReturned(Frames):
    """As the refusal of LSTMFrames says to write it."""

    def forward(self, x: Tensor, hx: Tensor, cx: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        y, (hx, cx) = self.rnn(x, (hx, cx))
        return y, hx, cx


class GRUReturned(Frames):
    def forward(self, x: Tensor, h0: Tensor) -> tuple[Tensor, Tensor]:
        y, h0 = self.rnn(x, h0)
        return y, h0


@pytest.mark.parametrize("time", [1, 5])
@pytest.mark.parametrize(
    "lost, returned, states",
    [
        (LSTMFrames(nn.LSTM), LSTMReturned(nn.LSTM), ("hx", "cx")),
        (GRUFrames(nn.GRU), GRUReturned(nn.GRU), ("h0",)),
    ],
)
def test_a_result_is_not_taken_for_the_state_that_is_not_returned(
    path: Path, lost: nn.Module, returned: nn.Module, states: tuple[str, ...], time: int
) -> None:
    """At one step both have one shape, and a one-layer GRU's even one value. What the refusal says to write works."""
    example = torch.randn(time, 1, 4), *(torch.zeros(1, 1, 8) for _ in states)
    line = rf"`return y, {', '.join(states)}`"
    refused(path, lost, example, rf"(?s)takes the state '{states[0]}' \(test_states.py:\d+.*{line}", exporter="legacy")
    result = export(returned, example, path, exporter="legacy")
    assert len(result.state) == len(states)
    assert result.outputs[0] == "y"
    plain = export(lost, example, path, exporter="legacy", state=[])
    assert (plain.outputs, plain.state) == (("y",), ())
    assert_agrees(path, lost, *example)
    stream, frames = streamgru.load(path).stream(), torch.randn(6, 1, 4)
    with torch.no_grad():
        y = lost.eval()(frames, *example[1:])
    np.testing.assert_allclose(stream.run(frames.numpy()).reshape(y.shape), y.numpy(), rtol=0, atol=TOLERANCE)


def test_frames_are_not_the_cell_state_that_is_not_returned(path: Path) -> None:
    class Half(Frames):
        def forward(self, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
            y, (h, c) = self.rnn(x, (h, c))
            return y, h

    example = torch.randn(1, 1, 4), torch.zeros(1, 1, 8), torch.zeros(1, 1, 8)
    refused(path, Half(nn.LSTM), example, "takes the state 'c'", exporter="legacy")


def test_a_cell_whose_state_is_not_returned_is_told_to_return_it(path: Path) -> None:
    net = Step(lambda self, x, h: torch.tanh(self.cell(x, h)), cell=nn.GRUCell(4, 8))
    example = torch.randn(1, 4), torch.zeros(1, 8)
    refused(path, net, example, r"`h = self.cell\(x, h\)`, `return y, h`$", exporter="legacy")
    net.call = lambda self, x, h: (torch.tanh(self.cell(x, h)), self.cell(x, h))
    assert export(net, example, path, exporter="legacy").state == (("h_in", "h_out"),)


def test_what_a_head_makes_of_the_frames_is_no_state(path: Path) -> None:
    net = Step(
        lambda self, x, h: (self.a(self.gru(x, h)[0]), self.b(self.gru(x, h)[0])),
        gru=nn.GRU(4, 8),
        a=nn.Linear(8, 8),
        b=nn.Linear(8, 8),
    )
    refused(path, net, (torch.randn(1, 1, 4), torch.zeros(1, 1, 8)), "takes the state 'h'", exporter="legacy")


def test_the_frames_of_two_steps_are_no_state_of_two_layers(path: Path) -> None:
    def call(self: Any, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        y, _ = self.gru(x, h)
        return self.head(y), y

    net = Step(call, gru=nn.GRU(4, 8, 2), head=nn.Linear(8, 3))
    refused(path, net, (torch.randn(2, 1, 4), torch.zeros(2, 1, 8)), "takes the state 'h'", exporter="legacy")


def test_a_state_that_is_no_output_is_to_be_returned(path: Path) -> None:
    net = Step(lambda self, x, h: self.head(self.gru(x, h)[0]), gru=nn.GRU(4, 8), head=nn.Linear(8, 3))
    example = torch.randn(1, 1, 4), torch.zeros(1, 1, 8)
    match = r"no output left can continue its shape.*Return the new state from forward\(\)"
    refused(path, net, example, match, exporter="legacy", state=[("h", "h_out")])
    net.call = lambda self, x, h: (self.head(self.gru(x, h)[0]), self.gru(x, h)[1])
    result = export(net, example, path, exporter="legacy", state=[("h", "h_out")])
    assert (result.outputs, result.state) == (("y", "h_out"), (("h", "h_out"),))


class Cell(nn.Module):
    """A cell written by hand: no layer shows which of its results is the state."""

    def __init__(self) -> None:
        super().__init__()
        self.w, self.u = nn.Linear(4, 8), nn.Linear(8, 8)

    def after(self, x: Tensor, h: Tensor) -> Tensor:
        return torch.tanh(self.w(x) + self.u(h))


def test_the_name_in_the_return_statement_shows_a_state(path: Path) -> None:
    class Named(Cell):
        def forward(self, x: Tensor, h: Tensor) -> Tensor:
            h_new = self.after(x, h)
            return h_new  # noqa: RET504  the name is what shows it

    example = torch.randn(1, 4), torch.zeros(1, 8)
    assert export(Named(), example, path, exporter="legacy").state == (("h_in", "h_out"),)


def test_names_in_the_return_statement_keep_a_result_from_being_a_state(path: Path) -> None:
    class Named(Cell):
        def forward(self, x: Tensor, hidden: Tensor, h: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            h, y = self.after(x, h), self.after(x, hidden)
            return x, y, h

    example = torch.randn(1, 4), torch.zeros(1, 8), torch.zeros(1, 8)
    refused(path, Named(), example, "'hidden' .1, 8. reads as a state, and no output continues", exporter="legacy")


def test_a_cells_only_result_may_be_either_and_the_caller_is_asked(path: Path) -> None:
    class Bare(Cell):
        def forward(self, x: Tensor, h: Tensor) -> Tensor:
            return self.after(x, h)

    example = torch.randn(1, 4), torch.zeros(1, 8)
    refused(path, Bare(), example, r"state=\[\('h', 'h_out'\)\].*`return y, h`.*state=\[\]", exporter="legacy")
    result = export(Bare(), example, path, exporter="legacy", state=[("h", "h_out")])
    assert result.state == (("h", "h_out"),)
    assert export(Bare(), example, path, exporter="legacy", state=[]).state == ()


def test_a_state_of_another_shape_than_all_results_is_to_be_returned(path: Path) -> None:
    class Headed(Cell):
        def forward(self, x: Tensor, h: Tensor) -> Tensor:
            return self.after(x, h)[:, :3]

    class Returning(Cell):
        def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
            h = self.after(x, h)
            y = h[:, :3]
            return y, h

    example = torch.randn(1, 4), torch.zeros(1, 8)
    match = r"'h' \(1, 8\) reads as a state, and no output continues it.*`return y, h`.*pass state=\[\]"
    refused(path, Headed(), example, match, exporter="legacy")
    assert export(Returning(), example, path, exporter="legacy").state == (("h_in", "h_out"),)
    assert export(Headed(), example, path, exporter="legacy", state=[]).state == ()


def test_a_condition_that_only_may_be_a_state_is_an_input_with_a_notice(path: Path) -> None:
    class Conditioned(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(4, 3)

        def forward(self, x: Tensor, c: Tensor) -> Tensor:
            return self.linear(x + c)

    example = torch.randn(1, 4), torch.randn(1, 4)
    with pytest.warns(UserWarning, match=r"'c' reads as a state.*Pass state=\[\]"):
        assert export(Conditioned(), example, path, exporter="legacy").state == ()
    assert export(Conditioned(), example, path, exporter="legacy", state=[]).warnings == ()


def test_a_state_by_another_name_is_found_by_its_way_through_the_layer(path: Path) -> None:
    class Other(Frames):
        def forward(self, x: Tensor, q: Tensor) -> tuple[Tensor, Tensor]:
            y, q = self.rnn(x, q)
            return torch.relu(y), q

    result = export(Other(nn.GRU), (torch.randn(1, 1, 4), torch.zeros(1, 1, 8)), path, exporter="legacy")
    assert result.state == (("q_in", "q_out"),)


def test_an_lstms_states_packed_by_hand_are_one_state(path: Path) -> None:
    """Cut from one tensor, masked, and stacked again: among three outputs of one shape."""

    class Packed(Frames):
        def forward(self, x: Tensor, hc: Tensor, keep: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            h, c = (hc * keep).chunk(2, -1)
            y, (h, c) = self.rnn(x, (h.contiguous(), c.contiguous()))
            return torch.cat([y, y], -1), torch.cat([h, c], -1), torch.cat([c, h], -1).tanh()

    example = torch.randn(1, 1, 4), torch.zeros(1, 1, 16), torch.ones(1)
    result = export(Packed(nn.LSTM), example, path, exporter="legacy")
    assert (result.outputs, result.state) == (("y", "hc_out", "y1"), (("hc_in", "hc_out"),))
    assert not result.warnings


def test_a_bare_cell_streams_its_state_as_its_result(path: Path) -> None:
    cell = nn.GRUCell(4, 8)
    export(cell, (torch.randn(1, 4), torch.zeros(1, 8)), path, exporter="legacy")
    stream, h = streamgru.load(path).stream(), torch.zeros(1, 8)
    for x in torch.randn(5, 1, 4):
        with torch.no_grad():
            h = cell(x, h)
        np.testing.assert_allclose(stream.step(x.numpy()), h.numpy(), rtol=0, atol=TOLERANCE)


class Average(nn.Module):
    """Its state has a name that says nothing."""

    def forward(self, x: Tensor, m: Tensor) -> tuple[Tensor, Tensor]:
        m = 0.9 * m + 0.1 * x
        return x - m, m


def test_what_goes_in_and_comes_out_under_one_name_may_be_a_state_and_is_named(path: Path) -> None:
    example = torch.randn(1, 3), torch.randn(1, 3)
    with pytest.warns(UserWarning, match=r"forward\(\) takes 'm' and returns 'm'.*state=\[\('m', 'm_out'\)\]"):
        assert export(Average(), example, path, exporter="legacy").state == ()
    assert export(Average(), example, path, exporter="legacy", state=[]).warnings == ()
    assert export(Average(), example, path, exporter="legacy", state=[("m", "m_out")]).state == (("m", "m_out"),)
    stream, module = streamgru.load(path).stream(), Average()
    frames = torch.randn(5, 1, 3)
    m = torch.zeros(1, 3)
    for x in frames:
        y, m = module(x, m)
        np.testing.assert_allclose(stream.step(x.numpy()), y.numpy(), atol=TOLERANCE)
