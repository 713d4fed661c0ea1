"""Time and batch axes are found by running the module on a longer example."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from export.from_torch.nets import (
    Net,
    OneInput,
    Step,
    assert_agrees,
    declared,
    refused,
)
from streamgru_export.from_torch.export import export


@pytest.mark.parametrize("exporter", ["legacy", pytest.param("dynamo", marks=pytest.mark.slow)])
def test_an_example_of_size_one_keeps_its_axes_dynamic(path: Path, exporter: Any) -> None:
    gru = nn.GRU(4, 8, batch_first=True)
    example = torch.randn(1, 1, 4), torch.randn(1, 1, 8)
    result = export(gru, example, path, stream="sequence", dynamic_batch=True, exporter=exporter)
    assert result.kind == "sequence"
    assert declared(path)["input"] == ["batch", "time", 4]
    assert_agrees(path, gru, torch.randn(3, 6, 4), torch.randn(1, 3, 8))


def test_unbatched_sequence(path: Path) -> None:
    gru = nn.GRU(4, 8)
    assert export(gru, torch.randn(5, 4), path).time_axis == {"input": 0, "y": 0}
    assert_agrees(path, gru, torch.randn(9, 4))


def test_time_axis_of_a_module_without_recurrent_layers_can_be_given(path: Path) -> None:
    conv = OneInput(lambda self, x: self.conv(x), conv=nn.Conv1d(4, 4, 3, padding=1))
    result = export(conv, torch.randn(1, 4, 6), path, exporter="legacy", time_axis=-1)
    assert (result.kind, result.time_axis) == ("sequence", {"x": 2, "y": 2})
    assert_agrees(path, conv, torch.randn(1, 4, 17))


def test_bidirectional_over_time_is_exported_whole_with_a_warning(path: Path) -> None:
    gru = nn.GRU(4, 8, bidirectional=True)
    with pytest.warns(UserWarning, match="cannot stream"):
        result = export(gru, torch.randn(5, 1, 4), path, exporter="legacy")
    assert any("cannot stream" in w for w in result.warnings)


def test_step_with_a_dynamic_batch(path: Path) -> None:
    net = Net()
    export(net, (torch.randn(1, 1, 4), torch.zeros(2, 1, 8)), path, dynamic_batch=True)
    assert declared(path)["h_in"] == [2, "batch", 8]
    assert_agrees(path, net, torch.randn(5, 1, 4), torch.randn(2, 5, 8))


def test_bidirectional_over_frequency_inside_a_frame_is_a_step(path: Path) -> None:
    def call(self: Any, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:  # x [1, T=1, F=6, C=4]
        bands, _ = self.over_bands(x[:, 0])
        y, h = self.over_time(bands.reshape(1, 1, 48), h)
        return y, h

    net = Step(call, over_bands=nn.GRU(4, 4, batch_first=True, bidirectional=True), over_time=nn.GRU(48, 8))
    assert export(net, (torch.randn(1, 1, 6, 4), torch.zeros(1, 1, 8)), path, exporter="legacy").kind == "step"


def test_batch_fixed_in_the_code_is_refused(path: Path) -> None:
    net = OneInput(lambda self, x: self.gru(x, torch.zeros(1, 2, 8))[0], gru=nn.GRU(4, 8))
    refused(path, net, torch.randn(5, 2, 4), "refuses twice the batch", dynamic_batch=True)
    export(net, torch.randn(5, 2, 4), path, exporter="legacy", dynamic_batch=False)
    unbatched = OneInput(lambda self, x: self.gru(x)[0], gru=nn.GRU(4, 8))
    export(unbatched, torch.randn(5, 2, 4), path, exporter="legacy", dynamic_batch=True)


def test_time_is_found_where_lengths_must_grow_with_it(path: Path) -> None:
    def call(self: Any, x: Tensor, lengths: Tensor) -> Tensor:
        packed = nn.utils.rnn.pack_padded_sequence(x, lengths.cpu(), batch_first=True, enforce_sorted=False)
        frames, _ = self.gru(packed)
        return nn.utils.rnn.pad_packed_sequence(frames, batch_first=True, total_length=x.shape[1])[0]

    net = Step(call, gru=nn.GRU(4, 8, batch_first=True))
    result = export(net, (torch.randn(1, 9, 4), torch.tensor([9])), path, exporter="legacy", state=[])
    assert result.time_axis == {"x": 1, "y": 1}
    assert_agrees(path, net, torch.randn(1, 12, 4), torch.tensor([7]))


def test_time_is_found_where_a_layer_is_called_by_keyword(path: Path) -> None:
    net = OneInput(lambda self, x: self.gru(input=x)[0], gru=nn.GRU(4, 8, batch_first=True))
    assert export(net, torch.randn(1, 5, 4), path, exporter="legacy").time_axis == {"x": 1, "y": 1}


class FromLongToShort(nn.Module):
    """A packed GRU that wants its lengths sorted."""

    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(4, 3, batch_first=True)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        y, _ = self.gru(pack_padded_sequence(x, lengths, batch_first=True))
        return pad_packed_sequence(y, batch_first=True, total_length=x.shape[1])[0]


def test_lengths_from_long_to_short_are_so_in_twice_the_batch(path: Path) -> None:
    module, lengths = FromLongToShort(), torch.tensor([5, 3])
    export(module, (torch.zeros(2, 5, 4), lengths), path, stream="sequence", exporter="legacy", dynamic_batch=True)
    assert_agrees(path, module, torch.randn(3, 7, 4), torch.tensor([7, 4, 1]))


def test_a_cell_in_a_python_loop_runs_along_the_axis_that_the_loop_does(path: Path) -> None:
    """Its time is axis 0; the batch beside it is none, though the module accepts more of it."""

    def loop(self: Any, x: Tensor) -> Tensor:
        h, found = x.new_zeros(x.shape[1], 8), []
        for frame in x:
            h = self.cell(frame, h)
            found.append(h)
        return torch.stack(found)

    looped = OneInput(loop, cell=nn.GRUCell(4, 8))
    refused(path, looped, torch.randn(5, 1, 4), r"It is right at T=5.*a Python loop over time", exporter="legacy")
