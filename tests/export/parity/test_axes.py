"""The whole in one call against the stream: an axis that is another than the stream takes it for is named.

The wholes are onnxruntime's and torch's; the streams are right ones, or compiled with an axis bound that should not be.
"""

from __future__ import annotations

from importlib import import_module

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto
from torch import nn

import streamgru
from export.graphs import gru_weights, model, node, rng
from export.parity.recurrences import bound_to_one, over_loop, over_scan
from streamgru.lengths import Lengths
from streamgru_export import export
from streamgru_export.parity.traces import NotComparedError
from streamgru_export.parity.trial import Axes, Port, grown_axes, trial
from streamgru_export.zoo import GRUNet

IN, H = 3, 4


def save(proto, path):
    onnx.save(proto, path)
    return path


def gru(path, x=("T", 1, IN), h=None, extra=(), outputs=("Y",), **attributes):
    """A GRU over x, with its state outside where it has one."""
    inputs = {"x": x} if h is None else {"x": x, "h": h}
    names = ["x", "W", "R", "B", "", "h" if h else ""]
    nodes = [node("GRU", names, ["Y", "Y_h"], hidden_size=H, linear_before_reset=1, **attributes), *extra]
    return save(model(nodes, inputs, outputs, gru_weights(rng(), IN, H)), path)


def certificate(path, image=None, module=None, **options):
    return streamgru.parity(image or path, module, onnx=path, steps=20, **options)


def only(report):
    (check,) = report.axes
    return check


# Time that was taken for a batch


@pytest.mark.parametrize("dimension", ["unk__1", "L", None])
@pytest.mark.parametrize("recurrence,axis", [(over_scan, 0), (over_loop, 1)], ids=["scan", "loop"])
def test_a_recurrence_along_a_batch_is_named(recurrence, axis, dimension, tmp_path):
    path = save(recurrence(dimension), tmp_path / "net.onnx")
    report = certificate(path, bound_to_one(onnx.load(path), dimension))
    assert report.verdict == "does not hold"
    called = repr(dimension) if dimension else "unnamed"
    expected = f"the graph carries memory along axis {axis} of 'x' ({called}), which the stream takes for a batch"
    assert report.reasons[0].startswith(expected)
    assert all(check.ok for check in report.checks)  # who steps the graph that we believe in finds nothing
    assert only(report).sizes == (2, 3, 17)
    with pytest.raises(streamgru.ParityError) as caught:
        report.raise_for_verdict()
    assert caught.value.verdict == "does not hold"


def test_the_advice_is_what_compiles(tmp_path):
    path = gru(tmp_path / "net.onnx", x=("unk__1", 1, IN))
    report = certificate(path, bound_to_one(onnx.load(path), "unk__1"))
    assert report.reasons[0].endswith("which the stream takes for a batch: time_axis={'x': 0}")
    assert certificate(path, streamgru.load(path, time_axis={"x": 0})).ok


def test_a_sum_along_a_batch_is_named(tmp_path):
    path = save(
        model([node("ReduceSum", ["x", "axes"], ["y"])], {"x": ["N", IN]}, ["y"], {"axes": [0]}), tmp_path / "net.onnx"
    )
    report = certificate(path, bound_to_one(onnx.load(path), "N"))
    assert "the graph gathers up axis 0 of 'x' ('N'), which the stream takes for a batch" in report.reasons[0]


@pytest.mark.parametrize("nodes", [
    [node("ReduceMean", ["x"], ["m"], axes=[0]), node("Sub", ["x", "m"], ["y"])],  # normalised by the batch
    [node("MatMul", ["x", "K"], ["k"]), node("Transpose", ["k"], ["kt"]), node("MatMul", ["x", "kt"], ["s"]),
     node("Softmax", ["s"], ["a"], axis=1), node("MatMul", ["a", "x"], ["y"])],  # attention over the batch
], ids=["norm", "attention"])  # fmt: skip
def test_entries_that_depend_on_one_another_are_no_batch(nodes, tmp_path):
    constants = {"K": rng().normal(size=(IN, IN)).astype(np.float32)}
    path = save(model(nodes, {"x": ["N", IN]}, ["y"], constants), tmp_path / "net.onnx")
    report = certificate(path, bound_to_one(onnx.load(path), "N"))
    assert report.verdict == "does not hold"
    assert (
        "the entries along axis 0 of 'x' ('N'), which the stream takes for a batch, depend on one another"
        in report.reasons[0]
    )


