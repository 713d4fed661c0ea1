"""The border of the runtime: images, states and files made to do harm are only errors."""

import json
import struct

import numpy as np
import pytest

import streamgru
from runtime.models import gru_image, gru_model, sequence
from streamgru._kernel import ffi, lib
from streamgru.errors import ImageError, ModelError, StateError


def with_json(image: bytes, block: bytes) -> bytes:
    """The image with another JSON block, its checksum right."""
    altered = bytearray(image) + block + bytes(-len(block) % 64)
    struct.pack_into("<QQ", altered, 96, len(image), len(block))
    return with_size_and_checksum(altered)


def with_size_and_checksum(altered: bytearray) -> bytes:
    struct.pack_into("<Q", altered, 16, len(altered))
    rest = bytes(altered[32:])
    struct.pack_into("<Q", altered, 24, lib.sgru_checksum(ffi.from_buffer(rest), len(rest)))
    return bytes(altered)


@pytest.mark.parametrize(
    "block",
    [
        b"[" * 100_000,
        b"[]",
        b"\xff\xfe",
        *(
            json.dumps(block).encode()
            for block in (
                {"time_axis": [1]},
                {"time_axis": {"X": "a"}},
                {"time_axis": {"X": -1}},
                {"time_axis": {"X": 1.5}},
                {"time_axis": {"X": True}},
                {"time_axis": {"X": 10**9}},
                {"batch_axis": 3},
                {"batch_axis": {"Y": 9}},
                {"source": 5},
                {"sha256": []},
                {"kind": {}},
                {"weights": 8},
                {"states": 7},
                {"states": [1]},
                {"states": [{}]},
                {"states": [{"name": []}]},
                {"states": [{"name": "s", "input": 1}]},
            )
        ),
    ],
    ids=lambda block: block[:40].decode("ascii", "replace"),
)
def test_metadata_of_another_form_is_refused(block):
    with pytest.raises(ImageError):
        streamgru.Model(with_json(gru_image(), block))


def test_metadata_may_be_absent():
    streamgru.Model(with_json(gru_image(), b"")).stream().step(np.zeros((1, 5), np.float32))


def test_a_state_is_measured_in_bytes():
    stream = gru_model().stream()
    size = len(stream.save())
    for state in (np.zeros((size, 0), np.uint8), np.zeros(size, "V0"), np.zeros(size, np.float32), b"", bytes(size)):
        with pytest.raises(StateError):
            stream.restore(state)


def test_memory_that_can_be_written_is_copied():
    """What was checked cannot be altered afterwards."""
    image = gru_image()
    raw = np.zeros(len(image) + 64, np.uint8)
    start = -raw.ctypes.data % 64
    memory = raw[start : start + len(image)]
    memory[:] = np.frombuffer(image, np.uint8)
    model = streamgru.Model(memory)
    x = sequence(9)
    before = model.stream().run(x)
    memory[:] = 0xFF
    np.testing.assert_array_equal(model.stream().run(x), before)


@pytest.mark.parametrize("size, error", [(1 << 33, ImageError), (1 << 42, ModelError)])
def test_a_long_file_that_states_another_size_is_not_read(tmp_path, size, error):
    """Nor one that is longer than any."""
    path = tmp_path / "long.sgru"
    path.write_bytes(gru_image())
    with path.open("r+b") as file:
        file.truncate(size)
    with pytest.raises(error):
        streamgru.load(path)


def test_a_small_image_that_asks_for_a_terabyte_is_an_error():
    altered = bytearray(gru_image())
    (tensors,) = struct.unpack_from("<Q", altered, 64)
    for i in range(struct.unpack_from("<I", altered, 32)[0]):
        if altered[tensors + 64 * i + 1] == 1:  # in the arena
            struct.pack_into("<Q", altered, tensors + 64 * i + 8, 1 << 39)
    try:
        model = streamgru.Model(with_size_and_checksum(altered))
    except ModelError:
        return
    with pytest.raises(ModelError):
        model.stream(block=1000)


def test_a_block_of_absurd_size_is_an_error():
    for block in (0, -1, 2**31, 2**62, 2**70):
        with pytest.raises(ValueError, match="block"):
            gru_model().stream(block=block)


def test_views_outlive_the_stream():
    stream = gru_model().stream()
    x, y = stream.x, stream.y
    stream.step(np.ones((1, 5), np.float32))
    stream.close()
    del stream
    x[...] = 1
    assert np.isfinite(y).all()
