"""An input bound to its value is none: branches and shapes that hang on it are those of that value."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import streamgru
from export.graphs import assert_close, gru_weights, model, node, onnxruntime, rng
from streamgru.bound import bound_values
from streamgru.errors import ModelError
from streamgru_export.compiler.compile import compile

FEATURES, H = 3, 4
INT64 = TensorProto.INT64


def two_rates(shape=()):
    """A step whose cell is another for another sampling rate, as Silero's detector of voices has it."""
    r = rng()
    weights = {f"{k}{which}": v for which in "ab" for k, v in gru_weights(r, FEATURES, H).items()}

    def branch(which):
        cell = node("GRU", ["x", f"W{which}", f"R{which}", f"B{which}", "", "h"], [f"y{which}", f"n{which}"],
                    hidden_size=H)  # fmt: skip
        ports = [helper.make_tensor_value_info(o, TensorProto.FLOAT, None) for o in cell.output]
        return helper.make_graph([cell], which, [], ports)

    nodes = [node("Equal", ["sr", "wide"], ["is_wide"]),
             node("If", ["is_wide"], ["y", "hn"], then_branch=branch("a"), else_branch=branch("b"))]  # fmt: skip
    inputs = {"x": [1, 1, FEATURES], "h": [1, 1, H], "sr": list(shape)}
    return model(nodes, inputs, ["y", "hn"], {**weights, "wide": np.array(16000)}, dtypes={"sr": INT64})


@pytest.mark.parametrize("shape", [(), (1,)])
@pytest.mark.parametrize("rate", [16000, 8000])
def test_the_branch_is_that_of_the_value(rate, shape):
    source = two_rates(shape)
    compiled = compile(source, values={"sr": rate})
    image = streamgru.Model(compiled.image)
    assert list(compiled.inputs) == ["x"]
    bound = bound_values(image.metadata)["sr"]
    assert (bound.dtype, bound.shape, bound.reshape(-1).tolist()) == (np.int64, shape, [rate])
    h = np.zeros((1, 1, H), np.float32)
    with image.stream() as stream:
        for x in rng().normal(size=(4, 1, 1, FEATURES)).astype(np.float32):
            expected = onnxruntime(source, {"x": x, "h": h, "sr": bound})
            assert_close({"y": stream.step(x), "hn": stream.state["h"]}, expected)
            h = expected["hn"]


def test_a_branch_on_an_input_says_how_to_bind_it():
    with pytest.raises(ModelError, match=r"If_y.*depends on the data.*bind it with values=\{'sr': number\}"):
        compile(two_rates())


def test_a_shape_on_an_input_says_how_to_bind_it_and_is_that_of_the_value():
    nodes = [node("Reshape", ["n", "one"], ["n1"]), node("Concat", ["n1", "rest"], ["to"], axis=0),
             node("Reshape", ["x", "to"], ["y"])]  # fmt: skip
    constants = {"one": np.array([1]), "rest": np.array([-1])}
    source = model(nodes, {"x": [12], "n": []}, ["y"], constants, dtypes={"n": INT64})
    with pytest.raises(ModelError, match=r"Reshape_y.*bind it with values=\{'n': number\}"):
        compile(source, mode="whole")
    x = rng().normal(size=12).astype(np.float32)
    image = streamgru.Model(compile(source, mode="whole", values={"n": 3}).image)
    np.testing.assert_array_equal(image.run(x), onnxruntime(source, {"x": x, "n": np.array(3)})["y"])


def test_a_branch_on_a_frame_has_no_such_advice():
    ports = [helper.make_tensor_value_info("b", TensorProto.FLOAT, [2])]
    branch = helper.make_graph([helper.make_node("Neg", ["x"], ["b"])], "b", [], ports)
    nodes = [node("ReduceMax", ["x"], ["m"], keepdims=0), node("Greater", ["m", "zero"], ["c"]),
             node("If", ["c"], ["y"], then_branch=branch, else_branch=branch)]  # fmt: skip
    with pytest.raises(ModelError, match="depends on the data") as raised:
        compile(model(nodes, {"x": [2]}, ["y"], {"zero": np.float32(0)}), mode="whole")
    assert "values=" not in str(raised.value)


@pytest.mark.parametrize(
    "values, message",
    [
        ({"rate": 1}, r"no input 'rate'; there are \['h', 'sr', 'x'\]"),
        ({"sr": [1, 2]}, r"'sr' has the shape \[\], got \[2\]"),
        ({"sr": 1.5}, r"'sr' is int64, and cannot be \[1.5\]"),
        ({"sr": True}, r"'sr' is int64, and cannot be \[True\]"),
        ({"sr": float("nan")}, "'sr' is int64"),
        ({"h": np.full((1, 1, H), np.inf)}, rf"'h' is float32, and cannot be \[{', '.join(['inf'] * min(H, 8))}\]"),
        ({"h": np.full((1, 1, H), 1e300)}, "'h' is float32"),
    ],
)
def test_refuses_values_that_the_input_cannot_have(values, message):
    with pytest.raises(ModelError, match=message):
        compile(two_rates(), values=values)


def test_whole_graphs_take_values_too(tmp_path):
    path, source = tmp_path / "rates.onnx", two_rates()
    onnx.save(source, path)
    whole = streamgru.load(path, mode="whole", values={"sr": 8000})
    feeds = {"x": rng().normal(size=(1, 1, FEATURES)).astype(np.float32), "h": np.zeros((1, 1, H), np.float32)}
    assert [arg.name for arg in whole.inputs] == ["x", "h"]
    assert_close(whole.run(feeds), onnxruntime(source, {**feeds, "sr": np.array(8000)}))


def test_the_certificate_feeds_the_graph_what_was_bound(tmp_path):
    path = tmp_path / "rates.onnx"
    onnx.save(two_rates(), path)
    model = streamgru.load(path, values={"sr": 8000})
    report = streamgru.parity(model, onnx=path, steps=8)
    assert report.ok
    assert "onnxruntime stepped" in report.text().split("not compared")[0]
