"""Convolutions over time stream in every spelling, and those that need the future are refused by name."""

from __future__ import annotations

import numpy as np
import pytest

from export.compiler.stream.streams import END, C, T, assert_streams, conv1d, cut, kernel, sequence
from export.graphs import model, node, rng
from streamgru.errors import ModelError
from streamgru_export.compiler.compile import compile


@pytest.mark.parametrize("spelling", ["pads", "pad", "chop", "concat"])
@pytest.mark.parametrize("k, d", [(2, 1), (3, 1), (3, 4), (5, 2)])
def test_every_spelling_of_a_causal_convolution(spelling, k, d):
    r = rng()
    assert_streams(conv1d(r, k=k, d=d, spelling=spelling), sequence(r, 1, C, T), [(1, C, (k - 1) * d)])


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


def test_a_pad_may_be_cut_a_little_at_both_ends():
    r = rng()
    constants = {"w": kernel(r, 4, C, 3), "p": np.array([0, 0, 3, 0, 0, 2]), "s1": np.array([1]), "e1": np.array([-1]),
                 **cut(1)}  # fmt: skip
    nodes = [
        node("Pad", ["x", "p"], ["xp"]),
        node("Slice", ["xp", "s1", "e1", "a"], ["xc"]),
        node("Conv", ["xc", "w"], ["c"]),
        node("Slice", ["c", "s", "e", "a"], ["y"]),
    ]
    source = model(nodes, {"x": [1, C, "T"]}, ["y"], constants)
    assert_streams(source, sequence(r, 1, C, T))


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
