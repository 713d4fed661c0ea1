"""`streamgru info` tells what the model is: of an ONNX file and of its image the same.

Counts, shapes and bytes are expected as the ONNX file has them, read by onnx and added up by NumPy.
"""

import json
from collections import Counter

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

import streamgru
from export.graphs import gru_weights, model, onnxruntime
from runtime.models import gru_model, gru_onnx
from streamgru.cli import main
from streamgru.info import describe, text
from streamgru.profile import profile
from streamgru_export.compiler.compile import compile

SEED = 5
FLOAT = 4  # bytes


def weights_of(path):
    """The file's weights by name."""
    return {t.name: numpy_helper.to_array(t) for t in onnx.load(path).graph.initializer}


def packed(matrix):
    """Elements of a matrix [.., rows, columns] as docs/format.md packs its rows: blocks of 16 have an odd number of
    columns, the last one is as wide as a multiple of 4."""
    *_, rows, columns = matrix.shape
    return rows // 16 * 16 * (columns + 1 - columns % 2) + (rows % 16 + 3) // 4 * 4 * columns


def gru_bytes(w):
    """A GRU that is linear_before_reset: both matrices, the biases added up but for those of the reset product."""
    hidden = w["R"].shape[-1]
    return FLOAT * (packed(w["W"]) + packed(w["R"]) + w["B"].size - 2 * hidden)


def kinds_of(path):
    return Counter(n.op_type for n in onnx.load(path).graph.node)


@pytest.fixture(name="path")
def fixture_path(tmp_path):
    """A GRU over time, a Transpose that is a view, a product with its bias, a Relu, and a Shape that is folded."""
    weights = gru_weights(np.random.default_rng(SEED), 5, 8)
    weights["A"] = np.random.default_rng(SEED).standard_normal((8, 3)).astype(np.float32)
    weights["b"] = np.ones(3, np.float32)
    nodes = [
        helper.make_node("GRU", ["X", "W", "R", "B"], ["Y"], name="the_gru", hidden_size=8, linear_before_reset=1),
        helper.make_node("Squeeze", ["Y", "one"], ["y"]),
        helper.make_node("MatMul", ["y", "A"], ["p"]),
        helper.make_node("Add", ["p", "b"], ["q"]),
        helper.make_node("Relu", ["q"], ["r"]),
        helper.make_node("Shape", ["r"], ["s"]),
        helper.make_node("Reshape", ["r", "s"], ["Z"]),
    ]
    weights["one"] = np.array([1], np.int64)
    onnx.save(model(nodes, {"X": ["time", 1, 5]}, ["Z"], weights), tmp_path / "net.onnx")
    return tmp_path / "net.onnx"


def test_the_operations_of_a_step(path):
    """At least the multiply-adds: 24 rows of the GRU over 5 inputs and 8 states, 3 of the product over 8."""
    data = describe(path)
    assert 24 * (5 + 8) + 3 * 8 <= data["ops"] == streamgru.load(path).ops < 10_000
    assert f"{data['ops']:,} operations per step" in text(data)


def test_what_the_nodes_became(path):
    data = describe(path)
    assert data["nodes"] == {
        "Add": {"fused": 1}, "GRU": {"GRU": 1}, "MatMul": {"AFFINE": 1}, "Relu": {"fused": 1}, "Reshape": {"free": 1},
        "Shape": {"folded": 1}, "Squeeze": {"free": 1},
    }  # fmt: skip
    assert {kind: sum(became.values()) for kind, became in data["nodes"].items()} == kinds_of(path)
    assert [t["name"] for t in data["states"]] == ["the_gru.h"]
    assert (data["streams"], data["refusals"], data["kind"]) == (True, [], "sequence")
    for part in ("7 nodes in the file", "the_gru.h", "1 fused", "AFFINE", "time axis 0 left out"):
        assert part in text(data)


