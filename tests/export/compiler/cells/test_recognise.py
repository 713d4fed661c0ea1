"""GRU cells in pieces, as both exporters of PyTorch write them, become GRU operators; what is nearly one does not."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 - its usual name

import streamgru
from export.cells import (
    BLENDS,
    SIGMA,
    TANH,
    Fused,
    H,
    I,
    Joined,
    Net,
    Raw,
    Separate,
    assert_steps,
    exported,
    grus,
    step_graph,
)
from real_models import MODELS
from streamgru_export.compiler.compile import compile

EXPORTERS = pytest.mark.parametrize(
    "dynamo", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["legacy", "dynamo"]
)  # test_forms.py has the default exporter's forms


def assert_recognised(source, lbr, batch=1):
    compiled = compile(source)
    assert grus(compiled) == [{"T": 1, "B": batch, "I": I, "H": H, "lbr": lbr}]
    assert compiled.pairs == [("h", "hn")]
    assert any(f"are a GRU cell, linear_before_reset={lbr}" in note.text for note in compiled.notes)
    assert_steps(source, compiled)
    return compiled


def assert_left_alone(source):
    compiled = compile(source)
    assert grus(compiled) == []
    assert_steps(source, compiled)


# ---- spellings ----


@EXPORTERS
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("batch", [1, 3])
def test_torch_gru_cell(dynamo, bias, batch):
    assert_recognised(step_graph(lambda: nn.GRUCell(I, H, bias), dynamo, batch), 1, batch)


@pytest.mark.parametrize("blend", BLENDS)
@pytest.mark.parametrize(
    "dynamo, before", [(False, False), (False, True), (True, False)], ids=["legacy", "legacy, reset before", "dynamo"]
)
def test_every_blend(dynamo, before, blend):
    assert_recognised(step_graph(lambda: Separate(blend, before), dynamo), int(not before))


@pytest.mark.parametrize("blend", BLENDS)
def test_every_blend_of_a_linear_candidate(blend):
    before = list(BLENDS).index(blend) % 2 == 1
    assert_recognised(step_graph(lambda: Raw(before, blend, tanh=lambda v: v), False), int(not before))


CELLS = {
    "fused": (Fused, 1),
    "fused without bias": (lambda: Fused(bias=False), 1),
    "fused, sigmoid before the split": (lambda: Fused(early=True), 1),
    "[h, x], both gates": (Joined, 0),
    "[x, h], both gates": (lambda: Joined(h_first=False), 0),
    "[h, x], each gate": (lambda: Joined(both=False), 0),
    "[x, h], each gate": (lambda: Joined(h_first=False, both=False, blend="(h-n)*z+n"), 0),
    "raw, reset after": (Raw, 1),
    "raw, reset before": (lambda: Raw(before=True), 0),
    "hard sigmoid": (lambda: Fused(sigma=F.hardsigmoid), 1),
    "hard sigmoid, z on the candidate": (lambda: Fused("(1-z)*h+z*n", sigma=F.hardsigmoid), 1),
    "relu candidate": (lambda: Fused(tanh=torch.relu), 1),
    "elu candidate": (lambda: Fused(tanh=lambda v: F.elu(v, 0.7)), 1),
    "leaky relu candidate and hard sigmoid": (
        lambda: Fused(sigma=F.hardsigmoid, tanh=lambda v: F.leaky_relu(v, 0.3)),
        1,
    ),
    "Keras's hard sigmoid": (lambda: Fused(sigma=lambda v: torch.clamp(0.2 * v + 0.5, 0, 1)), 1),
    "hard sigmoid of min and max": (lambda: Fused(sigma=min_max), 1),
    "linear candidate": (lambda: Fused(sigma=min_max, tanh=lambda v: v), 1),
    "linear candidate, reset before": (lambda: Raw(before=True, tanh=lambda v: v), 0),
}


def min_max(v):
    """As TensorFlow writes clip_by_value(0.2 v + 0.5, 0, 1)."""
    return torch.maximum(torch.minimum(0.2 * v + 0.5, torch.tensor(1.0)), torch.tensor(0.0))


@EXPORTERS
@pytest.mark.parametrize("name", CELLS)
def test_every_way_to_project(dynamo, name):
    cell, lbr = CELLS[name]
    assert_recognised(step_graph(cell, dynamo), lbr)


@EXPORTERS
def test_the_state_is_written_in_place(dynamo):
    compiled = compile(step_graph(lambda: nn.GRUCell(I, H), dynamo))
    assert [op.code.name for op in compiled.program.operators] == ["GRU", "AFFINE"]


def test_a_cell_and_a_gru_node_with_the_same_weights_give_the_same_bits():
    torch.manual_seed(5)
    cell, gru = nn.GRUCell(I, H), nn.GRU(I, H)
    for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
        getattr(gru, f"{kind}_l0").data = getattr(cell, kind).data
    one = exported(Net(cell), (torch.randn(1, I), torch.randn(1, H)), (["x", "h"], ["y", "hn"]), False)

    class Node(nn.Module):
        def forward(self, x, h):
            y, hn = gru(x, h)
            return net.head(y[0]), hn

    torch.manual_seed(5)
    net = Net(nn.GRUCell(I, H))
    net.head.load_state_dict({k: torch.tensor(v) for k, v in _head(one).items()})
    node = Node()
    node.gru, node.net = gru, net
    two = exported(node, (torch.randn(1, 1, I), torch.randn(1, 1, H)), (["x", "h"], ["y", "hn"]), False)
    streams = [streamgru.Model(compile(m).image).stream() for m in (one, two)]
    rng = np.random.default_rng(6)
    for _ in range(200):
        x = rng.normal(size=(1, I)).astype(np.float32)
        a, b = streams[0].step(x), streams[1].step(x[None])
        assert np.array_equal(a, b)


def _head(model):
    from onnx import numpy_helper

    return {t.name.removeprefix("head."): numpy_helper.to_array(t) for t in model.graph.initializer if "head" in t.name}


@pytest.mark.skipif(not MODELS.is_dir(), reason=f"no real models at {MODELS}; set STREAMGRU_MODELS")
def test_the_g2p_decoder_as_a_cell_and_as_a_node_gives_the_same_bits():
    folder = MODELS / "g2p-en"
    streams = [streamgru.load(folder / f"decoder_{kind}.onnx").stream() for kind in ("gru", "grucell")]
    rng = np.random.default_rng(7)
    for _ in range(300):
        frame = {"tok": rng.integers(0, 74, 1)}
        a, b = (s.step(frame) for s in streams)
        assert set(a) == {"logits", "next"}
        assert all(np.array_equal(a[name], b[name]) for name in a)


# ---- more than one ----


class Several(nn.Module):
    """Two cells, one on top of the other, whose states lie in one tensor."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.GRUCell(I, H), nn.GRUCell(H, H)

    def forward(self, x, h):
        a = self.a(x, h[:, :H])
        b = self.b(a, h[:, H:])
        return a + b, torch.cat([a, b], 1)


