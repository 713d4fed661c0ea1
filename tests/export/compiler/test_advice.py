"""Every message of the compiler that says what to do: the model that causes it, and what comes of doing it.

What is compiled as a message says is compared with onnxruntime. :func:`test_every_advice_is_followed_here` finds the
messages in the sources, so that a new one has to come here.
"""

from __future__ import annotations

import ast
import re
import warnings
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

import streamgru
from export.compiler.static.keras import BOOL, INT64, value
from export.compiler.stream.recurrences import N, cell, convolution, loop
from export.compiler.stream.steps import assert_steps_equal
from export.graphs import assert_close, gru_weights, model, node, onnxruntime, rng, stream, whole
from streamgru.errors import ModelError, OptionError
from streamgru_export.compiler.compile import compile
from streamgru_export.compiler.graph.onnx_reader import read
from streamgru_export.compiler.static.specialise import specialise

ROOT = Path(__file__).parents[3] / "export" / "streamgru_export" / "compiler"
ADVICE = re.compile(
    r"mode='whole'|time_axis=|dims=|batch=|state=\[|\b([Gg]ive|[Ss]ay|[Ll]eave|[Ee]xport|[Cc]ompile it|call model)\b"
)
WEIGHTS = gru_weights(rng(), N, N) | {"one": np.array([1])}
GRU = node("GRU", ["x", "W", "R", "B"], ["y"], hidden_size=N)


def feeds(source, **shapes):
    """Random ones, of the file's shapes but for these."""
    r = rng()
    sizes = {p.name: [d.dim_value for d in p.type.tensor_type.shape.dim] for p in source.graph.input}
    return {n: r.normal(size=shapes.get(n, size)).astype(np.float32) for n, size in sizes.items()}


def runs_whole(source, path, **shapes):
    """As the message has it: load(path, mode='whole').run(x)."""
    onnx.save(source, path)
    given = feeds(source, **shapes)
    ran = streamgru.load(path, mode="whole").run(given if len(given) > 1 else next(iter(given.values())))
    expected = onnxruntime(source, given)
    assert_close(ran if isinstance(ran, dict) else dict(zip(expected, [ran], strict=True)), expected)


def streams(source, x, **options):
    compiled, given = compile(source, **options), feeds(source, x=x)
    given |= {i: np.zeros_like(given[i]) for i, _ in compiled.pairs}  # where a stream begins
    expected = onnxruntime(source, given)
    assert_close(stream(compiled, given), {name: expected[name] for name in compiled.outputs})


def steps(source, **options):
    compiled = compile(source, **options)
    assert compiled.pairs
    assert_steps_equal(source, compiled)


def axes(tail=("y",)):
    """GRUs over axis 1 and axis 0 of [F, T, N]."""
    nodes = [node("Transpose", ["x"], ["xt"], perm=[1, 0, 2]), node("GRU", ["xt", "W", "R", "B"], ["a"], hidden_size=N),
             node("Squeeze", ["a", "one"], ["b"]), node("Transpose", ["b"], ["c"], perm=[1, 0, 2]),
             node("GRU", ["c", "W", "R", "B"], list(tail), hidden_size=N)]  # fmt: skip
    return model(nodes, {"x": ["F", "T", N]}, ["y"], WEIGHTS)


def stepped(tail=(), outputs=("y", "h_new"), h="h", frames=1):
    """One step from a state."""
    gru = node("GRU", ["x", "W", "R", "B", "", h], ["y", "h_new"], hidden_size=N)
    return model([gru, *tail], {"x": [frames, 1, N], h: [1, 1, N]}, list(outputs), WEIGHTS)


def baked(shape):
    return model([GRU, node("Add", ["y", "p"], ["z"])], {"x": [shape, 1, N]}, ["z"],
                 {**WEIGHTS, "p": np.arange(5.0, dtype=np.float32).reshape(5, 1, 1, 1)})  # fmt: skip


def computed(own):
    """A cell whose initial state is a layer on an input, or an input of its own that comes back."""
    nodes = [] if own else [node("Add", ["u", "v"], ["h"])]
    nodes.append(node("GRU", ["x", "W", "R", "B", "", "h"], ["y", "h_new"], hidden_size=N))
    states = {"h": [1, 1, N]} if own else {"u": [1, 1, N], "v": [1, 1, N]}
    return model(nodes, {"x": ["T", 1, N], **states}, ["y", "h_new"] if own else ["y"], WEIGHTS)


def lengths(*values):
    gru = node("GRU", ["x", "W", "R", "B", *(["lens"] if values else [])], ["y"], hidden_size=N)
    return model([gru], {"x": ["T", 1, N]}, ["y"], WEIGHTS | ({"lens": np.int32(values)} if values else {}))


