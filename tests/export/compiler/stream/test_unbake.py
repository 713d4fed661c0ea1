"""A sequence length that is a number in the file becomes a dimension again."""

from __future__ import annotations

import numpy as np
import pytest

from export.compiler.stream.streams import H, I, gru_model, node
from streamgru.errors import ModelError
from streamgru_export.compiler.stream.causal import check_causal
from streamgru_export.compiler.stream.places import Time
from streamgru_export.compiler.stream.timeline import find_time
from streamgru_export.compiler.stream.unbake import moves, unbake


def test_a_baked_length_is_made_a_dimension_again():
    timeline = unbake(find_time(gru_model([7, 1, I], outputs=("Y",)), {}, 1))
    assert timeline is not None
    assert timeline.axes() == {"x": 0}
    assert timeline.at(1).types["Y"].shape == (1, 1, 1, H)


def test_a_length_baked_into_a_reshape_is_freed():
    tail = [node("Reshape", ["Y", "shape"], ["y"])]
    graph = gru_model([7, 1, I], tail, constants={"shape": np.array([7, 1, H])})
    timeline = unbake(find_time(graph, {}, 1))
    assert timeline is not None
    assert check_causal(timeline).places["y"] == Time(0)
    assert timeline.at(1).types["y"].shape == (1, 1, H)


@pytest.mark.parametrize("length", [2, 7])
def test_a_length_that_stands_elsewhere_too_is_refused(length):
    tail = [node("Add", ["Y", "positions"], ["y"])]
    positions = np.arange(length, dtype=np.float32).reshape(-1, 1, 1, 1)
    graph = gru_model([length, 1, I], tail, constants={"positions": positions})
    with pytest.raises(
        ModelError, match=f"the sequence length {length} is a number in this graph and cannot be made 1"
    ):
        unbake(find_time(graph, {}, 1))


def test_a_dimension_moves_a_sequence_or_not():
    timeline = find_time(gru_model(["T", "B", I], outputs=("Y",)), {}, 1)
    assert moves(timeline.specialise, {"B": 1}, {"T"})
    assert not moves(timeline.specialise, {"T": 1}, {"B"})
