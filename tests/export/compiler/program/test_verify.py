"""What must hold of a program: each test breaks one thing in one that is sound."""

from __future__ import annotations

import numpy as np
import pytest

from export.graphs import model, node
from streamgru.codes import Code
from streamgru.layout import Kind
from streamgru_export.compiler.compile import compile
from streamgru_export.compiler.program.program import Operator, Program, Tensor, constant
from streamgru_export.compiler.verify import VerifyError, verify

F32 = np.dtype(np.float32)


def tensor(name: str, n: int = 16, kind: Kind = Kind.ARENA, **rest) -> Tensor:
    return Tensor(name, F32, (n,), kind, **rest)


class Chain:
    """x -> a -> b -> y, with a state that is copied to, planned by hand: a and y never live at once."""

    def __init__(self) -> None:
        self.x, self.a, self.b, self.y = (tensor(n) for n in "xaby")
        self.state = tensor("h", kind=Kind.STATE, reset=constant("h/reset", np.ones(16, np.float32)))
        self.copy = Operator(Code.COPY, [self.b], [self.state], [1, 0, 0, 16, 1, 1], "keep")
        steps = [(self.x, self.a), (self.a, self.b)]
        self.unary = [Operator(Code.UNARY, [i], [o], [1, 0.0, 0.0], o.name) for i, o in steps]
        self.softmax = Operator(Code.SOFTMAX, [self.b], [self.y], [1, 16, 1, 0], "y")
        self.program = Program([*self.unary, self.copy, self.softmax], [self.x], [self.y], [self.state])

    def planned(self, **offsets: int) -> Program:
        """x, y, a and b in this order, but for what is asked otherwise; views are where their bases are."""
        places = {"x": 0, "y": 64, "a": 128, "b": 192, "h": 0} | offsets
        for t in self.program.tensors():
            t.offset = places.get(t.name, -1)
        self.program.arena_bytes, self.program.state_bytes = 256, 64
        return self.program


def test_a_sound_program_passes():
    verify(Chain().program)
    verify(Chain().planned())
    verify(Chain().planned(b=128))  # an elementwise operator writes where it reads


@pytest.mark.parametrize(
    "offsets, message",
    [
        ({"a": 132}, "'a' of 64 bytes at 132"),
        ({"b": 256}, "'b' of 64 bytes at 256"),
        ({"a": -64}, "'a' of 64 bytes"),
        ({"h": 64}, "'h' of 64 bytes at 64"),
        ({"a": 0}, "'x' and 'a' are alive at once"),
        ({"b": 64}, "'y' and 'b' are alive at once"),
    ],
)
def test_addresses_that_share_or_lie_outside(offsets, message):
    with pytest.raises(VerifyError, match=message):
        verify(Chain().planned(**offsets))


def test_only_an_operator_that_walks_both_alike_writes_where_it_reads():
    for code, params in ((Code.SOFTMAX, [1, 16, 1, 0]), (Code.BINARY, [0, 1, 16, 0, 1])):
        chain = Chain()
        chain.unary[1].code, chain.unary[1].params = code, params
        chain.unary[1].inputs = [chain.a] if code == Code.SOFTMAX else [chain.a, chain.a]
        with pytest.raises(VerifyError, match="'a' and 'b' are alive at once"):
            verify(chain.planned(b=128))


def broken(change) -> Program:
    chain = Chain()
    change(chain)
    return chain.program


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda c: c.program.operators.reverse(), "reads 'b', which nothing"),
        (lambda c: c.program.operators.append(c.unary[0]), "writes 'a', which is written before"),
        (lambda c: c.program.operators.pop(), "nothing writes the output 'y'"),
        (lambda c: c.unary[1].outputs.__setitem__(0, c.x), "writes 'x', a constant or an input"),
        (lambda c: c.unary[0].params.pop(), "UNARY 'a' has 2 parameters, 3"),
        (lambda c: c.copy.params.append(0), "COPY 'keep' has 7 parameters, 6"),
        (lambda c: c.copy.params.__setitem__(1, 1), "COPY 'keep': elements 1 to 16 of 'b'"),
        (lambda c: c.copy.params.__setitem__(5, -1), "elements -15 to 0 of 'h'"),
        (lambda c: setattr(c.a, "shape", (0,)), "tensor 'a'"),
        (lambda c: setattr(c.a, "shape", (1,) * 9), "tensor 'a'"),
        (lambda c: setattr(c.a, "dtype", np.dtype(np.float64)), "tensor 'a' is float64"),
        (lambda c: setattr(c.a, "data", np.zeros(16)), "'a' of ARENA has data"),
        (lambda c: setattr(c.state.reset, "data", np.zeros(8, np.float32)), "its data float32 of 8"),
        (lambda c: setattr(c.state, "reset", constant("r", np.zeros(8, np.float32))), "'h' of 16 .* is reset to 8"),
        (lambda c: setattr(c.state, "reset", constant("r", np.zeros(16, np.int64))), "is reset to 16 int64"),
        (lambda c: c.program.states.clear(), "'h' is a state that the program does not list"),
        (lambda c: c.program.outputs.append(c.x), "port 'x' shares"),
        (lambda c: c.program.outputs.append(c.state), "port 'h'"),
        (lambda c: c.softmax.inputs.__setitem__(0, tensor("v", base=c.b, base_offset=1)), "'v' of 16 at 1"),
        (lambda c: c.softmax.inputs.__setitem__(0, tensor("v", 8, base=c.b, base_offset=-1)), "'v' of 8 at -1"),
    ],
)  # fmt: skip
def test_a_broken_program_is_a_fault_of_the_stage(change, message):
    with pytest.raises(VerifyError, match=message):
        verify(broken(change))


def test_a_view_is_at_its_place_in_its_base():
    chain = Chain()
    view = tensor("v", 8, base=chain.b, base_offset=8)
    chain.softmax.inputs[0] = view
    verify(chain.planned(v=192 + 32))
    with pytest.raises(VerifyError, match="view 'v' is not at its place"):
        verify(chain.planned(v=192))


def test_what_the_compiler_makes_passes_as_it_stands():
    """The last stage's program, with float32 weights and with bytes."""
    w = np.ones((32, 64), np.float32)
    source = model([node("MatMul", ["x", "w"], ["z"]), node("Tanh", ["z"], ["y"])], {"x": [1, 32]}, ["y"], {"w": w})
    for weights in ("f32", "i8"):
        verify(compile(source, weights=weights).program)
