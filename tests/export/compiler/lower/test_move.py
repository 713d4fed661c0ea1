"""Moving data gives the very elements that onnxruntime gives."""

from __future__ import annotations

import numpy as np
import pytest

from export.graphs import assert_close, model, node, onnxruntime, rng, whole
from streamgru_export.compiler.compile import compile

MOVES = {
    "pad": ([node("Pad", ["x", "p", "v"], ["y"])], {"p": np.array([0, 1, 0, 2, 0, 1]), "v": np.float32(3)}),
    "crop": ([node("Pad", ["x", "p"], ["y"])], {"p": np.array([0, -1, 1, 0, -1, 0])}),
    "reflect": ([node("Pad", ["x", "p"], ["y"], mode="reflect")], {"p": np.array([0, 2, 1, 0, 1, 1])}),
    "flip": (
        [node("Slice", ["x", "s", "e", "a", "t"], ["y"])],
        {"s": np.array([-1]), "e": np.array([-99]), "a": np.array([1]), "t": np.array([-2])},
    ),
    "split": ([node("Split", ["x", "s"], ["a", "b"], axis=1), node("Concat", ["b", "a"], ["y"], axis=1)],
              {"s": np.array([1, 3])}),
    "gather even": ([node("Gather", ["x", "i"], ["y"], axis=1)], {"i": np.array([[0, 1], [1, 2], [2, 3]])}),
    "gather odd": ([node("Gather", ["x", "i"], ["y"], axis=1)], {"i": np.array([0, 3, -3])}),
    "tile": ([node("Tile", ["x", "r"], ["y"])], {"r": np.array([2, 1, 3])}),
    "expand": ([node("Transpose", ["x"], ["t"], perm=[1, 2, 0]), node("Reshape", ["t", "s"], ["u"]),
                node("Expand", ["u", "e"], ["y"])], {"s": np.array([4, 1, 10]), "e": np.array([1, 3, 1])}),
    "scatter": (
        [node("ScatterND", ["x", "i", "u"], ["y"])],
        {"i": np.array([[[1, 0], [1, 1]]]), "u": np.ones((1, 2, 5), np.float32)},
    ),
    "scatter odd": (
        [node("ScatterND", ["x", "i", "u"], ["y"])],
        {"i": np.array([[0, 3], [1, 1], [0, 0]]), "u": np.ones((3, 5), np.float32)},
    ),
    "reshape of a transpose": ([node("Transpose", ["x"], ["t"], perm=[0, 2, 1]), node("Reshape", ["t", "s"], ["y"])],
                               {"s": np.array([-1, 4])}),
    "part of a concat": (
        [node("Concat", ["x", "x"], ["c"], axis=0), node("Gather", ["c", "i"], ["y"], axis=0)], {"i": np.array(3)}
    ),
    "depth to space": ([node("Reshape", ["x", "s"], ["r"]), node("DepthToSpace", ["r"], ["y"], blocksize=2)],
                       {"s": np.array([1, 4, 2, 5])}),
}  # fmt: skip


@pytest.mark.parametrize("case", list(MOVES))
def test_moving_data(case):
    nodes, constants = MOVES[case]
    source = model(nodes, {"x": [2, 4, 5]}, ["y"], constants)
    feeds = {"x": rng().normal(size=(2, 4, 5)).astype(np.float32)}
    assert_close(whole(compile(source, mode="whole"), feeds), onnxruntime(source, feeds), 0)
