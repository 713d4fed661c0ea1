"""A GRU that lost its linear_before_reset is told; one that is meant to reset before is not."""

from __future__ import annotations

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
