"""Blends and sums, multiplied out: random spellings of a blend are one, spellings of something else are none."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from onnx import helper

from export.graphs import model, rng
from streamgru_export.compiler.cells.algebra import Function, blends, gate, linear, linear_blends
from streamgru_export.compiler.graph.onnx_reader import read
from streamgru_export.compiler.graph.rows import Ref, Rows
from streamgru_export.compiler.static.specialise import specialise

node = helper.make_node
N = 4


def rows_of(nodes, output, constants=None):
    """The refs of a graph over a, b and h [1, 4]; z = Sigmoid(a), n = Tanh(b)."""
    gates = [node("Sigmoid", ["a"], ["z"]), node("Tanh", ["b"], ["n"])]
    known = {"one": np.float32(1)} | (constants or {})
    source = model([*gates, *nodes], dict.fromkeys("abh", (1, N)), [output], known, opset=17)
    rows = Rows(specialise(read(source), {}))
    return rows, Ref(output, None, 0, N)


class Spelling:
    """Builds expressions and keeps what they are as numbers."""

    def __init__(self):
        self.nodes = []

    def add(self, op, *inputs):
        name = f"v{len(self.nodes)}"
        self.nodes.append(node(op, list(inputs), [name]))
        return name


def spell(expression, random):
    """An expression [+ - * ~ over names] as nodes, operands of + and * in random order."""
    spelling = Spelling()

    def build(e):
        if isinstance(e, str):
            return e
        op, *parts = e
        names = [build(p) for p in parts]
        if op in "+*" and random.random() < 0.5:
            names.reverse()
        return spelling.add({"+": "Add", "-": "Sub", "*": "Mul", "~": "Neg"}[op], *names)

    return spelling.nodes, build(expression)


KEPT = {  # z keeps h
    "n+z(h-n)": ("+", "n", ("*", "z", ("-", "h", "n"))),
    "n-z(n-h)": ("-", "n", ("*", "z", ("-", "n", "h"))),
    "(1-z)n+zh": ("+", ("*", ("-", "one", "z"), "n"), ("*", "z", "h")),
    "(-z+1)n+zh": ("+", ("*", ("+", ("~", "z"), "one"), "n"), ("*", "z", "h")),
    "n-nz+zh": ("+", ("-", "n", ("*", "n", "z")), ("*", "z", "h")),
    "h-(h-n)(1-z)": ("-", "h", ("*", ("-", "h", "n"), ("-", "one", "z"))),
    "zh-(zn-n)": ("-", ("*", "z", "h"), ("-", ("*", "z", "n"), "n")),
    "-(z(n-h)-n)": ("~", ("-", ("*", "z", ("-", "n", "h")), "n")),
}
TAKEN = {  # z takes n
    "h+z(n-h)": ("+", "h", ("*", "z", ("-", "n", "h"))),
    "(1-z)h+zn": ("+", ("*", ("-", "one", "z"), "h"), ("*", "z", "n")),
    "n-(n-h)(1-z)": ("-", "n", ("*", ("-", "n", "h"), ("-", "one", "z"))),
}
NONE = {
    "n+z(h+n)": ("+", "n", ("*", "z", ("+", "h", "n"))),
    "z+n(h-z)": ("+", "z", ("*", "n", ("-", "h", "z"))),
    "(1+z)n+zh": ("+", ("*", ("+", "one", "z"), "n"), ("*", "z", "h")),
    "(1-z)n+zzh": ("+", ("*", ("-", "one", "z"), "n"), ("*", "z", ("*", "z", "h"))),
    "(1-z)n+zh+zh": ("+", ("+", ("*", ("-", "one", "z"), "n"), ("*", "z", "h")), ("*", "z", "h")),
    "(1-z)n+h": ("+", ("*", ("-", "one", "z"), "n"), "h"),
    "(1-z)n+zhh": ("+", ("*", ("-", "one", "z"), "n"), ("*", "z", ("*", "h", "h"))),
    "(1-z)n+z(h+a)": ("+", ("*", ("-", "one", "z"), "n"), ("*", "z", ("+", "h", "a"))),
    "(1-z)n+z(hz)": ("+", ("*", ("-", "one", "z"), "n"), ("*", "z", ("*", "h", "z"))),
    "(1-z)n+zh+za": ("+", ("+", ("*", ("-", "one", "z"), "n"), ("*", "z", "h")), ("*", "z", "a")),
    "(1-z)n+zh+nh": ("+", ("+", ("*", ("-", "one", "z"), "n"), ("*", "z", "h")), ("*", "n", "h")),
    "(1-z)h+zn+zh": ("+", ("+", ("*", ("-", "one", "z"), "h"), ("*", "z", "n")), ("*", "z", "h")),
}


@pytest.mark.parametrize("table, name", [(t, n) for t in (KEPT, TAKEN, NONE) for n in t])
def test_blends(table, name):
    random = rng()
    for _ in range(4):
        rows, root = rows_of(*spell(table[name], random))
        found = list(blends(rows, root))
        if table is NONE:
            assert not [f for f in found if (f.z.name, f.n.name) == ("z", "n") and f.h is not None and f.h.name == "h"]
        else:
            assert [(f.z.name, f.n.name, f.h.name, f.swapped) for f in found] == [("z", "n", "h", table is TAKEN)]


@pytest.mark.parametrize("table", [KEPT, TAKEN])
def test_a_sum_of_others_is_one_value_in_the_place_of_h(table):
    """What neither z nor n goes into is not multiplied out."""
    random = rng()
    for expression in table.values():
        nodes, root = spell(expression, random)
        for n in nodes:
            n.input[:] = [i.replace("h", "sum") for i in n.input]
        rows, ref = rows_of([node("Add", ["h", "a"], ["sum"]), *nodes], root)
        found = [(f.z.name, f.n.name, f.h and f.h.name, f.swapped) for f in blends(rows, ref)]
        assert found == [("z", "n", "sum", table is TAKEN)]


@pytest.mark.parametrize("value", [0.0, 0.5])
@pytest.mark.parametrize("table", [KEPT, TAKEN])
def test_a_constant_in_the_place_of_h_is_read_from_the_blend(table, value):
    for expression in table.values():
        rows, root = rows_of(*spell(expression, rng()), {"h": np.full((1, N), value, np.float32)})
        (found,) = (f for f in blends(rows, root) if f.z.name == "z")  # n·z, of zeros, is a blend by either
        assert found.h is None
        assert found.start is not None
        assert (found.start == value).all()
        assert found.swapped == (table is TAKEN)


@pytest.mark.parametrize("table, name", [(t, n) for t in (KEPT, TAKEN) for n in t])
def test_a_blend_of_two_values_may_be_read_with_either_as_the_candidate(table, name):
    """n is no activation here, but a sum: nothing but the sums can tell it from h."""
    nodes, root = spell(table[name], rng())
    for n in nodes:
        n.input[:] = [i.replace("n", "sum") if i == "n" else i for i in n.input]
    rows, ref = rows_of([node("Add", ["a", "b"], ["sum"]), *nodes], root)
    assert list(blends(rows, ref)) == []
    found = {(f.z.name, f.n.name, f.h and f.h.name, f.swapped) for f in linear_blends(rows, ref)}
    assert {("z", "sum", "h", table is TAKEN), ("z", "h", "sum", table is KEPT)} <= found


@pytest.mark.parametrize("same", [True, False])
def test_a_where_is_a_blend_only_if_both_sides_are_the_same_one(same):
    left, right = KEPT["n+z(h-n)"], (KEPT if same else TAKEN)["h-(h-n)(1-z)" if same else "h+z(n-h)"]
    (a, a_out), (b, b_out) = spell(left, rng()), spell(right, rng())
    for n in b:
        n.input[:] = [i.replace("v", "w") for i in n.input]
        n.output[:] = [o.replace("v", "w") for o in n.output]
    nodes = [*a, *b, node("Less", ["z", "one"], ["c"]), node("Where", ["c", a_out, b_out.replace("v", "w")], ["y"])]
    rows, root = rows_of(nodes, "y")
    assert len(list(blends(rows, root))) == int(same)


@pytest.mark.slow
def test_products_of_sums_that_would_explode_are_left_alone():
    nodes, last = [node("Add", ["z", "n"], ["p0"])], "p0"
    for i in range(14):
        nodes.append(node("Mul", [last, last], [f"p{i + 1}"]))
        last = f"p{i + 1}"
    rows, root = rows_of([*nodes, node("Add", [last, "h"], ["y"])], "y")
    assert list(blends(rows, root)) == []


@pytest.mark.parametrize(
    "nodes, function",
    [
        ([node("Sigmoid", ["a"], ["y"])], Function("Sigmoid")),
        ([node("HardSigmoid", ["a"], ["y"])], Function("HardSigmoid", (np.float32(0.2), 0.5))),
        ([node("Elu", ["a"], ["y"], alpha=0.5)], Function("Elu", (0.5,))),
        ([node("Clip", ["a", "zero", "one"], ["y"])], Function("HardSigmoid", (1.0, 0.0))),
        (
            [node("Mul", ["a", "half"], ["p"]), node("Add", ["two", "p"], ["q"]),
            node("Clip", ["q", "zero", "one"], ["y"])],
            Function("HardSigmoid", (0.5, 2.0)),
        ),
        ([node("Clip", ["a", "minus", "one"], ["y"])], None),
        ([node("Clip", ["a", "zero"], ["y"])], None),
        ([node("Neg", ["a"], ["y"])], None),
    ],
)  # fmt: skip
def test_activations(nodes, function):
    numbers = {"zero": 0, "half": 0.5, "two": 2, "minus": -1}
    rows, root = rows_of(nodes, "y", {k: np.float32(v) for k, v in numbers.items()})
    found = gate(rows, root)
    assert (found is None) == (function is None)
    if found is not None and function is not None:
        assert found.function.name == function.name
        np.testing.assert_allclose(found.function.numbers, function.numbers, rtol=1e-7)
        assert found.source.name == "a"


def test_only_functions_that_mirror_may_change_sides():
    assert Function("Sigmoid").mirrors
    assert Function("HardSigmoid", (0.2, 0.5)).mirrors
    assert not Function("HardSigmoid", (1.0, 0.0)).mirrors
    assert not Function("Tanh").mirrors


def test_a_sum_is_its_products_and_its_constants():
    """Every way to write A·W + h·U + constants, against NumPy in float64."""
    r = rng()
    w = {k: r.normal(size=(N, N)).astype(np.float32) for k in ("W", "U")} | {
        k: r.normal(size=N).astype(np.float32) for k in ("p", "q")
    }
    values = {k: r.normal(size=(1, N)) for k in "ah"}
    ways = {
        "gemm": [node("Gemm", ["a", "W", "p"], ["s"]), node("Gemm", ["h", "U"], ["t"], transB=1, alpha=2.0),
                 node("Add", ["s", "t"], ["u"]), node("Sub", ["u", "q"], ["y"])],
        "matmul": [node("MatMul", ["a", "W"], ["s"]), node("MatMul", ["h", "U"], ["t"]), node("Sub", ["s", "t"], ["u"]),
                   node("Sum", ["q", "u", "p"], ["y"])],
        "gemm on gemm": [node("Gemm", ["h", "U", "q"], ["t"]), node("Gemm", ["a", "W", "t"], ["u"]),
            node("Neg", ["u"], ["y"])],
    }  # fmt: skip
    a, h = values["a"] @ w["W"], values["h"]
    expected = {
        "gemm": a + w["p"].astype(float) + 2 * h @ w["U"].T - w["q"],
        "matmul": a - h @ w["U"] + w["q"] + w["p"].astype(float),
        "gemm on gemm": -(a + h @ w["U"] + w["q"]),
    }
    for (way, nodes), (lo, hi) in itertools.product(ways.items(), [(0, N), (1, 3)]):
        rows, _ = rows_of(nodes, "y", w)
        total = linear(rows, Ref("y", None, lo, hi))
        assert not total.rest
        assert {source.name for source, _ in total.products} == {"a", "h"}
        y = total.bias + sum(values[s.name] @ weight.array(rows.constants).T for s, weight in total.products)
        np.testing.assert_allclose(y, expected[way][:, lo:hi], rtol=1e-12)


def test_what_is_no_sum_of_products_is_the_rest():
    nodes = [node("MatMul", ["a", "W"], ["s"]), node("Mul", ["h", "h"], ["t"]), node("Sub", ["s", "t"], ["y"])]
    rows, root = rows_of(nodes, "y", {"W": np.eye(N, dtype=np.float32)})
    total = linear(rows, root)
    assert [(sign, ref.name) for sign, ref in total.rest] == [(-1.0, "t")]
    assert len(total.products) == 1
