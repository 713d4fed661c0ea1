"""If, Loop and Scan of the oracle, against onnxruntime."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import helper, numpy_helper

from export.oracle.small import assert_alike, both, graph, info, model, rng
from streamgru.errors import ModelError
from streamgru_export.oracle.model import Float64Model

node = helper.make_node


def weights(r):
    shapes = {"W": (1, 12, 4), "R": (1, 12, 4), "B": (1, 24)}
    return {name: r.uniform(-0.5, 0.5, shape).astype(np.float32) for name, shape in shapes.items()}


# Loop


def loop_body(*, limit=None, goes_on=None, element=(1, 4)):
    """h = tanh(h) + w, scanned; it goes on while i < limit, or always says `goes_on`, or what it was told."""
    nodes = [node("Tanh", ["h"], ["a"]), node("Add", ["a", "w"], ["h2"]), node("Identity", ["h2"], ["y"])]
    constants = {"w": np.linspace(-1, 1, 4, dtype=np.float32)[None]}
    if limit is not None:
        nodes.append(node("Less", ["i", "limit"], ["c2"]))
        constants["limit"] = np.array(limit)
    elif goes_on is not None:
        nodes.append(node("Constant", [], ["c2"], value=numpy_helper.from_array(np.array(goes_on))))
    else:
        nodes.append(node("Identity", ["c"], ["c2"]))
    outputs = [info("c2", [], "b"), info("h2", element), info("y", element)]
    return graph(nodes, [info("i", [], "i"), info("c", [], "b"), info("h", element)], outputs, constants)


@pytest.mark.parametrize(
    "inputs, options",
    [
        (["three", "yes"], {}),
        (["none", "yes"], {}),
        (["less", "yes"], {}),
        (["none", "yes"], {"element": ("a", 4)}),
        (["three", "no"], {}),
        (["seven", "yes"], {"limit": 2}),
        (["", "yes"], {"limit": 2}),
        (["three", ""], {"goes_on": True}),
    ],
    ids=["rounds", "no round", "fewer", "no round of unknown shape", "no", "stops", "while", "for"],
)
def test_loop_is_onnxruntimes(inputs, options):
    counts = {"three": np.array(3), "none": np.array(0), "less": np.array(-2), "seven": np.array(7)}
    constants = counts | {"yes": np.array(True), "no": np.array(False)}
    loop = node("Loop", [*inputs, "x"], ["last", "scan"], body=loop_body(**options))
    x = rng().standard_normal((1, 4)).astype(np.float32)
    used = {name: value for name, value in constants.items() if name in inputs}
    assert_alike(both([loop], {"x": x}, {"last": "f", "scan": "f"}, used))


def test_a_loop_without_a_condition_runs_all_its_rounds():
    # ONNX, in its table of modes: "input (trip_count, "") ... cond = ...; // ignored". onnxruntime stops at once.
    loop = node("Loop", ["n", "", "x"], ["last", "scan"], body=loop_body(goes_on=False))
    made = model(graph([loop], [info("x", [1, 4])], [info("last", None), info("scan", None)], {"n": np.array(3)}))
    h = np.zeros((1, 4))
    found = Float64Model(made).run({"x": h})
    for t in range(3):
        h = np.tanh(h) + np.linspace(-1, 1, 4, dtype=np.float32)
        np.testing.assert_array_equal(found["scan"][t], h)
    np.testing.assert_array_equal(found["last"], h)


def test_a_loop_that_never_ends_is_refused():
    made = model(
        graph([node("Loop", ["", "", "x"], ["y", "s"], body=loop_body())], [info("x", [1, 4])], [info("y", None)])
    )
    with pytest.raises(ModelError, match="never ends"):
        Float64Model(made).run({"x": np.zeros((1, 4))})


def test_a_gru_in_a_body_has_weights_and_values_from_around_it():
    nodes = [
        node("GRU", ["h", "W", "R", "B", "", "st"], ["", "a"], hidden_size=4, linear_before_reset=1),
        node("GRU", ["h", "W", "R", "", "", ""], ["", "b"], hidden_size=4),  # "" is absent, not the "" above
        node("Add", ["a", "b"], ["h2"]),
        node("Mul", ["h2", "outer"], ["y"]),
        node("Identity", ["c"], ["c2"]),
    ]
    carried = [info("h", [1, 1, 4]), info("st", [1, 1, 4])]
    outputs = [info("c2", [], "b"), *(info(name, [1, 1, 4]) for name in ("h2", "a", "y"))]
    body = graph(nodes, [info("i", [], "i"), info("c", [], "b"), *carried], outputs)
    r = rng()
    feeds = {name: r.standard_normal((1, 1, 4)).astype(np.float32) for name in ("x", "s", "outer")}
    constants = {"n": np.array(3), "yes": np.array(True), **weights(r)}
    loop = node("Loop", ["n", "yes", "x", "s"], ["last_h", "last_a", "ys"], body=body)
    assert_alike(both([loop], feeds, {"last_h": "f", "last_a": "f", "ys": "f"}, constants))


def test_a_loop_in_a_loop_reads_through_both_bodies():
    inner_nodes = [
        node("Identity", ["cj"], ["cj2"]),
        node("Add", ["hj", "h"], ["sum"]),  # h is the outer body's
        node("Mul", ["sum", "q"], ["hj2"]),  # q is the graph's
        node("Identity", ["hj2"], ["yj"]),
    ]
    inner = graph(
        inner_nodes,
        [info("j", [], "i"), info("cj", [], "b"), info("hj", [4])],
        [info("cj2", [], "b"), info("hj2", [4]), info("yj", [4])],
    )
    outer = graph(
        [node("Loop", ["m", "yes", "h"], ["h2", "yy"], body=inner), node("Identity", ["c"], ["c2"])],
        [info("i", [], "i"), info("c", [], "b"), info("h", [4])],
        [info("c2", [], "b"), info("h2", [4]), info("yy", [3, 4])],
    )
    constants = {"n": np.array(2), "m": np.array(3), "yes": np.array(True)}
    feeds = {"x": np.ones(4, np.float32), "q": np.linspace(0.1, 0.4, 4, dtype=np.float32)}
    loop = node("Loop", ["n", "yes", "x"], ["last", "ys"], body=outer)
    assert_alike(both([loop], feeds, {"last": "f", "ys": "f"}, constants))


# Scan


def scan_body(states, sequences, scans, element):
    """state = tanh(state + the sum of the elements); scans are squares of it, or of the sum."""
    ins = [f"h{k}" for k in range(states)] + [f"s{k}" for k in range(sequences)]
    nodes = [node("Sum", ins[states:], ["sum"])]
    for k in range(states):
        nodes += [node("Add", [f"h{k}", "sum"], [f"a{k}"]), node("Tanh", [f"a{k}"], [f"n{k}"])]
    nodes += [node("Mul", [f"n{k % states}" if states else "sum", "sum"], [f"y{k}"]) for k in range(scans)]
    outs = [f"n{k}" for k in range(states)] + [f"y{k}" for k in range(scans)]
    return graph(nodes, [info(n, element) for n in ins], [info(n, element) for n in outs])


@pytest.mark.parametrize(
    "states, shapes, scans, attributes",
    [
        (1, [(5, 2, 3)], 1, {}),
        (2, [(5, 2, 3), (5, 2, 3)], 2, {}),
        (1, [(2, 5, 3), (2, 3, 5)], 2, {"scan_input_axes": [1, 2], "scan_output_axes": [2, 1]}),
        (1, [(2, 5, 3), (2, 3, 5)], 2, {"scan_input_axes": [1, -1], "scan_output_axes": [-1, -2]}),
        (1, [(5, 2, 3), (5, 2, 3)], 2, {"scan_input_directions": [1, 0], "scan_output_directions": [0, 1]}),
        (1, [(2, 5, 3), (5, 2, 3)], 2, {"scan_input_axes": [1, 0], "scan_input_directions": [1, 0],
                                        "scan_output_axes": [1, 2], "scan_output_directions": [1, 1]}),
        (1, [(5, 2, 3)], 0, {}),
        (0, [(5, 2, 3)], 1, {}),
    ],
    ids=["plain", "two", "axes", "negative axes", "directions", "both", "no scan", "no state"],
)  # fmt: skip
@pytest.mark.parametrize("opset", [11, 17])
def test_scan_is_onnxruntimes(states, shapes, scans, attributes, opset):
    r = rng()
    feeds = {f"h{k}": r.standard_normal((2, 3)).astype(np.float32) for k in range(states)}
    feeds |= {f"x{k}": r.standard_normal(shape).astype(np.float32) for k, shape in enumerate(shapes)}
    outputs = dict.fromkeys([f"H{k}" for k in range(states)] + [f"Y{k}" for k in range(scans)], "f")
    body = scan_body(states, len(shapes), scans, (2, 3))
    scan = node("Scan", list(feeds), list(outputs), body=body, num_scan_inputs=len(shapes), **attributes)
    assert_alike(both([scan], feeds, outputs, opset=opset))


def test_a_scan_of_no_round_keeps_its_states_and_has_empty_scans():
    # onnxruntime refuses it.
    attributes = {"num_scan_inputs": 1, "scan_input_axes": [1], "scan_output_axes": [2]}
    scan = node("Scan", ["h", "x"], ["H", "Y"], body=scan_body(1, 1, 1, (2, 3)), **attributes)
    made = model(graph([scan], [info("h", None), info("x", None)], [info("H", None), info("Y", None)]))
    h = rng().standard_normal((2, 3))
    found = Float64Model(made).run({"h": h, "x": np.zeros((2, 0, 3))})
    np.testing.assert_array_equal(found["H"], h)
    assert (found["Y"].shape, found["Y"].dtype) == ((2, 3, 0), np.float64)


@pytest.mark.parametrize("opset, lengths, told", [(17, (5, 4), "different lengths"), (8, (5, 5), "opset 8")])
def test_a_scan_that_is_none_is_refused(opset, lengths, told):
    scan = node("Scan", ["h", "a", "b"], ["H"], body=scan_body(1, 2, 0, (2, 3)), num_scan_inputs=2)
    made = model(graph([scan], [info(n, None) for n in "hab"], [info("H", None)]), opset)
    a, b = (np.zeros((length, 2, 3)) for length in lengths)
    with pytest.raises(ModelError, match=told):
        Float64Model(made).run({"h": np.zeros((2, 3)), "a": a, "b": b})


# If


@pytest.mark.parametrize("condition", [np.array(True), np.array(False), np.array([True]), np.array([False])], ids=str)
def test_if_is_onnxruntimes(condition):
    then = graph([node("Mul", ["x", "two"], ["o"])], [], [info("o", None)], {"two": np.float32([2])})
    other = graph([node("Tanh", ["z"], ["p"])], [], [info("p", None)])
    feeds = {"c": condition, "x": np.ones((2, 3), np.float32), "z": np.ones(4, np.float32)}
    assert_alike(both([node("If", ["c"], ["y"], then_branch=then, else_branch=other)], feeds, {"y": "f"}))


def test_a_model_takes_another_branch_at_every_run():
    then = graph([node("Mul", ["x", "two"], ["o"])], [], [info("o", None)], {"two": np.float32([2])})
    other = graph([node("Neg", ["x"], ["p"])], [], [info("p", None)])
    branch = node("If", ["c"], ["y"], then_branch=then, else_branch=other)
    oracle = Float64Model(model(graph([branch], [info("c", [], "b"), info("x", None)], [info("y", None)])))
    for c in (True, True, False, True, False, False):
        assert oracle.run({"c": np.array(c), "x": np.array([3.0])})["y"] == (6.0 if c else -3.0)
