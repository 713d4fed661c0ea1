"""Copies of a cell, one for each step of a loop that was unrolled, become one GRU over all steps.

The copies of what stands before and behind the cell (a layer on every frame, the stacking of the outputs) are put
together in the same way, as far as it goes; what is left reads single frames.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..graph.builder import Builder
from ..graph.graph import Array, Graph, Node
from ..graph.lifting import lift_node
from ..graph.operators import axis as axis_of
from ..graph.rows import Ref, Rows
from .cells import Cell

DEPTH = 40  # layers of copies that are put together


def chains(rows: Rows, cells: dict[str, Cell], starts: dict[str, Cell]) -> list[list[Cell]]:
    """Copies that hand their state on, each chain from its first step, in the order of the graph."""
    before = {cell.root: _cell_of(rows, cell.h, cells) for cell in cells.values()}
    after: dict[str, Cell] = {}
    for cell in cells.values():
        previous = before[cell.root]
        if previous is not None and _alike(previous, cell):
            after[previous.root] = cell
    found = []
    followers = {cell.root for cell in after.values()}
    for cell in cells.values():
        if cell.root in followers:
            continue  # not the first of its chain
        chain = [cell]
        while chain[-1].root in after:
            chain.append(after[chain[-1].root])
        start = _cell_of(rows, cell.h, starts)
        if start is not None and start.is_first_of(cell, rows):
            chain.insert(0, start)
        if len(chain) > 1:
            found.append(chain)
    return sorted(found, key=lambda chain: rows.index[chain[-1].root])


def _cell_of(rows: Rows, h: Ref | None, cells: dict[str, Cell]) -> Cell | None:
    """The cell whose new state is `h`."""
    cell = cells.get(h.name) if h is not None else None
    return cell if cell is not None and h == rows.whole(cell.root) else None


def _alike(a: Cell, b: Cell) -> bool:
    same = a.parameters == b.parameters and a.widths == b.widths
    return same and np.array_equal(a.bias, b.bias) and np.array_equal(a.reset_bias, b.reset_bias)


class Unrolled:
    """Values of all steps, made from the values of single steps."""

    def __init__(self, rows: Rows, builder: Builder) -> None:
        self.rows, self.builder = rows, builder
        self.stacked: dict[tuple[str, ...], str | None] = {}
        self.merged: set[str] = set()  # new states that are frames of a merged GRU now

    # ---- the GRU ----

    def gru(self, cell: Cell, x: str, h0: str, *, with_y: bool) -> tuple[str, str]:
        """A GRU node over x [T, B, I] from h0 [1, B, H] ("": zeros); the names of Y and Y_h."""
        b, (f, g) = self.builder, (cell.parameters.f, cell.parameters.g)
        bias = cell.b()
        inputs = [
            x,
            b.constant(cell.w(self.rows)[None], "W"),
            b.constant(cell.r(self.rows)[None], "R"),
            b.constant(bias[None], "B") if bias.any() else "",
            "",
            h0,
        ]
        attrs: dict[str, Any] = {"hidden_size": cell.size, "linear_before_reset": cell.parameters.linear_before_reset}
        if (f.name, g.name) != ("Sigmoid", "Tanh"):
            attrs["activations"] = [f.name, g.name]
            for i, key in enumerate(("activation_alpha", "activation_beta")):
                numbers = [function.numbers[i] for function in (f, g) if len(function.numbers) > i]
                if numbers:
                    attrs[key] = numbers
        y = b.free(f"{b.name}/Y") if with_y else ""
        final = b.free(f"{b.name}/Y_h")
        b.add(Node("GRU", b.name, inputs, [y, final], attrs))
        return y, final

    def merge(self, chain: list[Cell]) -> str | None:
        """One GRU for a chain of copies; the name of its first output. None where their inputs cannot be put
        together, as where a step's input is made from the state before it, or are too many rows to look at."""
        b, rows, last = self.builder, self.rows, chain[-1]
        b.name = rows.producers[last.root].name or last.root
        batch = rows.matrix(last.root)[0]
        if not rows.has_time(batch * len(chain) * (1 + len(last.xs))):
            return None
        parts = [self._sequence([cell.xs[i] for cell in chain]) for i in range(len(last.xs))]
        if any(p is None for p in parts):
            return None
        shaped = [
            b.reshape(p, (len(chain), batch, n)) for p, n in zip(parts, last.widths, strict=True) if p is not None
        ]
        x = shaped[0] if len(shaped) == 1 else b.emit("Concat", shaped, axis=2)
        y, final = self.gru(last, x, self._initial(chain[0], batch), with_y=True)
        everything = range(len(chain) * batch)
        rows.types.update({y: b.types[y], final: b.types[final]})
        for t, cell in enumerate(chain):
            shape = rows.types[cell.root].shape
            frame = final if cell is last else b.emit("Gather", [y, b.constant(np.int64(t), "step")], axis=0)
            b.reshape(frame, shape, cell.root)
            rows.frames[cell.root] = Ref(y, tuple(everything[t * batch : (t + 1) * batch]), 0, cell.size)
            self.merged.add(cell.root)
        self.stacked.clear()  # what could not be put together may be now
        return y

    def _initial(self, first: Cell, batch: int) -> str:
        b = self.builder
        if first.h is not None:
            return b.reshape(self.value(first.h), (1, batch, first.size))
        assert first.start is not None
        if not first.start.any():
            return ""
        return b.constant(np.broadcast_to(first.start.astype(np.float32), (1, batch, first.size)).copy(), "initial_h")

    # ---- values ----

    def value(self, ref: Ref) -> str:
        """A value with just these elements, of shape [.., columns]."""
        rows, b = self.rows, self.builder
        count, n = rows.matrix(ref.name)
        if ref.rows is None and (ref.lo, ref.hi) == (0, n):
            return ref.name
        if ref in rows.named:
            return rows.named[ref]
        value = b.reshape(ref.name, (count, n))
        if ref.rows is not None:
            value = b.entries(value, np.array(ref.rows), 0)
        return b.entries(value, np.arange(ref.lo, ref.hi), 1)

    def _sequence(self, steps: Sequence[Ref]) -> str | None:
        """[T, ..] of the values of single steps."""
        steps = [self.rows.resolve(ref) for ref in steps]
        together = self._frames(steps)
        if together is not None:
            return together
        if any(ref.rows is not None or (ref.lo, ref.hi) != (0, self.rows.matrix(ref.name)[1]) for ref in steps):
            return None
        return self.stack([ref.name for ref in steps])

    def _frames(self, steps: Sequence[Ref]) -> str | None:
        """[T, rows, columns] where each step is a frame of one value."""
        first, rows, b = steps[0], self.rows, self.builder
        if any((s.name, s.lo, s.hi) != (first.name, first.lo, first.hi) or s.rows is None for s in steps):
            return None
        at = np.array([s.rows for s in steps])
        if len({len(s.rows or ()) for s in steps}) != 1 or len(np.unique(at)) != at.size:
            return None
        (count, n), shape = rows.matrix(first.name), rows.types[first.name].shape
        along = _along(at, shape[:-1])
        if along is not None:
            axis, entries = along
            value = b.move_axis(b.entries(first.name, entries, axis), axis, 0)
        else:
            value = b.entries(b.reshape(first.name, (count, n)), at.reshape(-1), 0)
        if (first.lo, first.hi) != (0, n):
            value = b.entries(value, np.arange(first.lo, first.hi), len(b.shape(value)) - 1)
        return b.reshape(value, (*at.shape, first.hi - first.lo))

    def stack(self, names: Sequence[str], depth: int = DEPTH) -> str | None:
        """[T, *shape] of values of that shape, one of each step."""
        key = tuple(names)
        if key not in self.stacked:
            self.stacked[key] = self._stack(key, depth)
        return self.stacked[key]

    def _stack(self, names: tuple[str, ...], depth: int) -> str | None:
        rows = self.rows
        if any(name in rows.constants or name not in rows.types for name in names):
            return None
        types = [rows.types[name] for name in names]
        if any(t != types[0] for t in types) or depth == 0 or types[0].size == 0:
            return None
        together = self._frames([rows.whole(name) for name in names]) if types[0].shape else None
        if together is not None:
            return self.builder.reshape(together, (len(names), *types[0].shape))
        return self._lift(names, depth)

    def _lift(self, names: tuple[str, ...], depth: int) -> str | None:
        """The same node at every step, for all steps."""
        nodes = [self.rows.producers.get(name) for name in names]
        first = nodes[0]
        if first is None or len(set(names)) != len(names):
            return None
        inputs, lifted = [], []
        for node, name in zip(nodes, names, strict=True):
            if node is None or not _same_kind(first, node) or node.outputs.index(name) != first.outputs.index(names[0]):
                return None
        for i, name in enumerate(first.inputs):
            column = [node.inputs[i] for node in nodes if node is not None]
            shared = self._shared(column)
            inputs.append(name if shared else self.stack(column, depth - 1))
            lifted.append(not shared)
        if any(i is None for i in inputs):
            return None
        ready = [i for i in inputs if i is not None]
        return lift_node(self.builder, first, names[0], ready, lifted, self.rows.types, len(names))

    def _shared(self, column: Sequence[str]) -> bool:
        """Whether every step reads the same."""
        if len(set(column)) == 1:
            return True
        constants = self.rows.constants
        return all(name in constants for name in column) and len({self.rows.same(name) for name in column}) == 1

    # ---- what reads all steps ----

    def stack_outputs(self, graph: Graph) -> set[str]:
        """Every Concat of one value of each step becomes a look at all steps; the outputs of the old nodes."""
        done: set[str] = set()
        behind = set(self.merged)
        for node in graph.nodes:
            if not behind.intersection(node.inputs) and not behind.intersection(node.outputs):
                continue
            behind.update(node.outputs)
            if node.op_type == "Concat" and behind.issuperset(node.inputs) and self._restack(node):
                done.update(node.outputs)
        return done

    def _restack(self, node: Node) -> bool:
        b, shape = self.builder, self.rows.types[node.outputs[0]].shape
        b.name = node.name or node.outputs[0]
        axis = axis_of(node, len(shape), b.opset)
        value = self.stack(node.inputs) if len(set(node.inputs)) == len(node.inputs) > 1 else None
        if value is None:
            return False
        b.reshape(b.move_axis(value, 0, axis), shape, node.outputs[0])
        return True


def _same_kind(a: Node, b: Node) -> bool:
    """The same operator with the same attributes."""
    if a.op_type != b.op_type or len(a.inputs) != len(b.inputs) or a.attrs.keys() != b.attrs.keys():
        return False
    return all(bool(np.all(v == b.attrs[k])) for k, v in a.attrs.items())


def _along(at: Array, shape: tuple[int, ...]) -> tuple[int, Array] | None:
    """The axis of a grid of rows, and the entries of it, that these [T, rows] are."""
    grid = np.arange(np.prod(shape, dtype=int)).reshape(shape)
    for axis in range(len(shape)):
        slices = np.moveaxis(grid, axis, 0).reshape(shape[axis], -1)
        place = {tuple(rows): i for i, rows in enumerate(slices.tolist())}
        entries = [place.get(tuple(rows), -1) for rows in at.tolist()]
        if min(entries) >= 0:
            return axis, np.array(entries)
    return None
