"""Kernels and their padding: expected values from onnxruntime, which gives positions as sums of powers of ten."""

from __future__ import annotations

import numpy as np
import pytest

from export.graphs import assert_close, model, node, onnxruntime, whole
from streamgru.errors import ModelError
from streamgru_export.compiler.compile import compile
from streamgru_export.compiler.graph.graph import Node, TensorType
from streamgru_export.compiler.graph.windows import window

F32 = np.dtype(np.float32)


def types(*shapes):
    return {name: TensorType(F32, shape) for name, shape in zip("xwy", shapes, strict=True)}


def conv(op="Conv", **attrs):
    return Node(op, op, ["x", "w"], ["y"], attrs)


def test_defaults():
    w = window(conv(), types((1, 4, 9, 8), (6, 2, 3, 2), (1, 6, 7, 7)))
    assert (w.kernel, w.strides, w.dilations, w.begins, w.ends) == ((3, 2), (1, 1), (1, 1), (0, 0), (0, 0))
    assert (w.more, w.group, w.follows_size) == ((0, 0), 1, False)


def test_everything_given():
    given = conv(strides=[2, 1], dilations=[1, 3], pads=[1, 2, 3, 4], group=2, kernel_shape=[3, 2])
    w = window(given, types((1, 4, 9, 8), (6, 2, 3, 2), (1, 6, 6, 11)))
    assert (w.strides, w.dilations, w.begins, w.ends, w.group) == ((2, 1), (1, 3), (1, 2), (3, 4), 2)
    assert [w.reach(k) for k in (0, 1)] == [2, 3]


X = np.arange(1, 8, dtype=np.float32).reshape(1, 1, 7)
W = np.array([[[1, 10, 100]]], np.float32)


@pytest.mark.parametrize("auto", ["VALID", "SAME_UPPER", "SAME_LOWER"])
@pytest.mark.parametrize("stride, size", [(1, 7), (2, 7), (2, 6), (3, 7), (4, 5)])
@pytest.mark.parametrize("op", ["Conv", "ConvTranspose", "MaxPool", "AveragePool"])
def test_auto_pad(op, auto, stride, size):
    attrs = {"auto_pad": auto, "strides": [stride]}
    if op.startswith("Conv"):
        source = model([node(op, ["x", "w"], ["y"], **attrs)], {"x": [1, 1, size]}, ["y"], {"w": W})
    else:
        source = model([node(op, ["x"], ["y"], kernel_shape=[3], **attrs)], {"x": [1, 1, size]}, ["y"])
    feeds = {"x": X[..., :size]}
    assert_close(whole(compile(source, mode="whole"), feeds), onnxruntime(source, feeds))


@pytest.mark.parametrize("auto, pads", [("SAME_UPPER", [1, 2]), ("SAME_LOWER", [2, 1])])
def test_auto_pad_reckons_with_dilations(auto, pads):
    """ONNX: as many outputs as inputs. onnxruntime forgets the dilations there, so it is given the pads themselves."""
    w = np.array([[[1, 10]]], np.float32)
    source, spelled = (
        model([node("Conv", ["x", "w"], ["y"], dilations=[3], **attrs)], {"x": [1, 1, 7]}, ["y"], {"w": w})
        for attrs in ({"auto_pad": auto}, {"pads": pads})
    )
    assert_close(whole(compile(source, mode="whole"), {"x": X}), onnxruntime(spelled, {"x": X}))


@pytest.mark.parametrize("attrs", [
    {}, {"auto_pad": "SAME_UPPER"}, {"auto_pad": "SAME_LOWER"}, {"output_padding": [1]}, {"pads": [1, 1]},
    {"dilations": [2]},
], ids=str)  # fmt: skip
@pytest.mark.parametrize("out", [12, 13, 14, 16])
def test_the_output_shape_of_a_conv_transpose(attrs, out):
    """An odd number of entries too many: one more goes at the beginning, but for SAME_UPPER."""
    transposed = node("ConvTranspose", ["x", "w"], ["y"], strides=[2], output_shape=[out], **attrs)
    source = model([transposed], {"x": [1, 1, 7]}, ["y"], {"w": W})
    assert_close(whole(compile(source, mode="whole"), {"x": X}), onnxruntime(source, {"x": X}))


def test_an_output_shape_beyond_the_kernels_is_refused():
    transposed = node("ConvTranspose", ["x", "w"], ["y"], strides=[2], output_shape=[17])
    source = model([transposed], {"x": [1, 1, 7]}, ["y"], {"w": W})
    with pytest.raises(Exception, match="output_shape is inconsistent"):
        onnxruntime(source, {"x": X})
    with pytest.raises(ModelError, match="more than its kernels reach"):
        compile(source, mode="whole")


REFUSED = [
    (conv(auto_pad="SAME"), "auto_pad 'SAME' is not known"),
    (conv(auto_pad="SAME_UPPER", pads=[0, 0]), "both auto_pad 'SAME_UPPER' and pads"),
    (conv(auto_pad="VALID", pads=[1, 0]), "both auto_pad 'VALID' and pads"),
    (conv(kernel_shape=[2]), r"kernel_shape is \[2\], and its weights have kernels of \[3\]"),
    (conv(strides=[1, 1]), "'strides' has 2 numbers; 1 were expected"),
    (Node("MaxPool", "", ["x"], ["y"]), "'kernel_shape' is missing"),
]


@pytest.mark.parametrize("refused, why", REFUSED)
def test_contradictions_are_refused(refused, why):
    with pytest.raises(ModelError, match=why):
        window(refused, types((1, 1, 7), (1, 1, 3), (1, 1, 5)))


@pytest.mark.parametrize("refused, _", REFUSED[:5])
def test_onnxruntime_refuses_them_too(refused, _):
    source = model([node("Conv", ["x", "w"], ["y"], **refused.attrs)], {"x": [1, 1, 7]}, ["y"], {"w": W})
    with pytest.raises(Exception, match=r"(?i)pad|kernel_shape|strides"):
        onnxruntime(source, {"x": X})
