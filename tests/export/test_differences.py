"""The numbers of a parity check, on traces whose differences are known beforehand."""

from __future__ import annotations

import itertools
import time

import numpy as np
import pytest

from streamgru_export.differences import WINDOWS, Trace, compare, measure_latency, same_bits, ulp_distance

SEED = 5


def trace(name="a", first=0, **values):
    """A trace with a value for every step from `first` on."""
    return Trace(name, {n: first + np.arange(len(v)) for n, v in values.items()}, values)


@pytest.fixture
def frames():
    print(f"seed {SEED}")
    return np.random.default_rng(SEED).standard_normal((50, 2, 3)).astype(np.float32)


def test_one_changed_element_is_found_where_it_is(frames):
    reference = frames.astype(np.float64)
    reference[17, 1, 2] += 0.25
    difference = compare(trace(y=frames), trace("b", y=reference))
    worst = difference.worst
    assert (worst.output, worst.step, worst.index) == ("y", 17, (1, 2))
    assert (worst.candidate, worst.reference) == (frames[17, 1, 2], reference[17, 1, 2])
    assert difference.max_abs == pytest.approx(0.25)
    assert difference.max_rel == pytest.approx(0.25 / abs(reference[17, 1, 2]))
    assert difference.rmse == pytest.approx(0.25 / np.sqrt(frames.size))
    assert difference.scaled == pytest.approx(0.25 / np.abs(reference).max())
    assert [w.max_abs > 0 for w in difference.windows].index(True) == 17 * WINDOWS // 50
    steps, error = difference.per_step
    assert (steps.tolist(), np.flatnonzero(error).tolist()) == (list(range(50)), [17])


def test_the_worst_step_counts_from_where_the_traces_meet(frames):
    other = frames[20:].copy()
    other[3] += 1
    difference = compare(trace(y=frames), trace("b", first=20, y=other))
    assert difference.worst.step == 23
    assert difference.outputs[0].steps == 30


def test_a_difference_counts_the_steps_that_both_have(frames):
    short = Trace("b", {"y": np.arange(20), "h": np.array([19])}, {"y": frames[:20], "h": frames[:1]}, "its time limit")
    difference = compare(trace(y=frames, h=frames), short)
    assert (short.reached, difference.steps) == (20, 20)
    assert {o.output: o.steps for o in difference.outputs} == {"y": 20, "h": 1}
    assert difference.windows[-1].last == 19


def test_equal_traces_do_not_differ(frames):
    difference = compare(trace(y=frames), trace("b", y=frames.copy()))
    assert (difference.max_abs, difference.max_ulp, difference.scaled) == (0, 0, 0)


def test_an_output_beyond_one_is_measured_by_its_largest_value():
    reference = np.array([[100.0], [1.0]])
    difference = compare(trace(y=reference + 0.5), trace("b", y=reference))
    assert difference.scaled == 0.5 / 100
    assert compare(trace(y=reference / 1e6), trace("b", y=reference / 1e6 + 0.5)).scaled == 0.5


def test_the_decisive_output_is_the_one_that_is_furthest_off_by_its_scale():
    reference = {"big": np.full((4, 1), 1000.0), "small": np.zeros((4, 1))}
    difference = compare(trace(big=reference["big"] + 0.1, small=reference["small"] + 0.01), trace("b", **reference))
    assert (difference.worst.output, difference.decisive.output) == ("big", "small")


def test_relative_and_ulp_errors_do_not_count_next_to_zero():
    reference = np.array([[1.0], [1e-20]])
    difference = compare(trace(y=np.array([[1.0], [0.0]])), trace("b", y=reference))
    assert (difference.max_abs, difference.max_rel, difference.max_ulp) == (1e-20, 0, 0)


@pytest.mark.parametrize(
    "a,b,expected",
    [
        (np.nan, 1.0, np.inf),
        (1.0, np.nan, np.inf),
        (np.inf, 1.0, np.inf),
        (np.inf, -np.inf, np.inf),
        (np.nan, np.nan, 0),
        (np.inf, np.inf, 0),
        (0.0, -0.0, 0),
    ],
)
def test_what_is_not_finite(a, b, expected):
    difference = compare(trace(y=np.array([[a]])), trace("b", y=np.array([[b]])))
    assert difference.max_abs == expected
    assert difference.scaled == expected


