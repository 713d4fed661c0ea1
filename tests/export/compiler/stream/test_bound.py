"""Dimensions that the caller binds: not the time axis."""

from __future__ import annotations

import numpy as np
import pytest

from export.compiler.stream.recurrences import N, cell, convolution, loop, over, scan
from export.compiler.stream.steps import assert_steps_equal
from export.graphs import gru_weights, model, node, rng
from streamgru.errors import ModelError
from streamgru_export.compiler.compile import compile
from streamgru_export.compiler.graph.onnx_reader import read
from streamgru_export.compiler.stream.bound import check_bound
from streamgru_export.compiler.stream.timeline import find_time


@pytest.mark.parametrize("number", [1, 4])
@pytest.mark.parametrize("made", [loop, scan, lambda n: cell("GRU", n)], ids=["loop", "scan", "gru"])
def test_the_axis_that_a_recurrence_runs_along_is_not_bound(made, number):
    """Its state starts anew in each call, so that it forgets."""
    with pytest.raises(ModelError, match=f"dims binds 'unk__1', the time axis, to {number}: .* runs along it"):
        compile(made("unk__1"), dims={"unk__1": number})


@pytest.mark.parametrize("made", [loop, scan], ids=["loop", "scan"])
def test_one_step_whose_state_goes_in_and_comes_out_may_be_bound_to_one(made):
    source = made("unk__1", state=True)
    compiled = compile(source, dims={"unk__1": 1}, state=[("h0", "hN")])
    assert compiled.kind == "step"
    for value in (*source.graph.input,):
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param:
                dim.dim_value = 1
    assert_steps_equal(source, compiled)
    with pytest.raises(ModelError, match="the time axis, to 3"):
        compile(made("unk__1", state=True), dims={"unk__1": 3})


def test_a_backward_cell_is_not_bound_to_one_frame():
    gru = node("GRU", ["x", "W", "R", "B", "", "h"], ["y", "hn"], hidden_size=N, direction="reverse")
    source = model([gru], {"x": ["T", 1, N], "h": [1, 1, N]}, ["y", "hn"], gru_weights(rng(), N, N))
    with pytest.raises(ModelError, match="dims binds 'T', the time axis, to 1"):
        compile(source, dims={"T": 1})


def test_what_a_kernel_reaches_along_may_be_bound_to_more_than_one():
    """A frame of 40 bands; of one band it would be another model."""
    assert compile(convolution("bands"), dims={"bands": 40}).inputs == {"x": (1, N, 40)}
    with pytest.raises(ModelError, match=r"dims binds 'bands', the time axis, to 1: Conv node .*; leave it out"):
        compile(convolution("bands"), dims={"bands": 1})
    assert list(compile(convolution("bands")).states.values()) == [(1, N, 2)]


def test_what_mixes_its_entries_is_bound_to_one_with_a_warning():
    source = over("Softmax", "N", axis=0)
    with pytest.warns(UserWarning, match="dims binds 'N' to 1, and Softmax node 'Softmax_y' mixes its entries"):
        compile(source, dims={"N": 1})
    assert compile(source, dims={"N": 5}).notes == []


def test_a_batch_and_a_dimension_of_one_number_are_bound_as_the_caller_says():
    assert compile(over("Tanh", "N"), dims={"N": 3}).inputs == {"x": (3, N)}
    baked = model([node("Reshape", ["x", "shape"], ["y"])], {"x": ["A", N]}, ["y"], {"shape": np.array([N])})
    assert check_bound(find_time(read(baked), {"A": 1}, 1), {"A": 1}, told=False) == []


def test_who_says_which_axis_is_time_may_bind_the_other():
    """A GRU over the bands of a frame, and one over the frames."""
    nodes = [node("GRU", ["x", "W", "R", "B"], ["a"], hidden_size=N), node("Squeeze", ["a", "one"], ["b"]),
             node("Transpose", ["b"], ["c"], perm=[1, 0, 2]),
             node("GRU", ["c", "W", "R", "B"], ["y"], hidden_size=N)]  # fmt: skip
    source = model(nodes, {"x": ["F", "T", N]}, ["y"], {**gru_weights(rng(), N, N), "one": np.array([1])})
    with pytest.raises(ModelError, match=r"dims binds 'F', and GRU node .* as along 'T'.* say time_axis=\{'x': 1\}"):
        compile(source, dims={"F": 3})
    assert compile(source, dims={"F": 3}, time_axis={"x": 1}).inputs == {"x": (3, N)}


def passed(name):
    """A GRU that takes a state and gives it."""
    gru = node("GRU", ["x", "W", "R", "B", "", "h0"], ["y", "hN"], hidden_size=N)
    return model([gru], {"x": [name, 1, N], "h0": [1, 1, N]}, ["y", "hN"], gru_weights(rng(), N, N))


@pytest.mark.parametrize("made", [loop, scan, passed])
def test_a_state_that_is_computed_from_the_sequence_is_not_passed_on(made):
    """It begins anew in each call, as one of zeros does."""
    source = passed("N") if made is passed else made("N", state=True)
    assert compile(source, dims={"N": 1}).kind == "step"
    state = source.graph.input.pop(1)
    assert state.name == "h0"
    shape = [d.dim_value for d in state.type.tensor_type.shape.dim]
    axis = [d.dim_param for d in source.graph.input[0].type.tensor_type.shape.dim].index("N")
    first = [node("Gather", ["x", "first"], ["f"], axis=axis), node("Mul", ["f", "half"], ["g"]),
             node("Reshape", ["g", "to"], ["h0"])]  # fmt: skip
    added = model(first, {}, [], {"first": np.array(0), "half": np.float32(0.5), "to": np.array(shape)}).graph
    nodes = [*added.node, *source.graph.node]
    del source.graph.node[:]
    source.graph.node.extend(nodes)
    source.graph.initializer.extend(added.initializer)
    with pytest.raises(ModelError, match="dims binds 'N', the time axis, to 1"):
        compile(source, dims={"N": 1})


def test_an_axis_that_is_only_called_like_time_excuses_nothing():
    along = node("Conv", ["x", "w"], ["y"], pads=[2, 0])
    source = model([along], {"x": ["time", N, "L"]}, ["y"], {"w": np.ones((N, N, 3), np.float32)})
    with pytest.raises(ModelError, match=r"Conv node 'Conv_y' reaches along it and not along 'time'.*time_axis="):
        compile(source, dims={"L": 1})
    assert compile(source, dims={"L": 1}, time_axis={"x": 0}).kind == "sequence"
    mixes = model([node("Softmax", ["x"], ["y"], axis=1)], {"x": ["time", "L", N]}, ["y"])
    with pytest.warns(UserWarning, match="dims binds 'L' to 1, and Softmax node 'Softmax_y' mixes its entries"):
        compile(mixes, dims={"L": 1})
