"""An inference-time BatchNormalization goes into the product before it, where that changes nothing."""

from __future__ import annotations

import numpy as np
import pytest

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


@pytest.mark.parametrize("op", ["Conv", "ConvTranspose", "Gemm"])
def test_batch_normalization_goes_into_the_product_before_it(op):
    r = rng()
    shape = {"Conv": (6, 2, 3, 3), "ConvTranspose": (4, 3, 3, 3), "Gemm": (4, 6)}[op]
    x = (2, 4) if op == "Gemm" else (1, 4, 5, 6)
    constants = {"w": r.normal(size=shape), "b": r.normal(size=6), "g": r.normal(size=6), "s": r.normal(size=6),
                 "m": r.normal(size=6), "v": r.uniform(0.5, 2, 6)}  # fmt: skip
    attrs = {} if op == "Gemm" else {"group": 2}
    nodes = [node(op, ["x", "w", "b"], ["c"], **attrs), node("BatchNormalization", ["c", "g", "s", "m", "v"], ["n"]),
             node("Relu", ["n"], ["y"])]  # fmt: skip
    source = model(nodes, {"x": x}, ["y"], {k: v.astype(np.float32) for k, v in constants.items()})
    compiled, feeds = compile(source, mode="whole"), {"x": r.normal(size=x).astype(np.float32)}
    assert len(codes(compiled)) == 1
    assert_close(whole(compiled, feeds), onnxruntime(source, feeds), 1e-5)  # the scale moves into the weights
