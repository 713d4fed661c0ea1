"""Binding dimensions and folding: shapes are computed, never believed."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper

from export.graphs import gru_weights, model, rng
from streamgru.errors import ModelError
from streamgru_export.compiler.graph.onnx_reader import read
from streamgru_export.compiler.static.specialise import specialise


def node(op, inputs, outputs, **attributes):
    return helper.make_node(op, inputs, outputs, name=f"{op}_{outputs[0]}", **attributes)


def test_weights_built_by_slice_concat_unsqueeze_become_constants():
    """What the default exporter writes for H >= 53 (gate order r, z, n becomes z, r, n)."""
    h, i, r = 64, 8, rng()
    w, rec = (r.normal(size=(3 * h, n)).astype(np.float32) for n in (i, h))
    nodes, ends = [], {"s0": [0], "s1": [h], "s2": [2 * h], "s3": [3 * h], "axis": [0]}
    for name in ("w", "r"):
        for gate in range(3):
            nodes.append(node("Slice", [name, f"s{gate}", f"s{gate + 1}", "axis"], [f"{name}{gate}"]))
        nodes.append(node("Concat", [f"{name}1", f"{name}0", f"{name}2"], [f"{name}c"], axis=0))
        nodes.append(node("Unsqueeze", [f"{name}c", "axis"], [f"{name}u"]))
    nodes.append(node("GRU", ["x", "wu", "ru"], ["y"], hidden_size=h))
    constants = {"w": w, "r": rec, **{k: np.array(v) for k, v in ends.items()}}
    graph = specialise(read(model(nodes, {"x": ["T", 1, i]}, ["y"], constants)), {"T": 3})
    assert [n.op_type for n in graph.nodes] == ["GRU"]
    expected = np.concatenate([w[h : 2 * h], w[:h], w[2 * h :]])[None]
    np.testing.assert_array_equal(graph.constants[graph.nodes[0].inputs[1]], expected)


def test_shape_arithmetic_is_folded_for_the_bound_dimensions():
    nodes = [
        node("Shape", ["x"], ["shape"]),
        node("Gather", ["shape", "one"], ["batch"], axis=0),
        node("Unsqueeze", ["batch", "zero1"], ["batch1"]),
        node("Concat", ["one1", "batch1", "five1"], ["hshape"], axis=0),
        node("ConstantOfShape", ["hshape"], ["h0"]),
        node("GRU", ["x", "W", "R", "B", "", "h0"], ["y"], hidden_size=5),
    ]
    constants = {
        **gru_weights(rng(), 4, 5), "one": np.array(1), "zero1": np.array([0]), "one1": np.array([1]),
        "five1": np.array([5]),
    }  # fmt: skip
    graph = specialise(read(model(nodes, {"x": ["T", "B", 4]}, ["y"], constants)), {"T": 2, "B": 3})
    assert [n.op_type for n in graph.nodes] == ["GRU"]
    assert graph.constants["h0"].shape == (1, 3, 5)
    assert graph.types["y"].shape == (2, 1, 3, 5)


def test_declared_output_shapes_are_not_believed():
    source = model([node("Relu", ["x"], ["y"])], {"x": ["B", 4]}, ["y"])
    source.graph.output[0].CopyFrom(helper.make_tensor_value_info("y", TensorProto.FLOAT, [99, 7]))
    source.graph.value_info.append(helper.make_tensor_value_info("y", TensorProto.INT64, [3]))
    assert specialise(read(source), {"B": 2}).types["y"].shape == (2, 4)


def test_identity_and_inference_dropout_disappear():
    nodes = [node("Identity", ["x"], ["a"]), node("Dropout", ["a"], ["b"]), node("Relu", ["b"], ["y"])]
    graph = specialise(read(model(nodes, {"x": [2]}, ["y"])), {})
    assert [(n.op_type, n.inputs) for n in graph.nodes] == [("Relu", ["x"])]


def test_training_dropout_is_refused_by_name():
    nodes = [node("Dropout", ["x", "ratio", "training"], ["y"])]
    source = model(nodes, {"x": [2]}, ["y"], {"ratio": np.float32(0.5), "training": np.array(True)})
    with pytest.raises(ModelError, match=r"Dropout_y.*eval"):
        specialise(read(source), {})


@pytest.mark.parametrize("dims, kept", [({"B": 1}, "Abs"), ({"B": 2}, "Neg")])
def test_an_if_known_from_the_shapes_is_replaced_by_its_branch(dims, kept):
    def branch(op):
        out = helper.make_tensor_value_info("o", TensorProto.FLOAT, None)
        return helper.make_graph([helper.make_node(op, ["x"], ["o"])], op, [], [out])

    nodes = [
        node("Shape", ["x"], ["shape"]),
        node("Gather", ["shape", "zero"], ["b"], axis=0),
        node("Equal", ["b", "one"], ["is_one"]),
        node("If", ["is_one"], ["y"], then_branch=branch("Abs"), else_branch=branch("Neg")),
    ]
    source = model(nodes, {"x": ["B", 3]}, ["y"], {"zero": np.array(0), "one": np.array(1)})
    assert [n.op_type for n in specialise(read(source), dims).nodes if n.op_type != "Identity"] == [kept]


def test_unbound_dimension_is_refused_by_name():
    with pytest.raises(ModelError, match=r"'x'.*'B'"):
        specialise(read(model([node("Relu", ["x"], ["y"])], {"x": ["B"]}, ["y"])), {})


def test_contradicting_shapes_are_refused_by_node():
    source = model([node("Add", ["x", "w"], ["y"])], {"x": [3]}, ["y"], {"w": np.zeros(4, np.float32)})
    with pytest.raises(ModelError, match="Add_y"):
        specialise(read(source), {})


@pytest.mark.parametrize("name, shape", [("W", (1, 15, 3)), ("R", (1, 15, 4)), ("B", (1, 29)), ("h0", (1, 2, 5))])
def test_recurrent_operands_that_do_not_fit_are_refused(name, shape):
    constants = {**gru_weights(rng(), 4, 5), "h0": np.zeros((1, 1, 5), np.float32)}
    constants[name] = np.zeros(shape, np.float32)
    nodes = [node("GRU", ["x", "W", "R", "B", "", "h0"], ["y"], hidden_size=5)]
    with pytest.raises(ModelError, match="GRU_y"):
        specialise(read(model(nodes, {"x": [2, 1, 4]}, ["y"], constants)), {})


def test_an_enormous_expansion_is_refused_before_it_is_made():
    nodes = [node("Expand", ["c", "shape"], ["big"]), node("Add", ["x", "big"], ["y"])]
    constants = {"c": np.float32([1]), "shape": np.array([1 << 20, 1 << 20])}
    with pytest.raises(ModelError, match="Expand_big"):
        specialise(read(model(nodes, {"x": [1]}, ["y"], constants)), {})


def test_a_loop_over_sequences_is_refused_with_what_to_do():
    def value(name, shape):
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)

    body = helper.make_graph([node("Neg", ["v"], ["w"])], "body", [value("v", [1])], [value("w", [1])])
    nodes = [
        node("SequenceConstruct", ["x"], ["s"]),
        helper.make_node("SequenceMap", ["s"], ["t"], name="loop", body=body),
        node("ConcatFromSequence", ["t"], ["y"], axis=0),
    ]
    with pytest.raises(ModelError, match=r"'loop'.*one step"):
        specialise(read(model(nodes, {"x": [1]}, ["y"])), {})


def test_an_output_without_elements_is_refused_by_name():
    nodes = [node("Slice", ["x", "a", "b"], ["y"])]
    with pytest.raises(ModelError, match=r"output 'y' is empty: its shape is \[0, 3\]"):
        specialise(read(model(nodes, {"x": [2, 3]}, ["y"], {"a": np.array([1]), "b": np.array([1])})), {})
