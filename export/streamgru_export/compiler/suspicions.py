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
    """Nodes over one entry whose first state is made of what they run over: nothing of a frame reaches the next."""
    nodes = [node for node in graph.nodes if node.op_type in RECURRENT]
    starts = {node.name: _sources(graph, node.inputs[5:7]) for node in nodes}
    return [
        Note(
            "warning",
            f"{node}: its first state is computed from {', '.join(map(repr, sorted(starts[node.name])))} in each "
            "frame, so that it keeps nothing from frame to frame. It is obeyed as it stands; to stream it, export it "
            "with its state as an input and an output",
        )
        for node in nodes
        if graph.types[node.inputs[0]].shape[recurrent(node).time_axis] == 1
        and starts[node.name]
        and starts[node.name].isdisjoint(states)
        and starts[node.name] <= _sources(graph, node.inputs[:1])
    ]


def _sources(graph: Graph, values: list[str]) -> set[str]:
    """The graph's inputs that these values are made of, but for what cells on the way begin with."""
    read = set(values)
    for node in reversed(graph.nodes):
        if read.intersection(node.outputs):
            read.update(node.inputs[:5] if node.op_type in RECURRENT else node.inputs)
    return {p.name for p in graph.inputs if p.name in read}
