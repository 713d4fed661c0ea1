"""A graph as a list of calls: what is kept from run to run changes no number."""

from __future__ import annotations

import time

import numpy as np
import onnx
import pytest
from onnx import helper

from export.oracle.small import assert_alike, both, graph, info, model, rng
from streamgru.errors import ModelError
from streamgru_export.oracle.model import Float64Model, gru

node = helper.make_node
H = 64


def gru_weights(r, hidden=H, inputs=H):
    shapes = {"W": (1, 3 * hidden, inputs), "R": (1, 3 * hidden, hidden), "B": (1, 6 * hidden)}
    return {name: r.uniform(-0.1, 0.1, shape).astype(np.float32) for name, shape in shapes.items()}


def step_graph(constants, hidden=H):
    """A GRU of one frame, its state outside; R comes out of a Slice and a Concat, as PyTorch's exporter leaves it."""
    parts = [node("Split", ["R"], ["Rz", "Rr", "Rh"], axis=1), node("Concat", ["Rz", "Rr", "Rh"], ["R2"], axis=1)]
    cell = node("GRU", ["x", "W", "R2", "B", "", "h"], ["Y", "h_out"], hidden_size=hidden, linear_before_reset=1)
    squeeze = node("Squeeze", ["Y", "one"], ["y"])
    inputs = [info("x", [1, 1, hidden]), info("h", [1, 1, hidden])]
    return model(graph([*parts, cell, squeeze], inputs, [info("y", None), info("h_out", None)], constants))


def test_a_hundred_steps_are_the_operator_over_the_sequence_to_the_bit():
    r = rng()
    constants = gru_weights(r)
    oracle = Float64Model(step_graph({**constants, "one": np.array([1])}))
    x = r.standard_normal((100, 1, H))
    expected, _ = gru(x, *constants.values(), linear_before_reset=1)
    h = np.zeros((1, 1, H))
    for t in range(100):
        result = oracle.run({"x": x[t : t + 1], "h": h})
        h = result["h_out"]
        np.testing.assert_array_equal(result["y"], expected[t])


def test_an_output_without_a_name_is_no_input_without_a_name():
    r = rng()
    constants = gru_weights(r, 4, 4)
    cells = [
        node("GRU", ["x", "W", "R", "B"], ["", "h"], hidden_size=4),
        node("GRU", ["h", "W", "R", "", "", ""], ["y"], hidden_size=4),
    ]
    assert_alike(both(cells, {"x": r.standard_normal((3, 1, 4)).astype(np.float32)}, {"y": "f"}, constants))


def test_nodes_may_stand_in_any_order():
    feeds = {"x": rng().standard_normal(4).astype(np.float32)}
    nodes = [node("Tanh", ["a"], ["y"]), node("Add", ["b", "x"], ["a"]), node("Exp", ["x"], ["b"])]
    assert_alike(both(nodes, feeds, {"y": "f"}))


def test_nodes_in_a_circle_are_refused():
    nodes = [node("Tanh", ["a"], ["b"], name="first"), node("Exp", ["b"], ["a"])]
    with pytest.raises(ModelError, match="'first'"):
        Float64Model(model(graph(nodes, [info("x", None)], [info("a", None)])))


def test_a_value_that_nobody_gives_is_named():
    with pytest.raises(ModelError, match="gives 'lost'"):
        Float64Model(model(graph([node("Add", ["x", "lost"], ["y"])], [info("x", None)], [info("y", None)])))


def test_a_weight_may_be_given_in_place_of_the_files_and_then_the_files_holds_again():
    # Before IR version 4 a weight that is an input as well is a default.
    nodes = [node("Neg", ["w"], ["v"]), node("Mul", ["x", "v"], ["y"])]
    made = model(graph(nodes, [info("x", [1]), info("w", [1])], [info("y", None)], {"w": np.float32([2])}))
    oracle = Float64Model(made)
    assert oracle.input_names == ["x"]
    x = np.array([3.0])
    for w, expected in ((None, -6.0), (None, -6.0), (5.0, -15.0), (None, -6.0)):
        feeds = {"x": x} if w is None else {"x": x, "w": np.array([w])}
        assert oracle.run(feeds)["y"] == expected


