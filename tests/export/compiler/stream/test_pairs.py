"""Which inputs and outputs are a state: by dataflow, by name, by metadata and by the caller's word."""

from __future__ import annotations

import json

import numpy as np
import pytest
from onnx import TensorProto

from export.compiler.stream.steps import assert_steps_equal, node, step
from export.graphs import assert_close, gru_weights, model, onnxruntime, rng
from export.image_vm import ImageVM
from streamgru.errors import ModelError
from streamgru_export.compiler.compile import compile
from streamgru_export.compiler.graph.onnx_reader import read
from streamgru_export.compiler.static.specialise import specialise
from streamgru_export.compiler.stream.pairs import find_pairs


@pytest.mark.parametrize(
    "name_in, name_out",
    [("h_in", "h_out"), ("h", "hn"), ("hx", "hy"), ("a", "b"), ("onnx::GRU_1", "25"), ("state", "new_state")],
)
def test_a_pair_is_found_by_dataflow_whatever_its_names(name_in, name_out):
    source = step(name_in, name_out)
    compiled = compile(source)
    assert (compiled.kind, compiled.pairs) == ("step", [(name_in, name_out)])
    assert list(compiled.inputs) == ["x"]
    assert list(compiled.outputs) == ["Y"]
    assert_steps_equal(source, compiled)


def test_a_pair_is_taken_from_the_metadata():
    source = step("a", "b", metadata=json.dumps([["a", "b"]]))
    assert compile(source).pairs == [("a", "b")]


def test_an_empty_declaration_means_no_states():
    source = step()
    compiled = compile(source, state=[])
    assert (compiled.pairs, compiled.states) == ([], {})
    assert [*compiled.inputs, *compiled.outputs] == [p.name for p in (*source.graph.input, *source.graph.output)]
    feeds = {n: rng().normal(size=shape).astype(np.float32) for n, shape in compiled.inputs.items()}
    vm = ImageVM(compiled.image)
    for _ in range(2):
        assert_close(vm.step(feeds), onnxruntime(source, feeds))


@pytest.mark.parametrize("metadata", ["{", "[1]", '[["h_in"]]', '[["h_in", "Y", "z"]]'])
def test_broken_metadata_is_refused(metadata):
    with pytest.raises(ModelError, match=r"streamgru\.state"):
        compile(step(metadata=metadata))


@pytest.mark.parametrize(
    "pairs, message",
    [([("x", "h_out")], "shape"), ([("q", "h_out")], "'q'"), ([("h_in", "q")], "'q'"), ([("h_in", "Y")], "shape")],
)
def test_a_declared_pair_that_is_none_is_refused(pairs, message):
    with pytest.raises(ModelError, match=message):
        compile(step(), state=pairs)


def test_ids_that_come_out_as_they_go_in_are_no_state():
    nodes = [node("Gather", ["table", "token"], ["e"]), node("ArgMax", ["e"], ["next"], axis=1, keepdims=0)]
    source = model(nodes, {"token": [1]}, ["next"], {"table": np.eye(4, dtype=np.float32)},
                   dtypes={"token": TensorProto.INT64, "next": TensorProto.INT64})  # fmt: skip
    assert compile(source).pairs == []


def test_a_frame_that_comes_out_as_it_goes_in_is_no_state():
    source = step(tail=[node("Relu", ["x"], ["x_out"])], extra=["x_out"])
    assert compile(source).pairs == [("h_in", "h_out")]


def test_a_window_of_past_frames_is_a_state():
    """cache' = [cache[1:], x]: what a causal convolution keeps."""
    nodes = [
        node("Concat", ["cache", "x"], ["window"], axis=2),
        node("Conv", ["window", "k"], ["y"]),
        node("Slice", ["window", "one", "end", "axis"], ["cache_out"]),
    ]
    constants = {"k": rng().normal(size=(4, 3, 3)).astype(np.float32), "one": np.array([1]), "end": np.array([9]),
                 "axis": np.array([2])}  # fmt: skip
    source = model(nodes, {"x": [1, 3, 1], "cache": [1, 3, 2]}, ["y", "cache_out"], constants)
    compiled = compile(source)
    assert compiled.pairs == [("cache", "cache_out")]
    assert_steps_equal(source, compiled)


def ports(nodes, inputs, outputs):
    return specialise(read(model(nodes, inputs, outputs)), {})


