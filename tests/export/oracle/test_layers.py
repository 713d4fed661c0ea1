"""The layers that onnx's evaluator gets wrong, against onnxruntime and ONNX's own expected values."""

from __future__ import annotations

import importlib
import warnings

import numpy as np
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper
from onnx.backend.test.case import node as node_cases

from streamgru_export.oracle.layers import batch_normalization, conv_transpose
from streamgru_export.oracle.model import Float64Model

SEED = 3
SINGLE = 1e-5  # float64 against onnxruntime's float32: sums of up to some hundred products of size 1
PUBLISHED = 1e-5  # expected values in float32, up to 100 in size


@pytest.fixture
def rng():
    print(f"seed {SEED}")
    return np.random.default_rng(SEED)


def run_both(op, arrays, opset, **attributes):
    """The oracle's and onnxruntime's answer to one node."""
    names = [f"i{k}" for k in range(len(arrays))]
    feeds = {name: array.astype(np.float32) for name, array in zip(names, arrays, strict=True)}
    infos = [helper.make_tensor_value_info(n, TensorProto.FLOAT, v.shape) for n, v in feeds.items()]
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph([helper.make_node(op, names, ["y"], **attributes)], "g", infos, [y])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return Float64Model(model).run(feeds)["y"], session.run(None, feeds)[0]


def published_cases():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in ("convtranspose", "batch_normalization"):
            importlib.import_module(f"onnx.backend.test.case.node.{name}")
    wanted = ("ConvTranspose", "BatchNormalization")
    cases = [c for c in node_cases._NodeTestCases if c.model.graph.node[0].op_type in wanted]
    return [c for c in cases if "training" not in c.name]


@pytest.mark.parametrize("case", published_cases(), ids=lambda case: case.name)
def test_published_node_tests(case):
    names = [value.name for value in case.model.graph.input]
    for inputs, outputs in case.data_sets:
        (actual,) = Float64Model(case.model).run(dict(zip(names, inputs, strict=True))).values()
        np.testing.assert_allclose(actual, outputs[0], rtol=0, atol=PUBLISHED)


@pytest.mark.parametrize(
    "attributes",
    [
        {},
        {"group": 2},
        {"group": 4, "strides": [2, 3], "pads": [1, 0, 2, 1]},
        {"group": 2, "dilations": [2, 2], "strides": [1, 2]},
        {"strides": [2, 2], "output_padding": [1, 1]},
        {"strides": [3, 2], "auto_pad": "SAME_UPPER"},
        {"strides": [3, 2], "auto_pad": "SAME_LOWER"},
        {"strides": [2, 2], "output_shape": [9, 11]},
    ],
    ids=str,
)
def test_conv_transpose_is_onnxruntimes(attributes, rng):
    group = attributes.get("group", 1)
    x = rng.standard_normal((2, 4, 5, 6))
    w, b = rng.standard_normal((4, 3, 3, 2)), rng.standard_normal(3 * group)
    actual, expected = run_both("ConvTranspose", [x, w, b], 11, **attributes)
    assert actual.shape == expected.shape
    np.testing.assert_allclose(actual, expected, rtol=0, atol=SINGLE)


def test_conv_transpose_refuses_a_wrong_kernel_shape():
    with pytest.raises(ValueError, match="kernel_shape"):
        conv_transpose(np.zeros((1, 1, 4)), np.zeros((1, 1, 3)), kernel_shape=[2])


@pytest.mark.parametrize("opset", [7, 9, 11, 14, 15])
def test_batch_normalization_is_onnxruntimes(opset, rng):
    # onnx's evaluator disagrees at opsets 9 to 13: it blends in the statistics of the batch. ONNX: with one
    # output, the node is in test mode and uses mean and var as they are.
    x = rng.standard_normal((2, 3, 4, 5))
    scale, b, mean = rng.standard_normal((3, 3))
    var = rng.uniform(0.1, 2, 3)
    actual, expected = run_both("BatchNormalization", [x, scale, b, mean, var], opset, epsilon=1e-3)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=SINGLE)


def test_batch_normalization_refuses_training():
    with pytest.raises(ValueError, match="eval"):
        batch_normalization(*np.ones((5, 1, 1)), training=True)


@pytest.mark.parametrize("op", ["Softmax", "LogSoftmax"])
@pytest.mark.parametrize("opset", [7, 11, 12, 13])
@pytest.mark.parametrize("axis", [None, 0, 1, 2, -1])
def test_softmax_of_every_operator_set_is_onnxruntimes(op, opset, axis, rng):
    attributes = {} if axis is None else {"axis": axis}
    actual, expected = run_both(op, [rng.standard_normal((2, 3, 4))], opset, **attributes)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=SINGLE)
