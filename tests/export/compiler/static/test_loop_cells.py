"""Loop and Scan: bodies that are GRUs become GRUs over all steps."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from onnx import helper, numpy_helper
from torch import nn

from export.cells import TOLERANCE, Fused, H, I, Separate, exported, grus
from export.compiler.static.keras import (
    SEED,
    T,
    assert_streams,
    cell,
    frames,
    gru64,
    keras_loop,
    node,
    value,
    weights,
)
from export.graphs import assert_close, model, onnxruntime, whole
from streamgru.errors import ModelError
from streamgru_export.compiler.compile import compile


@pytest.mark.parametrize("initial", ["zeros", "learned"])
def test_a_keras_loop_streams(initial):
    assert_streams(keras_loop(initial=initial), frames(), keras64(initial))


def test_a_loop_that_only_m_ends_streams():
    assert_streams(keras_loop(m="count", counted=False), frames(), keras64("zeros"))


def keras64(initial):
    w = weights()
    h = gru64(frames()["x"][0], np.zeros(H) if initial == "zeros" else np.linspace(-1, 1, H, dtype=np.float32), w)
    return {"y": (h @ w["V"])[None], "hn": h[-1:]}


def test_a_body_that_is_nearly_a_gru_is_written_out():
    source, x = keras_loop(wrong=True), frames()
    compiled = compile(source, mode="whole", length=T)
    assert grus(compiled) == []
    assert_close(whole(compiled, x), onnxruntime(source, x), TOLERANCE)
    with pytest.raises(ModelError, match=r"cannot stream.*'while'"):
        compile(source)


def scan(axis=0, reverse=0, out_axis=0, nodes=None, states=1, constants=()):
    body_nodes = nodes or [*cell("x_t", "h", "h_new"), node("MatMul", ["h_new", "V"], ["y_t"])]
    body = helper.make_graph(
        body_nodes, "body", [*(value(f"h{'' if i == 0 else i}") for i in range(states)), value("x_t")],
        [*(value(f"h{'' if i == 0 else i}_new") for i in range(states)), value("y_t")],
    )  # fmt: skip
    scanned = node("Scan", [*["zeros"] * states, "x"], [*(f"hn{i}" for i in range(states)), "y"],
    body=body, name="scan",
                   num_scan_inputs=1, scan_input_axes=[axis], scan_input_directions=[reverse],
                   scan_output_axes=[out_axis], scan_output_directions=[reverse])  # fmt: skip
    shape = [1, I]
    shape.insert(axis, "time")
    known = weights() | {"zeros": np.zeros((1, H), np.float32)} | dict(constants)
    return model([scanned], {"x": shape}, [*(f"hn{i}" for i in range(states)), "y"], known, opset=18)


def scanned_frames(axis):
    return {"x": np.moveaxis(frames()["x"][0][:, None], 0, axis)}


@pytest.mark.parametrize("axis, out_axis", [(0, 0), (1, 1), (1, -2)])
def test_a_scan_streams(axis, out_axis):
    w = weights()
    h = gru64(frames()["x"][0], np.zeros(H), w)
    exact = {"hn0": h[-1:], "y": np.moveaxis((h @ w["V"])[:, None], 0, out_axis)}
    assert_streams(scan(axis, 0, out_axis), scanned_frames(axis), exact)


def test_a_scan_from_the_end_runs_whole():
    source, x = scan(reverse=1), scanned_frames(0)
    with pytest.raises(ModelError, match="cannot stream"):
        compile(source)
    compiled = compile(source, mode="whole", length=T)
    assert [g["T"] for g in grus(compiled)] == [T]
    assert_close(whole(compiled, x), onnxruntime(source, x), TOLERANCE)


def test_a_scan_over_two_cells_streams():
    def renamed(nodes, suffix, keep):
        for n in nodes:
            for names in (n.input, n.output):
                names[:] = [name if name in keep else name + suffix for name in names]
        return nodes

    keep = {"x_t", "h", "h_new", "h1", "h1_new", "W", "U", "b", "c", "one", "W1"}
    second = renamed(cell("h_new", "h1", "h1_new"), "_second", keep)
    for n in second:
        n.input[:] = ["W1" if name == "W" else name for name in n.input]
    nodes = [
        *cell("x_t", "h", "h_new"),
        *second,
        node("Add", ["h_new", "h1_new"], ["sum"]),
        node("Relu", ["sum"], ["y_t"]),
    ]
    w = np.random.default_rng(SEED + 1).normal(size=(H, 3 * H)).astype(np.float32) / 3
    known = weights() | {"W1": w}
    first = gru64(frames()["x"][0], np.zeros(H), known)
    last = gru64(first, np.zeros(H), known, ("W1", *"Ubc"))
    exact = {"hn0": first[-1:], "hn1": last[-1:], "y": np.maximum(first + last, 0)[:, None]}
    assert_streams(scan(nodes=nodes, states=2, constants={"W1": w}), scanned_frames(0), exact, count=2)


class Higher(nn.Module):
    """torch's own scan."""

    def __init__(self, inner, seen=False):
        super().__init__()
        self.cell, self.seen = inner, seen

    def forward(self, x, h):
        from torch._higher_order_ops.scan import scan as higher_scan

        def step(h, x):
            new = self.cell(x, h)
            return new, (new + h if self.seen else new.clone())

        hn, y = higher_scan(step, h, x, dim=0)
        return y, hn


