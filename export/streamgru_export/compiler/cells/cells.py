"""From a blend to a GRU cell: whose rows of which matrices the gates multiply, and the ONNX W, R and B of that."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import chain
from typing import Literal

import numpy as np

from ..graph.graph import Array
from ..graph.operators import axis
from ..graph.rows import Ref, Rows
from .algebra import DEPTH, Blend, Function, Gate, Sum, Weight, blends, gate, linear, linear_blends

Weights = tuple[Weight, ...]  # summed; nearly always one


@dataclass
class Side:
    """One gate's sum, its sources told apart."""

    bias: Array
    xs: dict[Ref, Weights] = field(default_factory=dict)
    h: Weights = ()
    gated: Weights = ()  # of r·h
    resets: set[Ref] = field(default_factory=set)
    rest: list[tuple[float, Ref]] = field(default_factory=list)


@dataclass(frozen=True)
class Parameters:
    """What two copies of a cell share. Gates in ONNX's order z, r, h."""

    w: tuple[tuple[Weights, ...], ...]  # [gate][source]
    r: tuple[Weights, ...]
    linear_before_reset: int
    swapped: bool
    f: Function
    g: Function


@dataclass
class Cell:
    """A GRU cell: root = GRU(concatenation of xs, h)."""

    root: str
    xs: list[Ref]
    h: Ref | None  # None: it is the constant `start`, so that R is not to be seen
    start: Array | None
    parameters: Parameters
    bias: Array  # [3H] of z, r and the outer sum of the candidate
    reset_bias: Array  # [H] inside r·(..)
    size: int

    @property
    def widths(self) -> list[int]:
        """Columns of each x."""
        return [x.hi - x.lo for x in self.xs]

    def w(self, rows: Rows) -> Array:
        """W [3H, I]."""
        blocks = []
        for gate_weights in self.parameters.w:
            parts = [
                _dense(rows, weights, (self.size, n)) for weights, n in zip(gate_weights, self.widths, strict=True)
            ]
            blocks.append(np.concatenate(parts, 1))
        return self._signed(np.concatenate(blocks))

    def r(self, rows: Rows) -> Array:
        """R [3H, H]."""
        return self._signed(
            np.concatenate([_dense(rows, weights, (self.size, self.size)) for weights in self.parameters.r])
        )

    def b(self) -> Array:
        """B [6H]: all of a sum's constants in Wb, but for the one that r multiplies."""
        b = np.concatenate([self._signed(self.bias), np.zeros(2 * self.size), self.reset_bias])
        return b.astype(np.float32)

    def _signed(self, matrix: Array) -> Array:
        """1 − f(a) = f(−a): where z multiplies the candidate, its rows change sign."""
        if not self.parameters.swapped:
            return matrix
        return np.concatenate([-matrix[: self.size], matrix[self.size :]])

    def is_first_of(self, cell: Cell, rows: Rows) -> bool:
        """Whether this is a copy of `cell` whose h is the constant `start`, its products with R computed."""
        a, b = self.parameters, cell.parameters
        if self.start is None or self.size != cell.size or self.widths != cell.widths:
            return False
        if (a.w, a.swapped, a.linear_before_reset, a.f, a.g) != (b.w, b.swapped, b.linear_before_reset, b.f, b.g):
            return False
        hidden = np.concatenate([_dense(rows, weights, (self.size, self.size)) for weights in b.r]) @ self.start
        h = self.size
        inside = cell.reset_bias + hidden[2 * h :] if a.linear_before_reset else cell.reset_bias
        outside = cell.bias + np.concatenate([hidden[: 2 * h], np.zeros(h)])
        return _close(self.bias, outside) and _close(self.reset_bias, inside)


def _dense(rows: Rows, weights: Weights, shape: tuple[int, int]) -> Array:
    """The sum of weights; zeros where a gate does not read the source."""
    if not weights:
        return np.zeros(shape, np.float32)
    if len(weights) == 1:
        return weights[0].array(rows.constants).copy()
    total = np.sum([w.array(rows.constants).astype(np.float64) for w in weights], 0)
    return np.asarray(total, np.float32)


