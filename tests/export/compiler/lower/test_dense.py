"""Products: Gemm and MatMul of constants and of computed values, and what goes into them."""

from __future__ import annotations

import numpy as np
import pytest

from export.graphs import assert_close, model, node, onnxruntime, rng, whole
from streamgru_export.compiler.compile import compile


@pytest.mark.parametrize("alpha", [1.0, 0.5])
@pytest.mark.parametrize("beta", [1.0, -2.0, 0.0])
@pytest.mark.parametrize("trans", [(0, 0), (0, 1), (1, 0), (1, 1)])
@pytest.mark.parametrize("c", [None, (), (1,), (4,), (1, 4), (3, 1), (3, 4)])
@pytest.mark.parametrize("computed", [False, True])
def test_gemm(alpha, beta, trans, c, computed):
    r = rng()
    a, b = ((5, 3) if trans[0] else (3, 5)), ((4, 5) if trans[1] else (5, 4))
    values = {"b": r.normal(size=b).astype(np.float32)}
    if c is not None:
        values["c"] = r.normal(size=c).astype(np.float32)
    gemm = node("Gemm", ["a", *values], ["y"], alpha=alpha, beta=beta, transA=trans[0], transB=trans[1])
    feeds = {"a": r.normal(size=a).astype(np.float32)} | (values if computed else {})
    shapes = {k: v.shape for k, v in feeds.items()}
    source = model([gemm], shapes, ["y"], {} if computed else values)
    assert_close(whole(compile(source, mode="whole"), feeds), onnxruntime(source, feeds))


@pytest.mark.parametrize(
    "a, b",
    [((5,), (5, 4)), ((3, 5), (5,)), ((3, 5), (5, 4)), ((2, 3, 5), (5, 4)), ((2, 3, 5), (2, 5, 4)),
     ((2, 1, 3, 5), (7, 5, 4)), ((1, 5), (6, 5, 4)), ((5,), (5,)), ((4, 5), (2, 5, 1))],
)  # fmt: skip
@pytest.mark.parametrize("constant", ["", "a", "b"])
def test_matmul(a, b, constant):
    r = rng()
    values = {"a": r.normal(size=a).astype(np.float32), "b": r.normal(size=b).astype(np.float32)}
    feeds = {k: v for k, v in values.items() if k != constant}
    fixed = {k: v for k, v in values.items() if k == constant}
    source = model([node("MatMul", ["a", "b"], ["y"])], {k: v.shape for k, v in feeds.items()}, ["y"], fixed)
    assert_close(whole(compile(source, mode="whole"), feeds), onnxruntime(source, feeds))


def test_a_product_that_is_also_read_elsewhere_keeps_its_value():
    r = rng()
    nodes = [node("MatMul", ["x", "w"], ["m"]), node("Relu", ["m"], ["y"]), node("Neg", ["m"], ["z"])]
    source = model(nodes, {"x": [3, 5]}, ["y", "z"], {"w": r.normal(size=(5, 4)).astype(np.float32)})
    feeds = {"x": r.normal(size=(3, 5)).astype(np.float32)}
    assert_close(whole(compile(source, mode="whole"), feeds), onnxruntime(source, feeds))
