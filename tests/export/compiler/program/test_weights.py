"""What is stored as fewer bits, what stays float32, what is refused."""

import numpy as np
import pytest
from onnx import helper

import streamgru
from export.graphs import gru_weights, model, rng
from streamgru.errors import ModelError, OptionError, ShapeError
from streamgru_export.compiler.compile import compile
from streamgru_export.compiler.program import image as images
from streamgru_export.compiler.program import weights as weights_module
from streamgru_export.compiler.program.program import Code, Kind, Operator, Program, Tensor, packed
from streamgru_export.compiler.program.weights import packed_bytes, quantise_rows, unpacked

F32, F16, I8 = 1, 5, 6
SHAPES = [(1, 1), (3, 5), (16, 2), (17, 3), (35, 7), (64, 6), (33, 64)]


def dense(w, x=None):
    """y = x · wᵀ."""
    node = helper.make_node("MatMul", ["x", "w"], ["y"], name="dense")
    return model([node], {"x": x or ["time", w.shape[1]]}, ["y"], {"w": np.ascontiguousarray(w.T)})


def gru(inputs=32, hidden=64):
    node = helper.make_node("GRU", ["x", "W", "R", "B"], ["y"], hidden_size=hidden, linear_before_reset=1)
    return model([node], {"x": ["time", 1, inputs]}, ["y"], gru_weights(rng(), inputs, hidden))


def formats(compiled):
    """The dtypes of the packed matrices."""
    return [t["dtype"] for t in images.dump(compiled.image)["tensors"] if t["layout"] == 1]


# ---- what is stored ----


@pytest.mark.parametrize("shape", SHAPES)
def test_packed_rows_come_back(shape):
    matrix = rng().standard_normal(shape).astype(np.float32)
    assert np.array_equal(unpacked(packed("w", matrix)), matrix)


