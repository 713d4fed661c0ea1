"""Graphs over time, and the check that a stream of frames gives what the whole sequence gives."""

from __future__ import annotations

import numpy as np

import streamgru
from export.graphs import gru_weights, model, node, onnxruntime, rng
from streamgru_export.compiler.compile import compile
from streamgru_export.compiler.graph.onnx_reader import read

H, I = 6, 4  # noqa: E741 - the field's names


def gru_model(shape, tail=(), outputs=("y",), constants=None, direction="forward", head=(), x="x"):
    """A GRU over x, what comes before it in `head` and after it in `tail`."""
    weights = gru_weights(rng(), I, H, 2 if direction == "bidirectional" else 1)
    gru = node("GRU", [x, "W", "R", "B"], ["Y", "Yh"], hidden_size=H, direction=direction)
    return read(model([*head, gru, *tail], {"x": shape}, list(outputs), {**weights, **(constants or {})}))


C, T = 6, 23


END = np.array([2**31 - 1])
FLOAT = 2e-6  # float32 against onnxruntime, chains of at most a few hundred products of size 1


def kernel(r, *shape):
    """Weights that keep the numbers near 1."""
    return (r.normal(size=shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32)


def assert_streams(source, x, states=None, **options):
    """Streamed output is onnxruntime's of the whole sequence, in one run as in steps, after a reset and a restore."""
    compiled = compile(source, **options)
    assert compiled.kind == "sequence"
    if states is not None:
        assert list(compiled.states.values()) == states
    expected = onnxruntime(source, {"x": x})
    stream = streamgru.Model(compiled.image).stream()
    names, axis = list(compiled.outputs), compiled.time_axis["x"]
    frames = [np.ascontiguousarray(np.take(x, t, axis)) for t in range(x.shape[axis])]

    def as_dict(results):
        return results if isinstance(results, dict) else {names[0]: results}

    ran = as_dict(stream.run(x))
    for name in names:
        assert compiled.time_axis[name] is not None
        np.testing.assert_allclose(ran[name], expected[name], rtol=FLOAT, atol=FLOAT, err_msg=name)
    stream.reset()
    steps, saved, half = [], b"", len(frames) // 2
    for t, frame in enumerate(frames):
        if t == half:
            saved = stream.save()
        steps.append(as_dict(stream.step(frame)))
    for name in names:
        stepped = np.stack([s[name] for s in steps], compiled.time_axis[name])
        np.testing.assert_array_equal(stepped, ran[name], err_msg=name)
    stream.restore(saved)
    for t in range(half, len(frames)):
        again = as_dict(stream.step(frames[t]))
        for name in names:
            np.testing.assert_array_equal(again[name], steps[t][name])
    return compiled


def sequence(r, *shape):
    return r.normal(size=shape).astype(np.float32)


def conv1d(r, *, k=3, d=1, group=1, spelling="pads", value=0.0, out=5, opset=17):
    """A causal convolution over [1, C, T], spelled in one of the ways there are."""
    reach = (k - 1) * d
    constants = {"w": kernel(r, out, C // group, k), "b": kernel(r, out)}
    attrs = {"dilations": [d], "group": group}
    conv = lambda x, y, **more: node("Conv", [x, "w", "b"], [y], **attrs, **more)  # noqa: E731
    if spelling == "pads":
        nodes = [conv("x", "y", pads=[reach, 0])]
    elif spelling == "pad":
        constants |= {"p": np.array([0, 0, reach, 0, 0, 0]), "v": np.float32(value)}
        nodes = [node("Pad", ["x", "p", "v"], ["xp"]), conv("xp", "y")]
    elif spelling == "chop":
        constants |= {"s": np.array([0]), "e": np.array([-reach]), "a": np.array([2])}
        nodes = [conv("x", "long", pads=[reach, reach]), node("Relu", ["long"], ["lr"]),
                 node("Slice", ["lr", "s", "e", "a"], ["y"])]  # fmt: skip
    elif spelling == "concat":
        constants["past"] = r.normal(size=(1, C, reach)).astype(np.float32)
        nodes = [node("Concat", ["past", "x"], ["xp"], axis=2), conv("xp", "y")]
    return model(nodes, {"x": [1, C, "T"]}, ["y"], constants, opset)


def cut(n):
    """A Slice that takes n entries off the end of the time axis."""
    return {"s": np.array([0]), "e": np.array([-n]), "a": np.array([2])}