@pytest.mark.parametrize(
    "inner, lbr", [(Fused, 1), pytest.param(lambda: Separate("(1-z)*h+z*n", before=True), 0, marks=pytest.mark.slow)]
)
def test_torch_scan_streams(inner, lbr):
    torch.manual_seed(SEED)
    source = exported(Higher(inner()), (torch.randn(4, 1, I), torch.zeros(1, H)), (["x", "h"], ["y", "hn"]), True)
    compiled = compile(source, mode="whole")
    assert [(g["T"], g["lbr"]) for g in grus(compiled)] == [(4, lbr)]
    x = {"x": scanned_frames(0)["x"][:4], "h": np.full((1, H), 0.3, np.float32)}
    assert_close(whole(compiled, x), onnxruntime(source, x), TOLERANCE)


def test_a_step_that_shows_the_state_before_it_is_written_out():
    torch.manual_seed(SEED)
    source = exported(Higher(Fused(), True), (torch.randn(4, 1, I), torch.zeros(1, H)), (["x", "h"], ["y", "hn"]), True)
    compiled = compile(source, mode="whole")
    assert sum(g["T"] for g in grus(compiled)) == 4
    x = {"x": scanned_frames(0)["x"][:4], "h": np.full((1, H), 0.3, np.float32)}
    assert_close(whole(compiled, x), onnxruntime(source, x), TOLERANCE)


def with_other_activations(source):
    """A loop of Keras's GRU whose gates are hard sigmoids in pieces, and whose candidate is linear."""
    loop = next(n for n in source.graph.node if n.op_type == "Loop")
    body = next(a.g for a in loop.attribute if a.name == "body")
    nodes = []
    for n in body.node:
        x, y = n.input[0], n.output[0]
        if n.op_type == "Sigmoid":
            nodes += [node("Mul", [x, "fifth"], [f"{x}/1"]), node("Add", [f"{x}/1", "half"], [f"{x}/2"]),
                      node("Min", [f"{x}/2", "one"], [f"{x}/3"]), node("Max", [f"{x}/3", "nought"], [y])]  # fmt: skip
        else:
            nodes.append(node("Identity", [x], [y]) if n.op_type == "Tanh" else n)
    del body.node[:]
    body.node.extend(nodes)
    numbers = {"fifth": 0.2, "half": 0.5, "nought": 0.0}
    source.graph.initializer.extend(numpy_helper.from_array(np.float32(v), k) for k, v in numbers.items())
    return source


def test_a_loop_of_hard_gates_and_a_linear_candidate_streams():
    w, h, x = weights(), np.zeros(H), frames()
    W, U, b, c = (w[name].astype(np.float64) for name in "WUbc")
    states = []
    for x_t in x["x"][0].astype(np.float64):
        (az, ar, an), (dz, dr, dn) = np.split(x_t @ W + b, 3), np.split(h @ U + c, 3)
        z, r = (np.clip(0.2 * (a + d) + 0.5, 0, 1) for a, d in ((az, dz), (ar, dr)))
        h = (1 - z) * (an + r * dn) + z * h
        states.append(h)
    exact = {"y": (np.stack(states) @ w["V"])[None], "hn": h[None]}
    assert_streams(with_other_activations(keras_loop()), x, exact)
