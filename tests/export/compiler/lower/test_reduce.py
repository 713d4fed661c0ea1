"""Reductions and normalisations, against float64 NumPy and onnxruntime."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto

import streamgru
from export.graphs import FLOAT, assert_close, model, node, onnxruntime, rng, whole
from streamgru.errors import ModelError
from streamgru_export.compiler.compile import compile


def run(source, feeds):
    """One run of the image in the C runtime."""
    compiled = compile(source, mode="whole", length=1)
    stream = streamgru.Model(compiled.image).stream()
    result = stream.step(feeds if len(feeds) > 1 else next(iter(feeds.values())))
    return result if isinstance(result, dict) else {next(iter(compiled.outputs)): result}


@pytest.mark.parametrize("op", ["ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd"])
@pytest.mark.parametrize("dtype", [np.int64, np.int32])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_reductions_of_integers(op, dtype, axis):
    r = rng()
    x = r.integers(1, 9, (3, 4, 5)).astype(dtype)  # positive, so that a mean's truncation has one meaning
    onnx_type = TensorProto.INT64 if dtype is np.int64 else TensorProto.INT32
    nodes, constants = [node(op, ["x", "a"], ["y"], keepdims=0)], {"a": np.array([axis])}
    source = model(nodes, {"x": x.shape}, ["y"], constants, 18, {"x": onnx_type, "y": onnx_type})
    got = run(source, {"x": x})["y"]
    exact = {"ReduceSum": np.sum, "ReduceMax": np.max, "ReduceMin": np.min, "ReduceProd": np.prod}
    expected = x.sum(axis) // x.shape[axis] if op == "ReduceMean" else exact[op](x, axis)
    assert got.dtype == dtype
    np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("op", ["ReduceL2", "ReduceLogSumExp"])
def test_a_reduction_that_integers_do_not_have_is_refused_by_name(op):
    source = model([node(op, ["x", "a"], ["y"])], {"x": [3, 4]}, ["y"], {"a": np.array([1])}, 18,
                   dict.fromkeys("xy", TensorProto.INT64))  # fmt: skip
    with pytest.raises(ModelError, match=f"{op}_y.*int64"):
        compile(source, mode="whole")


def test_a_sum_along_integers_so_far():
    source = model([node("CumSum", ["x", "a"], ["y"])], {"x": [3, 4]}, ["y"], {"a": np.array(1)}, 17,
                   dict.fromkeys("xy", TensorProto.INT64))  # fmt: skip
    x = rng().integers(-9, 9, (3, 4))
    np.testing.assert_array_equal(run(source, {"x": x})["y"], np.cumsum(x, 1))


@pytest.mark.parametrize("axis", [-1, 1])
@pytest.mark.parametrize("outputs", [["y", "mean", "inv"], ["y", "mean"], ["y", "", "inv"]])
def test_the_statistics_of_layer_normalization(axis, outputs):
    r = rng()
    x = r.normal(0.5, 2, (2, 3, 8)).astype(np.float32)
    shape = x.shape[axis:]
    constants = {"g": r.normal(size=shape).astype(np.float32), "b": r.normal(size=shape).astype(np.float32)}
    layer = node("LayerNormalization", ["x", "g", "b"], outputs, axis=axis, epsilon=1e-3)
    source = model([layer], {"x": x.shape}, [o for o in outputs if o], constants)
    got, wide, axes = run(source, {"x": x}), x.astype(np.float64), tuple(range(axis % 3, 3))
    mean, inv = wide.mean(axes, keepdims=True), 1 / np.sqrt(wide.var(axes, keepdims=True) + 1e-3)
    expected = {"y": (wide - mean) * inv * constants["g"] + constants["b"], "mean": mean, "inv": inv}
    assert_close(got, {n: expected[n] for n in outputs if n}, FLOAT)
    if "" not in outputs:
        assert_close(got, onnxruntime(source, {"x": x}), FLOAT)


@pytest.mark.parametrize("shape", [(2, 3, 8), (1, 4, 3, 5)])
def test_instance_normalization(shape):
    r = rng()
    x = r.normal(0.5, 2, shape).astype(np.float32)
    constants = {"s": r.normal(size=shape[1]).astype(np.float32), "b": r.normal(size=shape[1]).astype(np.float32)}
    source = model([node("InstanceNormalization", ["x", "s", "b"], ["y"])], {"x": shape}, ["y"], constants)
    assert_close(run(source, {"x": x}), onnxruntime(source, {"x": x}), FLOAT)


ROWS = np.linspace(-2, 2, 12, dtype=np.float32).reshape(2, 3, 2)


@pytest.mark.parametrize("op, function", [("ReduceL1", np.abs), ("ReduceL2", np.abs), ("ReduceSumSquare", np.square)])
def test_a_reduction_over_no_axes_still_computes(op, function):
    """ONNX: "composite-reduction operators will still perform the non-reduction steps"."""
    source = model([node(op, ["x"], ["y"], noop_with_empty_axes=1)], {"x": ROWS.shape}, ["y"], opset=18)
    got = whole(compile(source, mode="whole"), {"x": ROWS})["y"]
    np.testing.assert_allclose(got, function(ROWS), rtol=FLOAT, atol=FLOAT)