def test_integers_count_by_how_many_differ():
    ids = np.array([[1], [5], [9]])
    difference = compare(trace(y=ids), trace("b", y=np.array([[1], [4], [8]])))
    assert (difference.mismatches, difference.scaled, difference.worst.step) == (2, 0, 1)


def test_frames_of_another_shape_are_a_problem_and_never_within(frames):
    difference = compare(trace(y=frames), trace("b", y=frames[:, 0]))
    assert "(2, 3)" in difference.problem
    assert difference.scaled == np.inf


def test_nothing_in_common_is_a_problem_and_never_within(frames):
    for other in (trace("b", z=frames), trace("b", first=50, y=frames)):
        difference = compare(trace(y=frames), other)
        assert difference.problem
        assert difference.scaled == np.inf


def test_a_state_known_after_the_last_step_alone_is_no_drift(frames):
    steps = {"y": np.arange(50), "h": np.array([49])}
    values = {"y": frames, "h": np.zeros((1, 4))}
    ours = Trace("a", steps, values)
    theirs = Trace("b", steps, {"y": frames + np.float32(0.5), "h": values["h"] + 9})
    difference = compare(ours, theirs)
    assert difference.max_abs == 9
    assert [round(w.max_abs, 6) for w in difference.windows] == [0.5] * WINDOWS


def test_drift_shows_in_the_windows(frames):
    growing = frames + np.linspace(0, 1, 50)[:, None, None]
    windows = compare(trace(y=growing), trace("b", y=frames.astype(np.float64))).windows
    errors = [w.max_abs for w in windows]
    assert errors == sorted(errors)
    assert errors[-1] > 5 * errors[0]
    assert (windows[0].first, windows[-1].last) == (0, 49)
    assert all(a.last + 1 == b.first for a, b in itertools.pairwise(windows))


def test_the_rms_of_a_window_is_over_its_steps_and_all_elements():
    error = np.arange(1, 51, dtype=np.float64)[:, None] * np.array([1, -2, 0.5])
    windows = compare(trace(y=error), trace("b", y=np.zeros_like(error))).windows
    for window in windows:
        part = error[window.first : window.last + 1]
        assert window.rmse == pytest.approx(np.sqrt((part**2).mean()))
        assert window.max_abs == np.abs(part).max()


@pytest.mark.parametrize("a", [-1.0, -1e-40, 0.0, 1e-45, 1.0, 3e38])
def test_neighbours_are_one_ulp_apart(a):
    a = np.float32(a)
    up = np.nextafter(a, np.float32(np.inf))
    assert ulp_distance(np.array([a, up]), np.array([up, a])).tolist() == [1, 1]


def test_zeros_are_one_number_and_the_signs_are_far_apart():
    tiny = np.float32(1e-45)  # the smallest number above 0
    assert ulp_distance(np.array([0.0]), np.array([-0.0])).tolist() == [0]
    assert ulp_distance(np.array([tiny]), np.array([-tiny])).tolist() == [2]


def test_same_bits_sees_the_sign_of_zero(frames):
    assert same_bits(trace(y=frames), trace("b", y=frames.copy()))
    zero = np.zeros((3, 1), np.float32)
    assert not same_bits(trace(y=zero), trace("b", y=-zero))
    assert not same_bits(trace(y=zero), trace("b", y=zero.astype(np.float64)))
    assert not same_bits(trace(y=zero), trace("b", z=zero))
    assert not same_bits(trace(y=zero), trace("b", y=zero[:2]))


def test_latency_of_calls_that_take_turns():
    seen: list[tuple[str, int]] = []
    calls = {
        "quick": lambda frame: seen.append(("quick", frame)),
        "slow": lambda frame: (seen.append(("slow", frame)), time.sleep(0.001)),
    }
    quick, slow = measure_latency(calls, 40, rounds=4)
    assert (quick.name, len(quick.samples_us), len(slow.samples_us)) == ("quick", 40, 40)
    assert quick.median_us < 1000 <= slow.median_us <= slow.p99_us <= slow.max_us
    turns = [name for i, (name, _) in enumerate(seen) if i == 0 or seen[i - 1][0] != name]
    assert turns == ["quick", "slow"] * 4
