"""What constants alone decide is computed once, and shared by all bindings."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper

from export.graphs import assert_close, model, onnxruntime, whole
from streamgru_export.compiler.compile import compile
from streamgru_export.compiler.graph import budget as limits
from streamgru_export.compiler.graph.budget import Budget
from streamgru_export.compiler.graph.onnx_reader import read
from streamgru_export.compiler.static.fold import fold
from streamgru_export.compiler.static.specialise import Specialiser

node = helper.make_node
W = np.arange(4096, dtype=np.float32).reshape(4, 1024)


def turned():
    """y = x + (−wᵀ)ᵀ[0], as exporters leave the order of weights to the graph."""
    nodes = [node("Transpose", ["w"], ["t"]), node("Neg", ["t"], ["n"]), node("Transpose", ["n"], ["b"]),
             node("Gather", ["b", "zero"], ["row"]), node("Add", ["x", "row"], ["y"])]  # fmt: skip
    return model(nodes, {"x": ["T", 1024]}, ["y"], {"w": W, "zero": np.int64(0)})


def test_a_chain_of_constants_becomes_one():
    graph = fold(read(turned()), Budget())
    assert [n.op_type for n in graph.nodes] == ["Add"]
    assert set(graph.constants) == {"row"}
    np.testing.assert_array_equal(graph.constants["row"], -W[0])


def test_the_graph_as_read_is_left_as_it_is():
    graph = read(turned())
    fold(graph, Budget())
    assert len(graph.nodes) == 5
    assert set(graph.constants) == {"w", "zero"}


def test_what_was_folded_is_given_back():
    graph, budget = read(turned()), Budget()
    budget.hold_all(graph)
    before = budget.held
    folded = fold(graph, budget)
    assert folded.constants["row"].nbytes == 4096
    assert budget.held <= before + 4096 + 10 * limits.ENTRY


def test_all_bindings_share_it():
    specialise = Specialiser(read(turned()))
    first, second = specialise({"T": 2}), specialise({"T": 3})
    assert first.constants["row"] is second.constants["row"]


def test_a_graph_of_no_such_nodes_is_itself():
    graph = read(model([node("Add", ["x", "w"], ["y"])], {"x": [4]}, ["y"], {"w": np.ones(4, np.float32)}))
    assert fold(graph, Budget()) is graph


def test_a_constant_that_a_subgraph_reads_stays():
    out = helper.make_tensor_value_info("o", TensorProto.FLOAT, [4])
    then = helper.make_graph([node("Add", ["x", "n"], ["o"])], "then", [], [out])
    other = helper.make_graph([node("Sub", ["x", "w"], ["o"])], "else", [], [out])
    nodes = [node("Neg", ["w"], ["n"]), node("Neg", ["n"], ["m"]),
             node("If", ["c"], ["z"], then_branch=then, else_branch=other), node("Add", ["z", "m"], ["y"])]  # fmt: skip
    source = model(nodes, {"x": [4]}, ["y"], {"w": np.float32([1, 2, 3, 4]), "c": np.array(True)})
    assert {"n", "m", "w", "c"} <= set(fold(read(source), Budget()).constants)
    x = {"x": np.float32([5, 6, 7, 8])}
    assert_close(whole(compile(source, mode="whole"), x), onnxruntime(source, x), 0.0)


def test_a_constant_that_is_an_output_stays():
    source = model([node("Neg", ["w"], ["n"]), node("Abs", ["n"], ["a"]), node("Add", ["x", "a"], ["y"])], {"x": [2]},
                   ["y", "n"], {"w": np.float32([1, 2])})  # fmt: skip
    x = {"x": np.float32([5, 6])}
    assert_close(whole(compile(source, mode="whole"), x), onnxruntime(source, x), 0.0)


@pytest.mark.parametrize("op", ["RandomNormalLike", "Dropout", "Identity"])
def test_what_a_binding_treats_in_its_own_way_is_left_to_it(op):
    source = model([node(op, ["w"], ["n"]), node("Add", ["x", "n"], ["y"])], {"x": [2]}, ["y"],
                   {"w": np.float32([1, 2])})  # fmt: skip
    assert [n.op_type for n in fold(read(source), Budget()).nodes] == [op, "Add"]


def test_what_cannot_be_computed_is_left_to_the_binding():
    source = model([node("Gather", ["w", "far"], ["n"]), node("Add", ["x", "n"], ["y"])], {"x": [2]}, ["y"],
                   {"w": np.float32([1, 2]), "far": np.int64(9)})  # fmt: skip
    assert len(fold(read(source), Budget()).nodes) == 2
