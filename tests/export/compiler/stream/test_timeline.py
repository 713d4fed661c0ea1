"""Finding the time axis, and the batch."""

from __future__ import annotations

import numpy as np
import pytest

from export.compiler.stream.streams import H, I, gru_model, node
from export.graphs import model
from streamgru.errors import ModelError
from streamgru_export.compiler.graph.onnx_reader import read
from streamgru_export.compiler.stream.causal import check_causal
from streamgru_export.compiler.stream.places import Time
from streamgru_export.compiler.stream.timeline import find_time
from streamgru_export.compiler.stream.unbake import unbake


def test_time_is_the_dimension_that_the_recurrent_node_runs_along():
    """Whatever the dimensions are called."""
    graph = gru_model(["batch", "seq", I], outputs=("Y",))
    timeline = find_time(graph, {}, 1)
    assert timeline.time == {"batch"}
    assert timeline.dims == {"seq": 1}
    assert timeline.axes() == {"x": 0}


def test_time_is_found_behind_a_transpose():
    head = [node("Transpose", ["x"], ["xt"], perm=[1, 0, 2])]
    assert find_time(gru_model(["B", "T", I], head=head, x="xt", outputs=("Y",)), {}, 2).axes() == {"x": 1}


@pytest.mark.parametrize("batch", [1, 3])
def test_the_batch_axis_of_every_input_and_output_is_found(batch):
    timeline = find_time(gru_model(["T", "B", I], outputs=("Y", "Yh")), {}, batch)
    assert timeline.batch_axes() == {"x": 1, "Y": 2, "Yh": 1}
    assert timeline.batch_axes(length=7) == timeline.batch_axes()


def test_a_batch_that_is_a_number_has_no_axis():
    assert find_time(gru_model(["T", 3, I], outputs=("Y",)), {}, 1).batch_axes() == {}
    assert find_time(gru_model(["T", "B", I], outputs=("Y",)), {"B": 3}, 1).batch_axes() == {}


def test_a_batch_that_is_merged_with_time_has_no_axis():
    tail = [node("Reshape", ["Y", "flat"], ["y"])]
    graph = gru_model(["T", "B", I], tail, constants={"flat": np.array([-1, H])})
    assert find_time(graph, {}, 1).batch_axes(length=4) == {"x": 1}


def test_a_numeric_dimension_name_is_a_name():
    assert find_time(gru_model(["5", 1, I], outputs=("Y",)), {}, 1).time == {"5"}


def test_the_callers_axis_is_taken():
    graph = gru_model([7, 1, I], outputs=("Y",))
    assert find_time(graph, {}, 1, {"x": 0}).axes() == {"x": 0}


@pytest.mark.parametrize("given, message", [({"z": 0}, "no input 'z'"), ({"x": 3}, "no axis 3")])
def test_a_wrong_axis_is_refused(given, message):
    with pytest.raises(ModelError, match=message):
        find_time(gru_model([7, 1, I], outputs=("Y",)), {}, 1, given)


def test_an_unknown_dimension_is_refused():
    with pytest.raises(ModelError, match="'Q'"):
        find_time(gru_model(["T", 1, I], outputs=("Y",)), {"Q": 3}, 1)


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


def test_a_dimension_is_bound_to_one_or_more():
    with pytest.raises(ModelError, match=r"'B' = 0; a number >= 1"):
        find_time(gru_model(["T", "B", I], outputs=("Y",)), {"B": 0}, 1)


def test_a_dimension_that_is_neither_time_nor_batch_is_not_guessed():
    nodes = [node("Relu", ["x"], ["y"])]
    with pytest.raises(ModelError, match=r"the dimension 'bands' \(axis 2 of input 'x'\) is unbound"):
        find_time(read(model(nodes, {"x": ["batch", 3, "bands"]}, ["y"])), {}, 1)
    assert find_time(read(model(nodes, {"x": ["batch", 3, "bands"]}, ["y"])), {"bands": 4}, 2).dims["batch"] == 2
