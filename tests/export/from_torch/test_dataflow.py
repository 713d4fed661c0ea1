"""Where a module's inputs go, seen from one run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from export.from_torch.nets import Lambda, Step
from streamgru_export.from_torch.dataflow import Flow, watch
from streamgru_export.from_torch.signature import flatten

X, H = torch.randn(1, 1, 8), torch.zeros(1, 1, 8)


class Pair(Lambda):
    def forward(self, x: Tensor, state: tuple[Tensor, Tensor]) -> Any:
        return self.call(self, x, state)


def seen(module: nn.Module, *example: Any) -> Flow:
    flat, _, tensors = flatten(module, example)
    return watch(flat, tensors)


def stacked(self: Any, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
    y, after = x[0], []
    for k, cell in enumerate((self.a, self.b)):
        y = cell(y, h[k])
        after.append(y)
    return y, torch.stack(after)


def in_place(self: Any, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
    y, h = x[0], h.clone()
    for k, cell in enumerate((self.a, self.b)):
        y = h[k] = cell(y, h[k])
    return y, h


@pytest.mark.parametrize("layer", [nn.GRU, nn.RNN])
def test_a_layers_state_is_told_from_its_frames(layer: type[nn.Module]) -> None:
    flow = seen(layer(8, 8), X, H)
    assert [facts.frames for facts in flow.results] == [True, False]
    assert [facts.continues for facts in flow.results] == [frozenset(), {1}]
    assert set(flow.states) == {1}


def test_each_state_of_an_lstm_continues_its_own() -> None:
    for layer in (nn.LSTM(8, 8), nn.LSTM(8, 8, batch_first=True, num_layers=1)):
        flow = seen(layer, X, (H, H.clone()))
        assert [facts.continues for facts in flow.results] == [frozenset(), {1}, {2}]
    flow = seen(nn.LSTMCell(8, 8), X[0], (H[0], H[0].clone()))
    assert [facts.continues for facts in flow.results] == [{1}, {2}]


@pytest.mark.parametrize("call", [stacked, in_place])
def test_states_of_several_cells_may_lie_in_one_tensor(call: Callable[..., Any]) -> None:
    flow = seen(Step(call, a=nn.GRUCell(8, 8), b=nn.GRUCell(8, 8)), X, torch.zeros(2, 1, 8))
    assert [facts.continues for facts in flow.results] == [{1}, {1}]


def test_a_masked_state_is_still_the_state_and_a_computed_one_is_another() -> None:
    gru, linear = nn.GRU(8, 8), nn.Linear(8, 8)
    masked = seen(Step(lambda self, x, h: self.gru(x, h * (x.mean() > 0)), gru=gru), X, H)
    assert masked.results[1].continues == {1}
    computed = seen(Step(lambda self, x, h: self.gru(x, self.linear(h)), gru=gru, linear=linear), X, H)
    assert computed.results[1].continues == frozenset()
    assert not computed.states


def test_a_function_of_the_state_depends_on_it_and_does_not_continue_it() -> None:
    flow = seen(Step(lambda self, x, h: torch.tanh(self.gru(x, h)[1]), gru=nn.GRU(8, 8)), X, H)
    assert (flow.results[0].continues, flow.results[0].ends) == (frozenset(), {1})


def test_new_tensors_depend_on_no_value() -> None:
    flow = seen(Step(lambda self, x, h: (torch.zeros_like(h) + x.new_ones(1), x + h)), X, H)
    assert [facts.depends for facts in flow.results] == [frozenset(), {0, 1}]
    assert flow.used == {0, 1}


def test_a_write_through_a_view_is_seen() -> None:
    def call(self: Any, x: Tensor, h: Tensor) -> Tensor:
        y = torch.zeros(2, 8)
        y[0].copy_(h[0, 0])
        return y

    assert seen(Step(call), X, H).results[0].depends == {1}


def test_lengths_of_packed_sequences_are_found() -> None:
    def call(self: Any, x: Tensor, lengths: Tensor) -> Tensor:
        packed = nn.utils.rnn.pack_padded_sequence(x, lengths.cpu(), enforce_sorted=False)
        return nn.utils.rnn.pad_packed_sequence(self.gru(packed)[0])[0]

    flow = seen(Step(call, gru=nn.GRU(8, 8)), X, torch.tensor([1]))
    assert (flow.packs, flow.lengths, flow.reads) == (True, {1}, ())
    assert flow.results[0].frames


@pytest.mark.parametrize(
    "read, name",
    [
        (lambda h: bool(h.any()), "__bool__"),
        (lambda h: int(h.sum()), "__int__"),
        (lambda h: h.tolist(), "tolist"),
        (lambda h: h.numpy(), "numpy"),
        (lambda h: h.max().item(), "item"),
        (lambda h: torch.equal(h, h), "equal"),
        (lambda h: range(h.sum().long()), "__index__"),
    ],
)
def test_a_read_of_values_is_found_with_its_line(read: Callable[[Tensor], Any], name: str) -> None:
    def call(self: Any, x: Tensor, h: Tensor) -> Tensor:
        read(h)
        bool(self.on)  # the module's own: a constant
        return x[: x.shape[0]]

    (found,) = seen(Step(call, on=torch.ones(1)), X, H).reads
    assert (found.function, found.inputs) == (name, {1})
    assert str(found.place).startswith("test_dataflow.py:")


def test_indexing_with_a_tensor_is_no_read() -> None:
    assert not seen(Step(lambda self, x, k: x[:, :, k], a=nn.Linear(1, 1)), X, torch.tensor([1])).reads


def test_equal_origins_are_equal_computations() -> None:
    def call(self: Any, x: Tensor, h: Tensor) -> Tensor:
        return x * self.a if bool(h.any()) else x * self.b

    flat, _, tensors = flatten(Step(call, a=torch.ones(1), b=torch.ones(1)), (X, H))
    flow = watch(flat, tensors)
    assert watch(flat, tensors).origins == flow.origins
    assert watch(flat, tensors, {0: True}).origins != flow.origins, "equal numbers of two weights"
