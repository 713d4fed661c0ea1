"""Convolutions over time stream: their past frames are a state, and those that need the future are refused by name."""

from __future__ import annotations

import io

import numpy as np
import onnx
import pytest
import torch
from torch import nn
from torch.nn import functional

import streamgru
from export.graphs import gru_weights, model, node, onnxruntime, rng
from streamgru.errors import ModelError
from streamgru_export.compiler.compile import compile

C, T = 6, 23
FLOAT = 2e-6  # float32 against onnxruntime, chains of at most a few hundred products of size 1
END = np.array([2**31 - 1])


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


def sequence(r, *shape):
    return r.normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("spelling", ["pads", "pad", "chop", "concat"])
@pytest.mark.parametrize("k, d", [(2, 1), (3, 1), (3, 4), (5, 2)])
def test_every_spelling_of_a_causal_convolution(spelling, k, d):
    r = rng()
    assert_streams(conv1d(r, k=k, d=d, spelling=spelling), sequence(r, 1, C, T), [(1, C, (k - 1) * d)])


def test_padding_with_another_number_is_what_the_history_is_reset_to():
    r = rng()
    source = conv1d(r, spelling="pad", value=0.75)
    compiled = assert_streams(source, sequence(r, 1, C, T))
    (state,) = compiled.program.states
    np.testing.assert_array_equal(state.reset.data, np.full((1, C, 2), 0.75, np.float32))


@pytest.mark.parametrize("group, out", [(C, C), (C, 2 * C), (2, 4)])
def test_depthwise_and_grouped(group, out):
    r = rng()
    assert_streams(conv1d(r, group=group, out=out), sequence(r, 1, C, T))


@pytest.mark.parametrize("name", ["T", "s53"])
def test_time_is_what_the_kernels_reach_along(name):
    """Without a recurrent node, and whatever the dimension is called."""
    r = rng()
    source = model([node("Conv", ["x", "w"], ["y"], pads=[2, 0])], {"x": ["n0", C, name]}, ["y"],
                   {"w": kernel(r, 4, C, 3)})  # fmt: skip
    assert_streams(source, sequence(r, 1, C, T), [(1, C, 2)])


def test_a_batch():
    r = rng()
    source = model([node("Conv", ["x", "w"], ["y"], pads=[2, 0])], {"x": ["B", C, "T"]}, ["y"],
                   {"w": kernel(r, 4, C, 3)})  # fmt: skip
    assert_streams(source, sequence(r, 3, C, T), [(3, C, 2)], batch=3)


def test_same_lower_with_two_taps_is_causal():
    r = rng()
    source = model([node("Conv", ["x", "w"], ["y"], auto_pad="SAME_LOWER")], {"x": [1, C, "T"]}, ["y"],
                   {"w": kernel(r, 4, C, 2)})  # fmt: skip
    assert_streams(source, sequence(r, 1, C, T), [(1, C, 1)])


@pytest.mark.parametrize("spelling", ["pads", "pad", "chop"])
def test_over_time_and_features(spelling):
    """[1, C, T, F]: causal over T; padded, strided over F."""
    r, k, d = rng(), 3, 2
    reach, constants = (k - 1) * d, {"w": kernel(r, 4, 2, k, 3)}
    over = {"dilations": [d, 1], "strides": [1, 2]}
    if spelling == "pads":
        nodes = [node("Conv", ["x", "w"], ["y"], pads=[reach, 1, 0, 1], **over)]
    elif spelling == "pad":
        constants["p"] = np.array([0, 0, reach, 1, 0, 0, 0, 1])
        nodes = [node("Pad", ["x", "p"], ["xp"]), node("Conv", ["xp", "w"], ["y"], **over)]
    else:
        constants |= {"s": np.array([0, 1]), "e": np.array([-reach, 4]), "a": np.array([2, 3])}
        nodes = [node("Conv", ["x", "w"], ["long"], pads=[reach, 1, reach, 1], **over),
                 node("Slice", ["long", "s", "e", "a"], ["y"])]  # fmt: skip
    source = model(nodes, {"x": [1, 2, "T", 9]}, ["y"], constants)
    assert_streams(source, sequence(r, 1, 2, T, 9), [(1, 2, reach, 9)])


