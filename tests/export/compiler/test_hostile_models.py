"""What fuzzing found (tests/fuzz/onnx_models.py): a model that contradicts itself costs a ModelError."""

import numpy as np
import pytest
from onnx import TensorProto, helper

from export.graphs import model, node
from streamgru.errors import ModelError
from streamgru.layout import Kind
from streamgru_export.compiler.compile import compile
from streamgru_export.compiler.program import copies
from streamgru_export.compiler.program.program import Tensor
from streamgru_export.compiler.program.views import View


@pytest.mark.parametrize("axis", [2**31, -(2**31), 2**63 - 1, 9, -9])
def test_an_axis_beyond_any_rank_is_refused_before_onnx_sees_it(axis):
    """onnx's shape inference writes outside its arrays (segmentation fault)."""
    graph = model([node("LayerNormalization", ["x", "w"], ["y"], axis=axis)], {"x": [2, 3]}, ["y"], {"w": np.ones(3)})
    with pytest.raises(ModelError, match=r"LayerNormalization.*'axis'"):
        compile(graph, mode="whole")


def test_an_equation_of_other_characters_is_refused_before_onnx_sees_it():
    """onnx's shape inference does not end."""
    graph = model([node("Einsum", ["x", "x"], ["y"], equation="i=j->")], {"x": [3, 4]}, ["y"])
    with pytest.raises(ModelError, match=r"Einsum.*no equation"):
        compile(graph, mode="whole")


@pytest.mark.parametrize("parts", [1, 3, 0, -1, 2**40])
def test_a_split_into_other_than_its_outputs_is_refused_before_onnx_sees_it(parts):
    """onnx's shape inference reads behind the end of its list of parts (abort)."""
    graph = model([node("Split", ["x"], ["y", "z"], num_outputs=parts)], {"x": [6]}, ["y"], opset=18)
    with pytest.raises(ModelError, match=r"Split.*'num_outputs' is .* 2 outputs"):
        compile(graph, mode="whole")


@pytest.mark.parametrize("opset", [13, 18])
@pytest.mark.parametrize("axes", [[0, 2, 0], [1, -2], [2, 2]])
def test_an_axis_that_stands_twice_in_a_reduction_is_refused(axes, opset):
    """What was then laid out lay outside of its tensor."""
    given = node("ReduceMean", ["x"], ["y"], axes=axes) if opset == 13 else node("ReduceMean", ["x", "axes"], ["y"])
    graph = model([given], {"x": [3, 3, 3]}, ["y"], {"axes": np.array(axes)}, opset=opset)
    with pytest.raises(ModelError, match=r"ReduceMean.*an axis stands twice"):
        compile(graph, mode="whole")


def test_a_view_outside_of_its_tensor_is_no_write_elsewhere():
    tensor = Tensor("t", np.dtype(np.float32), (6,), Kind.ARENA)
    for view in (View(tensor, 0, (3, 3), (2, 1)), View(tensor, 1, (3,), (-1,)), View(tensor, 6, (1,), (1,))):
        with pytest.raises(IndexError, match="'t'"):
            copies._look(np.zeros(6, bool), view)
    assert copies._look(np.arange(6) > 2, View(tensor, 5, (2, 3), (-3, -1))).tolist() == [[True] * 3, [False] * 3]


@pytest.mark.parametrize(
    "nodes, inputs, constants",
    [
        ([node("GroupNormalization", ["x", "w", "w"], ["y"], num_groups=2)], {"x": []}, {"w": np.ones(4, np.float32)}),
        (
            [node("ConvTranspose", ["x", "w"], ["y"], output_shape=[5, 5, 5], kernel_shape=[3])],
            {"x": [1, 1, 4]},
            {"w": np.ones((1, 1, 3), np.float32)},
        ),
    ],
)
def test_attributes_that_do_not_fit_are_an_error_that_names_the_node(nodes, inputs, constants):
    with pytest.raises(ModelError, match=nodes[0].op_type):
        compile(model(nodes, inputs, ["y"], constants, opset=21), mode="whole")


def test_a_dimension_of_four_billion_is_refused():
    big = helper.make_tensor("shape", TensorProto.INT64, [2], [2**31, 2**31])
    nodes = [helper.make_node("ConstantOfShape", ["shape"], ["c"]), node("Add", ["x", "c"], ["y"])]
    graph = model(nodes, {"x": [1]}, ["y"])
    graph.graph.initializer.append(big)
    with pytest.raises(ModelError):
        compile(graph, mode="whole")
