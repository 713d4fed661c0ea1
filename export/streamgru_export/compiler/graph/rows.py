"""A graph's values as matrices of rows, seen through everything that only moves data.

A value of shape [.., N] is a matrix [rows, N]. A :class:`Ref` is some rows and a run of columns of one; two
refs are equal where the values are, however many Split, Slice, Gather, Transpose, Reshape and Concat lie in between.
It computes nothing and changes nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Hashable
from dataclasses import dataclass

import numpy as np

from .graph import Array, Graph, Node
from .operators import axis, gathered, perm, slices

RESHAPES = {"Reshape", "Squeeze", "Unsqueeze", "Flatten", "Identity"}
MOVES = 64  # nodes seen through, one after the other
SMALL = 64  # elements of a constant that is compared by content from the start
MOST_STEPS = 10**9  # of looking through moves, each a number of NumPy's: some seconds; what is left stays unseen
A_ROW = 50  # steps for each row of a Ref, a number of Python's


@dataclass(frozen=True)
class Ref:
    """Columns lo .. hi of these rows of a value; rows None: all of them, in order."""

    name: str
    rows: tuple[int, ...] | None
    lo: int
    hi: int

    @property
    def key(self) -> tuple[str, int, int, tuple[int, ...]]:
        """To sort by."""
        return self.name, self.lo, self.hi, self.rows or ()


class Rows:
    """The values of a static graph."""

    def __init__(self, graph: Graph) -> None:
        self.types, self.constants, self.opset = graph.types, graph.constants, graph.opset
        self.producers = graph.producers()
        self.index = {o: i for i, n in enumerate(graph.nodes) for o in n.outputs if o}
        self.frames: dict[str, Ref] = {}  # values that have become rows of another
        self.named: dict[Ref, str] = {}  # a value for each ref that was met as one
        self._twins = _twins(graph)
        self._contents: dict[Hashable, str] = {}
        self._same: dict[str, str] = {}
        self._steps = MOST_STEPS

    # ---- names to refs ----

    def matrix(self, name: str) -> tuple[int, int]:
        """Rows and columns of a value."""
        t = self.types[name]
        n = t.shape[-1] if t.shape else 1
        return (t.size // n if n else 0), n

    def whole(self, name: str) -> Ref:
        """All of a value."""
        return self.resolve(Ref(name, None, 0, self.matrix(name)[1]))

    def resolve(self, ref: Ref) -> Ref:
        """Where these elements are computed."""
        start = ref
        for _ in range(MOVES):
            name = self.first(ref.name)
            ref = Ref(name, ref.rows, ref.lo, ref.hi)
            before = self._frame(ref) if name in self.frames else self._before(ref)
            if before is None:
                break
            ref = before
        if ref != start and start.rows is None and (start.lo, start.hi) == (0, self.matrix(start.name)[1]):
            self.named.setdefault(ref, start.name)
        return ref

    def first(self, name: str) -> str:
        """The first value that is computed in the very same way."""
        return self._twins.get(name, name)

    def producer(self, ref: Ref) -> Node | None:
        """The node that computes it."""
        return self.producers.get(ref.name)

    def at(self, ref: Ref) -> int:
        """When it is computed: the place of its node; an input comes before all."""
        return self.index.get(ref.name, -1)

    def _frame(self, ref: Ref) -> Ref:
        base = self.frames[ref.name]
        assert base.rows is not None
        rows = base.rows if ref.rows is None else tuple(base.rows[r] for r in ref.rows)
        return self._ref(base.name, rows, base.lo + ref.lo, base.lo + ref.hi)

    def _ref(self, name: str, rows: Array | tuple[int, ...] | None, lo: int, hi: int) -> Ref:
        if rows is not None:
            rows = tuple(int(r) for r in rows)
            if len(rows) == self.matrix(name)[0] and rows == tuple(range(len(rows))):
                rows = None
        return Ref(name, rows, int(lo), int(hi))

    def has_time(self, rows: int, numbers: int = 0) -> bool:
        """Whether there is time to look at so many rows one by one, and at so many numbers together."""
        self._steps -= A_ROW * rows + numbers
        return self._steps >= 0

    def _may_look(self, ref: Ref, *values: str) -> bool:
        """Whether there is time to number the rows of these values, and to pick a ref's among them."""
        rows = self.matrix(ref.name)[0] if ref.rows is None else len(ref.rows)
        return self.has_time(rows, sum(self.matrix(name)[0] for name in values))

    def _before(self, ref: Ref) -> Ref | None:
        """One node back, where that only moves data."""
        node = self.producers.get(ref.name)
        if node is None or not node.inputs or any(i and i not in self.types for i in node.inputs):
            return None
        if node.op_type == "Concat":
            return self._concat(ref, node)
        source = node.inputs[0]
        if source in self.constants or self.types[source].size == 0:
            return None
        if node.op_type in RESHAPES:
            return self._reshape(ref, source)
        if node.op_type == "Transpose":
            return self._transpose(ref, node)
        picks = self._picks(node, ref.name)
        return None if picks is None else self._take(ref, source, picks)

    def _reshape(self, ref: Ref, source: str) -> Ref | None:
        (count, n), (_, before) = self.matrix(ref.name), self.matrix(source)
        if n == before:
            return Ref(source, ref.rows, ref.lo, ref.hi)
        if not self._may_look(ref):
            return None
        rows = np.arange(count) if ref.rows is None else np.array(ref.rows)
        if before % n == 0:  # columns were unfolded into rows
            groups = np.unique(rows % (before // n))
            if len(groups) != 1:
                return None
            shift = int(groups[0]) * n
            return self._ref(source, rows // (before // n), ref.lo + shift, ref.hi + shift)
        if n % before == 0:  # rows were folded into columns
            group = ref.lo // before
            if (ref.hi - 1) // before != group:
                return None
            return self._ref(source, rows * (n // before) + group, ref.lo - group * before, ref.hi - group * before)
        return None

    def _transpose(self, ref: Ref, node: Node) -> Ref | None:
        shape = self.types[node.inputs[0]].shape
        order = perm(node, len(shape))
        if not order or order[-1] != len(shape) - 1 or not self._may_look(ref, node.inputs[0]):
            return None
        grid = np.arange(self.matrix(node.inputs[0])[0]).reshape(shape[:-1]).transpose(order[:-1]).reshape(-1)
        return self._ref(node.inputs[0], grid if ref.rows is None else grid[list(ref.rows)], ref.lo, ref.hi)

    def _concat(self, ref: Ref, node: Node) -> Ref | None:
        rank = len(self.types[ref.name].shape)
        along, start = axis(node, rank, self.opset), 0
        if along == rank - 1:
            for part in node.inputs:
                end = start + self.matrix(part)[1]
                if start <= ref.lo and ref.hi <= end:
                    inside = part not in self.constants
                    return Ref(part, ref.rows, ref.lo - start, ref.hi - start) if inside else None
                start = end
            return None
        if ref.rows is None or not self._may_look(ref, *node.inputs):
            return None
        shapes = [self.types[i].shape[:-1] for i in node.inputs]
        which = np.concatenate([np.full(s, i) for i, s in enumerate(shapes)], along).reshape(-1)[list(ref.rows)]
        local = np.concatenate([np.arange(np.prod(s, dtype=int)).reshape(s) for s in shapes], along).reshape(-1)
        part = node.inputs[int(which[0])]
        if (which != which[0]).any() or part in self.constants:
            return None
        return self._ref(part, local[list(ref.rows)], ref.lo, ref.hi)

    def _picks(self, node: Node, name: str) -> dict[int, Array] | None:
        """Axis -> the entries that Slice, Split or Gather take of it."""
        shape = self.types[node.inputs[0]].shape
        if node.op_type == "Split" and all(node.outputs):
            along = axis(node, len(shape), self.opset)
            at = next(i for i, o in enumerate(node.outputs) if o == name)
            sizes = [self.types[o].shape[along] for o in node.outputs]
            return {along: np.arange(sum(sizes[:at]), sum(sizes[: at + 1]))}
        if node.op_type == "Gather" and node.inputs[1] in self.constants:
            along = axis(node, len(shape), self.opset)
            return {along: gathered(node, self.constants[node.inputs[1]], shape[along])}
        if node.op_type == "Slice":
            taken = slices(node, shape, self.constants)
            return None if taken is None else {a: np.array(entries) for a, entries in taken.items()}
        return None

    def _take(self, ref: Ref, source: str, picks: dict[int, Array]) -> Ref | None:
        shape = self.types[source].shape
        last, lo, hi = len(shape) - 1, ref.lo, ref.hi
        if last in picks:
            columns = picks.pop(last)
            columns = columns[lo:hi] if columns.ndim == 1 else columns.reshape(-1)[:0]
            if len(columns) == 0 or (np.diff(columns) != 1).any():
                return None
            lo, hi = int(columns[0]), int(columns[-1]) + 1
        if not picks:
            return Ref(source, ref.rows, lo, hi)
        if not self._may_look(ref, source):
            return None
        grid = np.arange(self.matrix(source)[0]).reshape(shape[:-1])
        for along in sorted(picks, reverse=True):
            grid = np.take(grid, picks[along], along)
        grid = grid.reshape(-1)
        return self._ref(source, grid if ref.rows is None else grid[list(ref.rows)], lo, hi)

    # ---- operands ----

    def operands(self, ref: Ref, node: Node, inputs: list[str] | None = None) -> list[Ref | Array] | None:
        """What an element-by-element node reads for these elements: refs, and constants [columns] that are
        the same for every row. None where an operand is broadcast in another way."""
        found: list[Ref | Array] = []
        for name in node.inputs if inputs is None else inputs:
            operand = self.operand(ref, name)
            if operand is None:
                return None
            found.append(operand)
        return found

    def operand(self, ref: Ref, name: str) -> Ref | Array | None:
        """One of them."""
        if name in self.constants:
            return self.row(name, ref)
        if name not in self.types or self.types[name].size != self.types[ref.name].size:
            return None
        return self.resolve(Ref(name, ref.rows, ref.lo, ref.hi))

    def row(self, name: str, ref: Ref) -> Array | None:
        """The one row [columns] that a constant, broadcast to the value of `ref`, repeats; else None."""
        value, shape = self.constants[name], self.types[ref.name].shape
        if value.dtype != np.float32:
            return None
        if value.size == 1:
            return np.full(ref.hi - ref.lo, value.reshape(-1)[0], np.float64)
        try:
            wide = np.broadcast_to(value, shape).reshape(-1, shape[-1])
        except ValueError:
            return None
        wide = wide[:, ref.lo : ref.hi] if ref.rows is None else wide[list(ref.rows), ref.lo : ref.hi]
        return wide[0].astype(np.float64) if (wide == wide[0]).all() else None

    def same(self, name: str) -> str:
        """The first constant met that has the same content."""
        if name not in self._same:
            value = self.constants[name]
            digest = hashlib.blake2b(np.ascontiguousarray(value).tobytes(), digest_size=16).digest()
            self._same[name] = self._contents.setdefault((value.dtype.str, value.shape, digest), name)
        return self._same[name]


def _twins(graph: Graph) -> dict[str, str]:
    """Value -> the first value that is computed in the very same way."""
    twins: dict[str, str] = {}
    first: dict[Hashable, Node] = {}
    for node in graph.nodes:
        inputs = tuple(_content(graph, twins.get(i, i)) for i in node.inputs)
        attrs = tuple((k, _plain(node.attrs[k])) for k in sorted(node.attrs))
        twin = first.setdefault((node.op_type, inputs, attrs), node)
        if twin is not node and len(twin.outputs) >= len(node.outputs):
            twins.update({o: t for o, t in zip(node.outputs, twin.outputs, strict=False) if o and t})
    return twins


def _content(graph: Graph, name: str) -> Hashable:
    value = graph.constants.get(name)
    return name if value is None or value.size > SMALL else (value.dtype.str, value.shape, value.tobytes())


def _plain(value: object) -> Hashable:
    if isinstance(value, np.ndarray):
        return value.dtype.str, value.shape, value.tobytes()
    return repr(value)
