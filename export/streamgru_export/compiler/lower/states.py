"""Where recurrent state lies while a frame is computed: written in place by its cell, or copied at the end.

A state's input value is the state tensor itself, its output value is what the tensor must hold after the
frame. A cell writes its place in the tensor at once if nothing reads the old value after it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from streamgru.layout import Kind

from ..graph.graph import Array, Graph, Node
from ..graph.kinds import RECURRENT
from ..graph.operators import perm
from ..program.program import Tensor
from ..program.views import View, whole
from ..stream.slots import Slot
from .context import Context
from .move import VIEWS

MOST_ELEMENTS = 1 << 22  # of states, that are compared one by one
END = 1 << 60  # later than any node


@dataclass
class States:
    """The states of a graph during its lowering."""

    ctx: Context
    slots: list[Slot]
    targets: dict[str, View] = field(default_factory=dict)  # final state of a cell -> its place
    pieces: list[tuple[str, View]] = field(default_factory=list)  # (value, the place it must end in)

    def declare(self) -> None:
        """Makes the state tensors and finds out where each part of their final values comes from."""
        for slot in self.slots:
            t = self.ctx.type(slot.input)
            reset = None
            if slot.reset is not None and slot.reset.any():
                reset = self.ctx.constant(f"{slot.name}/reset", slot.reset)
            tensor = Tensor(slot.name, t.dtype, t.shape, Kind.STATE, reset=reset)
            self.ctx.program.states.append(tensor)
            self.ctx.views[slot.input] = whole(tensor)
        producers = self.ctx.graph.producers()
        for slot in self.slots:
            self._follow(slot.output, self.ctx.views[slot.input], producers)

    def _follow(self, value: str, place: View, producers: dict[str, Node]) -> None:
        """Goes back through what only moves data, as long as the place can be followed."""
        node = producers.get(value)
        source = self.ctx.type(node.inputs[0]).shape if node and node.inputs and node.inputs[0] else ()
        if node is not None and node.op_type in ("Identity", "Reshape", "Squeeze", "Unsqueeze", "Flatten"):
            before = place.reshape(source)
            if before is not None:
                self._follow(node.inputs[0], before, producers)
                return
        elif node is not None and node.op_type == "Transpose":
            order = perm(node, len(source))
            self._follow(node.inputs[0], place.transpose([order.index(i) for i in range(len(order))]), producers)
            return
        elif node is not None and node.op_type == "Concat":
            axis, start = self.ctx.axis(node, len(place.shape)), 0
            for part in node.inputs:
                n = self.ctx.type(part).shape[axis]
                self._follow(part, place.slice(axis, start, n), producers)
                start += n
            return
        self.pieces.append((value, place))
        if node is not None and node.op_type in RECURRENT and value in node.outputs[1:]:
            self.targets[value] = place

    def choose_in_place(self, order: list[Node], outputs: list[str]) -> None:
        """Keeps the targets that may be written when their cell runs. All view-only readers must be lowered
        by now."""
        readers = self._readers(order, outputs)
        index = {o: i for i, n in enumerate(order) for o in n.outputs if o}
        for value, place in list(self.targets.items()):
            node = order[index[value]]
            initial = node.input(5 if value == node.output(1) else 6)
            own = self.ctx.views.get(initial)
            clash = any(
                at > index[value] or (at == index[value] and name != initial)
                for name, at in readers
                if self._touches(name, place)
            )
            contiguous = place.shape[-1] == 1 or place.strides[-1] == 1
            if own is None or not own.same_place(place) or clash or not contiguous:
                del self.targets[value]

    def _readers(self, order: list[Node], outputs: list[str]) -> list[tuple[str, int]]:
        """(value, index of the node that reads it) for every value that may look at a state."""
        found = []
        looks = {s.input for s in self.slots}
        for i, node in enumerate(order):
            mine = [v for v in node.inputs if v in looks]
            if node.op_type in VIEWS and node.inputs[0] in looks:
                looks.update(node.outputs)
            else:
                found += [(v, i) for v in mine]
        found += [(name, END) for name in outputs if name in looks]
        return found + [(v, END) for v, place in self.pieces if v in looks and not self._stays(v, place)]

    def _stays(self, value: str, place: View) -> bool:
        """A part of a state that stays as it is needs no copy, so it is no reader."""
        view = self.ctx.views.get(value)
        return view is not None and view.same_place(place)

    def _touches(self, name: str, place: View) -> bool:
        """Whether a value lies where a state is written. Of very large ones it is said unseen: they are copied."""
        view = self.ctx.views.get(name)
        if view is None or view.same_place(place):
            return True
        (begin, end), (low, high) = view.span(), place.span()
        if view.tensor is not place.tensor or end <= low or high <= begin:
            return False
        if view.size + place.size > MOST_ELEMENTS:
            return True
        return bool(np.isin(_elements(view), _elements(place)).any())

    def finish(self) -> None:
        """Copies into the states what is not there yet. A value that lies in another state is fetched
        first."""
        moves = [(self.ctx.view(v), place) for v, place in self.pieces if v not in self.targets]
        moves = [(v, place) for v, place in moves if not v.same_place(place)]
        safe = []
        for view, place in moves:
            if view.tensor.kind == Kind.STATE:
                view = self.ctx.copied(view)
            safe.append((view, place))
        for view, place in safe:
            self.ctx.copy(view, place, place.tensor.name)


def _elements(view: View) -> Array:
    """The indices of all elements in view."""
    at: Array = np.full((), view.offset, np.int64)
    for d, s in zip(view.shape, view.strides, strict=True):
        at = at[..., None] + np.arange(d) * s
    return at.reshape(-1)


def views_first(graph: Graph, nodes: list[Node], slots: list[Slot]) -> tuple[list[Node], list[Node]]:
    """The nodes that only look at a state, and the others: lowered in that order, the reach of every look is
    known before a cell runs."""
    looks = {s.input for s in slots}
    first, rest = [], []
    for node in nodes:
        data_only = all(not i or i in looks or i in graph.constants for i in node.inputs)
        if node.op_type in VIEWS and node.inputs[0] in looks and data_only:
            first.append(node)
            looks.update(node.outputs)
        else:
            rest.append(node)
    return first, rest
