"""What compiling may cost: bytes are given back with their arrays, and asked for before anything is made."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from export.graphs import model
from streamgru.errors import ModelError
from streamgru_export.compiler.graph import budget as limits
from streamgru_export.compiler.graph.budget import Budget, count_nodes, scratch, work
from streamgru_export.compiler.graph.evaluate import evaluate
from streamgru_export.compiler.graph.graph import Node, TensorType
from streamgru_export.compiler.graph.onnx_reader import read

F32 = np.dtype(np.float32)
KB = 1024


@pytest.fixture(name="budget")
def fixture_budget(monkeypatch):
    monkeypatch.setattr(limits, "MAX_BYTES", 64 * KB)
    monkeypatch.setattr(limits, "MAX_WORK", 10**6)
    return Budget()


def floats(*shape):
    return np.ones(shape, np.float32)


def test_an_array_is_counted_while_it_is_there(budget):
    array = floats(4, KB)
    budget.hold("w", array)
    assert budget.held == 16 * KB
    budget.hold("w", array)
    part = array[1:].reshape(-1)
    budget.hold("a part of it", part)
    assert budget.held == 16 * KB, "views take nothing of their own"
    del array
    assert budget.held == 16 * KB, "a view keeps what it looks into"
    del part
    assert budget.held == 0


def test_small_arrays_are_counted_for_good(budget):
    for _ in range(3):
        budget.hold("s", floats(16))
    assert budget.held == 3 * (64 + limits.ENTRY)


def test_what_would_be_too_much_is_refused_by_name(budget):
    budget.hold("a", kept := floats(8, KB))
    budget.claim("b", 32 * KB)
    with pytest.raises(ModelError, match="Node b: the model's constants, with those computed from them, exceed 65536"):
        budget.claim("Node b", 32 * KB + 1)
    budget.claim("c", 0, 64 * KB)
    with pytest.raises(ModelError, match=r"Node c: .* about 65537 bytes besides its result"):
        budget.claim("Node c", 0, 64 * KB + 1)
    assert budget.held == kept.nbytes, "a refusal takes nothing"


def test_a_node_is_refused_before_it_is_computed(budget, monkeypatch):
    monkeypatch.setattr(limits, "evaluate", lambda *_: pytest.fail("computed"))
    with pytest.raises(ModelError, match=r"Concat.*exceed"):
        budget.evaluate(Node("Concat", "", ["a"] * 9, ["b"], {"axis": 0}), [floats(2, KB)] * 9, 17)
    with pytest.raises(ModelError, match=r"Einsum.*operations"):
        budget.evaluate(Node("Einsum", "", ["a", "a"], ["b"], {"equation": "ab,cd->"}), [floats(40, 40)] * 2, 17)


def test_operations_are_spent_until_none_are_left(budget):
    for _ in range(2):
        budget.spend("a", 400_000)
    with pytest.raises(ModelError, match="Node a: the constants of the model take more than 1000000 operations"):
        budget.spend("Node a", 400_000)


@pytest.mark.parametrize(
    "op, inputs, attrs",
    [("Add", [floats(3), floats(2, 1)], {}), ("Concat", [floats(2), floats(3)], {"axis": 0}),
     ("Softmax", [floats(2, 3)], {}), ("ReduceSum", [floats(40, 2)], {})],
)  # fmt: skip
def test_the_values_are_those_of_the_reference(op, inputs, attrs):
    """Also of a node that is computed again and again."""
    node = Node(op, "", [f"i{k}" for k in range(len(inputs))], ["y"], attrs)
    budget = Budget()
    for scale in (1, 2):
        given = [value * np.float32(scale) for value in inputs]
        for got, want in zip(budget.evaluate(node, given, 17), evaluate(node, given, 17), strict=True):
            np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize(
    "equation, shapes, expected",
    [("ab,bc->ac", [(2, 3), (3, 5)], 30), ("ab,cd->", [(2, 3), (5, 7)], 210), ("...a,a->...", [(2, 3, 5), (5,)], 30),
     ("a...b,...b", [(2, 7, 3), (7, 3)], 42), ("ii->i", [(4, 4)], 4)],
)  # fmt: skip
def test_an_einsum_takes_an_operation_for_each_value_of_its_letters(equation, shapes, expected):
    inputs = [floats(*shape) for shape in shapes]
    node = Node("Einsum", "", ["a"] * len(inputs), ["y"], {"equation": equation})
    assert work(node, inputs, []) == expected + sum(value.size for value in inputs)


def test_a_matrix_product_takes_its_inner_axis():
    a, b = floats(64, 32), floats(32, 16)
    made = [TensorType(F32, (64, 16))]
    elements = a.size + b.size + 64 * 16
    assert work(Node("MatMul", "", ["a", "b"], ["y"]), [a, b], made) == elements + 64 * 16 * 32 // limits.BLAS
    whole = [value.astype(np.int64) for value in (a, b)]  # no library multiplies whole numbers
    assert work(Node("MatMul", "", ["a", "b"], ["y"]), whole, made) == elements + 64 * 16 * 32
    turned = Node("Gemm", "", ["a", "b"], ["y"], {"transA": 1})
    assert work(turned, [a.T, b], made) == elements + 64 * 16 * 32 // limits.BLAS


def test_what_nobody_has_measured_is_dear():
    made = [TensorType(F32, (100,))]
    known, unknown = (Node(op, "", ["a"], ["y"]) for op in ("Relu", "SomethingNew"))
    assert work(unknown, [floats(100)], made) > 1000 * work(known, [floats(100)], made)
    assert scratch(unknown, [floats(100)], made) > scratch(known, [floats(100)], made)


@pytest.mark.parametrize(
    "op, bytes_, operations",
    [("Concat", 1200, 500), ("Add", 2 * 2000, 20 * 500), ("MatMul", 2000, 500 + 300 * 50 // 16),
     ("TopK", 12 * 2000, 200 * 500), ("SomethingNew", 16 * 2000, 50_000 * 500)],
)  # fmt: skip
def test_what_computing_takes_of_operands_and_results(op, bytes_, operations):
    """Two operands of 50 and 150 floats, a result of 300."""
    given, made = [floats(50), floats(150)], [TensorType(F32, (300,))]
    node = Node(op, "", ["a", "b"], ["y"])
    assert (scratch(node, given, made), work(node, given, made)) == (bytes_, operations)


def test_a_kernel_that_slides_takes_its_window_for_each_element():
    given, made = [floats(1, 2, 9, 9), floats(3, 2, 3, 3)], [TensorType(F32, (1, 3, 7, 7))]
    elements = 162 + 54 + 147
    conv = Node("Conv", "", ["a", "b"], ["y"])
    assert scratch(conv, given, made) == 16 * 4 * elements * 18
    pool = Node("MaxPool", "", ["a"], ["y"], {"kernel_shape": [3, 3]})
    assert scratch(pool, given[:1], made[:1]) == 16 * 4 * (162 + 147) * 9
    assert work(conv, given, made) == limits.SLOWEST * 18 * elements


def test_nodes_of_subgraphs_are_counted():
    out = helper.make_tensor_value_info("o", TensorProto.FLOAT, [4])
    once, twice = helper.make_node("Neg", ["x"], ["o"]), helper.make_node("Abs", ["x"], ["unused"])
    branches = [helper.make_graph(nodes, "b", [], [out]) for nodes in ([once], [twice, once])]
    choice = helper.make_node("If", ["c"], ["y"], then_branch=branches[0], else_branch=branches[1])
    graph = read(model([choice, helper.make_node("Neg", ["y"], ["z"])], {"x": [4]}, ["z"], {"c": np.array(True)}))
    assert count_nodes(graph) == 5


def test_constants_everywhere_in_a_graph_are_held():
    """Of subgraphs, and attributes that are tensors."""
    out = helper.make_tensor_value_info("o", TensorProto.FLOAT, [2 * KB])
    inner = helper.make_graph([helper.make_node("Identity", ["k"], ["o"])], "a", [], [out],
                              [numpy_helper.from_array(floats(2 * KB), "k")])  # fmt: skip
    choice = helper.make_node("If", ["c"], ["y"], then_branch=inner, else_branch=inner)
    graph = read(model([choice], {"x": [4]}, ["y"], {"c": np.array(True), "w": floats(KB)}))
    budget = Budget()
    budget.hold_all(graph)
    assert budget.held == 2 * 8 * KB + 4 * KB + 1 + limits.ENTRY


def test_a_binding_begins_with_all_its_nodes_again(monkeypatch):
    graph = read(model([helper.make_node("Neg", ["x"], ["y"])], {"x": [4]}, ["y"]))
    monkeypatch.setattr(limits, "MAX_UNROLLED", 2)
    budget = Budget()
    for _ in range(2):
        budget.begin(graph)
        for _ in range(3):
            budget.visit(graph.nodes[0])
        with pytest.raises(ModelError, match="more than 2 nodes more"):
            budget.visit(graph.nodes[0])
