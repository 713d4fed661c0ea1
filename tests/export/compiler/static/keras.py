"""Loops as tf2onnx makes them of Keras's GRU, their float64 oracle, and the check that they stream."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto, helper

from export.cells import TOLERANCE, H, I, grus
from export.graphs import assert_close, model, onnxruntime, stream, whole
from streamgru_export.compiler.compile import compile

SEED, T = 31, 6


FLOAT, INT64, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL


node = helper.make_node


def weights():
    print(f"seed {SEED}")
    r = np.random.default_rng(SEED)
    shapes = {"W": (I, 3 * H), "U": (H, 3 * H), "b": (3 * H,), "c": (3 * H,), "V": (H, 2)}
    return {k: (r.normal(size=s) / 3).astype(np.float32) for k, s in shapes.items()} | {"one": np.float32(1)}


def cell(x, h, new, wrong=False):
    """Keras's GRU cell, reset_after: z, r, h."""
    return [
        node("MatMul", [x, "W"], ["xw"]), node("Add", ["xw", "b"], ["a"]),
        node("MatMul", [h, "U"], ["hu"]), node("Add", ["hu", "c"], ["d"]),
        node("Split", ["a"], ["az", "ar", "an"], axis=-1, num_outputs=3),
        node("Split", ["d"], ["dz", "dr", "dn"], axis=-1, num_outputs=3),
        node("Add", ["az", "dz"], ["sz"]), node("Sigmoid", ["sz"], ["z"]),
        node("Add", ["ar", "dr"], ["sr"]), node("Sigmoid", ["sr"], ["r"]),
        node("Mul", ["r", "dn"], ["q"]), node("Add", ["an", "q"], ["sn"]), node("Tanh", ["sn"], ["n"]),
        node("Mul", ["z", h], ["p"]), node("Sub", ["one", "z"], ["y1"]),
        node("Mul", ["y1", "n"], ["y2"]), node("Sub" if wrong else "Add", ["p", "y2"], [new]),
    ]  # fmt: skip


def gru64(x, h, w, names="WUbc"):
    """The same in float64: [T, I] from h [H]; the new states [T, H]."""
    (W, U, b, c), states = (w[name].astype(np.float64) for name in names), []
    for x_t in x.astype(np.float64):
        (az, ar, an), (dz, dr, dn) = np.split(x_t @ W + b, 3), np.split(h @ U + c, 3)
        z, r = 1 / (1 + np.exp(-az - dz)), 1 / (1 + np.exp(-ar - dr))
        h = (1 - z) * np.tanh(an + r * dn) + z * h
        states.append(h)
    return np.stack(states)


def value(name, shape=None, dtype=FLOAT):
    return helper.make_tensor_value_info(name, dtype, shape)


def keras_loop(m="limit", wrong=False, counted=True, initial="zeros", extra=()):
    """What tf2onnx makes of Keras's GRU: a while loop that counts, reads a frame, carries its last output along."""
    body = [
        node("Gather", ["frames", "time"], ["x_t"], axis=0),
        *cell("x_t", "h", "h_new", wrong),
        node("Add", ["time", "step"], ["time_new"]),
        node("Less", ["time_new", "count"] if counted else ["time_new", "never"], ["go_on"]),
        node("Identity", ["h_new"], ["frame"]),
        node("Identity", ["h_new"], ["last_new"]),
        *extra,
    ]
    graph = helper.make_graph(
        body, "body",
        [value("i", [], INT64), value("go", [], BOOL), value("time", [], INT64), value("last"), value("h")],
        [value("go_on", [], BOOL), value("time_new", [], INT64), value("last_new"), value("h_new"), value("frame")],
    )  # fmt: skip
    nodes = [
        node("Transpose", ["x"], ["frames"], perm=[1, 0, 2]),
        node("Shape", ["frames"], ["shape"]), node("Gather", ["shape", "zero"], ["count"]),
        node("Loop", [m, "true", "zero", initial, initial], ["time_end", "last_end", "h_end", "all"],
        body=graph, name="while"),
        node("MatMul", ["all", "V"], ["y_t"]), node("Transpose", ["y_t"], ["y"], perm=[1, 0, 2]),
        node("Identity", ["last_end"], ["hn"]),
    ]  # fmt: skip
    constants = weights() | {
        "limit": np.int64(2**63 - 1), "true": np.bool_(True), "zero": np.int64(0), "step": np.int64(1),
        "never": np.int64(10**6), "zeros": np.zeros((1, H), np.float32),
        "learned": np.linspace(-1, 1, H, dtype=np.float32)[None],
    }  # fmt: skip
    return model(nodes, {"x": [1, "time", I]}, ["y", "hn"], constants, opset=18)


def frames(steps=T):
    print(f"seed {SEED}")
    return {"x": np.random.default_rng(SEED).normal(size=(1, steps, I)).astype(np.float32)}


def assert_streams(source, x, exact, count=1):
    compiled = compile(source)
    assert [(g["T"], g["lbr"]) for g in grus(compiled)] == [(1, 1)] * count
    assert (compiled.kind, len(compiled.states)) == ("sequence", count)
    assert sum("is a GRU over all its steps" in note.text for note in compiled.notes) == count
    expected = onnxruntime(source, x)
    assert_close(stream(compiled, x), expected, TOLERANCE)
    assert_close(stream(compiled, x), exact, TOLERANCE)
    steps = next(iter(x.values())).shape[next(a for a in compiled.time_axis.values() if a is not None)]
    complete = compile(source, mode="whole", length=steps)
    assert [g["T"] for g in grus(complete)] == [steps] * count
    assert_close(whole(complete, x), expected, TOLERANCE)
