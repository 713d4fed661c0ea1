"""Graphs that are known to compute something else than their author thinks."""

from __future__ import annotations

from streamgru.notes import Note

from .graph.graph import Graph


def suspicions(graph: Graph) -> list[Note]:
    """A warning for each node that looks like an exporter's mistake. It is obeyed as it stands."""
    found = []
    for node in graph.nodes:
        of_torch = graph.producer.lower().startswith("pytorch") or node.from_torch_gru
        is_meant = node.attrs.get("linear_before_reset", 0) or graph.recognised.keys() & set(node.outputs)
        if node.op_type == "GRU" and of_torch and not is_meant:
            text = (
                f"{node}: linear_before_reset=0 in a model exported from PyTorch, whose GRU is "
                "linear_before_reset=1. Exporters with onnxscript before 0.7.1 lost it; this model "
                "then computes something else than the module did (streamgru.parity shows it). "
                "It is obeyed as it stands"
            )
            found.append(Note("warning", text))
    return found