class Stacked(nn.Module):
    """The same with the states along a layer axis."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.GRUCell(I, H), nn.GRUCell(H, H)

    def forward(self, x, h):
        a = self.a(x, h[0])
        b = self.b(a, h[1])
        return a + b, torch.stack([a, b])


@EXPORTERS
@pytest.mark.parametrize("module, shape", [(Several, (1, 2 * H)), (Stacked, (2, 1, H))])
def test_states_in_one_tensor(dynamo, module, shape):
    torch.manual_seed(8)
    source = exported(module(), (torch.randn(1, I), torch.randn(shape)), (["x", "h"], ["y", "hn"]), dynamo)
    compiled = compile(source)
    assert len(grus(compiled)) == 2
    assert compiled.pairs == [("h", "hn")]
    assert_steps(source, compiled)


class TwoInputs(nn.Module):
    """x comes in two parts, joined with h only."""

    def __init__(self):
        super().__init__()
        self.gates, self.n = nn.Linear(2 * I + H, 2 * H), nn.Linear(2 * I + H, H)

    def forward(self, x, u, h):
        z, r = SIGMA(self.gates(torch.cat([x, h, u], 1))).chunk(2, 1)
        n = TANH(self.n(torch.cat([x, r * h, u], 1)))
        h = (1 - z) * n + z * h
        return h[:, :2], h


@EXPORTERS
def test_an_input_on_either_side_of_h(dynamo):
    torch.manual_seed(9)
    args = (torch.randn(1, I), torch.randn(1, I), torch.randn(1, H))
    source = exported(TwoInputs(), args, (["x", "u", "h"], ["y", "hn"]), dynamo)
    compiled = compile(source)
    assert grus(compiled) == [{"T": 1, "B": 1, "I": 2 * I, "H": H, "lbr": 0}]
    assert_steps(source, compiled)


class Around(nn.Module):
    """A cell with something between it and the next step."""

    def __init__(self, what):
        super().__init__()
        self.cell, self.what, self.norm = nn.GRUCell(I, H), what, nn.LayerNorm(H)

    def forward(self, x, h):
        new = self.cell(x, h)
        hn = {"residual": lambda: h + new, "norm": lambda: self.norm(new), "gate": lambda: new * SIGMA(x[:, :1])}
        hn = hn[self.what]()
        return hn[:, :3], hn


@EXPORTERS
@pytest.mark.parametrize("what", ["residual", "norm", "gate"])
def test_what_stands_around_a_cell_runs_by_itself(dynamo, what):
    torch.manual_seed(10)
    source = exported(Around(what), (torch.randn(1, I), torch.randn(1, H)), (["x", "h"], ["y", "hn"]), dynamo)
    compiled = compile(source)
    assert [g["lbr"] for g in grus(compiled)] == [1]
    assert len(compiled.program.operators) > 1
    assert_steps(source, compiled)


class Fusion(nn.Module):
    """No recurrence: a cell's algebra joins two inputs."""

    def __init__(self):
        super().__init__()
        self.cell = nn.GRUCell(I, H)

    def forward(self, x, other):
        return self.cell(x, other)[:, :3]


