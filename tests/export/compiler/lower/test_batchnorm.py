"""An inference-time BatchNormalization goes into the product before it, where that changes nothing."""

from __future__ import annotations

import numpy as np
import pytest

from export.graphs import assert_close, codes, model, node, onnxruntime, rng, whole
from streamgru.codes import Code
from streamgru_export.compiler.compile import compile


@pytest.mark.parametrize("op", ["Conv", "ConvTranspose", "Gemm"])
def test_batch_normalization_goes_into_the_product_before_it(op):
    r = rng()
    shape = {"Conv": (6, 2, 3, 3), "ConvTranspose": (4, 3, 3, 3), "Gemm": (4, 6)}[op]
    x = (2, 4) if op == "Gemm" else (1, 4, 5, 6)
    constants = {"w": r.normal(size=shape), "b": r.normal(size=6), "g": r.normal(size=6), "s": r.normal(size=6),
                 "m": r.normal(size=6), "v": r.uniform(0.5, 2, 6)}  # fmt: skip
    attrs = {} if op == "Gemm" else {"group": 2}
    nodes = [node(op, ["x", "w", "b"], ["c"], **attrs), node("BatchNormalization", ["c", "g", "s", "m", "v"], ["n"]),
             node("Relu", ["n"], ["y"])]  # fmt: skip
    source = model(nodes, {"x": x}, ["y"], {k: v.astype(np.float32) for k, v in constants.items()})
    compiled, feeds = compile(source, mode="whole"), {"x": r.normal(size=x).astype(np.float32)}
    assert len(codes(compiled)) == 1
    assert_close(whole(compiled, feeds), onnxruntime(source, feeds), 1e-5)  # the scale moves into the weights


def normalised(op, w, x, *, bias="", norm="c", constants=None, outputs=("y",), between=(), **attrs):
    """A product, and a BatchNormalization of the value `norm`; compiled, run and compared."""
    r = rng()
    channels = {"Conv": w[0], "ConvTranspose": w[1] * attrs.get("group", 1), "Gemm": w[attrs.get("transB", 0) ^ 1]}[op]
    known = {"w": r.normal(size=w), "g": r.normal(size=channels), "s": r.normal(size=channels),
             "m": r.normal(size=channels), "v": r.uniform(0.5, 2, channels)} | (constants or {})  # fmt: skip
    nodes = [node(op, ["x", "w", *([bias] if bias else [])], ["c"], **attrs), *between,
             node("BatchNormalization", [norm, "g", "s", "m", "v"], ["y"], epsilon=0.01)]  # fmt: skip
    known = {k: np.asarray(v, np.float32) for k, v in known.items()}
    source = model(nodes, {"x": x}, list(outputs), known)
    compiled, feeds = compile(source, mode="whole"), {"x": r.normal(size=x).astype(np.float32)}
    assert_close(whole(compiled, feeds), onnxruntime(source, feeds), 1e-5)  # the scale moves into the weights
    return codes(compiled)


@pytest.mark.parametrize(
    "op, w, x, attrs",
    [
        ("Conv", (6, 4, 3), (1, 4, 9), {}),
        ("Conv", (6, 1, 3), (1, 3, 9), {"group": 3}),
        ("ConvTranspose", (4, 3, 3), (1, 4, 9), {}),
        ("ConvTranspose", (4, 3, 3), (1, 4, 9), {"group": 2}),
        ("ConvTranspose", (4, 1, 3), (1, 4, 9), {"group": 4}),
        ("Gemm", (4, 6), (2, 4), {}),
        ("Gemm", (6, 4), (2, 4), {"transB": 1}),
    ],
)
def test_a_product_without_a_bias_gets_one(op, w, x, attrs):
    assert len(normalised(op, w, x, **attrs)) == 1


@pytest.mark.parametrize("attrs", [{"alpha": 0.5}, {"beta": 0.5}, {"transA": 1}])
def test_a_product_that_is_scaled_itself_keeps_its_norm(attrs):
    b = {"b": rng().normal(size=6)}
    x = (4, 2) if "transA" in attrs else (2, 4)
    assert len(normalised("Gemm", (4, 6), x, bias="b", constants=b, **attrs)) > 1


def test_a_product_that_something_else_reads_keeps_its_norm():
    more = [node("Exp", ["c"], ["z"])]
    left = normalised("Conv", (6, 4, 3), (1, 4, 9), between=more, outputs=("y", "z"))
    assert left.count(Code.BINARY) == 2  # times the scale, plus the shift
    assert normalised("Conv", (6, 4, 3), (1, 4, 9), outputs=("c", "y")).count(Code.BINARY) == 2


def test_a_norm_behind_something_else_stays():
    between = [node("Relu", ["c"], ["r"])]
    assert normalised("Conv", (6, 4, 3), (1, 4, 9), between=between, norm="r").count(Code.BINARY) == 2


def test_a_bias_that_is_a_matrix_is_none():
    b = {"b": rng().normal(size=(2, 6))}
    assert len(normalised("Gemm", (4, 6), (2, 4), bias="b", constants=b)) > 1


def test_weights_that_two_products_share_are_scaled_for_one():
    """The other goes on with what they were."""
    r = rng()
    known = {"w": r.normal(size=(6, 4, 3)), **{k: r.uniform(0.5, 2, 6) for k in "gsmv"}}
    nodes = [node("Conv", ["x", "w"], ["c"]), node("BatchNormalization", ["c", *"gsmv"], ["y"]),
             node("Conv", ["x", "w"], ["z"], pads=[0, 0])]  # fmt: skip
    source = model(nodes, {"x": [1, 4, 9]}, ["y", "z"], {k: v.astype(np.float32) for k, v in known.items()})
    feeds = {"x": r.normal(size=(1, 4, 9)).astype(np.float32)}
    assert_close(whole(compile(source, mode="whole"), feeds), onnxruntime(source, feeds), 1e-5)


def test_two_norms_one_after_the_other_go_in_both():
    between = [node("BatchNormalization", ["c", "g", "s", "m", "v"], ["n"])]
    assert len(normalised("Conv", (6, 4, 3), (1, 4, 9), between=between, norm="n")) == 1
