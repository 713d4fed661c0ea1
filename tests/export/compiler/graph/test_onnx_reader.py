"""Reading ONNX: what is understood, and how all else is refused."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from export.graphs import model
from streamgru.errors import ModelError
from streamgru_export.compiler.graph.onnx_reader import MAX_OPSET, MIN_OPSET, read


def relu(**changes):
    return model([helper.make_node("Relu", ["x"], ["y"], name="r")], {"x": [1, 4]}, ["y"], **changes)


def test_reads_nodes_ports_and_constants():
    constant = helper.make_node("Constant", [], ["c"], value_floats=[1.0, 2.0])
    add = helper.make_node("Add", ["x", "c"], ["y"], name="add")
    graph = read(model([constant, add], {"x": ["B", None]}, ["y"]))
    assert [n.op_type for n in graph.nodes] == ["Add"]
    assert graph.inputs[0].shape == ("B", "x.1")
    np.testing.assert_array_equal(graph.constants["c"], np.float32([1, 2]))


def test_an_initializer_that_is_also_an_input_is_a_constant():
    source = model([helper.make_node("Add", ["x", "w"], ["y"])], {"x": [2], "w": [2]}, ["y"], {"w": np.float32([1, 2])})
    assert [p.name for p in read(source).inputs] == ["x"]


@pytest.mark.parametrize("opset", [MIN_OPSET, MAX_OPSET])
def test_reads_its_range_of_operator_sets(opset):
    assert read(relu(opset=opset)).opset == opset


@pytest.mark.parametrize("opset", [MIN_OPSET - 1, MAX_OPSET + 1])
def test_refuses_other_operator_sets_by_number(opset):
    with pytest.raises(ModelError, match=f"operator set {opset}"):
        read(relu(opset=opset))


@pytest.mark.parametrize("data", [b"", b"not onnx at all", b"\x00" * 100, b"\x08\x07"])
def test_refuses_what_is_no_onnx(data):
    with pytest.raises(ModelError, match="not an ONNX model"):
        read(data)


def test_refuses_every_truncation():
    data = relu().SerializeToString()
    for n in range(len(data)):
        try:
            read(data[:n])
        except ModelError:
            continue
        # A prefix may be a smaller model that is whole; it must then at least have a graph.
        assert onnx.load_model_from_string(data[:n]).graph.output


def test_refuses_a_missing_file(tmp_path):
    with pytest.raises(ModelError, match=r"none\.onnx: cannot be read: No such file"):
        read(tmp_path / "none.onnx")


def test_refuses_an_unknown_attribute_naming_the_node():
    node = helper.make_node("Relu", ["x"], ["y"], name="odd", slope=2.0)
    with pytest.raises(ModelError, match=r"'odd'.*'slope'"):
        read(model([node], {"x": [1]}, ["y"]))


def test_refuses_another_domain_naming_the_node():
    node = helper.make_node("Relu", ["x"], ["y"], name="odd", domain="com.other")
    with pytest.raises(ModelError, match=r"'odd'.*com\.other"):
        read(model([node], {"x": [1]}, ["y"]))


def test_refuses_another_dtype_naming_the_tensor():
    """Bytes are of a quantised model, and what to give instead is said; of other dtypes it is not."""
    with pytest.raises(ModelError, match=r"'x'.*uint8.*A quantised model: give the float model"):
        read(relu(dtypes={"x": TensorProto.UINT8}))
    with pytest.raises(ModelError, match=r"'x'.*string") as error:
        read(relu(dtypes={"x": TensorProto.STRING}))
    assert "quantised" not in str(error.value)


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_other_floats_become_float32_with_a_note(dtype):
    source = model([helper.make_node("Add", ["x", "w"], ["y"])], {"x": [2]}, ["y"], {"w": dtype([1, 2])})
    graph = read(source)
    assert graph.constants["w"].dtype == np.float32
    assert any("float32" in note for note in graph.notes)


def test_refuses_a_huge_tensor_before_reading_it():
    source = relu()
    tensor = source.graph.initializer.add(name="huge", data_type=TensorProto.FLOAT)
    tensor.dims.extend([1 << 40, 1 << 20])
    with pytest.raises(ModelError, match=r"'huge'.*accepted"):
        read(source)


def test_refuses_data_that_does_not_fit_its_shape():
    source = relu()
    source.graph.initializer.append(numpy_helper.from_array(np.zeros(3, np.float32), "w"))
    source.graph.initializer[0].dims[0] = 4
    with pytest.raises(ModelError, match="'w'"):
        read(source)


def test_local_functions_are_inlined():
    function = helper.make_function(
        "local", "twice", ["a"], ["b"], [helper.make_node("Add", ["a", "a"], ["b"])], [helper.make_opsetid("", 17)]
    )
    source = model([helper.make_node("twice", ["x"], ["y"], domain="local")], {"x": [2]}, ["y"])
    source.functions.append(function)
    source.opset_import.append(helper.make_opsetid("local", 1))
    assert [n.op_type for n in read(source).nodes] == ["Add"]


def test_refuses_sparse_weights():
    source = relu()
    sparse = source.graph.sparse_initializer.add(dims=[4])
    sparse.values.CopyFrom(numpy_helper.from_array(np.float32([1]), "w"))
    sparse.indices.CopyFrom(numpy_helper.from_array(np.int64([2])))
    with pytest.raises(ModelError, match="sparse initializers are not supported"):
        read(source)


@pytest.mark.parametrize("again", [helper.make_attribute("axis", 1), helper.make_attribute("axis", [1.0])])
def test_refuses_an_attribute_that_is_there_twice(again):
    """Of one type or of two: one of them would be lost."""
    source = model([helper.make_node("Softmax", ["x"], ["y"], name="soft", axis=0)], {"x": [2, 3]}, ["y"])
    source.graph.node[0].attribute.append(again)
    for _ in range(2):
        with pytest.raises(ModelError, match="Softmax node 'soft': it has an attribute twice"):
            read(source)
        source.graph.node[0].attribute.reverse()


def test_refuses_an_attribute_of_another_type():
    node = helper.make_node("Softmax", ["x"], ["y"], name="odd", axis=1.0)
    with pytest.raises(ModelError, match=r"'odd': attribute 'axis' has another type"):
        read(model([node], {"x": [1, 2]}, ["y"]))


@pytest.mark.parametrize("inputs, outputs", [([], ["y"]), (["x", "x"], ["y"]), (["x"], ["y", "z"])])
def test_refuses_a_node_of_too_few_or_too_many_operands(inputs, outputs):
    node = helper.make_node("Relu", inputs, outputs, name="odd")
    with pytest.raises(ModelError, match=rf"'odd' has {len(inputs)} inputs and {len(outputs)} outputs"):
        read(model([node], {"x": [1]}, ["y"]))


def test_refuses_a_node_without_an_output():
    with pytest.raises(ModelError, match=r"'odd' has no output"):
        read(model([helper.make_node("Relu", ["x"], [""], name="odd")], {"x": [1]}, ["x"]))


@pytest.mark.parametrize("name", [b"a relu", b"a graph"])
def test_a_name_that_is_no_text_is_an_error(name):
    source = model([helper.make_node("Relu", ["x"], ["y"], name="a relu")], {"x": [2]}, ["y"])
    source.graph.name = "a graph"
    data = source.SerializeToString()
    assert data.count(name) == 1
    with pytest.raises(ModelError, match="not UTF-8"):
        read(data.replace(name, name.replace(b" ", b"\x80")))
