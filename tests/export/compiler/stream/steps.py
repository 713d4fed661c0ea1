"""Graphs of one recurrent node, over a sequence or for one step, and the check of their steps."""

from __future__ import annotations

import numpy as np
from onnx import helper

from export.graphs import assert_close, gru_weights, model, onnxruntime, rng
from export.image_vm import ImageVM

I, H, T = 5, 7, 9  # noqa: E741 - the field's names


def node(op, inputs, outputs, **attributes):
    return helper.make_node(op, inputs, outputs, name=f"{op}_{outputs[0]}", **attributes)


def sequence(op="GRU", initial=None, tail=(), outputs=("Y",), **attributes):
    gates = {"GRU": 3, "LSTM": 4, "RNN": 1}[op]
    constants = gru_weights(rng(), I, H, gates=gates)
    inputs = ["x", "W", "R", "B"]
    if initial is not None:
        constants |= {"h0": initial, "c0": 2 * initial}
        inputs += ["", "h0"] + (["c0"] if op == "LSTM" else [])
    results = ["Y", "Yh"] + (["Yc"] if op == "LSTM" else [])
    return model(
        [node(op, inputs, results, hidden_size=H, **attributes), *tail], {"x": ["T", 1, I]}, outputs, constants
    )


def frames(t=T, size=I):
    return rng().normal(size=(t, 1, size)).astype(np.float32)


def step(name_in="h_in", name_out="h_out", op="GRU", tail=(), extra=(), constants=None, metadata=None):
    """One step with its state as input and output."""
    weights = gru_weights(rng(), I, H, gates={"GRU": 3, "LSTM": 4}[op])
    nodes = [node(op, ["x", "W", "R", "B", "", name_in], ["Y", name_out], hidden_size=H), *tail]
    inputs = {"x": [1, 1, I], name_in: [1, 1, H]}
    source = model(nodes, inputs, ["Y", name_out, *extra], {**weights, **(constants or {})})
    if metadata is not None:
        source.metadata_props.add(key="streamgru.state", value=metadata)
    return source


def assert_steps_equal(source, compiled, steps=6):
    """The stream against onnxruntime with the state fed back by hand."""
    r, vm = rng(), ImageVM(compiled.image)
    sizes = {p.name: [d.dim_value for d in p.type.tensor_type.shape.dim] for p in source.graph.input}
    fed = {i: np.zeros(sizes[i], np.float32) for i, _ in compiled.pairs}
    for _ in range(steps):
        feeds = {n: r.normal(size=sizes[n]).astype(np.float32) for n in compiled.inputs}
        expected = onnxruntime(source, {**feeds, **fed})
        assert_close(vm.step(feeds), {n: expected[n] for n in compiled.outputs})
        fed = {i: expected[o] for i, o in compiled.pairs}
        for s in vm.d["states"]:
            np.testing.assert_allclose(vm.get(s), fed[vm.name(s)], rtol=0, atol=2e-6)
