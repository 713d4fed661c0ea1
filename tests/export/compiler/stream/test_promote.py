"""Which values become states, and that the stream then computes what the whole graph does."""

from __future__ import annotations

import numpy as np
import pytest

from export.compiler.stream.steps import H, I, T, frames, node, sequence
from export.graphs import assert_close, gru_weights, model, onnxruntime, rng, stream, whole
from export.image_vm import ImageVM
from streamgru.errors import ModelError
from streamgru_export.compiler.compile import compile


@pytest.mark.parametrize("op", ["GRU", "LSTM", "RNN"])
@pytest.mark.parametrize("initial", [None, 0.0, 0.7])
def test_a_streamed_cell_is_the_whole_sequence(op, initial):
    start = None if initial is None else np.full((1, 1, H), initial, np.float32)
    source = sequence(op, start)
    compiled = compile(source)
    assert compiled.kind == "sequence"
    assert len(compiled.states) == (2 if op == "LSTM" else 1)
    x = frames()
    assert_close(stream(compiled, {"x": x}), onnxruntime(source, {"x": x}))


def test_a_constant_initial_state_is_the_reset_value():
    start = rng().normal(size=(1, 1, H)).astype(np.float32)
    vm = ImageVM(compile(sequence("GRU", start)).image)
    x = frames(1)[0]
    first = vm.step({"x": x})
    vm.step({"x": x})
    np.testing.assert_array_equal(vm.get(vm.d["states"][0]), np.asarray(vm.get(vm.d["states"][0])))
    vm.reset()
    np.testing.assert_array_equal(vm.get(vm.d["states"][0]), start)
    np.testing.assert_array_equal(vm.step({"x": x})["Y"], first["Y"])


def test_the_final_state_is_also_an_output_of_a_sequence():
    source = sequence("GRU", outputs=("Y", "Yh"))
    compiled, x = compile(source), frames()
    assert compiled.time_axis == {"x": 0, "Y": 0, "Yh": None}
    assert_close(stream(compiled, {"x": x}), onnxruntime(source, {"x": x}))


def test_an_initial_state_that_nothing_returns_is_kept_inside():
    weights = gru_weights(rng(), I, H)
    gru = node("GRU", ["x", "W", "R", "B", "", "start"], ["Y"], hidden_size=H)
    source = model([gru], {"x": ["T", 1, I], "start": [1, 1, H]}, ["Y"], weights)
    compiled, x = compile(source), frames()
    assert list(compiled.inputs) == ["x"]
    assert any("'start'" in note.text for note in compiled.notes)
    assert_close(stream(compiled, {"x": x}), onnxruntime(source, {"x": x, "start": np.zeros((1, 1, H), np.float32)}))


@pytest.mark.parametrize("reader", ["a node", "the output", "both cells"])
def test_an_initial_state_that_something_else_reads_is_not_kept_inside(reader):
    """It would be zeros for the other reader too."""
    nodes = [node("GRU", ["x", "W", "R", "B", "", "start"], ["Y", "last"], hidden_size=H)]
    outputs = ["Y"]
    if reader == "a node":
        nodes.append(node("Add", ["Y", "start"], ["z"]))
        outputs = ["z"]
    elif reader == "the output":
        nodes.append(node("Identity", ["start"], ["z"]))
        outputs = ["Y", "z"]
    else:
        nodes += [node("Squeeze", ["Y", "one"], ["y"]),
                  node("GRU", ["y", "W2", "R", "B", "", "start"], ["Y2"], hidden_size=H)]  # fmt: skip
        outputs = ["Y2"]
    constants = {**gru_weights(rng(), I, H), "W2": gru_weights(rng(), H, H)["W"], "one": np.array([1])}
    source = model(nodes, {"x": ["T", 1, I], "start": [1, 1, H]}, outputs, constants)
    with pytest.raises(ModelError, match=r"GRU_Y.*initial state 'start' is computed from inputs"):
        compile(source)


def test_an_initial_state_made_from_two_inputs_is_refused():
    nodes = [node("Add", ["a", "b"], ["h0"]), node("GRU", ["x", "W", "R", "B", "", "h0"], ["Y"], hidden_size=H)]
    source = model(nodes, {"x": ["T", 1, I], "a": [1, 1, H], "b": [1, 1, H]}, ["Y"], gru_weights(rng(), I, H))
    with pytest.raises(ModelError, match=r"GRU_Y.*initial state 'h0' is computed from inputs"):
        compile(source)


def test_an_initial_state_that_is_made_from_an_input_of_its_own_is_kept_inside():
    """As encoders hand it over: through a layer. Nothing else needs the input."""
    nodes = [node("Transpose", ["start"], ["h0"], perm=[1, 0, 2]),
             node("GRU", ["x", "W", "R", "B", "", "h0"], ["Y"], hidden_size=H)]  # fmt: skip
    source = model(nodes, {"x": ["T", 1, I], "start": [1, 1, H]}, ["Y"], gru_weights(rng(), I, H))
    compiled, x = compile(source), frames()
    assert list(compiled.inputs) == ["x"]
    assert_close(stream(compiled, {"x": x}), onnxruntime(source, {"x": x, "start": np.zeros((1, 1, H), np.float32)}))


