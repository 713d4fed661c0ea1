"""Recurrent nodes with every attribute and operand, against the float64 oracle."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import helper

from export.graphs import (
    CELLS,
    SEED,
    assert_close,
    assert_equals_float64,
    cell,
    gru_weights,
    model,
    node,
    onnxruntime,
    rng,
    whole,
)
from streamgru.errors import ModelError
from streamgru_export.compiler.compile import compile


@pytest.mark.parametrize("op", list(CELLS))
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("layout", [0, 1])
@pytest.mark.parametrize("optional", [{}, {"bias": False}, {"lens": True}, {"initial": True, "lens": True}])
def test_recurrent_nodes(op, direction, layout, optional):
    extra = {"layout": 1} if layout else {}
    assert_equals_float64(*cell(op, rng(), direction=direction, **optional, **extra))


@pytest.mark.parametrize("lbr", [0, 1])
@pytest.mark.parametrize("clip", [0.0, 0.4])
@pytest.mark.parametrize("shape", [{"h": 1, "i": 1}, {"h": 17, "i": 3, "b": 1}, {"t": 1, "b": 2, "h": 20}])
def test_gru_both_forms(lbr, clip, shape):
    attrs = {"clip": clip} if clip else {}
    assert_equals_float64(*cell("GRU", rng(), initial=True, linear_before_reset=lbr, **shape, **attrs))


@pytest.mark.parametrize(
    "attrs, message",
    [
        ({"activations": ["Sigmoid", "Swoosh"]}, "'Swoosh'"),
        ({"activations": ["Sigmoid"]}, "2 activations"),
        ({"activation_alpha": [0.5]}, "activation_alpha"),
        ({"direction": "sideways"}, "'sideways'"),
        ({"clip": -1.0}, "clip"),
        ({"hidden_size": 5}, "GRU_Y"),
    ],
)
def test_attributes_that_make_no_sense_are_refused_by_node(attrs, message):
    source, _ = cell("GRU", rng())
    for key, value in attrs.items():
        kept = [a for a in source.graph.node[0].attribute if a.name != key]
        del source.graph.node[0].attribute[:]
        source.graph.node[0].attribute.extend([*kept, helper.make_attribute(key, value)])
    with pytest.raises(ModelError, match=message) as caught:
        compile(source, mode="whole")
    assert "GRU_Y" in str(caught.value)


@pytest.mark.parametrize("op", list(CELLS))
def test_lstm_and_gru_flags(op):
    extra = {"LSTM": {"input_forget": 1, "peepholes": True}, "GRU": {"linear_before_reset": 1}, "RNN": {}}[op]
    assert_equals_float64(*cell(op, rng(), direction="bidirectional", initial=True, **extra))


def test_random_grus():
    """Shapes and attributes at random."""
    print(f"seed {SEED}")
    for k in range(40):
        r = np.random.default_rng([SEED, k])
        attrs = {
            "t": int(r.integers(1, 6)), "b": int(r.integers(1, 5)), "i": int(r.integers(1, 20)),
            "h": int(r.integers(1, 36)), "direction": str(r.choice(["forward", "reverse", "bidirectional"])),
            "linear_before_reset": int(r.integers(2)), "bias": bool(r.integers(2)), "initial": bool(r.integers(2)),
            "lens": bool(r.integers(2)), "layout": int(r.integers(2)),
        }  # fmt: skip
        print(k, attrs)
        assert_equals_float64(*cell("GRU", r, **attrs))


def test_weights_that_are_inputs_are_refused_by_node():
    gru = node("GRU", ["x", "W", "R"], ["Y"], hidden_size=2)
    source = model([gru], {"x": [1, 1, 3], "W": [1, 6, 3], "R": [1, 6, 2]}, ["Y"])
    with pytest.raises(ModelError, match=r"GRU_Y.*W"):
        compile(source, mode="whole")


def test_a_recurrent_node_may_read_the_same_frame_again_and_again():
    nodes = [node("Expand", ["x", "five"], ["e"]), node("GRU", ["e", "W", "R", "B"], ["Y"], hidden_size=6)]
    constants = {**gru_weights(rng(), 4, 6), "five": np.array([5, 1, 4])}
    source, feeds = (
        model(nodes, {"x": [1, 1, 4]}, ["Y"], constants),
        {"x": rng().normal(size=(1, 1, 4)).astype(np.float32)},
    )
    assert_close(whole(compile(source, mode="whole"), feeds), onnxruntime(source, feeds))