def test_time_last_of_two_axes_and_pooled_features():
    r = rng()
    nodes = [node("Conv", ["x", "w"], ["c"], pads=[1, 2, 1, 0]), node("MaxPool", ["c"], ["y"], kernel_shape=[2, 1],
             strides=[2, 1])]  # fmt: skip
    source = model(nodes, {"x": [1, 2, 8, "T"]}, ["y"], {"w": kernel(r, 3, 2, 3, 3)})
    assert_streams(source, sequence(r, 1, 2, 8, T))


def test_one_pad_for_a_whole_stack():
    """The receptive field is padded once: later layers use up what earlier ones left."""
    r = rng()
    constants = {"p": np.array([0, 0, 6, 0, 0, 0]), "w": kernel(r, C, C, 3), "v": kernel(r, 4, C, 3)}
    nodes = [node("Pad", ["x", "p"], ["xp"]), node("Conv", ["xp", "w"], ["c"]), node("Tanh", ["c"], ["t"]),
             node("Conv", ["t", "v"], ["y"], dilations=[2])]  # fmt: skip
    assert_streams(model(nodes, {"x": [1, C, "T"]}, ["y"], constants), sequence(r, 1, C, T), [(1, C, 6)])


def test_two_convolutions_of_one_value_share_its_history():
    r = rng()
    constants = {"w": kernel(r, C, C, 3), "v": kernel(r, C, C, 3)}
    nodes = [node("Conv", ["x", "w"], ["a"], pads=[2, 0]), node("Conv", ["x", "v"], ["b"], pads=[2, 0]),
             node("Tanh", ["a"], ["ta"]), node("Sigmoid", ["b"], ["sb"]), node("Mul", ["ta", "sb"], ["m"]),
             node("Add", ["m", "x"], ["y"])]  # fmt: skip
    assert_streams(model(nodes, {"x": [1, C, "T"]}, ["y"], constants), sequence(r, 1, C, T), [(1, C, 2)])


def test_histories_that_begin_differently_are_two():
    r = rng()
    constants = {"p": np.array([0, 0, 2, 0, 0, 0]), "one": np.float32(1), "two": np.float32(2), "w": kernel(r, 4, C, 3)}
    nodes = [node("Pad", ["x", "p", "one"], ["xa"]), node("Pad", ["x", "p", "two"], ["xb"]),
             node("Conv", ["xa", "w"], ["a"]), node("Conv", ["xb", "w"], ["b"]),
             node("Concat", ["a", "b"], ["y"], axis=1)]  # fmt: skip
    assert_streams(model(nodes, {"x": [1, C, "T"]}, ["y"], constants), sequence(r, 1, C, T), [(1, C, 2)] * 2)


@pytest.mark.parametrize("opset", [9, 10, 17])
def test_older_operator_sets(opset):
    """Slice and Pad with attributes."""
    r = rng()
    cut = {"starts": [0], "ends": [-2], "axes": [2]}
    names = {"s": np.array([0]), "e": np.array([-2]), "a": np.array([2])} if opset >= 10 else {}
    pad = node("Pad", ["x", "p"], ["xp"]) if opset >= 11 else node("Pad", ["x"], ["xp"], pads=[0, 0, 1, 0, 0, 0])
    nodes = [pad, node("Conv", ["xp", "w"], ["c"]), node("Conv", ["c", "v"], ["long"], pads=[2, 2]),
             node("Slice", ["long", *names], ["y"], **({} if names else cut))]  # fmt: skip
    constants = {**names, "w": kernel(r, C, C, 2), "v": kernel(r, 4, C, 3)}
    if opset >= 11:
        constants["p"] = np.array([0, 0, 1, 0, 0, 0])
    assert_streams(model(nodes, {"x": [1, C, "T"]}, ["y"], constants, opset), sequence(r, 1, C, T))


