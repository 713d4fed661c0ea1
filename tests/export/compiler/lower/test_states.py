"""Where state lies while a frame is computed: in place where nothing reads the old one, else copied in time."""

from __future__ import annotations

import numpy as np

from export.compiler.stream.steps import H, I, assert_steps_equal, node, sequence, step
from export.graphs import assert_close, gru_weights, model, rng
from export.image_vm import ImageVM
from streamgru.codes import Code
from streamgru.layout import Kind
from streamgru_export.compiler.compile import compile
from streamgru_export.compiler.lower import states


def test_the_state_is_updated_in_place_by_its_cell():
    program = compile(sequence("GRU")).program
    assert [op.code for op in program.operators] == [Code.GRU]
    (gru,) = program.operators
    assert gru.inputs[7] is gru.outputs[1]
    assert gru.outputs[1].root.kind == Kind.STATE


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


def side_by_side():
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
    return model(nodes, {"x": [1, 4, I], "h": [1, 4, 2 * H]}, ["y", "h_out"], constants)


def test_two_cells_share_a_state_side_by_side():
    source = side_by_side()
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


def test_states_too_large_to_look_at_are_copied(monkeypatch):
    monkeypatch.setattr(states, "MOST_ELEMENTS", 0)
    compiled = compile(side_by_side())
    assert Code.COPY in [op.code for op in compiled.program.operators]
    assert_steps_equal(side_by_side(), compiled)
