"""Loops that an exporter unrolled: copies of a cell become one GRU over all steps, where that is what they are."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from onnx import helper
from torch import nn

from export.cells import BLENDS, TOLERANCE, Fused, H, I, Joined, Raw, Separate, assert_steps, exported, grus
from export.graphs import assert_close, model, onnxruntime, stream, whole
from streamgru_export.compiler.compile import compile
from streamgru_export.oracle.model import Float64Model

EXPORTERS = pytest.mark.parametrize(
    "dynamo", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["legacy", "dynamo"]
)  # test_forms.py has the default exporter's forms
T = 6
SEED = 21


class Unrolled(nn.Module):
    """A Python loop over a cell, from zeros; a layer before and behind every step."""

    def __init__(self, cell, batch_first=True, before=False, head=True, start=None):
        super().__init__()
        self.cell, self.batch_first = cell, batch_first
        self.before = nn.Linear(I, I) if before else nn.Identity()
        self.head = nn.Linear(H, 2) if head else nn.Identity()
        self.start = None if start is None else nn.Parameter(start)

    def forward(self, x):
        axis = int(self.batch_first)
        h = torch.zeros(x.shape[1 - axis], H) if self.start is None else self.start
        frames = []
        for t in range(x.shape[axis]):
            h = self.cell(torch.relu(self.before(x.select(axis, t))) if self.before else x.select(axis, t), h)
            frames.append(self.head(h))
        return torch.stack(frames, axis), h


def unrolled(module, dynamo, batch=1, batch_first=True):
    print(f"seed {SEED}")
    torch.manual_seed(SEED)
    shape = (batch, T, I) if batch_first else (T, batch, I)
    return exported(module(), (torch.randn(shape),), (["x"], ["y", "hn"]), dynamo)


def feeds(source, seed=SEED):
    shape = [d.dim_value for d in source.graph.input[0].type.tensor_type.shape.dim]
    return {"x": np.random.default_rng(seed).normal(size=shape).astype(np.float32)}


def assert_streams(source, lbr=1, inputs=I):
    """One GRU; the stream of frames gives what the whole gives; so does the whole."""
    compiled, x = compile(source), feeds(source)
    assert grus(compiled) == [{"T": 1, "B": 1, "I": inputs, "H": H, "lbr": lbr}]
    assert (compiled.kind, len(compiled.states)) == ("sequence", 1)
    assert any(f"{T} copies of a GRU cell" in note.text for note in compiled.notes)
    expected = onnxruntime(source, x)
    assert_close(stream(compiled, x), expected, TOLERANCE)
    assert_close(stream(compiled, x), Float64Model(source).run(x), TOLERANCE)
    assert_whole(source, [{"T": T, "B": 1, "I": inputs, "H": H, "lbr": lbr}])


def assert_whole(source, expected):
    compiled, x = compile(source, mode="whole"), feeds(source)
    assert grus(compiled) == expected
    assert_close(whole(compiled, x), onnxruntime(source, x), TOLERANCE)
    assert_close(whole(compiled, x), Float64Model(source).run(x), TOLERANCE)


@EXPORTERS
@pytest.mark.parametrize("batch_first", [True, False])
def test_a_loop_over_a_gru_cell_streams(dynamo, batch_first):
    source = unrolled(lambda: Unrolled(nn.GRUCell(I, H), batch_first), dynamo, batch_first=batch_first)
    assert_streams(source)


@EXPORTERS
def test_the_layer_before_every_step_comes_along(dynamo):
    assert_streams(unrolled(lambda: Unrolled(nn.GRUCell(I, H), before=True), dynamo))


@EXPORTERS
@pytest.mark.parametrize(
    "cell, lbr",
    [
        (Fused, 1),
        (lambda: Separate("(1-z)*h+z*n"), 1),
        (lambda: Separate("h+z*(n-h)", before=True), 0),
        (Joined, 0),
        (Raw, 1),
    ],
    ids=["fused", "separate", "reset before", "joined", "raw"],
)
def test_a_loop_over_a_hand_written_cell_streams(dynamo, cell, lbr):
    assert_streams(unrolled(lambda: Unrolled(cell()), dynamo), lbr)


@EXPORTERS
def test_a_learned_initial_state_is_what_the_state_is_reset_to(dynamo):
    assert_streams(unrolled(lambda: Unrolled(nn.GRUCell(I, H), start=torch.randn(1, H)), dynamo))


@EXPORTERS
def test_a_batch_is_one_gru_too(dynamo):
    source = unrolled(lambda: Unrolled(nn.GRUCell(I, H)), dynamo, batch=3)
    assert_whole(source, [{"T": T, "B": 3, "I": I, "H": H, "lbr": 1}])


class TwoLayers(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.head = nn.GRUCell(I, H), nn.GRUCell(H, H), nn.Linear(H, 2)

    def forward(self, x):
        a, b = torch.zeros(1, H), torch.zeros(1, H)
        frames = []
        for t in range(x.shape[1]):
            a = self.a(x[:, t], a)
            b = self.b(a, b)
            frames.append(torch.sigmoid(self.head(b) * a[:, :2]))
        return torch.stack(frames, 1), b


@EXPORTERS
def test_two_layers_in_one_loop(dynamo):
    source = unrolled(TwoLayers, dynamo)
    compiled, x = compile(source), feeds(source)
    assert [g["T"] for g in grus(compiled)] == [1, 1]
    assert len(compiled.states) == 2
    assert_close(stream(compiled, x), onnxruntime(source, x), TOLERANCE)
    assert [g["T"] for g in grus(compile(source, mode="whole"))] == [T, T]


class Greedy(nn.Module):
    """A decoder: each step's input is made from the step before."""

    def __init__(self):
        super().__init__()
        self.cell, self.embed, self.out = nn.GRUCell(I, H), nn.Embedding(4, I), nn.Linear(H, 4)

    def forward(self, x):
        h, frames = x, []
        token = torch.zeros(1, dtype=torch.int64)
        for _ in range(4):
            h = self.cell(self.embed(token), h)
            logits = self.out(h)
            token = logits.argmax(1)
            frames.append(logits)
        return torch.stack(frames, 1), h


