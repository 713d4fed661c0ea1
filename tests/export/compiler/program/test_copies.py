"""COPYs are removed where nothing is lost by it, and nowhere else: programs run with and without the pass give the same
bits, in the NumPy executor and in the C core, whose checks refuse operators that overwrite what they read."""

from __future__ import annotations

import copy

import numpy as np
import pytest
from onnx import helper

from export.graphs import SEED, assert_close, gru_weights, model, onnxruntime, rng, whole
from export.image_vm import ImageVM
from streamgru.codes import Code
from streamgru.layout import Kind
from streamgru.model import Model
from streamgru_export.compiler.compile import compile
from streamgru_export.compiler.program import copies
from streamgru_export.compiler.program import image as images
from streamgru_export.compiler.program.copies import merge_copies_in_place
from streamgru_export.compiler.program.plan import plan_in_place
from streamgru_export.compiler.program.program import Operator, Program, Tensor

ABOUT = {"source": "", "sha256": "", "producer": "", "opset": 17, "kind": "step", "time_axis": {}, "states": [],
         "notes": []}  # fmt: skip


def tensor(name, n, kind=Kind.ARENA):
    return Tensor(name, np.dtype(np.float32), (n,), kind)


def piece(base, offset, n):
    return Tensor(base.name, base.dtype, (n,), base.kind, base=base, base_offset=offset)


def work(x, y):
    """Work that is no COPY (silu, which stays finite)."""
    return Operator(Code.UNARY, [x], [y], [27, 0.0, 0.0], "")


def move(x, y, x_at=0, y_at=0, dims=None, x_steps=(1,), y_steps=(1,)):
    dims = (min(x.size, y.size),) if dims is None else dims
    return Operator(Code.COPY, [x], [y], [len(dims), x_at, y_at, *dims, *x_steps, *y_steps], "")


def written(program):
    plan_in_place(program)
    return images.build(program, ABOUT)


def run(image, frames=3, seed=0):
    """All outputs and the state after each frame; the C core says the same."""
    vm, r, found = ImageVM(image), np.random.default_rng([SEED, seed]), []
    opened = Model(image)
    stream = opened.stream()
    for _ in range(frames):
        feeds = {t.name: r.standard_normal(t.shape).astype(np.float32) for t in opened.inputs}
        y = vm.step(feeds)
        c = stream.step(feeds if len(feeds) > 1 else next(iter(feeds.values())))
        c = c if isinstance(c, dict) else {opened.outputs[0].name: c}
        for name, value in y.items():  # two ways to compute silu, a few times over
            np.testing.assert_allclose(c[name], value, rtol=1e-5, atol=1e-6)
        found += [*y.values(), vm.memory[2].copy()]
    return found


def merged(program, seed=0):
    """The program after the pass, which changed no bit of what it computes. Returns the number of COPYs left."""
    before = run(written(copy.deepcopy(program)), seed=seed)
    merge_copies_in_place(program)
    after = run(written(program), seed=seed)
    for expected, actual in zip(before, after, strict=True):
        np.testing.assert_array_equal(actual, expected)
    return sum(op.code == Code.COPY for op in program.operators)


# ---- what is removed ----


def test_parts_of_a_concat_are_written_in_their_places():
    x, a, b, y = tensor("x", 8), tensor("a", 8), tensor("b", 8), tensor("y", 16)
    ops = [work(x, a), work(a, b), move(a, y), move(b, y, 0, 8)]
    assert merged(Program(ops, [x], [y])) == 0
    assert a.base is y
    assert b.base is y
    assert b.base_offset == 8


def test_a_copy_of_what_is_dead_is_no_copy():
    x, a, b, y = (tensor(n, 8) for n in "xaby")
    assert merged(Program([work(x, a), move(a, b), work(b, y)], [x], [y])) == 0


def test_views_of_a_merged_tensor_move_with_it():
    x, a, joined, y = tensor("x", 8), tensor("a", 8), tensor("joined", 24), tensor("y", 4)
    z = tensor("z", 24)
    part = piece(a, 4, 4)
    ops = [work(x, a), move(x, joined), move(x, joined, 0, 8), move(a, joined, 0, 16), work(part, y), work(joined, z)]
    assert merged(Program(ops, [x], [y, z])) == 2  # x is an input: its copies stay
    assert part.base is joined
    assert part.base_offset == 20


