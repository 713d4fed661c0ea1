"""The bytes of an image: as docs/format.md has them, whole or not at all."""

from __future__ import annotations

import json
import struct

import numpy as np
import pytest
from onnx import helper

from export.graphs import SEED, gru_weights, model, rng
from export.image_vm import ImageVM
from streamgru.errors import ImageError, ModelError
from streamgru_export.compiler.compile import compile
from streamgru_export.compiler.program import image as images
from streamgru_export.compiler.program.program import packed, word


@pytest.fixture
def compiled():
    gru = helper.make_node("GRU", ["x", "W", "R", "B"], ["Y"], name="gru", hidden_size=21)
    return compile(model([gru], {"x": ["T", 1, 5]}, ["Y"], gru_weights(rng(), 5, 21)))


def test_header_and_sections(compiled):
    data = compiled.image
    assert data[:8] == b"SGRU\r\n\x1a\n"
    version, flags, size = struct.unpack_from("<IIQ", data, 8)
    assert (version, flags, size) == (1, 0, len(data))
    assert len(data) % 64 == 0
    for at in (64, 72, 80, 88, 96, 112):
        (offset,) = struct.unpack_from("<Q", data, at)
        assert offset % 64 == 0
        assert 128 <= offset <= len(data)


def documented_checksum(data):
    total = 0x53475255
    for (w,) in struct.iter_unpack("<Q", data):
        total = ((total ^ w) * 0x9E3779B97F4A7C15) % 2**64
        total ^= total >> 32
    return total


def test_the_checksum_is_the_documented_one(compiled):
    assert struct.unpack_from("<Q", compiled.image, 24)[0] == documented_checksum(compiled.image[32:])


def test_both_checksums_agree():
    data = np.random.default_rng(SEED).bytes(4096)
    assert images.checksum(data) == documented_checksum(data)


def test_every_altered_word_is_noticed(compiled):
    for at in range(0, len(compiled.image), 64):
        altered = bytearray(compiled.image)
        altered[at] ^= 1
        with pytest.raises(ImageError):
            images.dump(bytes(altered))


@pytest.mark.parametrize("n", [0, 7, 64, 128, -64])
def test_a_truncated_image_is_refused(compiled, n):
    with pytest.raises(ImageError):
        images.dump(compiled.image[:n])


@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (16, 2), (17, 3), (35, 7), (64, 6)])
def test_packed_rows_are_blocks_of_sixteen(shape):
    """[block][k][row in block], an odd number of k apart; the last block rounded up to a multiple of 4 with zeros."""
    matrix = rng().normal(size=shape).astype(np.float32)
    m, k = shape
    stored = packed("w", matrix).data
    for row in range(m):
        start, width = row // 16 * 16, min(16, -(-(m - row // 16 * 16) // 4) * 4)
        for column in range(k):
            assert stored[start * (k | 1) + column * width + row % 16] == matrix[row, column]
    assert len(stored) == m // 16 * 16 * (k | 1) + -(-(m % 16) // 4) * 4 * k
    assert np.count_nonzero(stored) == np.count_nonzero(matrix)


@pytest.mark.parametrize("value, bits", [(1, 1), (-1, 0xFFFFFFFF), (1.0, 0x3F800000), (-0.5, 0xBF000000)])
def test_parameters_are_words(value, bits):
    assert word(value) == bits


def test_equal_constants_are_stored_once():
    w = np.arange(4096, dtype=np.float32)
    nodes = [helper.make_node("Add", ["x", "a"], ["y"]), helper.make_node("Mul", ["y", "b"], ["z"])]
    image = compile(model(nodes, {"x": [4096]}, ["z"], {"a": w, "b": w.copy()}), mode="whole").image
    assert images.dump(image)["header"]["data_size"] == w.nbytes


def test_operators_carry_the_names_of_their_nodes(compiled):
    assert [op["name"] for op in images.dump(compiled.image)["operators"]] == ["gru"]


def test_the_json_says_where_the_model_came_from(compiled, tmp_path):
    about = images.dump(compiled.image)["about"]
    assert about["kind"] == "sequence"
    assert about["time_axis"] == {"x": 0, "Y": 0}
    assert about["producer"] == "test"
    assert about["opset"] == 17
    assert about["states"] == [{"name": "gru.h", "input": None, "output": None}]
    assert len(about["sha256"]) == 64
    assert json.loads(json.dumps(about)) == about


def test_an_image_is_a_function_of_the_model():
    gru = helper.make_node("GRU", ["x", "W", "R", "B"], ["Y"], name="gru", hidden_size=21)
    source = model([gru], {"x": ["T", 1, 5]}, ["Y"], gru_weights(rng(), 5, 21))
    assert compile(source).image == compile(source).image


def test_the_library_reads_what_is_written(compiled):
    """The C library accepts the image and computes what the executor in NumPy does."""
    runtime = pytest.importorskip("streamgru.model")
    stream = runtime.Model(compiled.image).stream()
    vm, r = ImageVM(compiled.image), rng()
    for _ in range(5):
        x = r.normal(size=(1, 5)).astype(np.float32)
        np.testing.assert_allclose(stream.step(x), vm.step({"x": x})["Y"], rtol=0, atol=1e-6)


def test_more_tensors_than_the_format_holds_are_refused(monkeypatch, compiled):
    count = len(compiled.program.tensors())
    monkeypatch.setattr(images, "MAX_RECORDS", count)
    images.build(compiled.program, {})
    monkeypatch.setattr(images, "MAX_RECORDS", count - 1)
    with pytest.raises(ModelError, match=f"has {count} tensors; an image holds {count - 1} at most"):
        images.build(compiled.program, {})


def test_an_operator_of_more_words_than_the_format_holds_is_refused(monkeypatch, compiled):
    most = max(len(op.params) for op in compiled.program.operators)
    monkeypatch.setattr(images, "MAX_WORDS", most)
    images.build(compiled.program, {})
    monkeypatch.setattr(images, "MAX_WORDS", most - 1)
    with pytest.raises(ModelError, match="too many operands for an image"):
        images.build(compiled.program, {})
