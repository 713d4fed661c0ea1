"""Convolutions and transposed ones, against onnxruntime."""

from __future__ import annotations

import numpy as np
import pytest

from export.graphs import assert_close, codes, model, node, onnxruntime, rng, whole
from streamgru.codes import Code
from streamgru_export.compiler.compile import compile


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize(
    "attrs",
    [
        {}, {"strides": [2, 1]}, {"pads": [1, 0, 2, 1]}, {"dilations": [2, 1]}, {"group": 2}, {"group": 4},
        {"strides": [2, 2], "pads": [1, 1, 0, 1], "dilations": [1, 2], "group": 2}, {"auto_pad": "SAME_UPPER"},
        {"auto_pad": "SAME_LOWER", "strides": [2, 2]}, {"auto_pad": "VALID"},
    ],
)  # fmt: skip
def test_convolutions(transposed, attrs):
    r, group = rng(), attrs.get("group", 1)
    shape = (4, 8 // group, 3, 2) if transposed else (8, 4 // group, 3, 2)
    op = "ConvTranspose" if transposed else "Conv"
    constants = {"w": r.normal(size=shape).astype(np.float32), "b": r.normal(size=8).astype(np.float32)}
    source = model([node(op, ["x", "w", "b"], ["y"], **attrs)], {"x": [2, 4, 7, 9]}, ["y"], constants)
    feeds = {"x": r.normal(size=(2, 4, 7, 9)).astype(np.float32)}
    assert_close(whole(compile(source, mode="whole"), feeds), onnxruntime(source, feeds), 1e-5)


@pytest.mark.parametrize("attrs", [{"output_padding": [1], "strides": [2]}, {"output_shape": [14], "strides": [2]}])
def test_transposed_convolution_of_a_given_size(attrs):
    r = rng()
    constants = {"w": r.normal(size=(3, 5, 4)).astype(np.float32)}
    source = model([node("ConvTranspose", ["x", "w"], ["y"], **attrs)], {"x": [1, 3, 7]}, ["y"], constants)
    feeds = {"x": r.normal(size=(1, 3, 7)).astype(np.float32)}
    assert_close(whole(compile(source, mode="whole"), feeds), onnxruntime(source, feeds))


@pytest.mark.parametrize("group", [1, 2])
@pytest.mark.parametrize("attrs", [{}, {"dilations": [2, 3]}])
def test_a_convolution_with_one_position_is_a_product(group, attrs):
    r, size = rng(), [1, 4, 5, 7] if attrs else [1, 4, 3, 3]
    constants = {"w": r.normal(size=(6, 4 // group, 3, 3)).astype(np.float32), "b": r.normal(size=6).astype(np.float32)}
    nodes = [node("Conv", ["x", "w", "b"], ["c"], group=group, **attrs), node("Relu", ["c"], ["y"])]
    source = model(nodes, {"x": size}, ["y"], constants)
    compiled, feeds = compile(source, mode="whole"), {"x": r.normal(size=size).astype(np.float32)}
    assert codes(compiled)[-1] == (Code.AFFINE if group == 1 else Code.CONV)
    assert_close(whole(compiled, feeds), onnxruntime(source, feeds))


def test_a_kernel_may_be_computed():
    r = rng()
    nodes = [node("Exp", ["w"], ["e"]), node("Conv", ["x", "e"], ["y"], pads=[1, 1])]
    source = model(nodes, {"x": [1, 2, 9], "w": [3, 2, 3]}, ["y"])
    feeds = {"x": r.normal(size=(1, 2, 9)).astype(np.float32), "w": r.normal(size=(3, 2, 3)).astype(np.float32)}
    assert_close(whole(compile(source, mode="whole"), feeds), onnxruntime(source, feeds), 1e-5)
