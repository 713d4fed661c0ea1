"""A slip in a lowering is reported as ours, wherever it stands: never as the model's, and the fuzzer counts it."""

import numpy as np
import pytest

from export.graphs import gru_weights, model, node, rng
from fuzz import onnx_models
from streamgru.errors import FaultError, ModelError
from streamgru_export.compiler.compile import compile
from streamgru_export.compiler.graph.blame import STRICT
from streamgru_export.compiler.lower import lower, recurrent

GRU = gru_weights(rng(), 4, 3)
SQUARE = {"w": np.ones((4, 4), np.float32)}
KERNEL = {"w": np.ones((2, 4, 3), np.float32)}
# Operator -> a node 'operator_y', the shape of x, and the constants that it reads.
MODELS = {
    "Relu": (node("Relu", ["x"], ["y"]), [2, 4], {}),
    "Add": (node("Add", ["x", "w"], ["y"]), [2, 4], {"w": np.ones(4, np.float32)}),
    "MatMul": (node("MatMul", ["x", "w"], ["y"]), [2, 4], SQUARE),
    "Gemm": (node("Gemm", ["x", "w"], ["y"]), [2, 4], SQUARE),
    "Transpose": (node("Transpose", ["x"], ["y"]), [2, 4], {}),
    "Concat": (node("Concat", ["x", "x"], ["y"], axis=0), [2, 4], {}),
    "Softmax": (node("Softmax", ["x"], ["y"]), [2, 4], {}),
    "ReduceMean": (node("ReduceMean", ["x"], ["y"], axes=[1]), [2, 4], {}),
    "Conv": (node("Conv", ["x", "w"], ["y"]), [1, 4, 8], KERNEL),
    "GRU": (node("GRU", ["x", "W", "R", "B"], ["y"], hidden_size=3), [2, 1, 4], GRU),
}


def slip(ctx, node, *_):
    """A misspelt attribute."""
    return node.atrs


@pytest.fixture(name="slipped", params=MODELS)
def fixture_slipped(request, monkeypatch):
    """A sound model of one operator, whose lowering has a slip."""
    made, shape, constants = MODELS[request.param]
    source = model([made], {"x": shape}, ["y"], constants)
    compile(source, mode="whole")  # it is sound
    if request.param == "GRU":
        monkeypatch.setattr(recurrent, "lower", slip)
    else:
        monkeypatch.setitem(lower.LOWER, request.param, slip)
    return source, f"{request.param} node '{request.param}_y'"


def test_in_tests_it_comes_through_as_it_is(slipped):
    source, name = slipped
    with pytest.raises(AttributeError, match="atrs") as caught:
        compile(source, mode="whole")
    assert caught.value.__notes__ == [f"at {name}"]


def test_a_user_reads_one_line_that_names_the_node_and_asks_for_a_report(slipped, monkeypatch):
    monkeypatch.delenv(STRICT)
    source, name = slipped
    with pytest.raises(FaultError, match=rf"fault of streamgru at {name} \(AttributeError: .*report") as caught:
        compile(source, mode="whole")
    assert not isinstance(caught.value, ModelError)
    assert "\n" not in str(caught.value)
    assert isinstance(caught.value.__cause__, AttributeError)


@pytest.mark.parametrize("strict", [True, False])
def test_the_fuzzer_counts_it_as_a_finding(slipped, strict, monkeypatch):
    if not strict:
        monkeypatch.delenv(STRICT)
    source, name = slipped
    outcome, report = onnx_models.trial(source.SerializeToString(), "whole")
    assert outcome == ("AttributeError" if strict else "FaultError")
    assert name in report


def test_the_fuzzer_takes_a_refusal_for_none():
    broken = model([node("Relu", ["ghost"], ["y"])], {"x": [1]}, ["y"])
    assert onnx_models.trial(broken.SerializeToString(), "whole") == ("ModelError", "")
