"""The dtypes of ONNX files that graphs here can hold: their numbers, onnxruntime's words for them, and NumPy's."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from onnx import TensorProto


class OnnxDtype(NamedTuple):
    """One of them."""

    code: int  # TensorProto.DataType
    word: str  # onnxruntime's
    numpy: np.dtype[Any] | None  # None: NumPy has none
    held: np.dtype[Any]  # what a graph here has instead


_FLOAT = np.dtype(np.float32)
TABLE = (
    OnnxDtype(TensorProto.FLOAT, "tensor(float)", _FLOAT, _FLOAT),
    OnnxDtype(TensorProto.DOUBLE, "tensor(double)", np.dtype(np.float64), _FLOAT),
    OnnxDtype(TensorProto.FLOAT16, "tensor(float16)", np.dtype(np.float16), _FLOAT),
    OnnxDtype(TensorProto.BFLOAT16, "tensor(bfloat16)", None, _FLOAT),
    OnnxDtype(TensorProto.INT64, "tensor(int64)", np.dtype(np.int64), np.dtype(np.int64)),
    OnnxDtype(TensorProto.INT32, "tensor(int32)", np.dtype(np.int32), np.dtype(np.int32)),
    OnnxDtype(TensorProto.BOOL, "tensor(bool)", np.dtype(np.bool_), np.dtype(np.bool_)),
)
HELD = {t.code: t.held for t in TABLE}
FROM_ONNX = {t.code: t.held for t in TABLE if t.numpy is not None and t.numpy == t.held}
TO_ONNX = {held: code for code, held in FROM_ONNX.items()}
ROUNDED = HELD.keys() - FROM_ONNX.keys()  # floats of other widths: all become float32
WORDS = {t.code: t.word for t in TABLE}
FED = {t.word: t.held if t.numpy is None else t.numpy for t in TABLE}  # arrays of them, as a caller has them
# What a quantised model is made of, and what to do with one.
NARROWER = {TensorProto.INT8, TensorProto.UINT8}
QUANTISED = "A quantised model: give the float model that it was made from; weights='i8' stores its matrices as bytes"
