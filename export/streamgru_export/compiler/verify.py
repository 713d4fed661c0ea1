"""What must hold between the stages: of a graph, and of a program (docs/format.md says the same of an image).

It repairs nothing and decides nothing. What it finds after a stage is a fault of that stage; what :func:`check_model`
finds in a graph as it was read is the model's.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

import numpy as np

from streamgru.errors import ModelError

from .graph.graph import Graph, Port
from .program.program import Program
from .program.verify import problems_of_program


class VerifyError(AssertionError):
    """A stage of the compiler left something behind that contradicts itself."""


def verify(value: Graph | Program) -> None:
    """A graph or a program, after a stage of the compiler.

    Raises
    ------
    VerifyError
        Naming the first node, value, operator or tensor that is not as it must be.
    """
    problem = next(problems_of_graph(value) if isinstance(value, Graph) else problems_of_program(value), None)
    if problem is not None:
        raise VerifyError(problem)


def check_model(graph: Graph) -> Graph:
    """A graph as it was read; it is handed on.

    Raises
    ------
    ModelError
        Naming the node that reads what nothing writes, writes what is written already, and the like.
    """
    problem = next(problems_of_graph(graph), None)
    if problem is not None:
        raise ModelError(problem)
    return graph


def problems_of_graph(graph: Graph, outer: Collection[str] = ()) -> Iterator[str]:
    """What is wrong with a graph; nothing, where it is sound. `outer` are the values that a subgraph may read."""
    yield from _twins(graph.inputs, "input")
    yield from _twins(graph.outputs, "output")
    yield from _order(graph, outer)
    if graph.types:
        yield from _types(graph)


def _twins(ports: Sequence[Port], what: str) -> Iterator[str]:
    seen: set[str] = set()
    for port in ports:
        if not port.name:
            yield f"a graph {what} has no name"
        if port.name in seen:
            yield f"two graph {what}s are named '{port.name}'"
        seen.add(port.name)


def _order(graph: Graph, outer: Collection[str]) -> Iterator[str]:
    """Every value is written once and before it is read."""
    known = {"", *graph.constants, *(p.name for p in graph.inputs)}
    for node in graph.nodes:
        if not node.op_type:
            yield f"{node} has no operator"
        if not known.issuperset(node.inputs):
            yield from (f"{node} reads '{i}', which nothing before it writes" for i in node.inputs
                        if i not in known and i not in outer)  # fmt: skip
        for value in node.attrs.values():
            if isinstance(value, Graph):
                yield from problems_of_graph(value, {*outer, *known})
        for o in node.outputs:
            if o and o in known:
                yield f"{node} writes '{o}', which is written before"
            known.add(o)
    for port in graph.outputs:
        if port.name not in known and port.name not in outer:
            yield f"nothing writes the graph output '{port.name}'"


def _types(graph: Graph) -> Iterator[str]:
    """Every value has a type, and it is that of the constant or port of the name."""
    types = graph.types
    named = {name for node in graph.nodes for name in (*node.inputs, *node.outputs) if name}
    if lost := named - types.keys():
        node = next(n for n in graph.nodes if lost.intersection((*n.inputs, *n.outputs)))
        yield f"{node}: '{min(lost)}' has no type"
    for name, value in graph.constants.items():
        if name not in types or (types[name].dtype, types[name].shape) != (value.dtype, value.shape):
            yield f"the constant '{name}' is {value.dtype}{list(value.shape)}, its type {types.get(name)}"
    for port in (*graph.inputs, *graph.outputs):
        known = types.get(port.name)
        if known is None or (known.dtype, known.shape) != (np.dtype(port.dtype), port.shape):
            yield f"the port '{port.name}' is {port.dtype}{list(port.shape)}, its type {known}"
