"""Tensors and operators before they have addresses: their words, their packed rows, and each of them once."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamgru_export.compiler.program.program import (
    Code,
    Kind,
    Layout,
    Operator,
    Program,
    Tensor,
    constant,
    packed,
    word,
)

F32 = np.dtype(np.float32)
TINY = np.finfo(np.float32).tiny


@given(st.integers(-(2**31), 2**32 - 1))
def test_an_integer_is_its_word(value):
    assert word(value) == value % 2**32
    (signed,) = struct.unpack("<i", struct.pack("<I", word(value)))
    assert signed == (value if value < 2**31 else value - 2**32)


@given(st.floats(width=32, allow_nan=False))
def test_a_float_is_its_bits(value):
    assert word(value) == int(np.float32(value).view(np.uint32))


def test_a_number_of_the_other_kind_is_another_word():
    """What is an integer and what is a float is told by the type alone."""
    assert word(1) == 1
    assert word(1.0) == 0x3F800000
    assert Operator(Code.UNARY, [], [], [3, 0.5, -1], "").words() == [3, 0x3F000000, 0xFFFFFFFF]


@given(st.integers(1, 50), st.integers(1, 9))
def test_packed_rows_lie_as_the_format_says(rows, columns):
    """docs/format.md, an element at a time."""
    matrix = np.random.default_rng(rows * 100 + columns).normal(size=(rows, columns)).astype(np.float32)
    data, lines = packed("w", matrix).data, columns | 1
    whole = rows // 16 * 16
    width = (rows - whole + 3) // 4 * 4
    assert data.size == whole * lines + width * columns
    seen = np.zeros(data.size, bool)
    for m in range(rows):
        for k in range(columns):
            at = (m // 16 * lines + k) * 16 + m % 16 if m < whole else whole * lines + k * width + m - whole
            assert data[at] == matrix[m, k]
            seen[at] = True
    assert not data[~seen].any()


def test_a_packed_tensor_is_shaped_as_its_matrix_and_stored_with_its_padding():
    t = packed("w", np.ones((20, 4), np.float32))
    assert (t.shape, t.layout, t.kind, t.size) == ((20, 4), Layout.PACKED, Kind.CONSTANT, 80)
    assert t.nbytes == 4 * (16 * 5 + 4 * 4)


@pytest.mark.parametrize("make", [lambda v: constant("c", v).data, lambda v: packed("w", v[None]).data[::4]])
def test_subnormal_numbers_of_a_constant_become_zero(make):
    values = np.float32([TINY, -TINY, TINY / 2, -TINY / 2, 0, 1, np.inf])
    expected = np.float32([TINY, -TINY, 0, 0, 0, 1, np.inf])
    np.testing.assert_array_equal(np.asarray(make(values)), expected)
    assert values[2] != 0


@pytest.mark.parametrize("dtype", [np.int64, np.int32, np.bool_])
def test_other_constants_are_stored_as_they_are_in_rows(dtype):
    values = np.asfortranarray(np.arange(6).reshape(2, 3).astype(dtype))
    t = constant("c", values)
    assert t.data.flags.c_contiguous
    np.testing.assert_array_equal(t.data, values)
    assert t.nbytes == values.nbytes


def test_not_a_number_stays_one():
    assert np.isnan(constant("c", np.float32([np.nan])).data).all()


def test_a_view_lies_in_its_base():
    base = Tensor("t", F32, (4, 3), Kind.ARENA)
    view = Tensor("t", F32, (3,), Kind.ARENA, base=base, base_offset=3)
    assert (view.root, base.root) == (base, base)
    assert (view.size, view.nbytes, base.nbytes) == (3, 12, 48)


def test_every_tensor_of_a_program_is_listed_once():
    x, y, s = (Tensor(n, F32, (4,), kind) for n, kind in (("x", 1), ("y", 1), ("s", Kind.STATE)))
    s.reset = constant("s/reset", np.ones(4, np.float32))
    w, base = constant("w", np.ones(4, np.float32)), Tensor("base", F32, (8,), Kind.ARENA)
    part = Tensor("base", F32, (4,), Kind.ARENA, base=base, base_offset=4)
    ops = [Operator(Code.BINARY, [x, w], [part], [], ""), Operator(Code.BINARY, [part, None, s], [y, None], [], "")]
    found = Program(ops, [x], [y], [s]).tensors()
    assert len(found) == len(set(found)) == 7
    assert set(found) == {x, y, s, s.reset, w, base, part}
    assert Program().tensors() == []