def _close(a: Array, b: Array) -> bool:
    """Equal but for the rounding of sums that the exporter computed in float32."""
    return bool(np.allclose(a, b, rtol=1e-5, atol=1e-6 * (1 + np.abs(b).max())))


def find_cell(rows: Rows, root: str) -> Cell | None:
    """The cell whose new state is `root`, if there is one."""
    if rows.types[root].dtype != np.float32 or not rows.types[root].shape:
        return None
    ref = Ref(root, None, 0, rows.matrix(root)[1])
    for blend in chain(blends(rows, ref), linear_blends(rows, ref)):
        cell = _Reader(rows, blend).cell(root)
        if cell is not None:
            return cell
    return None


class _Reader:
    """Reads the gates of one blend."""

    def __init__(self, rows: Rows, blend: Blend) -> None:
        self.rows, self.blend = rows, blend
        self.size = blend.z.hi - blend.z.lo

    def cell(self, root: str) -> Cell | None:
        z, n = gate(self.rows, self.blend.z), self.blend.candidate(self.rows)
        if z is None or n is None or (self.blend.swapped and not z.function.mirrors):
            return None
        candidate = self._candidate(n)
        if candidate is None:
            return None
        outer, inner, reset = candidate
        r = gate(self.rows, reset)
        if r is None or r.function != z.function or reset in (self.blend.z, self.blend.n):
            return None
        sides = [self._side(linear(self.rows, z.source)), self._side(linear(self.rows, r.source)), outer]
        if any(s.rest or s.gated for s in sides[:2]):
            return None
        xs = list(dict.fromkeys(x for s in sides for x in s.xs))
        if not xs or self._depend(xs, (self.blend.z, self.blend.n, reset)):
            return None
        after = inner is not None
        own = inner.h if inner is not None else outer.gated
        if any(w.hi - w.lo != self.size or w.k1 - w.k0 != self.size for w in (*sides[0].h, *sides[1].h, *own)):
            return None
        parameters = Parameters(
            tuple(tuple(s.xs.get(x, ()) for x in xs) for s in sides), (sides[0].h, sides[1].h, own),
            int(after), self.blend.swapped, z.function, n.function,
        )  # fmt: skip
        return Cell(
            root, xs, self.blend.h, self.blend.start, parameters, np.concatenate([s.bias for s in sides]),
            inner.bias if inner is not None else np.zeros(self.size), self.size,
        )  # fmt: skip

    def _candidate(self, n: Gate) -> tuple[Side, Side | None, Ref] | None:
        """The candidate's sum, the sum that r multiplies in it if there is one, and r."""
        total = linear(self.rows, n.source)
        if not total.rest:
            outer = self._side(total)
            fits = not outer.h and outer.gated and len(outer.resets) == 1
            return (outer, None, next(iter(outer.resets))) if fits else None
        outer = self._side(total)
        if len(outer.rest) != 1 or outer.h or outer.gated:
            return None
        sign, product = outer.rest[0]
        node = self.rows.producer(product)
        operands = self.rows.operands(product, node) if node is not None and node.op_type == "Mul" else None
        for reset, factor in (operands or [], (operands or [])[::-1]) if operands else ():
            if not isinstance(reset, Ref) or gate(self.rows, reset) is None:
                continue
            inner = self._inner(sign, factor)
            if inner is not None:
                return outer, inner, reset
        return None

    def _inner(self, sign: float, factor: Ref | Array) -> Side | None:
        """Rn·h + cn, and nothing else; of a constant h a constant."""
        if not isinstance(factor, Ref):
            return Side(sign * factor) if self.blend.h is None else None
        total = linear(self.rows, factor)
        side = self._side(total)
        if side.rest or side.xs or side.gated or not side.h:
            return None
        side.bias = sign * side.bias
        side.h = tuple(_negated(w) for w in side.h) if sign < 0 else side.h
        return side

    def _side(self, total: Sum) -> Side:
        """The sources of a sum told apart. A Concat is taken to pieces only where h is one of them."""
        side = Side(total.bias, rest=total.rest)
        for source, weight in total.products:
            pieces = list(self._pieces(source, 0))
            kinds = [self._kind(piece) for piece, _ in pieces]
            if all(kind == "x" for kind in kinds):
                side.xs[source] = (*side.xs.get(source, ()), weight)
                continue
            for (piece, start), kind in zip(pieces, kinds, strict=True):
                if not isinstance(piece, Ref):
                    part = weight.columns(start, start + len(piece)).array(self.rows.constants)
                    side.bias = side.bias + part.astype(np.float64) @ piece
                    continue
                part_weight = weight.columns(start, start + piece.hi - piece.lo)
                if kind == "h":
                    side.h = (*side.h, part_weight)
                elif isinstance(kind, Ref):
                    side.gated = (*side.gated, part_weight)
                    side.resets.add(kind)
                else:
                    side.xs[piece] = (*side.xs.get(piece, ()), part_weight)
        return side

    def _pieces(self, source: Ref, start: int, depth: int = DEPTH) -> Iterable[tuple[Ref | Array, int]]:
        """(piece, the column of `source` it begins at) of concatenated columns."""
        node = self.rows.producer(source)
        rank = len(self.rows.types[source.name].shape)
        whole = source == self.blend.h or depth == 0 or node is None or node.op_type != "Concat"
        if whole or node is None or axis(node, rank, self.rows.opset) != rank - 1:
            yield source, start
            return
        at = 0
        for name in node.inputs:
            n = self.rows.matrix(name)[1]
            lo, hi = max(source.lo, at), min(source.hi, at + n)
            if lo < hi and name in self.rows.constants:
                shape = self.rows.types[source.name].shape[:-1]
                value = np.broadcast_to(self.rows.constants[name], (*shape, n)).reshape(-1, n)
                if (value != value[0]).any():  # another row for each of the batch: no bias
                    yield source, start
                    return
                yield value[0, lo - at : hi - at].astype(np.float64), start + lo - source.lo
            elif lo < hi:
                part = self.rows.resolve(Ref(name, source.rows, lo - at, hi - at))
                yield from self._pieces(part, start + lo - source.lo, depth - 1)
            at += n

    def _kind(self, piece: Ref | Array) -> Literal["x", "h", "constant"] | Ref:
        """h itself, r·h (then: r), or anything else."""
        if not isinstance(piece, Ref):
            return "constant"
        if piece == self.blend.h:
            return "h"
        node = self.rows.producer(piece)
        operands = self.rows.operands(piece, node) if node is not None and node.op_type == "Mul" else None
        if operands is None:
            return "x"
        for reset, h in (operands, operands[::-1]):
            if isinstance(reset, Ref) and self._is_h(h) and gate(self.rows, reset) is not None:
                return reset
        return "x"

    def _is_h(self, value: Ref | Array) -> bool:
        if isinstance(value, Ref):
            return value == self.blend.h
        return self.blend.start is not None and np.array_equal(value, self.blend.start)

    def _depend(self, xs: list[Ref], gates: tuple[Ref, ...]) -> bool:
        """Whether an x is computed from one of the cell's own gates."""
        names = {ref.name for ref in gates}
        first = min(self.rows.at(ref) for ref in gates)
        seen: set[str] = set()
        todo = [x.name for x in xs]
        while todo:
            name = todo.pop()
            if name in names:
                return True
            if name not in seen and self.rows.index.get(name, -1) >= first:
                todo += self.rows.producers[name].inputs
            seen.add(name)
        return False


def _negated(w: Weight) -> Weight:
    return Weight(w.name, w.transposed, w.k0, w.k1, w.lo, w.hi, -w.scale)
