"""A model's own functions: written out with onnxruntime's values, and refused before they cost time or memory."""

from __future__ import annotations

import time

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import streamgru
from export.graphs import onnxruntime
from streamgru_export.compiler.graph.budget import MAX_NODES, Budget
from streamgru_export.compiler.graph.functions import inline_functions

OPSETS = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]


def function(name, *nodes):
    return helper.make_function("own", name, ["x"], ["y"], list(nodes), OPSETS)


def call(name, x="x", y="y"):
    return helper.make_node(name, [x], [y], domain="own")


def model(*functions, first="F0"):
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [2, 3]) for name in "xy")
    graph = helper.make_graph([call(first)], "g", [x], [y])
    return helper.make_model(graph, functions=list(functions), opset_imports=OPSETS, ir_version=8)


def twice(depth):
    """Functions that each call the next one twice: 2^depth nodes."""
    inner = [function(f"F{i}", call(f"F{i + 1}", "x", "t"), call(f"F{i + 1}", "t", "y")) for i in range(depth)]
    return model(*inner, function(f"F{depth}", helper.make_node("Tanh", ["x"], ["y"])))


def test_functions_inside_of_functions_give_onnxruntimes_values():
    x = np.random.default_rng(1).standard_normal((2, 3)).astype(np.float32)
    proto = twice(3)
    want = onnxruntime(proto, {"x": x})["y"]
    assert len(inline_functions(proto, Budget(MAX_NODES)).graph.node) == 8
    got = streamgru.Model(streamgru.compile(proto.SerializeToString()).image).run(x[None])[0]
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-6)


@pytest.mark.parametrize("depth", [10, 11])
def test_the_limit_counts_what_the_functions_become(depth):
    if depth == 10:
        assert len(inline_functions(twice(depth), Budget(2**10)).graph.node) == 2**10
    else:
        with pytest.raises(streamgru.ModelError, match="more than 1024 nodes"):
            inline_functions(twice(depth), Budget(2**10))


def test_functions_that_would_fill_all_memory_are_refused_at_once():
    start = time.process_time()
    with pytest.raises(streamgru.ModelError, match="with its functions written out the model has more than"):
        streamgru.compile(twice(60).SerializeToString())
    assert time.process_time() - start < 5  # 2^60 nodes would take centuries


def test_nodes_in_branches_count_too():
    branch = helper.make_graph([call("F1", "x", "b")], "b", [], [helper.make_tensor_value_info("b", 1, [2, 3])])
    choose = helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch)
    constant = helper.make_node("Constant", [], ["c"], value=helper.make_tensor("c", TensorProto.BOOL, [], [1]))
    proto = model(
        function("F0", constant, choose),
        function("F1", *(helper.make_node("Tanh", ["x"], ["y" if i == 9 else f"t{i}"]) for i in range(10))),
    )
    with pytest.raises(streamgru.ModelError, match="more than 20 nodes"):
        inline_functions(proto, Budget(20))  # two branches of ten, the constant and the If


@pytest.mark.parametrize("circle", [1, 2, 30])
def test_a_function_that_calls_itself_is_refused(circle):
    proto = model(*(function(f"F{i}", call(f"F{(i + 1) % circle}")) for i in range(circle)))
    with pytest.raises(streamgru.ModelError, match="calls itself"):
        streamgru.compile(proto.SerializeToString())


def test_a_model_without_functions_is_left_alone():
    proto = onnx.ModelProto()
    assert inline_functions(proto, Budget(1)) is proto
