"""The walk that places values in time asks both lengths, and refuses by node what the two contradict."""

from __future__ import annotations

import numpy as np
import pytest

from export.graphs import model, node
from streamgru.errors import ModelError
from streamgru_export.compiler.graph.graph import Graph, Node, Port, TensorType
from streamgru_export.compiler.graph.onnx_reader import read
from streamgru_export.compiler.static.specialise import specialise
from streamgru_export.compiler.stream.check import OF_PADDED, Check
from streamgru_export.compiler.stream.places import FIXED, LAST, PROBES, Time
from streamgru_export.compiler.stream.rules import RULES

F32 = np.dtype(np.float32)


def check(nodes=(), inputs=None, outputs=("y",), constants=None, axes=None, rules=RULES):
    """A check of a graph whose dimension T is time."""
    inputs = inputs or {"x": ["T", 4]}
    graph = read(model(nodes, inputs, list(outputs), constants))
    axes = {n: list(s).index("T") for n, s in inputs.items() if "T" in s} if axes is None else axes
    return Check(*(specialise(graph, {"T": n}) for n in PROBES), axes, rules)


def bare(short, long, constants=None, dtype=F32):
    """A check of x with these two shapes, and an Abs of it."""
    graphs = [
        Graph("g", [Node("Abs", "abs", ["x"], ["y"])], [Port("x", dtype, s)], [Port("y", dtype, s)],
              {k: v[i] for k, v in (constants or {}).items()},
              types={"x": TensorType(dtype, s), "y": TensorType(dtype, s)})
        for i, s in enumerate((short, long))
    ]  # fmt: skip
    return Check(*graphs, {"x": 0}, {})


def test_inputs_are_placed_by_their_axes():
    found = check([node("Relu", ["x"], ["y"])], {"x": [4, "T"], "z": [3]}, axes={"x": 1})
    assert found.places == {"x": Time(1), "z": FIXED}


@pytest.mark.parametrize(
    "values, expected",
    [
        ([np.ones(3), np.ones(3)], FIXED),
        ([np.array([np.nan, 1.0]), np.array([np.nan, 1.0])], FIXED),
        ([np.full((2, n), 7.0) for n in PROBES], Time(1)),
        ([np.full((2 * n, 3), 7.0) for n in PROBES], Time(0, 2)),
        ([np.tile([[1.0], [2.0]], n) for n in PROBES], Time(1)),
        ([np.int64([[1, 2, 3]]).repeat(n, 0) for n in PROBES], Time(0)),
    ],
    ids=["the same", "not a number", "repeats", "twice a frame", "repeats a column", "repeats a row"],
)
def test_constants_are_fixed_or_repeat_along_time(values, expected):
    walk = bare((PROBES[0],), (PROBES[1],), {"c": values})
    assert walk.place(Node("Add", "add", ["x", "c"], ["z"]), 1) == expected


@pytest.mark.parametrize(
    "values, why",
    [
        ([np.ones(3), np.zeros(3)], "changes with the length"),
        ([np.int64([1, 2]), np.int64([1, 3])], "changes with the length"),
        ([np.ones((2, 3)), np.ones((4, 5))], "changes with the length"),
        ([np.ones((2, 3)), np.ones(3)], "changes with the length"),
        ([np.ones(3), np.ones(4)], "changes with the length"),
        ([np.arange(float(n)) for n in PROBES], "differs from frame to frame"),
        ([np.full(n, float(n)) for n in PROBES], "differs from frame to frame"),
    ],
)
def test_a_constant_that_depends_on_the_length_is_refused(values, why):
    walk = bare((PROBES[0],), (PROBES[1],), {"c": values})
    add = Node("Add", "add", ["x", "c"], ["z"])
    with pytest.raises(ModelError, match=rf"cannot stream: Add node 'add': its constant 'c' {why}.*mode='whole'"):
        walk.place(add, 1)


def test_a_constant_of_one_length_alone_is_refused():
    walk = bare((PROBES[0],), (PROBES[1],), {"c": [np.ones(1), np.ones(1)]})
    del walk.long.constants["c"]
    with pytest.raises(ModelError, match="for some lengths only"):
        walk.place(Node("Add", "add", ["x", "c"], ["z"]), 1)


def test_an_absent_operand_is_fixed():
    assert check([node("Relu", ["x"], ["y"])]).place(Node("Clip", "", ["x", "", "x"], ["y"]), 1) == FIXED


