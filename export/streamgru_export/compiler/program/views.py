"""A view: a tensor looked at with an offset, a shape and strides, as NumPy does it. Moving data costs nothing
this way until an operator needs its operand in a row."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from .program import Tensor


@dataclass(frozen=True)
class View:
    """Elements `offset + Σ index·stride` of a row-major tensor. A view with a `base` tensor counts from that
    view's start."""

    tensor: Tensor
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    @property
    def size(self) -> int:
        """Number of elements looked at."""
        return math.prod(self.shape)

    @property
    def is_row_major(self) -> bool:
        """Whether the elements lie one after the other, in order."""
        return all(d == 1 or s == e for d, s, e in zip(self.shape, self.strides, row_major(self.shape), strict=True))

    def transpose(self, perm: Sequence[int]) -> View:
        """Dimensions in another order."""
        return View(self.tensor, self.offset, tuple(self.shape[p] for p in perm), tuple(self.strides[p] for p in perm))

    def slice(self, axis: int, start: int, count: int, step: int = 1) -> View:
        """`count` entries of one dimension from `start` on."""
        shape, strides = list(self.shape), list(self.strides)
        offset = self.offset + start * strides[axis]
        shape[axis], strides[axis] = count, strides[axis] * step
        return View(self.tensor, offset, tuple(shape), tuple(strides))

    def expand(self, shape: Sequence[int]) -> View:
        """Broadcast as ONNX and NumPy do."""
        lead = len(shape) - len(self.shape)
        own, steps = (1,) * lead + self.shape, (0,) * lead + self.strides
        out = tuple(d if d != 1 else s for d, s in zip(own, shape, strict=True))
        return View(self.tensor, self.offset, out, tuple(0 if d == 1 else s for d, s in zip(own, steps, strict=True)))

    def squeeze(self, axis: int) -> View:
        """Without a dimension of size 1 (or: its first entry only)."""
        return View(
            self.tensor,
            self.offset,
            self.shape[:axis] + self.shape[axis + 1 :],
            self.strides[:axis] + self.strides[axis + 1 :],
        )

    def reshape(self, shape: Sequence[int]) -> View | None:
        """Another shape of the same elements in the same order; None where strides cannot say it."""
        dims, steps = merge(self.shape, [self.strides])
        strides: list[int] = []
        left, i = 1, len(dims)  # walk from the last dimension; `left` entries of group i are still to be cut
        step = 1
        for d in reversed(shape):
            if d == 1:
                strides.append(0)
                continue
            if left == 1:
                i -= 1
                left, step = dims[i], steps[0][i]
            if left % d:
                return None
            strides.append(step)
            left, step = left // d, step * d
        return View(self.tensor, self.offset, tuple(shape), tuple(reversed(strides)))

    def span(self) -> tuple[int, int]:
        """First element touched, and one past the last."""
        reach = [(d - 1) * s for d, s in zip(self.shape, self.strides, strict=True)]
        return self.offset + sum(r for r in reach if r < 0), self.offset + sum(r for r in reach if r > 0) + 1

    def same_place(self, other: View) -> bool:
        """Whether both look at the same elements in the same order, whatever dimensions of size 1 they
        have."""
        mine, theirs = merge(self.shape, [self.strides]), merge(other.shape, [other.strides])
        return self.tensor is other.tensor and self.offset == other.offset and mine == theirs


def whole(tensor: Tensor, shape: Sequence[int] | None = None) -> View:
    """All of a tensor, in order."""
    shape = tensor.shape if shape is None else tuple(shape)
    return View(tensor, 0, tuple(shape), row_major(shape))


def row_major(shape: Sequence[int]) -> tuple[int, ...]:
    """Strides of a contiguous array."""
    strides, n = [], 1
    for d in reversed(shape):
        strides.append(n)
        n *= d
    return tuple(reversed(strides))


def merge(shape: Sequence[int], strides: Sequence[Sequence[int]]) -> tuple[list[int], list[list[int]]]:
    """The same walk with as few dimensions as can be, for several operands at once.

    Dimensions of size 1 go; neighbours merge where every operand's strides allow it. At least no dimension is
    left.
    """
    dims: list[int] = []
    steps: list[list[int]] = [[] for _ in strides]
    for axis, d in enumerate(shape):
        if d == 1:
            continue
        if dims and all(s[-1] == own[axis] * d for s, own in zip(steps, strides, strict=True)):
            dims[-1] *= d
            for s, own in zip(steps, strides, strict=True):
                s[-1] = own[axis]
            continue
        dims.append(d)
        for s, own in zip(steps, strides, strict=True):
            s.append(own[axis])
    return dims, steps
