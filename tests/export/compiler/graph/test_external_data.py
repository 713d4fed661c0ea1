"""External data comes from the model's folder alone, and from where it says."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, external_data_helper, helper

from export.graphs import gru_weights, model, rng
from streamgru.errors import ModelError
from streamgru_export.compiler.graph.onnx_reader import read


def external(tmp_path, **entries):
    """A model whose only weight lies in weights.bin, with the entries of its external data changed."""
    value = np.arange(8, dtype=np.float32)
    source = model([helper.make_node("Add", ["x", "w"], ["y"])], {"x": [8]}, ["y"], {"w": value})
    tensor = source.graph.initializer[0]
    tensor.ClearField("raw_data")
    (tmp_path / "weights.bin").write_bytes(b"\xff" * 16 + value.tobytes())
    entries = {"location": "weights.bin", "offset": 16, "length": 32, **entries}
    tensor.data_location = TensorProto.EXTERNAL
    for key, v in entries.items():
        if v is not None:
            entry = tensor.external_data.add()
            entry.key, entry.value = key, str(v)
    path = tmp_path / "m.onnx"
    path.write_bytes(source.SerializeToString())
    return path


def test_reads_external_data_beside_the_model(tmp_path):
    np.testing.assert_array_equal(read(external(tmp_path)).constants["w"], np.arange(8, dtype=np.float32))


@pytest.mark.parametrize(
    "entries",
    [
        {"location": "/etc/hostname"},
        {"location": "../weights.bin"},
        {"location": "sub/../../weights.bin"},
        {"location": "C:\\weights.bin"},
        {"location": ""},
        {"location": "absent.bin"},
        {"offset": -1},
        {"offset": 1 << 70},
        {"offset": 40},
        {"length": 1 << 62},
        {"length": -4},
        {"offset": "1e3"},
    ],
)
def test_refuses_external_data_elsewhere_naming_the_tensor(tmp_path, entries):
    with pytest.raises(ModelError, match="'w'"):
        read(external(tmp_path, **entries))


def test_refuses_a_link_that_leads_outside(tmp_path):
    inside = tmp_path / "model"
    inside.mkdir()
    path = external(inside)
    (tmp_path / "secret.bin").write_bytes(b"\0" * 64)
    (inside / "weights.bin").unlink()
    (inside / "weights.bin").symlink_to(tmp_path / "secret.bin")
    with pytest.raises(ModelError, match=r"'w'.*outside"):
        read(path)


@pytest.mark.parametrize("kind", ["pipe", "folder", "device", "loop"])
def test_refuses_what_is_no_file_and_does_not_wait_for_it(tmp_path, kind):
    path = external(tmp_path)
    beside = tmp_path / "weights.bin"
    beside.unlink()
    {"pipe": os.mkfifo, "folder": Path.mkdir, "device": lambda p: p.symlink_to("/dev/zero"),
     "loop": lambda p: p.symlink_to(p)}[kind](beside)  # fmt: skip
    with pytest.raises(ModelError, match="'w'"):
        read(path)


def test_a_name_that_is_no_text(tmp_path):
    """protobuf has none, and the file beside the model may."""
    path = external(tmp_path, location="w\ufffd.bin")
    (tmp_path / "weights.bin").rename(tmp_path / "w\udcff.bin")
    with pytest.raises(ModelError, match=r"'w'.*not beside the model"):
        read(path)


def test_a_file_of_many_gigabytes_of_which_one_tensor_takes_little(tmp_path):
    path = external(tmp_path)
    with (tmp_path / "weights.bin").open("r+b") as file:
        file.truncate(2**40)
    np.testing.assert_array_equal(read(path).constants["w"], np.arange(8, dtype=np.float32))
    with pytest.raises(ModelError, match=r"'w': its data does not fit its shape \[8\]: 1099511627760 bytes"):
        read(external_without_length(tmp_path))


def external_without_length(tmp_path):
    path = external(tmp_path, length=None)
    with (tmp_path / "weights.bin").open("r+b") as file:
        file.truncate(2**40)
    return path


def test_refuses_external_data_of_a_model_in_memory(tmp_path):
    with pytest.raises(ModelError, match=r"'w'.*path"):
        read(external(tmp_path).read_bytes())


def test_reads_what_onnx_itself_saves_externally(tmp_path):
    weights = gru_weights(rng(), 8, 64)
    node = helper.make_node("GRU", ["x", "W", "R", "B"], ["y"], hidden_size=64)
    source = model([node], {"x": [1, 1, 8]}, ["y"], weights)
    external_data_helper.convert_model_to_external_data(source, location="m.onnx.data", size_threshold=0)
    onnx.save(source, tmp_path / "m.onnx")
    np.testing.assert_array_equal(read(tmp_path / "m.onnx").constants["R"], weights["R"])


@pytest.mark.parametrize("offset, length, fits", [(16, 32, True), (0, 32, True), (16, 33, False), (17, 32, False)])
def test_a_range_that_ends_beyond_the_file_is_refused(tmp_path, offset, length, fits):
    """The file has 48 bytes: a read would only be short."""
    path = external(tmp_path, offset=offset, length=length)
    if fits:
        assert read(path).constants["w"].nbytes == 32
        return
    with pytest.raises(ModelError, match=rf"'w': bytes {offset} to {offset + length} lie beyond the end of"):
        read(path)
