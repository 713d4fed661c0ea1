"""The table of ONNX's dtypes, against ONNX's own and what onnxruntime says of a graph."""

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper

from export.graphs import model, node
from streamgru_export.compiler.graph.dtypes import FED, FROM_ONNX, HELD, ROUNDED, TABLE, TO_ONNX, WORDS


@pytest.mark.parametrize("dtype", [t for t in TABLE if t.numpy is not None], ids=lambda t: t.word)
def test_numpys_dtype_is_onnxs(dtype):
    assert dtype.numpy == helper.tensor_dtype_to_np_dtype(dtype.code) == FED[dtype.word]


@pytest.mark.parametrize("code", HELD)
def test_the_word_is_onnxruntimes(code):
    proto = model([node("Identity", ["x"], ["y"])], {"x": [2]}, ["y"], dtypes={"x": code, "y": code})
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    assert session.get_inputs()[0].type == WORDS[code]


def test_floats_are_held_as_float32_and_all_else_as_it_is():
    assert {TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.BFLOAT16} == ROUNDED
    assert {HELD[code] for code in ROUNDED} == {np.dtype(np.float32)}
    assert {FROM_ONNX[code] for code in TO_ONNX.values()} == set(HELD.values()) == set(TO_ONNX)