def test_the_ports_are_those_of_the_file(path):
    """Without the time axis; the output's shape is what onnxruntime gives."""
    data, graph, w = describe(path), onnx.load(path).graph, weights_of(path)
    (x,) = graph.input
    time, *frame = x.type.tensor_type.shape.dim
    assert time.dim_param == "time"
    assert [(t["name"], t["shape"], t["dtype"], t["time_axis"]) for t in data["inputs"]] == [
        (x.name, [d.dim_value for d in frame], "float32", 0)
    ]
    whole = onnxruntime(onnx.load(path), {"X": np.zeros((7, 1, 5), np.float32)})
    assert [(t["name"], t["shape"], t["time_axis"]) for t in data["outputs"]] == [
        (name, list(value.shape[1:]), 0) for name, value in whole.items()
    ]
    assert [t["shape"] for t in data["states"]] == [[1, 1, w["R"].shape[-1]]]


def test_the_image_tells_the_same_but_for_the_times(path, tmp_path):
    streamgru.load(path).save(tmp_path / "net.sgru")
    one, other = describe(path), describe(tmp_path / "net.sgru")
    for data in (one, other):
        assert data.pop("step_ns") > 0
        data["operators"] = sorted((k["code"], k["count"], k["weights"]) for k in data["operators"])
        del data["model"]
    assert one == other


