"""One node for all steps gives what the node gives at every step: onnxruntime says what that is."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import helper

from export.graphs import model, onnxruntime, rng, whole
from streamgru_export.compiler.compile import compile
from streamgru_export.compiler.graph.builder import Builder
from streamgru_export.compiler.graph.graph import Graph, Node, Port, TensorType
from streamgru_export.compiler.graph.lifting import lift_node
from streamgru_export.compiler.graph.onnx_reader import read
from streamgru_export.compiler.static.specialise import specialise

node = helper.make_node
T = 3
W = np.arange(20, dtype=np.float32).reshape(4, 5) / 10
NODES = {
    "unary": (node("Tanh", ["x"], ["y"]), {}),
    "two": (node("Mul", ["x", "u"], ["y"]), {}),
    "two, one of a lower rank": (node("Add", ["x", "v"], ["y"]), {}),
    "with a row": (node("Add", ["x", "row"], ["y"]), {"row": np.float32([1, 2, 3, 4])}),
    "with a larger constant": (node("Add", ["v", "all"], ["y"]), {"all": np.ones((2, 3, 4), np.float32)}),
    "clip": (node("Clip", ["x", "lo"], ["y"]), {"lo": np.float32(0)}),
    "matmul": (node("MatMul", ["x", "W"], ["y"]), {"W": W}),
    "gemm": (node("Gemm", ["m", "W", "b"], ["y"], transB=1, alpha=0.5, beta=2.0),
             {"W": np.ascontiguousarray(W.T), "b": np.float32([1, 2, 3, 4, 5])}),
    "reshape": (node("Reshape", ["x", "s"], ["y"]), {"s": np.array([4, -1])}),
    "unsqueeze": (node("Unsqueeze", ["x", "s"], ["y"]), {"s": np.array([-1])}),
    "transpose": (node("Transpose", ["x"], ["y"], perm=[2, 0, 1]), {}),
    "transpose, by default": (node("Transpose", ["x"], ["y"]), {}),
    "concat": (node("Concat", ["x", "u"], ["y"], axis=-2), {}),
    "split": (node("Split", ["x", "s"], ["p", "y"], axis=-1), {"s": np.array([1, 3])}),
    "slice": (node("Slice", ["x", "a", "b", "c", "d"], ["y"]),
              {"a": np.array([3, 0]), "b": np.array([-100, 1]), "c": np.array([-1, 0]), "d": np.array([-2, 1])}),
    "gather": (node("Gather", ["x", "i"], ["y"], axis=-2), {"i": np.array([2, 0])}),
    "softmax": (node("Softmax", ["x"], ["y"], axis=1), {}),
    "layer norm": (node("LayerNormalization", ["x", "row"], ["y"]), {"row": np.float32([1, 2, 3, 4])}),
    "mean": (node("ReduceMean", ["x"], ["y"], axes=[-1, 0], keepdims=0), {}),
    "sum of all": (node("ReduceSum", ["x"], ["y"], keepdims=1), {}),
    "sum over no axes": (node("ReduceSum", ["x"], ["y"], noop_with_empty_axes=1), {}),
    "sum": (node("ReduceSum", ["x", "axes"], ["y"]), {"axes": np.array([1])}),
    "argmax": (node("ArgMax", ["x"], ["y"], axis=-1), {}),
}  # fmt: skip
INPUTS = {"x": (2, 3, 4), "u": (2, 3, 4), "v": (3, 1), "m": (2, 4)}


def lifted(name):
    proto, constants = NODES[name]
    inputs = {i: INPUTS[i] for i in proto.input if i in INPUTS}
    source = model([proto], inputs, ["y"], constants, opset=17, output_dtype=7 if name == "argmax" else 1)
    step = specialise(read(source), {})
    (n,) = step.nodes
    types = {k: v for k, v in step.types.items() if k not in inputs}
    ports = [Port(f"{i}s", np.dtype(np.float32), (T, *s)) for i, s in inputs.items()]
    b = Builder({**types, **{p.name: _type(p) for p in ports}}, step.constants, 17)
    names = [f"{i}s" if i in inputs else i for i in n.inputs]
    value = lift_node(b, n, "y", names, [i in inputs for i in n.inputs], step.types, T)
    assert value is not None
    final = Node("Identity", "", [value], ["ys"])
    t = b.types[value]
    graph = Graph("g", [*b.nodes, final], ports, [Port("ys", t.dtype, t.shape)], dict(b.constants), 17)
    return source, graph, inputs


def _type(port):
    return TensorType(port.dtype, port.shape)


@pytest.mark.parametrize("name", NODES)
def test_a_lifted_node_is_the_node_at_every_step(name):
    source, graph, inputs = lifted(name)
    r = rng()
    x = {i: r.normal(size=(T, *s)).astype(np.float32) for i, s in inputs.items()}
    got = whole(compile(graph, mode="whole"), {f"{i}s": v for i, v in x.items()})["ys"]
    steps = [onnxruntime(source, {i: v[t] for i, v in x.items()})["y"] for t in range(T)]
    np.testing.assert_allclose(got, np.stack(steps), rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize(
    "proto",
    [
        node("Conv", ["x", "w"], ["y"]),
        node("MatMul", ["w", "x"], ["y"]),
        node("Concat", ["x", "w"], ["y"], axis=0),
    ],
)
def test_what_cannot_be_lifted_is_said_to_be(proto):
    source = model([proto], {"x": (1, 3, 3)}, ["y"], {"w": np.ones((1, 3, 3), np.float32)}, opset=17)
    step = specialise(read(source), {})
    b = Builder(step.types, step.constants, 17)
    n = step.nodes[0]
    assert lift_node(b, n, "y", n.inputs, [i == "x" for i in n.inputs], step.types, T) is None
