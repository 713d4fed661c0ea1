"""Whatever a caller of the workshop can cause is an error of ours, and says what would be right."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

import streamgru
from runtime.models import gru_model, gru_onnx
from streamgru_export.bench import bench
from streamgru_export.embed.embed import embed
from streamgru_export.from_torch.loading import example, load_module
from streamgru_export.training.config import TrainConfig

ARRAY = np.zeros((3, 3))


@pytest.fixture(scope="module")
def model():
    return gru_model()


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp("models") / "gru.onnx"
    onnx.save(gru_onnx()[0], path)
    return path


OPTIONS_OF_PARITY = [
    *(("module", value, "module is a torch.nn.Module") for value in (5, "x", [], object())),
    *(("onnx", value, "onnx is a path") for value in (5, [], "", b"x")),
    *(("weights", value, "weights is a path") for value in (5, [], "", object())),
    ("weights", "absent.pt", "weights: there is no file absent.pt"),
    *(("steps", value, "steps is") for value in (0, -1, "x", float("nan"), None, [], 10**30)),
    *(("seed", value, "seed is") for value in (-1, "x", float("nan"), None, [], 10**30)),
    *(("tolerance", value, "tolerance is a number of 0 or more") for value in ("x", None, float("nan"), -1, [], ARRAY)),
]


@pytest.mark.parametrize("option, value, message", OPTIONS_OF_PARITY)
def test_options_of_parity(model, option, value, message):
    with pytest.raises(streamgru.OptionError) as raised:
        streamgru.parity(model, **{option: value})
    assert message in str(raised.value)


def test_a_graph_that_is_none(path, tmp_path):
    junk = tmp_path / "junk.onnx"
    junk.write_bytes(bytes(range(256)))
    with pytest.raises(streamgru.ModelError, match=r"onnx: there is no file absent\.onnx"):
        streamgru.parity(path, onnx="absent.onnx", steps=3)
    with pytest.raises(streamgru.ModelError, match=r"junk\.onnx is not an ONNX model"):
        streamgru.parity(path, onnx=junk, steps=3)
    with pytest.raises(streamgru.ModelError, match=r"junk\.onnx: onnxruntime refuses it"):
        bench(path, onnx=junk, rounds=1)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"rounds": 0}, "rounds is 1 to"),
        ({"rounds": "x"}, "rounds is a whole number"),
        ({"seed": -1}, "seed is 0 to"),
        ({"onnx": 5}, "onnx is a path"),
    ],
)
def test_options_of_bench(path, options, message):
    with pytest.raises(streamgru.OptionError, match=message):
        bench(path, **options)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"steps": 0}, "steps is 1 to"),
        ({"steps": 10**11}, "steps is 1 to"),
        ({"seed": -1}, "seed is 0 to"),
        ({"folder": None}, "folder is a path"),
    ],
)
def test_options_of_embed(model, tmp_path, options, message):
    with pytest.raises(streamgru.OptionError, match=message):
        embed(model, **{"folder": tmp_path, **options})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("names", [5, "y", b"y", object()])
def test_what_is_no_list_of_outputs(path, names):
    with pytest.raises(streamgru.OptionError, match="output_names is a list of names"):
        streamgru.InferenceSession(path).run(names, {})


@pytest.mark.parametrize("names, feed", [(None, None), (None, 5), (None, [1]), ([5], {}), ([[]], {}), ([ARRAY], {})])
def test_what_a_session_cannot_be_fed(path, names, feed):
    with pytest.raises(streamgru.ShapeError):
        streamgru.InferenceSession(path).run(names, feed)


def test_a_feed_of_lists_of_unequal_lengths(path):
    session = streamgru.InferenceSession(path)
    with pytest.raises(streamgru.ShapeError, match="input"):
        session.run(None, {arg.name: [[1], [1, 2]] for arg in session.get_inputs()})


@pytest.mark.parametrize("arguments", ["", "{", "[1]", "5", "null"])
def test_arguments_of_a_module_that_are_no_object(arguments):
    with pytest.raises(streamgru.OptionError, match="--args"):
        load_module("streamgru_export.zoo:GRUNet", arguments)


@pytest.mark.parametrize("spec", ["1,1,-8", "99999999,99999999,8", "-1:int64", "9" * 30])
def test_sizes_of_an_example_that_no_tensor_has(spec):
    with pytest.raises(streamgru.OptionError, match="no tensor has these sizes, or none fits in memory"):
        example(spec, 0)


def test_a_seed_of_an_example():
    with pytest.raises(streamgru.OptionError, match="seed is 0 to"):
        example("1,1", -1)


@pytest.mark.parametrize("data", [b"\xff", b"epochs = ", b"train = 5", b"epochs = -1", b"none = 1"])
def test_a_config_names_its_file(data, tmp_path):
    (tmp_path / "config.toml").write_bytes(data)
    with pytest.raises(streamgru.OptionError, match=r"config\.toml"):
        TrainConfig().from_toml(tmp_path / "config.toml")