def test_a_size_that_was_bound_on_purpose_is_held_for_itself(tmp_path):
    nodes = [node("ReduceMean", ["x"], ["m"], axes=[2]), node("Sub", ["x", "m"], ["c"]), *GRU_OF_5]
    constants = gru_weights(rng(), 5, H)
    path = save(model(nodes, {"x": ["T", 1, "bands"]}, ["Y"], constants), tmp_path / "net.onnx")
    report = certificate(path, streamgru.load(path, dims={"bands": 5}))
    assert report.ok, report.conclusion
    assert any("'bands'" in caveat for caveat in report.caveats)


def test_a_batch_of_a_size_that_mixes_its_entries_is_held_for_that_size(tmp_path):
    nodes = [node("ReduceMean", ["x"], ["m"], axes=[0]), node("Sub", ["x", "m"], ["y"])]
    path = save(model(nodes, {"x": ["N", IN]}, ["y"]), tmp_path / "net.onnx")
    report = certificate(path, streamgru.load(path, dims={"N": 3}))
    assert report.ok, report.conclusion
    told = "is bound to 3, and its entries depend on one another: held for that size alone"
    assert any(told in caveat for caveat in report.caveats)


GRU_OF_5 = [node("GRU", ["c", "W", "R", "B"], ["Y", "Y_h"], hidden_size=H, linear_before_reset=1)]


# What holds


@pytest.mark.parametrize("x,h", [
    (("T", 1, IN), None), (("T", "N", IN), None), (("T", "N", IN), (1, "N", H)), ((1, "N", IN), (1, "N", H)),
    ((None, None, IN), None), ((1, None, IN), (1, None, H)), (("T", 1, IN), (1, 1, H)),
], ids=str)  # fmt: skip
def test_time_and_batch_of_a_gru_hold(x, h, tmp_path):
    path = gru(tmp_path / "net.onnx", x, h, outputs=("Y", "Y_h"))
    options = {} if None not in x else {"time_axis": {"x": 0}} if x[0] is None else {}
    report = certificate(path, streamgru.load(path, **options))
    assert report.ok, report.conclusion
    open_places = {
        (name, a) for name, shape in (("x", x), ("h", h or ())) for a, d in enumerate(shape) if not isinstance(d, int)
    }
    assert {place for check in report.axes for place in check.places} == open_places
    assert all(check.outcome == "holds" and check.sizes == (2, 3, 17) for check in report.axes)
    assert any("time was not tried" in caveat for caveat in report.caveats) == (x[0] == 1)


def test_unnamed_axes_that_grow_only_together_are_tried_together(tmp_path):
    path = gru(tmp_path / "net.onnx", (1, None, IN), (1, None, H), outputs=("Y", "Y_h"))
    report = certificate(path)
    assert {check.places for check in report.axes} == {(("x", 1), ("h", 1)), (("h", 1), ("x", 1))}


def test_an_output_of_the_last_frame_alone(tmp_path):
    path = gru(tmp_path / "net.onnx", outputs=("Y_h",))
    report = certificate(path)
    assert report.ok, report.conclusion
    assert (only(report).taken_for, only(report).sizes) == ("time", (2, 3, 17))


def test_several_inputs_of_one_length_and_ids(tmp_path):
    nodes = [
        node("Gather", ["table", "ids"], ["e"]),
        node("Concat", ["x", "e"], ["c"], axis=2),
        node("GRU", ["c", "W", "R", "B"], ["Y", "Y_h"], hidden_size=H, linear_before_reset=1),
    ]
    constants = {**gru_weights(rng(), IN + 2, H), "table": rng().normal(size=(7, 2)).astype(np.float32)}
    proto = model(nodes, {"x": ["T", "N", IN], "ids": ["T", "N"]}, ["Y"], constants, dtypes={"ids": TensorProto.INT64})
    report = certificate(save(proto, tmp_path / "net.onnx"))
    assert report.ok, report.conclusion
    assert [check.places for check in report.axes] == [(("x", 0), ("ids", 0)), (("x", 1), ("ids", 1))]


def test_one_name_for_time_and_batch_is_tried_as_both(tmp_path):
    path = gru(tmp_path / "net.onnx", ("N", "N", IN))
    proto = onnx.load(path)
    proto.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 1
    image = streamgru.Model(streamgru.compile(proto).image)
    report = certificate(path, image)
    assert report.ok, report.conclusion
    assert only(report).places == (("x", 0), ("x", 1))


# What is wrong along time


