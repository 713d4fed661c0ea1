"""A model's own functions, written out where they are called. How much that makes is known before anything is made:
a few hundred bytes of functions that call each other twice would be more nodes than a machine has memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import onnx
from onnx import inliner

from streamgru.errors import ModelError

from .budget import Budget

COPIES = 4  # of the model, that onnx makes to write them out
Key = tuple[str, str, str]  # domain, name, overload
Size = tuple[int, int]  # nodes, bytes


def inline_functions(model: onnx.ModelProto, budget: Budget) -> onnx.ModelProto:
    """The model without functions.

    Raises
    ------
    ModelError
        A function calls itself, directly or through others, or the model would have more nodes than the budget has, or
        take more memory while they are written out.
    """
    if not model.functions:
        return model
    max_nodes = budget.nodes
    functions = {(f.domain, f.name, f.overload): f for f in model.functions}
    sizes: dict[Key, Size] = {}
    for key in functions:
        _measure(key, functions, sizes, max_nodes)
    nodes, size = _size(model.graph.node, sizes)
    if nodes > max_nodes:
        raise ModelError(f"with its functions written out the model has more than {max_nodes} nodes")
    budget.claim("the model's functions (keep large weights in a file beside the model)", 0,
                 COPIES * (model.ByteSize() + size))  # fmt: skip
    try:
        return inliner.inline_local_functions(model)
    except (RuntimeError, ValueError) as error:
        raise ModelError(f"the model's functions cannot be written out: {error}") from None


def _measure(start: Key, functions: Mapping[Key, onnx.FunctionProto], sizes: dict[Key, Size], max_nodes: int) -> None:
    """Fills in how many nodes and bytes `start`, and all that it calls, are when written out."""
    path: dict[Key, None] = {}
    waiting = [start]
    while waiting:
        key = waiting[-1]
        callees = [k for k in map(_key, _nodes(functions[key].node)) if k in functions and k not in sizes]
        if not callees or key in sizes:
            nodes, size = _size(functions[key].node, sizes)
            sizes[key] = min(nodes, max_nodes + 1), size
            path.pop(key, None)
            waiting.pop()
            continue
        path[key] = None
        if circle := next((k for k in callees if k in path), None):
            raise ModelError(f"the model's function '{circle[1]}' calls itself: it has no end")
        waiting += callees


def _size(nodes: Sequence[onnx.NodeProto], sizes: Mapping[Key, Size]) -> Size:
    """How many nodes and bytes they are when written out."""
    called = [sizes.get(_key(node), (1, 0)) for node in _nodes(nodes)]
    return sum(n for n, _ in called), sum(node.ByteSize() for node in nodes) + sum(size for _, size in called)


def _key(node: onnx.NodeProto) -> Key:
    return node.domain, node.op_type, node.overload


def _nodes(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    """All of them, those of their subgraphs too."""
    waiting = list(nodes)
    while waiting:
        node = waiting.pop()
        yield node
        for attribute in node.attribute:
            for graph in (attribute.g, *attribute.graphs):
                waiting += graph.node