def test_a_state_that_is_changed_in_part_is_changed_where_it_lies():
    """As ScatterND comes: the whole state is copied, a part of it written, again, and all of it copied back."""
    x, s, y = tensor("x", 4), tensor("s", 32, Kind.STATE), tensor("y", 32)
    a, b, u, v = tensor("a", 32), tensor("b", 32), tensor("u", 4), tensor("v", 4)
    ops = [move(s, a), work(x, u), move(u, a, 0, 4), move(a, b), work(u, v), move(v, b, 0, 20), work(b, y), move(b, s)]
    program = Program(ops, [x], [y], [s])
    assert merged(program) == 0
    assert all(t.base is s and t.kind == Kind.STATE for t in (a, b, u, v))
    assert program.arena_bytes == 64 + 128


def test_a_strided_part_of_a_state_is_written_into_it():
    x, s, a, y = tensor("x", 4), tensor("s", 8, Kind.STATE), tensor("a", 8), tensor("y", 8)
    ops = [move(s, a), move(x, a, 0, 1, (4,), (1,), (2,)), work(a, y), move(a, s)]
    assert merged(Program(ops, [x], [y], [s])) == 1


def test_what_is_copied_but_never_read_does_not_stand_in_the_way():
    """The first half of b is copied from a state that has changed by then; it is overwritten before it is read."""
    x, s, y = tensor("x", 8), tensor("s", 16, Kind.STATE), tensor("y", 16)
    a, b = tensor("a", 8), tensor("b", 16)
    ops = [move(piece(s, 0, 8), a), move(x, a, 2, 2, (3,)), move(s, b), move(a, b), work(b, y), move(b, s)]
    assert merged(Program(ops, [x], [y], [s])) == 1
    assert a.base is s


def test_steps_of_a_state_in_a_graph():
    """ScatterND on a cache, as models that carry their convolutions' past have it."""
    nodes = [helper.make_node("ScatterND", ["cache", "at0", "x"], ["c1"]),
             helper.make_node("Exp", ["x"], ["e"]),
             helper.make_node("ScatterND", ["c1", "at1", "e"], ["cache_out"]),
             helper.make_node("ReduceSum", ["cache_out", "axes"], ["y"], keepdims=0)]  # fmt: skip
    constants = {"at0": np.array([[0]]), "at1": np.array([[2]]), "axes": np.array([0])}
    source = model(nodes, {"x": [1, 16], "cache": [3, 16]}, ["y", "cache_out"], constants)
    program = compile(source, state=[("cache", "cache_out")]).program
    assert [op.code for op in program.operators] == [Code.COPY, Code.UNARY, Code.REDUCE]
    assert program.operators[1].outputs[0].kind == Kind.STATE


def test_final_states_of_a_cell_are_joined_where_they_are_computed():
    r = rng()
    weights = gru_weights(r, 3, 4, gates=4)
    nodes = [helper.make_node("LSTM", ["x", "W", "R", "B"], ["", "h", "c"], hidden_size=4),
             helper.make_node("Concat", ["h", "c"], ["y"], axis=0)]  # fmt: skip
    source = model(nodes, {"x": [5, 2, 3]}, ["y"], weights)
    compiled = compile(source, mode="whole")
    assert [op.code for op in compiled.program.operators] == [Code.LSTM]
    feeds = {"x": r.standard_normal((5, 2, 3)).astype(np.float32)}
    assert_close(whole(compiled, feeds), onnxruntime(source, feeds))


# ---- what must stay ----


def test_steps_of_a_cell_go_to_no_other_state():
    r = rng()
    nodes = [helper.make_node("Exp", ["last"], ["y"]),
             helper.make_node("GRU", ["x", "W", "R", "B", "", "h"], ["steps", "h_out"], hidden_size=4),
             helper.make_node("Squeeze", ["steps", "axes"], ["last_out"])]  # fmt: skip
    constants = {**gru_weights(r, 3, 4), "axes": np.array([1])}
    inputs = {"x": [1, 1, 3], "h": [1, 1, 4], "last": [1, 1, 4]}
    source = model(nodes, inputs, ["y", "h_out", "last_out"], constants)
    compiled = compile(source, state=[("h", "h_out"), ("last", "last_out")])
    gru = next(op for op in compiled.program.operators if op.code == Code.GRU)
    assert gru.outputs[0].kind == Kind.ARENA
    assert gru.outputs[1].kind == Kind.STATE
    frames = r.standard_normal((7, 1, 1, 3)).astype(np.float32)
    steps, blocks = (Model(compiled.image).stream(block=n) for n in (1, 4))
    np.testing.assert_array_equal(blocks.run(frames), np.stack([steps.step(x) for x in frames]))