def test_a_stream_that_looks_ahead_is_no_stream(tmp_path):
    path = gru(tmp_path / "net.onnx")
    backward = gru(tmp_path / "backward.onnx", direction="reverse")
    report = certificate(backward, streamgru.load(path))
    assert "the graph looks ahead along axis 0 of 'x' ('T'), which the stream takes for time" in report.reasons[1]


def test_a_batch_that_was_taken_for_time_is_named(tmp_path):
    path = gru(tmp_path / "net.onnx", (1, "N", IN))
    image = streamgru.load(gru(tmp_path / "layout.onnx", ("N", 1, IN)))
    vars(image)["inputs"] = (streamgru_info(image.inputs[0], time_axis=1),)
    vars(image)["outputs"] = (streamgru_info(image.outputs[0], time_axis=2),)
    report = certificate(path, image)
    assert "the graph keeps no memory along axis 1 of 'x' ('N'), which the stream takes for time" in report.reasons[0]


def streamgru_info(tensor, time_axis):
    return type(tensor)(tensor.name, tensor.shape, tensor.dtype, time_axis)


# What could not be tried


def test_a_file_that_fixes_everything_says_that_time_was_not_tried(tmp_path):
    path = gru(tmp_path / "net.onnx", (1, 1, IN), (1, 1, H), outputs=("Y", "Y_h"))
    report = certificate(path)
    assert report.ok
    expected = "time was not tried: the file fixes every dimension, and that 'Y_h' becomes 'h' is taken on trust"
    assert report.caveats == (expected,)
    for told in (report.conclusion, report.line, " ".join(report.text().split()), report.to_json()):
        assert expected in told


def test_a_length_that_is_burnt_in_is_said(tmp_path):
    report = certificate(gru(tmp_path / "net.onnx", (6, 1, IN)))
    assert report.caveats == ("time was tried at 6 frames alone: the file fixes that length",)
    assert report.verdict == "partial"
    assert report.reasons[0].endswith("ended after 6 steps: the graph takes exactly 6 frames")


def test_sizes_that_onnxruntime_refuses_are_said(tmp_path):
    """The file leaves the batch open, and its initial state has one entry."""
    gru = node("GRU", ["x", "W", "R", "B", "", "h0"], ["Y", "Y_h"], hidden_size=H, linear_before_reset=1)
    constants = {**gru_weights(rng(), IN, H), "h0": rng().normal(size=(1, 1, H)).astype(np.float32)}
    path = save(model([gru], {"x": ["T", "N", IN]}, ["Y"], constants), tmp_path / "net.onnx")
    report = certificate(path, streamgru.load(path, dims={"N": 1}))
    assert report.ok, report.conclusion
    (caveat,) = report.caveats
    assert caveat.startswith("axis 1 of 'x' ('N') was not tried: onnxruntime refuses 2, 3 and 17: ")
    assert [check.outcome for check in report.axes] == ["holds", "untried"]


def test_the_oracle_runs_the_whole_where_onnxruntime_cannot_be_had(tmp_path, monkeypatch):
    monkeypatch.setattr("streamgru_export.parity.peers.peer", without_ort)
    path = save(over_scan("L"), tmp_path / "net.onnx")
    report = certificate(path, bound_to_one(onnx.load(path), "L"))
    assert only(report).peer == "float64 oracle"
    assert "carries memory along axis 0 of 'x' ('L')" in report.reasons[0]


def without_ort(name):
    if name == "ort_graph":
        raise NotComparedError("onnxruntime is not installed")
    return import_module(f"streamgru_export.parity.{name}")


def test_a_whole_sequence_in_a_frame_is_no_stream(tmp_path):
    path = gru(tmp_path / "net.onnx")
    report = certificate(path, streamgru.load(path, mode="whole", length=5))
    assert report.ok, report.conclusion
    assert report.axes == ()
    assert "nothing is streamed" in report.caveats[0]


# Lengths


