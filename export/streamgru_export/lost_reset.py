"""GRUs of an ONNX graph that an exporter got wrong.

It evaluates nothing. The graph comes as a `ModelProto`; onnx is not imported.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

EXPLANATION = (
    "a GRU from PyTorch with linear_before_reset=0. PyTorch computes 1; onnxscript before 0.7.1 lost the "
    "attribute and wrote wrong models without a word. Export again with onnxscript 0.7.1 or later, or set "
    "the attribute to 1. Keep it only where the cell is meant to reset the state before the product."
)

MENDED = (
    "{nodes}: linear_before_reset is 0 in the graph, and the module computes 1: with 1 in its place the graph agrees "
    "with the module, {error:.1e} of the scale. onnxscript before 0.7.1 loses the attribute without a word. Export "
    "again with onnxscript 0.7.1 or later, or set linear_before_reset=1 on the node"
)


def resetting_before(proto: Any) -> list[str]:
    """The names of all GRUs with linear_before_reset=0."""
    return [_called(node) for node in _grus(proto.graph) if not _linear_before_reset(node)]


def suspicious_grus(proto: Any) -> list[str]:
    """The names of the GRUs with linear_before_reset=0 in a graph that PyTorch's exporter wrote."""
    of_torch = proto.producer_name.lower().startswith("pytorch")
    return [
        _called(node)
        for node in _grus(proto.graph)
        if not _linear_before_reset(node) and (of_torch or _was_torch_gru(node))
    ]


def _called(node: Any) -> str:
    """The node's name, or that of its first output where it has none."""
    return (
        f"GRU node '{node.name}'"
        if node.name
        else f"GRU node (unnamed, output '{next(filter(None, node.output), '')}')"
    )


def _was_torch_gru(node: Any) -> bool:
    """Whether torch's exporter left its mark on the node, which stays when another tool rewrites the file."""
    return any("aten.gru.input" in entry.value for entry in node.metadata_props)


def with_linear_before_reset(proto: Any) -> Any:
    """A copy of the graph in which every GRU has linear_before_reset=1."""
    copy = type(proto)()
    copy.CopyFrom(proto)
    for node in _grus(copy.graph):
        if not _linear_before_reset(node):
            kept = [a for a in node.attribute if a.name != "linear_before_reset"]
            del node.attribute[:]
            node.attribute.extend(kept)
            node.attribute.add(name="linear_before_reset", i=1, type=2)  # AttributeProto.INT
    return copy


def _linear_before_reset(node: Any) -> int:
    return int(next((a.i for a in node.attribute if a.name == "linear_before_reset"), 0))


def _grus(graph: Any) -> Iterator[Any]:
    """Every GRU, in bodies of Loop, Scan and If too."""
    for node in graph.node:
        if node.op_type == "GRU":
            yield node
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from _grus(attribute.g)
