"""Checks that a graph can stream: that a frame of output depends on no later frame of input.

Every value is placed: FIXED (no time in it), Time(axis, inner) (entry `(o·T + t)·inner + i` of that axis
belongs to frame t) or LAST (what it is when the sequence ends). One rule for each family of operators says
how its outputs are placed, or why it looks into the future. The placement is checked against the shapes of
the graph at two lengths.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from streamgru.errors import CannotStreamError, Obstacle

from ..graph.graph import Graph
from ..graph.recurrent import Scan, scan
from .check import Check
from .places import ONE_STEP, PROBES, RUN_WHOLE, Place
from .rules import RULES
from .timeline import Timeline


@dataclass
class Causality:
    """What the check found."""

    places: dict[str, Place]
    over_time: set[str]  # first outputs of the recurrent nodes that run along time
    full: set[str]  # those of them whose sequence_lens are as long as the sequence, however long that is


def check_causal(timeline: Timeline) -> Causality:
    """Places every value of the graph.

    Raises
    ------
    CannotStreamError
        Every node that looks into the future itself, not through others, and why.
    ModelError
        A node that contradicts itself.
    """
    short, long = (timeline.at(n) for n in PROBES)
    _refuse_control(short, long)
    check = Check(short, long, timeline.axes(), RULES)
    found = [obstacle for _, obstacle in check.walk()]
    if found:
        raise CannotStreamError(found)
    _check_others(timeline, short)
    return Causality(check.places, check.over_time, check.full)


def _check_others(timeline: Timeline, short: Graph) -> None:
    """The graph is the same at other lengths: numbers that follow from the length may stand still between two probes,
    as min(T, 10) does, or T > 40, or T % 2.

    Raises
    ------
    CannotStreamError
        It is another at one of them.
    """
    one = timeline.at(1)
    _refuse_control(short, one)
    many = short.producers()
    for node in one.nodes:
        if not node.is_like(many.get(next(o for o in node.outputs if o))):
            why = "for one frame the graph computes it in another way than for many"
            raise CannotStreamError([Obstacle(str(node), why, RUN_WHOLE)])
    for n, other in timeline.at_others():
        _refuse_control(short, other)
        check = Check(short, other, timeline.axes(), RULES, (PROBES[0], n))
        frames = f" ({PROBES[0]} frames beside {n})"
        found = [replace(o, reason=o.reason + frames) for _, o in check.walk()]
        if found:
            raise CannotStreamError(found)


def _refuse_control(short: Graph, other: Graph) -> None:
    """A loop that was written out runs over the frames of a call, and forgets between calls; a branch that is taken
    for one length is no branch for all."""
    found = []
    for name, was in short.control.items():
        if name not in other.control or other.control[name].turns == was.turns:
            continue
        if was.node.op_type == "If":
            found.append(Obstacle(str(was.node), "its branch depends on the length of the sequence", RUN_WHOLE))
        elif was.node.op_type == "Scan" and _is_turned(scan(was.node)):
            why = "it goes through the frames of the sequence from the last one, or gives them in that order"
            found.append(Obstacle(str(was.node), why, RUN_WHOLE))
        else:
            why = "it runs over the frames of the sequence, and its body is no GRU"
            found.append(Obstacle(str(was.node), why, ONE_STEP))
    if found:
        raise CannotStreamError(found)


def _is_turned(form: Scan) -> bool:
    return any(form.input_reverse + form.output_reverse)
