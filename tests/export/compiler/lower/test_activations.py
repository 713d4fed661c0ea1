"""The activations of recurrent nodes: names, numbers, their order and their defaults."""

from __future__ import annotations

import pytest

from export.compiler.stream.steps import sequence
from export.graphs import ACTIVATIONS, CELLS, assert_close, assert_equals_float64, cell, onnxruntime, rng, whole
from streamgru.errors import ModelError
from streamgru_export.compiler.compile import compile


@pytest.mark.parametrize("name", list(ACTIVATIONS))
@pytest.mark.parametrize("op", list(CELLS))
def test_every_activation_in_every_place(op, name):
    places = {"GRU": 2, "LSTM": 3, "RNN": 1}[op]
    numbers = ACTIVATIONS[name]
    attrs = {"activations": [name] * places}
    if numbers:
        attrs["activation_alpha"] = [numbers[0]] * places
    if len(numbers) > 1:
        attrs["activation_beta"] = [numbers[1]] * places
    # ReLU-like gates grow: a short sequence keeps the numbers, and so the rounding, near 1.
    assert_equals_float64(*cell(op, rng(), t=3, **attrs), 1e-5)


def test_activation_numbers_are_consumed_in_order():
    attrs = {"activations": ["Sigmoid", "LeakyRelu", "HardSigmoid", "Tanh"], "activation_alpha": [0.3, 0.25],
             "activation_beta": [0.45]}  # fmt: skip
    assert_equals_float64(*cell("GRU", rng(), direction="bidirectional", **attrs))


@pytest.mark.parametrize("names", [["sigmoid", "TANH"], ["SIGMOID", "tanh"]])
def test_activation_names_are_compared_without_case(names):
    source, feeds = cell("GRU", rng(), activations=names)
    assert_close(whole(compile(source, mode="whole"), feeds), onnxruntime(source, feeds))


@pytest.mark.parametrize("given, missing", [({}, "alpha"), ({"activation_alpha": [0.8]}, "beta")])
def test_a_scaled_tanh_without_its_numbers_is_refused(given, missing):
    """ONNX has no default for them."""
    with pytest.raises(ModelError, match=f"GRU_Y.*ScaledTanh has no default {missing}"):
        compile(sequence("GRU", activations=["Sigmoid", "ScaledTanh"], **given))


@pytest.mark.parametrize("key", ["activation_alpha", "activation_beta"])
def test_numbers_that_no_activation_takes_are_refused(key):
    with pytest.raises(ModelError, match=rf"GRU_Y.*{key} has 1 value\(s\) more than the activations"):
        compile(sequence("GRU", activations=["Sigmoid", "Tanh"], **{key: [0.5]}))
