"""Checks that a graph can stream: that a frame of output depends on no later frame of input.

Every value is placed: FIXED (no time in it), Time(axis, inner) (entry `(o·T + t)·inner + i` of that axis
belongs to frame t) or LAST (what it is when the sequence ends). One rule for each family of operators says
how its outputs are placed, or why it looks into the future. The placement is checked against the shapes of
the graph at two lengths.
"""

from __future__ import annotations

from dataclasses import dataclass

from streamgru.errors import ModelError

from .check import Check
from .places import PROBES, Place
from .rules import RULES
from .timeline import Timeline


@dataclass
class Causality:
    """What the check found."""

    places: dict[str, Place]
    over_time: set[str]  # first outputs of the recurrent nodes that run along time


def check_causal(timeline: Timeline) -> Causality:
    """Places every value of the graph.

    Raises
    ------
    ModelError
        Naming the node that looks into the future, and why.
    """
    check = Check(timeline.at(PROBES[0]), timeline.at(PROBES[1]), timeline.axes(), RULES)
    for node in check.graph.nodes:
        check.visit(node)
    check.finish()
    return Causality(check.places, check.over_time)


def obstacles(timeline: Timeline) -> list[str]:
    """Why the graph cannot stream: of every node that looks into the future itself, not through others."""
    check = Check(timeline.at(PROBES[0]), timeline.at(PROBES[1]), timeline.axes(), RULES)
    behind: set[str] = set()  # values that depend on such a node
    found: list[str] = []
    for node in check.graph.nodes:
        try:
            if not behind.intersection(node.inputs):
                check.visit(node)
                continue
        except ModelError as error:
            found.append(str(error))
        behind.update(node.outputs)
    return found
