"""Finding the time axis, and the batch."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper

from export.compiler.stream.recurrences import cell, convolution, loop, over, scan
from export.compiler.stream.streams import H, I, gru_model, node
from export.graphs import assert_close, gru_weights, model, onnxruntime, rng, stream
from streamgru.errors import CannotStreamError, ModelError
from streamgru_export.compiler.compile import compile
from streamgru_export.compiler.graph.onnx_reader import read
from streamgru_export.compiler.stream.timeline import find_time


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


def test_several_dimensions_that_come_first_are_batches_whatever_their_names():
    """Of inputs that have nothing to do with each other."""
    gru = node("GRU", ["x", "W", "R", "B"], ["Y"], hidden_size=H)
    nodes = [gru, node("Relu", ["a"], ["c"]), node("Neg", ["b"], ["d"])]
    inputs = {"x": ["T", 1, I], "a": ["foo", 4], "b": ["bar", 4]}
    graph = read(model(nodes, inputs, ["Y", "c", "d"], gru_weights(rng(), I, H)))
    assert find_time(graph, {}, 1).dims == {"foo": 1, "bar": 1}


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


def test_a_dimension_is_bound_to_one_or_more():
    with pytest.raises(ModelError, match=r"'B' = 0; a number >= 1"):
        find_time(gru_model(["T", "B", I], outputs=("Y",)), {"B": 0}, 1)


def test_a_dimension_that_is_neither_time_nor_batch_is_not_guessed():
    nodes = [node("Relu", ["x"], ["y"])]
    with pytest.raises(ModelError, match=r"the dimension 'bands' \(axis 2 of input 'x'\) is unbound"):
        find_time(read(model(nodes, {"x": ["batch", 3, "bands"]}, ["y"])), {}, 1)
    assert find_time(read(model(nodes, {"x": ["batch", 3, "bands"]}, ["y"])), {"bands": 4}, 2).dims["batch"] == 2


@pytest.mark.parametrize("name", ["unk__1", "N", "L", "batch", None])
@pytest.mark.parametrize("made", [loop, scan], ids=["loop", "scan"])
def test_a_loop_over_an_open_axis_is_no_batch_of_one(made, name):
    """It would stream without memory."""
    with pytest.raises(CannotStreamError, match="it runs over the frames of the sequence, and its body is no GRU"):
        compile(made(name))


@pytest.mark.parametrize("turned", ["scan_input_directions", "scan_output_directions"])
def test_a_scan_from_the_last_frame_is_no_step_either(turned):
    source = scan("N")
    source.graph.node[-1].attribute.append(helper.make_attribute(turned, [1]))
    with pytest.raises(CannotStreamError, match=r"from the last one, or gives .* It can run whole"):
        compile(source)


@pytest.mark.parametrize("name", ["unk__1", "N", None])
@pytest.mark.parametrize("made", [lambda n: cell("GRU", n), lambda n: cell("LSTM", n), convolution],
                         ids=["gru", "lstm", "conv"])  # fmt: skip
def test_what_has_memory_streams_whatever_its_axis_is_called(made, name):
    source = made(name)
    assert compile(source).states
    shape = [d.dim_value or 9 for d in source.graph.input[0].type.tensor_type.shape.dim]
    x = {"x": rng().normal(size=shape).astype(np.float32)}
    assert_close(stream(compile(source), x), onnxruntime(source, x))


@pytest.mark.parametrize("name", ["N", "batch", None])
def test_what_mixes_an_axis_makes_it_no_batch(name):
    for source in (over("Softmax", name, axis=0), over("ReduceMean", name, axes=[0]), over("attention", name)):
        with pytest.raises(CannotStreamError, match=r"_y'.*It can run whole"):
            compile(source)


def two_axes(*, softmax=False):
    """A GRU over axis 1 of [F, T, N]; over axis 0 another, or a Softmax."""
    nodes = [node("Transpose", ["x"], ["xt"], perm=[1, 0, 2]), node("GRU", ["xt", "W", "R", "B"], ["a"], hidden_size=H),
             node("Squeeze", ["a", "one"], ["b"]), node("Transpose", ["b"], ["c"], perm=[1, 0, 2])]  # fmt: skip
    nodes.append(node("Softmax", ["c"], ["y"], axis=0) if softmax else
                 node("GRU", ["c", "W2", "R", "B"], ["y"], hidden_size=H))  # fmt: skip
    constants = {**gru_weights(rng(), I, H), "one": np.array([1]), "W2": gru_weights(rng(), H, H)["W"]}
    return model(nodes, {"x": ["F", "T", I]}, ["y"], constants)


def test_two_axes_that_could_be_time_are_refused_with_what_to_say():
    with pytest.raises(ModelError) as caught:
        compile(two_axes())
    assert "'F' (axis 0 of input 'x'): GRU node 'GRU_y' runs along it" in str(caught.value)
    assert "time_axis={'x': 0}, dims={'T': 4}, or time_axis={'x': 1}, dims={'F': 4}" in str(caught.value)
    assert compile(two_axes(), time_axis={"x": 1}, dims={"F": 4}).inputs == {"x": (4, I)}
    assert compile(two_axes(), time_axis={"x": 0}, dims={"T": 4}).inputs == {"x": (4, I)}


def test_of_two_axes_only_those_that_stream_are_recommended():
    with pytest.raises(ModelError, match=r"such as time_axis=\{'x': 1\}, dims=\{'F': 4\}$"):
        compile(two_axes(softmax=True))


def test_the_axis_beside_the_one_that_was_said_must_be_a_batch():
    with pytest.raises(ModelError, match=r"time_axis leaves 'F' \(axis 0 of input 'x'\) open, which is no batch: "
                       r"GRU node 'GRU_y' runs along it\. Give its number, such as dims=\{'F': 4\}"):  # fmt: skip
        compile(two_axes(), time_axis={"x": 1})


def test_an_input_as_long_as_time_is_time():
    """Though one entry of it would do, and it has another name."""
    gru = node("GRU", ["x", "W", "R", "B"], ["Y"], hidden_size=H)
    source = model([gru, node("Mul", ["Y", "z"], ["y"])], {"x": ["A", 1, I], "z": ["C", 1, 1, H]}, ["y"],
                   gru_weights(rng(), I, H))  # fmt: skip
    assert find_time(read(source), {}, 1).time == {"A", "C"}
    feeds = {k: rng().normal(size=s).astype(np.float32) for k, s in (("x", (7, 1, I)), ("z", (7, 1, 1, H)))}
    assert_close(stream(compile(source), feeds), onnxruntime(source, feeds))


def test_a_dimension_of_one_number_is_a_batch_by_its_name_alone():
    nodes = [node("Reshape", ["x", "shape"], ["y"])]
    made = lambda name: model(nodes, {"x": [name, I]}, ["y"], {"shape": np.array([1, I])})  # noqa: E731
    assert find_time(read(made("batch")), {}, 1).dims == {"batch": 1}
    with pytest.raises(ModelError, match=r"'unk__0' cannot be bound to another length.*give dims=\{'unk__0': 1\}"):
        compile(made("unk__0"))
    assert compile(made("unk__0"), dims={"unk__0": 1}).inputs == {"x": (1, I)}


@pytest.mark.parametrize("least", [1, 2, 30, 100])
def test_a_branch_on_the_length_is_refused(least):
    """One frame would take the other branch, which has no memory."""
    gru = helper.make_graph([helper.make_node("GRU", ["x", "W", "R"], ["g"], hidden_size=H)], "then", [],
                            [helper.make_tensor_value_info("g", TensorProto.FLOAT, None)])  # fmt: skip
    wide = helper.make_graph([node("MatMul", ["u", "M"], ["z"])], "else", [],
                             [helper.make_tensor_value_info("z", TensorProto.FLOAT, None)])  # fmt: skip
    nodes = [node("Shape", ["x"], ["s"]), node("Gather", ["s", "k"], ["t"], axis=0), node("Greater", ["t", "least"],
             ["many"]), node("Unsqueeze", ["x", "ax"], ["u"]),
             node("If", ["many"], ["y"], then_branch=gru, else_branch=wide)]  # fmt: skip
    constants = {**gru_weights(rng(), I, H), "k": np.array(0), "least": np.array(least), "ax": np.array([1]),
                 "M": np.ones((I, H), np.float32)}  # fmt: skip
    with pytest.raises(CannotStreamError, match="If node 'If_y': its branch depends on the length of the sequence"):
        compile(model(nodes, {"x": ["T", 1, I]}, ["y"], constants))


@pytest.mark.parametrize("name, refused", [("N", True), ("unk__1", True), ("batch", False)])
def test_a_dimension_whose_size_is_asked_for_is_a_batch_by_name_only(name, refused):
    """With one entry it is negated, with 29 it is not: what that axis is, is not known."""
    both = [helper.make_graph([node(op, ["x"], [op])], op, [], [helper.make_tensor_value_info(op, 1, None)])
            for op in ("Identity", "Neg")]  # fmt: skip
    nodes = [node("Shape", ["x"], ["s"]), node("Gather", ["s", "zero"], ["n"]), node("Greater", ["n", "two"], ["more"]),
             node("If", ["more"], ["y"], then_branch=both[0], else_branch=both[1])]  # fmt: skip
    source = model(nodes, {"x": [name, 4]}, ["y"], {"zero": np.array(0), "two": np.array(2)})
    if not refused:
        assert compile(source).kind == "step"
        return
    with pytest.raises(ModelError, match=r"If node 'If_y': its branch depends on the length of the sequence"):
        compile(source)
