"""Small ONNX graphs for the tests of the compiler, and the two executors their images are compared with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

from export.image_vm import ImageVM
from streamgru.codes import Code
from streamgru_export.compiler.compile import Compiled, compile
from streamgru_export.oracle.model import Float64Model

SEED = 20261120
CELLS = {"GRU": 3, "LSTM": 4, "RNN": 1}
ACTIVATIONS = {
    "Sigmoid": (), "Tanh": (), "Relu": (), "Softsign": (), "Softplus": (), "LeakyRelu": (0.2,), "Elu": (0.7,),
    "ThresholdedRelu": (0.3,), "HardSigmoid": (0.3, 0.4), "ScaledTanh": (0.9, 0.8), "Affine": (0.5, 0.1),
}  # fmt: skip
FLOAT = 2e-6  # float32 against float64 or onnxruntime, chains of at most a few hundred products of size 1


def rng() -> np.random.Generator:
    print(f"seed {SEED}")
    return np.random.default_rng(SEED)


def node(op: str, inputs: Sequence[str], outputs: Sequence[str], **attributes: Any) -> onnx.NodeProto:
    """A node named after its first output."""
    return helper.make_node(op, inputs, outputs, name=f"{op}_{outputs[0]}", **attributes)


def model(
    nodes: Sequence[onnx.NodeProto],
    inputs: Mapping[str, Sequence[int | str | None]],
    outputs: Sequence[str],
    constants: Mapping[str, Any] | None = None,
    opset: int = 17,
    dtypes: Mapping[str, int] | None = None,
    producer: str = "test",
    output_dtype: int = TensorProto.FLOAT,
) -> onnx.ModelProto:
    """A model; outputs have no declared shape."""
    dtypes = dtypes or {}
    ins = [helper.make_tensor_value_info(n, dtypes.get(n, TensorProto.FLOAT), s) for n, s in inputs.items()]
    outs = [helper.make_tensor_value_info(n, dtypes.get(n, output_dtype), None) for n in outputs]
    inits = [numpy_helper.from_array(np.asarray(v), k) for k, v in (constants or {}).items()]
    graph = helper.make_graph(nodes, "g", ins, outs, inits)
    return helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8, producer_name=producer
    )


def gru_weights(r: np.random.Generator, i: int, h: int, directions: int = 1, gates: int = 3) -> dict[str, Any]:
    """W, R and B of a recurrent node, of a size that keeps the gates alive."""
    scale = 1 / np.sqrt(h)
    shapes = {"W": (directions, gates * h, i), "R": (directions, gates * h, h), "B": (directions, 2 * gates * h)}
    return {k: r.uniform(-scale, scale, s).astype(np.float32) for k, s in shapes.items()}


def cell(
    op: str, r: np.random.Generator, *, t: int = 5, b: int = 3, i: int = 4, h: int = 6, direction: str = "forward",
    bias: bool = True, lens: bool = False, initial: bool = False, peepholes: bool = False, opset: int = 0, **attrs: Any,
) -> tuple[onnx.ModelProto, dict[str, Any]]:  # fmt: skip
    """A random recurrent node and its feeds; everything that may be absent is, unless asked for."""
    d = 2 if direction == "bidirectional" else 1
    constants = gru_weights(r, i, h, d, CELLS[op])
    batch_first = attrs.get("layout", 0) == 1
    state = (b, d, h) if batch_first else (d, b, h)
    inputs = ["x", "W", "R", "B" if bias else "", "lens" if lens else "", "h0" if initial else ""]
    if lens:
        constants["lens"] = r.integers(1, t + 1, b).astype(np.int32)
    if initial:
        constants["h0"] = r.normal(size=state).astype(np.float32)
    if op == "LSTM":
        inputs += ["c0" if initial else "", "P" if peepholes else ""]
        constants["c0"] = r.normal(size=state).astype(np.float32)
        constants["P"] = r.normal(size=(d, 3 * h)).astype(np.float32)
    outputs = ["Y", "Y_h", "Y_c"][: 3 if op == "LSTM" else 2]
    gru = node(op, inputs, outputs, hidden_size=h, direction=direction, **attrs)
    shape = [b, t, i] if batch_first else [t, b, i]
    opset = opset or (14 if "layout" in attrs else 7)
    used = {k: v for k, v in constants.items() if k in inputs}
    return model([gru], {"x": shape}, outputs, used, opset), {"x": r.normal(size=shape).astype(np.float32)}


def onnxruntime(source: onnx.ModelProto, feeds: Mapping[str, Any]) -> dict[str, Any]:
    """What onnxruntime says."""
    session = ort.InferenceSession(source.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [o.name for o in session.get_outputs()]
    return dict(zip(names, session.run(names, dict(feeds)), strict=True))


def whole(compiled: Compiled, feeds: Mapping[str, Any]) -> dict[str, Any]:
    """One run of an image."""
    return ImageVM(compiled.image).step(dict(feeds))


def codes(compiled: Compiled) -> list[Code]:
    """The operators of an image."""
    return [op.code for op in compiled.program.operators]


def stream(compiled: Compiled, feeds: Mapping[str, Any]) -> dict[str, Any]:
    """All frames of a sequence, one after the other. Outputs with a time axis are joined along it; of the
    others the last frame's value is given."""
    vm = ImageVM(compiled.image)
    timed = [n for n in compiled.inputs if compiled.time_axis[n] is not None]
    steps = np.shape(feeds[timed[0]])[compiled.time_axis[timed[0]]]
    frames = [
        vm.step({n: np.take(feeds[n], t, compiled.time_axis[n]) if n in timed else feeds[n] for n in compiled.inputs})
        for t in range(steps)
    ]
    joined = {}
    for name in compiled.outputs:
        axis = compiled.time_axis[name]
        joined[name] = frames[-1][name] if axis is None else np.stack([f[name] for f in frames], axis)
    return joined


def assert_close(actual: Mapping[str, Any], expected: Mapping[str, Any], tolerance: float = FLOAT) -> None:
    """The same names, shapes and, within the tolerance, numbers."""
    assert set(expected) == set(actual)
    for name, value in expected.items():
        assert value.shape == actual[name].shape, name
        np.testing.assert_allclose(actual[name], value, rtol=tolerance, atol=tolerance, err_msg=name)


def assert_equals_float64(source: onnx.ModelProto, feeds: Mapping[str, Any], tolerance: float = FLOAT) -> None:
    """The whole graph gives what the float64 oracle gives."""
    assert_close(whole(compile(source, mode="whole"), feeds), Float64Model(source).run(feeds), tolerance)
