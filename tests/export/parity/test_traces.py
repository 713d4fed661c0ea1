"""What is fed to whom: frames to a stream, the whole to a graph, with the lengths that belong to it."""

from __future__ import annotations

import numpy as np

import streamgru
from export.graphs import gru_weights, model, node, rng
from streamgru_export.parity.traces import Case

IN, H, STEPS = 3, 4, 9


def case(length="T", **unheard):
    gru = node("GRU", ["x", "W", "R", "B"], ["Y"], hidden_size=H, linear_before_reset=1)
    source = model([gru], {"x": [length, 1, IN]}, ["Y"], gru_weights(rng(), IN, H))
    frames = {"x": rng().normal(size=(STEPS, 1, IN)).astype(np.float32)}
    return Case(streamgru.Model(streamgru.compile(source).image), frames, {}, unheard)


def test_an_input_that_no_stream_takes_is_as_long_as_the_call():
    """A length of one frame is multiplied; zeros stay zeros; dtypes stay."""
    made = case(n=np.ones(1, np.int32), z=np.zeros((2, 2), np.float32))
    for first, last in ((0, STEPS), (2, 5), (3, 4), (0, 2)):
        fed = made.feed(first, last)
        np.testing.assert_array_equal(fed["x"], made.frames["x"][first:last])
        assert (fed["n"].tolist(), fed["n"].dtype) == ([last - first], np.int32)
        assert (fed["z"].tolist(), fed["z"].dtype) == ([[0, 0], [0, 0]], np.float32)


def test_a_stream_takes_the_frames_alone():
    made = case(n=np.ones(1, np.int32))
    assert list(made.frame(4)) == ["x"]
    np.testing.assert_array_equal(made.frame(4)["x"], made.frames["x"][4])
    assert (made.steps, made.is_sequence, made.state_names) == (STEPS, True, {})
