"""Graphs that are likely to compute something else than their author thinks."""

from __future__ import annotations

from collections.abc import Set

from streamgru.notes import Note

from ..lost_reset import lost_reset
from .graph.graph import Graph
from .graph.kinds import RECURRENT
from .graph.recurrent import recurrent


def suspicions(graph: Graph, states: Set[str] | None = None) -> list[Note]:
    """A warning for each node that looks like an exporter's mistake. It is obeyed as it stands.

    Parameters
    ----------
    graph : Graph
        Static; of a stream, it computes one frame.
    states : set of str, optional
        The inputs that are states of the stream; None where it is none.
    """
    return [*_resets(graph), *([] if states is None else _forgetful(graph, states))]


def _resets(graph: Graph) -> list[Note]:
    return [
        Note(
            "warning",
            f"{node}: linear_before_reset=0 in a model exported from PyTorch, whose GRU is linear_before_reset=1. "
            "Exporters with onnxscript before 0.7.1 lost it; this model then computes something else than the module "
            "did (streamgru.parity shows it). It is obeyed as it stands",
        )
        for node in graph.nodes
        if node.op_type == "GRU" and lost_reset(node.from_torch_gru, recurrent(node).linear_before_reset)
    ]


def _forgetful(graph: Graph, states: Set[str]) -> list[Note]:
    """Cells over one entry whose first state is made of what they run over: nothing of a frame reaches the next."""
    made_of, found = _origins(graph), []
    for node in graph.nodes:
        if node.op_type not in RECURRENT or graph.types[node.inputs[0]].shape[recurrent(node).time_axis] != 1:
            continue
        starts = set().union(*(made_of.get(i, set()) for i in node.inputs[5:7]))
        if starts and starts.isdisjoint(states) and starts <= made_of.get(node.inputs[0], set()):
            text = (
                f"{node}: its first state is computed from {', '.join(map(repr, sorted(starts)))} in each frame, so "
                "that it keeps nothing from frame to frame. It is obeyed as it stands; to stream it, export it with "
                "its state as an input and an output"
            )
            found.append(Note("warning", text))
    return found


def _origins(graph: Graph) -> dict[str, set[str]]:
    """Value -> the graph's inputs that it is made of, but for what cells on the way begin with."""
    made_of = {p.name: {p.name} for p in graph.inputs}
    for node in graph.nodes:
        read = node.inputs[:5] if node.op_type in RECURRENT else node.inputs
        origins = set().union(*(made_of.get(i, set()) for i in read))
        made_of.update(dict.fromkeys(filter(None, node.outputs), origins))
    return made_of
