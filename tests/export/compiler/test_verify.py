"""What must hold between the stages: each test breaks one thing in a graph or program that is sound."""

from dataclasses import replace

import numpy as np
import pytest
from onnx import TensorProto, helper

from export.graphs import model, node
from streamgru.errors import ModelError
from streamgru_export.compiler.graph.graph import Graph, Node, Port, TensorType
from streamgru_export.compiler.graph.onnx_reader import read
from streamgru_export.compiler.verify import VerifyError, check_model, verify

F32 = np.dtype(np.float32)


# ---- what the user gave ----


def test_refuses_a_value_that_nothing_writes():
    with pytest.raises(ModelError, match="'ghost'"):
        check_model(read(model([node("Relu", ["ghost"], ["y"])], {"x": [1]}, ["y"])))


def test_refuses_a_value_written_twice():
    nodes = [node("Relu", ["x"], ["y"]), helper.make_node("Abs", ["x"], ["y"], name="second")]
    with pytest.raises(ModelError, match="'second'"):
        check_model(read(model(nodes, {"x": [1]}, ["y"])))


def test_refuses_a_graph_whose_value_is_read_before_it_is_written():
    nodes = [helper.make_node("Abs", ["z"], ["y"], name="early"), node("Relu", ["x"], ["z"])]
    graph = read(model(nodes, {"x": [1]}, ["y"]))  # the reader has put them in order
    with pytest.raises(ModelError, match=r"'early' reads 'z'"):
        check_model(replace(graph, nodes=graph.nodes[::-1]))


@pytest.mark.parametrize("outputs, message", [(["y", "y"], "two graph outputs"), (["lost"], "output 'lost'"),
                                              ([""], "output has no name")])  # fmt: skip
def test_refuses_outputs_that_are_none(outputs, message):
    with pytest.raises(ModelError, match=message):
        check_model(read(model([node("Relu", ["x"], ["y"])], {"x": [1]}, outputs)))


def test_refuses_an_output_that_nothing_writes():
    with pytest.raises(ModelError, match="nothing writes the graph output 'lost'"):
        check_model(read(model([helper.make_node("Relu", ["x"], ["y"])], {"x": [1]}, ["y", "lost"])))


@pytest.mark.parametrize("what", ["input", "output"])
def test_refuses_two_ports_of_one_name(what):
    source = model([node("Relu", ["x"], ["y"])], {"x": [1]}, ["y"])
    ports = getattr(source.graph, what)
    ports.append(ports[0])
    with pytest.raises(ModelError, match=f"two graph {what}s are named '{ports[0].name}'"):
        check_model(read(source))


def branch(reads: str) -> Graph:
    """x -> If, whose branches read one value."""
    bodies = {
        f"{which}_branch": helper.make_graph(
            [helper.make_node("Relu", [reads], [f"{which}_y"], name="inner")], which, [],
            [helper.make_tensor_value_info(f"{which}_y", TensorProto.FLOAT, [1])],
        )
        for which in ("then", "else")
    }  # fmt: skip
    nodes = [node("Abs", ["x"], ["before"]), helper.make_node("If", ["c"], ["y"], **bodies)]
    nodes.append(node("Neg", ["y"], ["after"]))
    return read(model(nodes, {"x": [1]}, ["after"], {"c": np.array(True)}))


def test_a_subgraph_reads_what_its_node_may_read_and_no_more():
    check_model(branch("before"))
    for name, message in (("ghost", "'inner' reads 'ghost'"), ("after", "circle")):
        with pytest.raises(ModelError, match=message):
            check_model(branch(name))


# ---- what a stage left behind: graphs ----


def sound() -> Graph:
    """y = relu(x + w), typed."""
    types = {name: TensorType(F32, (2,)) for name in ("x", "w", "s", "y")}
    nodes = [Node("Add", "add", ["x", "w"], ["s"]), Node("Relu", "bend", ["s"], ["y"])]
    return Graph("g", nodes, [Port("x", F32, (2,))], [Port("y", F32, (2,))], {"w": np.zeros(2, np.float32)},
                 types=types)  # fmt: skip


def test_a_sound_graph_passes():
    verify(sound())
    verify(replace(sound(), types={}))


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"nodes": sound().nodes[::-1]}, "'bend' reads 's'"),
        ({"nodes": [*sound().nodes, Node("Abs", "again", ["x"], ["y"])]}, "'again' writes 'y'"),
        ({"nodes": [*sound().nodes, Node("", "none", ["x"], ["z"])]}, "'none' has no operator"),
        ({"outputs": [Port("z", F32, (2,))]}, "graph output 'z'"),
        ({"types": {k: t for k, t in sound().types.items() if k != "s"}}, "'s' has no type"),
        ({"types": {**sound().types, "w": TensorType(F32, (3,))}}, "constant 'w'"),
        ({"types": {**sound().types, "w": TensorType(np.dtype(np.int64), (2,))}}, "constant 'w'"),
        ({"types": {**sound().types, "y": TensorType(F32, (3,))}}, "port 'y'"),
        ({"inputs": [Port("x", F32, (1,))]}, "port 'x'"),
    ],
)
def test_a_broken_graph_is_a_fault_of_the_stage(changes, message):
    with pytest.raises(VerifyError, match=message):
        verify(replace(sound(), **changes))
