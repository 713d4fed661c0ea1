"""What fuzzing found (tests/fuzz/onnx_models.py): a model that contradicts itself costs a ModelError."""

import numpy as np
import pytest
from onnx import TensorProto, helper

from export.graphs import model, node
from streamgru.errors import ModelError
from streamgru.layout import Kind
from streamgru.model import Model
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


LAYER_NORM = node("LayerNormalization", ["x", "w"], ["y"])
OTHERS = {"w": np.ones(3, np.float32)}


@pytest.mark.parametrize(
    "made, x, constants, message",
    [
        (node("Reshape", ["x", "s"], ["y"]), [3, 5, 2], {"s": np.array([3, 5, 1])}, "30 elements"),
        (node("Transpose", ["x"], ["y"], perm=[0, 2]), [2, 3, 4], {}, "perm"),
        (LAYER_NORM, [2, 4], OTHERS, "'w'"),
        (node("InstanceNormalization", ["x", "w", "w"], ["y"]), [3], OTHERS, "no channels"),
        (node("GroupNormalization", ["x", "w", "w"], ["y"], num_groups=0), [1, 3, 2], OTHERS, "0 group"),
        (node("Conv", ["x", "k"], ["y"]), [1, 2, 8], {"k": np.ones((4, 3, 3), np.float32)}, "group"),
        (node("Conv", ["x", "k"], ["y"], kernel_shape=[2**62]), [1, 3, 8], {"k": np.ones((4, 3, 3), np.float32)},
         "kernel_shape"),
        (node("ConvTranspose", ["x", "k"], ["y"], output_shape=[2], strides=[3]), [1, 1, 65537],
         {"k": np.ones((1, 1, 3), np.float32)}, "would give"),
        (node("Gemm", ["x", "k", "c"], ["y"]), [2, 3], {"k": np.ones((3, 4), np.float32),
         "c": np.ones((1, 1, 4), np.float32)}, "C "),
        (node("ScatterND", ["x", "i", "u"], ["y"], reduction="mi"), [4], {"i": np.array([[1]]), "u": np.float32([1])},
         "'mi'"),
        (node("ScatterND", ["x", "i", "u"], ["y"]), [4], {"i": np.array([[1, 2]]), "u": np.float32([1])}, "indices"),
        (node("MatMul", ["x", "k"], ["y"]), [2, 3], {"k": np.ones((3, 4), np.int64)}, "int64"),
        (node("Add", ["x", ""], ["y"]), [2, 3], {}, "has no name"),
        (node("MaxPool", ["x"], ["y"]), [1, 1, 4], {}, "'kernel_shape' is absent"),
        (node("MaxPool", ["x"], ["y"], kernel_shape=[7]), [1, 1, 4], {}, "too short|would have|fit"),
        (node("Relu", ["x"], ["y"]), [2**16, 2**16], {}, "too large"),
    ],
)  # fmt: skip
def test_operands_that_do_not_fit_are_refused_by_what_is_wrong(made, x, constants, message):
    """Each was an error of Python's own somewhere in the compiler."""
    with pytest.raises(ModelError, match=message):
        compile(model([made], {"x": x}, ["y"], constants, opset=21), mode="whole")


def test_an_attribute_whose_name_is_not_text_is_refused():
    made = model([node("ReduceMin", ["x"], ["y"], keepdims=1)], {"x": [3]}, ["y"]).SerializeToString()
    with pytest.raises(ModelError):
        compile(made.replace(b"keepdims", b"keepdim\xff"), mode="whole")


@pytest.mark.parametrize("axes", [[0, 0], [9], [-9]])
def test_a_scan_along_axes_that_there_are_not_is_refused(axes):
    body = helper.make_graph(
        [node("Add", ["h", "x_t"], ["h_out"]), node("Identity", ["h_out"], ["y_t"])], "body",
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, [2]) for n in ("h", "x_t")],
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, [2]) for n in ("h_out", "y_t")],
    )  # fmt: skip
    scan = node("Scan", ["h0", "x"], ["h_last", "y"], body=body, num_scan_inputs=1, scan_input_axes=axes)
    with pytest.raises(ModelError, match=r"Scan"):
        compile(model([scan], {"h0": [2], "x": [5, 2]}, ["y"]), mode="whole")


def test_an_output_that_is_a_constant_which_a_node_reads_too():
    w = np.arange(3, dtype=np.float32)
    compiled = compile(model([node("Add", ["x", "w"], ["y"])], {"x": [3]}, ["y", "w"], {"w": w}), mode="whole")
    stream = Model(compiled.image).stream()
    result = stream.step(np.ones(3, np.float32))
    np.testing.assert_array_equal(result["y"], 1 + w)
    np.testing.assert_array_equal(result["w"], w)


EMPTY = helper.make_graph([], "none", [], [])


@pytest.mark.parametrize(
    "made, constants, message",
    [
        (node("If", ["c"], ["y"], then_branch=EMPTY, else_branch=EMPTY), {"c": np.array(True)}, "its branch 0"),
        (node("CumSum", ["x", "i"], ["y"]), {"i": np.zeros(0, np.int64)}, r"axis is one number, not \[\]"),
        (node("CumSum", ["x", "i"], ["y"]), {"i": np.array([1, 0])}, r"axis is one number, not \[1, 0\]"),
        (node("Dropout", ["x", "r", "t"], ["y"]), {"r": np.float32([0.5, 1]), "t": np.array(True)}, "one number each"),
        (node("Dropout", ["x", "r", "t"], ["y"]), {"r": np.float32(0.5), "t": np.array([True, False])}, "one number"),
        (node("STFT", ["x", "i"], ["y"]), {"i": np.zeros(0, np.int64)}, "STFT"),
    ],
)
def test_what_contradicts_itself_is_the_models_fault(made, constants, message):
    with pytest.raises(ModelError, match=message):
        compile(model([made], {"x": [1, 4, 8]}, ["y"], constants), mode="whole")


@pytest.mark.parametrize("op", ["Sum", "Mean", "Min", "Max"])
@pytest.mark.parametrize("shapes", [([], [3]), ([2], [2, 2]), ([1, 3], [2, 3])])
def test_operands_that_do_not_broadcast_in_an_old_operator_set(op, shapes):
    source = model([node(op, ["a", "b"], ["y"])], dict(zip("ab", shapes, strict=True)), ["y"], opset=7)
    with pytest.raises(ModelError, match="do not fit each other: operands"):
        compile(source, mode="whole")
