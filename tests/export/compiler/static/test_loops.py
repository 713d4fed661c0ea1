"""Loops of another kind than a GRU are written out step after step, or refused by name."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import helper, numpy_helper

from export.compiler.static.keras import (
    BOOL,
    INT64,
    node,
    value,
)
from export.graphs import assert_close, model, onnxruntime, whole
from streamgru.errors import ModelError
from streamgru_export.compiler.compile import compile


def power_loop(count, condition="go", initial_go=True):
    """x · 2ⁿ, stacking what every step has; may stop where a counter says so."""
    body = helper.make_graph(
        [node("Add", ["v", "v"], ["v_new"]), node("Less", ["i", "three"], ["early"]), node("Identity", ["go"],
        ["late"]),
         node("ReduceMax", ["v_new"], ["top"], keepdims=0), node("Less", ["top", "big"], ["data"]),
         node("Identity", ["v_new"], ["seen"])],
        "body", [value("i", [], INT64), value("go", [], BOOL), value("v")],
        [value({"go": "late"}.get(condition, condition), [], BOOL), value("v_new"), value("seen")],
    )  # fmt: skip
    loop = node("Loop", ["n", "first"], ["end", "all"], body=body, name="doubling")
    loop.input.append("x")
    constants = {"n": np.int64(count), "first": np.bool_(initial_go), "three": np.int64(2), "big": np.float32(9)}
    return model([loop], {"x": [1, 2]}, ["end", "all"], constants, opset=17)


@pytest.mark.parametrize("count, condition, steps", [(4, "go", 4), (9, "early", 3), (2, "early", 2)])
def test_a_short_loop_is_written_out(count, condition, steps):
    source, x = power_loop(count, condition), {"x": np.float32([[1.5, -2]])}
    compiled = compile(source, mode="whole")
    assert compiled.outputs["all"] == (steps, 1, 2)
    assert_close(whole(compiled, x), onnxruntime(source, x), 0.0)


@pytest.mark.parametrize(
    "source, message",
    [
        (lambda: power_loop(4, "data"), "'doubling'.*depends on the data"),
        (lambda: power_loop(10**4), "'doubling'.*10000 nodes.*one step"),
        (lambda: power_loop(2**62), "'doubling'.*one step"),
        (lambda: power_loop(4, initial_go=False), "'doubling'.*no step.*'all'"),
    ],
)
def test_a_loop_that_cannot_be_compiled_is_refused(source, message):
    with pytest.raises(ModelError, match=message):
        compile(source(), mode="whole")


def test_a_body_that_does_not_fit_is_refused():
    body = helper.make_graph([], "body", [], [value("c", [], BOOL)])
    source = model([node("Loop", ["n", "c"], ["y"], name="loop", body=body)], {"x": [1]}, ["y"],
                   {"n": np.array(3), "c": np.array(True)})  # fmt: skip
    with pytest.raises(ModelError, match=r"'loop'.*does not fit"):
        compile(source)


def test_an_if_in_a_loop_whose_condition_is_the_number_of_the_step():
    then = helper.make_graph([node("Neg", ["v"], ["negative"])], "then", [], [value("negative")])
    otherwise = helper.make_graph([node("Add", ["v", "x"], ["more"])], "else", [], [value("more")])
    body = helper.make_graph(
        [node("Equal", ["i", "second"], ["is_second"]),
         node("If", ["is_second"], ["v_new"], then_branch=then, else_branch=otherwise), node("Identity", ["go"],
         ["on"])],
        "body", [value("i", [], INT64), value("go", [], BOOL), value("v")], [value("on", [], BOOL), value("v_new")],
    )  # fmt: skip
    source = model([node("Loop", ["n", "", "x"], ["y"], body=body)], {"x": [1, 2]}, ["y"],
                   {"n": np.int64(4), "second": np.int64(1)})  # fmt: skip
    x = {"x": np.float32([[1.5, -2]])}
    assert_close(whole(compile(source, mode="whole"), x), onnxruntime(source, x), 0.0)


def test_an_if_whose_condition_depends_on_the_data_is_refused():
    branch = [helper.make_graph([node("Neg", ["x"], [o])], o, [], [value(o)]) for o in "ab"]
    nodes = [node("Less", ["x", "zero"], ["less"]),
             node("If", ["less"], ["y"], name="choice", then_branch=branch[0], else_branch=branch[1])]  # fmt: skip
    source = model(nodes, {"x": [1]}, ["y"], {"zero": np.zeros(1, np.float32)})
    with pytest.raises(ModelError, match=r"'choice'.*depends on the data"):
        compile(source)


@pytest.mark.parametrize("count", [1, 3])
def test_a_loop_may_read_what_lies_outside(count):
    """A constant of the body, a value from outside, and a state that never changes."""
    body = helper.make_graph(
        [node("Mul", ["v", "k"], ["a"]), node("Add", ["a", "outside"], ["b"]), node("Add", ["b", "same"], ["v_new"]),
         node("Identity", ["go"], ["on"]), node("Identity", ["same"], ["same_new"])],
        "body", [value("i", [], INT64), value("go", [], BOOL), value("v"), value("same")],
        [value("on", [], BOOL), value("v_new"), value("same_new")], [numpy_helper.from_array(np.float32([[2, 3]]),
        "k")],
    )  # fmt: skip
    nodes = [node("Abs", ["x"], ["outside"]), node("Loop", ["n", "", "x", "x"], ["y", "z"], body=body)]
    source = model(nodes, {"x": [1, 2]}, ["y", "z"], {"n": np.int64(count)})
    x = {"x": np.float32([[1.5, -2]])}
    assert_close(whole(compile(source, mode="whole"), x), onnxruntime(source, x), 0.0)
