"""What a GRU cell is as algebra: a blend of two values by a gate, and the gates' sums of products.

    h' = n + z·(h − n)   or   h + z·(n − h), however it is spelt: both sides are multiplied out and compared
    z = f(Wz·x + Rz·h + bz)      r = f(Wr·x + Rr·h + br)
    n = g(Wn·x + bn + r·(Rn·h + cn))   (linear_before_reset)   or   g(Wn·x + bn + Rn·(r·h))

g may be nothing at all: the candidate is then the sum itself.

Only what reduces to this exactly is a cell. Names and the order of the nodes mean nothing here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np

from ..graph.graph import Array, Node
from ..graph.operators import Gemm, clip_bounds, gemm, number
from ..graph.rows import Ref, Rows

ARITHMETIC = {"Add", "Sub", "Mul", "Neg", "Sum", "Where"}
REACH = 64  # values looked at around a blend, or in a sum
DEPTH = 16  # nodes between a blend and its gates
TERMS = 16  # of a product that is multiplied out; a blend has three
# ONNX operator -> the attributes that its namesake of a GRU takes as alpha and beta
ACTIVATIONS: dict[str, tuple[str, ...]] = {
    "Sigmoid": (), "Tanh": (), "Relu": (), "Softsign": (), "Softplus": (),
    "HardSigmoid": ("alpha", "beta"), "LeakyRelu": ("alpha",), "Elu": ("alpha",),
}  # fmt: skip


@dataclass(frozen=True)
class Function:
    """An activation as the GRU operator names it."""

    name: str
    numbers: tuple[float, ...] = ()  # alpha, then beta, as far as it takes them

    @property
    def mirrors(self) -> bool:
        """Whether f(−a) = 1 − f(a)."""
        return self.name == "Sigmoid" or (self.name == "HardSigmoid" and self.numbers[1] == 0.5)


NOTHING = Function("Affine", (1.0, 0.0))  # as the GRU operator calls it


@dataclass(frozen=True)
class Gate:
    """function(source)."""

    function: Function
    source: Ref


def gate(rows: Rows, ref: Ref) -> Gate | None:
    """The activation that computes `ref`, if one does."""
    node = rows.producer(ref)
    if node is None:
        return None
    source = Ref(node.inputs[0], ref.rows, ref.lo, ref.hi)
    if node.op_type in ACTIVATIONS:
        numbers = tuple(number(node, key) for key in ACTIVATIONS[node.op_type])
        return Gate(Function(node.op_type, numbers), rows.resolve(source))
    if node.op_type == "Clip" and clip_bounds(node, rows.constants) == (0.0, 1.0):
        return _hard_sigmoid(rows, rows.resolve(source))
    clipped = _clipped(rows, ref)
    return None if clipped is None else _hard_sigmoid(rows, clipped)


def _clipped(rows: Rows, ref: Ref) -> Ref | None:
    """x of min(max(x, 0), 1) or max(min(x, 1), 0)."""
    left = {"Min": 1.0, "Max": 0.0}
    while left:
        node = rows.producer(ref)
        bound = left.pop(node.op_type, None) if node is not None else None
        operands = rows.operands(ref, node) if node is not None and bound is not None else None
        sources = [o for o in operands or [] if isinstance(o, Ref)]
        numbers = [o for o in operands or [] if not isinstance(o, Ref)]
        if len(sources) != 1 or len(numbers) != 1 or (numbers[0] != bound).any():
            return None
        ref = sources[0]
    return ref


def _hard_sigmoid(rows: Rows, ref: Ref) -> Gate:
    """Clip(alpha·x + beta, 0, 1)."""
    numbers = {"Mul": 1.0, "Add": 0.0}
    for op in ("Add", "Mul"):
        node = rows.producer(ref)
        operands = rows.operands(ref, node) if node is not None and node.op_type == op else None
        if operands is None:
            continue
        sources = [o for o in operands if isinstance(o, Ref)]
        number = next((o for o in operands if not isinstance(o, Ref)), None)
        if len(sources) == 1 and number is not None and (number == number[0]).all():
            numbers[op], ref = float(number[0]), sources[0]
    return Gate(Function("HardSigmoid", (numbers["Mul"], numbers["Add"])), ref)


# ---- the blend ----

Polynomial = dict[tuple[Ref, ...], Array]  # factors -> coefficient [columns]


@dataclass(frozen=True)
class Blend:
    """h' = n + z·(h − n), or with `swapped` h + z·(n − h)."""

    z: Ref
    n: Ref
    h: Ref | None  # None: the constant `start` stands in its place
    start: Array | None
    swapped: bool
    is_linear: bool = False  # n is no activation of anything

    def candidate(self, rows: Rows) -> Gate | None:
        """n as a function of a sum."""
        return Gate(NOTHING, self.n) if self.is_linear else gate(rows, self.n)


