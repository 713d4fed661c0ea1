"""ONNX's own node tests of every operator, through the C core on every instruction set of this machine."""

import functools
from fnmatch import fnmatch

import numpy as np
import pytest

import backend_nodes
import streamgru
from streamgru.errors import ModelError, ShapeError

CELLS = ("GRU", "LSTM", "RNN")
OPERATORS = {
    "Add", "Sub", "Mul", "Div", "Pow", "Sqrt", "Exp", "Log", "Neg", "Abs", "Reciprocal", "Min", "Max", "Sum",
    "Mean", "Clip", "Floor", "Sign", "Erf", "Relu", "PRelu", "LeakyRelu", "Elu", "Selu", "Gelu", "Sigmoid",
    "HardSigmoid", "HardSwish", "Tanh", "Softplus", "Softsign", "Softmax", "LogSoftmax", "ThresholdedRelu", "Gemm",
    "MatMul", "Einsum", "Conv", "ConvTranspose", "MaxPool", "AveragePool", "GlobalAveragePool",
    "BatchNormalization", "LayerNormalization", "InstanceNormalization", "ReduceMean", "ReduceSum", "ReduceMax",
    "ReduceMin", "ReduceL2", "ReduceProd", "ArgMax", "TopK", "CumSum", "Concat", "Split", "Slice", "Gather",
    "GatherElements", "ScatterND", "ScatterElements", "Pad", "Transpose", "Reshape", "Flatten", "Squeeze",
    "Unsqueeze", "Expand", "Tile", "Where", "Greater", "Less", "Equal", "And", "Or", "Not", "Cast", "Constant",
    "Identity", "Shape", "Range", "ConstantOfShape", "Dropout",
}  # fmt: skip

# Which tests are not run, and why. Every pattern is in use; what it matches is refused, or differs as said.
DTYPE = "a dtype that images do not have; float, int64, int32 and bool they do"
EMPTY = "a tensor without elements"
IN_THREE = "three spatial dimensions; 1 and 2 are what streams have"
TRAINING = "training mode"
SUMS = "its expected values are float32 sums, 5e-5 off float64"
ROUNDED = "its expected values are rounded to 8 bits; an image computes in float32"
SKIPPED = {
    "*int8*": DTYPE, "*int16*": DTYPE, "*uint32*": DTYPE, "*uint64*": DTYPE, "*string*": DTYPE, "*FLOAT8*": DTYPE,
    "*FLOAT4*": DTYPE, "*INT4*": DTYPE, "*INT2*": DTYPE,
    "test_identity_sequence": "a sequence, no tensor", "test_identity_opt": "an optional, no tensor",
    "*_empty_set*": EMPTY, "*_zero_size_splits*": EMPTY, "test_reshape_allowzero_reordered": EMPTY,
    "test_slice_start_out_of_bounds": EMPTY, "test_shape_start_greater_than_end": EMPTY,
    "test_averagepool_3d_*": IN_THREE, "test_maxpool_3d_*": IN_THREE, "test_convtranspose_3d": IN_THREE,
    "test_castlike_*": EMPTY, "test_constantofshape_int_shape_zero": EMPTY,
    "test_training_dropout": TRAINING, "test_training_dropout_mask": TRAINING,
    "test_training_dropout_default*": TRAINING,
    "test_batchnorm_*training_mode": TRAINING,
    "test_pow_types_int*": "Pow of integers",
    "test_einsum_batch_diagonal": "an index twice in one operand",
    "test_averagepool_2d_ceil_last_window_starts_on_pad": SUMS, "test_cast_FLOAT_to_BFLOAT16": ROUNDED,
}  # fmt: skip


@functools.cache
def cases():
    """The tests whose models hold only these operators."""
    return [c for c in backend_nodes.all_cases() if not backend_nodes.operators(c) - OPERATORS]


def on_every_isa(case):
    """The outputs on each instruction set, by its name."""
    model = streamgru.Model(backend_nodes.compiled(case).image)
    given = backend_nodes.feeds(case)
    feeds = {t.name: np.ascontiguousarray(given[t.name].astype(t.dtype)) for t in model.inputs}
    found = {}
    for isa in streamgru.available_isas():
        streamgru.set_isa(isa)
        try:
            got = model.run(feeds, nonfinite="pass")
        finally:
            streamgru.set_isa()
        found[isa] = got if isinstance(got, dict) else {model.outputs[0].name: got}
    return found


def wrong(case, found):
    """What is not as expected, or not the same everywhere."""
    first, *others = found.values()
    bad = backend_nodes.differences(case, first)
    for isa, other in zip(list(found)[1:], others, strict=True):
        bad += [
            f"{case.name}: {n} on {isa}" for n, y in first.items() if not np.array_equal(y, other[n], equal_nan=True)
        ]
    return bad


@pytest.mark.parametrize("op", CELLS)
def test_recurrent_nodes(op):
    """Six each, layout=1 and sequence_lens included; the same bits on every instruction set."""
    found = [c for c in backend_nodes.all_cases() if backend_nodes.operators(c) == {op}]
    print(*(c.name for c in found))
    assert len(found) == 6
    assert [problem for case in found for problem in wrong(case, on_every_isa(case))] == []


def test_every_other_operator():
    """At least 500 pass, the same bits on every instruction set; SKIPPED lists the rest."""
    passed, problems, refused = [], [], []
    for case in cases():
        if any(fnmatch(case.name, pattern) for pattern in SKIPPED):
            refused.append(case)
            continue
        try:
            bad = wrong(case, on_every_isa(case))
        except (ModelError, ShapeError) as error:
            bad = [f"{case.name}: {error}"]
        problems += bad
        passed += [] if bad else [case.name]
    print(f"{len(passed)} passed on {', '.join(streamgru.available_isas())}; {len(refused)} not run")
    assert problems == []
    assert len(passed) >= 500


def test_every_operator_has_a_node_test_that_is_run():
    run = [c for c in cases() if not any(fnmatch(c.name, pattern) for pattern in SKIPPED)]
    assert OPERATORS - set().union(*(backend_nodes.operators(c) for c in run)) == set()


@pytest.mark.parametrize("pattern", list(SKIPPED))
def test_what_is_left_out_cannot_be_run(pattern):
    """A reason that no longer holds is no reason."""
    names = [c for c in cases() if fnmatch(c.name, pattern)]
    assert names
    for case in names:
        if SKIPPED[pattern] in (SUMS, ROUNDED):
            (difference,) = wrong(case, on_every_isa(case))
            assert difference.endswith("differs")
        else:
            with pytest.raises((ModelError, ShapeError)):
                on_every_isa(case)