def stopping(condition):
    """A loop that says no after its second round."""
    body = helper.make_graph([node("Add", ["v", "v"], ["v_new"]), node("Less", ["i", "one"], ["on"])], "body",
                             [value("i", [], INT64), value("go", [], BOOL), value("v")],
                             [value("on", [], BOOL), value("v_new")])  # fmt: skip
    return model([node("Loop", ["n", condition, "x"], ["y"], body=body)], {"x": [1, N]}, ["y"],
                 {"n": np.int64(4), "one": np.int64(1), "true": np.bool_(True)})  # fmt: skip


def one_number(name):
    """An open dimension that a Reshape has as a number."""
    return model([node("Reshape", ["x", "flat"], ["y"])], {"x": [name, N]}, ["y"], {"flat": np.array([N])})


def merged():
    """Time and batch in one axis."""
    return model([GRU, node("Reshape", ["y", "flat"], ["z"])], {"x": ["T", "B", N]}, ["z"],
                 {**WEIGHTS, "flat": np.array([-1, N])})  # fmt: skip


def features():
    """A layer on every frame, of bands whose number is open: no axis is a batch for sure."""
    return model([node("Relu", ["x"], ["y"])], {"x": ["batch", 3, "bands"]}, ["y"])


def same_padded(**padding):
    w = rng().standard_normal((N, N, 3)).astype(np.float32) / N
    return model([node("ConvTranspose", ["x", "w"], ["y"], **padding)], {"x": [1, N, "T"]}, ["y"], {"w": w})


def dropout(training):
    nodes = [node("Dropout", ["x", "", "training"], ["y"])]
    return model(nodes, {"x": [1, N]}, ["y"], {"training": np.array(training)})


def packed(order):
    """Two states side by side in one tensor, put together in this order."""
    nodes = [node("Split", ["s"], ["h", "c"], axis=2, num_outputs=2),
             node("LSTM", ["x", "W", "R", "B", "", "h", "c"], ["y", "hn", "cn"], hidden_size=N),
             node("Concat", list(order), ["s_new"], axis=2)]  # fmt: skip
    return model(nodes, {"x": [1, 1, N], "s": [1, 1, 2 * N]}, ["y", "s_new"], gru_weights(rng(), N, N, gates=4), 18)


def unsure():
    tail = [node("Neg", ["h_new"], ["p"]), node("Mul", ["h_new", "h_new"], ["q"])]
    return stepped(tail, ["y", "p", "q"], h="before")


def spelt_lstm(outputs=("y", "25", "26"), h="h", c="c"):
    """An LSTM cell of one step without an LSTM node: what comes out is named by numbers."""
    nodes = [node("Concat", ["x", h], ["xh"], axis=1), node("MatMul", ["xh", "K"], ["g"]),
             node("Split", ["g"], ["i", "f", "o", "n"], axis=1, num_outputs=4),
             *(node("Sigmoid", [k], [f"{k}s"]) for k in "ifo"), node("Tanh", ["n"], ["nt"]),
             node("Mul", ["fs", c], ["kept"]), node("Mul", ["is", "nt"], ["new"]), node("Add", ["kept", "new"], ["25"]),
             node("Tanh", ["25"], ["ct"]), node("Mul", ["os", "ct"], ["26"]), node("Relu", ["26"], ["y"])]  # fmt: skip
    k = rng().normal(size=(2 * N, 4 * N)).astype(np.float32) / N
    return model(nodes, {"x": [1, N], h: [1, N], c: [1, N]}, list(outputs), {"K": k}, 18)


def spelt():
    """A cell that is no GRU, and whose names tell nothing."""
    nodes = [node("Add", ["x", "a"], ["t"]), node("Tanh", ["t"], ["b"]), node("Relu", ["b"], ["y"])]
    return model(nodes, {"x": [1, N], "a": [1, N]}, ["y", "b"])


# What a message says, as its source has it -> the model that causes it, its options, a pattern of the whole message
# (of a note too), and what comes of following it.
def forgetful():
    """A cell that begins with the frame that it runs over."""
    return model([node("GRU", ["x", "W", "R", "B", "", "x"], ["y"], hidden_size=N)], {"x": [1, 1, N]}, ["y"], WEIGHTS)


