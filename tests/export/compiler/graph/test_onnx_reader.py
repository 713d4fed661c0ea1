"""Reading ONNX: what is understood, and how all else is refused."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from export.graphs import model
from streamgru import Model
from streamgru.errors import ModelError
from streamgru_export.compiler.compile import compile
from streamgru_export.compiler.graph.graph import in_order
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
    with pytest.raises(ModelError, match="no such file"):
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
    with pytest.raises(ModelError, match=r"'x'.*uint8"):
        read(relu(dtypes={"x": TensorProto.UINT8}))


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


# ---- the order of the nodes ----


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
    with pytest.raises(ModelError, match="'branch'.*circle"):
        read(model([*nodes, helper.make_node("Relu", ["z"], ["y"])], {"x": [1]}, ["y"], {"yes": np.array(True)}))


def test_puts_many_nodes_in_order_in_time_that_grows_with_their_number():
    """Each node reads all of a few before it: a walk that looked at them again for every path would never end."""
    wide = [helper.make_node("Sum", [f"v{max(0, i - k)}" for k in (1, 2, 3)], [f"v{i}"]) for i in range(1, 4000)]
    nodes = in_order(read(model([helper.make_node("Relu", ["x"], ["v0"]), *wide], {"x": [1]}, ["v3999"])).nodes[::-1])
    assert [n.outputs[0] for n in nodes] == [f"v{i}" for i in range(4000)]
