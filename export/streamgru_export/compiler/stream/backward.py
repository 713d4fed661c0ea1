"""Cells that run from the end of a call, and hand their state on to the next call.

Over the frames of one call such a cell is what the file says. Its state is not: it has seen the call's first frame
last, and would be carried forward in time from there.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from streamgru.errors import CannotStreamError, Obstacle
from streamgru.notes import Note

from ..graph.graph import Graph, Node
from ..graph.kinds import RECURRENT
from ..graph.operators import axis, integer, slices
from ..graph.recurrent import recurrent
from .dimensions import sequence_lengths
from .places import RUN_WHOLE


def refuse_backward(graph: Graph, from_states: set[str]) -> list[Note]:
    """A stream's states go forward.

    Parameters
    ----------
    graph : Graph
        Static, of one frame or one call.
    from_states : set of str
        The values that depend on the states that a call gets from the one before.

    Returns
    -------
    list of Note
        A warning for each cell that is backward, and runs over one frame only.

    Raises
    ------
    CannotStreamError
        A cell runs backward over several frames, from such a state.
    """
    lengths, notes, found = sequence_lengths(graph), [], []
    for node in graph.nodes:
        if node.op_type not in RECURRENT or from_states.isdisjoint((node.input(5), node.input(6))):
            continue
        frames, form = lengths[next(o for o in node.outputs if o)], recurrent(node)
        turned = "" if frames == 1 else _turned(graph, node, frames)
        if frames > 1 and (turned or not form.is_forward):
            why = f"it is {form.direction}" if not form.is_forward else f"{turned} turns its sequence round"
            found.append(_obstacle(node, why, frames))
        elif not form.is_forward:
            notes.append(Note("warning", f"{node}: it is {form.direction} over one frame, and its state is carried "
                              "forward from call to call, as the file says; over a whole sequence it would run the "
                              "other way"))  # fmt: skip
    for was in graph.control.values():
        if was.backward and was.turns > 1 and not from_states.isdisjoint(was.node.inputs):
            found.append(_obstacle(was.node, "it scans from the end", was.turns))
    if found:
        raise CannotStreamError(found)
    return notes


def _obstacle(node: Node, why: str, frames: int) -> Obstacle:
    reason = f"{why} over the {frames} frames of a call, and its state, which has seen the first of them last, goes on"
    return Obstacle(str(node), f"{reason} to the next call", RUN_WHOLE)


def _turned(graph: Graph, node: Node, frames: int) -> str:
    """The node that turns the sequence of a cell round before it; "" where none does."""
    producers = graph.producers()
    todo, seen = [node.inputs[0]], set()
    while todo:
        name = todo.pop()
        producer = producers.get(name)
        if producer is None or name in seen or producer.op_type in RECURRENT:
            continue
        seen.add(name)
        if any(size == frames for size in _turned_sizes(graph, producer)):
            return str(producer)
        todo += [i for i in producer.inputs if i]
    return ""


def _turned_sizes(graph: Graph, node: Node) -> Iterator[int]:
    """The sizes of the axes that a node turns round."""
    shape = graph.types[node.inputs[0]].shape if node.inputs and node.inputs[0] else ()
    if node.op_type == "Slice":
        taken = slices(node, shape, graph.constants) or {}
        yield from (len(entries) for entries in taken.values() if entries.step < 0)
    elif node.op_type == "Gather":
        indices = graph.constants.get(node.inputs[1])
        along = shape[axis(node, len(shape), graph.opset)]
        if indices is not None and (np.diff(indices.reshape(-1) % along) < 0).all():
            yield indices.size
    elif node.op_type == "ReverseSequence":
        yield shape[integer(node, "time_axis")]
