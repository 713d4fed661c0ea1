"""Which values become states, and that the stream then computes what the whole graph does."""

from __future__ import annotations

import json

import numpy as np
import pytest
from onnx import TensorProto, helper

from export.graphs import assert_close, gru_weights, model, onnxruntime, rng, stream, whole
from export.image_vm import ImageVM
from streamgru.errors import ModelError
from streamgru_export.compiler.compile import compile
from streamgru_export.compiler.program.program import Code, Kind

I, H, T = 5, 7, 9  # noqa: E741 - the field's names


def node(op, inputs, outputs, **attributes):
    return helper.make_node(op, inputs, outputs, name=f"{op}_{outputs[0]}", **attributes)


def sequence(op="GRU", initial=None, tail=(), outputs=("Y",), **attributes):
    gates = {"GRU": 3, "LSTM": 4, "RNN": 1}[op]
    constants = gru_weights(rng(), I, H, gates=gates)
    inputs = ["x", "W", "R", "B"]
    if initial is not None:
        constants |= {"h0": initial, "c0": 2 * initial}
        inputs += ["", "h0"] + (["c0"] if op == "LSTM" else [])
    results = ["Y", "Yh"] + (["Yc"] if op == "LSTM" else [])
    return model(
        [node(op, inputs, results, hidden_size=H, **attributes), *tail], {"x": ["T", 1, I]}, outputs, constants
    )


def frames(t=T, size=I):
    return rng().normal(size=(t, 1, size)).astype(np.float32)


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


def test_the_state_is_updated_in_place_by_its_cell():
    program = compile(sequence("GRU")).program
    assert [op.code for op in program.operators] == [Code.GRU]
    (gru,) = program.operators
    assert gru.inputs[7] is gru.outputs[1]
    assert gru.outputs[1].root.kind == Kind.STATE


def test_the_final_state_is_also_an_output_of_a_sequence():
    source = sequence("GRU", outputs=("Y", "Yh"))
    compiled, x = compile(source), frames()
    assert compiled.time_axis == {"x": 0, "Y": 0, "Yh": None}
    assert_close(stream(compiled, {"x": x}), onnxruntime(source, {"x": x}))


STEP = {"x": [1, 1, I], "h_in": [1, 1, H]}


def step(name_in="h_in", name_out="h_out", op="GRU", tail=(), extra=(), constants=None, metadata=None):
    """One step with its state as input and output."""
    weights = gru_weights(rng(), I, H, gates={"GRU": 3, "LSTM": 4}[op])
    nodes = [node(op, ["x", "W", "R", "B", "", name_in], ["Y", name_out], hidden_size=H), *tail]
    inputs = {"x": [1, 1, I], name_in: [1, 1, H]}
    source = model(nodes, inputs, ["Y", name_out, *extra], {**weights, **(constants or {})})
    if metadata is not None:
        source.metadata_props.add(key="streamgru.state", value=metadata)
    return source


def assert_steps_equal(source, compiled, steps=6):
    """The stream against onnxruntime with the state fed back by hand."""
    r, vm = rng(), ImageVM(compiled.image)
    sizes = {p.name: [d.dim_value for d in p.type.tensor_type.shape.dim] for p in source.graph.input}
    fed = {i: np.zeros(sizes[i], np.float32) for i, _ in compiled.pairs}
    for _ in range(steps):
        feeds = {n: r.normal(size=sizes[n]).astype(np.float32) for n in compiled.inputs}
        expected = onnxruntime(source, {**feeds, **fed})
        assert_close(vm.step(feeds), {n: expected[n] for n in compiled.outputs})
        fed = {i: expected[o] for i, o in compiled.pairs}
        for s in vm.d["states"]:
            np.testing.assert_allclose(vm.get(s), fed[vm.name(s)], rtol=0, atol=2e-6)


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


def test_stacked_layers_work_in_place_on_one_state():
    r, layers = rng(), 3
    nodes, constants, x = [], {"axis": np.array([0]), "one": np.array([1])}, "x"
    for n in range(layers):
        constants |= {f"{k}{n}": v for k, v in gru_weights(r, I if n == 0 else H, H).items()}
        constants |= {f"s{n}": np.array([n]), f"e{n}": np.array([n + 1])}
        nodes += [
            node("Slice", ["h", f"s{n}", f"e{n}", "axis"], [f"h{n}"]),
            node("GRU", [x, f"W{n}", f"R{n}", f"B{n}", "", f"h{n}"], [f"Y{n}", f"H{n}"], hidden_size=H),
            node("Squeeze", [f"Y{n}", "one"], [f"x{n}"]),
        ]
        x = f"x{n}"
    nodes.append(node("Concat", [f"H{n}" for n in range(layers)], ["h_out"], axis=0))
    source = model(nodes, {"x": [1, 1, I], "h": [layers, 1, H]}, [x, "h_out"], constants)
    compiled = compile(source)
    assert [op.code for op in compiled.program.operators] == [Code.GRU] * layers
    places = [op.outputs[1] for op in compiled.program.operators]
    assert [p.base_offset for p in places] == [0, H, 2 * H]
    assert_steps_equal(source, compiled)


