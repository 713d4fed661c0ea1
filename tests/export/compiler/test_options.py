"""What a caller of the compiler may say; the rest is refused by name, with what was expected."""

from __future__ import annotations

import numpy as np
import pytest

import streamgru
from export.graphs import model, node
from streamgru.errors import OptionError
from streamgru_export.compiler.options import MOST, Options, checked

NOTHING = {
    "mode": "stream", "batch": 1, "dims": None, "time_axis": None, "state": None, "length": None, "weights": "f32",
    "tolerance": None, "samples": None, "values": None,
}  # fmt: skip


def test_what_nobody_said():
    assert checked(**NOTHING) == Options()


def test_what_may_be_said():
    said = {
        "mode": "whole", "batch": np.int64(3), "dims": {"T": 5}, "time_axis": {"x": -1}, "state": [("a", "b")],
        "length": 7, "weights": "i8", "tolerance": np.float32(0.5), "samples": None, "values": None,
    }  # fmt: skip
    options = checked(**said)
    assert options == Options("whole", 3, {"T": 5}, {"x": -1}, (("a", "b"),), 7, "i8", 0.5)
    assert type(options.batch) is int
    assert checked(**{**NOTHING, "state": []}).state == ()


@pytest.mark.parametrize(
    "said, message",
    [
        ({"mode": "strem"}, "mode='strem': one of 'stream', 'whole' was expected; did you mean 'stream'?"),
        ({"weights": "int8"}, "weights='int8': one of 'f32', 'f16', 'i8' was expected"),
        ({"weights": None}, "weights=None"),
        ({"batch": 0}, "batch is 1 to"),
        ({"batch": 1.5}, "batch is a whole number"),
        ({"batch": MOST + 1}, "batch is 1 to"),
        ({"length": 0}, "length is 1 to"),
        ({"dims": 5}, "dims gives a number for each name"),
        ({"dims": {"T": 0}}, "dims['T'] is 1 to"),
        ({"dims": {"T": "9"}}, "dims['T'] is a whole number"),
        ({"time_axis": [1]}, "time_axis gives a number for each name"),
        ({"time_axis": {"x": None}}, "time_axis['x'] is a whole number"),
        ({"state": ["ab"]}, "state takes pairs of an input and the output that continues it, not 'ab'"),
        ({"state": [("a", "b", "c")]}, "state takes pairs"),
        ({"state": [("a", 1)]}, "state takes pairs"),
        ({"values": 5}, "values gives a value for each input"),
        ({"values": {"sr": "a"}}, "values['sr'] is a number"),
        ({"values": {"sr": [[1], [2, 3]]}}, "values['sr'] is a number"),
        ({"values": {"sr": []}}, "values['sr'] is a number"),
        ({"values": {"sr": np.zeros(1025)}}, "an array of at most 1024"),
        ({"values": {1: 2}}, "values[1] is a number"),
        ({"tolerance": -0.1}, "tolerance is a share of an output's RMS"),
        ({"tolerance": float("nan")}, "tolerance is a share"),
        ({"tolerance": "much"}, "tolerance is a share"),
    ],
)
def test_what_may_not(said, message):
    with pytest.raises(OptionError) as raised:
        checked(**{**NOTHING, **said})
    assert message in str(raised.value)


def test_an_option_that_there_is_not():
    source = model([node("Relu", ["x"], ["y"])], {"x": [1]}, ["y"])
    with pytest.raises(OptionError, match="compile has no option 'wieghts'; did you mean 'weights'"):
        streamgru.compile(source, wieghts="i8")