FOLLOWED = {
    "It can run whole: streamgru.load(path, mode='whole').run(x)": (
        lambda: cell("GRU", "T", "bidirectional"), {}, "bidirectional over time.*It can run whole",
        lambda path: runs_whole(cell("GRU", "T", "bidirectional"), path, x=(6, 1, N)),
    ),
    "It can run whole, of a number in the file": (
        lambda: baked(5), {}, "cannot be made 1.*Export it with a dynamic time axis.*It can run whole",
        lambda path: runs_whole(baked(5), path),
    ),
    "Export it with a dynamic time axis, or one step with its state": (
        lambda: baked(5), {}, "cannot be made 1.*Export it with a dynamic time axis",
        lambda path: (streams(lengths(), (6, 1, N)), steps(stepped())),
    ),
    "Export one step, with its state as an input and an output": (
        lambda: loop("N"), {}, "its body is no GRU. Export one step",
        lambda path: steps(loop(1, state=True), state=[("h0", "hN")]),
    ),
    "to stream it, export it with its state as an input and an output": (
        forgetful, {}, "first state is computed from 'x' in each frame.*export it with its state as an input",
        lambda path: steps(stepped()),
    ),
    "export one step, with its state as input and output": (
        lambda: loop(20_000), {}, "export one step",
        lambda path: steps(loop(1, state=True), state=[("h0", "hN")]),
    ),
    "give the other its number, such as ": (
        axes, {}, r"Say which is.*time_axis=\{'x': 0\}, dims=\{'T': 4\}, or time_axis=\{'x': 1\}, dims=\{'F': 4\}",
        lambda path: (streams(axes(), (6, 4, N), time_axis={"x": 0}, dims={"T": 4}),
                      streams(axes(), (4, 6, N), time_axis={"x": 1}, dims={"F": 4})),
    ),
    "batch= binds what treats its entries alike": (
        axes, {"batch": 3}, "batch= binds what treats its entries alike",
        lambda path: streams(model([GRU], {"x": ["T", "N", N]}, ["y"], WEIGHTS), (6, 3, N), batch=3),
    ),
    "Give its number, such as dims={}": (
        axes, {"time_axis": {"x": 1}}, r"Give its number, such as dims=\{'F': 4\}",
        lambda path: streams(axes(), (4, 6, N), time_axis={"x": 1}, dims={"F": 4}),
    ),
    "if it is, say time_axis={}": (
        axes, {"dims": {"F": 3}}, r"if it is, say time_axis=\{'x': 1\}",
        lambda path: streams(axes(), (3, 6, N), time_axis={"x": 1}, dims={"F": 3}),
    ),
    "; leave it out": (
        lambda: convolution("N"), {"dims": {"N": 1}}, "; leave it out",
        lambda path: streams(convolution("N"), (1, N, 7)),
    ),
    "is the only number that is wanted, give dims={'{}': {}}": (
        lambda: one_number("unk__0"), {}, r"cannot be bound to another length.*give dims=\{'unk__0': 1\}",
        lambda path: assert_close(whole(compile(one_number("A"), dims={"A": 1}), feeds(one_number("A"), x=(1, N))),
                                  onnxruntime(one_number("A"), feeds(one_number("A"), x=(1, N)))),
    ),
    "is unbound; give dims={'{}': number}": (
        features, {}, r"'bands' .* is unbound; give dims=\{'bands': number\}",
        lambda path: assert_close(whole(compile(features(), dims={"bands": 5}), feeds(features(), x=(1, 3, 5))),
                                  onnxruntime(features(), feeds(features(), x=(1, 3, 5)))),
    ),
    ", or compile it with batch=1": (
        merged, {"batch": 2}, "merged with another dimension.*or compile it with batch=1",
        lambda path: streams(merged(), (6, 1, N), batch=1),
    ),
    "mode='whole' needs length=": (
        lambda: lengths(), {"mode": "whole"}, "needs length=",
        lambda path: assert_close(whole(compile(lengths(), mode="whole", length=6), feeds(lengths(), x=(6, 1, N))),
                                  onnxruntime(lengths(), feeds(lengths(), x=(6, 1, N)))),
    ),
    "Give it as an input of its own, and its final state as an output": (
        lambda: computed(own=False), {}, "computed from inputs. Give it as an input of its own",
        lambda path: streams(computed(own=True), (6, 1, N)),
    ),
    "Give the Loop the constant true as its condition if it is to stop": (
        lambda: stopping(""), {}, "ONNX goes on, onnxruntime stops. Give the Loop the constant true",
        lambda path: runs_whole(stopping("true"), path),
    ),
    "give it as pads": (
        lambda: same_padded(auto_pad="SAME_UPPER"), {}, "give it as pads",
        lambda path: streams(same_padded(pads=[0, 2]), (1, N, 8)),
    ),
    "If it is continued so, say {}": (
        lambda: packed(("cn", "hn")), {}, r"If it is continued so, say state=\[\('s', 's_new'\)\]",
        lambda path: steps(packed(("cn", "hn")), state=[("s", "s_new")]),
    ),
    "which output continues it is not certain: there is no pair. Say {}": (
        unsure, {}, r"Say state=\[\('before', 'p'\)\] or state=\[\('before', 'q'\)\]",
        lambda path: (steps(unsure(), state=[("before", "p")]), steps(unsure(), state=[("before", "q")])),
    ),
    "which output continues it is not certain: there is no pair. If it is one, say {}": (
        spelt_lstm, {}, r"'h' is called like a state.*state=\[\('h', '26'\)\].*state=\[\('c', '25'\)\]",
        lambda path: steps(spelt_lstm(), state=[("h", "26"), ("c", "25")]),
    ),
    "if one of these is one, say {}": (
        spelt, {}, r"no state was found.*state=\[\('a', 'b'\)\]", lambda path: steps(spelt(), state=[("a", "b")]),
    ),
    "samples are frames for tolerance: give both": (
        lambda: lengths(), {"samples": np.zeros((4, 1, N), np.float32)}, "give both",
        lambda path: compile(lengths(), weights="i8", tolerance=0.5, samples=np.zeros((4, 1, N), np.float32)),
    ),
    "call model.eval() and export again": (
        lambda: dropout(True), {}, "call model.eval", lambda path: runs_whole(dropout(False), path),
    ),
    "export the model in eval mode": (
        lambda: model([node("Dropout", ["x", "", "t"], ["y"])], {"x": [1, N], "t": []}, ["y"],
                      dtypes={"t": onnx.TensorProto.BOOL}), {}, "export the model in eval mode",
        lambda path: runs_whole(dropout(False), path),
    ),
}  # fmt: skip
# Advice to who made the file, of other folders: their own tests follow it, or it is a matter of words.
ELSEWHERE = {
    "a larger tolerance, or give frames of your data as samples",  # test_accuracy.py
    "A quantised model: give the float model that it was made from",
    "has no default {}; give it in activation_{}",  # lower/test_activations.py
    "export the model with its weights in it (export_params=True)",
    "pads must give a begin and an end for each axis", "it does not give a frame for each frame",
    "its dimension '{}' is unbound; give dims={'{}': number}",  # of specialise, below
    "X {} would give {}", "one of them is 0, and the other 1",  # no advice
    "Let the model give what it draws from, and draw outside",  # lower/test_lower.py
    "time_axis={}, dims={}", "state=[('{}', '{}')]",  # parts of those above
}  # fmt: skip