def test_two_cells_share_a_state_side_by_side():
    """Halves of the features of one state (grouped GRU): strided places in one tensor."""
    r = rng()
    constants = {"axis": np.array([2]), "a": np.array([0]), "b": np.array([H]), "c": np.array([2 * H])}
    nodes = []
    for n, (start, end) in enumerate((("a", "b"), ("b", "c"))):
        constants |= {f"{k}{n}": v for k, v in gru_weights(r, I, H).items()}
        nodes += [
            node("Slice", ["h", start, end, "axis"], [f"h{n}"]),
            node("GRU", ["x", f"W{n}", f"R{n}", f"B{n}", "", f"h{n}"], [f"Y{n}", f"H{n}"], hidden_size=H),
        ]
    nodes += [node("Concat", ["H0", "H1"], ["h_out"], axis=2), node("Add", ["Y0", "Y1"], ["y"])]
    source = model(nodes, {"x": [1, 4, I], "h": [1, 4, 2 * H]}, ["y", "h_out"], constants)
    compiled = compile(source)
    assert [op.code for op in compiled.program.operators] == [Code.GRU, Code.GRU, Code.BINARY]
    assert_steps_equal(source, compiled)


def test_the_old_state_read_after_the_cell_is_still_the_old_state():
    """h' - h: the cell may not write in place."""
    tail = [node("Sub", ["h_out", "h_in"], ["d"])]
    source = step(tail=tail, extra=["d"])
    assert_steps_equal(source, compile(source))


def test_a_view_of_the_old_state_read_after_the_cell_is_still_old():
    tail = [node("Transpose", ["h_in"], ["ht"], perm=[2, 1, 0]), node("Neg", ["ht"], ["d"])]
    source = step(tail=tail, extra=["d"])
    assert_steps_equal(source, compile(source))


def test_a_delay_line_shifts_states_into_each_other():
    """s1' = x, s2' = s1, y = s2: each state's value comes from another state."""
    nodes = [node("Neg", ["x"], ["s1_out"]), node("Identity", ["s1"], ["s2_out"]), node("Abs", ["s2"], ["y"])]
    source = model(nodes, {"x": [3], "s1": [3], "s2": [3]}, ["y", "s1_out", "s2_out"])
    compiled = compile(source, state=[("s1", "s1_out"), ("s2", "s2_out")])
    assert_steps_equal(source, compiled)


def test_states_may_change_places():
    nodes = [node("Identity", ["a"], ["b_out"]), node("Neg", ["b"], ["a_out"]), node("Add", ["x", "a"], ["y"])]
    source = model(nodes, {"x": [3], "a": [3], "b": [3]}, ["y", "a_out", "b_out"])
    compiled = compile(source, state=[("a", "a_out"), ("b", "b_out")])
    vm = ImageVM(compiled.image)
    vm.memory[2][: 3 * 4].view(np.float32)[:] = [1, 2, 3]
    assert_close(vm.step({"x": np.zeros(3, np.float32)}), {"y": np.float32([1, 2, 3])}, 0)
    np.testing.assert_array_equal([vm.get(s) for s in vm.d["states"]], [[0, 0, 0], [1, 2, 3]])


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


def test_ids_that_come_out_as_they_go_in_are_no_state():
    nodes = [node("Gather", ["table", "token"], ["e"]), node("ArgMax", ["e"], ["next"], axis=1, keepdims=0)]
    source = model(nodes, {"token": [1]}, ["next"], {"table": np.eye(4, dtype=np.float32)},
                   dtypes={"token": TensorProto.INT64, "next": TensorProto.INT64})  # fmt: skip
    assert compile(source).pairs == []


def test_a_frame_that_comes_out_as_it_goes_in_is_no_state():
    source = step(tail=[node("Relu", ["x"], ["x_out"])], extra=["x_out"])
    assert compile(source).pairs == [("h_in", "h_out")]


def test_an_initial_state_that_nothing_returns_is_kept_inside():
    weights = gru_weights(rng(), I, H)
    gru = node("GRU", ["x", "W", "R", "B", "", "start"], ["Y"], hidden_size=H)
    source = model([gru], {"x": ["T", 1, I], "start": [1, 1, H]}, ["Y"], weights)
    compiled, x = compile(source), frames()
    assert list(compiled.inputs) == ["x"]
    assert any("'start'" in note for note in compiled.notes)
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


def test_full_lengths_stream():
    weights = gru_weights(rng(), I, H)
    shape, zero = node("Shape", ["x"], ["s"]), {"zero": np.array(0), "one": np.array([1])}
    lens = [shape, node("Gather", ["s", "zero"], ["t"]), node("Reshape", ["t", "one"], ["t1"]),
            node("Cast", ["t1"], ["lens"], to=TensorProto.INT32)]  # fmt: skip
    gru = node("GRU", ["x", "W", "R", "B", "lens"], ["Y"], hidden_size=H)
    source = model([*lens, gru], {"x": ["T", 1, I]}, ["Y"], {**weights, **zero})
    x = frames()
    assert_close(stream(compile(source), {"x": x}), onnxruntime(source, {"x": x}))


def test_lengths_from_outside_are_ignored_with_a_note():
    gru = node("GRU", ["x", "W", "R", "B", "lens"], ["Y"], hidden_size=H)
    source = model([gru], {"x": ["T", 1, I], "lens": [1]}, ["Y"], gru_weights(rng(), I, H),
                   dtypes={"lens": TensorProto.INT32})  # fmt: skip
    compiled, x = compile(source), frames()
    assert list(compiled.inputs) == ["x"]
    assert any("sequence_lens" in note for note in compiled.notes)
    expected = onnxruntime(source, {"x": x, "lens": np.int32([T])})
    assert_close(stream(compiled, {"x": x}), expected)


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
    assert any("3 recurrent nodes hand their state on" in note for note in compiled.notes)
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


@pytest.mark.parametrize("given, missing", [({}, "alpha"), ({"activation_alpha": [0.8]}, "beta")])
def test_a_scaled_tanh_without_its_numbers_is_refused(given, missing):
    """ONNX has no default for them."""
    with pytest.raises(ModelError, match=f"GRU_Y.*ScaledTanh has no default {missing}"):
        compile(sequence("GRU", activations=["Sigmoid", "ScaledTanh"], **given))


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
