"""From a blend to a GRU cell: W, R and B are those that the cell was written with, by NumPy in float64."""

from __future__ import annotations

import numpy as np
import pytest

from export.graphs import model, node, rng
from streamgru_export.compiler.cells.cells import find_cell
from streamgru_export.compiler.graph.onnx_reader import read
from streamgru_export.compiler.graph.rows import Rows
from streamgru_export.compiler.static import specialise
from streamgru_export.oracle.model import Float64Model, gru

I, H = 3, 4  # noqa: E741 - the field's names
GATES = "zrn"


def weights(r):
    """W [I, H], U [H, H], b and c [H] of each gate."""
    found = {"one": np.float32(1)}
    for g in GATES:
        found |= {f"W{g}": r.normal(size=(I, H)), f"U{g}": r.normal(size=(H, H))}
        found |= {f"b{g}": r.normal(size=H), f"c{g}": r.normal(size=H)}
    return {k: np.float32(v) for k, v in found.items()}


def projected(g):
    """x·W + b and h·U + c of a gate."""
    return [
        node("MatMul", ["x", f"W{g}"], [f"xw{g}"]), node("Add", [f"xw{g}", f"b{g}"], [f"a{g}"]),
        node("MatMul", ["h", f"U{g}"], [f"hu{g}"]), node("Add", [f"hu{g}", f"c{g}"], [f"d{g}"]),
    ]  # fmt: skip


def gates():
    nodes = []
    for g in "zr":
        nodes += [*projected(g), node("Add", [f"a{g}", f"d{g}"], [f"s{g}"]), node("Sigmoid", [f"s{g}"], [g])]
    return nodes


AFTER = [
    *projected("n"),
    node("Mul", ["r", "dn"], ["q"]),
    node("Add", ["an", "q"], ["sn"]),
    node("Tanh", ["sn"], ["n"]),
]
BEFORE = [
    node("MatMul", ["x", "Wn"], ["xwn"]), node("Add", ["xwn", "bn"], ["an"]),
    node("Mul", ["r", "h"], ["rh"]), node("MatMul", ["rh", "Un"], ["hun"]), node("Add", ["hun", "cn"], ["dn"]),
    node("Add", ["an", "dn"], ["sn"]), node("Tanh", ["sn"], ["n"]),
]  # fmt: skip
KEPT = [node("Sub", ["one", "z"], ["k"]), node("Mul", ["k", "n"], ["kn"]), node("Mul", ["z", "h"], ["zh"]),
        node("Add", ["kn", "zh"], ["y"])]  # fmt: skip
TAKEN = [node("Sub", ["n", "h"], ["e"]), node("Mul", ["z", "e"], ["ze"]), node("Add", ["h", "ze"], ["y"])]


@pytest.fixture(autouse=True)
def _in_pieces(monkeypatch):
    """What finds cells is under test, not what puts GRUs in their place."""
    monkeypatch.setattr(specialise, "recognise", lambda graph: graph, raising=False)


def cell_of(nodes, constants, inputs=None, root="y"):
    """The cell that ends in `root`, and the rows that it was found in."""
    source = model(nodes, inputs or {"x": [2, I], "h": [2, H]}, [root], constants, opset=17)
    rows = Rows(specialise.specialise(read(source), {}))
    return find_cell(rows, root), rows, source


def joined(w, names):
    """ONNX's order: z, r, h; a row for each unit."""
    return np.concatenate([w[n].T for n in names]).astype(np.float64)


@pytest.mark.parametrize("candidate, lbr", [(AFTER, 1), (BEFORE, 0)], ids=["reset after", "reset before"])
@pytest.mark.parametrize("blend, sign", [(KEPT, 1), (TAKEN, -1)], ids=["z keeps h", "z takes n"])
def test_the_matrices_are_those_the_cell_was_written_with(candidate, lbr, blend, sign):
    w = weights(rng())
    cell, rows, source = cell_of([*gates(), *candidate, *blend], w)
    assert (cell.size, cell.widths, [x.name for x in cell.xs], cell.h.name) == (H, [I], ["x"], "h")
    assert cell.parameters.linear_before_reset == lbr
    signs = np.repeat([sign, 1, 1], H)  # 1 - f(a) = f(-a)
    np.testing.assert_array_equal(cell.w(rows), signs[:, None] * joined(w, ("Wz", "Wr", "Wn")))
    np.testing.assert_array_equal(cell.r(rows), signs[:, None] * joined(w, ("Uz", "Ur", "Un")))
    outer = [
        w["bz"] + np.float64(w["cz"]),
        w["br"] + np.float64(w["cr"]),
        w["bn"] + (0 if lbr else np.float64(w["cn"])),
    ]
    bias, inner = cell.b()[: 3 * H], cell.b()[3 * H :]
    np.testing.assert_allclose(bias, signs * np.concatenate(outer), rtol=1e-7)
    np.testing.assert_array_equal(inner, np.concatenate([np.zeros(2 * H), w["cn"] if lbr else np.zeros(H)]))
    assert_same_numbers(cell, rows, source)


