"""Graphs over whole sequences, for the tests of `Model.run`, `WholeModel` and `InferenceSession`."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from export.graphs import gru_weights, model

SEED = 11
F, H = 5, 8


def node(op: str, inputs: list[str], outputs: list[str], **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(op, inputs, outputs, name=f"the_{op.lower()}_{outputs[0]}", **attributes)


def recurrent(
    direction: str = "forward", *, batch_first: bool = False, batch: int | str | None = "batch"
) -> onnx.ModelProto:
    """X -> Y over a dynamic time axis, and Y_h, what is known at the end of it."""
    weights = gru_weights(np.random.default_rng(SEED), F, H, 2 if direction == "bidirectional" else 1)
    attributes = {"hidden_size": H, "linear_before_reset": 1, "direction": direction}
    if not batch_first:
        nodes = [node("GRU", ["X", "W", "R", "B"], ["Y", "Y_h"], **attributes)]
        return model(nodes, {"X": ["time", batch, F]}, ["Y", "Y_h"], weights)
    nodes = [
        node("Transpose", ["X"], ["x"], perm=[1, 0, 2]),
        node("GRU", ["x", "W", "R", "B"], ["y", "Y_h"], **attributes),
        node("Transpose", ["y"], ["Y"], perm=[2, 0, 1, 3]),
    ]
    return model(nodes, {"X": [batch, "time", F]}, ["Y", "Y_h"], weights)


def attention() -> onnx.ModelProto:
    """Every frame looks at every other: softmax(h hᵀ) h, batch first."""
    nodes = [
        node("Transpose", ["X"], ["x"], perm=[1, 0, 2]),
        node("GRU", ["x", "W", "R", "B"], ["y"], hidden_size=H, linear_before_reset=1),
        node("Squeeze", ["y", "one"], ["s"]),
        node("Transpose", ["s"], ["h"], perm=[1, 0, 2]),
        node("Transpose", ["h"], ["t"], perm=[0, 2, 1]),
        node("MatMul", ["h", "t"], ["scores"]),
        node("Softmax", ["scores"], ["a"], axis=-1),
        node("MatMul", ["a", "h"], ["Y"]),
    ]
    weights = {**gru_weights(np.random.default_rng(SEED), F, H), "one": np.array([1])}
    return model(nodes, {"X": ["batch", "time", F]}, ["Y"], weights)


def conditioned() -> onnx.ModelProto:
    """Two inputs: frames, and one vector for each sequence that is the same at every frame."""
    nodes = [
        node("Add", ["X", "speaker"], ["x"]),
        node("GRU", ["x", "W", "R", "B"], ["Y"], hidden_size=H, linear_before_reset=1),
    ]
    weights = gru_weights(np.random.default_rng(SEED), F, H)
    return model(nodes, {"X": ["time", "batch", F], "speaker": ["batch", F]}, ["Y"], weights)


def step() -> onnx.ModelProto:
    """One frame, the state in and out."""
    nodes = [
        node("Unsqueeze", ["x", "zero"], ["X"]),
        node("GRU", ["X", "W", "R", "B", "", "h_in"], ["", "h_out"], hidden_size=H, linear_before_reset=1),
        node("Tanh", ["h_out"], ["y"]),
    ]
    weights = {**gru_weights(np.random.default_rng(SEED), F, H), "zero": np.array([0])}
    return model(nodes, {"x": ["batch", F], "h_in": [1, "batch", H]}, ["y", "h_out"], weights)


def tokens() -> onnx.ModelProto:
    """int64 ids in, float scores and the best id out."""
    r = np.random.default_rng(SEED)
    nodes = [
        node("Gather", ["table", "ids"], ["e"]),
        node("Transpose", ["e"], ["x"], perm=[1, 0, 2]),
        node("GRU", ["x", "W", "R", "B"], ["Y", "h"], hidden_size=H, linear_before_reset=1),
        node("Squeeze", ["h", "zero"], ["s"]),
        node("ArgMax", ["s"], ["best"], axis=1, keepdims=0),
    ]
    constants = {**gru_weights(r, F, H), "table": r.standard_normal((20, F)).astype(np.float32), "zero": np.array([0])}
    dtypes = {"ids": TensorProto.INT64, "best": TensorProto.INT64}
    return model(nodes, {"ids": ["batch", "time"]}, ["s", "best"], constants, dtypes=dtypes)


def with_lengths() -> onnx.ModelProto:
    """sequence_lens as an input of the graph."""
    nodes = [node("GRU", ["X", "W", "R", "B", "lens"], ["Y", "Y_h"], hidden_size=H, direction="bidirectional")]
    weights = gru_weights(np.random.default_rng(SEED), F, H, 2)
    shapes = {"X": ["time", "batch", F], "lens": ["batch"]}
    return model(nodes, shapes, ["Y", "Y_h"], weights, dtypes={"lens": TensorProto.INT32})


def scaled() -> onnx.ModelProto:
    """A scalar that every frame is multiplied with."""
    nodes = [
        node("Mul", ["X", "gain"], ["x"]),
        node("GRU", ["x", "W", "R", "B"], ["Y"], hidden_size=H, linear_before_reset=1),
    ]
    weights = gru_weights(np.random.default_rng(SEED), F, H)
    return model(nodes, {"X": ["time", "batch", F], "gain": []}, ["Y"], weights)


def normal(*shape: int, seed: int = SEED) -> Any:
    print(f"seed {seed}")
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
