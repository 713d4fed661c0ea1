"""Refs: the same elements have the same ref, whatever moved them; NumPy says which elements they are."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import helper

from export.graphs import model, onnxruntime
from streamgru_export.compiler.graph import rows as rows_module
from streamgru_export.compiler.graph.onnx_reader import read
from streamgru_export.compiler.graph.rows import Rows
from streamgru_export.compiler.static.specialise import specialise

node = helper.make_node
SHAPE = (2, 3, 12)


def refs(nodes, constants=None):
    """A graph over x [2, 3, 12], its refs, and what onnxruntime makes of 0, 1, 2 .."""
    outputs = [o for n in nodes for o in n.output]
    source = model(nodes, {"x": SHAPE}, outputs, constants, opset=17)
    graph = specialise(read(source), {})
    x = np.arange(np.prod(SHAPE), dtype=np.float32).reshape(SHAPE)
    return Rows(graph), onnxruntime(source, {"x": x}), x


def elements(rows, name, x):
    """What the ref of a value says it is, where that lies in x."""
    ref = rows.whole(name)
    assert ref.name == "x"
    matrix = x.reshape(-1, x.shape[-1])
    return (matrix if ref.rows is None else matrix[list(ref.rows)])[:, ref.lo : ref.hi]


INTS = {"one": [1], "two": np.int64(2), "last": [-1], "some": [2, 0], "run": [3, 4, 5], "a": [0], "b": [4], "c": [2],
        "flat": [6, 12], "groups": [2, 3, 3, 4], "wide": [2, 36], "sizes": [1, 2]}  # fmt: skip
MOVES = {
    "reshape": [node("Reshape", ["x", "flat"], ["y"])],
    "transpose": [node("Transpose", ["x"], ["y"], perm=[1, 0, 2])],
    "gather one": [node("Gather", ["x", "two"], ["y"], axis=1)],
    "gather some": [node("Gather", ["x", "some"], ["y"], axis=1)],
    "gather columns": [node("Gather", ["x", "run"], ["y"], axis=2)],
    "slice columns": [node("Slice", ["x", "a", "b", "c"], ["y"])],
    "slice backwards": [node("Slice", ["x", "last", "far", "one", "last"], ["y"])],
    "split rows": [node("Split", ["x", "sizes"], ["z", "y"], axis=1)],
    "split columns": [node("Split", ["x"], ["p", "q", "y"], axis=-1)],
    "unfolded columns": [node("Reshape", ["x", "groups"], ["g"]), node("Gather", ["g", "one"], ["y"], axis=2)],
    "folded rows": [node("Reshape", ["x", "wide"], ["g"]), node("Slice", ["g", "p12", "p16", "one"], ["y"])],
    "concatenated columns": [
        node("Neg", ["x"], ["m"]), node("Concat", ["m", "x"], ["g"], axis=2),
        node("Slice", ["g", "p12", "p16", "c"], ["y"]),
    ],
    "concatenated rows": [
        node("Neg", ["x"], ["m"]), node("Concat", ["m", "x"], ["g"], axis=1), node("Gather", ["g", "four"], ["y"],
        axis=1),
    ],
    "many": [
        node("Unsqueeze", ["x", "one"], ["u"]), node("Gather", ["u", "two"], ["v"], axis=2),
        node("Squeeze", ["v", "one"], ["w"]), node("Split", ["w"], ["y", "r"], axis=1),
    ],
}  # fmt: skip


def moved(name):
    """As `refs`, of one of the moves."""
    constants = {k: np.array(v, np.int64) for k, v in INTS.items()}
    constants |= {"far": np.array([-100]), "p12": np.array([12]), "p16": np.array([16]), "four": np.array(4)}
    used = {i for n in MOVES[name] for i in n.input}
    return refs(MOVES[name], {k: v for k, v in constants.items() if k in used})


@pytest.mark.parametrize("name", MOVES)
def test_a_moved_value_is_where_it_came_from(name):
    rows, values, x = moved(name)
    y = values["y"]
    np.testing.assert_array_equal(elements(rows, "y", x), y.reshape(-1, y.shape[-1]))


@pytest.mark.parametrize("name", ["transpose", "gather some", "slice backwards", "unfolded columns"])
def test_moves_that_take_too_long_to_see_through_stay_themselves(name, monkeypatch):
    """Of 2^21 rows each look takes a second; all of them together have some."""
    monkeypatch.setattr(rows_module, "MOST_STEPS", 10)
    rows, _, _ = moved(name)
    assert rows.whole("y").name != "x"


def test_nodes_that_compute_the_same_are_one():
    nodes = [
        node("Relu", ["x"], ["a"]), node("Relu", ["x"], ["b"]), node("Elu", ["x"], ["c"]), node("Elu", ["x"],
        ["d"], alpha=0.5),
        node("Gather", ["a", "i"], ["e"], axis=0), node("Gather", ["b", "j"], ["f"], axis=0),
        node("Gather", ["b", "k"], ["g"], axis=0),
    ]  # fmt: skip
    rows, _, _ = refs(nodes, {"i": np.array(1), "j": np.array(1), "k": np.array(0)})
    assert rows.whole("a") == rows.whole("b")
    assert rows.whole("c") != rows.whole("d")
    assert rows.whole("e") == rows.whole("f")
    assert rows.whole("e") != rows.whole("g")


def test_other_elements_have_other_refs():
    nodes = [node("Split", ["x"], ["a", "b"], axis=2), node("Split", ["x"], ["c", "d"], axis=2)]
    rows, _, _ = refs(nodes)
    assert rows.whole("a") == rows.whole("c")
    assert rows.whole("a") != rows.whole("b")


def test_what_mixes_rows_and_columns_stays_itself():
    rows, _, _ = refs([node("Transpose", ["x"], ["y"], perm=[0, 2, 1])])
    assert rows.whole("y").name == "y"


@pytest.mark.parametrize(
    "nodes",
    [
        [node("Reshape", ["x", "groups"], ["y"])],
        [node("Slice", ["x", "zero", "eight", "two", "two"], ["y"])],
        [node("Gather", ["x", "odd"], ["y"], axis=2)],
    ],
    ids=["columns of several groups", "every other column", "columns out of order"],
)
def test_what_is_no_run_of_columns_stays_itself(nodes):
    """Its elements lie apart, and a ref says from which column to which."""
    known = {"groups": [2, 3, 3, 4], "zero": [0], "eight": [8], "two": [2], "odd": [1, 0, 2]}
    used = {i for n in nodes for i in n.input}
    rows, _, _ = refs(nodes, {k: np.array(v, np.int64) for k, v in known.items() if k in used})
    assert rows.whole("y").name == "y"


def test_a_constant_is_a_row_only_where_every_row_is_the_same():
    nodes = [node("Add", ["x", "row"], ["a"]), node("Add", ["x", "column"], ["b"]), node("Add", ["x", "number"], ["c"])]
    constants = {"row": np.arange(12, dtype=np.float32), "column": np.arange(3, dtype=np.float32)[:, None],
                 "number": np.float32(2)}  # fmt: skip
    rows, _, _ = refs(nodes, constants)
    row = rows.row("row", rows.whole("a"))
    assert row is not None
    assert row.tolist() == list(range(12))
    assert rows.row("column", rows.whole("b")) is None
    assert rows.operands(rows.whole("b"), rows.producers["b"]) is None
    number = rows.row("number", rows.whole("c"))
    assert number is not None
    assert number.tolist() == [2.0] * 12
