"""Biases and activations go into the products before them where nothing else reads these; the bits stay the same.

Programs are run before and after by the NumPy executor, and after by the C core.
"""

from __future__ import annotations

import copy

import numpy as np
import pytest

from export.graphs import assert_close, codes, model, node, onnxruntime, rng, whole
from export.image_vm import ImageVM
from streamgru.codes import Code
from streamgru.layout import Kind
from streamgru.model import Model
from streamgru_export.compiler.compile import compile
from streamgru_export.compiler.program import image as images
from streamgru_export.compiler.program.fuse import fuse_in_place
from streamgru_export.compiler.program.plan import plan_in_place
from streamgru_export.compiler.program.program import Operator, Program, Tensor, constant, packed

ABOUT = {"source": "", "sha256": "", "producer": "", "opset": 17, "kind": "step", "time_axis": {}, "states": [],
         "notes": []}  # fmt: skip
N, M, K = 3, 5, 4
TANH, RELU, ADD, SUB, SIN = 2, 3, 0, 1, 32


def test_a_bias_and_an_activation_go_into_the_product():
    r = rng()
    nodes = [node("MatMul", ["x", "w"], ["m"]), node("Add", ["b", "m"], ["s"]), node("Tanh", ["s"], ["y"])]
    constants = {"w": r.normal(size=(5, 4)).astype(np.float32), "b": r.normal(size=4).astype(np.float32)}
    source = model(nodes, {"x": [1, 3, 5]}, ["y"], constants)
    compiled, feeds = compile(source, mode="whole"), {"x": r.normal(size=(1, 3, 5)).astype(np.float32)}
    assert codes(compiled) == [Code.AFFINE]
    assert_close(whole(compiled, feeds), onnxruntime(source, feeds))


def arena(name, *shape):
    return Tensor(name, np.dtype(np.float32), shape, Kind.ARENA)


def numbers(name, *shape):
    return constant(name, rng().normal(size=shape).astype(np.float32))


def product(x, y, bias=None, function=0):
    w = packed("w", rng().normal(size=(M, K)).astype(np.float32))
    return Operator(Code.AFFINE, [x, w, bias], [y], [N, M, K, function, 0.0, 0.0], "")


def unary(x, y, function=TANH):
    return Operator(Code.UNARY, [x], [y], [function, 0.0, 0.0], "")


def binary(a, b, y, a_steps=(M, 1), b_steps=(0, 1), function=ADD):
    return Operator(Code.BINARY, [a, b], [y], [function, 2, N, M, *a_steps, *b_steps], "")


def run(program, x):
    plan_in_place(program)
    image = images.build(program, ABOUT)
    found = ImageVM(image).step({"x": x})
    ours = Model(image).stream().step(x)
    ours = ours if isinstance(ours, dict) else {program.outputs[0].name: ours}
    for name, value in found.items():
        np.testing.assert_allclose(ours[name], value, rtol=1e-5, atol=1e-6)  # the C core's own tanh
    return found


def fused(ops, x, *outputs):
    """The codes that are left; both programs give the same."""
    program = Program(ops, [x], list(outputs))
    value = rng().normal(size=x.shape).astype(np.float32)
    before = run(copy.deepcopy(program), value)
    fuse_in_place(program)
    after = run(program, value)
    assert before.keys() == after.keys()
    for name, expected in before.items():  # one rounding to float32 less for each operator that is gone
        np.testing.assert_allclose(after[name], expected, rtol=1e-6, atol=1e-6)
    return [op.code for op in program.operators]


def tensors():
    return arena("x", N, K), arena("p", N, M), arena("s", N, M), arena("y", N, M)


@pytest.mark.parametrize("swapped", [False, True])
@pytest.mark.parametrize("shape", [(M,), (1, M)])
def test_a_row_for_all_is_a_bias(swapped, shape):
    x, p, s, y = tensors()
    b = numbers("b", *shape)
    add = binary(b, p, s, (0, 1), (M, 1)) if swapped else binary(p, b, s)
    assert fused([product(x, p), add, unary(s, y)], x, y) == [Code.AFFINE]


