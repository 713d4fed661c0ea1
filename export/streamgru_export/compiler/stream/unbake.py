"""A sequence length that the file has as a number, made a dimension again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

import numpy as np

from streamgru.errors import ModelError

from ..graph.graph import Graph
from ..graph.kinds import RECURRENT
from ..static.specialise import Specialiser
from .dimensions import sequence_lengths
from .places import PROBES, MayRunWholeError
from .timeline import TIME, Timeline, with_time


def unbake(timeline: Timeline) -> Timeline | None:
    """A graph whose sequence length is a number, with that number made a dimension again.

    None where no recurrent node follows any axis of an input.

    Raises
    ------
    ModelError
        The length is more than one step, and stands in the graph in other places too.
    """
    graph = timeline.graph
    lengths = set(sequence_lengths(timeline.at(1)).values())
    error: ModelError | None = None
    for length in sorted(lengths, reverse=True):
        places = [(p.name, a) for p in graph.inputs for a, d in enumerate(p.shape) if d == length]
        for group in [{p} for p in places] + [{p for p in places if p[1] == a} for a in range(3)]:
            if not group:
                continue
            candidate = timeline.specialise.of(_free_reshapes(with_time(graph, group), timeline.at(1), length))
            try:
                if moves(candidate, timeline.dims, {TIME}):
                    return replace(timeline, specialise=candidate, time={TIME})
            except ModelError as e:
                error = error or (e if length > 1 else None)
    if error is not None and max(lengths) > 1:
        raise MayRunWholeError(
            f"the sequence length {max(lengths)} is a number in this graph and cannot be made 1: {error}. "
            "Export it with a dynamic time axis, or one step with its state"
        )
    return None


def _free_reshapes(graph: Graph, static: Graph, length: int) -> Graph:
    """Exporters write the sample's length into Reshape too; there it becomes -1, what is left over.

    Where the guess is wrong, the shapes no longer fit or :mod:`causal` sees frames torn apart.
    """
    graph = _without_lengths(graph, static, length)
    if length == 1:
        return graph
    fixed = {o: static.types[o].shape for n in static.nodes if n.op_type == "Reshape" for o in n.outputs}
    nodes, constants = [], dict(graph.constants)
    for node in graph.nodes:
        shape = fixed.get(node.output(0), ())
        if node.op_type == "Reshape" and node.inputs[1] in constants and length in shape:
            name = f"{node.outputs[0]}/shape"
            at = shape.index(length)
            constants[name] = np.array([*shape[:at], -1, *shape[at + 1 :]], np.int64)
            node = replace(node, inputs=[node.inputs[0], name], attrs={})
        nodes.append(node)
    return replace(graph, nodes=nodes, constants=constants)


def _without_lengths(graph: Graph, static: Graph, length: int) -> Graph:
    """Where sequence_lens are that number too, all the frames there are are meant."""
    full = {
        o
        for n in static.nodes
        if n.op_type in RECURRENT and n.input(4) in static.constants
        for o in n.outputs
        if o and (static.constants[n.inputs[4]] == length).all()
    }
    nodes = [
        replace(n, inputs=[*n.inputs[:4], "", *n.inputs[5:]]) if full.intersection(n.outputs) else n
        for n in graph.nodes
    ]
    return replace(graph, nodes=nodes) if full else graph


def moves(specialise: Specialiser, rest: Mapping[str, int], time: Iterable[str]) -> bool:
    """Whether some recurrent node's sequence follows these dimensions."""
    first, second = (sequence_lengths(specialise({**rest, **dict.fromkeys(time, n)})) for n in PROBES)
    return any(first[k] != second.get(k) for k in first)
