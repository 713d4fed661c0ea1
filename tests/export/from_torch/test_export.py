"""The exporter from end to end: sequence and step graphs that give what the module gives, the files, bad arguments.

Expected values come from the PyTorch module, run here once more; the graphs are run by onnxruntime, not by what the
exporter used to verify them. Where a behaviour does not depend on torch's exporter, the legacy one is used: it is
twenty times faster.
"""

from __future__ import annotations

import inspect
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn

from export.from_torch.nets import (
    EXPORTERS,
    TOLERANCE,
    Net,
    OneInput,
    Step,
    assert_agrees,
    declared,
    drop_linear_before_reset,
    properties,
    refused,
    run,
    tampered,
)
from streamgru.errors import ExportError, StreamgruError
from streamgru_export.from_torch import export as torch_export
from streamgru_export.from_torch.export import export


@pytest.mark.parametrize(
    "exporter, batch_first, layers, bidirectional",
    [
        *(("legacy", batch_first, *form) for batch_first in (True, False) for form in ((1, False), (2, True))),
        ("dynamo", False, 1, False), ("dynamo", True, 2, True),
        *(pytest.param("dynamo", *form, marks=pytest.mark.slow) for form in ((True, 1, False), (False, 2, True))),
    ],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore:bidirectional")
def test_plain_gru_runs_at_every_length_and_batch(
    path: Path, exporter: Any, batch_first: bool, layers: int, bidirectional: bool
) -> None:
    gru = nn.GRU(4, 8, layers, batch_first=batch_first, bidirectional=bidirectional)
    directions = 1 + bidirectional

    def example(time: int, batch: int) -> tuple[Tensor, Tensor]:
        x = torch.randn(batch, time, 4) if batch_first else torch.randn(time, batch, 4)
        return x, torch.randn(layers * directions, batch, 8)

    result = export(gru, example(5, 2), path, dynamic_batch=True, exporter=exporter)
    assert result.kind == "sequence"
    assert result.time_axis == {"input": int(batch_first), "y": int(batch_first)}
    assert result.state == (("h_in", "h_out"),)
    for time, batch in [(1, 1), (5, 2), (10, 2), (7, 3)]:
        assert_agrees(path, gru, *example(time, batch))


@pytest.mark.parametrize("exporter", EXPORTERS)
def test_net_with_a_head_on_the_last_frame(path: Path, exporter: Any) -> None:
    net = Net()
    result = export(net, torch.randn(1, 5, 4), path, exporter=exporter, output_names=["logits", "h_n"])
    assert (result.kind, result.state, result.outputs) == ("sequence", (), ("logits", "h_n"))
    assert result.time_axis == {"x": 1}
    for time in (1, 5, 10, 13):
        assert_agrees(path, net, torch.randn(1, time, 4))


def test_token_ids(path: Path) -> None:
    net = OneInput(
        lambda self, x: self.gru(self.embedding(x))[0],
        embedding=nn.Embedding(11, 4),
        gru=nn.GRU(4, 8, batch_first=True),
    )
    export(net, torch.randint(0, 11, (1, 6)), path, exporter="legacy")
    assert_agrees(path, net, torch.randint(0, 11, (1, 9)))


@pytest.mark.parametrize("exporter", EXPORTERS)
def test_steps_fed_with_their_state_give_what_the_module_gives_for_the_sequence(path: Path, exporter: Any) -> None:
    gru = nn.GRU(4, 60, 2, batch_first=True)  # more than 8192 weights: the default exporter leaves them unfolded
    result = export(gru, (torch.randn(1, 1, 4), torch.zeros(2, 1, 60)), path, exporter=exporter)
    assert (result.kind, result.state, result.time_axis) == ("step", (("h_in", "h_out"),), {})
    assert declared(path)["input"] == [1, 1, 4]
    x, h = torch.randn(1, 20, 4), torch.zeros(2, 1, 60).numpy()
    frames = []
    for t in range(20):
        y, h = run(path, x[:, t : t + 1], torch.from_numpy(h))
        frames.append(y)
    with torch.no_grad():
        want, h_want = gru(x)
    np.testing.assert_allclose(np.concatenate(frames, 1), want.numpy(), rtol=0, atol=TOLERANCE)
    np.testing.assert_allclose(h, h_want.numpy(), rtol=0, atol=TOLERANCE)


def test_sequence_lstm(path: Path) -> None:
    lstm = nn.LSTM(4, 8, batch_first=True)
    state = torch.randn(1, 1, 8), torch.randn(1, 1, 8)
    result = export(lstm, [torch.randn(1, 5, 4), state], path)
    assert (result.kind, result.time_axis) == ("sequence", {"input": 1, "y": 1})
    assert_agrees(path, lstm, torch.randn(1, 8, 4), state)


def test_gru_module_without_memory_of_its_own_is_left_to_the_caller(path: Path) -> None:
    linear = nn.Linear(4, 3)
    result = export(linear, torch.randn(1, 4), path, exporter="legacy")
    assert (result.kind, result.state) == ("step", ())


def test_metadata_is_in_the_file(path: Path) -> None:
    metadata = {"sample_rate": 16000, "labels": ["yes", "no"], "unit": "dB", "mean": np.float32([0.5, 2])}
    export(nn.GRU(4, 8), torch.randn(5, 1, 4), path, exporter="legacy", metadata=metadata)
    found = {key: json.loads(v) if v[:1] in '[{"0123456789' else v for key, v in properties(path).items()}
    assert found["streamgru.kind"] == "sequence"
    assert found["streamgru.time_axis"] == {"input": 0, "y": 0}
    assert found["streamgru.state"] == []
    assert found["streamgru.meta.sample_rate"] == 16000
    assert found["streamgru.meta.labels"] == ["yes", "no"]
    assert found["streamgru.meta.unit"] == "dB"
    assert found["streamgru.meta.mean"] == [0.5, 2.0]


@pytest.mark.parametrize("exporter", EXPORTERS)
def test_weights_have_the_modules_names_and_no_source_paths(net_step: Any, exporter: Any) -> None:
    net, _, path = net_step(exporter)
    assert "head.weight" in {w.name for w in onnx.load(path).graph.initializer}
    data = path.read_bytes()
    for source in (__file__, inspect.getsourcefile(type(net)), nn.__file__):
        assert str(Path(source).parent).encode() not in data


def test_python_loop_over_a_cell_can_be_a_step(path: Path) -> None:
    net = Step(lambda self, x, h: self.cell(x, h), cell=nn.GRUCell(4, 8))
    assert export(net, (torch.randn(1, 4), torch.zeros(1, 8)), path, exporter="legacy").kind == "step"


def test_a_failed_export_leaves_the_previous_file_alone(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tampered(monkeypatch, drop_linear_before_reset)
    path.write_bytes(b"the model in use")
    with pytest.raises(ExportError):
        export(nn.GRU(4, 8), torch.randn(5, 1, 4), path, exporter="legacy")
    assert path.read_bytes() == b"the model in use"
    assert list(path.parent.iterdir()) == [path]


def test_weights_too_large_for_one_file_stand_beside_it(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch_export, "SINGLE_FILE_BYTES", 0)
    gru = nn.GRU(4, 60)
    export(gru, torch.randn(5, 1, 4), path, exporter="legacy")
    assert len(list(path.parent.iterdir())) == 2
    (beside,) = path.parent.glob("model.onnx.*.data")
    assert_agrees(path, gru, torch.randn(8, 1, 4))
    export(gru, torch.randn(5, 1, 4), path, exporter="legacy")
    assert list(path.parent.glob("model.onnx.*.data")) == [beside], "the same weights have the same name"


def test_a_model_never_stands_beside_the_weights_of_another_one(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An export that dies, or another one that writes there too, comes between the weights and the graph."""
    monkeypatch.setattr(torch_export, "SINGLE_FILE_BYTES", 0)
    first, second = nn.GRU(4, 60), nn.GRU(4, 60)
    export(first, torch.randn(5, 1, 4), path, exporter="legacy")
    old = path.read_bytes()
    export(second, torch.randn(5, 1, 4), path, exporter="legacy")
    path.write_bytes(old)
    assert_agrees(path, first, torch.randn(8, 1, 4))


def test_names_that_are_no_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "f\udcfe"
    folder.mkdir()
    gru = nn.GRU(4, 8)
    export(gru, torch.randn(5, 1, 4), folder / "m\udcff.onnx", exporter="legacy")
    (tmp_path / "text.onnx").write_bytes((folder / "m\udcff.onnx").read_bytes())
    assert_agrees(tmp_path / "text.onnx", gru, torch.randn(8, 1, 4))
    monkeypatch.setattr(torch_export, "SINGLE_FILE_BYTES", 0)  # the name of the weights stands in the graph
    export(gru, torch.randn(5, 1, 4), tmp_path / "m\udcff.onnx", exporter="legacy")
    assert [p.name[:8] for p in tmp_path.glob("*.data")] == ["m?.onnx."]


@pytest.mark.parametrize("place", ["pipe", "folder", "absent/m.onnx"])
def test_a_place_where_no_file_can_be(place: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    with pytest.raises(StreamgruError):
        export(nn.GRU(4, 8), torch.randn(5, 1, 4), tmp_path / place, exporter="legacy")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["folder", "pipe"]


def test_weights_beside_the_file_are_not_left_behind_either(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch_export, "SINGLE_FILE_BYTES", 0)
    refused(path, Net(), torch.randn(1, 5, 4), "raise tolerance=", exporter="legacy", tolerance=1e-12)


X, H = torch.randn(1, 1, 4), torch.zeros(1, 1, 8)


@pytest.mark.parametrize(
    "example, options, match",
    [
        ((X, H, H), {}, "does not fit GRU.forward"),
        ({"frame": X}, {}, "does not fit GRU.forward"),
        (3, {}, "the example is of type int"),
        ((), {}, "does not fit GRU.forward"),
        ({"input": None}, {}, "holds no tensor"),
        (torch.randn(1, 1, 5), {}, "fails on the example"),
        ((X, H), {"input_names": ["x"]}, "this module has 2 tensor inputs"),
        ((X, H), {"input_names": ["x", "x"]}, "give 2 different names"),
        ((X, H), {"output_names": ["y"]}, "this module has 2 outputs"),
        ((X, H), {"state": [("z", "h")]}, "names the input 'z'; the inputs are input, hx"),
        (
            (X, H),
            {"state": [("hx", "z")], "output_names": ["y", "h"]},
            "names the output 'z'; the outputs are y, h",
        ),
        ((X, H), {"state": [("input", "x")]}, "no output left can continue its shape"),
        ((X, H), {"time_axis": 3}, "it has 3 axes"),
        ((X, H), {"time_axis": 2}, "refuses an example twice as long"),
    ],
)
def test_bad_arguments_are_named(path: Path, example: Any, options: dict[str, Any], match: str) -> None:
    refused(path, nn.GRU(4, 8), example, match, **{"exporter": "legacy", **options})


def test_a_path_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="does not exist"):
        export(nn.GRU(4, 8), X, tmp_path / "none" / "model.onnx")
    with pytest.raises(ExportError, match="is a folder"):
        export(nn.GRU(4, 8), X, tmp_path)
