"""What is added to a graph moves the elements that NumPy moves, and is typed at once."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from streamgru.errors import ModelError
from streamgru_export.compiler.graph.builder import Builder
from streamgru_export.compiler.graph.evaluate import node_proto
from streamgru_export.compiler.graph.graph import Node, TensorType

SHAPE = (2, 3, 4)
X = np.arange(24, dtype=np.float32).reshape(SHAPE)
OPSET = 17


def builder():
    return Builder({"x": TensorType(X.dtype, SHAPE)}, {}, OPSET)


def value_of(b, name):
    """A value by ONNX's reference; its type is what the builder says."""
    inits = [numpy_helper.from_array(v, n) for n, v in b.new_constants.items()]
    x = helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, SHAPE)
    y = helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)
    graph = helper.make_graph([node_proto(n) for n in b.nodes], "g", [x], [y], inits)
    source = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)
    value = X if name == "x" else ReferenceEvaluator(source).run(None, {"x": X})[0]
    assert b.types[name] == TensorType(value.dtype, value.shape)
    assert b.shape(name) == value.shape
    return value


@pytest.mark.parametrize("shape", [(24,), (4, 6), (1, 2, 1, 3, 4), (2, 3, 4)])
def test_reshape(shape):
    b = builder()
    np.testing.assert_array_equal(value_of(b, b.reshape("x", shape)), X.reshape(shape))


@pytest.mark.parametrize("axis", [0, 1, 3])
def test_unsqueeze(axis):
    b = builder()
    np.testing.assert_array_equal(value_of(b, b.unsqueeze("x", axis)), np.expand_dims(X, axis))


@pytest.mark.parametrize("perm", [(0, 1, 2), (2, 0, 1), (1, 0, 2), (2, 1, 0)])
def test_transpose(perm):
    b = builder()
    np.testing.assert_array_equal(value_of(b, b.transpose("x", perm)), X.transpose(perm))


@pytest.mark.parametrize("source", range(3))
@pytest.mark.parametrize("target", range(3))
def test_move_axis(source, target):
    b = builder()
    np.testing.assert_array_equal(value_of(b, b.move_axis("x", source, target)), np.moveaxis(X, source, target))


@pytest.mark.parametrize("axis", range(3))
@pytest.mark.parametrize("indices", [[0, 1], [1, 0], [1], [0, 0, 1]])
def test_entries(axis, indices):
    b = builder()
    got = value_of(b, b.entries("x", np.array(indices), axis))
    np.testing.assert_array_equal(got, np.take(X, indices, axis))


def test_one_entry_by_a_number_has_an_axis_less():
    b = builder()
    np.testing.assert_array_equal(value_of(b, b.entries("x", np.int64(2), 1)), X[:, 2])


def test_what_moves_nothing_is_the_value_itself():
    b = builder()
    same = [b.reshape("x", SHAPE), b.transpose("x", (0, 1, 2)), b.move_axis("x", 1, 1), b.entries("x", range(3), 1)]
    assert same == ["x"] * 4
    assert b.nodes == []


def test_a_name_that_is_asked_for_costs_a_node():
    b = builder()
    assert b.reshape("x", SHAPE, "y") == "y"
    np.testing.assert_array_equal(value_of(b, "y"), X)


def test_names_are_never_given_twice():
    b = builder()
    b.name = "part"
    names = [b.emit("Relu", ["x"]), b.emit("Relu", ["x"]), b.constant(np.zeros(2), "w"), b.constant(np.ones(2), "w")]
    assert len(set(names)) == 4
    assert b.free("x") not in {"x", *names}
    assert b.free("new") == "new"
    np.testing.assert_array_equal(b.constants[names[3]], np.ones(2))


def test_what_is_given_is_not_changed():
    types, constants = {"x": TensorType(X.dtype, SHAPE)}, {"w": np.ones(4, np.float32)}
    b = Builder(types, constants, OPSET)
    b.emit("Add", ["x", b.constant(np.float32(1), "one")])
    assert list(types) == ["x"]
    assert list(constants) == ["w"]
    assert len(b.new_types) == 2
    assert len(b.new_constants) == 1


def test_a_node_that_does_not_fit_is_refused_when_it_is_added():
    b = builder()
    with pytest.raises(ModelError, match=r"MatMul node 'wrong'.*do not fit"):
        b.add(Node("MatMul", "wrong", ["x", "x"], ["y"]))
    assert b.nodes == []