@EXPORTERS
def test_a_decoder_that_feeds_itself_runs_step_after_step(dynamo):
    torch.manual_seed(SEED)
    source = exported(Greedy(), (torch.randn(1, H),), (["x"], ["y", "hn"]), dynamo)
    compiled = compile(source, mode="whole")
    x = feeds(source)
    assert [g["T"] for g in grus(compiled)] == [1] * 3  # of the first, whose input is a constant, no W is left
    assert_close(whole(compiled, x), onnxruntime(source, x), TOLERANCE)


class Changing(nn.Module):
    """The last step's weights are others."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.GRUCell(I, H), nn.GRUCell(I, H)

    def forward(self, x):
        h, frames = torch.zeros(1, H), []
        for t in range(T):
            h = (self.b if t == T - 1 else self.a)(x[:, t], h)
            frames.append(h)
        return torch.stack(frames, 1), h


@EXPORTERS
def test_copies_with_other_weights_are_no_copies(dynamo):
    source = unrolled(Changing, dynamo)
    compiled, x = compile(source, mode="whole"), feeds(source)
    assert sorted(g["T"] for g in grus(compiled)) == [1, T - 1]
    assert_close(whole(compiled, x), onnxruntime(source, x), TOLERANCE)


class Backwards(nn.Module):
    def __init__(self):
        super().__init__()
        self.cell = nn.GRUCell(I, H)

    def forward(self, x):
        h, frames = torch.zeros(1, H), []
        for t in reversed(range(T)):
            h = self.cell(x[:, t], h)
            frames.append(h)
        return torch.stack(frames[::-1], 1), h


@EXPORTERS
def test_a_loop_from_the_end_runs_whole(dynamo):
    source = unrolled(Backwards, dynamo)
    assert_whole(source, [{"T": T, "B": 1, "I": I, "H": H, "lbr": 1}])
    compiled, x = compile(source), feeds(source)
    assert compiled.kind == "step"  # all T frames in one call: the graph has them all
    assert any("stay together" in note.text for note in compiled.notes)
    assert_close(whole(compiled, x), onnxruntime(source, x), TOLERANCE)


class Normed(nn.Module):
    """A norm between the steps: no two cells hand their state on as it is."""

    def __init__(self):
        super().__init__()
        self.cell, self.norm = nn.GRUCell(I, H), nn.LayerNorm(H)

    def forward(self, x):
        h, frames = x[:, 0].repeat(1, 2)[:, :H], []
        for t in range(T):
            h = self.norm(self.cell(x[:, t], h))
            frames.append(h)
        return torch.stack(frames, 1), h


@EXPORTERS
def test_a_norm_between_the_steps_keeps_them_apart(dynamo):
    source = unrolled(Normed, dynamo)
    compiled, x = compile(source, mode="whole"), feeds(source)
    assert [g["T"] for g in grus(compiled)] == [1] * T
    assert_close(whole(compiled, x), onnxruntime(source, x), TOLERANCE)


def test_a_projection_of_all_steps_at_once_is_seen_through():
    """As torch.export's decomposition writes it: x·W for all steps, then one row of it for each."""
    print(f"seed {SEED}")
    r = np.random.default_rng(SEED)
    node = helper.make_node
    weights = {"W": r.normal(size=(I, 3 * H)), "U": r.normal(size=(H, 3 * H)), "b": r.normal(size=3 * H) / 2}
    constants = {k: (v / 2).astype(np.float32) for k, v in weights.items()}
    constants |= {"one": np.float32(1), "h0": np.zeros((1, H), np.float32), "zero": np.int64([0])}
    nodes = [node("MatMul", ["x", "W"], ["p"]), node("Add", ["p", "b"], ["a"])]
    for t in range(T):
        constants[f"t{t}"] = np.int64(t)
        h = "h0" if t == 0 else f"h{t}_"
        nodes += [
            node("Gather", ["a", f"t{t}"], [f"a{t}"], axis=0),
            node("MatMul", [h, "U"], [f"u{t}"]),
            node("Split", [f"a{t}"], [f"az{t}", f"ar{t}", f"an{t}"], axis=1, num_outputs=3),
            node("Split", [f"u{t}"], [f"uz{t}", f"ur{t}", f"un{t}"], axis=1, num_outputs=3),
            *[node("Add", [f"a{g}{t}", f"u{g}{t}"], [f"s{g}{t}"]) for g in "zr"],
            *[node("Sigmoid", [f"s{g}{t}"], [f"{g}{t}"]) for g in "zr"],
            node("Mul", [f"r{t}", f"un{t}"], [f"q{t}"]),
            node("Add", [f"an{t}", f"q{t}"], [f"sn{t}"]),
            node("Tanh", [f"sn{t}"], [f"n{t}"]),
            node("Sub", ["one", f"z{t}"], [f"y{t}"]),
            node("Mul", [f"y{t}", f"n{t}"], [f"c{t}"]),
            node("Mul", [f"z{t}", h], [f"d{t}"]),
            node("Add", [f"c{t}", f"d{t}"], [f"h{t + 1}_"]),
            node("Unsqueeze", [f"h{t + 1}_", "zero"], [f"f{t}"]),
        ]
    nodes.append(node("Concat", [f"f{t}" for t in range(T)], ["y"], axis=0))
    source = model(nodes, {"x": [T, 1, I]}, ["y"], constants, opset=18)
    assert_streams(source)


