"""The forms in which PyTorch's exporters write GRUs, made here by both, streamed or run whole: parity with onnxruntime
and with the module itself."""

import functools
import warnings

import numpy as np
import onnxruntime as ort
import pytest
import torch
from torch import nn

import forms
import streamgru
from forms import BOTH, Form, H, I, T, export
from streamgru import ModelError

TOLERANCE = 2e-6  # float32 rounding on either side: chains of at most 64 products, states within [-1, 1]
SEED = 20261122
X = torch.randn(1, T, I)
FRAME, STATE = {"x": torch.randn(2, I)}, {"h": torch.randn(2, H)}
IDS = torch.randint(0, 10, (1, T))
GRU_PIECES = frozenset({"GRU", "Slice", "Concat"})  # weights above 8192 elements stay in pieces, H = 64 does it
CELL = {"kind": "step", "outputs": ("y", "hn"), "states": (("h", "hn"),), "holds": frozenset({"Sigmoid", "Tanh"}),
        "lacks": frozenset({"GRU"})}  # fmt: skip
STATEFUL = {"outputs": ("y", "hn"), "states": (("h", "hn"),)}


def cell(number, make, **options):
    return Form(number, lambda: forms.Step(make()), {**FRAME, **STATE}, **{**CELL, **options})


FORMS = {
    "1 weights in pieces": Form(1, lambda: forms.Recurrent(64), {"x": X}, time={"x": 1}, holds=GRU_PIECES,
                                exporters=("dynamo",)),
    "1 weights in pieces, one step": Form(
        1, lambda: forms.WithState(64), {"x": X[:, :1], "h": torch.zeros(1, 1, 64)}, holds=GRU_PIECES,
        exporters=("dynamo",), **{**STATEFUL, "kind": "step"}),
    "2 a GRU node": Form(2, forms.Recurrent, {"x": X}, time={"x": 1}),
    "2 without bias": Form(2, lambda: forms.Recurrent(bias=False), {"x": X}, time={"x": 1}),
    "2 its length a number": Form(2, forms.Recurrent, {"x": X}),
    "3 three layers": Form(3, lambda: forms.WithState(num_layers=3), {"x": X, "h": torch.zeros(3, 1, H)}, time={"x": 1},
                           **STATEFUL),
    "3 two modules, one state": Form(3, forms.TwoModules, {"x": X.transpose(0, 1), "h": torch.zeros(2, 1, H)},
                                     time={"x": 0}, **STATEFUL),
    "4 words": Form(4, forms.Words, {"ids": IDS}, time={"ids": 1}, holds=frozenset({"GRU", "Gather", "LogSoftmax"})),
    "4 a causal convolution": Form(4, forms.Enhancer, {"x": X}, time={"x": 1},
                                   holds=frozenset({"GRU", "Conv", "LayerNormalization"})),
    "4 a head on the last frame": Form(4, lambda: forms.LastOutput(False), {"x": X}, time={"x": 1},
                                       holds=frozenset({"GRU", "Gather", "Gemm"})),
    "4 a head on the last state": Form(4, lambda: forms.LastOutput(True), {"x": X}, time={"x": 1},
                                       holds=frozenset({"GRU", "Gather", "Gemm"})),
    "5 GRUCell": cell(5, lambda: nn.GRUCell(I, H)),
    "5 GRUCell without bias": cell(5, lambda: nn.GRUCell(I, H, bias=False)),
    "6 bidirectional": Form(6, lambda: forms.Recurrent(bidirectional=True), {"x": X}, kind="whole", time={"x": 1}),
    "6 two bidirectional layers": Form(6, lambda: forms.Recurrent(bidirectional=True, num_layers=2), {"x": X},
                                       kind="whole", time={"x": 1}),
    "7 chunks": cell(7, forms.Chunked),
    "7 chunks, the other blend": cell(7, lambda: forms.Chunked(other_way=True)),
    "7 [h, x], reset before": cell(7, forms.Joined),
    "7 six Linears": cell(7, forms.SixLinears),
    "8 a loop over a GRUCell": Form(8, lambda: forms.Unrolled(nn.GRUCell(I, H)), {"x": X},
                                    holds=frozenset({"Sigmoid", "Tanh"}), lacks=frozenset({"GRU"})),
    "8 a loop over a written cell": Form(8, lambda: forms.Unrolled(forms.Chunked()), {"x": X},
                                         holds=frozenset({"Sigmoid", "Tanh"}), lacks=frozenset({"GRU"})),
    "8 greedy decoding": Form(8, forms.Greedy, {"ids": IDS}, kind="whole", holds=frozenset({"GRU", "ArgMax"})),
    "10 packed, lengths an input": Form(
        10, forms.Packed, {"x": torch.randn(3, T, I), "lengths": torch.tensor([T, 4, 2])}, outputs=("y", "h"),
        kind="whole", exporters=("legacy",)),
    "10 packed, lengths constant": Form(
        10, lambda: forms.Packed([T, 2, 4]), {"x": torch.randn(3, T, I)}, outputs=("y", "h"), kind="whole",
        exporters=("legacy",)),
    "10 packed, one full sequence": Form(
        10, lambda: forms.Packed([T], bidirectional=False), {"x": X}, outputs=("y", "h"), exporters=("legacy",)),
    "10 the output at a length": Form(
        10, forms.Gathered, {"x": torch.randn(3, T, I), "lengths": torch.tensor([T, 2, 4])}, kind="whole",
        holds=frozenset({"GRU", "GatherElements"})),
    "11 LayerNorm inside": cell(11, lambda: forms.Normed(nn.LayerNorm), holds=frozenset({"LayerNormalization"})),
    "11 BatchNorm inside": cell(11, lambda: forms.Normed(forms.norm_of_batches)),
    "11 a residual on the state": cell(11, forms.Residual, holds=frozenset({"LayerNormalization"})),
    "11 an extra gate": cell(11, forms.Forgetting),
    "11 minimal gated unit": cell(11, forms.Minimal),
    "11 Dreamer": cell(11, forms.Dreamer, holds=frozenset({"LayerNormalization"})),
}  # fmt: skip
CASES = [(name, exporter) for name, form in FORMS.items() for exporter in form.exporters]