def test_a_source_that_is_read_after_its_copy_has_changed_stays():
    x, a, b, y, z = (tensor(n, 8) for n in "xabyz")
    ops = [work(x, a), move(a, b), move(x, b, 0, 0, (3,)), work(b, y), work(a, z)]
    assert merged(Program(ops, [x], [y, z])) == 2


def test_a_view_that_is_read_after_the_copy_has_changed_stays():
    x, a, b, y, z = tensor("x", 8), tensor("a", 8), tensor("b", 8), tensor("y", 8), tensor("z", 2)
    ops = [work(x, a), move(a, b), move(x, b, 0, 0, (3,)), work(b, y), work(piece(a, 1, 2), z)]
    assert merged(Program(ops, [x], [y, z])) == 2


def test_a_view_of_what_has_not_changed_may_be_read():
    x, a, b, y, z = tensor("x", 8), tensor("a", 8), tensor("b", 8), tensor("y", 8), tensor("z", 2)
    ops = [work(x, a), move(a, b), move(x, b, 0, 0, (3,)), work(b, y), work(piece(a, 3, 2), z)]
    assert merged(Program(ops, [x], [y, z])) == 1


def test_two_tensors_copied_to_one_place_share_it_only_in_turn():
    x, a, b, c = (tensor(n, 8) for n in "xabc")
    y, z = tensor("y", 8), tensor("z", 8)
    in_turn = [work(x, a), move(a, c), work(c, y), work(x, b), move(b, c), work(c, z)]
    assert merged(Program(in_turn, [x], [y, z])) == 0
    x, a, b, c, y, z = (tensor(n, 8) for n in "xabcyz")
    crossed = [work(x, a), work(a, b), move(a, c), work(c, y), move(b, c), work(c, z)]
    assert merged(Program(crossed, [x], [y, z])) == 1


def test_a_place_taken_by_a_merged_tensor_is_taken():
    """a is computed in b; c, which is copied there after a was read, is computed before."""
    x, u, a, b, c = tensor("x", 16), tensor("u", 8), tensor("a", 16), tensor("b", 16), tensor("c", 8)
    y, z = tensor("y", 16), tensor("z", 16)
    ops = [work(u, c), work(x, a), move(a, b), work(b, y), move(c, b), work(b, z)]
    assert merged(Program(ops, [x, u], [y, z])) == 1
    assert a.base is b
    assert c.base is None


def test_inputs_outputs_and_constants_keep_their_bytes():
    x, y, z = (tensor(n, 8) for n in "xyz")
    w = Tensor("w", np.dtype(np.float32), (8,), Kind.CONSTANT, data=np.arange(8, dtype=np.float32))
    v, u = tensor("v", 8), tensor("u", 8)
    ops = [move(x, y), work(y, z), move(z, v), move(w, u)]
    assert merged(Program(ops, [x], [y, z, v, u])) == 3
    assert all(t.base is None for t in (x, y, z, w, v, u))


def test_an_input_is_not_changed():
    x, u, a, y = tensor("x", 8), tensor("u", 4), tensor("a", 8), tensor("y", 8)
    assert merged(Program([move(x, a), move(u, a), work(a, y)], [x, u], [y])) == 2


def test_a_state_whose_old_value_is_read_later_is_written_later():
    x, s, a, y = tensor("x", 8), tensor("s", 8, Kind.STATE), tensor("a", 8), tensor("y", 8)
    assert merged(Program([work(x, a), work(s, y), move(a, s)], [x], [y], [s])) == 1
    x, s, a, y = tensor("x", 8), tensor("s", 8, Kind.STATE), tensor("a", 8), tensor("y", 8)
    assert merged(Program([work(s, y), work(x, a), move(a, s)], [x], [y], [s])) == 0