def test_the_bytes_are_those_of_the_image(path):
    data, w = describe(path), weights_of(path)
    assert packed(w["W"]) == 16 * 5 + 8 * 5  # of 24 rows: a block, and half a block
    assert packed(w["R"]) == 16 * 9 + 8 * 8  # with a line of zeros
    (gru,) = (k for k in data["operators"] if k["code"] == "GRU")
    assert gru["weights"] == gru_bytes(w)
    assert data["bytes"]["weights"] == gru_bytes(w) + FLOAT * (packed(w["A"].T) + w["b"].size)
    assert data["bytes"]["state"] == -(-FLOAT * w["R"].shape[-1] // 64) * 64
    assert data["bytes"]["image"] == len(streamgru.load(path).image)
    streamgru.load(path).save(path.with_suffix(".sgru"))
    assert data["bytes"]["image"] == path.with_suffix(".sgru").stat().st_size


@pytest.mark.parametrize("inputs, hidden", [(5, 4), (3, 8), (17, 16), (64, 33), (31, 64)])
def test_weights_are_the_files_bytes_and_their_padding(inputs, hidden):
    source, w = gru_onnx(inputs, hidden)
    (kind,) = profile(gru_model(inputs, hidden))
    assert kind.weights == gru_bytes(w)
    sizes = sum(numpy_helper.to_array(t).nbytes for t in source.graph.initializer) - FLOAT * 2 * hidden
    assert sizes <= kind.weights
    if hidden == 4:  # 12 rows are no whole block: nothing is padded
        assert kind.weights == sizes


def test_the_states_say_what_they_replace(tmp_path):
    weights = gru_weights(np.random.default_rng(SEED), 5, 8)
    node = helper.make_node("GRU", ["x", "W", "R", "B", "", "h_in"], ["", "h_out"], hidden_size=8)
    onnx.save(model([node], {"x": [1, 1, 5], "h_in": [1, 1, 8]}, ["h_out"], weights), tmp_path / "step.onnx")
    data = describe(tmp_path / "step.onnx")
    assert data["states"][0]["replaces"] == ["h_in", "h_out"]
    assert "instead of input 'h_in' and output 'h_out'" in text(data)


def test_a_recognised_cell_is_told_by_its_pieces(tmp_path):
    torch = pytest.importorskip("torch")
    cell, path = torch.nn.GRUCell(5, 8).eval(), tmp_path / "cell.onnx"
    streamgru.export(cell, (torch.zeros(1, 5), torch.zeros(1, 8)), path, stream="step")
    data = describe(path)
    nodes = kinds_of(path)
    assert sum(became.get("GRU cell", 0) for became in data["nodes"].values()) == nodes.total() == 14
    assert data["nodes"] == {kind: {"GRU cell": n} for kind, n in sorted(nodes.items())}
    assert any(f"{nodes.total()} nodes" in note and "GRU cell" in note for note in map(str, data["notes"]))
    assert [k["code"] for k in data["operators"]] == ["GRU"]


@pytest.fixture(name="looking_ahead")
def fixture_looking_ahead(tmp_path):
    """Two nodes that look into the future, and one behind them that is only told what they know."""
    w = {f"{k}{i}": v for i in (1, 2) for k, v in gru_weights(np.random.default_rng(i), 5, 8, directions=2).items()}
    nodes = [
        helper.make_node("GRU", ["X", f"W{i}", f"R{i}", f"B{i}"], [f"Y{i}"], f"gru{i}", hidden_size=8,
                         direction="bidirectional")
        for i in (1, 2)
    ]  # fmt: skip
    nodes.append(helper.make_node("Add", ["Y1", "Y2"], ["Z"], name="behind"))
    onnx.save(model(nodes, {"X": ["time", 1, 5]}, ["Z"], w), tmp_path / "both.onnx")
    return tmp_path / "both.onnx"


def test_every_node_that_keeps_a_model_from_streaming_is_named(looking_ahead):
    data = describe(looking_ahead)
    assert (data["streams"], data["kind"], data["frames"]) == (False, "whole", 16)
    assert len(data["refusals"]) == 2
    assert all(f"'gru{i}'" in why and "bidirectional" in why for i, why in zip((1, 2), data["refusals"], strict=True))
    with pytest.raises(streamgru.CannotStreamError) as caught:
        compile(looking_ahead)
    assert data["refusals"] == [str(obstacle) for obstacle in caught.value.obstacles]
    assert "It does not stream" in text(data)


def test_what_cannot_be_compiled_at_all_is_an_error(tmp_path, capsys):
    (tmp_path / "noise.onnx").write_bytes(b"\xff" * 100)
    assert main(["info", str(tmp_path / "noise.onnx"), "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["ok"] is False
    node = helper.make_node("Det", ["X"], ["Z"], name="det")
    onnx.save(model([node], {"X": [2, 2]}, ["Z"], {}), tmp_path / "det.onnx")
    assert main(["info", str(tmp_path / "det.onnx")]) == 1
    assert "'det'" in capsys.readouterr().err


def test_a_profile_has_every_operator_and_the_whole_time():
    kinds = profile(gru_model(hidden=64))
    assert [(k.code, k.count) for k in kinds] == [("GRU", 1)]
    assert kinds[0].share == 1.0
    assert 50 < kinds[0].ns < 1e6  # 64 units cannot be had for less, nor take a millisecond


def test_profiling_needs_a_clock_and_a_place():
    stream = gru_model().stream()
    clock = streamgru._kernel.ffi.addressof(streamgru._kernel.lib, "sgru_nanoseconds")
    null = streamgru._kernel.ffi.NULL
    assert streamgru._kernel.lib.sgru_profile(stream._c, clock, null) == streamgru._kernel.lib.SGRU_E_ARGUMENT
    assert streamgru._kernel.lib.sgru_profile(null, clock, null) == streamgru._kernel.lib.SGRU_E_ARGUMENT


def test_no_weights_are_needed_twice():
    """Constants that two operators share count once."""
    onnx_model, w = gru_onnx()
    twin = onnx.NodeProto()
    twin.CopyFrom(onnx_model.graph.node[0])
    twin.name, twin.output[0] = "twin", "Y2"
    onnx_model.graph.node.append(twin)
    onnx_model.graph.output.append(helper.make_tensor_value_info("Y2", onnx.TensorProto.FLOAT, None))
    from streamgru_export.compiler.compile import compile as compile_onnx

    one, two = gru_model(), streamgru.Model(compile_onnx(onnx_model).image)
    assert [k.count for k in profile(two)] == [2]
    assert sum(k.weights for k in profile(one)) == sum(k.weights for k in profile(two)) == gru_bytes(w)


@pytest.mark.parametrize("weights, least, most", [("f16", 0.48, 0.55), ("i8", 0.24, 0.32)])
def test_weights_of_fewer_bits_are_fewer_bytes(weights, least, most):
    from streamgru_export.compiler.compile import compile as compile_onnx

    source, w = gru_onnx(64, 64)
    full, less = (
        sum(k.weights for k in profile(streamgru.Model(compile_onnx(source, weights=w).image)))
        for w in ("f32", weights)
    )
    assert least < less / full < most
    assert full == gru_bytes(w)
    biases = FLOAT * (w["B"].size - 2 * 64)
    elements = w["W"].size + w["R"].size
    if weights == "f16":
        assert less - biases == 2 * (packed(w["W"]) + packed(w["R"]))
    else:  # a byte each; for 16 rows two more lines of 64 bytes, and one that makes their number odd
        assert less - biases == elements + (w["W"].shape[1] + w["R"].shape[1]) // 16 * 3 * 64
