"""Values are views until an operator needs them in a row."""

from __future__ import annotations

import numpy as np
import pytest

from export.graphs import codes, model, node
from streamgru.codes import Code
from streamgru.errors import ModelError, StreamgruError
from streamgru.layout import Kind
from streamgru.model import Model
from streamgru_export.compiler.compile import compile
from streamgru_export.compiler.graph.budget import Budget
from streamgru_export.compiler.graph.graph import Graph, TensorType
from streamgru_export.compiler.lower.context import ACCEPTED, Context
from streamgru_export.compiler.program import image as images
from streamgru_export.compiler.program.plan import plan_in_place
from streamgru_export.compiler.program.program import Operator, Program, Tensor
from streamgru_export.compiler.program.views import whole

F32 = np.dtype(np.float32)
ABOUT = {"source": "", "sha256": "", "producer": "", "opset": 17, "kind": "step", "time_axis": {}, "states": [],
         "notes": []}  # fmt: skip


def test_views_cost_no_operator():
    nodes = [
        node("Unsqueeze", ["x", "zero"], ["u"]),
        node("Transpose", ["u"], ["t"], perm=[1, 0, 2]),
        node("Squeeze", ["t", "one"], ["s"]),
        node("Reshape", ["s", "shape"], ["r"]),
        node("Relu", ["r"], ["y"]),
    ]
    constants = {"zero": np.array([0]), "one": np.array([1]), "shape": np.array([2, 6])}
    assert codes(compile(model(nodes, {"x": [3, 4]}, ["y"], constants), mode="whole")) == [Code.UNARY]


def context(**values):
    """A context over a graph whose values have these shapes, each a tensor of its own."""
    types = {n: TensorType(F32, s) for n, s in values.items()}
    ctx = Context(Graph("g", [], [], [], {}, types=types))
    for name, shape in values.items():
        ctx.views[name] = whole(ctx.new(name, shape))
    return ctx


def test_what_lies_in_a_row_is_not_copied():
    ctx = context(x=(3, 4))
    view = ctx.view("x").reshape((12,)).slice(0, 4, 4)
    assert ctx.in_row(view) is view
    assert ctx.row(view, (2, 2)).base_offset == 4
    assert ctx.program.operators == []


def test_what_does_not_is_copied_once():
    ctx = context(x=(3, 4))
    turned = ctx.view("x").transpose([1, 0])
    first, again = ctx.in_row(turned), ctx.in_row(ctx.view("x").transpose([1, 0]))
    assert first is again
    (copy,) = ctx.program.operators
    assert (copy.code, copy.params) == (Code.COPY, [2, 0, 0, 4, 3, 1, 4, 3, 1])
    assert ctx.row(turned).shape == (4, 3)
    assert len(ctx.program.operators) == 1


def test_a_state_that_was_written_is_copied_anew():
    ctx = context()
    state, other = (Tensor(n, F32, (3, 4), Kind.STATE) for n in "sv")
    turned = [whole(t).transpose([1, 0]) for t in (state, other)]
    before = [ctx.in_row(v) for v in turned]
    ctx.forget(state)
    after = [ctx.in_row(v) for v in turned]
    assert before[0] != after[0]
    assert before[1] is after[1]


def test_a_piece_is_one_record_however_often_it_is_asked_for():
    ctx = context(x=(3, 4))
    x = ctx.view("x").tensor
    piece = ctx.piece(x, 4, (2, 4))
    assert (piece.base, piece.base_offset, piece.shape) == (x, 4, (2, 4))
    assert ctx.piece(x, 4, [2, 4]) is piece
    assert ctx.piece(x, 4, (8,)) is not piece
    assert ctx.piece(x, 0, (3, 4)) is x


def test_a_piece_of_a_constant_is_a_constant():
    ctx = context()
    values = np.arange(12, dtype=np.float32).reshape(3, 4)
    piece = ctx.piece(ctx.constant("w", values), 4, (2, 2))
    assert piece.base is None
    np.testing.assert_array_equal(piece.data, values.reshape(-1)[4:8].reshape(2, 2))


def test_equal_constants_are_stored_once():
    ctx = context()
    one = ctx.constant("a", np.ones(4, np.float32))
    assert ctx.constant("b", np.ones(4, np.float32)) is one
    others = [np.ones((2, 2), np.float32), np.ones(4, np.float32).view(np.int32), np.zeros(4, np.float32)]
    assert all(ctx.constant("c", value) is not one for value in others)


@pytest.mark.parametrize("axis", [0, 1])
def test_a_look_at_a_part_of_a_concat_is_a_look_at_the_part(axis):
    """Where the parts lie one after the other: along the first axis that is not of size 1."""
    shape = (1, 3) if axis else (3, 2)
    ctx = context(a=shape, b=shape)
    joined = ctx.new("j", (1, 6) if axis else (6, 2))
    ctx.remember_parts(joined, [ctx.view("a"), ctx.view("b")], axis)
    second = whole(joined).slice(axis, 3, 3)
    assert ctx.shorten(second).tensor is ctx.view("b").tensor
    assert ctx.shorten(second).span() == (0, ctx.view("b").size)
    across = whole(joined).slice(axis, 2, 2)
    assert ctx.shorten(across) is across


