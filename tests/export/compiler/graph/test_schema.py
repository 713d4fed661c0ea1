"""A node that ONNX does not have is refused, as onnxruntime refuses it; what onnxruntime runs is not."""

from __future__ import annotations

import numpy as np
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper

from export.graphs import model
from streamgru.errors import ModelError
from streamgru_export.compiler.compile import compile

ONES = {
    "w": np.ones((2, 4, 3), np.float32), "square": np.ones((4, 4), np.float32), "four": np.ones(4, np.float32),
    "five": np.ones(5, np.float32), "i": np.zeros((2, 4), np.int64), "two": np.ones((2, 2), np.float32),
    "flags": np.ones((2, 4), np.bool_), "places": np.array([[[0], [1], [1]], [[0], [0], [1]]]),
    "rows": np.ones((2, 3, 4), np.float32),
}  # fmt: skip


def single(op, inputs, shape=(2, 4), outputs=("y",), opset=17, **attributes):
    used = {name: ONES[name] for name in inputs if name in ONES}
    made = helper.make_node(op, list(inputs), list(outputs), name="it", **attributes)
    return model([made], {"x": list(shape)}, list(outputs), used, opset=opset)


WRONG = {
    "no such operator": single("Relulu", "x"),
    "not in this operator set": single("Gelu", "x", opset=17),
    "too many inputs": single("Relu", ["x", "four"]),
    "too few inputs": single("Add", ["x"]),
    "an input without a name": single("Add", ["x", ""]),
    "an unknown attribute": single("Relu", "x", alpha=1.0),
    "an attribute of another type": single("Softmax", "x", axis=1.0),
    "a missing attribute": single("Concat", ["x", "x"]),
    "integers where floats are": single("Sigmoid", ["i"], shape=(1,)),
    "flags where floats are": single("Sigmoid", ["flags"], shape=(1,)),
    "updates of other rows": single("ScatterND", ["x", "places", "square"]),
    "two dtypes where one is": single("Add", ["x", "i"]),
    "a permutation of more axes": single("Transpose", "x", perm=[0, 1, 2]),
    "a permutation that repeats": single("Transpose", "x", perm=[1, 1]),
    "a kernel for other channels": single("Conv", ["x", "w"], shape=(1, 5, 8)),
    "a kernel of another rank": single("Conv", ["x", "square"], shape=(1, 4, 8)),
    "strides for more dimensions": single("Conv", ["x", "w"], shape=(1, 4, 8), strides=[1, 1]),
    "a bias for other channels": single("Conv", ["x", "w", "five"], shape=(1, 4, 8)),
    "groups that do not divide": single("Conv", ["x", "w"], shape=(1, 4, 8), group=3),
    "matrices that do not meet": single("Gemm", ["x", "square"], shape=(2, 5)),
    "a C that is too wide": single("Gemm", ["x", "square", "five"]),
    "a scale for other channels": single("BatchNormalization", ["x", "five", "five", "five", "five"]),
    "an axis beyond": single("LayerNormalization", ["x", "four"], axis=3),
    "a slope that is too wide": single("PRelu", ["x", "five"]),
    "indices of another rank": single("GatherElements", ["x", "i"], shape=(2, 4, 1)),
    "more parts than outputs": single("Split", "x", outputs=("y", "z"), num_outputs=3, opset=18),
}


def runs(source):
    """Whether onnxruntime makes a session of it and runs it."""
    try:
        session = ort.InferenceSession(source.SerializeToString(), providers=["CPUExecutionProvider"])
        session.run(None, {i.name: np.ones(i.shape, np.float32) for i in session.get_inputs()})
    except Exception:  # noqa: BLE001 - it has many kinds
        return False
    return True


@pytest.mark.parametrize("what", WRONG)
def test_what_onnxruntime_refuses_is_refused_by_node(what):
    source = WRONG[what]
    assert not runs(source)
    with pytest.raises(ModelError, match=r"node 'it'|attribute|operator"):
        compile(source, mode="whole")


def test_flags_are_no_floats_where_halves_of_floats_are():
    with pytest.raises(ModelError, match="Sigmoid node 'it': its input 'flags' is bool; float32 was expected"):
        compile(WRONG["flags where floats are"], mode="whole")


@pytest.mark.parametrize("batch_dims", [-1, -2, -100, -(2**63)])
def test_batch_dims_below_0_are_refused_before_anything_is_inferred(batch_dims):
    """onnx's own inference ends the process."""
    source = single("GatherND", ["x", "places"], batch_dims=batch_dims)
    with pytest.raises(ModelError, match=f"GatherND node 'it': 'batch_dims' is {batch_dims}, and cannot be below 0"):
        compile(source, mode="whole")


RIGHT = {
    "a slope for each column": single("PRelu", ["x", "four"]),
    "a C that is repeated": single("Gemm", ["x", "square", "four"]),
    "no matrix turned": single("Gemm", ["x", "square"], transB=1),
    "a kernel shape that is said": single("Conv", ["x", "w"], shape=(1, 4, 8), kernel_shape=[3], pads=[1, 1]),
    "an axis from the end": single("LayerNormalization", ["x", "four"], axis=-1),
    "indices that are fewer": single("GatherElements", ["x", "i"], shape=(3, 4), axis=0),
    "a table of places": single("ScatterND", ["x", "places", "rows"]),
    "a permutation": single("Transpose", "x", perm=[1, 0]),
}


@pytest.mark.parametrize("what", RIGHT)
def test_what_onnxruntime_runs_is_taken(what):
    source = RIGHT[what]
    assert runs(source)
    assert compile(source, mode="whole").outputs


def test_half_floats_count_as_floats_where_an_operator_takes_no_float():
    """The reader widens them: a model of half precision is one of float32 by then."""
    cast = helper.make_node("Cast", ["x"], ["h"], to=TensorProto.FLOAT16)
    source = model([cast, helper.make_node("Relu", ["h"], ["y"])], {"x": [2]}, ["y"])
    assert compile(source, mode="whole").outputs == {"y": (2,)}


def test_a_word_that_onnx_does_not_have_is_refused_though_onnxruntime_takes_it_for_none():
    source = single("ScatterElements", ["x", "i", "x"], reduction="mean", opset=18)
    with pytest.raises(ModelError, match="'reduction' is 'mean'; one of none, add, mul, max, min was expected"):
        compile(source, mode="whole")