def test_an_operator_without_a_rule_may_not_touch_time():
    walk = bare((PROBES[0],), (PROBES[1],))
    with pytest.raises(ModelError, match=r"Abs node 'abs': no rule says"):
        walk.visit(walk.graph.nodes[0])
    walk.places["x"] = LAST
    with pytest.raises(ModelError, match="follows the length of the sequence in a way not understood"):
        walk.visit(walk.graph.nodes[0])  # the shapes say that there is time in it
    for place in (LAST, FIXED):
        still = bare((5,), (5,))
        still.places["x"] = place
        still.visit(still.graph.nodes[0])
        assert still.places["y"] == place


def put(place):
    """A rule that says just this."""
    return {"Abs": lambda walk, n: walk.put(n, place)}


@pytest.mark.parametrize(
    "short, long, place",
    [
        ((PROBES[0],), (PROBES[1],), Time(0)),
        ((PROBES[0] * 3, 2), (PROBES[1] * 3, 2), Time(0, 3)),
        ((2, PROBES[0] + 5), (2, PROBES[1] + 5), Time(1, 1, 3, 2)),
        ((7,), (7,), FIXED),
        ((7,), (7,), LAST),
    ],
)
def test_shapes_that_say_what_the_rule_says_are_confirmed(short, long, place):
    walk = bare(short, long)
    walk.rules = put(place)
    walk.visit(walk.graph.nodes[0])
    assert walk.places["y"] == place


@pytest.mark.parametrize(
    "short, long, place, why",
    [
        ((PROBES[0],), (PROBES[1],), FIXED, "in a way not understood"),
        ((7,), (7,), Time(0), "has 7 entries along the time axis for 29 frames"),
        ((PROBES[0] * 2,), (PROBES[1],), Time(0), "in a way not understood"),
        ((PROBES[0], 2), (PROBES[1], 3), Time(0), "in a way not understood"),
        ((PROBES[0] + 1,), (PROBES[1] + 1,), Time(0), "30 entries along the time axis"),
        ((PROBES[0],), (PROBES[1],), Time(0, 1, 1, 0), "28 entries along the time axis"),
    ],
)
def test_shapes_that_contradict_the_rule_are_refused(short, long, place, why):
    walk = bare(short, long)
    walk.rules = put(place)
    with pytest.raises(ModelError, match=f"Abs node 'abs'.*{why}"):
        walk.visit(walk.graph.nodes[0])


def test_operands_that_meet_have_one_place():
    walk, add = check([node("Relu", ["x"], ["y"])]), Node("Add", "add", [], [])
    assert walk.join(add, [Time(0), FIXED, Time(0)]) == Time(0)
    assert walk.join(add, [FIXED, LAST]) == LAST
    assert walk.join(add, [FIXED, FIXED]) == FIXED
    assert walk.join(add, []) == FIXED
    with pytest.raises(ModelError, match="combines frames of different times"):
        walk.join(add, [Time(0), Time(1)])
    with pytest.raises(ModelError, match="known only at the end"):
        walk.join(add, [Time(0), LAST])


def test_only_some_operators_may_read_what_was_padded():
    assert {"Conv", "Add", "Slice"} < OF_PADDED
    assert not OF_PADDED & {"GRU", "MatMul", "Gather", "ReduceMean"}
    walk = bare((PROBES[0] + 2,), (PROBES[1] + 2,))
    walk.places["x"] = Time(0, 1, 2, 0)
    walk.rules = put(Time(0, 1, 2, 0))
    walk.visit(walk.graph.nodes[0])
    with pytest.raises(ModelError, match="'x' has more entries than frames"):
        walk.visit(Node("CumSum", "sum", ["x"], ["y"]))


def test_an_output_must_be_as_long_as_its_frames():
    walk = bare((PROBES[0] + 2,), (PROBES[1] + 2,))
    walk.places |= {"x": Time(0, 1, 2, 0), "y": Time(0, 1, 2, 0)}
    with pytest.raises(ModelError, match=r"Abs node 'abs'.*the output 'y' has more entries than frames"):
        walk.leave(walk.graph.nodes[0], "y")
    walk.places["y"] = Time(0)
    walk.leave(walk.graph.nodes[0], "y")


def test_time_where_none_may_be_is_refused():
    walk = check([node("Relu", ["x"], ["y"])], {"x": ["T", 4], "z": [4]})
    add = Node("Add", "add", ["x", "z"], ["y"])
    walk.without_time(add, 1)
    with pytest.raises(ModelError, match="'x' depends on the frame"):
        walk.without_time(add, 0)