@pytest.mark.parametrize("shape", SHAPES)
def test_bytes_lie_as_the_format_says(shape):
    """[block][k / 4][row][k % 4], then a line of sums and a line of scales; blocks an odd number of lines apart."""
    r, (m, k) = rng(), shape
    integers = r.integers(-127, 128, shape, dtype=np.int8)
    scales = r.random(m, dtype=np.float32)
    stored, lines = packed_bytes(integers, scales), -(-k // 4)
    step = 64 * ((lines + 2) | 1)
    assert len(stored) == -(-m // 16) * step
    for row in range(m):
        block = stored[row // 16 * step :][:step]
        assert [block[j // 4 * 64 + row % 16 * 4 + j % 4] for j in range(k)] == integers[row].tolist()
        assert block[lines * 64 :].view(np.int32)[row % 16] == -128 * integers[row].astype(int).sum()
        assert block[lines * 64 + 64 :].view(np.float32)[row % 16] == scales[row]


def test_rows_are_scaled_by_their_largest():
    matrix = np.array([[1, -2, 0.5], [0, 0, 0], [1e-30, 0, -1e-30]], np.float32)
    integers, scales = quantise_rows(matrix)
    assert integers.tolist() == [[64, -127, 32], [0, 0, 0], [127, 0, -127]]
    np.testing.assert_allclose(scales, [2 / 127, 0, 1e-30 / 127], rtol=1e-6)


@pytest.mark.parametrize("weights, dtype", [("f32", F32), ("f16", F16), ("i8", I8)])
def test_every_matrix_of_a_product_is_converted(weights, dtype):
    compiled = compile(gru(), weights=weights)
    assert formats(compiled) == [dtype, dtype]
    assert compiled.weights == images.dump(compiled.image)["about"]["weights"] == weights


@pytest.mark.parametrize(
    "shape, dtype", [((16, 64), I8), ((64, 16), I8), ((15, 100), F32), ((100, 15), F32), ((20, 20), F32)]
)
def test_small_matrices_stay_float32(shape, dtype):
    w = rng().standard_normal(shape).astype(np.float32)
    assert formats(compile(dense(w), weights="i8")) == [dtype]


@pytest.mark.parametrize(
    "weights, largest, dtype", [("f16", 65504.0, F16), ("f16", 7e4, F32), ("i8", 7e4, I8), ("i8", np.inf, F32)]
)
def test_what_a_format_cannot_hold_stays_float32(weights, largest, dtype):
    w = rng().standard_normal((32, 32)).astype(np.float32)
    w[3, 5] = largest
    assert formats(compile(dense(w), weights=weights)) == [dtype]


def test_a_convolution_of_one_position_is_converted_and_one_that_slides_is_not():
    w = rng().standard_normal((32, 64, 1)).astype(np.float32)
    for positions, dtypes in ((1, [I8]), (9, [])):
        node = helper.make_node("Conv", ["x", "w"], ["y"], name="conv")
        graph = model([node], {"x": [1, 64, positions]}, ["y"], {"w": w})
        assert formats(compile(graph, mode="whole", weights="i8")) == dtypes


def test_matrices_that_become_the_same_bytes_lie_apart():
    """The core reads each once, in the order of their records."""
    w = rng().standard_normal((32, 32)).astype(np.float32)
    w[:, 0] = 100
    other = w.copy()
    other[0, 1] += 0.001
    nodes = [helper.make_node("MatMul", ["x", "a"], ["h"]), helper.make_node("MatMul", ["h", "b"], ["y"])]
    compiled = compile(model(nodes, {"x": [1, 32]}, ["y"], {"a": w.T.copy(), "b": other.T.copy()}), weights="i8")
    offsets = [t["offset"] for t in images.dump(compiled.image)["tensors"] if t["dtype"] == I8]
    assert len(set(offsets)) == 2
    streamgru.Model(compiled.image)


# ---- the error, measured ----


def test_a_tolerance_that_holds_tells_the_error():
    compiled = compile(gru(), weights="i8", tolerance=0.02)
    assert 0 < compiled.errors["y"].relative < 0.02
    assert images.dump(compiled.image)["about"]["errors"] == {"y": compiled.errors["y"].relative}
    assert compile(gru(), weights="i8").errors == {}


def test_a_tolerance_that_does_not_hold_refuses_with_the_figures(tmp_path):
    with pytest.raises(
        ModelError, match=r"weights='i8' cost more than the tolerance of 0.01%.*'y' \d\.\d+% \(RMSE .*, RMS .*\)"
    ):
        compile(gru(), tmp_path / "model.sgru", weights="i8", tolerance=1e-4)
    assert not (tmp_path / "model.sgru").exists()
    assert compile(gru(), weights="f16", tolerance=1e-3).errors["y"].relative < 1e-3


def test_samples_are_what_the_error_is_measured_on():
    """Frames whose one loud feature leaves the others few bits."""
    frames = rng().standard_normal((50, 1, 32)).astype(np.float32)
    loud = frames.copy()
    loud[:, :, 0] *= 200
    quiet_error = compile(gru(), weights="i8", tolerance=1, samples=frames).errors["y"]
    assert compile(gru(), weights="i8", tolerance=1, samples={"x": loud}).errors["y"].relative > quiet_error.relative
    with pytest.raises(ShapeError):
        compile(gru(), weights="i8", tolerance=1, samples=frames[:, :, :5])


def test_ids_are_drawn_from_the_table_they_index():
    r = rng()
    table, w = r.standard_normal((100, 32)).astype(np.float32), r.standard_normal((32, 32)).astype(np.float32)
    nodes = [helper.make_node("Gather", ["table", "ids"], ["e"]), helper.make_node("MatMul", ["e", "w"], ["y"])]
    graph = model(nodes, {"ids": ["time"]}, ["y"], {"table": table, "w": w}, dtypes={"ids": 7})
    assert 0 < compile(graph, weights="i8", tolerance=0.05).errors["y"].relative < 0.05


def test_an_unknown_format_is_refused():
    with pytest.raises(OptionError, match="weights='i4'"):
        compile(gru(), weights="i4")


@pytest.mark.parametrize("columns, dtype", [(64, np.int8), (65, np.float32)])
def test_rows_whose_sums_pass_32_bits_stay_float32(monkeypatch, columns, dtype):
    monkeypatch.setattr(weights_module, "MAX_COLUMNS_I8", 64)
    w = packed("w", np.ones((32, columns), np.float32))
    x, y = (Tensor(n, np.dtype(np.float32), s, Kind.ARENA) for n, s in (("x", (1, columns)), ("y", (1, 32))))
    product = Operator(Code.AFFINE, [x, w, None], [y], [1, 32, columns, 0, 0.0, 0.0], "")
    weights_module.convert_in_place(Program([product], [x], [y]), "i8")
    assert w.dtype == dtype
