"""Einsum as products and transposes, and what goes with the reductions: integers, the statistics of
LayerNormalization, InstanceNormalization."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto

import streamgru
from export.graphs import assert_close, gru_weights, model, node, onnxruntime, rng
from streamgru.errors import ModelError
from streamgru.layout import Code
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


# ---- reductions and normalisations ----


@pytest.mark.parametrize("op", ["ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd"])
@pytest.mark.parametrize("dtype", [np.int64, np.int32])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_reductions_of_integers(op, dtype, axis):
    r = rng()
    x = r.integers(1, 9, (3, 4, 5)).astype(dtype)  # positive, so that a mean's truncation has one meaning
    onnx_type = TensorProto.INT64 if dtype is np.int64 else TensorProto.INT32
    nodes, constants = [node(op, ["x", "a"], ["y"], keepdims=0)], {"a": np.array([axis])}
    source = model(nodes, {"x": x.shape}, ["y"], constants, 18, {"x": onnx_type, "y": onnx_type})
    got = run(source, {"x": x})["y"]
    exact = {"ReduceSum": np.sum, "ReduceMax": np.max, "ReduceMin": np.min, "ReduceProd": np.prod}
    expected = x.sum(axis) // x.shape[axis] if op == "ReduceMean" else exact[op](x, axis)
    assert got.dtype == dtype
    np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("op", ["ReduceL2", "ReduceLogSumExp"])
def test_a_reduction_that_integers_do_not_have_is_refused_by_name(op):
    source = model([node(op, ["x", "a"], ["y"])], {"x": [3, 4]}, ["y"], {"a": np.array([1])}, 18,
                   dict.fromkeys("xy", TensorProto.INT64))  # fmt: skip
    with pytest.raises(ModelError, match=f"{op}_y.*int64"):
        compile(source, mode="whole")


def test_a_sum_along_integers_so_far():
    source = model([node("CumSum", ["x", "a"], ["y"])], {"x": [3, 4]}, ["y"], {"a": np.array(1)}, 17,
                   dict.fromkeys("xy", TensorProto.INT64))  # fmt: skip
    x = rng().integers(-9, 9, (3, 4))
    np.testing.assert_array_equal(run(source, {"x": x})["y"], np.cumsum(x, 1))


@pytest.mark.parametrize("axis", [-1, 1])
@pytest.mark.parametrize("outputs", [["y", "mean", "inv"], ["y", "mean"], ["y", "", "inv"]])
def test_the_statistics_of_layer_normalization(axis, outputs):
    r = rng()
    x = r.normal(0.5, 2, (2, 3, 8)).astype(np.float32)
    shape = x.shape[axis:]
    constants = {"g": r.normal(size=shape).astype(np.float32), "b": r.normal(size=shape).astype(np.float32)}
    layer = node("LayerNormalization", ["x", "g", "b"], outputs, axis=axis, epsilon=1e-3)
    source = model([layer], {"x": x.shape}, [o for o in outputs if o], constants)
    got, wide, axes = run(source, {"x": x}), x.astype(np.float64), tuple(range(axis % 3, 3))
    mean, inv = wide.mean(axes, keepdims=True), 1 / np.sqrt(wide.var(axes, keepdims=True) + 1e-3)
    expected = {"y": (wide - mean) * inv * constants["g"] + constants["b"], "mean": mean, "inv": inv}
    assert_close(got, {n: expected[n] for n in outputs if n}, FLOAT)
    if "" not in outputs:
        assert_close(got, onnxruntime(source, {"x": x}), FLOAT)


@pytest.mark.parametrize("shape", [(2, 3, 8), (1, 4, 3, 5)])
def test_instance_normalization(shape):
    r = rng()
    x = r.normal(0.5, 2, shape).astype(np.float32)
    constants = {"s": r.normal(size=shape[1]).astype(np.float32), "b": r.normal(size=shape[1]).astype(np.float32)}
    source = model([node("InstanceNormalization", ["x", "s", "b"], ["y"])], {"x": shape}, ["y"], constants)
    assert_close(run(source, {"x": x}), onnxruntime(source, {"x": x}), FLOAT)
