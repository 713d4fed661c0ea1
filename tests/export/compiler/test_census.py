"""The census counts what became of each node of the file; the counts are made by hand, and none is lost."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from onnx import TensorProto, helper

from export.graphs import gru_weights, model, node, rng
from streamgru_export.compiler.compile import compile


def counted(source, **options):
    """The census; every node of the file is in it once."""
    found = compile(source, **options).nodes
    kinds = Counter(n.op_type for n in source.graph.node if n.op_type != "Constant")
    assert {kind: sum(became.values()) for kind, became in found.items()} == kinds
    assert all(count > 0 for became in found.values() for count in became.values())
    return found


def weight(*shape):
    return rng().normal(size=shape).astype(np.float32)


def test_a_product_takes_its_bias_and_its_activation_in():
    nodes = [node("MatMul", ["x", "w"], ["m"]), node("Add", ["m", "b"], ["a"]), node("Relu", ["a"], ["y"])]
    source = model(nodes, {"x": [2, 4]}, ["y"], {"w": weight(4, 3), "b": weight(3)})
    assert counted(source, mode="whole") == {"MatMul": {"AFFINE": 1}, "Add": {"fused": 1}, "Relu": {"fused": 1}}


def test_an_activation_that_others_read_before_it_stays():
    nodes = [node("MatMul", ["x", "w"], ["m"]), node("Relu", ["m"], ["y"]), node("Exp", ["m"], ["z"])]
    source = model(nodes, {"x": [2, 4]}, ["y", "z"], {"w": weight(4, 3)})
    expected = {"MatMul": {"AFFINE": 1}, "Relu": {"UNARY": 1}, "Exp": {"UNARY": 1}}
    assert counted(source, mode="whole") == expected


def test_views_are_free_and_a_copy_that_is_merged_too():
    nodes = [
        node("Transpose", ["x"], ["t"], perm=[1, 0]),
        node("Reshape", ["x", "s"], ["r"]),
        node("Exp", ["r"], ["e"]),
        node("Exp", ["t"], ["f"]),
        node("Reshape", ["f", "s"], ["g"]),
        node("Concat", ["e", "g"], ["y"], axis=0),
    ]
    source = model(nodes, {"x": [2, 3]}, ["y"], {"s": np.array([6])})
    assert counted(source, mode="whole") == {
        "Transpose": {"free": 1}, "Reshape": {"free": 2}, "Exp": {"UNARY": 2}, "Concat": {"free": 1},
    }  # fmt: skip


def test_a_copy_that_stays_is_told_as_one():
    nodes = [node("Concat", ["x", "x"], ["y"], axis=0)]
    assert counted(model(nodes, {"x": [2, 3]}, ["y"]), mode="whole") == {"Concat": {"COPY": 1}}


def test_what_is_known_before_is_folded():
    nodes = [
        node("Shape", ["x"], ["s"]),
        node("Neg", ["w"], ["n"]),
        node("Dropout", ["x"], ["d"]),
        node("Identity", ["d"], ["i"]),
        node("Mul", ["i", "n"], ["m"]),
        node("Reshape", ["m", "s"], ["y"]),
    ]
    assert counted(model(nodes, {"x": [2, 3]}, ["y"], {"w": weight(3)}), mode="whole") == {
        "Shape": {"folded": 1}, "Neg": {"folded": 1}, "Dropout": {"folded": 1}, "Identity": {"folded": 1},
        "Mul": {"BINARY": 1}, "Reshape": {"free": 1},
    }  # fmt: skip


def test_constant_nodes_are_not_counted():
    value = helper.make_tensor("c", TensorProto.FLOAT, [3], [1, 2, 3])
    nodes = [node("Constant", [], ["c"], value=value), node("Add", ["x", "c"], ["y"])]
    assert counted(model(nodes, {"x": [3]}, ["y"]), mode="whole") == {"Add": {"BINARY": 1}}


def test_an_if_is_opened_and_what_stands_in_it_is_not_of_the_file():
    out = helper.make_tensor_value_info("o", TensorProto.FLOAT, [3])
    graphs = [helper.make_graph([helper.make_node(op, ["x"], ["o"])], op, [], [out]) for op in ("Abs", "Neg")]
    nodes = [node("If", ["c"], ["a"], then_branch=graphs[0], else_branch=graphs[1]), node("Exp", ["a"], ["y"])]
    source = model(nodes, {"x": [3]}, ["y"], {"c": np.array(True)})
    assert counted(source, mode="whole") == {"If": {"opened": 1}, "Exp": {"UNARY": 1}}


@pytest.mark.parametrize("op, code", [("GRU", "GRU"), ("LSTM", "LSTM"), ("RNN", "RNN")])
def test_a_recurrent_node_is_its_operator(op, code):
    gates = {"GRU": 3, "LSTM": 4, "RNN": 1}[op]
    source = model([node(op, ["x", "W", "R", "B"], ["Y"], hidden_size=6)], {"x": ["T", 1, 4]}, ["Y"],
                   gru_weights(rng(), 4, 6, gates=gates))  # fmt: skip
    assert counted(source) == {op: {code: 1}}


def test_a_norm_of_two_operators_names_both():
    nodes = [node("GroupNormalization", ["x", "s", "b"], ["y"], num_groups=2)]
    source = model(nodes, {"x": [1, 4, 5]}, ["y"], {"s": weight(4), "b": weight(4)}, opset=21)
    compiled = compile(source, mode="whole")
    codes = {op.code.name for op in compiled.program.operators} - {"COPY", "FILL"}
    assert counted(source, mode="whole") == {"GroupNormalization": {"+".join(sorted(codes)): 1}}
    assert len(codes) == 2


def test_a_batch_normalization_that_moved_into_the_weights_is_folded():
    constants = {"w": weight(6, 4, 3), "g": weight(6), "s": weight(6), "m": weight(6), "v": np.ones(6, np.float32)}
    nodes = [node("Conv", ["x", "w"], ["c"]), node("BatchNormalization", ["c", "g", "s", "m", "v"], ["y"])]
    source = model(nodes, {"x": [1, 4, 9]}, ["y"], constants)
    assert counted(source, mode="whole") == {"Conv": {"CONV": 1}, "BatchNormalization": {"folded": 1}}


def test_the_pieces_of_a_cell_are_told_as_its():
    """A GRU cell written out, and an Exp beside it that is none of its pieces."""
    w = {"W": weight(3, 12), "U": weight(4, 12), "b": weight(12), "one": np.float32(1)}
    nodes = [
        node("Gemm", ["x", "W", "b"], ["a"]), node("MatMul", ["h", "U"], ["u"]),
        node("Split", ["a"], ["az", "ar", "an"], axis=1), node("Split", ["u"], ["uz", "ur", "un"], axis=1),
        node("Add", ["az", "uz"], ["sz"]), node("Sigmoid", ["sz"], ["z"]),
        node("Add", ["ar", "ur"], ["sr"]), node("Sigmoid", ["sr"], ["r"]),
        node("Mul", ["r", "un"], ["q"]), node("Add", ["an", "q"], ["sn"]), node("Tanh", ["sn"], ["n"]),
        node("Sub", ["one", "z"], ["k"]), node("Mul", ["k", "n"], ["kn"]), node("Mul", ["z", "h"], ["zh"]),
        node("Add", ["kn", "zh"], ["hn"]), node("Exp", ["hn"], ["y"]),
    ]  # fmt: skip
    source = model(nodes, {"x": [1, 3], "h": [1, 4]}, ["y", "hn"], w)
    found = counted(source)
    assert found.pop("Exp") == {"UNARY": 1}
    assert all(list(became) == ["GRU cell"] for became in found.values())
    assert sum(sum(became.values()) for became in found.values()) == len(nodes) - 1


def test_dead_nodes_are_folded():
    nodes = [node("Relu", ["x"], ["y"]), node("Exp", ["x"], ["nobody"])]
    assert counted(model(nodes, {"x": [3]}, ["y"]), mode="whole") == {"Relu": {"UNARY": 1}, "Exp": {"folded": 1}}


def test_the_census_goes_into_the_image():
    source = model([node("Relu", ["x"], ["y"])], {"x": [3]}, ["y"])
    compiled = compile(source, mode="whole")
    assert b'"nodes": {"Relu": {"UNARY": 1}}' in compiled.image
