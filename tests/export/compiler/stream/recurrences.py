"""Recurrences over an open dimension of any name, written in the ways that files have them."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto, helper

from export.graphs import gru_weights, model, node, rng

N = 4
F, INT64, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL
port = helper.make_tensor_value_info


def matrices():
    r = rng()
    return {k: (r.standard_normal((N, N)) * 0.5).astype(np.float32) for k in ("W", "R")}


CELL = [node("MatMul", ["x_t", "W"], ["a"]), node("MatMul", ["h", "R"], ["b"]), node("Add", ["a", "b"], ["s"]),
        node("Tanh", ["s"], ["h2"]), node("Identity", ["h2"], ["y_t"])]  # fmt: skip


def loop(name, state=False):
    """h' = tanh(x W + h R) as a Loop over axis 1 of [1, T, N]: what tf2onnx makes of Keras' SimpleRNN."""
    body = helper.make_graph(
        [node("Gather", ["xt", "i"], ["x_t"], axis=0), *CELL, node("Identity", ["c"], ["c2"])], "body",
        [port("i", INT64, []), port("c", BOOL, []), port("h", F, [1, N])],
        [port("c2", BOOL, []), port("h2", F, [1, N]), port("y_t", F, [1, N])],
    )  # fmt: skip
    nodes = [node("Transpose", ["x"], ["xt"], perm=[1, 0, 2]), node("Shape", ["xt"], ["sh"]),
             node("Gather", ["sh", "zero"], ["T"], axis=0), node("Loop", ["T", "true", "h0"], ["hN", "ys"], body=body),
             node("Transpose", ["ys"], ["y"], perm=[1, 0, 2])]  # fmt: skip
    constants = {**matrices(), "zero": np.array(0), "true": np.array(True)}
    return _made(nodes, {"x": [1, name, N]}, constants, state)


def scan(name, state=False):
    """The same as a Scan over axis 0 of [T, 1, N]."""
    body = helper.make_graph(CELL, "body", [port("h", F, [1, N]), port("x_t", F, [1, N])],
                             [port("h2", F, [1, N]), port("y_t", F, [1, N])])  # fmt: skip
    nodes = [node("Scan", ["h0", "x"], ["hN", "y"], body=body, num_scan_inputs=1)]
    return _made(nodes, {"x": [name, 1, N]}, matrices(), state)


def _made(nodes, inputs, constants, state):
    if state:
        return model(nodes, {**inputs, "h0": [1, N]}, ["y", "hN"], constants)
    return model(nodes, inputs, ["y"], {**constants, "h0": np.zeros((1, N), np.float32)})


def cell(op, name, direction="forward"):
    """A GRU, LSTM or RNN over axis 0 of [T, 1, N]."""
    d, gates = (2 if direction == "bidirectional" else 1), {"GRU": 3, "LSTM": 4, "RNN": 1}[op]
    weights = gru_weights(rng(), N, N, d, gates)
    return model([node(op, ["x", "W", "R", "B"], ["y"], hidden_size=N, direction=direction)], {"x": [name, 1, N]},
                 ["y"], weights)  # fmt: skip


def convolution(name):
    """A causal one over axis 2 of [1, N, T]."""
    w = rng().standard_normal((N, N, 3)).astype(np.float32) / N
    return model([node("Conv", ["x", "w"], ["y"], pads=[2, 0])], {"x": [1, N, name]}, ["y"], {"w": w})


def over(op, name, **attributes):
    """One operator along axis 0 of [T, N]."""
    second = {"CumSum": ["zero"], "MatMul": []}.get(op, [])
    if op == "attention":
        nodes = [node("Transpose", ["x"], ["xt"], perm=[1, 0]), node("MatMul", ["x", "xt"], ["y"])]
    else:
        nodes = [node(op, ["x", *second], ["y"], **attributes)]
    return model(nodes, {"x": [name, N]}, ["y"], {"zero": np.array(0)})