KEPT = {
    "a column": lambda p, s: binary(p, numbers("b", N), s, b_steps=(1, 0)),
    "a matrix": lambda p, s: binary(p, numbers("b", N, M), s, b_steps=(M, 1)),
    "a number": lambda p, s: binary(p, numbers("b", 1), s, b_steps=(0, 0)),
    "a difference": lambda p, s: binary(p, numbers("b", M), s, function=SUB),
}


@pytest.mark.parametrize("name", list(KEPT))
def test_what_is_no_row_for_all_stays(name):
    x, p, s, y = tensors()
    assert fused([product(x, p), KEPT[name](p, s), unary(s, y)], x, y) == [Code.AFFINE, Code.BINARY, Code.UNARY]


def test_a_row_that_is_computed_is_no_bias():
    x, p, s, _ = tensors()
    b, e = numbers("b", M), arena("e", M)
    ops = [unary(b, e), product(x, p), binary(p, e, s)]
    assert fused(ops, x, s) == [Code.UNARY, Code.AFFINE, Code.BINARY]


def test_a_product_read_out_of_order_keeps_its_bias_apart():
    """Each row of five read backwards."""
    x, p, s, _ = tensors()
    turned = Operator(Code.BINARY, [p, numbers("b", N)], [s], [ADD, 2, M, N, 1, M, 0, 1], "")
    assert fused([product(x, p), turned], x, s) == [Code.AFFINE, Code.BINARY]


def test_a_product_has_one_bias_and_one_activation():
    x, p, s, y = tensors()
    assert fused([product(x, p, numbers("c", M)), binary(p, numbers("b", M), y)], x, y) == [Code.AFFINE, Code.BINARY]
    assert fused([product(x, p, None, TANH), unary(p, y)], x, y) == [Code.AFFINE, Code.UNARY]
    x, p, s, y = tensors()
    assert fused([product(x, p), unary(p, s), unary(s, y, RELU)], x, y) == [Code.AFFINE, Code.UNARY]


def test_a_bias_behind_an_activation_stays_behind_it():
    x, p, _, y = tensors()
    assert fused([product(x, p, None, RELU), binary(p, numbers("b", M), y)], x, y) == [Code.AFFINE, Code.BINARY]


def test_a_function_that_is_no_activation_stays():
    x, p, _, y = tensors()
    assert fused([product(x, p), unary(p, y, SIN)], x, y) == [Code.AFFINE, Code.UNARY]


def test_a_product_that_is_read_twice_or_given_out_stays_as_it_is():
    x, p, s, y = tensors()
    assert fused([product(x, p), unary(p, s), unary(p, y, RELU)], x, s, y) == [Code.AFFINE, Code.UNARY, Code.UNARY]
    x, p, s, y = tensors()
    assert fused([product(x, p), unary(p, y)], x, p, y) == [Code.AFFINE, Code.UNARY]
    x, p, s, y = tensors()
    assert fused([product(x, p), binary(p, p, y, (M, 1), (M, 1))], x, y) == [Code.AFFINE, Code.BINARY]


def test_a_part_of_a_product_is_not_all_of_it():
    x, p, _, _ = tensors()
    part = Tensor("p", p.dtype, (M,), Kind.ARENA, base=p, base_offset=M)
    y = arena("y", M)
    assert fused([product(x, p), unary(part, y)], x, y) == [Code.AFFINE, Code.UNARY]


def test_what_nobody_reads_goes_and_what_a_state_keeps_stays():
    x, p, s, y = tensors()
    state = Tensor("h", np.dtype(np.float32), (N, M), Kind.STATE)
    ops = [product(x, p), unary(p, s), unary(p, y, RELU), unary(y, state)]
    program = Program(ops, [x], [y], [state])
    fuse_in_place(program)
    assert [op.code for op in program.operators] == [Code.AFFINE, Code.UNARY]
    assert any(state in op.outputs for op in program.operators)
