"""What weights of fewer bits cost, by NumPy: RMSE over RMS of every output, of integers the share that differs."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto

import streamgru
from export.graphs import gru_weights, model, node, rng
from streamgru.errors import ModelError, ShapeError
from streamgru_export.compiler.accuracy import FRAMES, OutputError, judge, measure
from streamgru_export.compiler.compile import compile

I, H = 24, 32  # noqa: E741 - the field's names


def source(tail=(), outputs=("Y",), constants=None, dtypes=None):
    gru = node("GRU", ["x", "W", "R", "B"], ["Y"], hidden_size=H)
    return model(
        [gru, *tail], {"x": ["T", 1, I]}, outputs, {**gru_weights(rng(), I, H), **(constants or {})}, 17, dtypes
    )


def frames(n=60, scale=1.0):
    return (scale * rng().normal(size=(n, 1, I))).astype(np.float32)


def streamed(compiled, x):
    y = streamgru.Model(compiled.image).stream().run(x)
    return y if isinstance(y, dict) else {next(iter(compiled.outputs)): y}


@pytest.mark.parametrize("weights", ["f16", "i8"])
@pytest.mark.parametrize("scale", [1.0, 0.01])
def test_the_error_is_the_rmse_over_the_rms(weights, scale):
    onnx_model, x = source(), frames(scale=scale)
    exact, rough = compile(onnx_model), compile(onnx_model, weights=weights, tolerance=1.0, samples=x)
    want, got = (streamed(c, x)["Y"].astype(np.float64) for c in (exact, rough))
    rmse, rms = np.sqrt(np.mean((got - want) ** 2)), np.sqrt(np.mean(want**2))
    found = rough.errors["Y"]
    np.testing.assert_allclose([found.rms, found.rmse, found.relative], [rms, rmse, rmse / rms], rtol=1e-9)
    assert 0 < found.relative < 0.1


def test_the_same_weights_cost_nothing():
    compiled = compile(source())
    (error,) = measure(compiled.image, compiled.image, compiled.program, frames()).values()
    assert (error.rmse, error.relative) == (0.0, 0.0)
    assert error.rms > 0


def test_every_output_has_its_own_error():
    tail = [node("Neg", ["Y"], ["minus"]), node("Mul", ["Y", "ten"], ["more"])]
    onnx_model = source(tail, ["Y", "minus", "more"], {"ten": np.float32(10)})
    errors = compile(onnx_model, weights="i8", tolerance=1.0, samples=frames()).errors
    assert errors["minus"] == errors["Y"]
    np.testing.assert_allclose(errors["more"].rmse, 10 * errors["Y"].rmse, rtol=1e-6)
    np.testing.assert_allclose(errors["more"].relative, errors["Y"].relative, rtol=1e-6)


def test_of_integers_it_is_the_share_that_differs():
    tail = [node("ArgMax", ["Y"], ["at"], axis=3, keepdims=0)]
    onnx_model = source(tail, ["at"], dtypes={"at": TensorProto.INT64})
    x = frames(400)
    exact, rough = compile(onnx_model), compile(onnx_model, weights="i8", tolerance=1.0, samples=x)
    share = np.mean(streamed(exact, x)["at"] != streamed(rough, x)["at"])
    assert 0 < share < 0.2
    assert rough.errors["at"] == OutputError(1.0, share, share)


def test_an_output_of_zeros_has_no_error_or_all_of_it():
    tail = [node("Sub", ["Y", "Y"], ["y"])]
    (error,) = compile(source(tail, ["y"]), weights="i8", tolerance=1.0, samples=frames()).errors.values()
    assert error == OutputError(0.0, 0.0, 0.0)
    with pytest.raises(ModelError, match=r"'y' 100\.00%"):
        judge({"y": OutputError(0.0, 0.3, 1.0)}, "i8", 0.5, "m")


def test_without_samples_the_frames_are_random_and_the_same_each_time():
    compiled = [compile(source(), weights="i8", tolerance=1.0) for _ in range(2)]
    assert compiled[0].errors == compiled[1].errors
    exact = compile(source())
    other = measure(exact.image, compiled[0].image, exact.program, seed=1)
    assert other["Y"].rmse != compiled[0].errors["Y"].rmse
    np.testing.assert_allclose(other["Y"].relative, compiled[0].errors["Y"].relative, rtol=0.2)
    assert FRAMES * H > 5000  # numbers behind each figure: its spread is small


def test_random_ids_stay_within_the_table_they_pick_from():
    nodes = [node("Gather", ["table", "ids"], ["e"]), node("GRU", ["e", "W", "R", "B"], ["Y"], hidden_size=H)]
    table = rng().normal(size=(5, I)).astype(np.float32)
    onnx_model = model(nodes, {"ids": ["T", 1]}, ["Y"], {**gru_weights(rng(), I, H), "table": table},
                       dtypes={"ids": TensorProto.INT64})  # fmt: skip
    (error,) = compile(onnx_model, weights="i8", tolerance=1.0).errors.values()
    assert 0 < error.relative < 0.1  # an id beyond the table would be an error of the core


def test_samples_that_do_not_fit_are_refused():
    with pytest.raises(ShapeError, match="'x'"):
        compile(source(), weights="i8", tolerance=1.0, samples=frames()[..., :-1])


ERRORS = {"a": OutputError(2.0, 0.02, 0.01), "b": OutputError(1.0, 0.05, 0.05)}


@pytest.mark.parametrize("tolerance", [0.05, 0.06, 1.0])
def test_errors_within_the_tolerance_pass(tolerance):
    judge(ERRORS, "i8", tolerance, "m.onnx")
    judge({}, "i8", tolerance, "m.onnx")


@pytest.mark.parametrize("tolerance", [0.0499, 0.01, 0.001])
@pytest.mark.parametrize("weights, advice", [("i8", "weights='f16' or a larger"), ("f16", "Compile it with a larger")])
def test_an_error_beyond_the_tolerance_names_the_worst_output_first(tolerance, weights, advice):
    with pytest.raises(ModelError, match=rf"m\.onnx: weights='{weights}'.*'b' 5\.00%.*'a' 1\.00%.*{advice}"):
        judge(ERRORS, weights, tolerance, "m.onnx")


def test_one_output_that_is_not_a_number_does_not_pass():
    with pytest.raises(ModelError, match="'a'"):
        judge({"a": OutputError(1.0, np.nan, np.nan)}, "i8", 0.5, "m")
