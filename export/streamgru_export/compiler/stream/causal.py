"""Checks that a graph can stream: that a frame of output depends on no later frame of input.

Every value is placed: FIXED (no time in it), Time(axis, inner) (entry `(o·T + t)·inner + i` of that axis
belongs to frame t) or LAST (what it is when the sequence ends). One rule for each family of operators says
how its outputs are placed, or why it looks into the future. The placement is checked against the shapes of
the graph at two lengths.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from streamgru.errors import CannotStreamError, Obstacle

from .check import Check
from .places import PROBES, Place
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
    check = Check(timeline.at(PROBES[0]), timeline.at(PROBES[1]), timeline.axes(), RULES)
    found: list[Obstacle] = []
    behind: set[str] = set()  # values that depend on a node that looks into the future
    for node in check.graph.nodes:
        if behind.isdisjoint(node.inputs):
            with _collecting(found):
                check.visit(node)
                continue
        behind.update(o for o in node.outputs if o)
    producers = check.graph.producers()
    for port in check.graph.outputs:
        if port.name in producers and port.name not in behind:
            with _collecting(found):
                check.leave(producers[port.name], port.name)
    if found:
        raise CannotStreamError(found)
    return Causality(check.places, check.over_time, check.full)


@contextmanager
def _collecting(found: list[Obstacle]) -> Iterator[None]:
    """What keeps the graph from streaming is kept in place of being raised."""
    try:
        yield
    except CannotStreamError as error:
        found += error.obstacles