def assert_same_numbers(cell, rows, source):
    """A GRU of these weights gives what the pieces give, both in float64."""
    x, h = (rng().normal(size=(2, n)) for n in (sum(cell.widths), H))
    starts = np.cumsum([0, *cell.widths])
    feeds = {ref.name: x[:, a:b] for ref, a, b in zip(cell.xs, starts, starts[1:], strict=False)} | {"h": h}
    expected = Float64Model(source).run(feeds)["y"]
    f, g = cell.parameters.f, cell.parameters.g
    assert (f.name, g.name) == ("Sigmoid", "Tanh")
    _, found = gru(
        x[None], cell.w(rows)[None], cell.r(rows)[None], cell.b()[None].astype(np.float64), initial_h=h[None],
        hidden_size=H, linear_before_reset=cell.parameters.linear_before_reset,
    )  # fmt: skip
    np.testing.assert_allclose(found[0], expected, rtol=0, atol=1e-6)  # biases were rounded to float32


@pytest.mark.parametrize("h_first", [True, False])
def test_one_matrix_on_state_and_input_is_taken_apart(h_first):
    w = weights(rng())
    order = ["h", "x"] if h_first else ["x", "h"]
    nodes = [node("Concat", order, ["j"], axis=1), node("Mul", ["r", "h"], ["rh"]),
             node("Concat", ["rh" if n == "h" else n for n in order], ["jn"], axis=1)]  # fmt: skip
    for g, j in (("z", "j"), ("r", "j"), ("n", "jn")):
        blocks = [w[f"U{g}"], w[f"W{g}"]] if h_first else [w[f"W{g}"], w[f"U{g}"]]
        w[f"J{g}"] = np.concatenate(blocks)
        made = [node("Gemm", [j, f"J{g}", f"b{g}"], [f"s{g}"]), node("Tanh" if g == "n" else "Sigmoid", [f"s{g}"], [g])]
        nodes[1 if g in "zr" else len(nodes) : 1 if g in "zr" else len(nodes)] = made
    cell, rows, source = cell_of([*nodes, *KEPT], w)
    assert cell.parameters.linear_before_reset == 0
    np.testing.assert_array_equal(cell.w(rows), joined(w, ("Wz", "Wr", "Wn")))
    np.testing.assert_array_equal(cell.r(rows), joined(w, ("Uz", "Ur", "Un")))
    assert_same_numbers(cell, rows, source)


def test_two_inputs_of_which_a_gate_reads_one():
    w = weights(rng()) | {"V": rng().normal(size=(5, H)).astype(np.float32)}
    nodes = [n for n in gates() if n.output[0] not in ("sz", "z")]
    more = [node("MatMul", ["u", "V"], ["uv"]), node("Add", ["az", "uv"], ["au"]), node("Add", ["au", "dz"], ["sz"]),
            node("Sigmoid", ["sz"], ["z"])]  # fmt: skip
    cell, rows, source = cell_of([*nodes, *more, *AFTER, *KEPT], w, {"x": [2, I], "u": [2, 5], "h": [2, H]})
    assert {x.name: n for x, n in zip(cell.xs, cell.widths, strict=True)} == {"x": I, "u": 5}
    assert_same_numbers(cell, rows, source)
    at = 0 if cell.xs[0].name == "u" else I
    np.testing.assert_array_equal(cell.w(rows)[:H, at : at + 5], w["V"].T)
    assert not cell.w(rows)[H:, at : at + 5].any()  # r and the candidate do not read it


def without(nodes, *outputs):
    return [n for n in nodes if n.output[0] not in outputs]


