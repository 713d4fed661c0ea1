"""Frames to try a model on."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

import streamgru
from runtime.models import gru_image
from streamgru.lengths import Lengths
from streamgru_export.frames import drawing, drawing_from, given_frames, id_tables, random_frames


def test_ids_stay_below_the_smallest_table_they_index():
    nodes = [helper.make_node("Gather", [table, "ids"], [f"{table}_row"]) for table in ("a", "b")]
    nodes.append(helper.make_node("Gather", ["c", "ids"], ["column"], axis=1))
    tables = {"a": np.zeros((9, 4)), "b": np.zeros((6, 4)), "c": np.zeros((2, 3))}
    ids = helper.make_tensor_value_info("ids", TensorProto.INT64, [1])
    y = helper.make_tensor_value_info("column", TensorProto.DOUBLE, None)
    weights = [numpy_helper.from_array(value, name) for name, value in tables.items()]
    model = helper.make_model(helper.make_graph(nodes, "g", [ids], [y], weights))
    assert id_tables(model) == {"ids": 6}


@pytest.mark.parametrize("axis", [0, 1])
def test_given_frames_have_their_time_first(axis):
    """As a step takes them: [T, *frame], whatever axis the file has time on."""
    port = replace(streamgru.Model(gru_image(inputs=3, batch=2)).inputs[0], time_axis=axis)
    model = SimpleNamespace(inputs=[port])
    x = np.random.default_rng(3).normal(size=(5, 2, 3)).astype(np.float32)
    (frames,) = given_frames(model, np.moveaxis(x, 0, axis)).values()
    np.testing.assert_array_equal(frames, x)
    assert frames.flags.c_contiguous


def test_random_frames_follow_the_seed_and_the_table():
    model = streamgru.Model(gru_image(inputs=3))
    (first,), (again,), (other,) = (random_frames(model, {}, 2000, seed).values() for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
    assert first.shape == (2000, 1, 3)
    assert abs(first.mean()) < 0.05  # 6000 standard normal numbers: four standard errors
    assert abs(first.std() - 1) < 0.04


def test_drawn_frames_are_as_many_as_are_asked_for_and_each_time_others():
    model = streamgru.Model(gru_image(inputs=3))
    (name,) = (tensor.name for tensor in model.inputs)
    draw, again, other = drawing(model, {}, 1), drawing(model, {}, 1), drawing(model, {}, 2)
    first, second = draw(name, 5), draw(name, 5)
    assert first.shape == (5, 1, 3)
    assert (first != second).any()
    np.testing.assert_array_equal(first, again(name, 5))
    assert (first != other(name, 5)).any()


@pytest.mark.parametrize("count", [1, 4, 9])
def test_frames_drawn_from_given_ones_are_those(count):
    given = np.arange(4.0).reshape(4, 1)
    drawn = drawing_from({"x": given}, 0)("x", count)
    assert drawn.shape == (count, 1)
    assert set(drawn.ravel()) <= set(given.ravel())
    assert len(np.unique(drawn)) == min(count, 4) or count > 4


def test_a_length_is_one_in_a_stream():
    model = streamgru.Model(gru_image(inputs=3))
    assert model.lengths.inputs == ()
    (name,) = (tensor.name for tensor in model.inputs)
    model.lengths = Lengths((name,))
    assert model.lengths.inputs == (name,)
    np.testing.assert_array_equal(random_frames(model, {}, 3, 0)[name], np.ones((3, 1, 3), np.float32))
