"""Small graphs, and what the oracle and onnxruntime make of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

from streamgru_export.oracle.model import Float64Model

SEED = 3
SINGLE = 2e-6  # float64 against onnxruntime's float32: a few roundings of values of size 1
TYPES = {"f": TensorProto.FLOAT, "i": TensorProto.INT64, "b": TensorProto.BOOL}
RUN = ["CPUExecutionProvider"]


def rng() -> np.random.Generator:
    print(f"seed {SEED}")
    return np.random.default_rng(SEED)


def info(name: str, shape: Sequence[int | str] | None, kind: str = "f") -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TYPES[kind], shape)


def graph(
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[onnx.ValueInfoProto],
    outputs: Sequence[onnx.ValueInfoProto],
    constants: Mapping[str, Any] | None = None,
) -> onnx.GraphProto:
    tensors = [numpy_helper.from_array(np.asarray(value), name) for name, value in (constants or {}).items()]
    return helper.make_graph(nodes, "g", inputs, outputs, tensors)


def model(body: onnx.GraphProto, opset: int = 17) -> onnx.ModelProto:
    return helper.make_model(body, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def both(
    nodes: Sequence[onnx.NodeProto],
    feeds: Mapping[str, Any],
    outputs: Mapping[str, str],
    constants: Mapping[str, Any] | None = None,
    opset: int = 17,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The oracle's and onnxruntime's answers. `outputs`: each one's name and kind."""
    inputs = [info(name, value.shape, value.dtype.kind) for name, value in feeds.items()]
    made = model(graph(nodes, inputs, [info(n, None, kind) for n, kind in outputs.items()], constants), opset)
    results = ort.InferenceSession(made.SerializeToString(), providers=RUN).run(list(outputs), dict(feeds))
    return Float64Model(made).run(feeds), dict(zip(outputs, results, strict=True))


def assert_alike(found: tuple[dict[str, Any], dict[str, Any]], tolerance: float = SINGLE) -> None:
    """The same names and shapes; floats within the tolerance, others equal."""
    ours, theirs = found
    assert list(ours) == list(theirs)
    for name, expected in theirs.items():
        assert ours[name].shape == expected.shape, name
        if expected.dtype.kind == "f":
            assert ours[name].dtype == np.float64
            np.testing.assert_allclose(ours[name], expected, rtol=tolerance, atol=tolerance, err_msg=name)
        else:
            assert ours[name].dtype == expected.dtype
            np.testing.assert_array_equal(ours[name], expected, err_msg=name)
