"""What must hold of a program: tensors, operators and, once it is planned, addresses."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from streamgru.codes import LISTS, PARAMETERS, Code, index_of, lists_of
from streamgru.layout import ALIGN, MAX_RANK, Dtype, Kind, Layout

from .copies import CELLS
from .program import Operator, Program, Tensor
from .views import row_major

DTYPES = {dtype.numpy for dtype in Dtype}
PARTIAL = {Code.COPY, Code.FILL, *CELLS}  # several of them may make one tensor


def problems_of_program(program: Program) -> Iterator[str]:
    """What is wrong with a program; nothing, where it is sound."""
    states = set(program.states)
    tensors = program.tensors()
    for tensor in tensors:
        yield from _tensor(tensor, states)
    for op in program.operators:
        yield from _parameters(op)
    yield from _ports(program)
    is_planned = any(t.offset >= 0 for t in tensors if t.kind != Kind.CONSTANT)
    yield from _order(program, single=not is_planned)
    if is_planned:
        yield from _addresses(program, tensors)
        yield from _sharing(program)


def _tensor(t: Tensor, states: set[Tensor]) -> Iterator[str]:
    """Shape, dtype, and where its bytes are."""
    if t.dtype not in DTYPES or len(t.shape) > MAX_RANK or min(t.shape, default=1) < 1:
        yield f"tensor '{t.name}' is {t.dtype}{list(t.shape)}"
    if t.kind == Kind.CONSTANT:
        yield from _constant(t)
    elif t.data is not None:
        yield f"tensor '{t.name}' of {t.kind.name} has data of a constant"
    elif t.base is not None:
        fits = 0 <= t.base_offset <= t.base.size - t.size and t.base.base is None
        if not fits or t.base.kind != t.kind or t.base.dtype != t.dtype:
            yield f"tensor '{t.name}' of {t.size} at {t.base_offset} lies outside of '{t.base.name}' of {t.base.size}"
    elif t.kind == Kind.STATE and t not in states:
        yield f"tensor '{t.name}' is a state that the program does not list"
    if t.reset is not None and (t.reset.kind, t.reset.dtype, t.reset.size) != (Kind.CONSTANT, t.dtype, t.size):
        yield f"state '{t.name}' of {t.size} {t.dtype} is reset to {t.reset.size} {t.reset.dtype}"


def _constant(t: Tensor) -> Iterator[str]:
    if t.data is None or t.base is not None:
        yield f"the constant '{t.name}' has no data of its own"
    elif t.layout == Layout.ROWS and (t.data.dtype != t.dtype or t.data.size != t.size):
        yield f"tensor '{t.name}' is {t.dtype}{list(t.shape)}, its data {t.data.dtype} of {t.data.size}"


def _parameters(op: Operator) -> Iterator[str]:
    count = len(PARAMETERS[op.code])
    if op.code in LISTS and len(op.params) >= count:
        count += len(LISTS[op.code]) * int(op.params[index_of(op.code, "rank")])
    if len(op.params) != count:
        yield f"{op.code.name} '{op.name}' has {len(op.params)} parameters, {count} were expected"
    elif op.code == Code.COPY:
        yield from _copy(op)


def _copy(op: Operator) -> Iterator[str]:
    """What is read and what is written lies inside of the tensors."""
    rank, *offsets = (int(p) for p in op.params[:3])
    dims = op.params[3 : 3 + rank]
    for k, t in enumerate((op.inputs[0], op.outputs[0]), 1):
        assert t is not None
        first = last = offsets[k - 1]
        for d, step in zip(dims, op.params[3 + k * rank : 3 + (k + 1) * rank], strict=True):
            reach = int((d - 1) * step)
            first, last = (first + reach, last) if reach < 0 else (first, last + reach)
        if first < 0 or last >= t.size:
            yield f"COPY '{op.name}': elements {first} to {last} of '{t.name}' of {t.size}"


def _ports(program: Program) -> Iterator[str]:
    """Inputs and outputs lie in the arena, each in a tensor of its own."""
    seen: set[Tensor] = set()
    for port in (*program.inputs, *program.outputs):
        if port.kind != Kind.ARENA or port.root in seen:
            yield f"the port '{port.name}' shares its tensor with another, or lies in none of the arena"
        seen.add(port.root)


def _order(program: Program, single: bool) -> Iterator[str]:
    """What is read was written before; and written `single`, but for those that write parts."""
    written: dict[Tensor, Code | None] = {t.root: None for t in program.inputs}
    for op in program.operators:
        for t in op.inputs:
            if t is not None and t.kind == Kind.ARENA and t.root not in written:
                yield f"{op.code.name} '{op.name}' reads '{t.root.name}', which nothing before it writes"
        for t in op.outputs:
            if t is None:
                continue
            if t.kind == Kind.CONSTANT or (t.root in written and written[t.root] is None):
                yield f"{op.code.name} '{op.name}' writes '{t.root.name}', a constant or an input"
            if single and t.kind == Kind.ARENA and t.root in written and op.code not in PARTIAL:
                yield f"{op.code.name} '{op.name}' writes '{t.root.name}', which is written before"
            if t.kind == Kind.ARENA:
                written[t.root] = op.code
    for port in program.outputs:
        if port.root not in written:
            yield f"nothing writes the output '{port.name}'"


# ---- addresses ----


def _addresses(program: Program, tensors: list[Tensor]) -> Iterator[str]:
    """Every tensor lies where its base does, aligned, inside of the arena or the state."""
    sizes = {Kind.ARENA: program.arena_bytes, Kind.STATE: program.state_bytes}
    for t in tensors:
        if t.kind == Kind.CONSTANT:
            continue
        if t.base is not None:
            if t.offset != t.base.offset + t.base_offset * t.dtype.itemsize:
                yield f"the view '{t.name}' is not at its place in '{t.base.name}'"
        elif t.offset < 0 or t.offset % ALIGN or t.offset + t.nbytes > sizes[t.kind]:
            yield f"tensor '{t.name}' of {t.nbytes} bytes at {t.offset}, of {sizes[t.kind]}"
    end = 0
    for state in program.states:
        if state.offset < end:
            yield f"state '{state.name}' begins inside of another"
        end = state.offset + state.nbytes


@dataclass(eq=False)
class _Life:
    """The bytes begin .. end of a tensor from the first operator that touches it to the last."""

    tensor: Tensor
    first: int
    last: int

    def __post_init__(self) -> None:
        self.begin = self.tensor.offset
        self.end = self.begin + self.tensor.nbytes


def _lives(program: Program) -> list[_Life]:
    lives = {t.root: _Life(t.root, -1, len(program.operators)) for t in (*program.inputs, *program.outputs)}
    for i, op in enumerate(program.operators):
        for t in (*op.inputs, *op.outputs):
            if t is None or t.kind != Kind.ARENA:
                continue
            life = lives.get(t.root)
            if life is None:
                lives[t.root] = _Life(t.root, i, i)
            else:
                life.last = max(life.last, i)
    return sorted(lives.values(), key=lambda life: life.first)


def _sharing(program: Program) -> Iterator[str]:
    """Tensors that are alive at once share no byte, but for an output that takes the place of an input."""
    alive: list[_Life] = []
    for life in _lives(program):
        alive = [a for a in alive if a.last >= life.first]
        for other in alive:
            if (
                life.begin < other.end
                and other.begin < life.end
                and not (
                    other.last == life.first and _takes_place(program.operators[life.first], other.tensor, life.tensor)
                )
            ):
                yield f"'{other.tensor.name}' and '{life.tensor.name}' are alive at once and share bytes"
        alive.append(life)


def _takes_place(op: Operator, old: Tensor, new: Tensor) -> bool:
    """Whether the operator reads element i of the one before it writes element i of the other, and no other."""
    if op.code not in (Code.UNARY, Code.BINARY) or old.offset != new.offset or op.outputs[0] is not new:
        return False
    if op.code == Code.UNARY:
        return True
    dims, *steps = lists_of(op.code, op.params)
    dense = row_major(dims)
    walks = zip(op.inputs, steps, strict=True)
    return all(s == dense and x.base_offset == 0 for x, s in walks if x is not None and x.root is old)
