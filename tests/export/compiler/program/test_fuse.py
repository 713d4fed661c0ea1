"""Biases and activations go into the products before them; what is computed stays the same."""

from __future__ import annotations

import numpy as np

from export.graphs import (
    assert_close,
    codes,
    model,
    node,
    onnxruntime,
    rng,
    whole,
)  # fmt: skip
from streamgru_export.compiler.compile import compile
from streamgru_export.compiler.program.program import Code


def test_a_bias_and_an_activation_go_into_the_product():
    r = rng()
    nodes = [node("MatMul", ["x", "w"], ["m"]), node("Add", ["b", "m"], ["s"]), node("Tanh", ["s"], ["y"])]
    constants = {"w": r.normal(size=(5, 4)).astype(np.float32), "b": r.normal(size=4).astype(np.float32)}
    source = model(nodes, {"x": [1, 3, 5]}, ["y"], constants)
    compiled, feeds = compile(source, mode="whole"), {"x": r.normal(size=(1, 3, 5)).astype(np.float32)}
    assert codes(compiled) == [Code.AFFINE]
    assert_close(whole(compiled, feeds), onnxruntime(source, feeds))