CLIP = [node("Clip", ["sz", "zero", "one"], ["z"])]  # a hard sigmoid that has no mirror
OTHERS = {
    "gates of two functions": [*without(gates(), "z"), node("HardSigmoid", ["sz"], ["z"]), *AFTER, *KEPT],
    "a reset that is no gate": [*without(gates(), "r"), node("Relu", ["sr"], ["r"]), *AFTER, *KEPT],
    "z for r": [*without(gates(), "sr", "r"), *without(AFTER, "q", "sn", "n"), node("Mul", ["z", "dn"], ["q"]),
                *AFTER[-2:], *KEPT],
    "an input of the reset product": [*gates(), *without(AFTER, "q", "sn", "n"), node("Add", ["dn", "x2"], ["dx"]),
                                      node("Mul", ["r", "dx"], ["q"]), *AFTER[-2:], *KEPT],
    "another state in the gate": [*gates(), *without(AFTER, "hun", "dn", "q", "sn", "n"),
                                  node("MatMul", ["x2", "Un"], ["other"]), node("Add", ["other", "cn"], ["dn"]),
                                  *AFTER[-3:], *KEPT],
    "no mirror": [*without(gates(), "z", "r"), *CLIP, node("Clip", ["sr", "zero", "one"], ["r"]), *AFTER, *TAKEN],
    "one minus z twice": [*gates(), *AFTER, *without(KEPT, "zh", "y"), node("Mul", ["k", "h"], ["zh"]), KEPT[-1]],
}  # fmt: skip


@pytest.mark.parametrize("name", list(OTHERS))
def test_what_is_no_cell_is_none(name):
    w = weights(rng()) | {"zero": np.float32(0)}
    assert cell_of(OTHERS[name], w, {"x": [2, I], "h": [2, H], "x2": [2, H]})[0] is None


def test_a_hard_sigmoid_without_a_mirror_may_keep_h():
    """Only where z takes the candidate have its rows to change sign."""
    w = weights(rng()) | {"zero": np.float32(0)}
    nodes = [*without(gates(), "z", "r"), *CLIP, node("Clip", ["sr", "zero", "one"], ["r"]), *AFTER, *KEPT]
    cell, _, _ = cell_of(nodes, w)
    assert (cell.parameters.f.name, cell.parameters.f.numbers) == ("HardSigmoid", (1.0, 0.0))


def test_an_input_made_from_the_cells_own_gate_is_none():
    nodes = [*gates(), node("Mul", ["z", "x2"], ["zx"]), node("MatMul", ["zx", "Wn2"], ["xwn"]),
             *[n for n in AFTER if n.output[0] != "xwn"], *KEPT]  # fmt: skip
    w = weights(rng()) | {"Wn2": np.eye(H, dtype=np.float32)}
    assert cell_of(nodes, w, {"x": [2, I], "h": [2, H], "x2": [2, H]})[0] is None


def test_integers_and_numbers_are_no_cells():
    for nodes, inputs in (([node("Add", ["a", "b"], ["y"])], {"a": [3], "b": [3]}),
                          ([node("Add", ["a", "b"], ["y"])], {"a": [], "b": []})):  # fmt: skip
        assert cell_of(nodes, {}, inputs)[0] is None


@pytest.mark.parametrize("start", [0.0, 0.5])
@pytest.mark.parametrize("candidate", [AFTER, BEFORE], ids=["reset after", "reset before"])
def test_the_first_step_from_a_constant_is_known_by_the_steps_after_it(start, candidate):
    """Its products with R are constants; the copy of the cell tells which."""
    w = weights(rng())
    cell, rows, _ = cell_of([*gates(), *candidate, *KEPT], w)
    known = {"h": np.full((2, H), start, np.float32)}
    first, _, _ = cell_of([*gates(), *candidate, *KEPT], w | known, {"x": [2, I]})
    assert first.h is None
    np.testing.assert_array_equal(first.start, np.full(H, start))
    assert first.is_first_of(cell, rows)
    assert not cell.is_first_of(cell, rows)
    other = w | {"bz": w["bz"] + np.float32(0.1)}
    changed, _, _ = cell_of([*gates(), *candidate, *KEPT], other | known, {"x": [2, I]})
    assert not changed.is_first_of(cell, rows)
