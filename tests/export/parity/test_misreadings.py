"""A misreading is named only where it explains a stream, and only where there is something to explain."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

import streamgru
from export.graphs import gru_weights, model, node, rng
from streamgru_export.parity import misreadings
from streamgru_export.parity.oracle_graph import OracleGraph
from streamgru_export.parity.traces import Case

STEPS, TOLERANCE = 12, 2e-6
OPTIONS = {"block": None, "nonfinite": "refuse", "threads": None}


def gru(count=1, **attributes):
    """So many GRUs, one on the other."""
    r = rng()
    constants, nodes, x = {}, [], "x"
    for k in range(count):
        constants |= {f"{name}{k}": value for name, value in gru_weights(r, 4, 4).items()}
        given = {"linear_before_reset": 1, **attributes.get(f"of_{k}", {})}
        nodes.append(node("GRU", [x, f"W{k}", f"R{k}", f"B{k}"], [f"Y{k}", f"h{k}"], hidden_size=4, **given))
        nodes.append(node("Squeeze", [f"Y{k}", "one"], [f"y{k}"]))
        x = f"y{k}"
    return model(nodes, {"x": ["T", 1, 4]}, [x], {**constants, "one": np.array([1])})


def reason(file, misread, first_wrong=0, tolerance=TOLERANCE):
    image = streamgru.Model(streamgru.compile(misread).image)
    frames = {"x": rng().normal(size=(STEPS, 1, 4)).astype(np.float32)}
    return misreadings.reason(Case(image, frames, OPTIONS), file, OracleGraph, first_wrong, tolerance)


def test_one_node_of_several_is_named():
    said = reason(gru(3), gru(3, of_1={"linear_before_reset": 0}))
    assert said.startswith(
        "our stream gives what the graph would give with the other linear_before_reset in GRU node 'GRU_Y1' ("
    )


def test_all_nodes_are_named_where_it_is_all():
    said = reason(gru(2), gru(2, of_0={"linear_before_reset": 0}, of_1={"linear_before_reset": 0}))
    assert "in GRU node 'GRU_Y0', GRU node 'GRU_Y1' (" in said


def test_what_no_guess_explains_is_not_explained():
    other = gru()
    other.graph.initializer[0].CopyFrom(onnx_noise(other.graph.initializer[0]))
    assert reason(gru(), other) == ""


@pytest.mark.parametrize("scaled, mismatches", [(TOLERANCE, 0), (0.0, 0), (TOLERANCE, 1), (2 * TOLERANCE, 0)])
def test_a_guess_explains_within_the_tolerance_itself(monkeypatch, scaled, mismatches):
    """The first comparison is with the graph as it is; the second with the first guess."""
    found = iter([SimpleNamespace(scaled=1.0, mismatches=0)])
    guessed = SimpleNamespace(scaled=scaled, mismatches=mismatches)
    monkeypatch.setattr(misreadings, "compare", lambda *_: next(found, guessed))
    assert bool(reason(gru(), gru())) == (scaled <= TOLERANCE and not mismatches)


def onnx_noise(tensor):
    values = np.frombuffer(tensor.raw_data, np.float32) + np.float32(0.1)
    changed = type(tensor)()
    changed.CopyFrom(tensor)
    changed.raw_data = values.tobytes()
    return changed


@pytest.mark.parametrize("first_wrong", [STEPS, misreadings.MOST_FRAMES + 1])
def test_a_step_that_is_too_late_to_try_is_not_explained(first_wrong):
    assert reason(gru(), gru(of_0={"linear_before_reset": 0}), first_wrong) == ""


def test_the_file_is_left_as_it_was():
    file = gru(2)
    before = file.SerializeToString()
    reason(file, gru(2, of_1={"linear_before_reset": 0}))
    assert file.SerializeToString() == before
