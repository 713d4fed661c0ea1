"""ONNX sequences, as far as scripted loops use them: lists of values that are known before the model runs."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from streamgru.errors import ModelError

from ..graph.builder import Builder
from ..graph.graph import Array, Node
from ..graph.operators import axis as axis_of
from ..graph.operators import flag

OPERATORS = {
    "SequenceEmpty", "SequenceConstruct", "SequenceInsert", "SequenceErase", "SequenceAt", "SequenceLength",
    "ConcatFromSequence",
}  # fmt: skip
MAX_ITEMS = 4096


class Sequences:
    """The sequences of a graph by name."""

    def __init__(self) -> None:
        self.items: dict[str, list[str]] = {}
        self.steps: dict[str, str] = {}  # sequence -> a value that has its items along axis 0

    def __contains__(self, name: str) -> bool:
        return name in self.items or name in self.steps

    def visit(self, node: Node, constants: dict[str, Array], builder: Callable[[], Builder]) -> Builder | None:
        """One operator on sequences; the nodes that it stands for, if it makes a tensor."""
        out = node.outputs[0]
        if node.op_type == "SequenceEmpty":
            self.items[out] = []
            return None
        if node.op_type == "SequenceConstruct":
            self.items[out] = list(node.inputs)
            return None
        if node.inputs[0] in self.steps:
            b = builder()
            b.name = node.name or out
            self._look(node, self.steps[node.inputs[0]], b, constants)
            return b
        if node.inputs[0] not in self.items:
            raise ModelError(f"{node}: its sequence '{node.inputs[0]}' is not known before the model runs")
        items = list(self.items[node.inputs[0]])
        if node.op_type == "SequenceInsert":
            if len(items) >= MAX_ITEMS:
                raise ModelError(f"{node}: its sequence has more than {MAX_ITEMS} items")
            items.insert(self._place(node, 2, len(items), constants), node.inputs[1])
            self.items[out] = items
            return None
        if node.op_type == "SequenceErase":
            items.pop(self._place(node, 1, len(items) - 1, constants))
            self.items[out] = items
            return None
        b = builder()
        b.name = node.name or out
        if node.op_type == "SequenceLength":
            b.add(Node("Identity", node.name, [b.constant(np.int64(len(items)), "length")], [out]))
        elif node.op_type == "SequenceAt":
            b.add(Node("Identity", node.name, [items[self._place(node, 1, len(items) - 1, constants)]], [out]))
        else:
            self._concat(node, items, b)
        return b

    def _place(self, node: Node, i: int, last: int, constants: dict[str, Array]) -> int:
        if not node.input(i):
            return last
        value = constants.get(node.inputs[i])
        if value is None:
            raise ModelError(f"{node}: its position '{node.inputs[i]}' depends on the data")
        at = int(value.reshape(-1)[0])
        size = last + (0 if node.op_type == "SequenceInsert" else 1)
        at = at + size if at < 0 else at
        if not 0 <= at <= last:
            raise ModelError(f"{node}: position {at} lies outside of its sequence of {size}")
        return at

    def _concat(self, node: Node, items: list[str], b: Builder) -> None:
        if not items:
            raise ModelError(f"{node}: its sequence is empty")
        lost = next((v for v in items if v not in b.types), None)
        if lost is not None:
            raise ModelError(f"{node}: '{lost}' in its sequence is no tensor")
        new = flag(node, "new_axis")
        axis = axis_of(node, len(b.shape(items[0])) + new, b.opset)
        b.emit("Concat", [b.unsqueeze(v, axis) if new else v for v in items], node.outputs[0], axis=axis)

    def _look(self, node: Node, steps: str, b: Builder, constants: dict[str, Array]) -> None:
        """At the items that lie along axis 0 of one value."""
        shape = b.shape(steps)
        if node.op_type == "SequenceAt":
            b.emit("Gather", [steps, b.constant(np.int64(self._place(node, 1, shape[0] - 1, constants)), "at")],
                   node.outputs[0], axis=0)  # fmt: skip
            return
        if node.op_type != "ConcatFromSequence":
            raise ModelError(f"{node}: of the sequence that a loop makes only ConcatFromSequence and SequenceAt are "
                             "supported")  # fmt: skip
        new = flag(node, "new_axis")
        axis = axis_of(node, len(shape) - 1 + new, b.opset)
        value = b.move_axis(steps, 0, axis)
        joined = b.shape(value)
        if not new:
            joined = (*joined[:axis], joined[axis] * joined[axis + 1], *joined[axis + 2 :])
        b.emit("Identity", [b.reshape(value, joined)], node.outputs[0])


def _axis(node: Node, rank: int) -> int:
    """The axis along which a sequence is joined, counted from the front."""
    axis = int(node.attrs["axis"])
    if not -rank <= axis < rank:
        raise ModelError(f"{node}: axis {axis} is out of range for {rank} dimensions")
    return axis % rank
