"""A model: images opened in place, whole or not at all."""

import struct

import numpy as np
import pytest

import streamgru
from runtime.models import gru_image, gru_onnx, sequence
from streamgru import ImageError, ModelError
from streamgru._kernel import lib


@pytest.fixture(name="image", scope="module")
def fixture_image():
    return gru_image()


def with_right_checksum(image):
    """The image after a change that should be found by its contents and not by the checksum."""
    image = bytearray(image)
    body = bytes(image[32:])
    struct.pack_into("<Q", image, 24, lib.sgru_checksum(streamgru._kernel.ffi.from_buffer(body), len(body)))
    return bytes(image)


def test_a_model_tells_what_it_takes_and_gives(image):
    model = streamgru.Model(image)
    assert [(t.name, t.shape, t.dtype, t.time_axis) for t in model.inputs] == [("X", (1, 5), np.float32, 0)]
    assert [(t.name, t.shape, t.time_axis) for t in model.outputs] == [("Y", (1, 1, 8), 0)]
    assert [t.shape for t in model.states] == [(1, 8)] or [np.prod(t.shape) for t in model.states] == [8]
    assert model.metadata["kind"] == "sequence"
    assert model.sizes["image"] == len(image)
    assert "X: float32[1, 5]" in repr(model)


def test_an_image_is_saved_and_loaded_with_the_same_bits(image, tmp_path):
    path = tmp_path / "gru.sgru"
    streamgru.Model(image).save(path)
    assert path.read_bytes() == image
    x = sequence(9)
    want = streamgru.Model(image).stream().run(x)
    for mapped in (False, True):
        assert np.array_equal(streamgru.load(path, mapped=mapped).stream().run(x), want)
    assert [p.name for p in tmp_path.iterdir()] == ["gru.sgru"]


def test_an_onnx_file_is_compiled_in_memory(image, tmp_path):
    path = tmp_path / "gru.onnx"
    path.write_bytes(gru_onnx()[0].SerializeToString())
    x = sequence(9)
    assert np.array_equal(streamgru.load(path).stream().run(x), streamgru.Model(image).stream().run(x))


@pytest.mark.parametrize("length", [0, 1, 7, 8, 127, 128, 192, -64, -1])
def test_a_truncated_image_is_refused(image, length, tmp_path):
    path = tmp_path / "short.sgru"
    path.write_bytes(image[:length])
    with pytest.raises(ImageError, match=r"short\.sgru"):
        streamgru.load(path)


@pytest.mark.parametrize("at", [33, 200, -1])
def test_an_altered_image_is_refused(image, at):
    altered = bytearray(image)
    altered[at] ^= 0x10
    with pytest.raises(ImageError, match="checksum does not match"):
        streamgru.Model(bytes(altered))


def test_an_image_of_another_version_is_refused(image):
    other = bytearray(image)
    other[8] = 2
    with pytest.raises(ImageError, match="another version: compile the model again"):
        streamgru.Model(bytes(other))


def test_an_image_that_contradicts_itself_is_refused(image):
    """An operator that wants more of a tensor than there is."""
    ops = struct.unpack_from("<Q", image, 72)[0]
    words = struct.unpack_from("<Q", image, 80)[0]
    first = struct.unpack_from("<I", image, ops + 8)[0]
    altered = bytearray(image)
    params = words + 4 * (first + 8 + 2)
    hidden = struct.unpack_from("<I", image, params + 12)[0]
    assert hidden == 8
    struct.pack_into("<I", altered, params + 12, 9)
    with pytest.raises(ModelError, match="operands do not fit together"):
        streamgru.Model(with_right_checksum(altered))


@pytest.mark.parametrize("content", [b"", b"not a model at all", b"\x08\x07\x12\x04none" * 9, bytes(1000)])
def test_an_onnx_file_that_is_none_is_refused(content, tmp_path):
    path = tmp_path / "none.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=r"none\.onnx"):
        streamgru.load(path)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(ModelError, match=r"gone\.sgru: cannot be read: No such file"):
        streamgru.load(tmp_path / "gone.sgru")


def test_an_unknown_isa_is_refused_with_those_there_are():
    with pytest.raises(streamgru.StreamgruError, match=r"cannot run 'sse9': it has .*ref"):
        streamgru.set_isa("sse9")
    assert streamgru.isa() == streamgru.available_isas()[0]
