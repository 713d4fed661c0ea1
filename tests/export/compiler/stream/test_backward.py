"""A cell that runs from the end of a call hands no state on to the next call."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper

from export.compiler.stream.steps import H, I, assert_steps_equal
from export.graphs import assert_close, gru_weights, model, node, onnxruntime, rng, whole
from streamgru.errors import CannotStreamError
from streamgru_export.compiler.compile import compile
from streamgru_export.compiler.graph.onnx_reader import read
from streamgru_export.compiler.static.specialise import specialise
from streamgru_export.compiler.stream.backward import refuse_backward


def carried(op="GRU", frames=5, direction="forward", head=(), x="x", constants=None, opset=17, **attributes):
    """A cell over the frames of a call, from a state to a state."""
    d = 2 if direction == "bidirectional" else 1
    names = [("h", "h_new")] + ([("c", "c_new")] if op == "LSTM" else [])
    weights = gru_weights(rng(), I, H, d, {"GRU": 3, "LSTM": 4, "RNN": 1}[op])
    nodes = [*head, node(op, [x, "W", "R", "B", "", *(i for i, _ in names)], ["y", *(o for _, o in names)],
                         hidden_size=H, direction=direction, **attributes)]  # fmt: skip
    inputs = {"x": [frames, 1, I]} | {i: [d, 1, H] for i, _ in names}
    return model(nodes, inputs, ["y", *(o for _, o in names)], {**weights, **(constants or {})}, opset)


def scanned(direction):
    """h' = tanh(x + h) by Scan, over five frames, from a state to a state."""
    ports = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, I]) for n in ("p", "f", "q", "o")]
    body = helper.make_graph(
        [node("Add", ["p", "f"], ["a"]), node("Tanh", ["a"], ["q"]), node("Identity", ["q"], ["o"])],
        "body", ports[:2], ports[2:],
    )  # fmt: skip
    scan = node("Scan", ["h", "x"], ["h_new", "y"], body=body, num_scan_inputs=1, scan_input_directions=[direction])
    return model([scan], {"x": [5, 1, I], "h": [1, I]}, ["y", "h_new"])


BACK = {"s": np.array([-1]), "e": np.array([-(2**31)]), "a": np.array([0]), "n": np.array([-1])}
FLIP = node("Slice", ["x", "s", "e", "a", "n"], ["r"])
TURNED = {
    "Slice": ([FLIP], BACK),
    "Slice, and a layer": ([FLIP, node("Relu", ["r"], ["q"])], BACK),
    "Gather": ([node("Gather", ["x", "i"], ["r"], axis=0)], {"i": np.arange(5)[::-1].copy()}),
}


@pytest.mark.parametrize("op", ["GRU", "LSTM", "RNN"])
@pytest.mark.parametrize("direction", ["reverse", "bidirectional"])
def test_a_backward_state_that_goes_on_to_the_next_call_is_refused(op, direction):
    source = carried(op, direction=direction)
    with pytest.raises(CannotStreamError, match=rf"{op} node '{op}_y': it is {direction} over the 5 frames of a call.*"
                       r"It can run whole: streamgru\.load\(path, mode='whole'\)"):  # fmt: skip
        compile(source)
    r = rng()
    feeds = {p.name: r.normal(size=[d.dim_value for d in p.type.tensor_type.shape.dim]).astype(np.float32)
             for p in source.graph.input}  # fmt: skip
    assert_close(whole(compile(source, mode="whole"), feeds), onnxruntime(source, feeds))


def test_one_that_the_caller_declares_is_refused_too():
    with pytest.raises(CannotStreamError, match="GRU_y"):
        compile(carried(direction="reverse"), state=[("h", "h_new")])
    assert compile(carried(direction="reverse"), state=[]).states == {}


@pytest.mark.parametrize("how", list(TURNED))
def test_a_sequence_that_is_turned_round_before_its_cell_is_refused(how):
    head, constants = TURNED[how]
    source = carried(head=head, x=head[-1].output[0], constants=constants)
    with pytest.raises(CannotStreamError, match=rf"GRU_y': {how.split(',')[0]} node .* turns its sequence round over "
                       "the 5 frames"):  # fmt: skip
        compile(source)


def test_features_may_be_turned_round():
    source = carried(head=[FLIP], x="r", constants={**BACK, "a": np.array([2])}, frames=3)
    compiled = compile(source)
    assert compiled.pairs == [("h", "h_new")]
    assert_steps_equal(source, compiled)


def test_a_scan_from_the_end_is_refused():
    with pytest.raises(CannotStreamError, match="Scan_h_new': it scans from the end over the 5 frames of a call"):
        compile(scanned(1), state=[("h", "h_new")])
    forward = compile(scanned(0), state=[("h", "h_new")])
    assert_steps_equal(scanned(0), forward)


def test_a_cell_that_is_backward_over_one_frame_streams_as_the_file_says():
    """The state goes forward from call to call, though each call runs the other way."""
    for direction in ("reverse", "bidirectional"):
        source = carried(frames=1, direction=direction)
        with pytest.warns(UserWarning, match=f"GRU_y': it is {direction} over one frame, and its state is carried"):
            compiled = compile(source)
        assert_steps_equal(source, compiled)


def test_a_backward_cell_that_starts_anew_in_each_call_is_a_part_of_the_frame():
    weights = gru_weights(rng(), I, H, 2)
    source = model([node("GRU", ["x", "W", "R", "B"], ["y"], hidden_size=H, direction="bidirectional")],
                   {"x": [4, 1, I]}, ["y"], weights)  # fmt: skip
    assert refuse_backward(specialise(read(source), {}), set()) == []


@pytest.mark.parametrize("frames", [5, 1])
def test_what_runs_forward_is_carried(frames):
    graph = specialise(read(carried(frames=frames)), {})
    assert refuse_backward(graph, {"h"}) == []
    with pytest.raises(CannotStreamError, match="reverse over the 5 frames"):
        refuse_backward(specialise(read(carried(direction="reverse")), {}), {"h"})
