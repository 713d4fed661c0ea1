"""What must hold between the stages: each test breaks one thing in a graph or program that is sound."""

from dataclasses import replace

import numpy as np
import pytest
from onnx import TensorProto, helper

from export.graphs import model, node
from streamgru.errors import ModelError
from streamgru_export.compiler.compile import compile
from streamgru_export.compiler.graph.graph import Graph, Node, Port, TensorType
from streamgru_export.compiler.graph.onnx_reader import read
from streamgru_export.compiler.program.program import Code, Kind, Operator, Program, Tensor, constant
from streamgru_export.compiler.verify import VerifyError, check_model, verify

F32 = np.dtype(np.float32)


# ---- what the user gave ----


def test_refuses_a_value_that_nothing_writes():
    with pytest.raises(ModelError, match="'ghost'"):
        check_model(read(model([node("Relu", ["ghost"], ["y"])], {"x": [1]}, ["y"])))


def test_refuses_a_value_written_twice():
    nodes = [node("Relu", ["x"], ["y"]), helper.make_node("Abs", ["x"], ["y"], name="second")]
    with pytest.raises(ModelError, match="'second'"):
        check_model(read(model(nodes, {"x": [1]}, ["y"])))


def test_refuses_a_value_that_is_read_before_it_is_written():
    nodes = [helper.make_node("Abs", ["z"], ["y"], name="early"), node("Relu", ["x"], ["z"])]
    with pytest.raises(ModelError, match=r"'early' reads 'z'"):
        check_model(read(model(nodes, {"x": [1]}, ["y"])))


@pytest.mark.parametrize("outputs, message", [(["y", "y"], "two graph outputs"), (["lost"], "output 'lost'"),
                                              ([""], "output has no name")])  # fmt: skip
def test_refuses_outputs_that_are_none(outputs, message):
    with pytest.raises(ModelError, match=message):
        check_model(read(model([node("Relu", ["x"], ["y"])], {"x": [1]}, outputs)))


def branch(reads: str) -> Graph:
    """x -> If, whose branches read one value."""
    bodies = {
        f"{which}_branch": helper.make_graph(
            [helper.make_node("Relu", [reads], [f"{which}_y"], name="inner")], which, [],
            [helper.make_tensor_value_info(f"{which}_y", TensorProto.FLOAT, [1])],
        )
        for which in ("then", "else")
    }  # fmt: skip
    nodes = [node("Abs", ["x"], ["before"]), helper.make_node("If", ["c"], ["y"], **bodies)]
    nodes.append(node("Neg", ["y"], ["after"]))
    return read(model(nodes, {"x": [1]}, ["after"], {"c": np.array(True)}))


def test_a_subgraph_reads_what_stands_before_its_node_and_no_more():
    check_model(branch("before"))
    for name in ("ghost", "after"):
        with pytest.raises(ModelError, match=f"'inner' reads '{name}'"):
            check_model(branch(name))


# ---- what a stage left behind: graphs ----


def sound() -> Graph:
    """y = relu(x + w), typed."""
    types = {name: TensorType(F32, (2,)) for name in ("x", "w", "s", "y")}
    nodes = [Node("Add", "add", ["x", "w"], ["s"]), Node("Relu", "bend", ["s"], ["y"])]
    return Graph("g", nodes, [Port("x", F32, (2,))], [Port("y", F32, (2,))], {"w": np.zeros(2, np.float32)},
                 types=types)  # fmt: skip


def test_a_sound_graph_passes():
    verify(sound())
    verify(replace(sound(), types={}))


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"nodes": sound().nodes[::-1]}, "'bend' reads 's'"),
        ({"nodes": [*sound().nodes, Node("Abs", "again", ["x"], ["y"])]}, "'again' writes 'y'"),
        ({"nodes": [*sound().nodes, Node("", "none", ["x"], ["z"])]}, "'none' has no operator"),
        ({"outputs": [Port("z", F32, (2,))]}, "graph output 'z'"),
        ({"types": {k: t for k, t in sound().types.items() if k != "s"}}, "'s' has no type"),
        ({"types": {**sound().types, "w": TensorType(F32, (3,))}}, "constant 'w'"),
        ({"types": {**sound().types, "w": TensorType(np.dtype(np.int64), (2,))}}, "constant 'w'"),
        ({"types": {**sound().types, "y": TensorType(F32, (3,))}}, "port 'y'"),
        ({"inputs": [Port("x", F32, (1,))]}, "port 'x'"),
    ],
)
def test_a_broken_graph_is_a_fault_of_the_stage(changes, message):
    with pytest.raises(VerifyError, match=message):
        verify(replace(sound(), **changes))


# ---- programs ----


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