def test_an_input_in_the_place_of_h_stays_an_input():
    torch.manual_seed(11)
    source = exported(Fusion(), (torch.randn(1, I), torch.randn(1, H)), (["x", "other"], ["y"]), False)
    compiled = compile(source)
    assert len(grus(compiled)) == 1
    assert (set(compiled.inputs), compiled.states) == ({"x", "other"}, {})
    assert_steps(source, compiled, states=())


def test_a_reset_before_the_product_is_no_lost_attribute(recwarn):
    compile(step_graph(lambda: Separate(before=True), False))
    assert not [w for w in recwarn if "linear_before_reset" in str(w.message)]


# ---- nearly ----


class Nearly(nn.Module):
    """A GRU but for one thing."""

    def __init__(self, what):
        super().__init__()
        self.x, self.h, self.extra = nn.Linear(I, 3 * H), nn.Linear(H, 3 * H), nn.Linear(H, H)
        self.norm, self.what = nn.LayerNorm(H), what

    def forward(self, x, h):
        (ar, az, an), (br, bz, bn) = self.x(x).chunk(3, 1), self.h(h).chunk(3, 1)
        r, z, n = SIGMA(ar + br), SIGMA(az + bz), TANH(an + SIGMA(ar + br) * bn)
        what = self.what
        if what == "a sign":
            hn = n + z * (h + n)
        elif what == "the wrong gate":
            hn = (1 - r) * n + z * h
        elif what == "one gate for both":
            hn = (1 - r) * n + r * h
        elif what == "r twice":
            hn = (1 - z) * TANH(r * an + r * bn) + z * h
        elif what == "r squared":
            hn = (1 - z) * TANH(an + r * r * bn) + z * h
        elif what == "another h in the candidate":
            hn = (1 - z) * TANH(an + r * self.h(h * 0.5)[:, 2 * H :]) + z * h
        elif what == "another h in the blend":
            hn = (1 - z) * n + z * (h * 0.5)
        elif what == "no reset":
            hn = (1 - z) * TANH(an + bn) + z * h
        elif what == "x beside h in the reset":
            hn = (1 - z) * TANH(r * (an + bn)) + z * h
        elif what == "a norm in a gate":
            hn = (1 - SIGMA(self.norm(az + bz))) * n + SIGMA(self.norm(az + bz)) * h
        elif what == "a norm in the candidate":
            hn = (1 - z) * TANH(an + r * self.norm(bn)) + z * h
        elif what == "tanh for a gate":
            hn = (1 - TANH(az + bz)) * n + TANH(az + bz) * h
        elif what == "two kinds of sigmoid":
            hn = (1 - F.hardsigmoid(az + bz)) * n + F.hardsigmoid(az + bz) * h
        elif what == "a hard tanh":
            hn = (1 - z) * F.hardtanh(an + r * bn) + z * h
        elif what == "a scaled state":
            hn = (1 - z) * n + 0.9 * (z * h)
        elif what == "a third gate":
            f = SIGMA(self.extra(h))
            hn = f * n + z * h
        elif what == "a gate that reads a gate":
            z = SIGMA(az + bz + self.extra(r))
            hn = (1 - z) * n + z * h
        elif what == "a product of gates":
            hn = (1 - z * r) * n + z * r * h
        return hn[:, :3], hn


