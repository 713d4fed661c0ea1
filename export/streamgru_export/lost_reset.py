"""GRUs of an ONNX graph that an exporter got wrong.

It evaluates nothing, and imports neither onnx nor the compiler, which asks it too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from streamgru._printable import printable

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


# The entries of a node's metadata in which torch's exporter says what the node was; they outlive the producer's name
# where another tool rewrites the file.
MARKS = ("pkg.torch.onnx.fx_node", "pkg.torch.onnx.class_hierarchy", "namespace")
TORCH_GRU = ("aten.gru.", "torch.nn.modules.rnn.GRU")


def is_of_torch(producer: str, metadata: Mapping[str, str]) -> bool:
    """Whether a GRU node computes what PyTorch's does.

    Parameters
    ----------
    producer : str
        The model's `producer_name`.
    metadata : mapping
        The node's `metadata_props`.
    """
    if producer.lower().startswith("pytorch"):
        return True
    return any(mark in metadata.get(key, "") for key in MARKS for mark in TORCH_GRU)


def lost_reset(of_torch: bool, linear_before_reset: int) -> bool:
    """Whether a GRU node has lost its linear_before_reset: PyTorch's GRU is 1, and ONNX's default 0."""
    return of_torch and not linear_before_reset


def resetting_before(proto: Any) -> list[str]:
    """The names of all GRUs with linear_before_reset=0."""
    return [_called(node) for node in _grus(proto.graph) if not _linear_before_reset(node)]


def suspicious_grus(proto: Any) -> list[str]:
    """The names of the GRUs of a ModelProto that have lost their linear_before_reset."""
    return [
        _called(node)
        for node in _grus(proto.graph)
        if lost_reset(
            is_of_torch(proto.producer_name, {p.key: p.value for p in node.metadata_props}), _linear_before_reset(node)
        )
    ]


def _called(node: Any) -> str:
    """The node's name, or that of its first output where it has none."""
    return (
        f"GRU node '{printable(node.name)}'"
        if node.name
        else f"GRU node (unnamed, output '{printable(next(filter(None, node.output), ''))}')"
    )


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
