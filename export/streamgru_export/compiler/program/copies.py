"""Removes COPYs by letting both sides share their bytes: what compilers do with registers (Chaitin et al. 1981,
"Register allocation via coloring": coalescing), with the elements of tensors for registers.

A COPY of a row of elements is nothing to do where the smaller tensor becomes a view of the other, at the place where
the row lies. That is allowed where the two never need one place for two values: no operator writes an element of one
while the same place in the other holds what is still to be read. So the parts of a Concat are computed where they are
joined, and a state that is copied, changed in part and copied back is changed where it lies.

Addresses come later (plan.py), as do the bytes that dead tensors give back.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import as_strided

from streamgru._types import Array
from streamgru.codes import Code, index_of, lists_of
from streamgru.layout import Kind

from .program import Operator, Program, Tensor
from .views import View, row_major

CELLS = {Code.GRU, Code.LSTM, Code.RNN}
LIMIT = 1 << 26  # bytes of masks; a larger program (a whole long sequence) is left as it is


def merge_copies_in_place(program: Program) -> None:
    """All that can be removed, the longest copies first."""
    if _looks(program) > LIMIT:
        return
    merger = _Merger(program)
    copies = [i for i, op in enumerate(program.operators) if op.code == Code.COPY]
    for i in sorted(copies, key=lambda i: (-_moved(program.operators[i])[0].size, i)):
        if i not in merger.gone:
            merger.attempt(i)
    program.operators = [op for i, op in enumerate(program.operators) if i not in merger.gone]


def _looks(program: Program) -> int:
    """Elements of all operands, each counted with the whole tensor it lies in."""
    operands = [t for op in program.operators for t in (*op.inputs, *op.outputs)]
    return sum(t.root.size for t in operands if t is not None and t.kind != Kind.CONSTANT)


# ---- what an operator reads and writes, as views of whole tensors ----


def _all(t: Tensor) -> View:
    return View(t.root, t.base_offset, (t.size,), (1,))


def _moved(op: Operator) -> tuple[View, View]:
    """Source and destination of a COPY."""
    src, dst = op.inputs[0], op.outputs[0]
    assert src is not None
    assert dst is not None
    src_offset, dst_offset = _named(op, "src_offset", "dst_offset")
    dims, src_steps, dst_steps = lists_of(op.code, op.params)
    return (
        View(src.root, src.base_offset + src_offset, dims, src_steps),
        View(dst.root, dst.base_offset + dst_offset, dims, dst_steps),
    )


def _reads(op: Operator) -> list[View]:
    if op.code == Code.COPY:
        return [_moved(op)[0]]
    return [_all(t) for t in op.inputs if t is not None]


def _writes(op: Operator) -> list[View]:
    """Exactly what is written."""
    if op.code == Code.COPY:
        return [_moved(op)[1]]
    if op.code not in CELLS:
        return [_all(t) for t in op.outputs if t is not None]
    steps, batch, hidden, offset, over_time, over_batch = _named(op, "T", "B", "H", "y_offset", "y_t", "y_b")
    places: list[tuple[int, tuple[int, ...], tuple[int, ...]]] = [
        (offset, (steps, batch, hidden), (over_time, over_batch, 1))
    ]
    for state in "hc"[: len(op.outputs) - 1]:
        at, over_batch = _named(op, f"y{state}_offset", f"y{state}_b")
        places.append((at, (batch, hidden), (over_batch, 1)))
    return [
        View(t.root, t.base_offset + at, shape, strides)
        for t, (at, shape, strides) in zip(op.outputs, places, strict=True)
        if t is not None
    ]


def _named(op: Operator, *names: str) -> list[int]:
    return [int(op.params[index_of(op.code, name)]) for name in names]


def _look(mask: Array, view: View) -> Array:
    """The view of a mask that has one entry for each element of the view's tensor."""
    first, end = view.span()
    if first < 0 or end > len(mask):  # as_strided does not look
        raise IndexError(f"'{view.tensor.name}': elements {first} to {end} of {len(mask)}")
    return as_strided(mask[view.offset :], view.shape, view.strides)


