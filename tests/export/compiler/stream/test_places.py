"""The words for where time lies: entries of an axis belong to frames, and two lengths tell them apart."""

from __future__ import annotations

import math

import numpy as np
import pytest

from streamgru_export.compiler.stream.places import FIXED, LAST, PROBES, Time, inner_of


def test_the_lengths_tried_are_two_primes():
    """So that no size is a multiple of one by accident, nor one of the other."""
    assert len(set(PROBES)) == 2
    for n in PROBES:
        assert n > 20  # no kernel's, no head's, no gate's number
        assert all(n % d for d in range(2, math.isqrt(n) + 1))


@pytest.mark.parametrize("inner", [1, 2, 5, 16])
def test_an_axis_of_frames_is_known_by_both_lengths(inner):
    assert inner_of(*(n * inner for n in PROBES), PROBES) == inner


@pytest.mark.parametrize(
    "sizes",
    [
        (PROBES[0], PROBES[0]),
        (PROBES[0] + 2, PROBES[1] + 2),
        (PROBES[0] - 1, PROBES[1] - 1),
        (PROBES[0] * 2, PROBES[1]),
        (PROBES[0] // 2, PROBES[1] // 2),
        (1, 1),
    ],
)
def test_other_sizes_are_no_whole_number_of_entries_a_frame(sizes):
    assert inner_of(*sizes, PROBES) is None


@pytest.mark.parametrize("before, after", [(0, 0), (2, 0), (0, 3), (2, 3)])
def test_a_padded_value_has_more_entries_than_frames(before, after):
    place = Time(2, 1, before, after)
    padded = np.pad(np.arange(7), (before, after))
    assert place.entries(7) == len(padded)
    assert place.is_padded == (before + after > 0)
    np.testing.assert_array_equal(padded[before : before + 7], np.arange(7))


def test_entries_of_a_frame_lie_as_the_place_says():
    """Entry (o·T + t)·inner + i of an axis that joins [o, T, inner] belongs to frame t."""
    outer, frames, inner = 2, 5, 3
    frame_of = np.broadcast_to(np.arange(frames)[:, None], (outer, frames, inner)).reshape(-1)
    at = [(o * frames + t) * inner + i for o in range(outer) for t in range(frames) for i in range(inner)]
    assert [frame_of[k] for k in at] == [t for _ in range(outer) for t in range(frames) for _ in range(inner)]
    assert Time(0, inner).entries(frames) == frames * inner


def test_places_are_compared_by_what_they_say():
    assert Time(1) == Time(1, 1, 0, 0) != Time(1, 2)
    assert len({Time(1), Time(1, 1), Time(0), FIXED, LAST}) == 4
