"""What a file says about itself is written by the export, obeyed by the compiler, and kept to the end."""

import json
import warnings

import numpy as np
import onnx
import pytest
import torch
from onnx import helper

import streamgru
from streamgru.cli import main
from streamgru.errors import ModelError, OptionError
from streamgru_export import compile, export
from streamgru_export.properties import about, of_person, of_stream, state_pairs, time_axes
from streamgru_export.zoo import GRUNet

GIVEN = {
    "sample_rate": 16000,
    "labels": ["left", "right"],
    "normalisation": {"mean": [0.5, -1.0, 2.0], "deviation": 2.5},
}


@pytest.fixture(scope="module")
def shipped(tmp_path_factory):
    """A net exported with all that can be said of it: as ONNX and as an image."""
    folder = tmp_path_factory.mktemp("shipped")
    net = GRUNet(3, 8, 2, 1).eval()
    normalisation = {"mean": np.float32([0.5, -1, 2]), "deviation": 2.5}
    export(
        net, (torch.zeros(1, 1, 3), net.initial_state()), folder / "net.onnx", exporter="legacy",
        sample_rate=16000, labels=("left", "right"), normalisation=normalisation, metadata={"unit": "dB"},
    )  # fmt: skip
    compile(folder / "net.onnx", folder / "net.sgru")
    return folder


@pytest.mark.parametrize("name", ["net.onnx", "net.sgru"])
def test_what_was_given_to_the_export_comes_back_from_load(shipped, name):
    metadata = streamgru.load(shipped / name).metadata
    assert {key: metadata[key] for key in GIVEN} == GIVEN
    assert metadata["meta"] == {"unit": "dB"}
    assert metadata["kind"] == "step"
    assert [(s["input"], s["output"]) for s in metadata["states"]] == [("h_in", "h_out")]


@pytest.mark.parametrize("name", ["net.onnx", "net.sgru"])
def test_info_shows_it(shipped, name, capsys):
    assert main(["info", str(shipped / name), "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert {key: data["about"][key] for key in GIVEN} == GIVEN
    assert main(["info", str(shipped / name)]) == 0
    out = capsys.readouterr().out
    assert "sample rate   16000" in out
    assert '["left", "right"]' in out


def test_the_command_line_gives_it_too(tmp_path, capsys):
    words = ["streamgru_export.zoo:GRUNet", "--args", '{"input_size": 3, "hidden_size": 8, "output_size": 2}']
    words += ["--example", "1,1,3", "--example", "2,1,8", "--exporter", "legacy"]
    words += ["--sample-rate", "48000", "--label", "no", "--label", "yes", "-o", str(tmp_path / "n.onnx")]
    assert main(["export", *words]) == 0, capsys.readouterr().err
    metadata = streamgru.load(tmp_path / "n.onnx").metadata
    assert (metadata["sample_rate"], metadata["labels"]) == (48000, ["no", "yes"])


@pytest.mark.parametrize(
    "option, value",
    [
        ("sample_rate", 0),
        ("sample_rate", "fast"),
        ("sample_rate", True),
        ("labels", "yes"),
        ("labels", [1, 2]),
        ("normalisation", [1.0]),
        ("normalisation", {"mean": "none"}),
        ("normalisation", {"mean": [1.0, float("nan")]}),
    ],
)
def test_the_export_refuses_what_is_not_of_its_form(option, value, tmp_path):
    net = GRUNet(3, 8, 2, 1)
    with pytest.raises(OptionError, match=option):
        export(net, (torch.zeros(1, 1, 3), net.initial_state()), tmp_path / "n.onnx", **{option: value})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "key, text",
    [
        ("meta.sample_rate", "-1"),
        ("meta.labels", '{"y": 3}'),
        ("meta.normalisation", '{"mean": NaN}'),
        ("meta.other", "["),
        ("meta.other", "[" * 100_000),
        ("time_axis", "[0]"),
        ("time_axis", '{"x": true}'),
        ("time_axis", '{"x": 9}'),
        ("time_axis", '{"x": -1}'),
        ("state", '[["x"]]'),
    ],
)
def test_the_compiler_refuses_a_file_that_says_nonsense(shipped, key, text):
    model = onnx.load(shipped / "net.onnx")
    kept = [p for p in model.metadata_props if p.key != f"streamgru.{key}"]
    del model.metadata_props[:]
    model.metadata_props.extend(kept)
    model.metadata_props.add(key=f"streamgru.{key}", value=text)
    with pytest.raises(ModelError, match="metadata"):
        compile(model)


def two_axes(time_axis=None):
    """x [a, b, 4] -> y, element by element: nothing in the graph tells which of its axes is time."""
    x, y = (helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, ["a", "b", 4]) for n in "xy")
    graph = helper.make_graph([helper.make_node("Tanh", ["x"], ["y"])], "g", [x], [y])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    if time_axis is not None:
        for key, value in of_stream("sequence", {"x": time_axis, "y": time_axis}, []).items():
            model.metadata_props.add(key=key, value=value)
    return model


@pytest.mark.parametrize("axis", [0, 1])
def test_the_compiler_takes_the_time_axis_from_the_file(axis):
    compiled = compile(two_axes(axis))
    assert compiled.kind == "sequence"
    assert compiled.time_axis == {"x": axis, "y": axis}


def test_the_caller_knows_better_than_the_file():
    assert compile(two_axes(0), time_axis={"x": 1}).time_axis == {"x": 1, "y": 1}
    assert compile(two_axes(0), dims={"a": 3}).inputs["x"][0] == 3


def test_the_state_pairs_of_the_file_are_used_and_only_they(shipped):
    model = onnx.load(shipped / "net.onnx")
    next(p for p in model.metadata_props if p.key == "streamgru.state").value = "[]"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert compile(model).pairs == []


def test_reading_undoes_writing():
    properties = of_stream("sequence", {"x": 1}, [("h_in", "h_out")]) | of_person({**GIVEN, "unit": "dB"})
    assert state_pairs(properties) == [("h_in", "h_out")]
    assert time_axes(properties) == {"x": 1}
    assert about(properties) == {**GIVEN, "meta": {"unit": "dB"}}
    assert (state_pairs({}), time_axes({}), about({})) == (None, {}, {})
