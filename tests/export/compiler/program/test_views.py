"""Views look at the elements that NumPy's as_strided looks at, however they are cut, turned and folded."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.lib.stride_tricks import as_strided

from streamgru.layout import Kind
from streamgru_export.compiler.program.program import Tensor
from streamgru_export.compiler.program.views import View, merge, row_major, whole

SHAPES = st.lists(st.integers(1, 5), min_size=0, max_size=5).map(tuple)


def tensor(shape):
    return Tensor("t", np.dtype(np.float32), shape, Kind.ARENA)


def elements(view):
    """The numbers of the elements that a view looks at, by NumPy."""
    memory = np.arange(view.tensor.size)
    strides = [s * memory.itemsize for s in view.strides]
    return as_strided(memory[view.offset :], view.shape, strides)


@st.composite
def looks(draw):
    """A view after some random moves, and the array that NumPy made of 0, 1, 2 .. by the same moves."""
    shape = draw(SHAPES)
    view, array = whole(tensor(shape)), np.arange(math.prod(shape)).reshape(shape)
    for _ in range(draw(st.integers(0, 4))):
        view, array = draw(st.sampled_from([turned, cut, dropped, repeated, folded]))(draw, view, array)
    return view, array


def turned(draw, view, array):
    perm = draw(st.permutations(range(array.ndim)))
    return view.transpose(perm), array.transpose(perm)


def cut(draw, view, array):
    if not array.ndim:
        return view, array
    axis = draw(st.integers(0, array.ndim - 1))
    step = draw(st.sampled_from([1, 1, 2, -1, -2]))
    entries = range(array.shape[axis])[::step]
    start = draw(st.integers(0, len(entries) - 1))
    count = draw(st.integers(1, len(entries) - start))
    picked = [entries[start + k] for k in range(count)]
    return view.slice(axis, picked[0], count, step), np.take(array, picked, axis)


def dropped(draw, view, array):
    ones = [i for i, d in enumerate(array.shape) if d == 1]
    if not ones:
        return view, array
    axis = draw(st.sampled_from(ones))
    return view.squeeze(axis), array.squeeze(axis)


def repeated(draw, view, array):
    if array.size > 200 or array.ndim > 5:
        return view, array
    grown = [draw(st.integers(1, 3)) if d == 1 else d for d in array.shape]
    shape = (*draw(st.lists(st.integers(1, 3), max_size=1)), *grown)
    return view.expand(shape), np.broadcast_to(array, shape)


def folded(draw, view, array):
    shape = draw(st.sampled_from(factorings(array.size)))
    found = view.reshape(shape)
    return (view, array) if found is None else (found, array.reshape(shape))


def factorings(n):
    """Some shapes of n elements."""
    pairs = [(d, n // d) for d in range(1, n + 1) if n % d == 0]
    return [(n,), *pairs, *((a, 1, b) for a, b in pairs), *((c, d, b) for a, b in pairs for c, d in [(1, a)])]


@given(looks())
def test_the_elements_are_numpys(look):
    view, array = look
    assert view.shape == array.shape
    assert view.size == array.size
    np.testing.assert_array_equal(elements(view), array)


@given(looks())
def test_the_span_is_from_the_first_element_to_the_last(look):
    view, array = look
    assert view.span() == (array.min(), array.max() + 1)


@given(looks())
def test_row_major_is_what_numpy_calls_one_after_the_other(look):
    view, array = look
    flat = array.reshape(-1)
    assert view.is_row_major == bool((flat == flat[0] + np.arange(flat.size)).all())


@given(looks(), st.data())
def test_a_reshape_is_numpys_or_none_where_no_strides_say_it(look, data):
    """It is none just where NumPy has to copy."""
    view, array = look
    shape = data.draw(st.sampled_from(factorings(array.size)))
    found = view.reshape(shape)
    if found is not None:
        np.testing.assert_array_equal(elements(found), array.reshape(shape))
    else:
        looked = elements(view)
        assert not np.shares_memory(looked.reshape(shape), looked)


@given(looks(), looks())
def test_two_views_are_in_the_same_place_where_they_walk_the_same_elements(one, other):
    t = tensor((max(one[0].tensor.size, other[0].tensor.size),))
    a, b = (View(t, v.offset, v.shape, v.strides) for v, _ in (one, other))
    same = elements(a).reshape(-1).tolist() == elements(b).reshape(-1).tolist()
    assert a.same_place(b) == same
    assert a.same_place(a)
    assert not a.same_place(View(tensor(t.shape), a.offset, a.shape, a.strides))


@given(looks())
def test_dimensions_of_one_change_no_place(look):
    view, _ = look
    assert view.same_place(View(view.tensor, view.offset, (1, *view.shape, 1), (7, *view.strides, 3)))
    assert not view.same_place(View(view.tensor, view.offset + 1, view.shape, view.strides))


@given(SHAPES)
def test_the_strides_of_a_contiguous_array(shape):
    array = np.zeros(shape, np.int8)
    assert row_major(shape) == array.strides


@given(looks(), looks())
def test_merging_keeps_the_walk_of_every_operand(one, other):
    """Walked together over one shape, with as few dimensions as can be."""
    shape, a = one[0].shape, one[0].strides
    b = (*other[0].strides, *[0] * len(shape))[: len(shape)]
    dims, steps = merge(shape, [a, b])
    for strides, merged in zip((a, b), steps, strict=True):
        np.testing.assert_array_equal(walk(dims, merged), walk(shape, strides))
    assert 1 not in dims
    for k in range(len(dims) - 1):
        assert any(s[k] != s[k + 1] * dims[k + 1] for s in steps)


def walk(shape, strides):
    at = np.zeros((), int)
    for d, s in zip(shape, strides, strict=True):
        at = at[..., None] + np.arange(d) * s
    return at.reshape(-1)


def test_a_whole_tensor_may_be_looked_at_in_another_shape():
    t = tensor((2, 3, 4))
    np.testing.assert_array_equal(elements(whole(t)), np.arange(24).reshape(2, 3, 4))
    np.testing.assert_array_equal(elements(whole(t, (6, 4))), np.arange(24).reshape(6, 4))
