"""The border of the runtime: images, states and files made to do harm are only errors."""

import json
import struct

import numpy as np
import onnx
import pytest

import streamgru
from export.graphs import model, node
from runtime.models import gru_image, gru_model, gru_onnx, sequence
from streamgru._kernel import ffi, lib
from streamgru.codes import PARAMETERS, Binary, Code, Pooling, Reduction, Scatter, Unary
from streamgru.errors import ImageError, ModelError, OptionError, StateError
from streamgru.layout import tables_of


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
                {"bound": [1]},
                {"bound": {"sr": 16000}},
                {"bound": {"sr": {"dtype": "object", "shape": [], "values": [1]}}},
                {"bound": {"sr": {"dtype": "int64", "shape": [2], "values": [1]}}},
                {"bound": {"sr": {"dtype": "int64", "shape": [], "values": ["a"]}}},
                {"bound": {"sr": {"dtype": "int64", "shape": [], "values": [1e400]}}},
                {"lengths": ["X"]},
                {"lengths": {"inputs": ["ghost"], "state": None}},
                {"lengths": {"inputs": [[]], "state": None}},
                {"lengths": {"inputs": ["X"], "state": "ghost"}},
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


# ---- codes ----

FUNCTION_OF = {"activation": Unary, "f": Unary, "g": Unary, "h": Unary, "reduction": Reduction, "pooling": Pooling}
FLAGS = {
    "reverse", "linear_before_reset", "input_forget", "log", "select_last", "largest", "sorted", "exclusive",
    "count_include_pad", "extreme",
}  # fmt: skip
NODES = {
    "Relu": ({"X": [4]}, {}), "Add": ({"X": [4], "B": [4]}, {}), "Softmax": ({"X": [2, 4]}, {}),
    "LogSoftmax": ({"X": [2, 4]}, {}), "ReduceMean": ({"X": [2, 4]}, {}), "ArgMax": ({"X": [2, 4]}, {"axis": 1}),
    "MaxPool": ({"X": [1, 1, 4, 4]}, {"kernel_shape": [2, 2]}),
    "AveragePool": ({"X": [1, 1, 4, 4]}, {"kernel_shape": [2, 2]}),
    "Conv": ({"X": [1, 1, 4, 4], "W": [2, 1, 2, 2]}, {}), "ConvTranspose": ({"X": [1, 1, 4, 4], "W": [1, 2, 2, 2]}, {}),
    "GRU": ({"X": [3, 1, 4], "W": [1, 15, 4], "R": [1, 15, 5]}, {"hidden_size": 5, "linear_before_reset": 1}),
    "LSTM": ({"X": [3, 1, 4], "W": [1, 20, 4], "R": [1, 20, 5]}, {"hidden_size": 5}),
    "RNN": ({"X": [3, 1, 4], "W": [1, 5, 4], "R": [1, 5, 5]}, {"hidden_size": 5}),
}  # fmt: skip


def image_of(op):
    """One node; what is not X is a constant."""
    shapes, attributes = NODES[op]
    constants = {name: np.ones(shape, np.float32) for name, shape in shapes.items() if name != "X"}
    graph = model([node(op, list(shapes), ["Y"], **attributes)], {"X": shapes["X"]}, ["Y"], constants)
    return streamgru.compile(graph, mode="whole").image


def known_codes(code, name):
    """The numbers that a parameter may be; none where it is no code."""
    if name in FLAGS:
        return {0, 1}
    if name == "function":
        return set(Unary if code == Code.UNARY else Binary)
    if name == "reduction" and code != Code.REDUCE:
        return set(Scatter)
    return set(FUNCTION_OF.get(name, ()))


@pytest.mark.parametrize("op", NODES)
def test_a_code_that_the_format_does_not_name_is_refused(op):
    image = image_of(op)
    tables = tables_of(image)
    tried = 0
    for operator in tables.operators:
        code = Code(operator["code"])
        for i, name in enumerate(PARAMETERS[code]):
            if not (known := known_codes(code, name)):
                continue
            word = int(operator["first"] + operator["n_in"] + operator["n_out"]) + i
            for value in {*range(64), 255, 1 << 16, 1 << 31, 2**32 - 1} - known:
                altered = bytearray(image)
                struct.pack_into("<I", altered, int(tables.header["words"]) + 4 * word, value)
                with pytest.raises(ModelError):
                    streamgru.Model(with_size_and_checksum(altered))
                tried += 1
    assert tried > 0


# ---- operations ----


def pool_of(size):
    """A window of 255 x 255 that moves over a plane: an image of 768 bytes."""
    pooled = node("MaxPool", ["X"], ["Y"], kernel_shape=[255, 255], pads=[127] * 4)
    return streamgru.compile(model([pooled], {"X": [1, 1, size, size]}, ["Y"], {}), mode="whole").image


def test_a_small_image_that_would_take_seconds_is_refused():
    image = pool_of(600)
    with pytest.raises(ModelError, match=r"more than 10,000,000,000 operations: give a larger max_ops="):
        streamgru.Model(image)
    assert streamgru.Model(image, max_ops=None).ops > 600**2 * 255**2
    assert streamgru.Model(image, max_ops=10**11).ops == streamgru.Model(image, max_ops=2**64 - 1).ops


def test_the_limit_is_of_operations_whatever_is_loaded(tmp_path):
    (tmp_path / "model.sgru").write_bytes(gru_image())
    onnx.save(gru_onnx()[0], tmp_path / "model.onnx")
    for path in tmp_path.iterdir():
        ops = streamgru.load(path).ops
        assert streamgru.load(path, max_ops=ops).ops == ops
        with pytest.raises(ModelError, match="max_ops"):
            streamgru.load(path, max_ops=ops - 1)
    path = tmp_path / "model.onnx"
    for most in (2 * ops, 2**64 - 1):
        assert streamgru.load(path, mode="whole", length=50, max_ops=most).ops > 10 * ops
    for wrong in (-1, 2**64, 1.5, "many"):
        with pytest.raises(OptionError, match="max_ops"):
            streamgru.Model(gru_image(), max_ops=wrong)
        with pytest.raises(OptionError, match="max_ops"):
            streamgru.load(path, max_ops=wrong)


def test_operations_grow_with_the_work():
    """Multiply-adds of a GRU: 3 H (I + H), and something for each row."""
    for hidden, inputs in ((16, 8), (64, 64), (128, 32)):
        ops = gru_model(inputs, hidden).ops
        multiplied = 3 * hidden * (inputs + hidden)
        assert multiplied <= ops <= multiplied + 3 * hidden * 200
