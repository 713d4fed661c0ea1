"""The graph answers who writes, who reads and what is needed, and calls its nodes by their names."""

from __future__ import annotations

import numpy as np
import pytest

from streamgru_export.compiler.graph.graph import Graph, Node, Port, TensorType, live_nodes

F32 = np.dtype(np.float32)


def diamond():
    """x -> a -> (b, c) -> y, and d, which nobody reads; b twice."""
    nodes = [
        Node("Relu", "first", ["x"], ["a"]),
        Node("Neg", "", ["a"], ["b"]),
        Node("TopK", "", ["a", "k"], ["", "c"]),
        Node("Exp", "lonely", ["a"], ["d"]),
        Node("Clip", "last", ["b", "", "b"], ["y"]),
        Node("Add", "sum", ["y", "c"], ["z"]),
    ]
    ports = [Port("x", F32, ("B", 3, "T")), Port("h", F32, ("B", 4))]
    return Graph("g", nodes, ports, [Port("z", F32, ()), Port("a", F32, ())], {"k": np.array([1])})


def test_a_node_knows_which_of_its_inputs_and_outputs_are_absent():
    node = diamond().nodes[2]
    assert [node.input(i) for i in range(4)] == ["a", "k", "", ""]
    assert [node.output(i) for i in range(3)] == ["", "c", ""]


@pytest.mark.parametrize(
    "node, text",
    [
        (Node("GRU", "encoder/gru", ["x"], ["y"]), "GRU node 'encoder/gru'"),
        (Node("GRU", "", ["x"], ["", "h"]), "GRU node (unnamed, output 'h')"),
        (Node("GRU", "", [], []), "GRU node (unnamed, output '')"),
    ],
)
def test_messages_call_a_node_by_its_name_or_by_what_it_writes(node, text):
    assert str(node) == text


def test_every_value_has_the_node_that_writes_it():
    graph = diamond()
    assert {name: node.op_type for name, node in graph.producers().items()} == {
        "a": "Relu", "b": "Neg", "c": "TopK", "d": "Exp", "y": "Clip", "z": "Add",
    }  # fmt: skip


def test_a_use_is_counted_each_time_and_as_an_output_too():
    uses = diamond().uses()
    assert uses == {"x": 1, "a": 4, "k": 1, "b": 2, "y": 1, "c": 1, "z": 1}
    assert uses["d"] == 0


def test_a_reader_is_named_once_however_often_it_reads():
    readers = diamond().readers()
    assert [n.op_type for n in readers["b"]] == ["Clip"]
    assert [n.op_type for n in readers["a"]] == ["Neg", "TopK", "Exp"]
    assert "" not in readers


def test_the_unbound_dimensions_and_where_they_stand():
    assert diamond().symbols() == {"B": [("x", 0), ("h", 0)], "T": [("x", 2)]}


def test_other_inputs_make_another_graph_whose_types_are_unknown():
    graph = diamond()
    graph.types["x"] = TensorType(F32, (1, 3, 2))
    other = graph.with_inputs(Port(p.name, p.dtype, (1, 3, 2)) for p in graph.inputs)
    assert [p.shape for p in other.inputs] == [(1, 3, 2)] * 2
    assert (other.types, other.nodes) == ({}, graph.nodes)
    assert graph.symbols()
    assert graph.types


@pytest.mark.parametrize(
    "wanted, expected",
    [
        (["z"], ["Relu", "Neg", "TopK", "Clip", "Add"]),
        (["y"], ["Relu", "Neg", "Clip"]),
        (["d", "b"], ["Relu", "Neg", "Exp"]),
        (["x"], []),
        ([], []),
    ],
)
def test_only_what_is_depended_on_is_alive_and_stays_in_order(wanted, expected):
    assert [n.op_type for n in live_nodes(diamond().nodes, wanted)] == expected


@pytest.mark.parametrize("shape", [(), (1,), (3, 4), (2, 0, 5), (1 << 40, 1 << 40)])
def test_a_type_counts_its_elements_without_overflow(shape):
    expected = 1
    for d in shape:
        expected *= d
    assert TensorType(F32, shape).size == expected
    assert str(TensorType(F32, shape)) == f"float32{list(shape)}"
