"""Einsum, against NumPy in float64 and onnxruntime."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto

import streamgru
from export.graphs import assert_close, gru_weights, model, node, onnxruntime, rng
from streamgru.codes import Code
from streamgru.errors import ModelError
from streamgru_export.compiler.compile import compile

SIZES = {"b": 2, "h": 3, "q": 4, "k": 5, "d": 6, "i": 4, "j": 5, "n": 3}


FLOAT = 2e-6  # float32 against float64, sums of at most a few dozen products of size 1


def run(source, feeds):
    """One run of the image in the C runtime."""
    compiled = compile(source, mode="whole", length=1)
    stream = streamgru.Model(compiled.image).stream()
    result = stream.step(feeds if len(feeds) > 1 else next(iter(feeds.values())))
    return result if isinstance(result, dict) else {next(iter(compiled.outputs)): result}


def operands(r, equation):
    terms = equation.split("->")[0].replace(" ", "").split(",")
    return [r.normal(size=[SIZES[c] for c in t]).astype(np.float32) for t in terms]


def einsum(equation, arrays, constant=()):
    """A model of the equation; the operands whose numbers are in `constant` are constants."""
    names = [f"x{i}" for i in range(len(arrays))]
    fed = {n: a for i, (n, a) in enumerate(zip(names, arrays, strict=True)) if i not in constant}
    kept = {n: a for i, (n, a) in enumerate(zip(names, arrays, strict=True)) if i in constant}
    nodes = [node("Einsum", names, ["y"], equation=equation)]
    return model(nodes, {n: a.shape for n, a in fed.items()}, ["y"], kept), fed


def assert_is_numpy(equation, arrays, constant=()):
    source, feeds = einsum(equation, arrays, constant)
    expected = np.einsum(equation, *[a.astype(np.float64) for a in arrays])
    got = run(source, feeds)["y"]
    assert got.shape == expected.shape
    np.testing.assert_allclose(got, expected, rtol=FLOAT, atol=FLOAT)
    assert_close({"y": got}, onnxruntime(source, feeds), FLOAT)


@pytest.mark.parametrize(
    "equation",
    [
        "bij,bjk->bik", "bhqd,bhkd->bhqk", "bhqk,bhkd->bqhd", "ij,j->i", "j,ij->i", "ij,jk", "ij,jk->ki",
        "i,j->ij", "ij,ij->ij", "ij,ij->", "bij,bjk->", "bij->bji", "ij->i", "ij->", "bhqd,kd->bqhk",
        "bqd,hdk->bhqk", "bij,ij->bj", "bn,bijk->bik", "bij,ikn->bjkn", "b h q d , h d k -> b q h k",
        "ij,jk,kn->in", "b,bij,j->bi",
    ],
)  # fmt: skip
def test_equations(equation):
    assert_is_numpy(equation, operands(rng(), equation))


@pytest.mark.parametrize("constant", [(0,), (1,)])
@pytest.mark.parametrize(
    "equation", ["ij,jk->ik", "bij,jk->bik", "bqd,hdk->bhqk", "ij,jk->ki", "bij,j->bi", "bi,bi->b"]
)
def test_one_operand_is_constant(equation, constant):
    assert_is_numpy(equation, operands(rng(), equation), constant)


def test_a_constant_matrix_on_the_right_is_packed():
    source, _ = einsum("bij,kj->bik", operands(rng(), "bij,kj->bik"), (1,))
    assert [op.code for op in compile(source, mode="whole").program.operators] == [Code.AFFINE]


@pytest.mark.parametrize(
    "equation, shapes",
    [
        ("...ij,...jk->...ik", [(2, 3, 4, 5), (2, 3, 5, 6)]),
        ("...ij,...jk->...ik", [(2, 1, 4, 5), (1, 3, 5, 6)]),
        ("...ij,jk->...ik", [(2, 3, 4, 5), (5, 6)]),
        ("i...->...i", [(2, 3, 4)]),
        ("...i,...i", [(2, 3), (2, 3)]),
    ],
)
def test_an_ellipsis(equation, shapes):
    r = rng()
    assert_is_numpy(equation, [r.normal(size=s).astype(np.float32) for s in shapes])


@pytest.mark.parametrize("equation, shapes", [("ii->i", [(4, 4)]), ("bii,bj->bij", [(2, 3, 3), (2, 4)])])
def test_a_diagonal_is_refused_by_name(equation, shapes):
    source, _ = einsum(equation, [np.ones(s, np.float32) for s in shapes])
    with pytest.raises(ModelError, match=r"Einsum_y.*diagonal"):
        compile(source, mode="whole")


def test_integers_are_refused_by_name():
    source = model([node("Einsum", ["a", "b"], ["y"], equation="ij,jk->ik")], {"a": [2, 3], "b": [3, 4]}, ["y"],
                   dtypes=dict.fromkeys("aby", TensorProto.INT64))  # fmt: skip
    with pytest.raises(ModelError, match=r"Einsum_y.*int64"):
        compile(source, mode="whole")


def streamed(equation, second, constants):
    """A GRU over [T, 1, 6] and an Einsum over its output [T, 1, 1, 8]."""
    weights = gru_weights(rng(), 6, 8)
    nodes = [node("GRU", ["x", "W", "R", "B"], ["Y"], hidden_size=8),
             node("Einsum", ["Y", second], ["y"], equation=equation)]  # fmt: skip
    return model(nodes, {"x": ["T", 1, 6]}, ["y"], {**weights, **constants})


@pytest.mark.parametrize("equation", ["tdbh,hk->tbk", "tdbh,hk->kbt"])
def test_an_einsum_of_every_frame_streams(equation):
    r = rng()
    source = streamed(equation, "w", {"w": r.normal(size=(8, 3)).astype(np.float32)})
    compiled, x = compile(source), r.normal(size=(9, 1, 6)).astype(np.float32)
    assert compiled.time_axis["y"] == equation.split("->")[1].index("t")
    got = streamgru.Model(compiled.image).stream().run(x)
    np.testing.assert_allclose(got, onnxruntime(source, {"x": x})["y"], rtol=FLOAT, atol=FLOAT)


@pytest.mark.parametrize(
    "equation, message",
    [("tdbh,sdbh->ts", "frames with other frames"), ("tdbh,tdbk->hk", "sums over the frames")],
)
def test_attention_over_time_is_refused_by_name(equation, message):
    with pytest.raises(ModelError, match=f"Einsum_y.*{message}"):
        compile(streamed(equation, "Y", {}))