NEARLY = [
    "a sign", "the wrong gate", "one gate for both", "r twice", "r squared", "another h in the candidate",
    "another h in the blend", "no reset", "x beside h in the reset", "a norm in a gate", "a norm in the candidate",
    "tanh for a gate", "two kinds of sigmoid", "a hard tanh", "a scaled state", "a third gate",
    "a gate that reads a gate", "a product of gates",
]  # fmt: skip


@pytest.mark.parametrize("what, dynamo", [(w, False) for w in NEARLY] + [(w, True) for w in NEARLY[::3]])
def test_what_is_nearly_a_gru_is_left_alone(what, dynamo):
    torch.manual_seed(12)
    source = exported(Nearly(what), (torch.randn(1, I), torch.randn(1, H)), (["x", "h"], ["y", "hn"]), dynamo)
    assert_left_alone(source)


def test_the_cell_that_the_near_ones_differ_from_is_recognised():
    class Exactly(Nearly):
        def forward(self, x, h):
            (ar, az, an), (br, bz, bn) = self.x(x).chunk(3, 1), self.h(h).chunk(3, 1)
            r, z = SIGMA(ar + br), SIGMA(az + bz)
            hn = (1 - z) * TANH(an + r * bn) + z * h
            return hn[:, :3], hn

    torch.manual_seed(12)
    source = exported(Exactly(""), (torch.randn(1, I), torch.randn(1, H)), (["x", "h"], ["y", "hn"]), False)
    assert_recognised(source, 1)


class MGU(nn.Module):
    """The minimal gated unit: one gate is both."""

    def __init__(self):
        super().__init__()
        self.f, self.n = nn.Linear(I + H, H), nn.Linear(I + H, H)

    def forward(self, x, h):
        f = SIGMA(self.f(torch.cat([x, h], 1)))
        return (1 - f) * h + f * TANH(self.n(torch.cat([x, f * h], 1)))


class Dreamer(nn.Module):
    """DreamerV2's cell: a norm over all gates, the reset inside the tanh, an update bias of −1."""

    def __init__(self):
        super().__init__()
        self.layer, self.norm = nn.Linear(I + H, 3 * H, bias=False), nn.LayerNorm(3 * H)

    def forward(self, x, h):
        reset, candidate, update = self.norm(self.layer(torch.cat([x, h], 1))).chunk(3, 1)
        update = SIGMA(update - 1)
        return update * TANH(SIGMA(reset) * candidate) + (1 - update) * h


@EXPORTERS
@pytest.mark.parametrize("cell", [MGU, Dreamer])
def test_relatives_of_the_gru_are_left_alone(dynamo, cell):
    assert_left_alone(step_graph(cell, dynamo))