def test_a_name_in_two_declared_pairs_is_refused():
    nodes = [node("Neg", ["h"], ["a"]), node("Abs", ["h"], ["b"])]
    graph = ports(nodes, {"h": [3]}, ["a", "b"])
    with pytest.raises(ModelError, match="stands in two pairs"):
        find_pairs(graph, [("h", "a"), ("h", "b")], set())


def test_an_output_that_does_not_depend_on_the_input_does_not_continue_it():
    """Though it has the name and the shape."""
    nodes = [node("Neg", ["x"], ["h_out"]), node("Add", ["x", "h_in"], ["y"])]
    assert find_pairs(ports(nodes, {"x": [3], "h_in": [3]}, ["h_out", "y"]), None, set()).pairs == [("h_in", "y")]


def test_more_candidates_than_states_are_no_pairs():
    nodes = [node("Neg", ["state"], ["a"]), node("Abs", ["state"], ["b"])]
    assert find_pairs(ports(nodes, {"state": [3]}, ["a", "b"]), None, set()).pairs == []
    assert find_pairs(ports(nodes, {"state": [3]}, ["a"]), None, set()).pairs == [("state", "a")]


def test_states_of_one_shape_are_not_paired_by_the_order_in_which_they_stand():
    """h and c of a cell without a node: both come out of both, and nothing says which is which."""
    nodes = [node("Add", ["h", "c"], ["a"]), node("Tanh", ["a"], ["p"]), node("Sigmoid", ["a"], ["q"])]
    found = find_pairs(ports(nodes, {"h": [3], "c": [3]}, ["p", "q"]), None, set())
    assert found.pairs == []
    assert {name for name, note in found.doubts if note.kind == "warning"} == {"h", "c"}


def test_states_of_one_shape_are_paired_where_dataflow_leaves_one_way():
    """Of two layers: the first does not depend on the state of the second."""
    nodes = [node("Tanh", ["h0"], ["p"]), node("Add", ["p", "h1"], ["q"])]
    for outputs in (["p", "q"], ["q", "p"]):
        found = find_pairs(ports(nodes, {"h1": [3], "h0": [3]}, outputs), None, set())
        assert (found.pairs, found.doubts) == ([("h1", "q"), ("h0", "p")], [])


def test_of_two_outputs_of_one_stem_the_one_of_the_same_name_is_taken():
    nodes = [node("Add", ["x", "h"], ["s"]), node("Tanh", ["s"], ["hx_out"]), node("Sigmoid", ["s"], ["h_out"])]
    source = model(nodes, {"x": [1, 4], "h": [1, 4]}, ["hx_out", "h_out"])
    assert compile(source).pairs == [("h", "h_out")]


def begins_with_its_sequence(*turns):
    """A GRU whose first state is the very frame that it runs over, moved about."""
    shapes = {"three": np.array([1, 1, 4]), "two": np.array([-1, 4])}
    nodes = [
        node("Reshape", ["x", "three"], ["s"]),
        *turns,
        node("Reshape", ["x", "three"], ["first"]),
        node("GRU", [turns[-1].output[0] if turns else "s", "W", "R", "", "", "first"], ["all", "last"], hidden_size=4),
        node("Reshape", ["last", "two"], ["y"]),
    ]
    gru = {name: value for name, value in gru_weights(rng(), 4, 4).items() if name != "B"}
    return model(nodes, {"x": ["unk__1", 4]}, ["y"], {**shapes, **gru})


@pytest.mark.parametrize("turns", [(), (node("Transpose", ["s"], ["t"], perm=[1, 0, 2]),)])
def test_what_a_cell_runs_over_is_no_state_though_it_begins_with_it(turns):
    source = begins_with_its_sequence(*turns)
    with pytest.warns(UserWarning, match="its first state is computed from 'x' in each frame"):
        compiled = compile(source, dims={"unk__1": 1})
    assert (compiled.pairs, list(compiled.inputs)) == ([], ["x"])
    vm = ImageVM(compiled.image)
    for frame in rng().normal(size=(3, 1, 4)).astype(np.float32):
        assert_close(vm.step({"x": frame}), onnxruntime(source, {"x": frame}))
    assert compile(source, dims={"unk__1": 1}, state=[("x", "y")]).inputs == {}
