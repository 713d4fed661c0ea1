"""What a certificate does not say: the axes that could not be tried, and why. It judges nothing."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from streamgru._types import Array

from .axes import open_axes
from .findings import AxisCheck
from .traces import Case, Shape, several
from .trial import listed


def caveats(
    case: Case, shapes: Mapping[str, Shape], axes: Sequence[AxisCheck], missing: str, wholes: Collection[str]
) -> tuple[str, ...]:
    """In words that follow the verdict.

    Parameters
    ----------
    case : Case
    shapes : mapping
        The file's own input shapes; none where there is no file.
    axes : sequence of AxisCheck
        What was tried.
    missing : str
        Why nothing could run the whole; empty where something could.
    wholes : collection of str
        The implementations that ran the check's own frames in one call.
    """
    if case.model.metadata.get("kind") == "whole":
        return ("nothing is streamed: a frame is a whole sequence, of the sizes that the image is bound to",)
    tried = {check.places for check in axes if check.outcome != "untried"}
    found = [
        f"{check.axes} was not tried: {check.words}"
        for check in axes
        if check.outcome == "untried" and check.places not in tried and check.taken_for != "time"
    ]
    found += [f"{check.axes} is {check.words}" for check in axes if check.outcome == "bound"]
    found += [
        f"{name!r} is no input of the stream: the others were given {_filling(v)}" for name, v in case.unheard.items()
    ]
    return (*_time(case, shapes, axes, missing, wholes), *dict.fromkeys(found))


def _filling(values: Array) -> str:
    return "the number of frames" if values.dtype.kind in "iu" else "zeros"


def _time(
    case: Case, shapes: Mapping[str, Shape], axes: Sequence[AxisCheck], missing: str, wholes: Collection[str]
) -> tuple[str, ...]:
    """Why time was not tried, or at one length alone."""
    of_time = [check for check in axes if check.taken_for == "time"]
    if any(check.outcome == "fails" for check in axes) or any(check.outcome == "holds" for check in of_time):
        return ()
    if missing:
        return (f"time was not tried: {missing}",)
    fixed = {
        t.name: shapes[t.name][t.time_axis] for t in case.model.inputs if t.time_axis is not None and t.name in shapes
    }
    lengths = [size for size in fixed.values() if isinstance(size, int) and size > 0]
    if lengths and wholes and lengths[0] > 1:
        return (f"time was tried at {lengths[0]} frames alone: the file fixes that length",)
    if lengths:
        why = "" if wholes or lengths[0] == 1 else ", and the check has fewer"
        return (f"time was not tried: the file fixes its length, {several(lengths[0], 'frame')}{why}",)
    if of_time:
        return (f"time was not tried: {of_time[0].words}",)
    trusted = _trusted(case)
    opened = open_axes(shapes)
    if not opened:
        return (f"time was not tried: the file fixes every dimension{trusted}",)
    named = "; ".join(map(str, opened))
    return (f"time was not tried: none of the axes that the file leaves open is time ({named}){trusted}",)


def _trusted(case: Case) -> str:
    pairs = listed([f"{output!r} becomes {given!r}" for given, output in case.state_names.items()])
    return f", and that {pairs} is taken on trust" if pairs else ""