def test_no_operator_gets_its_input_for_its_output():
    """The state would be both sides of an operator whose operands lie in different places of it."""
    s, a, b, y = tensor("s", 8, Kind.STATE), tensor("a", 6), tensor("b", 6), tensor("y", 6)
    x = tensor("x", 6)
    ops = [work(piece(s, 0, 6), a), Operator(Code.BINARY, [a, x], [b], [0, 1, 6, 1, 1], ""), work(b, y),
           move(a, s, 0, 2, (6,))]  # fmt: skip
    assert merged(Program(ops, [x], [y], [s])) == 1


def test_copies_between_views_that_overlap():
    s, a, y, x = tensor("s", 9, Kind.STATE), tensor("a", 9), tensor("y", 9), tensor("x", 1)
    shift = [move(piece(s, 1, 8), a, 0, 0, (8,)), move(x, a, 0, 8, (1,)), work(a, y), move(a, s)]
    assert merged(Program(shift, [x], [y], [s])) == 2  # a row that moves along itself may
    s, a, y, x = tensor("s", 9, Kind.STATE), tensor("a", 9), tensor("y", 9), tensor("x", 1)
    rows = [move(piece(s, 1, 8), a, 0, 0, (2, 3), (4, 1), (3, 1)), move(x, a, 0, 6, (3,), (0,)), work(a, y), move(a, s)]
    assert merged(Program(rows, [x], [y], [s])) == 3  # several rows may not
    s, a, y, x = tensor("s", 9, Kind.STATE), tensor("a", 9), tensor("y", 9), tensor("x", 9)
    turned = [move(s, a, 8, 0, (9,), (-1,)), work(a, y), move(a, s)]
    assert merged(Program(turned, [x], [y], [s])) == 2
    assert turned[0].inputs[0].root is not turned[0].outputs[0].root


def test_what_is_read_before_it_is_written_is_left_alone():
    x, a, y = tensor("x", 4), tensor("a", 8), tensor("y", 8)
    program = Program([move(x, a), move(a, y)], [x], [y])  # the second half of a is whatever was there
    merge_copies_in_place(program)
    assert len(program.operators) == 2


def test_a_large_program_is_left_alone(monkeypatch):
    monkeypatch.setattr(copies, "LIMIT", 8 * 4 - 1)
    x, a, y = (tensor(n, 8) for n in "xay")
    assert merged(Program([work(x, a), move(a, y)], [x], [y])) == 1


# ---- any program ----


def random_program(r):
    """Tensors that are filled, copied into each other whole, in part and backwards, and worked on."""
    sizes = [int(n) for n in r.choice([4, 8, 8, 8, 16], 14)]
    tensors = [tensor(f"t{k}", n, Kind.STATE if k in (1, 2) else Kind.ARENA) for k, n in enumerate(sizes)]
    ops = [Operator(Code.FILL, [], [t], [0, 0], "") for t in tensors[3:]]
    for _ in range(int(r.integers(6, 24))):
        a, b = tensors[int(r.integers(len(tensors)))], tensors[int(r.integers(1, len(tensors)))]
        if a is b:
            continue
        n = min(a.size, b.size) if r.random() < 0.8 else int(r.integers(1, min(a.size, b.size) + 1))
        a_at, b_at = int(r.integers(0, a.size - n + 1)), int(r.integers(0, b.size - n + 1))
        how = r.random()
        if how < 0.45:
            ops.append(work(piece(a, a_at, n), piece(b, b_at, n) if how < 0.2 or n < b.size else b))
        elif how < 0.9:
            ops.append(move(a, b, a_at, b_at, (n,)))
        else:
            ops.append(move(a, b, a_at + n - 1, b_at, (n,), (-1,)))
    return Program(ops, tensors[:1], tensors[-2:], tensors[1:3])


@pytest.mark.parametrize("seed", range(80))
def test_no_program_computes_anything_else(seed):
    print(f"seed {SEED}, {seed}")
    program = random_program(np.random.default_rng([SEED, seed]))
    before = sum(op.code == Code.COPY for op in program.operators)
    assert merged(program, seed) <= before


def test_random_programs_lose_many_of_their_copies():
    programs = [random_program(np.random.default_rng([SEED, seed])) for seed in range(80)]
    before = sum(op.code == Code.COPY for p in programs for op in p.operators)
    for p in programs:
        merge_copies_in_place(p)
    assert sum(op.code == Code.COPY for p in programs for op in p.operators) < 0.9 * before
