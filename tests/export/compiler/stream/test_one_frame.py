"""From a timeline to a static graph: one frame of a sequence, one step, or the whole."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import helper

from export.graphs import gru_weights, model, node, rng
from streamgru.errors import CannotStreamError, ModelError
from streamgru_export.compiler.graph.onnx_reader import read
from streamgru_export.compiler.stream.one_frame import streaming, whole
from streamgru_export.compiler.stream.timeline import find_time

I, H = 4, 3  # noqa: E741 - the field's names


def timeline(time="T", tail=(), outputs=("y",), state=False, **attributes):
    """A GRU over [time, 1, I], with its state as input and output where asked."""
    weights = gru_weights(rng(), I, H)
    ports = {"x": [time, 1, I]} | ({"h": [1, 1, H]} if state else {})
    inputs = ["x", "W", "R", "B", *(["", "h"] if state else [])]
    gru = helper.make_node("GRU", inputs, ["y", "h_new"], name="gru", hidden_size=H, **attributes)
    outputs = [*outputs, *(["h_new"] if state else [])]
    return find_time(read(model([gru, *tail], ports, outputs, weights)), {}, 1)


def test_a_sequence_is_bound_to_one_frame_and_its_state_kept():
    static = streaming(timeline(), None)
    assert (static.kind, static.axes["x"], static.axes["y"]) == ("sequence", 0, 0)
    (slot,) = static.slots
    assert slot.reset is None or not slot.reset.any()
    assert static.graph.types["x"].shape == (1, 1, I)
    assert static.graph.types["y"].shape == (1, 1, 1, H)


def test_a_graph_of_one_step_is_a_step():
    static = streaming(timeline(time=1, state=True), None)
    assert (static.kind, static.pairs) == ("step", [("h", "h_new")])
    assert set(static.axes.values()) == {None}
    assert streaming(timeline(time=1, state=True), ()).slots == []


@pytest.mark.parametrize("length", [1, 5])
def test_whole_is_as_it_stands(length):
    static = whole(timeline(direction="reverse"), length)
    assert (static.kind, static.slots, static.axes) == ("whole", [], {})
    assert static.graph.types["y"].shape == (length, 1, 1, H)


def test_whole_needs_a_length_where_there_is_time():
    with pytest.raises(ModelError, match="mode='whole' needs length=: the dimension 'T' is the time axis"):
        whole(timeline(), None)
    assert whole(timeline(time=6), None).graph.types["y"].shape == (6, 1, 1, H)


def test_what_looks_ahead_is_refused():
    with pytest.raises(CannotStreamError, match="'gru'"):
        streaming(timeline(direction="reverse"), None)


def test_a_time_axis_that_is_merged_with_the_batch_is_refused():
    weights = gru_weights(rng(), I, H) | {"flat": np.array([-1, H])}
    nodes = [node("GRU", ["x", "W", "R", "B"], ["s"], hidden_size=H), node("Reshape", ["s", "flat"], ["y"])]
    graph = read(model(nodes, {"x": ["T", "B", I]}, ["y"], weights))
    with pytest.raises(ModelError, match="output 'y': its time axis 0 is merged with another dimension"):
        streaming(find_time(graph, {}, 2), None)
    assert streaming(find_time(graph, {}, 1), None).axes["y"] == 0
