"""Addresses: nothing that lives shares bytes, and what is dead gives them back."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from onnx import helper

from export.graphs import SEED, model
from streamgru.codes import Code
from streamgru.layout import ALIGN, Kind
from streamgru_export.compiler.compile import compile
from streamgru_export.compiler.program.plan import plan_in_place
from streamgru_export.compiler.program.program import Operator, Program, Tensor


def arena(name, n):
    return Tensor(name, np.dtype(np.float32), (n,), Kind.ARENA)


def chain(r, steps):
    """A random program: each operator reads some of the tensors so far and writes a new one."""
    tensors = [arena("in", int(r.integers(1, 200)))]
    program = Program(inputs=tensors[:1])
    for k in range(steps):
        y = arena(f"t{k}", int(r.integers(1, 200)))
        reads = [tensors[i] for i in r.choice(len(tensors), min(len(tensors), int(r.integers(1, 4))), replace=False)]
        program.operators.append(Operator(Code.WHERE, list(reads), [y], [], ""))
        tensors.append(y)
    program.outputs = tensors[-2:]
    return program


def lives(program):
    """Tensor -> first and last operator that touches it; inputs and outputs live throughout."""
    found = {t: [-1, len(program.operators)] for t in (*program.inputs, *program.outputs)}
    for i, op in enumerate(program.operators):
        for t in (*op.inputs, *op.outputs):
            first, last = found.setdefault(t.root, [i, i])
            found[t.root] = [min(first, i), max(last, i)]
    return found


@pytest.mark.parametrize("seed", range(20))
def test_tensors_that_live_together_never_overlap(seed):
    print(f"seed {SEED}, {seed}")
    program = chain(np.random.default_rng([SEED, seed]), 40)
    plan_in_place(program)
    spans = [(t.offset, t.offset + t.nbytes, *life) for t, life in lives(program).items()]
    for i, (start, end, first, last) in enumerate(spans):
        assert start % ALIGN == 0
        assert end <= program.arena_bytes
        for other_start, other_end, other_first, other_last in spans[i + 1 :]:
            if first <= other_last and other_first <= last:
                assert end <= other_start or other_end <= start


def test_dead_bytes_are_used_again():
    tensors = [arena(f"t{k}", 1024) for k in range(12)]
    program = Program(inputs=tensors[:1], outputs=tensors[-1:])
    for x, y in itertools.pairwise(tensors):
        program.operators.append(Operator(Code.SOFTMAX, [x], [y], [1, 1024, 1, 0], ""))
    plan_in_place(program)
    assert program.arena_bytes == 4 * 4096  # input, output, and two between


def test_elementwise_operators_write_where_they_read():
    nodes = [helper.make_node("Softmax", ["x"], ["s"]), helper.make_node("Exp", ["s"], ["e"]),
             helper.make_node("Neg", ["e"], ["n"]), helper.make_node("Softmax", ["n"], ["y"])]  # fmt: skip
    program = compile(model(nodes, {"x": [2, 512]}, ["y"]), mode="whole").program
    assert program.operators[1].inputs[0].offset == program.operators[1].outputs[0].offset
    assert program.arena_bytes == 3 * 4096


def test_an_operand_read_in_another_order_is_not_overwritten():
    nodes = [helper.make_node("Exp", ["x"], ["e"]), helper.make_node("Transpose", ["e"], ["t"], perm=[1, 0]),
             helper.make_node("Sub", ["e", "t"], ["d"]), helper.make_node("Softmax", ["d"], ["y"])]  # fmt: skip
    program = compile(model(nodes, {"x": [8, 8]}, ["y"]), mode="whole").program
    sub = program.operators[1]
    assert sub.code == Code.BINARY
    assert sub.outputs[0].offset != sub.inputs[0].offset


def test_inputs_and_outputs_share_with_nobody():
    nodes = [helper.make_node("Exp", ["x"], ["y"]), helper.make_node("Neg", ["y"], ["z"])]
    program = compile(model(nodes, {"x": [16]}, ["y", "z"]), mode="whole").program
    offsets = [t.offset for t in (*program.inputs, *program.outputs)]
    assert len(set(offsets)) == 3


def test_states_lie_one_after_the_other():
    states = [Tensor(f"s{k}", np.dtype(np.float32), (n,), Kind.STATE) for k, n in enumerate((3, 16, 17))]
    program = Program(states=states)
    plan_in_place(program)
    assert [s.offset for s in states] == [0, 64, 128]
    assert program.state_bytes == 256


def test_a_view_lies_inside_its_base():
    base = arena("base", 64)
    view = Tensor("view", base.dtype, (8,), Kind.ARENA, base=base, base_offset=24)
    y = arena("y", 8)
    program = Program([Operator(Code.UNARY, [view], [y], [0, 0.0, 0.0], "")], [base], [y])
    plan_in_place(program)
    assert view.offset == base.offset + 24 * 4
