"""Graphs that are known to compute something else than their author thinks."""

from __future__ import annotations

from streamgru.notes import Note

from ..lost_reset import lost_reset
from .graph.graph import Graph
from .graph.recurrent import recurrent


def suspicions(graph: Graph) -> list[Note]:
    """A warning for each node that looks like an exporter's mistake. It is obeyed as it stands."""
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