@functools.cache
def made(name, exporter):
    """Module, graph, and the graph in onnxruntime."""
    module, graph = export(FORMS[name], exporter)
    return module, graph, ort.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])


def frames(form, rng, steps):
    """Feeds of the form, `steps` long where its time is dynamic; lengths as they are."""
    feeds = {}
    for name, example in form.inputs.items():
        shape = list(example.shape)
        if name in form.time:
            shape[form.time[name]] = steps
        if example.dtype == torch.int64:
            feeds[name] = example.numpy() if name == "lengths" else rng.integers(0, 10, shape)
        else:
            feeds[name] = rng.standard_normal(shape).astype(np.float32)
    return feeds


def by_module(form, module, feeds):
    """What torch gives, by output name."""
    with torch.no_grad():
        y = module(*(torch.from_numpy(feeds[name]) for name in form.inputs))
    return dict(zip(form.outputs, [t.numpy() for t in (y if isinstance(y, tuple) else (y,))], strict=True))


def by_onnxruntime(form, session, feeds):
    return dict(zip(form.outputs, session.run(list(form.outputs), feeds), strict=True))


def named(model, value):
    return value if isinstance(value, dict) else {model.outputs[0].name: value}


def assert_close(got, expected):
    for name, value in got.items():
        assert value.shape == expected[name].shape, name
        np.testing.assert_allclose(value, expected[name], atol=TOLERANCE, rtol=TOLERANCE, err_msg=name)


def loaded(graph, tmp_path, **options):
    path = tmp_path / "model.onnx"
    path.write_bytes(graph.SerializeToString())
    return streamgru.load(path, **options)


def check_sequence(form, module, session, model):
    """Streamed over 17 frames (or the graph's own length) from its zero state; and again step by step, with the same
    bits."""
    rng = np.random.default_rng(SEED)
    feeds = frames(form, rng, 17)
    inputs = {t.name for t in model.inputs}
    feeds |= {i: np.zeros_like(feeds[i]) for i, _ in form.states}
    assert inputs == feeds.keys() - {i for i, _ in form.states}
    given = {n: x for n, x in feeds.items() if n in inputs}
    got = named(model, model.run(given if len(given) > 1 else next(iter(given.values()))))
    assert got.keys() == set(form.outputs) - {o for _, o in form.states}
    assert_close(got, by_onnxruntime(form, session, feeds))
    assert_close(got, by_module(form, module, feeds))
    (x,) = model.inputs
    stream = model.stream()
    steps = [named(model, stream.step(np.ascontiguousarray(f))) for f in np.moveaxis(given[x.name], x.time_axis, 0)]
    for tensor in model.outputs:
        all_steps = np.stack([s[tensor.name] for s in steps])
        want = all_steps[-1] if tensor.time_axis is None else np.moveaxis(all_steps, 0, tensor.time_axis)
        assert np.array_equal(got[tensor.name], want)


