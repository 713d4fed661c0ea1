"""Nodes in topological order: every one behind those whose values it reads, itself or in a subgraph."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

import onnx

from streamgru.errors import ModelError

from .graph import Graph, Node

N = TypeVar("N", Node, onnx.NodeProto)


def in_order(nodes: Sequence[Node]) -> list[Node]:
    """Every node after those that it reads; otherwise as they stand.

    Raises
    ------
    ModelError
        Nodes that read each other in a circle.
    """
    return _in_order(nodes, _reads, lambda n: n.outputs)


def sort_in_place(graph: onnx.FunctionProto | onnx.GraphProto) -> None:
    """The same for nodes that are not read yet, and for those of their subgraphs."""
    for node in graph.node:
        for inner in _subgraphs(node):
            sort_in_place(inner)
    nodes = _in_order(graph.node, _reads_of_proto, lambda n: n.output)
    del graph.node[:]
    graph.node.extend(nodes)


def free_names(graph: Graph) -> set[str]:
    """The outer values that a subgraph reads."""
    own = {*graph.constants, *(p.name for p in graph.inputs), *(o for n in graph.nodes for o in n.outputs)}
    read = {i for n in graph.nodes for i in _reads(n)} | {p.name for p in graph.outputs}
    return read - own


def _reads(node: Node) -> list[str]:
    """The values that a node reads, those of its subgraphs too."""
    inner = [name for value in node.attrs.values() if isinstance(value, Graph) for name in sorted(free_names(value))]
    return [*(i for i in node.inputs if i), *inner]


def _reads_of_proto(node: onnx.NodeProto) -> list[str]:
    inner = [name for graph in _subgraphs(node) for name in sorted(_free_in_proto(graph))]
    return [*(i for i in node.input if i), *inner]


def _subgraphs(node: onnx.NodeProto) -> list[onnx.GraphProto]:
    return [graph for a in node.attribute for graph in ([a.g] if a.HasField("g") else a.graphs)]


def _free_in_proto(graph: onnx.GraphProto) -> set[str]:
    own = {v.name for v in (*graph.input, *graph.initializer)} | {o for n in graph.node for o in n.output}
    return {i for n in graph.node for i in _reads_of_proto(n)} - own


def _in_order(nodes: Sequence[N], reads: Callable[[N], list[str]], writes: Callable[[N], Iterable[str]]) -> list[N]:
    """Depth first, from the first node on. A node is opened once, so each edge is looked at once."""
    producers = {o: i for i, n in enumerate(nodes) for o in writes(n) if o}
    before = [[producers[name] for name in reads(n) if name in producers] for n in nodes]
    done, opened = [False] * len(nodes), [False] * len(nodes)  # opened and not done: on the way to the one looked at
    order: list[N] = []
    for first in range(len(nodes)):
        todo = [first]
        while todo:
            i = todo[-1]
            missing = [] if opened[i] else [p for p in before[i] if not done[p]]
            opened[i] = True
            circle = next((p for p in missing if opened[p]), None)
            if circle is not None:
                raise ModelError(
                    f"{_called(nodes[i])} reads what {_called(nodes[circle])} writes, and that reads, itself or "
                    "through others, what this one writes: they go in a circle"
                )
            if missing:
                todo += missing
                continue
            todo.pop()
            if not done[i]:
                done[i] = True
                order.append(nodes[i])
    return order


def _called(node: Node | onnx.NodeProto) -> str:
    return str(node if isinstance(node, Node) else Node(node.op_type, node.name, [], list(node.output)))