def test_parts_that_do_not_lie_one_after_the_other_are_not_remembered():
    ctx = context(a=(3, 2), b=(3, 2))
    joined = ctx.new("j", (3, 4))
    ctx.remember_parts(joined, [ctx.view("a"), ctx.view("b")], 1)
    look = whole(joined).slice(1, 2, 2)
    assert ctx.shorten(look) is look


def test_parts_of_a_state_are_not_remembered():
    """It may be written before the look."""
    ctx = context(b=(3,))
    state = Tensor("s", F32, (3,), Kind.STATE)
    joined = ctx.new("j", (6,))
    ctx.remember_parts(joined, [whole(state), ctx.view("b")], 0)
    for start in (0, 3):
        look = whole(joined).slice(0, start, 3)
        assert ctx.shorten(look) is look


def test_of_a_state_only_the_part_in_view_is_touched():
    state = Tensor("s", F32, (6, 4), Kind.STATE)
    tensor, offset = context().place(whole(state).slice(0, 2, 2))
    assert (tensor.base, tensor.base_offset, tensor.size, offset) == (state, 8, 8, 0)
    ctx = context(x=(6, 4))
    tensor, offset = ctx.place(ctx.view("x").slice(0, 2, 2))
    assert (tensor, offset) == (ctx.view("x").tensor, 8)


@pytest.mark.parametrize("dtype", ["float32", "int64", "int32", "bool"])
@pytest.mark.parametrize("code", [Code.UNARY, Code.BINARY, Code.REDUCE])
def test_the_functions_that_are_accepted_are_those_of_the_core(code, dtype):
    """An image of one operator opens where the C core has the function for the dtype."""
    known = {function for function in range(40) if opens(code, function, np.dtype(dtype))}
    assert known - IN_CELLS == ACCEPTED[code].get(dtype, set()) - IN_CELLS
    assert ACCEPTED[code].get(dtype, set()) <= known


IN_CELLS = {34, 35}  # of UNARY: no ONNX operator is one of these by itself


def opens(code, function, dtype):
    compares = code == Code.BINARY and 16 <= function <= 20
    x = Tensor("x", dtype, (2, 3), Kind.ARENA)
    y = Tensor("y", np.dtype(bool) if compares else dtype, (2,) if code == Code.REDUCE else (2, 3), Kind.ARENA)
    params = {Code.UNARY: [function, 0.5, 0.25], Code.BINARY: [function, 1, 6, 1, 1], Code.REDUCE: [function, 2, 3, 1]}
    program = Program([Operator(code, [x] * (1 + (code == Code.BINARY)), [y], params[code], "op")], [x], [y])
    plan_in_place(program)
    try:
        Model(images.build(program, ABOUT))
    except StreamgruError:
        return False
    return True


def test_a_constant_of_the_graph_is_looked_at_once_however_many_use_it():
    matrix = np.arange(12, dtype=np.float32).reshape(3, 4)
    budget = Budget()
    ctx = Context(Graph("g", [], [], [], {"w": matrix}, types={}), budget)
    first, left = ctx.packed("a", matrix.T), budget.work
    for other in (matrix.T, matrix.transpose(1, 0), matrix[:, :].T):
        assert ctx.packed("b", other) is first
    assert budget.work == left
    assert ctx.packed("c", matrix) is not first
    assert ctx.constant("d", matrix) is not ctx.packed("c", matrix)


def test_what_is_made_of_constants_is_paid_for_each_time_and_kept_once():
    matrix = np.arange(12, dtype=np.float32).reshape(3, 4)
    budget = Budget()
    ctx = Context(Graph("g", [], [], [], {"w": matrix}, types={}), budget)
    first, left = ctx.packed("a", matrix * 2), budget.work
    assert ctx.packed("b", matrix * 2) is first
    assert budget.work < left
    budget.work = 0
    with pytest.raises(ModelError, match="constant 'c': the constants of the model take more than"):
        ctx.packed("c", matrix * 3)


def test_the_bytes_of_an_images_constants_are_limited(monkeypatch):
    """Half as much again as those of the graph may have: each is there twice while it is made."""
    monkeypatch.setattr("streamgru_export.compiler.graph.budget.MAX_BYTES", 1000)
    ctx = Context(Graph("g", [], [], [], {}, types={}))
    blocks = [np.full(100, k, np.float32) for k in range(3)]
    for block in blocks[:2]:
        ctx.constant("c", block)
    with pytest.raises(ModelError, match="constant 'd': to compute it takes about 1600 bytes"):
        ctx.constant("d", blocks[2])