def check_step(form, module, session, model):
    """12 steps; onnxruntime and torch are given back their own states."""
    rng = np.random.default_rng(SEED)
    stream = model.stream()
    (pair,) = form.states
    assert [s.source for s in model.states] == [pair]
    theirs = torchs = np.zeros_like(form.inputs[pair[0]].numpy())
    for _ in range(12):
        x = {n: v for n, v in frames(form, rng, 1).items() if n != pair[0]}
        got = named(model, stream.step(next(iter(x.values()))))
        expected, original = (
            by_onnxruntime(form, session, {**x, pair[0]: theirs}),
            by_module(form, module, {**x, pair[0]: torchs}),
        )
        theirs, torchs = expected.pop(pair[1]), original.pop(pair[1])
        got = {n: y.reshape(expected[n].shape) for n, y in got.items()}
        assert got.keys() == expected.keys()
        assert_close(got, expected)
        assert_close(got, original)
        (h,) = stream.state.values()
        np.testing.assert_allclose(h.ravel(), theirs.ravel(), atol=TOLERANCE, rtol=TOLERANCE)


def check_whole(form, module, session, model):
    """Two lengths, where the length is dynamic."""
    for steps in (1, 17) if form.time else (T,):
        feeds = frames(form, np.random.default_rng([SEED, steps]), steps)
        got = model.run(feeds if len(feeds) > 1 else next(iter(feeds.values())))
        got = got if isinstance(got, dict) else {form.outputs[0]: got}
        assert got.keys() == set(form.outputs)
        assert_close(got, by_onnxruntime(form, session, feeds))
        assert_close(got, by_module(form, module, feeds))


@pytest.mark.parametrize("name, exporter", CASES)
def test_a_form_runs_as_onnxruntime_and_torch_do(name, exporter, tmp_path):
    print(f"seed {SEED}")
    form, (module, graph, session) = FORMS[name], made(name, exporter)
    operators = {n.op_type for n in graph.graph.node} | {n.op_type for f in graph.functions for n in f.node}
    assert form.holds <= operators
    assert not form.lacks & operators
    if form.kind == "whole":
        check_whole(form, module, session, loaded(graph, tmp_path, mode="whole"))
        return
    model = loaded(graph, tmp_path, batch=form.inputs["x"].shape[0] if form.kind == "step" else 1)
    assert model.metadata["kind"] == form.kind
    {"sequence": check_sequence, "step": check_step}[form.kind](form, module, session, model)


def test_every_form_is_here_by_both_exporters():
    """But for those that only one of them writes: weights in pieces, and packed sequences."""
    found = {(FORMS[name].number, exporter) for name, exporter in CASES}
    assert {number for number, _ in found} == {1, 2, 3, 4, 5, 6, 7, 8, 10, 11}
    assert {number for number, exporter in found if exporter == "legacy"} == {2, 3, 4, 5, 6, 7, 8, 10, 11}
    assert {number for number, exporter in found if exporter == "dynamo"} == {1, 2, 3, 4, 5, 6, 7, 8, 10, 11}


@pytest.mark.parametrize("name", ["6 bidirectional", "8 greedy decoding"])
@pytest.mark.parametrize("exporter", BOTH)
def test_a_form_that_cannot_stream_is_refused(name, exporter, tmp_path):
    """By node, and with the way to run it."""
    _, graph, _ = made(name, exporter)
    node = {"6 bidirectional": "GRU", "8 greedy decoding": "Slice"}[name]
    with pytest.raises(ModelError, match=rf"cannot stream: {node} node '.*mode='whole'"):
        loaded(graph, tmp_path)


# ---- 9: linear_before_reset lost on the way ----


@pytest.mark.parametrize("exporter", BOTH)
@pytest.mark.parametrize("attribute", ["zero", "absent"])
def test_form_9_a_lost_attribute_is_obeyed_with_a_warning(exporter, attribute, tmp_path):
    """As exporters with onnxscript before 0.7.1 write it: the file counts, as in onnxruntime, and the user is told."""
    form, (module, graph, _) = FORMS["2 a GRU node"], made("2 a GRU node", exporter)
    lost = type(graph)()
    lost.CopyFrom(graph)
    (node,) = (n for n in lost.graph.node if n.op_type == "GRU")
    (old,) = (a for a in node.attribute if a.name == "linear_before_reset")
    assert old.i == 1
    if attribute == "absent":
        node.attribute.remove(old)
    else:
        old.i = 0
    with pytest.warns(
        UserWarning, match=r"linear_before_reset=0 in a model exported from PyTorch.*obeyed as it stands"
    ):
        model = loaded(lost, tmp_path)
    session = ort.InferenceSession(lost.SerializeToString(), providers=["CPUExecutionProvider"])
    feeds = frames(form, np.random.default_rng(SEED), 17)
    got = {"y": model.run(feeds["x"])}
    assert_close(got, by_onnxruntime(form, session, feeds))
    assert np.abs(got["y"] - by_module(form, module, feeds)["y"]).max() > 0.01
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loaded(graph, tmp_path)
