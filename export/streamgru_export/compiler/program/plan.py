"""Addresses: every arena tensor gets bytes for as long as it lives, first fit; states lie one after the
other.

Inputs and outputs live throughout. An operator's outputs never share bytes with its inputs, except an
elementwise one's that writes element i after reading element i.
"""

from __future__ import annotations

from dataclasses import dataclass

from streamgru.codes import Code, lists_of
from streamgru.layout import Kind, rounded

from .program import Operator, Program, Tensor
from .views import row_major


def plan_in_place(program: Program) -> None:
    """Sets `offset` of all tensors of arena and state, and the program's sizes."""
    lives = _lives(program)
    _share_in_place(program, lives)
    blocks = sorted((b for b in lives.values() if b.leader is None), key=lambda b: (b.first, -b.size))
    placed: list[_Life] = []
    for block in blocks:
        block.offset = _first_fit(block, placed)
        placed.append(block)
    for tensor, life in lives.items():
        tensor.offset = (life.leader or life).offset
    program.arena_bytes = max((b.offset + b.size for b in placed), default=0)
    program.state_bytes = 0
    for state in program.states:
        state.offset = program.state_bytes
        program.state_bytes += rounded(state.nbytes)
    for t in program.tensors():
        if t.base is not None:
            t.offset = t.base.offset + t.base_offset * t.dtype.itemsize


@dataclass(eq=False)
class _Life:
    """From the operator that first writes a tensor to the last that reads it."""

    size: int
    first: int
    last: int
    offset: int = 0
    leader: _Life | None = None  # whose bytes it takes over

    def meets(self, other: _Life) -> bool:
        return self.first <= other.last and other.first <= self.last


def _lives(program: Program) -> dict[Tensor, _Life]:
    lives: dict[Tensor, _Life] = {}

    def touch(tensor: Tensor | None, at: int) -> None:
        root = None if tensor is None else tensor.root
        if root is None or root.kind != Kind.ARENA:
            return
        life = lives.setdefault(root, _Life(rounded(root.nbytes), at, at))
        life.first, life.last = min(life.first, at), max(life.last, at)

    end = len(program.operators)
    for tensor in (*program.inputs, *program.outputs):
        touch(tensor, -1)
        touch(tensor, end)
    for i, op in enumerate(program.operators):
        for operand in (*op.inputs, *op.outputs):
            touch(operand, i)
    return lives


def _first_fit(block: _Life, placed: list[_Life]) -> int:
    """The lowest offset where the block meets no other."""
    offset = 0
    for other in sorted((p for p in placed if p.meets(block)), key=lambda p: p.offset):
        if offset + block.size <= other.offset:
            break
        offset = max(offset, other.offset + other.size)
    return offset


def _share_in_place(program: Program, lives: dict[Tensor, _Life]) -> None:
    """An elementwise operator whose input dies writes where it reads."""
    held = {t.root for t in (*program.inputs, *program.outputs)}
    for i, op in enumerate(program.operators):
        y = op.outputs[0] if op.outputs else None
        if y is None or y.base is not None or y in held or lives.get(y) is None or lives[y].first != i:
            continue
        for x in _same_walk(op, y):
            root = x.root
            if root in held or root is y or root.kind != Kind.ARENA or root.nbytes != y.nbytes or x.size != y.size:
                continue
            if lives[root].last == i and lives[y].leader is None:
                leader = lives[root].leader or lives[root]
                leader.last = max(leader.last, lives[y].last)
                lives[y].leader = leader
                break


def _same_walk(op: Operator, y: Tensor) -> list[Tensor]:
    """The operands that are read element by element in the order in which `y` is written."""
    if op.code == Code.UNARY:
        return [x for x in op.inputs if x is not None]
    if op.code != Code.BINARY:
        return []
    dims, *steps = lists_of(op.code, op.params)
    dense = row_major(dims)
    walks = zip(op.inputs, steps, strict=True)
    found = [x for x, strides in walks if x is not None and strides == dense and x.dtype == y.dtype]
    others = [x for x in op.inputs if x is not None]
    # An operand that is also read in another order must not be overwritten.
    return [x for x in found if sum(o.root is x.root for o in others) == sum(o.root is x.root for o in found)]