def test_an_initial_state_that_is_computed_starts_as_it_does_from_zeros():
    """Not as zeros: h0 = tanh(start + 1)."""
    nodes = [node("Add", ["start", "one"], ["a"]), node("Tanh", ["a"], ["h0"]),
             node("GRU", ["x", "W", "R", "B", "", "h0"], ["Y"], hidden_size=H)]  # fmt: skip
    constants = gru_weights(rng(), I, H) | {"one": np.ones(H, np.float32)}
    source = model(nodes, {"x": ["T", 1, I], "start": [1, 1, H]}, ["Y"], constants)
    compiled, x = compile(source), frames()
    assert list(compiled.inputs) == ["x"]
    assert_close(stream(compiled, {"x": x}), onnxruntime(source, {"x": x, "start": np.zeros((1, 1, H), np.float32)}))


def test_a_one_step_graph_without_states_keeps_its_own():
    source = sequence("GRU")
    source.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    compiled, x = compile(source), frames()
    dynamic = onnxruntime(sequence("GRU"), {"x": x})
    assert len(compiled.states) == 1
    vm = ImageVM(compiled.image)
    got = np.stack(
        [vm.step({"x": np.reshape(f, next(iter(compiled.inputs.values())))})["Y"].reshape(1, 1, H) for f in x]
    )
    np.testing.assert_allclose(got, dynamic["Y"], rtol=0, atol=2e-6)


@pytest.mark.parametrize("initial", [None, 0.4, "computed"])
def test_steps_that_were_written_out_keep_their_only_input(initial):
    """Three nodes of one step, each from the final state of the one before: one call runs them all."""
    constants = gru_weights(rng(), I, H) | {"A": rng().normal(size=(I, H)).astype(np.float32)}
    nodes, state = [], ""
    if initial == "computed":
        nodes, state = [node("MatMul", ["x", "A"], ["h0"])], "h0"
    elif initial is not None:
        constants["h0"], state = np.full((1, 1, H), initial, np.float32), "h0"
    for k in range(3):
        nodes.append(node("GRU", ["x", "W", "R", "B", "", state], [f"Y{k}", f"h{k + 1}"], hidden_size=H))
        state = f"h{k + 1}"
    source = model(nodes, {"x": [1, 1, I]}, ["Y0", "h3"], constants)
    compiled = compile(source)
    assert (list(compiled.inputs), compiled.states) == (["x"], {})
    assert any("3 recurrent nodes hand their state on" in note.text for note in compiled.notes)
    vm = ImageVM(compiled.image)
    for x in frames(3):
        feeds = {"x": x[None].reshape(compiled.inputs["x"])}
        assert_close(vm.step(feeds), onnxruntime(source, feeds))


def test_an_initial_state_made_from_the_frame_is_no_state():
    constants = gru_weights(rng(), I, H) | {"A": rng().normal(size=(I, H)).astype(np.float32)}
    nodes = [
        node("MatMul", ["x", "A"], ["h0"]),
        node("GRU", ["x", "W", "R", "B", "", "h0"], ["Y"], hidden_size=H),
    ]
    source = model(nodes, {"x": [1, 1, I]}, ["Y"], constants)
    compiled = compile(source)
    assert (list(compiled.inputs), compiled.states) == (["x"], {})
    feeds = {"x": frames(1)}
    assert_close(ImageVM(compiled.image).step(feeds), onnxruntime(source, feeds))


def test_a_decoder_that_begins_where_an_encoder_ends_is_refused():
    weights = gru_weights(rng(), I, H)
    nodes = [
        node("GRU", ["x", "W", "R", "B"], ["E", "h"], hidden_size=H),
        node("GRU", ["x", "W", "R", "B", "", "h"], ["Y"], hidden_size=H),
    ]
    with pytest.raises(ModelError, match=r"GRU_Y.*initial state 'h' is computed from inputs"):
        compile(model(nodes, {"x": ["T", 1, I]}, ["Y"], weights))


def test_a_batch_streams_together():
    weights = gru_weights(rng(), I, H)
    source = model([node("GRU", ["x", "W", "R", "B"], ["Y"], hidden_size=H)], {"x": ["T", "B", I]}, ["Y"], weights)
    x = rng().normal(size=(T, 3, I)).astype(np.float32)
    assert_close(stream(compile(source, batch=3), {"x": x}), onnxruntime(source, {"x": x}))


def test_whole_mode_promotes_nothing():
    source, x = sequence("GRU", outputs=("Y", "Yh"), direction="reverse"), frames()
    compiled = compile(source, mode="whole", length=T)
    assert (compiled.kind, compiled.states, compiled.time_axis) == ("whole", {}, {})
    assert_close(whole(compiled, {"x": x}), onnxruntime(source, {"x": x}))


def test_a_state_in_pieces_that_no_output_continues_for_sure_is_named():
    """Of a sequence it cannot stay an input: a stream keeps what a cell begins with."""
    nodes = [node("Split", ["s"], ["h", "c"], axis=2, num_outputs=2),
             node("LSTM", ["x", "W", "R", "B", "", "h", "c"], ["Y", "hn", "cn"], hidden_size=H),
             node("Concat", ["cn", "hn"], ["s_new"], axis=2)]  # fmt: skip
    source = model(nodes, {"x": ["T", 1, I], "s": [1, 1, 2 * H]}, ["Y", "s_new"], gru_weights(rng(), I, H, gates=4), 18)
    with pytest.raises(ModelError, match=r"Input 's' is a state of .* another order: .*state=\[\('s', 's_new'\)\]"):
        compile(source)
    assert compile(source, state=[("s", "s_new")]).pairs == [("s", "s_new")]