def random_stack(r):
    """Layers of random kernels and spellings, padded and cut beyond need, with residuals; time is the last axis."""
    nodes, constants, x, channels = [], {}, "x", C
    for n in range(r.integers(1, 5)):
        k, d = int(r.integers(1, 5)), int(r.integers(1, 4))
        groups = int(r.choice([g for g in (1, 2, channels) if channels % g == 0]))
        out = groups * int(r.integers(1, 3)) if groups > 1 else int(r.choice([2, 4, C]))
        reach, more, end = (k - 1) * d, int(r.integers(0, 4)), int(r.integers(0, 3))
        constants |= {
            f"w{n}": kernel(r, out, channels // groups, k), f"v{n}": np.float32(r.choice([0, 0.5])), "a": np.array([2]),
            f"p{n}": np.array([0, 0, reach + more, 0, 0, end]), f"s{n}": np.array([more]),
            f"e{n}": np.array([-end]) if end else END,
        }  # fmt: skip
        own = {"dilations": [d], "group": groups}
        if r.random() < 0.5:
            nodes.append(node("Conv", [x, f"w{n}"], [f"c{n}"], pads=[reach + more, end], **own))
        else:
            nodes += [node("Pad", [x, f"p{n}", f"v{n}"], [f"xp{n}"]), node("Softplus", [f"xp{n}"], [f"xs{n}"]),
                      node("Conv", [f"xs{n}", f"w{n}"], [f"c{n}"], **own)]  # fmt: skip
        nodes += [node("Tanh", [f"c{n}"], [f"t{n}"]), node("Slice", [f"t{n}", f"s{n}", f"e{n}", "a"], [f"y{n}"])]
        if out == channels:
            nodes.append(node("Add", [f"y{n}", x], [f"z{n}"]))
        x, channels = nodes[-1].output[0], out
    return model(nodes, {"x": [1, C, "T"]}, [x], constants)


def test_random_stacks():
    r = rng()
    for _ in range(25):
        assert_streams(random_stack(r), sequence(r, 1, C, int(r.integers(2, T))))


# ---- networks, from both exporters ----


class CausalConv(nn.Module):
    def __init__(self, i, o, k, d=1, groups=1, chop=True):
        super().__init__()
        self.pad, self.chop = (k - 1) * d, chop
        self.conv = nn.Conv1d(i, o, k, dilation=d, groups=groups, padding=self.pad if chop else 0)

    def forward(self, x):
        if self.chop:
            return self.conv(x)[..., : -self.pad]
        return self.conv(functional.pad(x, (self.pad, 0)))


class Separable(nn.Module):
    """Depthwise over time, then pointwise, with a residual."""

    def __init__(self, c, k, d):
        super().__init__()
        self.deep, self.point = CausalConv(c, c, k, d, groups=c, chop=False), nn.Conv1d(c, c, 1)
        self.norm = nn.BatchNorm1d(c)

    def forward(self, x):
        return x + self.point(torch.relu(self.norm(self.deep(x))))


class Front(nn.Module):
    """A TCN, a GRU and a Linear over [B, T, C]."""

    def __init__(self):
        super().__init__()
        self.tcn = nn.Sequential(CausalConv(C, 8, 3), nn.PReLU(), Separable(8, 3, 2), Separable(8, 3, 4),
                                 CausalConv(8, 8, 2, 8))  # fmt: skip
        self.gru, self.linear = nn.GRU(8, 10, batch_first=True), nn.Linear(10, 4)

    def forward(self, x):
        y, _ = self.gru(self.tcn(x.transpose(1, 2)).transpose(1, 2))
        return self.linear(y)


class Tcn(nn.Module):
    """Without a recurrent node: the name of the dimension tells the time."""

    def __init__(self):
        super().__init__()
        self.tcn = nn.Sequential(CausalConv(C, 8, 3), nn.ReLU(), CausalConv(8, 8, 3, 2, chop=False), Separable(8, 5, 1))

    def forward(self, x):
        return self.tcn(x.transpose(1, 2)).transpose(1, 2)


@pytest.mark.parametrize("dynamo", [False, True])
@pytest.mark.parametrize("make", [Front, Tcn])
def test_networks_from_both_exporters(make, dynamo):
    r = rng()
    torch.manual_seed(1)
    module = make().eval()
    x = torch.from_numpy(sequence(r, 1, T, C))
    file = io.BytesIO()
    if dynamo:
        shapes = ({1: torch.export.Dim("time", min=2, max=4096)},)
        torch.onnx.export(module, (x,), dynamo=True, dynamic_shapes=shapes, input_names=["x"]).save(file)
    else:
        torch.onnx.export(module, (x,), file, dynamo=False, dynamic_axes={"x": {1: "time"}}, input_names=["x"])
    source = onnx.load_from_string(file.getvalue())
    compiled = assert_streams(source, x.numpy())
    assert sum(name.endswith("history") for name in compiled.states) == (4 if make is Front else 3)


def test_a_convolution_behind_a_gru_keeps_its_own_history():
    r = rng()
    constants = {**gru_weights(r, C, 8), "w": kernel(r, 4, 8, 3), "one": np.array([1])}
    nodes = [node("GRU", ["x", "W", "R", "B"], ["Y"], hidden_size=8), node("Squeeze", ["Y", "one"], ["s"]),
             node("Transpose", ["s"], ["t"], perm=[1, 2, 0]), node("Conv", ["t", "w"], ["y"], pads=[2, 0])]  # fmt: skip
    assert_streams(model(nodes, {"x": ["T", 1, C]}, ["y"], constants), sequence(r, T, 1, C))


# ---- other windows over time ----


def cut(n):
    """A Slice that takes n entries off the end of the time axis."""
    return {"s": np.array([0]), "e": np.array([-n]), "a": np.array([2])}


@pytest.mark.parametrize("k, d, group", [(2, 1, 1), (3, 1, 1), (3, 2, 1), (4, 1, 2), (3, 1, C)])
@pytest.mark.parametrize("spelling", ["pads", "slice"])
def test_a_transposed_convolution_over_time(k, d, group, spelling):
    """It adds to later outputs: those of the last frame that reach beyond the end are cut off."""
    r, reach = rng(), (k - 1) * d
    attrs = {"dilations": [d], "group": group, "pads": [0, 0 if spelling == "slice" else reach]}
    constants = {"w": kernel(r, C, 4 // (1 if group == 1 else 2) if group < C else 1, k), **cut(reach)}
    nodes = [node("ConvTranspose", ["x", "w"], ["c" if spelling == "slice" else "y"], **attrs)]
    if spelling == "slice":
        nodes.append(node("Slice", ["c", "s", "e", "a"], ["y"]))
    source = model(nodes, {"x": [1, C, "T"]}, ["y"], constants)
    assert_streams(source, r.standard_normal((1, C, T)).astype(np.float32), [(1, C, reach)])


def test_a_transposed_convolution_behind_a_pad_and_over_two_axes():
    r = rng()
    constants = {"w": kernel(r, 2, 3, 3, 4), "b": kernel(r, 3), "p": np.array([0, 0, 2, 0, 0, 0, 0, 0]), **cut(1)}
    nodes = [
        node("Pad", ["x", "p"], ["xp"]),
        node("ConvTranspose", ["xp", "w", "b"], ["c"], strides=[1, 2], pads=[2, 1, 1, 0]),
        node("Slice", ["c", "s", "e", "a"], ["y"]),
    ]
    source = model(nodes, {"x": [1, 2, "T", 5]}, ["y"], constants)
    assert_streams(source, r.standard_normal((1, 2, T, 5)).astype(np.float32))


@pytest.mark.parametrize("op, attrs", [("MaxPool", {}), ("AveragePool", {"count_include_pad": 1})])
@pytest.mark.parametrize("k, pads", [(3, [2, 0]), (2, [1, 0]), (4, [3, 2])])
def test_a_pool_over_time(op, attrs, k, pads):
    """Below its padding a MaxPool finds nothing: the negative frames at the beginning are the greatest there are."""
    r = rng()
    last = pads[1] > 0
    nodes = [node(op, ["x"], ["c" if last else "y"], kernel_shape=[k], pads=pads, **attrs)]
    if last:
        nodes.append(node("Slice", ["c", "s", "e", "a"], ["y"]))
    source = model(nodes, {"x": [1, C, "T"]}, ["y"], cut(pads[1]) if last else {}, opset=19)
    x = r.standard_normal((1, C, T)).astype(np.float32)
    x[:, :, :6] = -1 - np.abs(x[:, :, :6])
    assert_streams(source, x, [(1, C, k - 1)])


@pytest.mark.parametrize("op", ["MaxPool", "AveragePool"])
def test_a_pool_behind_a_pad_over_time_and_features(op):
    """Not of zeros: onnxruntime takes such a Pad for the pool's own padding, which a MaxPool does not look at."""
    r = rng()
    constants = {"p": np.array([0, 0, 2, 0, 0, 0, 0, 0]), "v": np.float32(0.25)}
    nodes = [
        node("Pad", ["x", "p", "v"], ["xp"]),
        node(op, ["xp"], ["y"], kernel_shape=[3, 2], strides=[1, 2], pads=[0, 1, 0, 0]),
    ]
    source = model(nodes, {"x": [1, 3, "T", 7]}, ["y"], constants)
    assert_streams(source, r.standard_normal((1, 3, T, 7)).astype(np.float32), [(1, 3, 2, 7)])


def test_a_padded_value_that_is_padded_again_has_two_histories():
    r = rng()
    constants = {"w": kernel(r, 5, C, 2), "p": np.array([0, 0, 2, 0, 0, 0]), **cut(2)}
    constants["s"], constants["e"] = np.array([3]), END
    nodes = [
        node("Pad", ["x", "p"], ["xp"]),
        node("Conv", ["xp", "w"], ["c"], pads=[2, 0]),
        node("Slice", ["c", "s", "e", "a"], ["y"]),
    ]
    source = model(nodes, {"x": [1, C, "T"]}, ["y"], constants)
    assert_streams(source, r.standard_normal((1, C, T)).astype(np.float32))


# ---- what cannot stream ----

X = {"x": [1, C, "T"]}
CUT = {"s": np.array([0]), "e": np.array([-1]), "a": np.array([2])}
REFUSED = {
    "symmetric": ([node("Conv", ["x", "w"], ["y"], pads=[1, 1])], {}, "Conv_y.*1 frames into the future"),
    "unpadded": ([node("Conv", ["x", "w"], ["y"])], {}, "Conv_y.*2 frames into the future"),
    "dilated": ([node("Conv", ["x", "w"], ["y"], pads=[2, 0], dilations=[3])], {}, "Conv_y.*4 frames"),
    "same": ([node("Conv", ["x", "w"], ["y"], auto_pad="SAME_UPPER")], {}, "Conv_y.*1 frames into the future"),
    "strided": ([node("Conv", ["x", "w"], ["y"], pads=[2, 0], strides=[2])], {}, "Conv_y.*stride"),
    "not cut": ([node("Conv", ["x", "w"], ["y"], pads=[2, 2])], {}, "Conv_y.*more entries than frames"),
    "cut too little": ([node("Conv", ["x", "w"], ["c"], pads=[2, 2]), node("Slice", ["c", "s", "e", "a"], ["y"])],
                       CUT, "Slice_y.*more entries than frames"),
    "cut at the wrong end": ([node("Conv", ["x", "w"], ["c"], pads=[2, 2]), node("Slice", ["c", "s", "e", "a"], ["y"])],
                             {**CUT, "s": np.array([2]), "e": END}, "Slice_y"),
    "reflected": ([node("Pad", ["x", "p"], ["xp"], mode="reflect"), node("Conv", ["xp", "w"], ["y"])],
                  {"p": np.array([0, 0, 2, 0, 0, 0])}, "Pad_xp.*something else than a constant"),
    "pooled ahead": ([node("MaxPool", ["x"], ["y"], kernel_shape=[3], pads=[1, 1])], {}, "MaxPool_y.*1 frames into"),
    "averaged over fewer": ([node("AveragePool", ["x"], ["y"], kernel_shape=[3], pads=[2, 0])], {},
                            "AveragePool_y.*over fewer frames"),
    "transposed ahead": ([node("ConvTranspose", ["x", "w2"], ["y"], pads=[1, 1])], {"w2": kernel(rng(), C, 4, 3)},
                         "ConvTranspose_y.*1 frames of the future"),
    "transposed and not cut": ([node("ConvTranspose", ["x", "w2"], ["y"])], {"w2": kernel(rng(), C, 4, 3)},
                               "ConvTranspose_y.*more entries than frames"),
    "more frames than there are": ([node("ConvTranspose", ["x", "w2"], ["y"], strides=[2])],
                                   {"w2": kernel(rng(), C, 4, 2)}, "ConvTranspose_y.*stride"),
    "summed while padded": ([node("Conv", ["x", "w"], ["c"], pads=[2, 2]), node("ReduceMean", ["c"], ["y"], axes=[1])],
                            {}, "ReduceMean_y.*padded along the time axis"),
}  # fmt: skip


@pytest.mark.parametrize("case", list(REFUSED))
def test_what_looks_into_the_future_is_refused_by_name(case):
    nodes, constants, message = REFUSED[case]
    source = model(nodes, X, ["y"], {"w": kernel(rng(), 4, C, 3), **constants})
    with pytest.raises(ModelError, match=f"cannot stream: .*{message}"):
        compile(source)
