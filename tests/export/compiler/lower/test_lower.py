"""Lowering as a whole: ONNX's own node tests, oddities, inputs and constants that are outputs, what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper

import backend_nodes
from export.graphs import CELLS, assert_close, gru_weights, model, node, onnxruntime, rng, whole
from streamgru.errors import ModelError
from streamgru_export.compiler.compile import compile
from streamgru_export.compiler.lower.lower import LOWER

EXTRA = {*CELLS, "Constant", "Dropout", "Shape", "Size", "If"}


NO_REASON = {
    # The reference rounds to bfloat16 in between; an image computes in float32.
    "test_celu_bfloat16", "test_celu_bfloat16_expanded",
    # Its expected values carry float32 sums of large numbers: they differ from float64 by 5e-5.
    "test_averagepool_2d_ceil_last_window_starts_on_pad",
}  # fmt: skip


def onnx_cases():
    """The node tests that use only operators that can be lowered, of operator sets that are read, on float32,
    int32, int64 and bool tensors."""
    good = (TensorProto.FLOAT, TensorProto.INT64, TensorProto.INT32, TensorProto.BOOL)
    found = []
    for case in backend_nodes.all_cases():
        graph = case.model.graph
        if case.name in NO_REASON or backend_nodes.operators(case) - set(LOWER) - EXTRA:
            continue
        ports = [*graph.input, *graph.output]
        dims = [d.dim_value for p in ports for d in p.type.tensor_type.shape.dim]
        versions = [o.version for o in case.model.opset_import if o.domain in ("", "ai.onnx")]
        known = all(p.type.HasField("tensor_type") and p.type.tensor_type.elem_type in good for p in ports)
        if known and 0 not in dims and 7 <= versions[0] <= 24:
            found.append(case)
    return found


SKIPPED = ("3 spatial dimensions", "training", "sequence", "depends on the data", "cast to float", "Pow of int")


def test_onnx_node_tests():
    """At least 300 of them pass; those refused are refused for a reason listed in SKIPPED."""
    passed, failed, skipped = [], [], []
    for case in onnx_cases():
        try:
            compiled = backend_nodes.compiled(case)
        except ModelError as error:
            (skipped if any(s in str(error) for s in SKIPPED) else failed).append(f"{case.name}: {error}")
            continue
        feeds = backend_nodes.feeds(case)
        wrong = backend_nodes.differences(case, whole(compiled, {n: feeds[n] for n in compiled.inputs}))
        failed += wrong
        passed += [] if wrong else [case.name]
    print(f"{len(passed)} passed, {len(skipped)} skipped")
    assert failed == []
    assert len(passed) >= 300


@pytest.mark.parametrize("op", list(CELLS))
def test_onnx_recurrent_node_tests(op):
    """Six each, layout=1 and sequence_lens included."""
    cases = [c for c in onnx_cases() if c.model.graph.node[0].op_type == op]
    assert len(cases) == 6
    for case in cases:
        names = [p.name for p in case.model.graph.output]
        got = whole(backend_nodes.compiled(case), {"X": backend_nodes.feeds(case)["X"]})
        assert_close(got, dict(zip(names, case.data_sets[0][1], strict=True)))


def test_an_input_that_is_an_output_is_copied():
    compiled = compile(model([node("Relu", ["x"], ["y"])], {"x": [3]}, ["x", "y"]), mode="whole")
    feeds = {"x": np.float32([-1, 0, 2])}
    assert_close(whole(compiled, feeds), {"x": feeds["x"], "y": np.float32([0, 0, 2])}, 0)


def test_constants_that_are_outputs_are_given():
    nodes = [node("Add", ["x", "w"], ["y"]), node("Neg", ["w"], ["z"])]
    compiled = compile(model(nodes, {"x": [2]}, ["y", "z"], {"w": np.float32([1, 2])}), mode="whole")
    got = whole(compiled, {"x": np.float32([1, 1])})
    assert_close(got, {"y": np.float32([2, 3]), "z": np.float32([-1, -2])}, 0)


@pytest.mark.parametrize("op, dtype", [("Sqrt", TensorProto.INT64), ("MatMul", TensorProto.INT32)])
def test_dtypes_that_no_operator_has_are_refused_by_node(op, dtype):
    inputs = ["x", "x"] if op == "MatMul" else ["x"]
    source = model([node(op, inputs, ["y"])], {"x": [2, 2]}, ["y"], dtypes={"x": dtype, "y": dtype})
    with pytest.raises(ModelError, match=f"{op}_y"):
        compile(source, mode="whole")


def test_an_unsupported_operator_is_refused_by_node():
    with pytest.raises(ModelError, match=r"'Det_y'.*Det is not supported"):
        compile(model([node("Det", ["x"], ["y"])], {"x": [2, 2]}, ["y"]), mode="whole")


@pytest.mark.parametrize("options", [{}, {"mode": "whole", "length": 3}], ids=["stream", "whole"])
@pytest.mark.parametrize(
    "op, outputs, message",
    [("Hardmax", ["y"], "Hardmax is not supported"), ("RandomNormalLike", ["y"], "it is random"),
     ("Multinomial", ["y"], "it is random"), ("DynamicQuantizeLinear", ["y", "s", "z"], "A quantised model")],
)  # fmt: skip
def test_what_nothing_can_run_is_not_said_to_run_whole(op, outputs, message, options):
    nodes = [node("GRU", ["x", "W", "R", "B"], ["g"], hidden_size=4), node("Reshape", ["g", "to"], ["rows"]),
             node(op, ["rows"], outputs)]  # fmt: skip
    weights = gru_weights(rng(), 3, 4) | {"to": np.array([-1, 4])}
    with pytest.raises(ModelError, match=f"{op}_y.*{message}") as raised:
        compile(model(nodes, {"x": ["T", 1, 3]}, outputs[:1], weights), **options)
    assert "run whole" not in str(raised.value)


NUMBERS = np.array([[3, -7, 0], [5, 1 << 40, -2]], np.int64)


TRUTHS = np.array([[True, False, True], [False, False, True]])


ROWS = np.linspace(-2, 2, 12, dtype=np.float32).reshape(2, 3, 2)


CHANNELS = np.array([0.5, -1, 2], np.float32)


ODDITIES = {
    "Relu of integers": (node("Relu", ["x"], ["y"]), {"x": NUMBERS.astype(np.int32)}, {}, 17),
    "Sign of integers": (node("Sign", ["x"], ["y"]), {"x": NUMBERS}, {}, 17),
    "the square of integers": (node("Pow", ["x", "two"], ["y"]), {"x": NUMBERS % 1000}, {"two": np.array(2)}, 17),
    "ArgMax of integers": (node("ArgMax", ["x"], ["y"], axis=1), {"x": NUMBERS}, {}, 17),
    "ReduceMax of bool": (node("ReduceMax", ["x", "one"], ["y"]), {"x": TRUTHS}, {"one": np.array([1])}, 20),
    "ReduceMin of bool": (node("ReduceMin", ["x", "one"], ["y"], keepdims=0), {"x": TRUTHS},
                          {"one": np.array([1])}, 20),
    "a Pad of a computed value": (node("Pad", ["x", "pads", "v"], ["y"]), {"x": ROWS, "v": np.array(0.25, np.float32)},
                                  {"pads": np.array([0, 1, 0, 2, 0, 1])}, 17),
    "a computed scale": (node("InstanceNormalization", ["x", "s", "b"], ["y"]),
                         {"x": ROWS, "s": CHANNELS, "b": 2 * CHANNELS}, {}, 17),
    "GreaterOrEqual of old": (node("GreaterOrEqual", ["x", "z"], ["y"]), {"x": NUMBERS, "z": NUMBERS[:1]}, {}, 12),
}  # fmt: skip


@pytest.mark.parametrize("name", list(ODDITIES))
def test_what_is_seldom_met_agrees_with_onnxruntime(name):
    made, feeds, constants, opset = ODDITIES[name]
    kinds = {n: helper.np_dtype_to_tensor_dtype(v.dtype) for n, v in feeds.items()}
    if made.op_type in ("Sign", "Pow", "ArgMax"):
        kinds["y"] = TensorProto.INT64
    elif made.op_type == "Relu":
        kinds["y"] = TensorProto.INT32
    elif made.op_type in ("ReduceMax", "ReduceMin", "GreaterOrEqual"):
        kinds["y"] = TensorProto.BOOL
    source = model([made], {n: v.shape for n, v in feeds.items()}, ["y"], constants, opset=opset, dtypes=kinds)
    assert_close(whole(compile(source, mode="whole"), feeds), onnxruntime(source, feeds))
