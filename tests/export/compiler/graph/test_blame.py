"""Whose fault an error is."""

import pytest

from streamgru.errors import FaultError, ModelError
from streamgru_export.compiler.graph.blame import STRICT, blaming
from streamgru_export.compiler.graph.graph import Node

NODE = Node("Relu", "bend", ["x"], ["y"])
SLIPS = [IndexError, KeyError, ZeroDivisionError, AttributeError, TypeError, NameError, AssertionError]


@pytest.mark.parametrize("error", SLIPS)
def test_an_error_of_pythons_own_is_a_fault_of_ours_with_its_cause(error, monkeypatch):
    monkeypatch.delenv(STRICT)
    message = rf"Relu node 'bend' \({error.__name__}: .*why.*\): please report"
    with pytest.raises(FaultError, match=message) as caught, blaming(NODE):
        raise error("why")
    assert not isinstance(caught.value, ModelError)
    assert isinstance(caught.value.__cause__, error)


@pytest.mark.parametrize("error", SLIPS)
def test_in_strict_mode_it_comes_through_and_says_where(error):
    with pytest.raises(error) as caught, blaming(), blaming(NODE):
        raise error("why")
    assert caught.value.__notes__ == ["at Relu node 'bend'"]


@pytest.mark.parametrize("error", [MemoryError, RecursionError])
def test_too_large_or_too_deep_is_the_models_fault(error):
    with pytest.raises(ModelError, match=rf"'bend'.*{error.__name__}") as caught, blaming(NODE):
        raise error("why")
    assert isinstance(caught.value.__cause__, error)


@pytest.mark.parametrize("error", [ModelError("as it was"), OSError("no such folder"), ModuleNotFoundError("onnx")])
def test_what_is_no_fault_of_a_line_passes_unchanged(error, monkeypatch):
    monkeypatch.delenv(STRICT)
    with pytest.raises(type(error)) as caught, blaming(NODE):
        raise error
    assert caught.value is error