@pytest.mark.parametrize("blend", list(BLENDS)[:6])
def test_the_first_step_from_zeros_is_known_in_every_blend(blend):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        source = unrolled(lambda: Unrolled(Fused(blend), head=False), False)
    assert_streams(source)


def test_a_first_step_that_is_another_cell_stays_apart():
    """It starts from zeros as a first step does, but its bias is not the others'."""

    class Other(Unrolled):
        def forward(self, x):
            h = self.first(x[:, 0], torch.zeros(1, H))
            frames = [h]
            for t in range(1, T):
                h = self.cell(x[:, t], h)
                frames.append(h)
            return torch.stack(frames, 1), h

    def make():
        module = Other(nn.GRUCell(I, H), head=False)
        module.first = nn.GRUCell(I, H)
        module.first.load_state_dict(module.cell.state_dict())
        module.first.bias_hh.data[0] += 0.1
        return module

    source = unrolled(make, False)
    compiled, x = compile(source, mode="whole"), feeds(source)
    assert [g["T"] for g in grus(compiled)] == [T - 1]
    assert_close(whole(compiled, x), onnxruntime(source, x), TOLERANCE)


class Handed(nn.Module):
    """Some frames in one call, the state in and out."""

    def __init__(self):
        super().__init__()
        self.cell = nn.GRUCell(I, H)

    def forward(self, x, h):
        frames = []
        for t in range(x.shape[1]):
            h = self.cell(x[:, t], h)
            frames.append(h)
        return torch.stack(frames, 1), h


@EXPORTERS
def test_frames_in_one_call_with_the_state_handed_on(dynamo):
    torch.manual_seed(SEED)
    source = exported(Handed(), (torch.randn(1, T, I), torch.zeros(1, H)), (["x", "h"], ["y", "hn"]), dynamo)
    compiled = compile(source)
    assert (compiled.kind, compiled.pairs) == ("step", [("h", "hn")])
    assert [g["T"] for g in grus(compiled)] == [T]
    assert_steps(source, compiled)


class EveryFrame(nn.Module):
    """A GRU over time, then a cell's algebra on every frame of two sequences."""

    def __init__(self):
        super().__init__()
        self.gru, self.cell = nn.GRU(I, H, batch_first=True), Separate()

    def forward(self, x):
        return self.cell(x, self.gru(x)[0])


def test_a_cell_on_every_frame_is_no_recurrence_over_time():
    torch.manual_seed(SEED)
    source = exported(EveryFrame(), (torch.randn(1, 4, I),), (["x"], ["y"]), False, {"x": {1: "t"}, "y": {1: "t"}})
    compiled, x = compile(source), {"x": np.random.default_rng(SEED).normal(size=(1, T, I)).astype(np.float32)}
    assert len(grus(compiled)) == 2
    assert len(compiled.states) == 1
    assert_close(stream(compiled, x), onnxruntime(source, x), TOLERANCE)
    complete = compile(source, mode="whole", length=T)
    assert sorted((g["T"], g["B"]) for g in grus(complete)) == [(1, T), (T, 1)]
    assert_close(whole(complete, x), Float64Model(source).run(x), TOLERANCE)
