"""A GRU that lost its linear_before_reset is told; one that is meant to reset before is not."""

from __future__ import annotations

import numpy as np
import pytest

from export.graphs import gru_weights, model, node, rng
from streamgru_export.compiler.graph.onnx_reader import read
from streamgru_export.compiler.static.specialise import specialise
from streamgru_export.compiler.suspicions import suspicions


@pytest.mark.parametrize("reset", [0, 1])
@pytest.mark.parametrize("producer", ["pytorch", "skl2onnx", ""])
def test_a_reset_before_from_torch_is_a_warning(producer, reset):
    gru = node("GRU", ["x", "W", "R", "B"], ["y"], hidden_size=3, linear_before_reset=reset)
    source = model([gru], {"x": [1, 1, 4]}, ["y"], gru_weights(rng(), 4, 3))
    source.producer_name = producer
    found = suspicions(specialise(read(source), {}))
    assert [note.kind for note in found] == (["warning"] if producer == "pytorch" and reset == 0 else [])
    assert all("GRU node 'GRU_y': linear_before_reset=0" in note.text for note in found)


def begins_with(first, *nodes, inputs=None, op="GRU"):
    """A cell over one frame [1, 1, 4] that begins with this value; an LSTM's c as its h."""
    w = gru_weights(rng(), 4, 4)
    weights = {"W": w["W"], "R": w["R"]} if op == "GRU" else {k: np.zeros((1, 16, 4), np.float32) for k in "WR"}
    cell = node(op, ["x", "W", "R", "", "", *[first] * (1 if op == "GRU" else 2)], ["all", "last"], hidden_size=4)
    return model([*nodes, cell], {"x": [1, 1, 4], **(inputs or {})}, ["all", "last"], weights)


def forgetful(source, states=frozenset()):
    return [n.text for n in suspicions(specialise(read(source), {}), states) if "keeps nothing" in n.text]


@pytest.mark.parametrize("op", ["GRU", "LSTM"])
def test_a_cell_that_begins_with_what_it_runs_over_is_told(op):
    for source in (begins_with("x", op=op), begins_with("f", node("Sigmoid", ["x"], ["f"]), op=op)):
        (text,) = forgetful(source)
        assert f"{op} node '{op}_all': its first state is computed from 'x' in each frame" in text
    assert suspicions(specialise(read(begins_with("x", op=op)), {})) == []


def test_each_of_several_cells_without_names_is_told():
    source = begins_with("x", node("GRU", ["x", "W", "R"], ["other"], hidden_size=4))
    source.graph.output.add(name="other")
    for made in source.graph.node:
        made.name = ""
    assert len(forgetful(source)) == 1
    source.graph.node[0].input.extend(["", "", "x"])
    assert len(forgetful(source)) == 2


def test_a_cell_that_begins_with_a_state_a_context_or_nothing_is_not():
    """A state is handed on; a context is another input; what begins with nothing is made to keep it."""
    own, halved = {"h": [1, 1, 4]}, node("Sigmoid", ["h"], ["f"])
    assert forgetful(begins_with("h", inputs=own), {"h"}) == []
    assert forgetful(begins_with("f", halved, inputs=own), {"h"}) == []
    assert forgetful(begins_with("f", halved, inputs=own)) == []
    assert forgetful(begins_with("", inputs=own)) == []
