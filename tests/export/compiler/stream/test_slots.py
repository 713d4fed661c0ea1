"""A slot is what a stream keeps: under its name in the image, from its reset value on."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

import streamgru
from export.compiler.stream.steps import H, I, sequence, step
from export.graphs import rng
from streamgru_export.compiler.compile import compile
from streamgru_export.compiler.graph.onnx_reader import read
from streamgru_export.compiler.static.specialise import specialise
from streamgru_export.compiler.stream.promote import make_stream
from streamgru_export.compiler.stream.slots import Slot


def test_a_slot_is_zeros_of_no_pair_unless_it_says_so():
    slot = Slot("s", "s_in", "s_out")
    assert (slot.reset, slot.is_pair) == (None, False)
    with pytest.raises(dataclasses.FrozenInstanceError):
        slot.name = "other"


def test_the_slots_of_a_pair_are_the_graphs_own_names():
    graph = specialise(read(step("h_in", "h_out")), {})
    (slot,) = make_stream(graph, None, None, set()).slots
    assert slot == Slot("h_in", "h_in", "h_out", None, is_pair=True)


def test_a_slot_of_a_cell_is_named_after_it_and_reset_to_its_initial_state():
    start = rng().normal(size=(1, 1, H)).astype(np.float32)
    graph = specialise(read(sequence("GRU", start)), {"T": 1})
    streamed = make_stream(graph, {"Y"}, None, {"x", "Y"})
    (slot,) = streamed.slots
    assert (slot.name, slot.is_pair) == ("GRU_Y.h", False)
    np.testing.assert_array_equal(slot.reset, start)
    (gru,) = streamed.graph.nodes
    assert (gru.input(5), gru.output(1)) == (slot.input, slot.output)
    assert slot.input in {p.name for p in streamed.graph.inputs}


def test_the_states_of_an_image_are_its_slots():
    compiled = compile(sequence("LSTM", np.full((1, 1, H), 0.25, np.float32)))
    model = streamgru.Model(compiled.image)
    assert [(s.name, tuple(s.shape)) for s in model.states] == [("LSTM_Y.h", (1, 1, H)), ("LSTM_Y.c", (1, 1, H))]
    stream = model.stream()
    first = stream.step(np.ones((1, I), np.float32))
    stream.step(np.ones((1, I), np.float32))
    stream.reset()
    np.testing.assert_array_equal(stream.step(np.ones((1, I), np.float32)), first)
