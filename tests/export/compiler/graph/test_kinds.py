"""The lists of operators are true by ONNX's own definitions: what they name exists, and does what the list says."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator

from export.graphs import model, node
from streamgru_export.compiler.graph.evaluate import infer
from streamgru_export.compiler.graph.graph import Node, TensorType
from streamgru_export.compiler.graph.kinds import ELEMENTWISE, REDUCTIONS

OPSET = 24  # the newest that is read
LOGICAL = {"And", "Or", "Xor", "Not"}
ATTRIBUTES = {"Cast": {"to": onnx.TensorProto.FLOAT}}
TYPES = {onnx.TensorProto.FLOAT: np.float32, onnx.TensorProto.BOOL: np.bool_}


def operands(op):
    """How many operands an operator takes at least, and of which dtype."""
    count = max(1, onnx.defs.get_schema(op, OPSET, "").min_input)
    dtypes = [np.bool_ if op in LOGICAL or (op == "Where" and i == 0) else np.float32 for i in range(count)]
    return [np.dtype(d) for d in dtypes]


def test_no_operator_stands_twice():
    assert len({*ELEMENTWISE, *REDUCTIONS}) == len(ELEMENTWISE) + len(REDUCTIONS)


@pytest.mark.parametrize("op", [*ELEMENTWISE, *REDUCTIONS])
def test_onnx_has_the_operator(op):
    assert onnx.defs.has(op)
    assert not onnx.defs.get_schema(op, OPSET, "").deprecated


@pytest.mark.parametrize("op", ELEMENTWISE)
def test_an_elementwise_operator_broadcasts_as_numpy_does(op):
    dtypes = operands(op)
    shapes = [(2, 1, 4), (3, 4), (1, 1)][: len(dtypes)] if op != "PRelu" else [(2, 3, 4), (3, 1)]
    if op == "CastLike":
        shapes = [(2, 1, 4), ()]
    names = [f"x{i}" for i in range(len(dtypes))]
    types = {n: TensorType(d, s) for n, d, s in zip(names, dtypes, shapes, strict=True)}
    found = infer(Node(op, "", names, ["y"], ATTRIBUTES.get(op, {})), types, {}, OPSET)["y"]
    assert found.shape == np.broadcast_shapes(*shapes)


@pytest.mark.parametrize("op", ELEMENTWISE)
def test_an_elementwise_operator_gives_each_element_by_itself(op):
    """One element computed alone is that element of the whole, by ONNX's reference."""
    r = np.random.default_rng(3)
    dtypes = operands(op)
    values = {f"x{i}": r.uniform(0.2, 0.9, 12).astype(np.float32) if d == np.float32 else r.random(12) < 0.5
              for i, d in enumerate(dtypes)}  # fmt: skip
    kinds = {n: onnx.helper.np_dtype_to_tensor_dtype(v.dtype) for n, v in values.items()}
    made = node(op, list(values), ["y"], **ATTRIBUTES.get(op, {}))
    source = model([made], {n: [None] for n in values}, ["y"], opset=OPSET, dtypes=kinds)
    run = ReferenceEvaluator(source)
    (together,) = run.run(None, values)
    alone = [run.run(None, {n: v[k : k + 1] for n, v in values.items()})[0] for k in range(12)]
    np.testing.assert_array_equal(np.concatenate(alone), together)


def test_all_reductions_of_onnx_are_listed():
    names = {s.name for s in onnx.defs.get_all_schemas() if s.domain == ""}
    assert {n for n in names if n.startswith("Reduce")} | {"ArgMax", "ArgMin"} == set(REDUCTIONS)


@pytest.mark.parametrize("op", REDUCTIONS)
@pytest.mark.parametrize("opset", [13, OPSET])
def test_a_reduction_takes_its_axes_as_an_attribute_or_as_input_1(op, opset):
    schema = onnx.defs.get_schema(op, opset, "")
    as_input = len(schema.inputs) > 1 and schema.inputs[1].name == "axes"
    assert as_input or schema.attributes.keys() & {"axes", "axis"}
    x = TensorType(np.dtype(np.float32), (2, 3, 4))
    if op in ("ArgMax", "ArgMin"):
        found = infer(Node(op, "", ["x"], ["y"], {"axis": 1, "keepdims": 0}), {"x": x}, {}, opset)
    elif as_input:
        axes = np.array([1])
        types = {"x": x, "axes": TensorType(axes.dtype, axes.shape)}
        found = infer(Node(op, "", ["x", "axes"], ["y"], {"keepdims": 0}), types, {"axes": axes}, opset)
    else:
        found = infer(Node(op, "", ["x"], ["y"], {"axes": [1], "keepdims": 0}), {"x": x}, {}, opset)
    assert found["y"].shape == (2, 4)
