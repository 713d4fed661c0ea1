"""The turns and the figures of `streamgru_export.bench`; the command is tested in test_cli.py."""

import numpy as np
import pytest

from streamgru_export.bench import LEAST_ROUNDS, Samples, Subject, measure


class Scripted(Subject):
    """Says when it is timed; a call takes `ns`."""

    def __init__(self, name, ns, log):
        super().__init__(name, lambda: None, frames=2)
        self.ns, self.log = ns, log

    def loop(self, calls):
        return self.ns

    def each(self, calls):
        self.log.append(self.name)
        return np.full(calls, self.ns)


def test_subjects_take_turns_and_each_begins_a_round():
    log = []
    measure([Scripted(name, 1e6, log) for name in "abc"], rounds=3)
    assert "".join(log) == "abcbcacab"


def test_a_round_gives_the_time_of_a_frame_and_of_each_call():
    (samples,) = measure([Scripted("a", 1e6, [])], rounds=5)
    assert samples.means.tolist() == [5e5] * 5  # two frames in a call
    assert samples.calls.tolist() == [1e6] * 10  # two calls fill a round of 2 ms


def test_a_call_longer_than_a_round_is_made_once_a_round():
    (samples,) = measure([Scripted("a", 1e8, [])], rounds=4)
    assert samples.calls.tolist() == [1e8] * 4
    assert samples.means.tolist() == [5e7] * 4


def test_after_the_time_no_more_rounds_than_the_least():
    (samples,) = measure([Scripted("a", 1e6, [])], rounds=100, seconds=0)
    assert len(samples.means) == LEAST_ROUNDS


def test_a_ratio_is_the_median_of_the_rounds_ratios():
    calls = np.arange(1, 1001) * 1000
    ours = Samples("ours", np.array([1e3, 1e3, 10e3]), calls)  # the last round was a busy one
    peer = Samples("peer", np.array([4e3, 4e3, 40e3]), calls)
    timing = peer.timing(ours)
    assert (timing.ratio, timing.median_us, timing.max_us) == (4, 4, 1000)
    assert (timing.p99_us, timing.p999_us) == pytest.approx((990.01, 999.001))
