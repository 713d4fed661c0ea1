"""Step or sequence: what is chosen, what is refused, and that what the refusal recommends works."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from export.from_torch.nets import Net, OneInput, Step, assert_agrees, refused
from streamgru_export.from_torch.export import export

X, H = torch.randn(1, 1, 4), torch.zeros(1, 1, 8)


def test_a_cell_is_a_step_whatever_is_asked_for(path: Path) -> None:
    cell, example = nn.GRUCell(4, 8), (torch.randn(1, 4), torch.zeros(1, 8))
    match = '(?s)no axis of the inputs.*Leave stream= out, or pass stream="step"'
    refused(path, cell, example, match, stream="sequence")
    for options in ({}, {"stream": "step"}):
        assert export(cell, example, path, exporter="legacy", **options).kind == "step"


def test_a_cell_that_hides_its_state_is_told_to_return_it(path: Path) -> None:
    net = OneInput(lambda self, x: self.cell(x), cell=nn.GRUCell(4, 8))
    refused(path, net, torch.randn(1, 4), r"take and return the state: forward\(x, h\)", stream="sequence")
    refused(path, net, torch.randn(1, 4), r"Let forward\(\) take and return it")
    written = Step(lambda self, x, h: self.cell(x, h), cell=nn.GRUCell(4, 8))
    assert export(written, (torch.randn(1, 4), torch.zeros(1, 8)), path, exporter="legacy").kind == "step"


def test_a_layer_over_bands_has_no_time_to_watch_and_its_axis_is_named(path: Path) -> None:
    """Its layer runs as many steps as there are bands, for each frame anew."""
    net = OneInput(
        lambda self, x: self.bands(x.reshape(x.shape[1], 6, 4))[0][None], bands=nn.GRU(4, 8, batch_first=True)
    )
    x = torch.randn(1, 5, 24)
    refused(path, net, x, r"longer 'x' all the same: if that is its time, pass time_axis=1", stream="sequence")
    refused(path, net, x, r'layers run within a frame, pass stream="sequence" and time_axis=1', stream="step")
    result = export(net, x, path, exporter="legacy", stream="sequence", time_axis=1)
    assert result.time_axis == {"x": 1, "y": 1}
    assert_agrees(path, net, torch.randn(1, 9, 24))


def test_a_step_without_a_state_is_told_the_ways_out(path: Path) -> None:
    match = '(?s)Let forward.. take and return it.*, and give it in the example; or export with stream="sequence"'
    refused(path, Net(), X, match, stream="step")
    assert export(Net(), (X, torch.zeros(2, 1, 8)), path, exporter="legacy", stream="step").state
    assert export(Net(), X, path, exporter="legacy", stream="sequence").kind == "sequence"


def test_an_input_that_may_be_the_state_is_named_with_its_successor(path: Path) -> None:
    def call(self: Any, x: Tensor, q: Tensor) -> tuple[Tensor, Tensor]:
        q = self.cell(x, torch.tanh(q))  # not the state itself: the layer does not show it
        return self.head(q), q

    class Odd(Step):
        def forward(self, x: Tensor, q: Tensor) -> Any:
            return self.call(self, x, q)

    net = Odd(call, cell=nn.GRUCell(4, 8), head=nn.Linear(8, 3))
    example = torch.randn(1, 4), torch.zeros(1, 8)
    match = r"if 'q' is a state and 'y1' its successor, pass output_names=\['y', 'y1'\] and state=\[\('q', 'y1'\)\]"
    refused(path, net, example, match)
    result = export(net, example, path, exporter="legacy", output_names=["y", "y1"], state=[("q", "y1")])
    assert result.state == (("q", "y1"),)


@pytest.mark.filterwarnings("ignore:bidirectional")
def test_a_bidirectional_step_may_be_a_sequence(path: Path) -> None:
    gru, example = nn.GRU(4, 8, bidirectional=True), (X, torch.zeros(2, 1, 8))
    refused(path, gru, example, '(?s)cannot know the frames to come.*stream="sequence"')
    assert export(gru, example, path, exporter="legacy", stream="sequence").kind == "sequence"
    path.unlink()
    assert export(nn.GRU(4, 8), (X, H), path, exporter="legacy").kind == "step"


class Translator(nn.Module):
    """A decoder begins where the encoder ends: two sequences, two lengths."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.decoder = nn.GRU(4, 8, batch_first=True), nn.GRU(4, 8, batch_first=True)

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        return self.decoder(target, self.encoder(source)[1])[0]


class Attending(Translator):
    """The decoder has no layer to watch; its result is as long as its input."""

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        encoded, _ = self.encoder(source)
        return torch.softmax(target @ encoded[..., :4].transpose(1, 2), -1) @ encoded


@pytest.mark.parametrize("net", [Translator(), Attending()])
def test_a_second_sequence_is_not_frozen_without_a_word(path: Path, net: nn.Module) -> None:
    source, target = torch.randn(1, 9, 4), torch.randn(1, 7, 4)
    match = r"'target' \(1, 7, 4\) keeps its length 7 on axis 1.*both one length.*pass time_axis=1.*by themselves"
    refused(path, net, (source, target), match, exporter="legacy")
    together = export(net, (source, source), path, exporter="legacy")
    assert together.time_axis == {"source": 1, "target": 1, "y": 1}
    with pytest.warns(UserWarning, match="'target' .* keeps its length 7"):
        assert export(net, (source, target), path, exporter="legacy", time_axis=1).time_axis == {"source": 1}
    assert_agrees(path, net, torch.randn(1, 13, 4), target)


def test_parts_of_an_encoder_and_decoder_export_by_themselves(path: Path) -> None:
    net = Translator()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert export(net.encoder, torch.randn(1, 9, 4), path, exporter="legacy").kind == "sequence"
        assert export(net.decoder, (X, H), path, exporter="legacy").kind == "step"


def test_a_memory_of_fixed_length_is_noted(path: Path) -> None:
    class Reader(Translator):
        def forward(self, x: Tensor, keys: Tensor) -> Tensor:
            y, _ = self.encoder(x)
            return torch.softmax(y @ keys.transpose(1, 2), -1) @ keys

    with pytest.warns(UserWarning, match="'keys' .* keeps its length 7 on axis 1, though forward.. takes more"):
        export(Reader(), (torch.randn(1, 9, 4), torch.randn(1, 7, 8)), path, exporter="legacy")
