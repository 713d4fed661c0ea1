"""The same node for T steps at once: a value of shape s at each step is one value of shape [T, *s]."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from .builder import Builder
from .graph import Node, TensorType
from .kinds import ELEMENTWISE, REDUCTIONS
from .operators import axis, gathered, gemm, perm, reduction_axes, slices
from .rows import RESHAPES

Lift = Callable[[Builder, Node, Sequence[str], Sequence[bool], Sequence[tuple[int, ...]], int], str | None]


def lift_node(
    builder: Builder, node: Node, output: str, inputs: Sequence[str], lifted: Sequence[bool],
    types: Mapping[str, TensorType], steps: int,
) -> str | None:  # fmt: skip
    """One output of a node of a step, for all steps.

    Parameters
    ----------
    output : str
        Which of its outputs.
    inputs : list of str
        What takes the place of its inputs: values of all steps where `lifted`, else what every step reads.
    types : mapping
        Of its inputs and outputs at one step.

    Returns
    -------
    The value of shape [steps, *shape at one step]; None where it is not known how.
    """
    if not any(lifted):
        return None
    if node.op_type == "Split":
        along = axis(node, len(types[output].shape), builder.opset)
        at = node.outputs.index(output)
        if not lifted[0] or not all(node.outputs[:at]):
            return None
        start = sum(types[o].shape[along] for o in node.outputs[:at])
        return builder.entries(inputs[0], np.arange(start, start + types[output].shape[along]), along + 1)
    rule = RULES.get(node.op_type)
    if rule is None or len(node.outputs) != 1:
        return None
    shapes = [types[i].shape if i else () for i in node.inputs]
    return rule(builder, node, inputs, lifted, [*shapes, types[output].shape], steps)


def _elementwise(
    b: Builder, node: Node, inputs: Sequence[str], lifted: Sequence[bool], shapes: Sequence[tuple[int, ...]], steps: int
) -> str | None:
    """Broadcasting counts axes from the end: the step axis must stand before the longest shape."""
    rank = len(shapes[-1])
    ins = [
        b.reshape(name, (steps, *(1,) * (rank - len(shape)), *shape)) if is_lifted else name
        for name, is_lifted, shape in zip(inputs, lifted, shapes, strict=False)
    ]
    return b.emit(node.op_type, ins, **node.attrs)


def _cast_like(
    b: Builder, node: Node, inputs: Sequence[str], lifted: Sequence[bool], shapes: Sequence[tuple[int, ...]], steps: int
) -> str | None:
    """Of the second input it takes the type alone."""
    return b.emit("CastLike", inputs[:2], **node.attrs) if lifted[0] else None


def _reshape(
    b: Builder, node: Node, inputs: Sequence[str], lifted: Sequence[bool], shapes: Sequence[tuple[int, ...]], steps: int
) -> str | None:
    return b.reshape(inputs[0], (steps, *shapes[-1]))


def _transpose(
    b: Builder, node: Node, inputs: Sequence[str], lifted: Sequence[bool], shapes: Sequence[tuple[int, ...]], steps: int
) -> str | None:
    return b.transpose(inputs[0], [0, *(p + 1 for p in perm(node, len(shapes[0])))])


def _concat(
    b: Builder, node: Node, inputs: Sequence[str], lifted: Sequence[bool], shapes: Sequence[tuple[int, ...]], steps: int
) -> str | None:
    if not all(lifted):
        return None
    return b.emit("Concat", inputs, axis=axis(node, len(shapes[-1]), b.opset) + 1)


def _product(
    b: Builder, node: Node, inputs: Sequence[str], lifted: Sequence[bool], shapes: Sequence[tuple[int, ...]], steps: int
) -> str | None:
    """MatMul and Gemm by a matrix that is the same at every step."""
    w = b.constants.get(inputs[1])
    if w is None or w.ndim != 2 or not lifted[0]:
        return None
    if node.op_type == "MatMul":
        return b.emit("MatMul", inputs)
    form = gemm(node)
    if form.trans_a:
        return None
    alpha, beta = np.float32(form.alpha), np.float32(form.beta)
    name = inputs[1]
    if form.trans_b or alpha != 1:
        name = b.constant(np.ascontiguousarray((w.T if form.trans_b else w) * alpha), "weight")
    y = b.emit("MatMul", [inputs[0], name])
    if len(inputs) < 3 or not inputs[2]:
        return y
    c = b.constants.get(inputs[2])
    if c is None:
        return None
    return b.emit("Add", [y, inputs[2] if beta == 1 else b.constant(c * beta, "bias")])


def _last_axis(
    b: Builder, node: Node, inputs: Sequence[str], lifted: Sequence[bool], shapes: Sequence[tuple[int, ...]], steps: int
) -> str | None:
    """Softmax and LayerNormalization."""
    first = axis(node, len(shapes[0]), b.opset)
    return None if any(lifted[1:]) else b.emit(node.op_type, inputs, **{**node.attrs, "axis": first + 1})


def _reduce(
    b: Builder, node: Node, inputs: Sequence[str], lifted: Sequence[bool], shapes: Sequence[tuple[int, ...]], steps: int
) -> str | None:
    """Reductions: over the same axes, one further on."""
    rank = len(shapes[0])
    axes = reduction_axes(replace(node, inputs=list(inputs)), rank, b.opset, b.constants)
    if axes is None or (rank == 0 and not axes):
        return None
    if node.op_type in ("ArgMax", "ArgMin"):
        return b.emit(node.op_type, inputs, **{**node.attrs, "axis": axes[0] + 1})
    if not axes:  # what it does to each element it does at every step
        return b.emit(node.op_type, inputs[:1], **node.attrs)
    attrs = {k: v for k, v in node.attrs.items() if k not in ("axes", "noop_with_empty_axes")}
    axes = [a + 1 for a in axes]
    if b.opset < (13 if node.op_type == "ReduceSum" else 18):
        return b.emit(node.op_type, inputs[:1], **attrs, axes=axes)
    return b.emit(node.op_type, [inputs[0], b.constant(np.array(axes, np.int64), "axes")], **attrs)


def _gather(
    b: Builder, node: Node, inputs: Sequence[str], lifted: Sequence[bool], shapes: Sequence[tuple[int, ...]], steps: int
) -> str | None:
    """An entry at each step, or the same entry of every step's data."""
    along = axis(node, len(shapes[0]), b.opset)
    if lifted[0] and not lifted[1]:
        return b.emit("Gather", inputs, axis=along + 1)
    if lifted[0]:
        return None
    indices = b.constants.get(inputs[1])
    if indices is not None:  # known at every step: the data, its axis in that order
        at = gathered(node, indices, shapes[0][along])
        if at.size == steps:  # one entry at each step; in order it is the data itself
            return b.reshape(b.move_axis(b.entries(inputs[0], at.reshape(-1), along), along, 0), (steps, *shapes[-1]))
    return b.move_axis(b.emit("Gather", inputs, axis=along), along, 0)


def _slice(
    b: Builder, node: Node, inputs: Sequence[str], lifted: Sequence[bool], shapes: Sequence[tuple[int, ...]], steps: int
) -> str | None:
    """Slice by constants, as the entries that it takes."""
    renamed = replace(node, inputs=list(inputs))
    taken = slices(renamed, shapes[0], b.constants) if not any(lifted[1:]) else None
    if taken is None:
        return None
    value = inputs[0]
    for along, entries in taken.items():
        value = b.entries(value, np.array(entries), along + 1)
    return value


RULES: dict[str, Lift] = {
    **dict.fromkeys(ELEMENTWISE, _elementwise),
    "CastLike": _cast_like,
    **dict.fromkeys(REDUCTIONS, _reduce),
    **dict.fromkeys(RESHAPES, _reshape),
    **dict.fromkeys(("Softmax", "LogSoftmax", "LayerNormalization"), _last_axis),
    **dict.fromkeys(("MatMul", "Gemm"), _product),
    "Transpose": _transpose,
    "Concat": _concat,
    "Gather": _gather,
    "Slice": _slice,
}
