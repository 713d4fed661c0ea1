"""The operators of the oracle that replace onnx's, at every opset, against onnxruntime, and all in float64."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from onnx import TensorProto, helper

from export.oracle.small import assert_alike, both, graph, info, model, rng
from streamgru.errors import ModelError
from streamgru_export.oracle.model import Float64Model

node = helper.make_node
EXACT = 1e-14  # float64 against float64


def one(op, arrays, opset, **attributes):
    """One node over these arrays, None for an absent one; its integers are constants."""
    names = ["" if array is None else f"i{k}" for k, array in enumerate(arrays)]
    given = {n: np.asarray(a) for n, a in zip(names, arrays, strict=True) if a is not None}
    feeds = {n: a.astype(np.float32) for n, a in given.items() if a.dtype.kind == "f" and a.ndim}
    constants = {n: np.float32(a) if a.dtype.kind == "f" else a for n, a in given.items() if n not in feeds}
    return both([node(op, names, ["y"], **attributes)], feeds, {"y": "f"}, constants, opset)


@pytest.mark.parametrize("op", ["Softmax", "LogSoftmax"])
@pytest.mark.parametrize(
    "opset, axis",
    [*itertools.product([7, 11, 12, 13, 17], [None, 0, 1, 2]), (11, -2), (12, -2), (13, -2)],  # none below 0 before 11
)
def test_softmax_flattens_below_opset_13(op, opset, axis):
    attributes = {} if axis is None else {"axis": axis}
    assert_alike(one(op, [rng().standard_normal((2, 3, 4))], opset, **attributes))


def test_log_softmax_and_softmax_of_large_numbers():
    x = np.float32([[1000, 0], [-1000, -1001]])
    assert_alike(one("LogSoftmax", [x], 13))
    assert_alike(one("Softmax", [x], 13))


@pytest.mark.parametrize("approximate", ["none", "tanh"])
def test_gelu_is_onnxruntimes(approximate):
    assert_alike(one("Gelu", [np.linspace(-5, 5, 41)], 20, approximate=approximate))


@pytest.mark.parametrize("opset", [18, 21])
def test_group_normalization_is_onnxruntimes(opset):
    r = rng()
    size = 2 if opset == 18 else 6
    arrays = [r.standard_normal((2, 6, 5)), r.standard_normal(size), r.standard_normal(size)]
    assert_alike(one("GroupNormalization", arrays, opset, num_groups=2, epsilon=1e-2), 5e-6)  # float32 sums in between


@pytest.mark.parametrize(
    "mode, opset",
    [*itertools.product(["constant", "edge", "reflect"], [7, 11, 13, 18, 21]), ("wrap", 19), ("wrap", 21)],
)
@pytest.mark.parametrize("pads", [[1, 2, 0, 3], [2, 0, 0, 1], [-1, 2, 0, -1], [0, -2, -1, 1]])
def test_pad_is_onnxruntimes(mode, pads, opset):
    x = rng().standard_normal((4, 5))
    if opset < 11:
        assert_alike(one("Pad", [x], opset, mode=mode, pads=pads, value=7.0))
    else:
        assert_alike(one("Pad", [x, np.array(pads), np.array(7.0)], opset, mode=mode))


@pytest.mark.parametrize("axes, pads", [([1], [2, 1]), ([-1], [1, -1]), ([1, 0], [1, 0, 2, 3])])
def test_pad_of_some_axes_is_onnxruntimes(axes, pads):
    assert_alike(one("Pad", [rng().standard_normal((4, 5)), np.array(pads), None, np.array(axes)], 18, mode="edge"))


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_gather_elements_may_cover_a_part(axis):
    assert_alike(one("GatherElements", [rng().standard_normal((3, 4)), np.array([[0, -1], [2, 1]])], 13, axis=axis))


@pytest.mark.parametrize(
    "op, opset", [("Scatter", 9), ("Scatter", 10), ("ScatterElements", 11), ("ScatterElements", 18)]
)
@pytest.mark.parametrize("axis", [0, 1])
def test_scatter_is_onnxruntimes(op, opset, axis):
    r = rng()
    indices = np.array([[0, 1], [2, 0]])
    assert_alike(one(op, [r.standard_normal((3, 4)), indices, r.standard_normal((2, 2))], opset, axis=axis))


@pytest.mark.parametrize(
    "opset, reductions",
    [(11, [None]), (16, [None, "none", "add", "mul"]), (18, ["add", "mul", "min", "max"])],
)
@pytest.mark.parametrize(
    "indices, updates",
    [([[1], [-1]], (2, 3, 2)), ([[[1, 0], [2, -1]]], (1, 2, 2)), ([[3, 2, 1]], (1,)), ([[1, 0], [1, 1]], (2, 2))],
    ids=["rows", "of two axes", "one element", "side by side"],
)
def test_scatter_nd_is_onnxruntimes(opset, reductions, indices, updates):
    r = rng()
    arrays = [r.standard_normal((4, 3, 2)), np.array(indices), r.standard_normal(updates)]
    for reduction in reductions:
        assert_alike(one("ScatterND", arrays, opset, **({} if reduction is None else {"reduction": reduction})))


@pytest.mark.parametrize("reduction", ["add", "mul", "min", "max"])
def test_scatter_nd_meets_an_element_twice(reduction):
    r = rng()
    arrays = [r.standard_normal((4, 3)), np.array([[1], [1], [2]]), r.standard_normal((3, 3))]
    assert_alike(one("ScatterND", arrays, 18, reduction=reduction))


def random_pools(count):
    """Shapes and attributes that ONNX allows, seeded; ceil_mode, dilations and auto_pad without dilations."""
    r = np.random.default_rng(5)
    for _ in range(count):
        rank = int(r.integers(1, 3))
        kernel = r.integers(1, 5, rank)
        given = {"kernel_shape": kernel.tolist(), "ceil_mode": int(r.integers(0, 2))}
        given["strides"] = r.integers(1, 4, rank).tolist()
        how = int(r.integers(0, 3))
        if how == 0:
            given["pads"] = r.integers(0, np.concatenate([kernel, kernel])).tolist()
            given["dilations"] = r.integers(1, 3, rank).tolist()
        elif how == 1 and np.all(kernel >= given["strides"]):  # else onnxruntime finds a negative pad
            given["auto_pad"] = ["SAME_UPPER", "SAME_LOWER", "VALID"][int(r.integers(0, 3))]
        yield (1, 2, *r.integers(8, 11, rank).tolist()), given


@pytest.mark.parametrize("op", ["MaxPool", "AveragePool"])
def test_random_pools_are_onnxruntimes(op):
    r = rng()
    for k, (shape, given) in enumerate(random_pools(60)):
        if op == "AveragePool":
            given["count_include_pad"] = k % 2
        print(shape, given)
        assert_alike(one(op, [r.standard_normal(shape)], 22 if op == "AveragePool" else 12, **given))


@pytest.mark.parametrize("storage_order", [0, 1])
def test_the_indices_of_a_pool_are_onnxruntimes(storage_order):
    pool = node("MaxPool", ["x"], ["y", "i"], kernel_shape=[3, 2], pads=[1, 1, 1, 0], storage_order=storage_order)
    x = rng().standard_normal((2, 3, 6, 5)).astype(np.float32)
    assert_alike(both([pool], {"x": x}, {"y": "f", "i": "i"}))


def test_a_window_that_does_not_fit_is_refused():
    made = model(graph([node("MaxPool", ["x"], ["y"], kernel_shape=[5])], [info("x", None)], [info("y", None)]))
    with pytest.raises(ModelError, match="does not fit"):
        Float64Model(made).run({"x": np.zeros((1, 1, 4))})


def gelu(x):
    return x / 2 * (1 + math.erf(x / math.sqrt(2)))


@pytest.mark.parametrize(
    "op, opset, attributes, function",
    [
        ("Erf", 13, {}, math.erf),
        ("Gelu", 20, {}, gelu),
        (
            "Gelu",
            20,
            {"approximate": "tanh"},
            lambda x: x / 2 * (1 + math.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
        ),
        ("HardSwish", 14, {}, lambda x: x * min(1.0, max(0.0, x / 6 + 1 / 2))),
        ("Mish", 18, {}, lambda x: x * math.tanh(math.log1p(math.exp(x)))),
        ("Swish", 24, {}, lambda x: x / (1 + math.exp(-x))),
        ("Softplus", 7, {}, lambda x: math.log1p(math.exp(x))),
        ("Sigmoid", 7, {}, lambda x: 1 / (1 + math.exp(-x))),
        ("Softsign", 7, {}, lambda x: x / (1 + abs(x))),
        ("Tanh", 7, {}, math.tanh),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_functions_are_in_float64_with_constants_in_float64(op, opset, attributes, function):
    x = np.linspace(-4, 4, 33)
    made = model(graph([node(op, ["x"], ["y"], **attributes)], [info("x", None)], [info("y", None)]), opset)
    expected = np.array([function(value) for value in x])
    np.testing.assert_allclose(Float64Model(made).run({"x": x})["y"], expected, rtol=0, atol=EXACT)


def normal(x, axes):
    return (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + 0.5)


NORMALIZATIONS = {
    "LayerNormalization": (17, {"axis": 1}, (3, 4), lambda x, s, b: normal(x, (1, 2)) * s + b),
    "InstanceNormalization": (7, {}, (3,), lambda x, s, b: normal(x, 2) * s[:, None] + b[:, None]),
    "GroupNormalization": (21, {"num_groups": 1}, (3,), lambda x, s, b: normal(x, (1, 2)) * s[:, None] + b[:, None]),
}


@pytest.mark.parametrize("op", NORMALIZATIONS)
def test_normalizations_are_in_float64(op):
    opset, attributes, shape, function = NORMALIZATIONS[op]
    r = rng()
    feeds = {"x": r.standard_normal((2, 3, 4)), "s": r.standard_normal(shape), "b": r.standard_normal(shape)}
    layer = node(op, list(feeds), ["y"], epsilon=0.5, **attributes)
    made = model(graph([layer], [info(name, None) for name in feeds], [info("y", None)]), opset)
    np.testing.assert_allclose(Float64Model(made).run(feeds)["y"], function(*feeds.values()), rtol=0, atol=EXACT)


def test_a_dropout_that_trains_is_refused():
    # It is random: there is nothing to compare with.
    constants = {"ratio": np.float32(0.5), "training": np.array(True)}
    made = model(graph([node("Dropout", ["x", *constants], ["y"])], [info("x", None)], [info("y", None)], constants))
    with pytest.raises(ModelError, match="training"):
        Float64Model(made).run({"x": np.ones(8)})


@pytest.mark.parametrize("opset, inputs", [(7, 1), (12, 1), (13, 2), (22, 3)])
def test_a_dropout_that_does_not_train_does_nothing(opset, inputs):
    constants = {"ratio": np.float32(0.5), "training": np.array(False)}
    used = dict(list(constants.items())[: inputs - 1])
    drop = node("Dropout", ["x", *used], ["y", "mask"])
    outputs = [info("y", None), helper.make_tensor_value_info("mask", TensorProto.BOOL, None)]
    made = model(graph([drop], [info("x", None)], outputs, used), opset)
    x = rng().standard_normal(8)
    found = Float64Model(made).run({"x": x})
    np.testing.assert_array_equal(found["y"], x)
    assert found["mask"].all()