# ---- which elements are still to be read ----


@dataclass
class _Life:
    """For each operator that touches a tensor, and for -1 (before the first): which elements are read after it before
    they are written again."""

    times: list[int]
    masks: list[Array]

    def after(self, i: int) -> Array:
        return self.masks[bisect_right(self.times, i) - 1]


def _lives(program: Program) -> dict[Tensor, _Life]:
    """From the last operator to the first. A COPY reads only what somebody reads of its destination."""
    live: dict[Tensor, Array] = {}
    lives: dict[Tensor, _Life] = {}
    kept = {t.root for t in (*program.outputs, *program.states)}

    def mask(root: Tensor) -> Array:
        if root not in live:
            live[root] = np.full(root.size, root in kept)
        return live[root]

    for i in reversed(range(len(program.operators))):
        op = program.operators[i]
        reads = [v for v in _reads(op) if v.tensor.kind != Kind.CONSTANT]
        writes = _writes(op)
        for root in {v.tensor for v in (*reads, *writes)}:
            life = lives.setdefault(root, _Life([], []))
            life.times.append(i)
            life.masks.append(mask(root).copy())
        needed = _look(mask(writes[0].tensor), writes[0]).copy() if op.code == Code.COPY else None
        for v in writes:
            _look(mask(v.tensor), v)[...] = False
        for v in reads:
            _look(mask(v.tensor), v)[... if needed is None else needed] = True
    for root, life in lives.items():
        life.times = [-1, *life.times[::-1]]
        life.masks = [live[root], *life.masks[::-1]]
    return lives


# ---- merging ----


