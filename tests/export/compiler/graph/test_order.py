"""Nodes may stand in any order in a file; those that go in a circle are refused."""

from __future__ import annotations

import numpy as np
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper

from export.graphs import model
from streamgru import Model
from streamgru.errors import ModelError
from streamgru_export.compiler.compile import compile
from streamgru_export.compiler.graph.onnx_reader import read
from streamgru_export.compiler.graph.order import in_order


def shuffled(nodes, seed):
    if seed is None:
        return nodes
    print(f"seed {seed}")
    return [nodes[i] for i in np.random.default_rng(seed).permutation(len(nodes))]


def branches(seed):
    """y = 2x + 3 or -x, out of order outside and inside of its If; a branch reads what is written behind it."""
    then = [helper.make_node("Mul", ["outer", "two"], ["t0"]), helper.make_node("Add", ["t0", "three"], ["t1"])]
    other = [helper.make_node("Neg", ["outer"], ["e0"]), helper.make_node("Identity", ["e0"], ["e1"])]
    ports = [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in ("t1", "e1")]
    graphs = [helper.make_graph(shuffled(n, seed), "b", [], [p]) for n, p in zip((then, other), ports, strict=True)]
    nodes = [
        helper.make_node("Identity", ["x"], ["outer"]),
        helper.make_node("If", ["yes"], ["z"], then_branch=graphs[0], else_branch=graphs[1]),
        helper.make_node("Relu", ["z"], ["y"]),
    ]
    constants = {"two": np.float32(2), "three": np.float32(3), "yes": np.array(True)}
    return model(shuffled(nodes, seed), {"x": [4]}, ["y"], constants)


@pytest.mark.parametrize("seed", range(4))
def test_takes_nodes_in_any_order_also_inside_of_branches(seed):
    """onnxruntime takes any order too, but in subgraphs: it runs the graph as it should be."""
    x = np.random.default_rng(seed).normal(size=4).astype(np.float32)
    (expected,) = ort.InferenceSession(branches(None).SerializeToString()).run(None, {"x": x})
    compiled = compile(branches(seed), mode="whole")
    np.testing.assert_array_equal(Model(compiled.image).run(x), expected)


def test_takes_a_function_whose_nodes_are_out_of_order():
    body = [helper.make_node("Relu", ["b"], ["c"]), helper.make_node("Neg", ["a"], ["b"])]
    opset = [helper.make_opsetid("", 17)]
    function = helper.make_function("mine", "NegRelu", ["a"], ["c"], body, opset)
    source = model([helper.make_node("NegRelu", ["x"], ["y"], domain="mine")], {"x": [2]}, ["y"])
    source.functions.append(function)
    source.opset_import.append(helper.make_opsetid("mine", 1))
    assert [n.op_type for n in read(source).nodes] == ["Neg", "Relu"]


def test_keeps_the_order_of_nodes_that_have_one():
    nodes = [helper.make_node("Neg", ["x"], [f"n{i}"]) for i in range(5)]
    nodes.append(helper.make_node("Sum", [f"n{i}" for i in reversed(range(5))], ["y"]))
    assert [n.outputs for n in read(model(nodes, {"x": [1]}, ["y"])).nodes] == [[f"n{i}"] for i in range(5)] + [["y"]]


def circle_through_a_branch():
    graphs = [helper.make_graph([helper.make_node("Neg", ["z"], ["b"])], "b", [],
                                [helper.make_tensor_value_info("b", TensorProto.FLOAT, [1])])] * 2  # fmt: skip
    branch = helper.make_node("If", ["yes"], ["v"], name="branch", then_branch=graphs[0], else_branch=graphs[1])
    return [branch, helper.make_node("Add", ["v", "x"], ["z"], name="last")]


CIRCLES = {
    "itself": [helper.make_node("Add", ["x", "z"], ["z"], name="branch")],
    "two": [helper.make_node("Add", ["x", "b"], ["z"], name="branch"), helper.make_node("Neg", ["z"], ["b"])],
    "a branch": circle_through_a_branch(),
}


@pytest.mark.parametrize("nodes", CIRCLES.values(), ids=CIRCLES)
def test_refuses_nodes_that_go_in_a_circle(nodes):
    with pytest.raises(ModelError, match=r"'branch'.*circle"):
        read(model([*nodes, helper.make_node("Relu", ["z"], ["y"])], {"x": [1]}, ["y"], {"yes": np.array(True)}))


def test_puts_many_nodes_in_order_in_time_that_grows_with_their_number():
    """Each node reads all of a few before it: a walk that looked at them again for every path would never end."""
    wide = [helper.make_node("Sum", [f"v{max(0, i - k)}" for k in (1, 2, 3)], [f"v{i}"]) for i in range(1, 4000)]
    nodes = in_order(read(model([helper.make_node("Relu", ["x"], ["v0"]), *wide], {"x": [1]}, ["v3999"])).nodes[::-1])
    assert [n.outputs[0] for n in nodes] == [f"v{i}" for i in range(4000)]
