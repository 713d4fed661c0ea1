"""Values are views until an operator needs them in a row."""

from __future__ import annotations

import numpy as np

from export.graphs import (
    codes,
    model,
    node,
)  # fmt: skip
from streamgru_export.compiler.compile import compile
from streamgru_export.compiler.program.program import Code


def test_views_cost_no_operator():
    nodes = [
        node("Unsqueeze", ["x", "zero"], ["u"]),
        node("Transpose", ["u"], ["t"], perm=[1, 0, 2]),
        node("Squeeze", ["t", "one"], ["s"]),
        node("Reshape", ["s", "shape"], ["r"]),
        node("Relu", ["r"], ["y"]),
    ]
    constants = {"zero": np.array([0]), "one": np.array([1]), "shape": np.array([2, 6])}
    assert codes(compile(model(nodes, {"x": [3, 4]}, ["y"], constants), mode="whole")) == [Code.UNARY]
