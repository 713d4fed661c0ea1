"""What a certificate says of what was not tried."""

from __future__ import annotations

from export.parity.test_traces import IN, case
from streamgru_export.parity.caveats import caveats
from streamgru_export.parity.findings import AxisCheck

SHAPES = {"x": ("T", 1, IN)}


def check(taken_for, outcome, words="its words", axis=0):
    return AxisCheck("onnxruntime", (("x", axis),), f"axis {axis} of 'x'", taken_for, (), None, outcome, words)


def test_time_that_could_not_be_tried_is_told_with_the_reason():
    made = case()
    assert caveats(made, SHAPES, [check("time", "untried")], "", []) == ("time was not tried: its words",)
    assert caveats(made, SHAPES, [check("time", "holds")], "", []) == ()
    assert caveats(made, SHAPES, [], "nobody was there", []) == ("time was not tried: nobody was there",)


def test_a_batch_that_could_not_be_tried_is_told_beside_time():
    untried, held = check("batch", "untried", axis=1), check("time", "holds")
    assert caveats(case(), SHAPES, [untried, held], "", []) == ("axis 1 of 'x' was not tried: its words",)
    assert caveats(case(), SHAPES, [untried, held, check("batch", "holds", axis=1)], "", []) == ()
