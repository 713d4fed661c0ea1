"""ONNX's own node tests: models and expected outputs that come with the onnx package."""

from __future__ import annotations

import functools
import warnings
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper
from onnx.backend.test.case import node as node_cases

from streamgru.errors import ModelError
from streamgru_export.compiler.compile import Compiled, compile
from streamgru_export.compiler.graph.onnx_reader import MAX_OPSET, MIN_OPSET

ATOL = 1e-5  # float32 against expected values that are float32 themselves, sums of up to some thousand terms
RTOL = {np.dtype(np.float16): 2e-3}  # an image computes in float32 and does not round to half in between
FOLDED = {"Range", "ConstantOfShape"}  # their inputs must be constants, all of them
OPTIONAL = {"LayerNormalization": 1, "MaxPool": 1}  # outputs beyond these are refused: the tests run without them


@functools.cache
def all_cases() -> list[Any]:
    """Every test that is a model."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return [case for case in node_cases.collect_testcases(None) if case.model is not None]


def operators(case: Any) -> set[str]:
    return {n.op_type for n in case.model.graph.node}


def feeds(case: Any) -> dict[str, Any]:
    """The inputs by name."""
    return {p.name: _array(v) for p, v in zip(case.model.graph.input, case.data_sets[0][0], strict=True)}


def _array(value: Any) -> Any:
    return numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else np.asarray(value)


def compiled(case: Any) -> Compiled:
    """As it stands, or, where the compiler wants constants, with all inputs but the first as initializers (of a node
    that is folded: all)."""
    model = _understood(_with_one_output(case.model))
    try:
        return compile(model, mode="whole")
    except ModelError as error:
        fixed = onnx.ModelProto()
        fixed.CopyFrom(model)
        values = list(feeds(case).items())[0 if operators(case) <= FOLDED else 1 :]
        if any(value.dtype == object for _, value in values):
            raise error
        for name, value in values:
            fixed.graph.initializer.append(numpy_helper.from_array(value, name))
        return compile(fixed, mode="whole")


def _with_one_output(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model without the optional outputs of its node."""
    kept = OPTIONAL.get(model.graph.node[0].op_type)
    if len(model.graph.node) > 1 or kept is None or len(model.graph.output) <= kept:
        return model
    less = onnx.ModelProto()
    less.CopyFrom(model)
    for names in (less.graph.output, less.graph.node[0].output):
        del names[kept:]
    return less


def _understood(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model; one of another operator set as of the nearest one understood, where ONNX takes it for that: such
    operators differ in dtypes only, and the expected outputs say whether it is so."""
    (own,) = (o for o in model.opset_import if o.domain in ("", "ai.onnx"))
    nearest = min(max(own.version, MIN_OPSET), MAX_OPSET)
    if own.version == nearest:
        return model
    other = onnx.ModelProto()
    other.CopyFrom(model)
    for opset in other.opset_import:
        if opset.domain in ("", "ai.onnx"):
            opset.version = nearest
    try:
        onnx.checker.check_model(other)
    except onnx.checker.ValidationError:
        return model
    return other


def differences(case: Any, got: dict[str, Any]) -> list[str]:
    """What is not as expected."""
    wrong = []
    for port, value in zip(_with_one_output(case.model).graph.output, case.data_sets[0][1], strict=False):
        want, have = _array(value), np.asarray(got[port.name])
        rtol = RTOL.get(want.dtype, 1e-4)
        if want.shape != have.shape:
            wrong.append(f"{case.name}: {port.name} has the shape {have.shape}, {want.shape} was expected")
        elif not np.allclose(have.astype(np.float64), want.astype(np.float64), rtol=rtol, atol=ATOL, equal_nan=True):
            wrong.append(f"{case.name}: {port.name} differs")
    return wrong