def blends(rows: Rows, root: Ref) -> Iterator[Blend]:
    """The ways to read `root` as a blend. Its gates depend on h, so they are the last activations before it."""
    near = sorted(_gates_near(rows, root), key=rows.at, reverse=True)[:4]
    for z in near:
        for n in near:
            if z != n:
                blend = _Expansion(rows, z, n).blend(root)
                if blend is not None:
                    yield blend


def linear_blends(rows: Rows, root: Ref) -> Iterator[Blend]:
    """The same where no activation gives the candidate: what a gate blends are two values of any kind, and which of
    them is h, only the sums can tell."""
    for z in sorted(_gates_near(rows, root), key=rows.at, reverse=True)[:4]:
        for n in _Expansion(rows, z, z).others(root):
            blend = _Expansion(rows, z, n).blend(root) if gate(rows, n) is None else None
            if blend is not None:
                yield replace(blend, is_linear=True)


def _gates_near(rows: Rows, root: Ref) -> list[Ref]:
    found, seen, todo = [], {root}, [root]
    while todo and len(seen) < REACH:
        ref = todo.pop(0)
        node = rows.producer(ref)
        if node is not None and node.op_type in ARITHMETIC:
            operands = rows.operands(ref, node, _numbers(node)) or []
            new = [o for o in operands if isinstance(o, Ref) and o not in seen]
            seen.update(new)
            todo += new
        elif gate(rows, ref) is not None:
            found.append(ref)
    return found


def _numbers(node: Node) -> list[str]:
    """The inputs that are summed or multiplied: of Where not the condition."""
    return node.inputs[1:] if node.op_type == "Where" else node.inputs


class _Expansion:
    """Values as polynomials of z, n and whatever depends on neither."""

    def __init__(self, rows: Rows, z: Ref, n: Ref) -> None:
        self.rows, self.z, self.n = rows, z, n
        self._reaches: dict[Ref, bool] = {}

    def reaches(self, ref: Ref, depth: int = DEPTH) -> bool:
        """Whether arithmetic alone leads from z or n to `ref`."""
        if ref in (self.z, self.n):
            return True
        if ref not in self._reaches:
            node = self.rows.producer(ref)
            operands = None
            if node is not None and node.op_type in ARITHMETIC and depth > 0:
                operands = self.rows.operands(ref, node, _numbers(node))
            self._reaches[ref] = any(self.reaches(o, depth - 1) for o in operands or [] if isinstance(o, Ref))
        return self._reaches[ref]

    def polynomial(self, value: Ref | Array) -> Polynomial:
        if not isinstance(value, Ref):
            return {(): value}
        node = self.rows.producer(value)
        atom: Polynomial = {(value,): np.ones(value.hi - value.lo)}
        if value in (self.z, self.n) or node is None or not self.reaches(value):
            return atom
        operands = self.rows.operands(value, node, _numbers(node)) or []
        parts = [self.polynomial(o) for o in operands]
        if node.op_type == "Where":
            return parts[0] if _equal(parts[0], parts[1]) else atom
        if node.op_type == "Mul":
            return _product(parts[0], parts[1]) if len(parts[0]) * len(parts[1]) <= TERMS else atom
        signs = [-1.0] if node.op_type == "Neg" else [1.0, -1.0] if node.op_type == "Sub" else [1.0] * len(parts)
        return _sum([(s, p) for s, p in zip(signs, parts, strict=True)])

    def others(self, root: Ref) -> list[Ref]:
        """What `root` blends by z, h and the candidate in either order; of a difference of them its two sides too."""
        if self._is_made_by(root, "Where"):  # two spellings of one blend, as torch.lerp has them
            root = self._refs(root)[0]
        refs = {ref for factors in self.polynomial(root) for ref in factors} - {self.z}
        sides = [side for ref in refs if self._is_made_by(ref, "Add", "Sub") for side in self._refs(ref)]
        return sorted({*refs, *sides}, key=lambda ref: ref.key) if len(refs) <= 2 else []

    def _is_made_by(self, ref: Ref, *operators: str) -> bool:
        node = self.rows.producer(ref)
        return node is not None and node.op_type in operators and bool(self._refs(ref))

    def _refs(self, ref: Ref) -> list[Ref]:
        """What arithmetic reads, but for constants."""
        node = self.rows.producer(ref)
        operands = self.rows.operands(ref, node, _numbers(node)) if node is not None else None
        return [o for o in operands or [] if isinstance(o, Ref)]

    def blend(self, root: Ref) -> Blend | None:
        """`root` as a blend by z of n and one other value."""
        if not self.reaches(root):
            return None
        terms = self.polynomial(root)
        z, n = self.z, self.n
        others = {ref for factors in terms for ref in factors} - {z, n}
        if len(others) > 1:
            return None
        if others:
            h = others.pop()
            if _is(terms, {(n,): 1, (n, z): -1, (z, h): 1}):
                return Blend(z, n, h, None, False)
            return Blend(z, n, h, None, True) if _is(terms, {(h,): 1, (h, z): -1, (n, z): 1}) else None
        zero = np.zeros(root.hi - root.lo)
        start = terms.pop((z,), zero)
        if _is(terms, {(n,): 1, (n, z): -1}):
            return Blend(z, n, None, start, False)
        constant = terms.pop((), zero)
        swapped = _is(terms, {(n, z): 1}) and np.array_equal(constant, -start)
        return Blend(z, n, None, constant, True) if swapped else None