def caught(source, options):
    """What compiling says: its error, or its notes."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return "\n".join(note.text for note in compile(source, **options).notes)
        except (ModelError, OptionError) as error:
            return str(error)


@pytest.mark.parametrize("advice", list(FOLLOWED))
def test_who_follows_an_advice_gets_what_it_says(advice, tmp_path):
    made, options, pattern, follow = FOLLOWED[advice]
    assert re.search(pattern, caught(made(), options), re.S)
    follow(tmp_path / "model.onnx")


def test_a_dimension_that_is_unbound_may_be_bound():
    graph = read(lengths())
    with pytest.raises(ModelError, match=r"give dims=\{'T': number\}"):
        specialise(graph, {})
    assert specialise(graph, {"T": 4}).types["y"].shape == (4, 1, 1, N)


def test_what_cannot_run_whole_either_is_not_told_so():
    """The node is not supported in any mode."""
    source = model([node("Softmax", ["x"], ["s"], axis=0), node("Einsum", ["s"], ["d"], equation="ii->i")],
                   {"x": ["T", "T"]}, ["d"])  # fmt: skip
    text = caught(source, {})
    assert "It does not run whole either" in text
    assert "It can run whole" not in text


def messages():
    """The texts in the compiler's sources that recommend something; {} for what stands in them."""
    for file in sorted(ROOT.rglob("*.py")):
        tree = list(ast.walk(ast.parse(file.read_text(encoding="utf-8"))))
        bodies = [n.body for n in tree if isinstance(n, (ast.Module, ast.FunctionDef, ast.ClassDef)) and n.body]
        skipped = {id(b[0].value) for b in bodies if isinstance(b[0], ast.Expr)}  # docstrings
        skipped |= {id(v) for n in tree if isinstance(n, ast.JoinedStr) for v in n.values}
        for n in tree:
            if id(n) in skipped:
                continue
            parts = n.values if isinstance(n, ast.JoinedStr) else [n]
            if all(isinstance(p, (ast.Constant, ast.FormattedValue)) for p in parts):
                text = "".join(str(p.value) if isinstance(p, ast.Constant) else "{}" for p in parts)
                if " " in text and ADVICE.search(text):
                    yield f"{file.name}: {text}"


def test_every_advice_is_followed_here():
    known = {*FOLLOWED, *ELSEWHERE}
    new = [text for text in messages() if not any(words in text or text.endswith(words) for words in known)]
    assert new == []
