"""What ONNX's attributes mean: defaults against ONNX's schemas, values against onnxruntime, and none is overlooked."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from export.graphs import CELLS, FLOAT, model, node, onnxruntime, rng, whole
from streamgru.errors import ModelError
from streamgru_export.compiler.compile import compile
from streamgru_export.compiler.graph import operators as ops
from streamgru_export.compiler.graph.builder import Builder
from streamgru_export.compiler.graph.graph import Node, TensorType
from streamgru_export.compiler.graph.lifting import lift_node
from streamgru_export.compiler.lower.lower import LOWER

OPSETS = range(ops.MIN_OPSET, ops.MAX_OPSET + 1)
F32 = np.dtype(np.float32)


def attributes(op: str, opset: int) -> dict[str, Any]:
    """The attributes of an operator in an operator set -> its defaults, None where it has none."""
    try:
        schema = onnx.defs.get_schema(op, opset, "")
    except onnx.defs.SchemaError:
        return {}
    found = {k: a.default_value for k, a in schema.attributes.items()}
    return {k: helper.get_attribute_value(v) if v.name else None for k, v in found.items()}


def of(op: str, *inputs: str, **attrs: Any) -> Node:
    return Node(op, op, ["x", *inputs], ["y"], attrs)


# ---- defaults ----

READERS = {int: ops.integer, float: ops.number, bytes: ops.text}


@pytest.mark.parametrize("op", sorted({*LOWER, *CELLS}))
def test_defaults_are_those_of_every_operator_set(op):
    for opset in OPSETS:
        for name, default in attributes(op, opset).items():
            if type(default) in READERS and (op, name) not in {("Softmax", "axis"), ("LogSoftmax", "axis")}:
                expected = default.decode() if isinstance(default, bytes) else default
                assert READERS[type(default)](of(op), name) == expected, f"{name} in operator set {opset}"


@pytest.mark.parametrize("op", sorted(op for op in LOWER if any("axis" in attributes(op, v) for v in OPSETS)))
def test_the_axis_is_by_default_that_of_the_operator_set(op):
    for opset in OPSETS:
        default = attributes(op, opset).get("axis")
        if default is not None:
            assert ops.axis(of(op), 4, opset) == default % 4, f"operator set {opset}"


def test_an_attribute_that_must_be_there_is_named():
    with pytest.raises(ModelError, match="Concat node 'Concat': its attribute 'axis' is missing"):
        ops.axis(of("Concat"), 3, 17)


# ---- axes ----


@pytest.mark.parametrize("axis, expected", [(0, 0), (2, 2), (-1, 2), (-3, 0)])
def test_axes_count_from_the_front(axis, expected):
    assert ops.axis(of("Gather", "i", axis=axis), 3, 17) == expected


@pytest.mark.parametrize("axis", [3, -4])
def test_axes_out_of_range_are_refused(axis):
    with pytest.raises(ModelError, match=f"axis {axis} is out of range for 3 dimensions"):
        ops.axis(of("Gather", "i", axis=axis), 3, 17)


@pytest.mark.parametrize("op, opset, attrs, expected", [
    ("Softmax", 12, {}, range(1, 3)), ("Softmax", 13, {}, range(2, 3)), ("LogSoftmax", 12, {"axis": 0}, range(3)),
    ("LogSoftmax", 13, {"axis": 0}, range(1)), ("LayerNormalization", 17, {"axis": -2}, range(1, 3)),
    ("TopK", 11, {}, range(2, 3)),
])  # fmt: skip
def test_what_is_normalised_together(op, opset, attrs, expected):
    assert ops.normalised_axes(of(op, **attrs), 3, opset) == expected


REDUCTIONS = [
    ({}, None, 17, [0, 1, 2]), ({"axes": [-1, 0]}, None, 17, [2, 0]), ({}, [], 18, [0, 1, 2]), ({}, [1], 18, [1]),
    ({"noop_with_empty_axes": 1}, None, 18, []), ({"noop_with_empty_axes": 1}, [], 18, []),
    ({"noop_with_empty_axes": 1}, [-2], 18, [1]),
]  # fmt: skip


@pytest.mark.parametrize("attrs, given, opset, expected", REDUCTIONS)
def test_reduction_axes(attrs, given, opset, expected):
    constants = {} if given is None else {"axes": np.array(given, np.int64)}
    mean = of("ReduceMean", *constants, **attrs)
    assert ops.reduction_axes(mean, 3, opset, constants) == expected
    x = rng().normal(size=(2, 3, 4)).astype(np.float32)
    source = model([node("ReduceMean", mean.inputs, ["y"], keepdims=0, **attrs)], {"x": x.shape}, ["y"], constants,
                   opset)  # fmt: skip
    want = x if not expected else x.mean(tuple(expected), dtype=np.float64)
    np.testing.assert_allclose(onnxruntime(source, {"x": x})["y"], want, rtol=FLOAT, atol=FLOAT)


def test_computed_axes_are_not_known():
    assert ops.reduction_axes(of("ReduceSum", "axes"), 3, 13, {}) is None
    assert ops.cumsum_axis(of("CumSum", "axis"), 3, {}) is None
    assert ops.cumsum_axis(of("CumSum", "axis"), 3, {"axis": np.array([-1])}) == 2


def test_an_axis_twice_is_refused():
    with pytest.raises(ModelError, match="an axis stands twice among its axes"):
        ops.reduction_axes(of("ReduceSum", axes=[0, -3]), 3, 11, {})


def test_perm():
    assert ops.perm(of("Transpose"), 3) == [2, 1, 0]
    assert ops.perm(of("Transpose", perm=[1, 0, 2]), 3) == [1, 0, 2]


# ---- parts ----


def test_slices_are_onnxruntimes_whatever_start_end_and_step():
    """But for an end of INT_MAX stepping backwards, where onnxruntime alone takes it for "all"."""
    r = rng()
    numbers = [0, 1, 3, 4, 5, 6, 100, 2**31 - 2, -1, -2, -4, -5, -6, -100, -(2**31) + 1]
    for _ in range(300):
        start, end, step = int(r.choice(numbers)), int(r.choice(numbers)), int(r.choice([1, 2, 3, 7, -1, -2, -3, -7]))
        constants = {k: np.array([v]) for k, v in (("s", start), ("e", end), ("a", -1), ("t", step))}
        inputs = ["x", *constants]
        source = model([node("Slice", inputs, ["y"])], {"x": [2, 5]}, ["y"], constants)
        expected = onnxruntime(source, {"x": np.array([range(5)] * 2, np.float32)})["y"][0].astype(int).tolist()
        found = ops.slices(Node("Slice", "", inputs, ["y"]), (2, 5), constants)
        assert {a: list(entries) for a, entries in found.items()} == {1: expected}, (start, end, step)


def test_a_slice_backwards_from_before_the_first_entry_gives_the_first():
    constants = {k: np.array([v]) for k, v in (("s", -100), ("e", -100), ("a", 0), ("t", -1))}
    source = model([node("Slice", ["x", *constants], ["y"])], {"x": [5]}, ["y"], constants)
    x = np.arange(5, dtype=np.float32)
    assert onnxruntime(source, {"x": x})["y"].tolist() == [0.0]
    assert whole(compile(source, mode="whole"), {"x": x})["y"].tolist() == [0.0]


def test_slices_by_attributes_and_by_what_is_computed():
    assert ops.slices(of("Slice", starts=[1], ends=[-1]), (5, 6), {}) == {0: range(1, 4)}
    assert ops.slices(of("Slice", starts=[1, 0], ends=[9, 2], axes=[-1, 0]), (5, 6), {}) == {
        1: range(1, 6), 0: range(2),
    }  # fmt: skip
    assert ops.slices(of("Slice", "s", "e"), (5,), {"s": np.array([0])}) is None


@pytest.mark.parametrize("attrs, why", [
    ({"starts": [1]}, "starts or ends are missing"), ({"starts": [1], "ends": [1, 2]}, "do not fit"),
    ({"starts": [1], "ends": [2], "axes": [2]}, "axis 2 is out of range"),
    ({"starts": [1, 1], "ends": [2, 2], "axes": [0, -2]}, "axis 0 stands twice"),
    ({"starts": [1], "ends": [2], "steps": [0]}, "do not fit"),
])  # fmt: skip
def test_slices_that_contradict_themselves(attrs, why):
    with pytest.raises(ModelError, match=why):
        ops.slices(of("Slice", **attrs), (5, 6), {})


def test_gathered_indices():
    assert ops.gathered(of("Gather", "i"), np.array([[-1, 0], [4, -5]]), 5).tolist() == [[4, 0], [4, 0]]
    with pytest.raises(ModelError, match="index -6 is out of range for a dimension of 5"):
        ops.gathered(of("Gather", "i"), np.array([-6]), 5)


@pytest.mark.parametrize("attrs, expected", [
    ({}, [2, 3, 4]), ({"start": 1}, [3, 4]), ({"end": -1}, [2, 3]), ({"start": -9, "end": 9}, [2, 3, 4]),
    ({"start": 2, "end": 1}, []),
])  # fmt: skip
def test_the_part_of_a_shape(attrs, expected):
    source = model([node("Shape", ["x"], ["y"], **attrs)], {"x": [2, 3, 4]}, ["y"], output_dtype=TensorProto.INT64)
    assert onnxruntime(source, {"x": np.zeros((2, 3, 4), np.float32)})["y"].tolist() == expected
    assert [2, 3, 4][ops.shape_part(of("Shape", **attrs))] == expected


def test_pads():
    assert ops.pads(of("Pad", pads=[1, 2, 3, 4]), 2, {}) == [(1, 3), (2, 4)]
    constants = {"p": np.array([1, -2]), "a": np.array([-1]), "none": np.zeros(0, np.int64)}
    assert ops.pads(of("Pad", "p", "", "a"), 3, constants) == [(0, 0), (0, 0), (1, -2)]
    assert ops.pads(of("Pad", "none", "", "none"), 2, constants) == [(0, 0), (0, 0)]
    assert ops.pads(of("Pad", "p", "", "computed"), 3, constants) is None
    with pytest.raises(ModelError, match="a begin and an end for each axis"):
        ops.pads(of("Pad", "p"), 2, constants)
    assert ops.pad_value(of("Pad", "p"), constants) == 0.0
    assert ops.pad_value(of("Pad", value=2.5), {}) == 2.5
    assert ops.pad_value(of("Pad", "p", "v"), {"v": np.float32(3)}) == 3.0
    assert ops.pad_value(of("Pad", "p", "v"), {}) is None


def test_how_many_a_top_k_gives():
    assert ops.top_count(of("TopK", k=3), {}) == 3
    assert ops.top_count(of("TopK", "k"), {"k": np.array([2])}) == 2
    assert ops.top_count(of("TopK", "k"), {}) is None


# ---- numbers ----

EDGES = np.array([-np.inf, -2, 0, 2, np.inf], np.float32)


@pytest.mark.parametrize("opset, bounds", [
    (7, {}), (7, {"min": -1.0}), (7, {"max": 1.0}), (10, {"min": -1.0, "max": 1.0}), (17, {}), (17, {"min": -1.0}),
    (17, {"max": 1.0}), (17, {"min": 1.0, "max": -1.0}),
], ids=str)  # fmt: skip
def test_clip_lets_no_infinity_through(opset, bounds):
    if opset < 11:
        clip, constants = node("Clip", ["x"], ["y"], **bounds), {}
    else:
        constants = {k: np.float32(v) for k, v in bounds.items()}
        clip = node("Clip", ["x", *(k if k in bounds else "" for k in ("min", "max"))], ["y"])
    source = model([clip], {"x": [5]}, ["y"], constants, opset)
    expected = onnxruntime(source, {"x": EDGES})["y"]
    assert np.isfinite(expected).all()
    np.testing.assert_array_equal(whole(compile(source, mode="whole"), {"x": EDGES})["y"], expected)


@pytest.mark.parametrize("inputs", [["x", "b"], ["x", "", "b"]])
def test_clip_by_one_computed_bound(inputs):
    source = model([node("Clip", inputs, ["y"])], {"x": [5], "b": []}, ["y"])
    feeds = {"x": EDGES, "b": np.array(1, np.float32)}
    expected = onnxruntime(source, feeds)["y"]
    np.testing.assert_array_equal(whole(compile(source, mode="whole"), feeds)["y"], expected)


def test_gemm():
    assert ops.gemm(of("Gemm", "b")) == ops.Gemm(1.0, 1.0, False, False)
    assert ops.gemm(of("Gemm", "b", alpha=2.0, beta=0.5, transA=1, transB=1)) == ops.Gemm(2.0, 0.5, True, True)


@pytest.mark.parametrize("equation, ranks, expected", [
    ("ij,jk->ik", [2, 2], (["ij", "jk"], "ik")), (" ij , jk ", [2, 2], (["ij", "jk"], "ik")),
    ("ba", [2], (["ba"], "ab")), ("...i,i->...", [3, 1], (["YZi", "i"], "YZ")),
])  # fmt: skip
def test_equations(equation, ranks, expected):
    terms, out = ops.equation(of("Einsum", equation=equation), ranks)
    letters = {c: d for t, e in zip(terms, expected[0], strict=True) for c, d in zip(t, e, strict=True)}
    assert len(set(letters.values())) == len(letters)
    assert "".join(letters[c] for c in out) == expected[1]


# ---- one reader in place of several ----


@pytest.mark.parametrize("op", ["ReduceL1", "ReduceL2", "ReduceSumSquare", "ReduceLogSum", "ReduceSum", "ReduceMax"])
@pytest.mark.parametrize("opset, attrs", [(18, {"noop_with_empty_axes": 1}), (18, {}), (17, {}), (17, {"axes": [-1]})])
def test_reductions_of_all_steps_at_once_are_those_of_each(op, opset, attrs):
    """With noop_with_empty_axes nothing is summed, and still squared, made positive or the logarithm of."""
    if op == "ReduceSum" and "axes" in attrs:
        opset = 12
    x = rng().uniform(0.5, 2, (3, 2, 4)).astype(np.float32) * (1 if op == "ReduceLogSum" else -1)
    source = model([node(op, ["x"], ["y"], **attrs)], {"x": [2, 4]}, ["y"], opset=opset)
    expected = np.stack([onnxruntime(source, {"x": step})["y"] for step in x])
    types = {"x": TensorType(F32, (2, 4)), "y": TensorType(F32, expected.shape[1:])}
    b = Builder({"all": TensorType(F32, x.shape)}, {}, opset)
    name = lift_node(b, of(op, **attrs), "y", ["all"], [True], types, len(x))
    nodes = [helper.make_node(n.op_type, n.inputs, n.outputs, **n.attrs) for n in b.nodes]
    lifted = model(nodes, {"all": x.shape}, [name], b.new_constants, opset)
    np.testing.assert_allclose(onnxruntime(lifted, {"all": x})[name], expected, rtol=FLOAT, atol=FLOAT)


def test_another_scale_for_each_entry_of_a_channel_is_refused():
    names = ["s", "b", "m", "v"]
    norm = node("BatchNormalization", ["x", *names], ["y"], spatial=0)
    source = model([norm], {"x": [1, 2, 2]}, ["y"], {k: np.ones((2, 2), np.float32) for k in names}, 7)
    with pytest.raises(ModelError, match="spatial=0"):
        compile(source, mode="whole")


# ---- no attribute is overlooked ----

X = [2, 4, 6]
I64 = np.int64


def trial(op: str, attrs: dict[str, list[Any]], base: dict[str, Any] | None = None, shape: Any = X,
          opsets: tuple[int, int] = (7, 24), outputs: int = 1, **constants: Any) -> Any:  # fmt: skip
    """An operator on x and constants, in these operator sets; each attribute alone takes each of these values."""
    return op, attrs, base or {}, shape, opsets, outputs, constants


VECTOR = np.array([0.5, 1.5, -1.0, 2.0], np.float32)
NORM = {"scale": VECTOR, "bias": VECTOR[::-1].copy()}
KERNEL = np.arange(16, dtype=np.float32).reshape(4, 2, 2) / 8
SQUARE = KERNEL.reshape(4, 4)
AXES = {"axes": [[1], [-1, 0]], "keepdims": [0]}
POOL = {
    "auto_pad": ["VALID", "SAME_UPPER", "SAME_LOWER"], "ceil_mode": [1], "pads": [[1, 0]], "strides": [[2]],
    "kernel_shape": [[3]],
}  # fmt: skip
CONV = {
    "auto_pad": ["VALID", "SAME_UPPER"], "dilations": [[2]], "pads": [[1, 0]], "strides": [[2]], "kernel_shape": [[2]],
}  # fmt: skip
REDUCING = [op for op in LOWER if op.startswith("Reduce") and op != "ReduceSum"]
TRIALS = [
    *(trial(op, {"axis": [0, -1], "keepdims": [0], "select_last_index": [1]}) for op in ("ArgMax", "ArgMin")),
    trial("AveragePool", {**POOL, "count_include_pad": [1], "dilations": [[2]]}, {"kernel_shape": [2]}),
    trial("MaxPool", {**POOL, "dilations": [[2]]}, {"kernel_shape": [2]}),
    trial("BatchNormalization", {"epsilon": [0.5]}, **NORM, mean=VECTOR, var=VECTOR**2),
    trial("Celu", {"alpha": [0.5]}),
    trial("Clip", {"min": [-0.5], "max": [0.5]}, opsets=(7, 10)),
    trial("Concat", {"axis": [0, 2]}, {"axis": 1}, c=np.ones((2, 4, 6), np.float32)),
    trial("Concat", {"axis": [-2]}, {"axis": 1}, opsets=(11, 24), c=np.ones((2, 4, 6), np.float32)),
    trial("Conv", {**CONV, "group": [2]}, {"group": 2}, w=KERNEL),
    trial("ConvTranspose", {**CONV, "group": [2], "output_shape": [[7], [6]]}, {"group": 2}, w=KERNEL),
    trial("ConvTranspose", {"output_padding": [[1]]}, {"group": 2, "strides": [2]}, w=KERNEL),
    trial("CumSum", {"exclusive": [1], "reverse": [1]}, opsets=(11, 24), axis=np.array(1)),
    *(trial(op, {"blocksize": [2], "mode": ["DCR", "CRD"]}, {"blocksize": 2}, [1, 4, 2, 4])
      for op in ("DepthToSpace", "SpaceToDepth")),
    trial("Einsum", {"equation": ["abc,db->acd", "a...c,db->adb..."]}, {"equation": "abc,db->acd"}, w=SQUARE),
    trial("Elu", {"alpha": [0.5]}),
    trial("Flatten", {"axis": [0, 2]}),
    trial("Gather", {"axis": [1, -1]}, i=np.array([1, 0])),
    trial("GatherElements", {"axis": [1, -1]}, i=np.zeros((2, 4, 6), I64)),
    trial("Gelu", {"approximate": ["tanh"]}),
    trial("Gemm", {"alpha": [0.5], "beta": [0.5], "transA": [1], "transB": [1]}, shape=[4, 4], w=SQUARE, c=VECTOR),
    trial("GroupNormalization", {"epsilon": [0.5], "num_groups": [2]}, {"num_groups": 2}, opsets=(21, 24), **NORM),
    trial("HardSigmoid", {"alpha": [0.5], "beta": [0.3]}),
    trial("InstanceNormalization", {"epsilon": [0.5]}, **NORM),
    trial("LayerNormalization", {"epsilon": [0.5], "axis": [-1]}, scale=np.arange(6, dtype=np.float32)),
    trial("LayerNormalization", {"axis": [1, -2]}, {"axis": 1}, scale=np.arange(24, dtype=np.float32).reshape(4, 6)),
    trial("LeakyRelu", {"alpha": [0.5]}),
    *(trial(op, {"axis": [0, 2]}) for op in ("Softmax", "LogSoftmax")),
    trial("Mod", {"fmod": [1]}, {"fmod": 1}, m=np.float32(0.7)),
    trial("Pad", {"mode": ["edge", "reflect"], "value": [1.5]}, {"pads": [0, 0, 1, 0, 1, 2]}, opsets=(7, 10)),
    trial("Pad", {"pads": [[1, 0, 0, 0, 0, 2]]}, {"pads": [0] * 6}, opsets=(7, 10)),
    trial("Pad", {"mode": ["edge", "reflect"]}, opsets=(11, 24), pads=np.array([0, 0, 1, 0, 1, 2])),
    *(trial(op, AXES, opsets=(7, 17)) for op in REDUCING),
    *(trial(op, {"keepdims": [0], "noop_with_empty_axes": [1]}, opsets=(18, 24)) for op in REDUCING),
    trial("ReduceSum", AXES, opsets=(7, 12)),
    trial("ReduceSum", {"keepdims": [0], "noop_with_empty_axes": [1]}, opsets=(13, 24)),
    trial("Reshape", {"allowzero": [1]}, opsets=(14, 24), shape_=np.array([4, 2, -1])),
    trial("Scatter", {"axis": [1, -1]}, opsets=(9, 24), i=np.zeros((2, 4, 6), I64), u=np.ones((2, 4, 6), np.float32)),
    trial("ScatterElements", {"axis": [1, -1], "reduction": ["add", "mul"]}, i=np.zeros((2, 4, 6), I64),
          u=np.full((2, 4, 6), 2, np.float32)),
    trial("ScatterND", {"reduction": ["add", "mul"]}, i=np.array([[1], [1]]), u=np.full((2, 4, 6), 2, np.float32)),
    trial("Selu", {"alpha": [0.5], "gamma": [2.0]}),
    trial("Slice", {"starts": [[1, 1]], "ends": [[-1, 9]], "axes": [[1, 2]]}, {"starts": [0, 0], "ends": [2, 3]},
          opsets=(7, 9)),
    trial("Split", {"axis": [-1]}, outputs=2, opsets=(7, 17)),
    trial("Split", {"split": [[1, 3]]}, {"axis": 1}, outputs=2, opsets=(7, 12)),
    trial("Split", {"axis": [-1, 1], "num_outputs": [2]}, {"num_outputs": 2}, outputs=2, opsets=(18, 24)),
    trial("Squeeze", {"axes": [[1]]}, shape=[2, 1, 3, 1], opsets=(7, 12)),
    trial("Swish", {"alpha": [0.5]}),
    trial("ThresholdedRelu", {"alpha": [0.5]}),
    trial("TopK", {"axis": [1], "k": [2, 3]}, {"k": 2}, outputs=2, opsets=(7, 9)),
    trial("TopK", {"axis": [1], "largest": [0], "sorted": [1]}, outputs=2, opsets=(10, 24), k=np.array([3])),
    trial("Transpose", {"perm": [[1, 0, 2]]}),
    trial("Unsqueeze", {"axes": [[1], [0, 3]]}, {"axes": [0]}, opsets=(7, 12)),
]  # fmt: skip
# Why an attribute may go unread.
UNREAD = {
    ("BatchNormalization", "momentum"): "it moves the statistics while training",
    ("BatchNormalization", "training_mode"): "refused: test_onnx_node_tests",
    ("BatchNormalization", "spatial"): "refused: above",
    **{(op, k): "of float8, which is refused" for op in ("Cast", "CastLike") for k in ("saturate", "round_mode")},
    ("Cast", "to"): "a dtype, and the output has it",
    ("GroupNormalization", "stash_type"): "the precision in between",
    ("LayerNormalization", "stash_type"): "the precision in between",
    ("MaxPool", "storage_order"): "of the output Indices, which is refused",
    **{("ReverseSequence", k): "lower/test_reverse.py" for k in ("time_axis", "batch_axis")},
    **{(op, k): "test_recurrent.py, lower/test_lower.py" for op in CELLS for k in (
        "activations", "activation_alpha", "activation_beta", "clip", "direction", "hidden_size", "layout",
        "linear_before_reset", "input_forget")},
    **{(op, "num_groups"): "operator set 18 has its scales by group: test_onnx_node_tests"
       for op in ("GroupNormalization",)},
    ("GroupNormalization", "epsilon"): "the same",
}  # fmt: skip


def chosen(op: str, opsets: tuple[int, int]) -> list[int]:
    """The first operator set of each version of an operator, within these."""
    versions = {s.since_version for s in onnx.defs.get_all_schemas_with_history() if (s.name, s.domain) == (op, "")}
    firsts = {max(v, opsets[0]) for v in versions if v <= opsets[1]}
    return sorted(v for v in firsts if attributes(op, v) or v == opsets[0])


@pytest.mark.parametrize("op, attrs, base, shape, opsets, outputs, constants", TRIALS,
                         ids=[f"{t[0]}-{i}" for i, t in enumerate(TRIALS)])  # fmt: skip
def test_each_attribute_means_what_onnxruntime_takes_it_for(op, attrs, base, shape, opsets, outputs, constants):
    x = rng().normal(size=shape).astype(np.float32)
    if op == "ReduceLogSum":
        x = np.abs(x)
    names = ["y", "z"][:outputs]
    tried = 0
    for opset in chosen(op, opsets):
        known = attributes(op, opset)
        values = [{k: v} for k, listed in attrs.items() if k in known for v in listed]
        for change in [{}, *values]:
            own = {**{k: v for k, v in base.items() if k in known}, **change}
            dtypes = {n: TensorProto.INT64 for n in names[op == "TopK" :] if op in ("ArgMax", "ArgMin", "TopK")}
            source = model([node(op, ["x", *constants], names, **own)], {"x": shape}, names, constants, opset, dtypes)
            try:
                expected = onnxruntime(source, {"x": x})
            except Exception as error:  # noqa: BLE001 - what onnxruntime refuses says nothing
                print(f"{op} {opset} {own}: {' '.join(str(error).split())[:160]}")
                continue
            actual = whole(compile(source, mode="whole"), {"x": x})
            for name in names:
                np.testing.assert_allclose(actual[name], expected[name], 1e-5, 1e-5, err_msg=f"{opset} {own}")
            tried += 1
    assert tried > 0


@pytest.mark.parametrize("op", sorted({*LOWER, *CELLS}))
def test_no_attribute_is_overlooked(op):
    """Each is tried above in its operator sets, or it stands in UNREAD with the reason."""
    for opset in OPSETS:
        tried = {k for t in TRIALS if t[0] == op and t[4][0] <= opset <= t[4][1] for k in t[1]}
        missed = {k for k in attributes(op, opset) if k not in tried and (op, k) not in UNREAD}
        assert missed == set(), f"operator set {opset}"


@pytest.mark.parametrize("axis, expected", [(0, 0), (2, 2), (-1, 2), (-3, 0)])
def test_axes_are_counted_from_the_front(axis, expected):
    assert ops.from_front(Node("Softmax", "s", [], []), axis, 3) == expected


@pytest.mark.parametrize("axis, rank", [(3, 3), (-4, 3), (1, 1), (1, 0)])
def test_an_axis_that_is_none_is_refused_by_node(axis, rank):
    with pytest.raises(ModelError, match=rf"Softmax node 's': axis {axis} is out of range for {rank} dimensions"):
        ops.from_front(Node("Softmax", "s", [], []), axis, rank)
