"""Where the elements of a state go: from an input, cut and moved, into cells; and from their final states, moved and
put together, to an output.

A cell's final state stands where its initial state stood, so each element of an input has a number, and keeps it on
the way. An output that holds all numbers of an input in their order continues it; one that holds them in another order
(h where c was, one layer where another was) does not.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from ..graph.budget import Budget
from ..graph.graph import Array, Graph, Node
from ..graph.kinds import RECURRENT
from ..graph.recurrent import recurrent

# Operators that only move elements -> which of their inputs hold them; of Concat all.
MOVES: dict[str, tuple[int, ...]] = {
    **dict.fromkeys(("Identity", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose"), (0,)),
    **dict.fromkeys(("Slice", "Split", "Gather", "Expand", "Cast"), (0,)),
    "ScatterND": (0, 2),
    "Concat": (),
}
SHAPING = {"Identity", "Cast", "Reshape", "Flatten", "Squeeze", "Unsqueeze"}  # the same elements in the same order
STATES = ((5, 1), (6, 2))  # an initial state's input, and the output that is its final state
PASSED = 1 << 48  # added to the number of an element that was in a cell
SHOWN = 1 << 49  # added where it was then read from the cell's sequence of results, which is an output as well
NOWHERE = -1  # the number of what comes from elsewhere
NUMBER = 8  # bytes
STEPS = 10  # operations for each number that is made or looked at


def moved(node: Node) -> list[str]:
    """The inputs of a node whose elements it only moves; none, where it computes."""
    if node.op_type not in MOVES:
        return []
    return [node.inputs[i] for i in MOVES[node.op_type]] if MOVES[node.op_type] else list(node.inputs)


class Elements:
    """The elements of some inputs in a static graph.

    Attributes
    ----------
    cells : dict
        Input -> the first recurrent node that it is a state of.
    """

    def __init__(self, graph: Graph, inputs: Iterable[str]) -> None:
        self.graph = graph
        self.inputs = [name for name in inputs if graph.types[name].dtype.kind == "f"]
        self.cells: dict[str, Node] = {}
        self.numbers: dict[str, Array] = {}
        self.firsts: dict[str, int] = {}
        self.budget = Budget()
        wanted, count = self._wanted(), 0
        for name in self.inputs:
            self.firsts[name] = count
            if name in wanted:
                self._keep(name, self._own(name))
            count += graph.types[name].size
        for node in graph.nodes:
            if node.op_type in RECURRENT or wanted.intersection(node.outputs):
                self._visit(node)

    def _own(self, i: str) -> Array:
        """The numbers of an input's elements."""
        t, first = self.graph.types[i], self.firsts[i]
        self._make_room(i)
        return np.arange(first, first + t.size, dtype=np.int64).reshape(t.shape)

    def _make_room(self, name: str) -> None:
        """For the numbers of a value, and for what is compared and computed with them. ModelError where there is
        none."""
        size = self.graph.types[name].size
        self.budget.claim(f"the state '{name}'", NUMBER * size, 2 * NUMBER * size)
        self.budget.spend(f"the state '{name}'", STEPS * size)

    def _keep(self, name: str, numbers: Array) -> None:
        self.budget.hold(f"the state '{name}'", numbers)
        self.numbers[name] = numbers

    def _wanted(self) -> set[str]:
        """The values on the way into a cell's state, and from there to an output."""
        found, behind = set(), set()
        for node in self.graph.nodes:
            if node.op_type in RECURRENT:
                found |= {node.input(i) for i, _ in STATES}
                behind.update(node.outputs)
            elif not behind.isdisjoint(moved(node)):
                behind.update(node.outputs)
        found |= {p.name for p in self.graph.outputs if p.name in behind}
        for node in reversed(self.graph.nodes):
            if found.intersection(node.outputs):
                found.update(moved(node))
        return found - {""}

    def _visit(self, node: Node) -> None:
        if node.op_type in RECURRENT:
            self._cell(node)
            return
        data = moved(node)
        if not any(name in self.numbers for name in data):
            return
        if self.graph.types[node.outputs[0]].dtype.kind != "f":
            return  # of a Cast: other values
        if node.op_type in SHAPING:
            self.numbers[node.outputs[0]] = self.numbers[data[0]].reshape(self.graph.types[node.outputs[0]].shape)
            return
        values = [self._numbers(i) if i in data else self.graph.constants.get(i) for i in node.inputs]
        if any(value is None and name for value, name in zip(values, node.inputs, strict=True)):
            return  # moved by numbers that depend on the data
        for o, result in zip(node.outputs, self.budget.evaluate(node, values, self.graph.opset), strict=False):
            if o:
                self.numbers[o] = result

    def _numbers(self, name: str) -> Array | None:
        return self.numbers[name] if name in self.numbers else self._nowhere(name) if name else None

    def _nowhere(self, name: str) -> Array:
        self._make_room(name)
        return np.full(self.graph.types[name].shape, NOWHERE, np.int64)

    def _cell(self, node: Node) -> None:
        """Its final states have the numbers of its initial ones, and so has the end of its sequence."""
        for i, o in STATES:
            start = self.numbers.get(node.input(i))
            if start is None or (i == 6 and node.op_type != "LSTM"):
                continue
            self._make_room(node.input(i))
            for name, first in self.firsts.items():
                size = self.graph.types[name].size
                if ((start % PASSED >= first) & (start % PASSED < first + size) & (start >= 0)).any():
                    self.cells.setdefault(name, node)
            final = np.where(start >= 0, start % PASSED + PASSED, NOWHERE)
            if node.output(o):
                self._keep(node.output(o), final)
            if i == 5 and node.output(0) and not node.input(4):
                self._sequence(node, final)

    def _sequence(self, node: Node, final: Array) -> None:
        form = recurrent(node)
        y = self._nowhere(node.outputs[0])
        for d, reverse in enumerate(form.reverse):
            at = 0 if reverse else -1
            if form.batch_first:
                y[:, at, d] = final[:, d]
            else:
                y[at, d] = final[d]
        self._keep(node.outputs[0], np.where(y >= 0, y + SHOWN, NOWHERE))

    def continues(self, i: str, o: str) -> bool:
        """Whether output `o` is input `i` after the cells that it is the state of, element by element."""
        found = self.numbers.get(o)
        if i not in self.firsts or found is None or self.graph.types[o] != self.graph.types[i]:
            return False
        return bool((found % PASSED == self._own(i)).all() and (found >= PASSED).any())

    def contradicts(self, i: str, o: str) -> bool:
        """Whether output `o` holds a state of a cell where input `i` has another."""
        found = self.numbers.get(o)
        if found is None or i not in self.firsts or found.shape != self.graph.types[i].shape:
            return False
        return bool(((found >= PASSED) & (found % PASSED != self._own(i))).any())

    def holding(self, i: str, outputs: Iterable[str]) -> list[str]:
        """The outputs that hold anything of input `i` after a cell."""
        first, size = self.firsts[i], self.graph.types[i].size
        passed = {o: n[n >= PASSED] % PASSED for o in outputs if (n := self.numbers.get(o)) is not None}
        return [o for o, n in passed.items() if ((n >= first) & (n < first + size)).any()]

    def is_shown(self, o: str) -> bool:
        """Whether an output that continues an input is a part of what a cell gives anyway."""
        return bool((self.numbers[o] >= SHOWN).any())
