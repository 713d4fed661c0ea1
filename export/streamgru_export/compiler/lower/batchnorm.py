"""Folds an inference-time BatchNormalization into the Conv, ConvTranspose or Gemm before it.

y = (W·x + b)·scale + shift = (scale·W)·x + (scale·b + shift), computed in float64 and rounded once.
"""

from __future__ import annotations

import numpy as np

from ..graph.graph import Array, Graph, Node, TensorType
from ..graph.operators import Gemm, gemm, integer
from .elementwise import batch_norm_affine

OUTPUT_AXIS = {"Conv": 0, "ConvTranspose": 1, "Gemm": 1}


def fold_batch_norm(graph: Graph) -> Graph:
    """A graph in which every BatchNormalization that can be is folded."""
    graph = graph.copied()
    producers, uses = graph.producers(), graph.uses()
    gone: set[str] = set()
    for node in graph.nodes:
        if node.op_type != "BatchNormalization":
            continue
        before = producers.get(node.inputs[0])
        if (
            before is not None
            and before.op_type in OUTPUT_AXIS
            and uses[node.inputs[0]] == 1
            and _fold(graph, before, node)
        ):
            before.outputs[0] = node.outputs[0]
            producers[node.outputs[0]] = before
            gone.add(node.outputs[0])
    graph.nodes = [n for n in graph.nodes if not (n.op_type == "BatchNormalization" and n.outputs[0] in gone)]
    return graph


def _fold(graph: Graph, before: Node, node: Node) -> bool:
    w = graph.constants.get(before.inputs[1])
    b = graph.constants.get(before.input(2))
    if w is None or (before.input(2) and (b is None or b.ndim != 1)):
        return False
    if before.op_type == "Gemm" and gemm(before) not in (Gemm(), Gemm(trans_b=True)):
        return False
    scale, shift = (v.astype(np.float64) for v in batch_norm_affine(graph.constants, node))
    bias = shift if b is None else b * scale + shift
    before.inputs += [""] * (3 - len(before.inputs))
    _set(graph, before, 1, _scaled(before, w, scale))
    _set(graph, before, 2, bias.astype(np.float32))
    return True


def _scaled(before: Node, w: Array, scale: Array) -> Array:
    """The weights times the scale of their output channel."""
    axis = OUTPUT_AXIS[before.op_type]
    if before.op_type == "Gemm" and gemm(before).trans_b:
        axis = 0
    if before.op_type == "ConvTranspose":  # [C, M/g, ...]: the channels of each group of inputs
        group = integer(before, "group")
        parts = w.reshape(group, w.shape[0] // group, *w.shape[1:])
        factors = scale.reshape(group, 1, -1, *[1] * (w.ndim - 2))
        return np.asarray((parts * factors).reshape(w.shape), np.float32)
    shape = [1] * w.ndim
    shape[axis] = -1
    return np.asarray(w * scale.reshape(shape), np.float32)


def _set(graph: Graph, node: Node, i: int, value: Array) -> None:
    name = f"{node.outputs[0]}/{i}"
    graph.constants[name] = value
    graph.types[name] = TensorType(value.dtype, value.shape)
    node.inputs[i] = name