def test_what_is_kept_cannot_be_changed_by_a_caller():
    nodes = [node("Identity", ["w"], ["v"]), node("Mul", ["x", "w"], ["y"])]
    outputs = [info("v", None), info("y", None)]
    oracle = Float64Model(model(graph(nodes, [info("x", [2])], outputs, {"w": np.float32([2, 3])})))
    for _ in range(2):
        result = oracle.run({"x": np.ones(2)})
        np.testing.assert_array_equal(result["y"], [2, 3])
        with pytest.raises(ValueError, match="read-only"):
            result["v"][0] = 9


def test_weights_that_are_inputs_count_anew_at_every_run():
    r = rng()
    cell = node("GRU", ["x", "W", "R"], ["y"], hidden_size=4)
    inputs = [info(name, None) for name in ("x", "W", "R")]
    oracle = Float64Model(model(graph([cell], inputs, [info("y", None)])))
    x = r.standard_normal((3, 1, 4))
    for _ in range(3):
        w, v = r.standard_normal((2, 1, 12, 4))
        np.testing.assert_array_equal(oracle.run({"x": x, "W": w, "R": v})["y"], gru(x, w, v)[0])
        w *= 2  # the same arrays with other numbers in them
        v *= 2
        np.testing.assert_array_equal(oracle.run({"x": x, "W": w, "R": v})["y"], gru(x, w, v)[0])


def test_an_error_names_the_node_within_its_body():
    body = graph([node("MatMul", ["x", "w"], ["y"], name="inner")], [], [info("y", None)], {"w": np.zeros((5, 5), "f")})
    branch = node("If", ["c"], ["z"], then_branch=body, else_branch=body, name="outer")
    made = model(graph([branch], [info("c", [], "b"), info("x", None)], [info("z", None)]))
    with pytest.raises(ModelError, match="MatMul node 'inner'"):
        Float64Model(made).run({"c": np.array(True), "x": np.zeros((2, 3))})


def test_an_output_that_no_operator_gives_is_refused():
    made = model(graph([node("Tanh", ["x"], ["y", "more"])], [info("x", None)], [info("more", None)]))
    with pytest.raises(ModelError, match="'more' does not give it"):
        Float64Model(made).run({"x": np.zeros(3)})


def test_the_model_runs_on_after_an_error():
    oracle = Float64Model(model(graph([node("MatMul", ["x", "x"], ["y"])], [info("x", None)], [info("y", None)])))
    for _ in range(2):
        with pytest.raises(ModelError, match="MatMul"):
            oracle.run({"x": np.zeros((2, 3))})
        np.testing.assert_array_equal(oracle.run({"x": np.eye(2)})["y"], np.eye(2))


def test_weights_that_a_caller_may_not_write_into_count_anew_too():
    r = rng()
    cell = node("GRU", ["x", "W", "R"], ["y"], hidden_size=4)
    oracle = Float64Model(model(graph([cell], [info(name, None) for name in ("x", "W", "R")], [info("y", None)])))
    x, (w, v) = r.standard_normal((3, 1, 4)), r.standard_normal((2, 1, 12, 4))
    views = [w.view(), v.view()]
    for view in views:
        view.setflags(write=False)
    for _ in range(3):
        result = oracle.run(dict(zip(("x", "W", "R"), (x, *views), strict=True)))
        np.testing.assert_array_equal(result["y"], gru(x, w, v)[0])
        v *= 2  # and so do the views


@pytest.mark.slow
@pytest.mark.parametrize("form", ["step", "sequence"])
def test_a_hundred_thousand_steps_of_a_gru_take_half_a_minute_at_most(form):
    # Alone on a core: 5 s as a step graph, 2 s as a sequence.
    r = rng()
    constants = {**gru_weights(r), "one": np.array([1])}
    frames = r.standard_normal((100_000, 1, 1, H))
    made = step_graph(constants)
    if form == "sequence":
        frames = frames.reshape(1, -1, 1, H)
        made.graph.input[0].CopyFrom(info("x", ["T", 1, H]))
    oracle, h = Float64Model(made), np.zeros((1, 1, H))
    start = time.process_time()
    for x in frames:
        h = oracle.run({"x": x, "h": h})["h_out"]
    assert time.process_time() - start < 30


def test_the_model_given_may_be_a_file(tmp_path):
    constants = gru_weights(rng())
    made = step_graph({**constants, "one": np.array([1])})
    onnx.save(made, tmp_path / "m.onnx")
    feeds = {"x": np.ones((1, 1, H)), "h": np.zeros((1, 1, H))}
    ours, again = (Float64Model(source).run(feeds) for source in (made, tmp_path / "m.onnx"))
    np.testing.assert_array_equal(ours["y"], again["y"])