class _Merger:
    """The program while tensors become views of each other."""

    def __init__(self, program: Program) -> None:
        self.operators = program.operators
        self.lives = _lives(program)
        self.gone: set[int] = set()  # COPYs that are not needed any more
        self.writes: dict[int, list[tuple[View, tuple[int, int]]]] = {}
        self.inputs = {t.root for t in program.inputs}
        self.fixed = self.inputs | {t.root for t in (*program.outputs, *program.states)}
        self.views: defaultdict[Tensor, list[Tensor]] = defaultdict(list)
        for t in program.tensors():
            if t.base is not None:
                self.views[t.base].append(t)

    def attempt(self, i: int) -> None:
        """Source into destination, or the other way round."""
        src, dst = _moved(self.operators[i])
        in_a_row = all(d == 1 or s == t == e for d, s, t, e in
                       zip(src.shape, src.strides, dst.strides, row_major(src.shape), strict=True))  # fmt: skip
        if not in_a_row or src.tensor is dst.tensor:
            return
        for part, home in ((src, dst), (dst, src)):
            shift = home.offset - part.offset
            if self._may_move(part.tensor, home.tensor, shift) and not self._clash(part.tensor, home.tensor, shift):
                self._move(part.tensor, home.tensor, shift)
                return

    def _may_move(self, x: Tensor, y: Tensor, shift: int) -> bool:
        """Whether `x` can be elements `shift` .. of `y` at all. A cell's steps go to no state but its own: the C core
        would take the state for one that the cell carries from frame to frame."""
        if x in self.fixed or y in self.inputs or Kind.CONSTANT in (x.kind, y.kind):
            return False
        if shift < 0 or shift + x.size > y.size or self.lives[x].masks[0].any():
            return False
        ops = [self.operators[i] for i in self.lives[x].times[1:]]
        of_cell = any(op.code in CELLS and any(v.tensor is x for v in _writes(op)) for op in ops)
        return not (of_cell and y.kind == Kind.STATE)

    def _written(self, i: int) -> list[tuple[View, tuple[int, int]]]:
        """What operator `i` writes, each with its span."""
        if i not in self.writes:
            self.writes[i] = [(v, v.span()) for v in _writes(self.operators[i])]
        return self.writes[i]

    def _clash(self, x: Tensor, y: Tensor, shift: int) -> bool:
        """Whether one place would have to hold two values."""
        end, mine = shift + x.size, self.lives[x].times[1:]
        for i in mine:
            op = self.operators[i]
            if _stays(op, x, y, shift):
                continue
            changed = (v for v, _ in self._written(i) if v.tensor is x)
            if any(_look(self.lives[y].after(i)[shift:end], v).any() for v in changed):
                return True
            if _meets_itself(op, x, y, shift):
                return True
        for i in self._during(y, mine):
            for v, (low, high) in self._written(i):
                if v.tensor is not y or low >= end or high <= shift or _stays(self.operators[i], x, y, shift):
                    continue
                other = np.zeros(y.size, np.bool_)
                other[shift:end] = self.lives[x].after(i)
                if _look(other, v).any():
                    return True
        return False

    def _during(self, y: Tensor, times: list[int]) -> list[int]:
        """The operators that touch `y` between the first and the last of `times`."""
        own = self.lives[y].times
        return own[bisect_left(own, times[0]) : bisect_right(own, times[-1])]

    def _move(self, x: Tensor, y: Tensor, shift: int) -> None:
        """`x` and its views become views of `y`."""
        mine = self.lives[x].times[1:]
        gone = {i for i in mine if _stays(self.operators[i], x, y, shift)}
        self._join(x, y, shift, gone)
        self.gone |= gone
        for i in mine:
            self.writes.pop(i, None)
        for t in (x, *self.views.pop(x, [])):
            t.kind, t.base, t.base_offset = y.kind, y, t.base_offset + shift
            self.views[y].append(t)

    def _join(self, x: Tensor, y: Tensor, shift: int, gone: set[int]) -> None:
        """In one place, what either of two lives needs is needed."""
        mine, life = self.lives.pop(x), self.lives[y]
        for i in mine.times[1:]:
            at = bisect_left(life.times, i)
            if life.times[at : at + 1] != [i]:
                life.masks.insert(at, life.after(i).copy())
                life.times.insert(at, i)
        for i in self._during(y, mine.times[1:]):
            life.after(i)[shift : shift + x.size] |= mine.after(i)
        for i in gone:
            at = bisect_left(life.times, i)
            del life.times[at], life.masks[at]


def _within(v: View, x: Tensor, y: Tensor, shift: int) -> View:
    """The view as it will lie in `y`."""
    return View(y, v.offset + shift, v.shape, v.strides) if v.tensor is x else v


def _stays(op: Operator, x: Tensor, y: Tensor, shift: int) -> bool:
    """Whether it is a COPY of elements to where they are already."""
    if op.code != Code.COPY:
        return False
    src, dst = (_within(v, x, y, shift) for v in _moved(op))
    return src.tensor is y and dst.same_place(src)


def _meets_itself(op: Operator, x: Tensor, y: Tensor, shift: int) -> bool:
    """Whether an operator would write bytes of another of its operands, which it did not before.

    COPY may where it is no element that it both reads and writes, and where it moves one row, which may overlap
    itself. For all others their whole operands count, as they do for the C core.
    """
    reads, writes = _reads(op), _writes(op)
    if op.code == Code.COPY and len(reads[0].shape) < 2 and reads[0].is_row_major and writes[0].is_row_major:
        return False
    if op.code != Code.COPY:
        writes = [_all(t) for t in op.outputs if t is not None]
    for k, w in enumerate(writes):
        for v in (*reads, *writes[:k]):
            if {v.tensor, w.tensor} == {x, y} and _overlap(_within(v, x, y, shift), _within(w, x, y, shift)):
                return True
    return False


def _overlap(a: View, b: View) -> bool:
    """Whether two views of one tensor have an element in common."""
    mask = np.zeros(a.tensor.size, np.bool_)
    _look(mask, a)[...] = True
    return bool(_look(mask, b).any())