def _monomial(*factors: Ref) -> tuple[Ref, ...]:
    return tuple(sorted(factors, key=lambda ref: ref.key))


def _sum(parts: list[tuple[float, Polynomial]]) -> Polynomial:
    total: Polynomial = {}
    for sign, part in parts:
        for factors, c in part.items():
            total[factors] = total.get(factors, 0.0) + sign * c
    return {factors: c for factors, c in total.items() if c.any()}


def _product(a: Polynomial, b: Polynomial) -> Polynomial:
    return _sum([(1.0, {_monomial(*f, *g): c * d}) for f, c in a.items() for g, d in b.items()])


def _equal(a: Polynomial, b: Polynomial) -> bool:
    return a.keys() == b.keys() and all(np.array_equal(c, b[f]) for f, c in a.items())


def _is(terms: Polynomial, expected: dict[tuple[Ref, ...], int]) -> bool:
    wanted = {_monomial(*factors): c for factors, c in expected.items()}
    return terms.keys() == wanted.keys() and all((terms[f] == c).all() for f, c in wanted.items())


# ---- the sums ----


@dataclass(frozen=True)
class Weight:
    """Columns k0 .. k1 and rows lo .. hi of a constant matrix [out, in], `transposed` where it is stored [in, out]."""

    name: str
    transposed: bool
    k0: int
    k1: int
    lo: int
    hi: int
    scale: float

    def array(self, constants: dict[str, Array]) -> Array:
        """[hi − lo, k1 − k0]; scaled as the lowering of Gemm does it."""
        value = constants[self.name]
        matrix = (value.T if self.transposed else value)[self.lo : self.hi, self.k0 : self.k1]
        return matrix if self.scale == 1.0 else matrix * np.float32(self.scale)

    def columns(self, start: int, end: int) -> Weight:
        """The part that meets these entries of its source."""
        return Weight(self.name, self.transposed, self.k0 + start, self.k0 + end, self.lo, self.hi, self.scale)


@dataclass
class Sum:
    """bias + Σ weight·source + what is none of these."""

    bias: Array
    products: list[tuple[Ref, Weight]] = field(default_factory=list)
    rest: list[tuple[float, Ref]] = field(default_factory=list)


def linear(rows: Rows, ref: Ref) -> Sum:
    """A value as a sum of products with constant matrices."""
    found = Sum(np.zeros(ref.hi - ref.lo))
    todo: list[tuple[float, Ref | Array]] = [(1.0, ref)]
    for _ in range(REACH):
        if not todo:
            return found
        sign, value = todo.pop(0)
        if not isinstance(value, Ref):
            found.bias = found.bias + sign * value
        else:
            todo += _terms(rows, sign, value, found)
    found.rest.append((1.0, ref))  # too long to be a gate
    return found


def _terms(rows: Rows, sign: float, ref: Ref, found: Sum) -> list[tuple[float, Ref | Array]]:
    """What `ref` is the sum of; a product goes straight into `found`."""
    node = rows.producer(ref)
    op = "" if node is None else node.op_type
    if node is not None and op in ("Add", "Sub", "Neg", "Sum"):
        operands = rows.operands(ref, node)
        if operands is not None:
            signs = {"Neg": [-sign], "Sub": [sign, -sign]}.get(op, [sign] * len(operands))
            return list(zip(signs, operands, strict=True))
    if node is not None and op in ("MatMul", "Gemm"):
        w, c = rows.constants.get(node.inputs[1]), node.input(2)
        form = gemm(node) if op == "Gemm" else Gemm()
        plain = not form.trans_a and node.inputs[0] not in rows.constants
        added = rows.operand(ref, c) if c else None
        if w is not None and w.ndim == 2 and plain and (not c or added is not None) and (form.beta == 1.0 or not c):
            stored = not form.trans_b
            k = w.shape[0 if stored else 1]
            scale = sign * form.alpha
            source = rows.resolve(Ref(node.inputs[0], ref.rows, 0, k))
            found.products.append((source, Weight(rows.same(node.inputs[1]), stored, 0, k, ref.lo, ref.hi, scale)))
            return [] if added is None else [(sign, added)]
    found.rest.append((sign, ref))
    return []
