"""Element by element, with broadcasting and over views."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto

from export.graphs import assert_close, codes, model, node, onnxruntime, rng, whole
from streamgru.codes import Code
from streamgru_export.compiler.compile import compile


@pytest.mark.parametrize("shapes", [((3, 4), (4,)), ((3, 1), (1, 4)), ((2, 3, 4), (3, 1)), ((), (2,)), ((1,), (1,))])
@pytest.mark.parametrize("op", ["Add", "Sub", "Mul", "Div", "Pow", "Min", "Max", "Less", "GreaterOrEqual"])
def test_broadcasting(op, shapes):
    r = rng()
    feeds = {k: r.uniform(0.5, 2, s).astype(np.float32) for k, s in zip("ab", shapes, strict=True)}
    dtype = TensorProto.BOOL if op in ("Less", "GreaterOrEqual") else TensorProto.FLOAT
    source = model([node(op, ["a", "b"], ["y"])], {k: v.shape for k, v in feeds.items()}, ["y"], output_dtype=dtype)
    assert_close(whole(compile(source, mode="whole"), feeds), onnxruntime(source, feeds))


def test_operands_may_be_transposed_views():
    r = rng()
    nodes = [node("Transpose", ["a"], ["t"], perm=[1, 0]), node("Add", ["t", "b"], ["y"])]
    feeds = {"a": r.normal(size=(4, 3)).astype(np.float32), "b": r.normal(size=(3, 4)).astype(np.float32)}
    source = model(nodes, {"a": [4, 3], "b": [3, 4]}, ["y"])
    compiled = compile(source, mode="whole")
    assert codes(compiled) == [Code.BINARY]
    assert_close(whole(compiled, feeds), onnxruntime(source, feeds), 0)


def test_subnormal_constants_become_zero():
    source = model([node("Add", ["x", "w"], ["y"])], {"x": [2]}, ["y"], {"w": np.float32([1e-40, 1])})
    got = whole(compile(source, mode="whole"), {"x": np.zeros(2, np.float32)})
    np.testing.assert_array_equal(got["y"], np.float32([0, 1]))
