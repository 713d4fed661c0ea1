"""What depends on constants alone, computed once before any dimension is bound: all bindings share it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from streamgru.errors import ModelError

from ..graph.blame import blaming
from ..graph.budget import Budget
from ..graph.evaluate import RANDOM, UNRELIABLE, infer
from ..graph.graph import Array, Graph, Node, TensorType
from .loops import free_names
from .sequences import OPERATORS as SEQUENCES


def fold(graph: Graph, budget: Budget) -> Graph:
    """The graph without the nodes that constants alone go into. A constant that nobody reads any more goes at once: of
    a chain of weights being turned and joined, two links are there at a time.

    What cannot be computed stays, for the binding to say why.
    """
    constants, nodes = dict(graph.constants), []
    types = {name: TensorType(value.dtype, value.shape) for name, value in constants.items()}
    left = _readers(graph)
    for node in graph.nodes:
        made = None
        if _is_constant(node, constants):
            with blaming(node):
                made = _computed(node, constants, types, graph.opset, budget)
        if made is None:
            nodes.append(node)
            continue
        constants |= made
        types |= {name: TensorType(value.dtype, value.shape) for name, value in made.items()}
        left.subtract(node.inputs)
        for name in {*node.inputs, *node.outputs}:
            if left[name] <= 0:
                constants.pop(name, None)
    return graph if len(nodes) == len(graph.nodes) else replace(graph, nodes=nodes, constants=constants)


def constant_values(
    node: Node, constants: Mapping[str, Array], types: Mapping[str, TensorType], opset: int, budget: Budget
) -> dict[str, Array]:
    """The outputs of a node whose inputs are constants. ModelError where they cannot be computed, or cost too much."""
    values = budget.evaluate(node, [constants[i] if i else None for i in node.inputs], opset, types)
    found = {}
    for o, value in zip(node.outputs, values, strict=False):
        if o:
            found[o] = np.ascontiguousarray(value.astype(types[o].dtype, copy=False)).reshape(value.shape)
            budget.hold(node, found[o])
    return found


def _computed(
    node: Node, constants: Mapping[str, Array], types: Mapping[str, TensorType], opset: int, budget: Budget
) -> dict[str, Array] | None:
    try:
        return constant_values(node, constants, infer(node, types, constants, opset), opset, budget)
    except ModelError:
        return None


def _is_constant(node: Node, constants: Mapping[str, Array]) -> bool:
    """Not where it is of a kind that the binding treats in a way of its own."""
    if node.op_type in RANDOM | UNRELIABLE | SEQUENCES | {"Dropout", "Identity"} or not any(node.inputs):
        return False
    if any(isinstance(value, Graph) for value in node.attrs.values()):
        return False
    return all(not i or i in constants for i in node.inputs)


def _readers(graph: Graph) -> Counter[str]:
    """How often each value is read, by nodes, subgraphs and the outputs."""
    found = Counter(i for n in graph.nodes for i in n.inputs)
    found.update(p.name for p in graph.outputs)
    for node in graph.nodes:
        for value in node.attrs.values():
            if isinstance(value, Graph):
                found.update(free_names(value))
    return found