def test_a_length_that_a_run_does_not_obey_is_named(tmp_path):
    """The image says of an input that it is a length, and drops it."""
    nodes = [node("GRU", ["x", "W", "R", "B", "lens"], ["Y", "Y_h"], hidden_size=H, linear_before_reset=1)]
    dtypes = {"lens": TensorProto.INT32}
    file = model(nodes, {"x": ["T", 1, IN], "lens": [1]}, ["Y"], gru_weights(rng(), IN, H), dtypes=dtypes)
    cast = [node("Cast", ["lens"], ["f"], to=TensorProto.FLOAT), node("Mul", ["f", "zero"], ["z"])]
    deaf = [node("GRU", ["x", "W", "R", "B"], ["G", "Y_h"], hidden_size=H, linear_before_reset=1), *cast]
    deaf.append(node("Add", ["G", "z"], ["Y"]))
    weights = {**gru_weights(rng(), IN, H), "zero": np.float32(0)}
    ignoring = model(deaf, {"x": ["T", 1, IN], "lens": [1]}, ["Y"], weights, dtypes=dtypes)
    image = streamgru.Model(streamgru.compile(ignoring).image)
    image.lengths = Lengths(("lens",))
    report = certificate(save(file, tmp_path / "net.onnx"), image)
    assert report.reasons == ("Model.run does not obey 'lens', which says how long the sequences are",)
    assert all(check.ok for check in report.checks)  # in a stream each frame is a sequence of length 1
    assert only(report).outcome == "holds"


# The module, which may take more than the file


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(5)
    return GRUNet(IN, H, 2, 2).eval()


@pytest.fixture(scope="module")
def step(net, tmp_path_factory):
    path = tmp_path_factory.mktemp("axes") / "step.onnx"
    export(net, (torch.zeros(1, 1, IN), net.initial_state()), path, stream="step", exporter="legacy")
    return path


def test_a_module_is_taken_further_than_its_graph_of_one_step(step, net):
    report = certificate(step, module=net)
    (check,) = (check for check in report.axes if check.taken_for == "time")
    assert (check.peer, check.outcome, check.sizes) == ("the module", "holds", (2, 3, 17))
    assert report.caveats == ()


@pytest.mark.parametrize("which", [0, -1])
def test_a_module_of_one_step_may_give_one_result_for_many(which, tmp_path):
    class Step(nn.Module):
        def __init__(self):
            super().__init__()
            self.gru = nn.GRU(IN, H, batch_first=True)

        def forward(self, x, h):
            y, h = self.gru(x, h)
            return y[:, which], h

    torch.manual_seed(5)
    module = Step().eval()
    export(module, (torch.zeros(1, 1, IN), torch.zeros(1, 1, H)), tmp_path / "m.onnx", stream="step", exporter="legacy")
    report = certificate(tmp_path / "m.onnx", module=module)
    assert report.ok, report.conclusion


def test_states_that_are_swapped_are_found_by_the_module_in_one_call(tmp_path):
    """Every subject that steps the graph believes the pairs."""
    torch.manual_seed(5)
    lstm, states = nn.LSTM(IN, H).eval(), (torch.zeros(1, 1, H), torch.zeros(1, 1, H))
    path = tmp_path / "lstm.onnx"
    export(lstm, (torch.zeros(1, 1, IN), states), path, stream="step", exporter="legacy")
    right = streamgru.load(path)
    assert certificate(path, right, module=lstm).ok
    (h_in, h_out), (c_in, c_out) = (state.source for state in right.states)
    swapped = streamgru.load(path, state=[(h_in, c_out), (c_in, h_out)])
    report = certificate(path, swapped, module=lstm)
    assert all(check.ok for check in report.checks)
    assert report.verdict == "does not hold"
    assert "the module carries memory along axis 0 of" in report.reasons[0]
    assert report.reasons[0].endswith(f"With state=[({h_in!r}, {h_out!r}), ({c_in!r}, {c_out!r})] they do")
    assert (
        certificate(path, swapped)
        .caveats[0]
        .endswith(f"that {c_out!r} becomes {h_in!r} and {h_out!r} becomes {c_in!r} is taken on trust")
    )


# One trial


def test_frames_of_a_trial_are_blocks_along_each_axis():
    """A port [time, batch of 2, 3] whose time and batch grow to 4: each entry of the stream is a block of 2."""
    port = Port("x", (1, 2, 3), np.dtype(np.float32), time_axis=0, heard=True, drawn=True)
    made = trial(
        None, [port], Axes((("x", 0), ("x", 1))), 4, 1, lambda name, n: np.random.default_rng(n).normal(size=(n, 2, 3))
    )
    assert made.feeds["x"].shape == (4, 8, 3)
    assert (made.entries, made.length) == (4, 4)
    frames = [[made.frame(entry, t)["x"] for entry in range(4)] for t in range(4)]
    np.testing.assert_array_equal(np.stack([np.concatenate(entries) for entries in frames]), made.feeds["x"])


def test_axes_that_grow_are_those_that_are_longer():
    short, long = ({"y": np.zeros((n, 1, 2 * n)), "h": np.zeros((1, 4))} for n in (2, 3))
    assert grown_axes(short, long) == {"y": [0, 2], "h": []}
