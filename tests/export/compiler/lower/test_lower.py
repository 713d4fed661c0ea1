"""Every lowering against onnxruntime, ONNX's own node tests, or float64 where onnxruntime refuses."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper

import backend_nodes
from export.graphs import (
    ACTIVATIONS,
    CELLS,
    FLOAT,
    SEED,
    assert_close,
    cell,
    gru_weights,
    model,
    node,
    onnxruntime,
    rng,
    whole,
)  # fmt: skip
from streamgru.errors import ModelError
from streamgru.layout import Code
from streamgru_export.compiler.compile import compile
from streamgru_export.compiler.lower.lower import LOWER
from streamgru_export.oracle.model import Float64Model


def codes(compiled):
    return [op.code for op in compiled.program.operators]


# ---- ONNX's own node tests ----

EXTRA = {*CELLS, "Constant", "Dropout", "Shape", "Size", "If"}
NO_REASON = {
    # The reference rounds to bfloat16 in between; an image computes in float32.
    "test_celu_bfloat16", "test_celu_bfloat16_expanded",
    # Its expected values carry float32 sums of large numbers: they differ from float64 by 5e-5.
    "test_averagepool_2d_ceil_last_window_starts_on_pad",
}  # fmt: skip


def onnx_cases():
    """The node tests that use only operators that can be lowered, of operator sets that are read, on float32,
    int32, int64 and bool tensors."""
    good = (TensorProto.FLOAT, TensorProto.INT64, TensorProto.INT32, TensorProto.BOOL)
    found = []
    for case in backend_nodes.all_cases():
        graph = case.model.graph
        if case.name in NO_REASON or backend_nodes.operators(case) - set(LOWER) - EXTRA:
            continue
        ports = [*graph.input, *graph.output]
        dims = [d.dim_value for p in ports for d in p.type.tensor_type.shape.dim]
        versions = [o.version for o in case.model.opset_import if o.domain in ("", "ai.onnx")]
        known = all(p.type.HasField("tensor_type") and p.type.tensor_type.elem_type in good for p in ports)
        if known and 0 not in dims and 7 <= versions[0] <= 24:
            found.append(case)
    return found


SKIPPED = ("3 spatial dimensions", "training", "sequence", "depends on the data", "cast to float", "Pow of int")


def test_onnx_node_tests():
    """At least 300 of them pass; those refused are refused for a reason listed in SKIPPED."""
    passed, failed, skipped = [], [], []
    for case in onnx_cases():
        try:
            compiled = backend_nodes.compiled(case)
        except ModelError as error:
            (skipped if any(s in str(error) for s in SKIPPED) else failed).append(f"{case.name}: {error}")
            continue
        feeds = backend_nodes.feeds(case)
        wrong = backend_nodes.differences(case, whole(compiled, {n: feeds[n] for n in compiled.inputs}))
        failed += wrong
        passed += [] if wrong else [case.name]
    print(f"{len(passed)} passed, {len(skipped)} skipped")
    assert failed == []
    assert len(passed) >= 300


@pytest.mark.parametrize("op", list(CELLS))
def test_onnx_recurrent_node_tests(op):
    """Six each, layout=1 and sequence_lens included."""
    cases = [c for c in onnx_cases() if c.model.graph.node[0].op_type == op]
    assert len(cases) == 6
    for case in cases:
        names = [p.name for p in case.model.graph.output]
        got = whole(backend_nodes.compiled(case), {"X": backend_nodes.feeds(case)["X"]})
        assert_close(got, dict(zip(names, case.data_sets[0][1], strict=True)))


# ---- recurrent nodes, every attribute ----


def assert_equals_float64(source, feeds, tolerance=FLOAT):
    assert_close(whole(compile(source, mode="whole"), feeds), Float64Model(source).run(feeds), tolerance)


@pytest.mark.parametrize("op", list(CELLS))
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("layout", [0, 1])
@pytest.mark.parametrize("optional", [{}, {"bias": False}, {"lens": True}, {"initial": True, "lens": True}])
def test_recurrent_nodes(op, direction, layout, optional):
    extra = {"layout": 1} if layout else {}
    assert_equals_float64(*cell(op, rng(), direction=direction, **optional, **extra))


@pytest.mark.parametrize("lbr", [0, 1])
@pytest.mark.parametrize("clip", [0.0, 0.4])
@pytest.mark.parametrize("shape", [{"h": 1, "i": 1}, {"h": 17, "i": 3, "b": 1}, {"t": 1, "b": 2, "h": 20}])
def test_gru_both_forms(lbr, clip, shape):
    attrs = {"clip": clip} if clip else {}
    assert_equals_float64(*cell("GRU", rng(), initial=True, linear_before_reset=lbr, **shape, **attrs))


@pytest.mark.parametrize("name", list(ACTIVATIONS))
@pytest.mark.parametrize("op", list(CELLS))
def test_every_activation_in_every_place(op, name):
    places = {"GRU": 2, "LSTM": 3, "RNN": 1}[op]
    numbers = ACTIVATIONS[name]
    attrs = {"activations": [name] * places}
    if numbers:
        attrs["activation_alpha"] = [numbers[0]] * places
    if len(numbers) > 1:
        attrs["activation_beta"] = [numbers[1]] * places
    # ReLU-like gates grow: a short sequence keeps the numbers, and so the rounding, near 1.
    assert_equals_float64(*cell(op, rng(), t=3, **attrs), 1e-5)


def test_activation_numbers_are_consumed_in_order():
    attrs = {"activations": ["Sigmoid", "LeakyRelu", "HardSigmoid", "Tanh"], "activation_alpha": [0.3, 0.25],
             "activation_beta": [0.45]}  # fmt: skip
    assert_equals_float64(*cell("GRU", rng(), direction="bidirectional", **attrs))


@pytest.mark.parametrize("names", [["sigmoid", "TANH"], ["SIGMOID", "tanh"]])
def test_activation_names_are_compared_without_case(names):
    source, feeds = cell("GRU", rng(), activations=names)
    assert_close(whole(compile(source, mode="whole"), feeds), onnxruntime(source, feeds))


@pytest.mark.parametrize(
    "attrs, message",
    [
        ({"activations": ["Sigmoid", "Swoosh"]}, "'Swoosh'"),
        ({"activations": ["Sigmoid"]}, "2 activations"),
        ({"activation_alpha": [0.5]}, "activation_alpha"),
        ({"direction": "sideways"}, "'sideways'"),
        ({"clip": -1.0}, "clip"),
        ({"hidden_size": 5}, "GRU_Y"),
    ],
)
def test_attributes_that_make_no_sense_are_refused_by_node(attrs, message):
    source, _ = cell("GRU", rng())
    for key, value in attrs.items():
        kept = [a for a in source.graph.node[0].attribute if a.name != key]
        del source.graph.node[0].attribute[:]
        source.graph.node[0].attribute.extend([*kept, helper.make_attribute(key, value)])
    with pytest.raises(ModelError, match=message) as caught:
        compile(source, mode="whole")
    assert "GRU_Y" in str(caught.value)


@pytest.mark.parametrize("op", list(CELLS))
def test_lstm_and_gru_flags(op):
    extra = {"LSTM": {"input_forget": 1, "peepholes": True}, "GRU": {"linear_before_reset": 1}, "RNN": {}}[op]
    assert_equals_float64(*cell(op, rng(), direction="bidirectional", initial=True, **extra))


def test_random_grus():
    """Shapes and attributes at random."""
    print(f"seed {SEED}")
    for k in range(40):
        r = np.random.default_rng([SEED, k])
        attrs = {
            "t": int(r.integers(1, 6)), "b": int(r.integers(1, 5)), "i": int(r.integers(1, 20)),
            "h": int(r.integers(1, 36)), "direction": str(r.choice(["forward", "reverse", "bidirectional"])),
            "linear_before_reset": int(r.integers(2)), "bias": bool(r.integers(2)), "initial": bool(r.integers(2)),
            "lens": bool(r.integers(2)), "layout": int(r.integers(2)),
        }  # fmt: skip
        print(k, attrs)
        assert_equals_float64(*cell("GRU", r, **attrs))


def test_weights_that_are_inputs_are_refused_by_node():
    gru = node("GRU", ["x", "W", "R"], ["Y"], hidden_size=2)
    source = model([gru], {"x": [1, 1, 3], "W": [1, 6, 3], "R": [1, 6, 2]}, ["Y"])
    with pytest.raises(ModelError, match=r"GRU_Y.*W"):
        compile(source, mode="whole")


# ---- products ----


@pytest.mark.parametrize("alpha", [1.0, 0.5])
@pytest.mark.parametrize("beta", [1.0, -2.0, 0.0])
@pytest.mark.parametrize("trans", [(0, 0), (0, 1), (1, 0), (1, 1)])
@pytest.mark.parametrize("c", [None, (), (1,), (4,), (1, 4), (3, 1), (3, 4)])
@pytest.mark.parametrize("computed", [False, True])
def test_gemm(alpha, beta, trans, c, computed):
    r = rng()
    a, b = ((5, 3) if trans[0] else (3, 5)), ((4, 5) if trans[1] else (5, 4))
    values = {"b": r.normal(size=b).astype(np.float32)}
    if c is not None:
        values["c"] = r.normal(size=c).astype(np.float32)
    gemm = node("Gemm", ["a", *values], ["y"], alpha=alpha, beta=beta, transA=trans[0], transB=trans[1])
    feeds = {"a": r.normal(size=a).astype(np.float32)} | (values if computed else {})
    shapes = {k: v.shape for k, v in feeds.items()}
    source = model([gemm], shapes, ["y"], {} if computed else values)
    assert_close(whole(compile(source, mode="whole"), feeds), onnxruntime(source, feeds))


@pytest.mark.parametrize(
    "a, b",
    [((5,), (5, 4)), ((3, 5), (5,)), ((3, 5), (5, 4)), ((2, 3, 5), (5, 4)), ((2, 3, 5), (2, 5, 4)),
     ((2, 1, 3, 5), (7, 5, 4)), ((1, 5), (6, 5, 4)), ((5,), (5,)), ((4, 5), (2, 5, 1))],
)  # fmt: skip
@pytest.mark.parametrize("constant", ["", "a", "b"])
def test_matmul(a, b, constant):
    r = rng()
    values = {"a": r.normal(size=a).astype(np.float32), "b": r.normal(size=b).astype(np.float32)}
    feeds = {k: v for k, v in values.items() if k != constant}
    fixed = {k: v for k, v in values.items() if k == constant}
    source = model([node("MatMul", ["a", "b"], ["y"])], {k: v.shape for k, v in feeds.items()}, ["y"], fixed)
    assert_close(whole(compile(source, mode="whole"), feeds), onnxruntime(source, feeds))


def test_a_bias_and_an_activation_go_into_the_product():
    r = rng()
    nodes = [node("MatMul", ["x", "w"], ["m"]), node("Add", ["b", "m"], ["s"]), node("Tanh", ["s"], ["y"])]
    constants = {"w": r.normal(size=(5, 4)).astype(np.float32), "b": r.normal(size=4).astype(np.float32)}
    source = model(nodes, {"x": [1, 3, 5]}, ["y"], constants)
    compiled, feeds = compile(source, mode="whole"), {"x": r.normal(size=(1, 3, 5)).astype(np.float32)}
    assert codes(compiled) == [Code.AFFINE]
    assert_close(whole(compiled, feeds), onnxruntime(source, feeds))


def test_a_product_that_is_also_read_elsewhere_keeps_its_value():
    r = rng()
    nodes = [node("MatMul", ["x", "w"], ["m"]), node("Relu", ["m"], ["y"]), node("Neg", ["m"], ["z"])]
    source = model(nodes, {"x": [3, 5]}, ["y", "z"], {"w": r.normal(size=(5, 4)).astype(np.float32)})
    feeds = {"x": r.normal(size=(3, 5)).astype(np.float32)}
    assert_close(whole(compile(source, mode="whole"), feeds), onnxruntime(source, feeds))


@pytest.mark.parametrize("op", ["Conv", "ConvTranspose", "Gemm"])
def test_batch_normalization_goes_into_the_product_before_it(op):
    r = rng()
    shape = {"Conv": (6, 2, 3, 3), "ConvTranspose": (4, 3, 3, 3), "Gemm": (4, 6)}[op]
    x = (2, 4) if op == "Gemm" else (1, 4, 5, 6)
    constants = {"w": r.normal(size=shape), "b": r.normal(size=6), "g": r.normal(size=6), "s": r.normal(size=6),
                 "m": r.normal(size=6), "v": r.uniform(0.5, 2, 6)}  # fmt: skip
    attrs = {} if op == "Gemm" else {"group": 2}
    nodes = [node(op, ["x", "w", "b"], ["c"], **attrs), node("BatchNormalization", ["c", "g", "s", "m", "v"], ["n"]),
             node("Relu", ["n"], ["y"])]  # fmt: skip
    source = model(nodes, {"x": x}, ["y"], {k: v.astype(np.float32) for k, v in constants.items()})
    compiled, feeds = compile(source, mode="whole"), {"x": r.normal(size=x).astype(np.float32)}
    assert len(codes(compiled)) == 1
    assert_close(whole(compiled, feeds), onnxruntime(source, feeds), 1e-5)  # the scale moves into the weights


# ---- convolutions ----


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize(
    "attrs",
    [
        {}, {"strides": [2, 1]}, {"pads": [1, 0, 2, 1]}, {"dilations": [2, 1]}, {"group": 2}, {"group": 4},
        {"strides": [2, 2], "pads": [1, 1, 0, 1], "dilations": [1, 2], "group": 2}, {"auto_pad": "SAME_UPPER"},
        {"auto_pad": "SAME_LOWER", "strides": [2, 2]}, {"auto_pad": "VALID"},
    ],
)  # fmt: skip
def test_convolutions(transposed, attrs):
    r, group = rng(), attrs.get("group", 1)
    shape = (4, 8 // group, 3, 2) if transposed else (8, 4 // group, 3, 2)
    op = "ConvTranspose" if transposed else "Conv"
    constants = {"w": r.normal(size=shape).astype(np.float32), "b": r.normal(size=8).astype(np.float32)}
    source = model([node(op, ["x", "w", "b"], ["y"], **attrs)], {"x": [2, 4, 7, 9]}, ["y"], constants)
    feeds = {"x": r.normal(size=(2, 4, 7, 9)).astype(np.float32)}
    assert_close(whole(compile(source, mode="whole"), feeds), onnxruntime(source, feeds), 1e-5)


@pytest.mark.parametrize("attrs", [{"output_padding": [1], "strides": [2]}, {"output_shape": [14], "strides": [2]}])
def test_transposed_convolution_of_a_given_size(attrs):
    r = rng()
    constants = {"w": r.normal(size=(3, 5, 4)).astype(np.float32)}
    source = model([node("ConvTranspose", ["x", "w"], ["y"], **attrs)], {"x": [1, 3, 7]}, ["y"], constants)
    feeds = {"x": r.normal(size=(1, 3, 7)).astype(np.float32)}
    assert_close(whole(compile(source, mode="whole"), feeds), onnxruntime(source, feeds))


@pytest.mark.parametrize("group", [1, 2])
@pytest.mark.parametrize("attrs", [{}, {"dilations": [2, 3]}])
def test_a_convolution_with_one_position_is_a_product(group, attrs):
    r, size = rng(), [1, 4, 5, 7] if attrs else [1, 4, 3, 3]
    constants = {"w": r.normal(size=(6, 4 // group, 3, 3)).astype(np.float32), "b": r.normal(size=6).astype(np.float32)}
    nodes = [node("Conv", ["x", "w", "b"], ["c"], group=group, **attrs), node("Relu", ["c"], ["y"])]
    source = model(nodes, {"x": size}, ["y"], constants)
    compiled, feeds = compile(source, mode="whole"), {"x": r.normal(size=size).astype(np.float32)}
    assert codes(compiled)[-1] == (Code.AFFINE if group == 1 else Code.CONV)
    assert_close(whole(compiled, feeds), onnxruntime(source, feeds))


def test_a_kernel_may_be_computed():
    r = rng()
    nodes = [node("Exp", ["w"], ["e"]), node("Conv", ["x", "e"], ["y"], pads=[1, 1])]
    source = model(nodes, {"x": [1, 2, 9], "w": [3, 2, 3]}, ["y"])
    feeds = {"x": r.normal(size=(1, 2, 9)).astype(np.float32), "w": r.normal(size=(3, 2, 3)).astype(np.float32)}
    assert_close(whole(compile(source, mode="whole"), feeds), onnxruntime(source, feeds), 1e-5)


def test_a_recurrent_node_may_read_the_same_frame_again_and_again():
    nodes = [node("Expand", ["x", "five"], ["e"]), node("GRU", ["e", "W", "R", "B"], ["Y"], hidden_size=6)]
    constants = {**gru_weights(rng(), 4, 6), "five": np.array([5, 1, 4])}
    source, feeds = (
        model(nodes, {"x": [1, 1, 4]}, ["Y"], constants),
        {"x": rng().normal(size=(1, 1, 4)).astype(np.float32)},
    )
    assert_close(whole(compile(source, mode="whole"), feeds), onnxruntime(source, feeds))


# ---- moving data ----

MOVES = {
    "pad": ([node("Pad", ["x", "p", "v"], ["y"])], {"p": np.array([0, 1, 0, 2, 0, 1]), "v": np.float32(3)}),
    "crop": ([node("Pad", ["x", "p"], ["y"])], {"p": np.array([0, -1, 1, 0, -1, 0])}),
    "reflect": ([node("Pad", ["x", "p"], ["y"], mode="reflect")], {"p": np.array([0, 2, 1, 0, 1, 1])}),
    "flip": (
        [node("Slice", ["x", "s", "e", "a", "t"], ["y"])],
        {"s": np.array([-1]), "e": np.array([-99]), "a": np.array([1]), "t": np.array([-2])},
    ),
    "split": ([node("Split", ["x", "s"], ["a", "b"], axis=1), node("Concat", ["b", "a"], ["y"], axis=1)],
              {"s": np.array([1, 3])}),
    "gather even": ([node("Gather", ["x", "i"], ["y"], axis=1)], {"i": np.array([[0, 1], [1, 2], [2, 3]])}),
    "gather odd": ([node("Gather", ["x", "i"], ["y"], axis=1)], {"i": np.array([0, 3, -3])}),
    "tile": ([node("Tile", ["x", "r"], ["y"])], {"r": np.array([2, 1, 3])}),
    "expand": ([node("Transpose", ["x"], ["t"], perm=[1, 2, 0]), node("Reshape", ["t", "s"], ["u"]),
                node("Expand", ["u", "e"], ["y"])], {"s": np.array([4, 1, 10]), "e": np.array([1, 3, 1])}),
    "scatter": (
        [node("ScatterND", ["x", "i", "u"], ["y"])],
        {"i": np.array([[[1, 0], [1, 1]]]), "u": np.ones((1, 2, 5), np.float32)},
    ),
    "scatter odd": (
        [node("ScatterND", ["x", "i", "u"], ["y"])],
        {"i": np.array([[0, 3], [1, 1], [0, 0]]), "u": np.ones((3, 5), np.float32)},
    ),
    "reshape of a transpose": ([node("Transpose", ["x"], ["t"], perm=[0, 2, 1]), node("Reshape", ["t", "s"], ["y"])],
                               {"s": np.array([-1, 4])}),
    "part of a concat": (
        [node("Concat", ["x", "x"], ["c"], axis=0), node("Gather", ["c", "i"], ["y"], axis=0)], {"i": np.array(3)}
    ),
    "depth to space": ([node("Reshape", ["x", "s"], ["r"]), node("DepthToSpace", ["r"], ["y"], blocksize=2)],
                       {"s": np.array([1, 4, 2, 5])}),
}  # fmt: skip


@pytest.mark.parametrize("case", list(MOVES))
def test_moving_data(case):
    nodes, constants = MOVES[case]
    source = model(nodes, {"x": [2, 4, 5]}, ["y"], constants)
    feeds = {"x": rng().normal(size=(2, 4, 5)).astype(np.float32)}
    assert_close(whole(compile(source, mode="whole"), feeds), onnxruntime(source, feeds), 0)


def test_views_cost_no_operator():
    nodes = [
        node("Unsqueeze", ["x", "zero"], ["u"]),
        node("Transpose", ["u"], ["t"], perm=[1, 0, 2]),
        node("Squeeze", ["t", "one"], ["s"]),
        node("Reshape", ["s", "shape"], ["r"]),
        node("Relu", ["r"], ["y"]),
    ]
    constants = {"zero": np.array([0]), "one": np.array([1]), "shape": np.array([2, 6])}
    assert codes(compile(model(nodes, {"x": [3, 4]}, ["y"], constants), mode="whole")) == [Code.UNARY]


def test_an_input_that_is_an_output_is_copied():
    compiled = compile(model([node("Relu", ["x"], ["y"])], {"x": [3]}, ["x", "y"]), mode="whole")
    feeds = {"x": np.float32([-1, 0, 2])}
    assert_close(whole(compiled, feeds), {"x": feeds["x"], "y": np.float32([0, 0, 2])}, 0)


def test_constants_that_are_outputs_are_given():
    nodes = [node("Add", ["x", "w"], ["y"]), node("Neg", ["w"], ["z"])]
    compiled = compile(model(nodes, {"x": [2]}, ["y", "z"], {"w": np.float32([1, 2])}), mode="whole")
    got = whole(compiled, {"x": np.float32([1, 1])})
    assert_close(got, {"y": np.float32([2, 3]), "z": np.float32([-1, -2])}, 0)


# ---- elementwise ----


@pytest.mark.parametrize("shapes", [((3, 4), (4,)), ((3, 1), (1, 4)), ((2, 3, 4), (3, 1)), ((), (2,)), ((1,), (1,))])
@pytest.mark.parametrize("op", ["Add", "Sub", "Mul", "Div", "Pow", "Min", "Max", "Less", "GreaterOrEqual"])
def test_broadcasting(op, shapes):
    r = rng()
    feeds = {k: r.uniform(0.5, 2, s).astype(np.float32) for k, s in zip("ab", shapes, strict=True)}
    dtype = TensorProto.BOOL if op in ("Less", "GreaterOrEqual") else TensorProto.FLOAT
    source = model([node(op, ["a", "b"], ["y"])], {k: v.shape for k, v in feeds.items()}, ["y"], output_dtype=dtype)
    assert_close(whole(compile(source, mode="whole"), feeds), onnxruntime(source, feeds))


def test_operands_may_be_transposed_views():
    r = rng()
    nodes = [node("Transpose", ["a"], ["t"], perm=[1, 0]), node("Add", ["t", "b"], ["y"])]
    feeds = {"a": r.normal(size=(4, 3)).astype(np.float32), "b": r.normal(size=(3, 4)).astype(np.float32)}
    source = model(nodes, {"a": [4, 3], "b": [3, 4]}, ["y"])
    compiled = compile(source, mode="whole")
    assert codes(compiled) == [Code.BINARY]
    assert_close(whole(compiled, feeds), onnxruntime(source, feeds), 0)


def test_subnormal_constants_become_zero():
    source = model([node("Add", ["x", "w"], ["y"])], {"x": [2]}, ["y"], {"w": np.float32([1e-40, 1])})
    got = whole(compile(source, mode="whole"), {"x": np.zeros(2, np.float32)})
    np.testing.assert_array_equal(got["y"], np.float32([0, 1]))


@pytest.mark.parametrize("op, dtype", [("Sqrt", TensorProto.INT64), ("MatMul", TensorProto.INT32)])
def test_dtypes_that_no_operator_has_are_refused_by_node(op, dtype):
    inputs = ["x", "x"] if op == "MatMul" else ["x"]
    source = model([node(op, inputs, ["y"])], {"x": [2, 2]}, ["y"], dtypes={"x": dtype, "y": dtype})
    with pytest.raises(ModelError, match=f"{op}_y"):
        compile(source, mode="whole")


def test_an_unsupported_operator_is_refused_by_node():
    with pytest.raises(ModelError, match=r"'Det_y'.*Det is not supported"):
        compile(model([node("Det", ["x"], ["y"])], {"x": [2, 2]}, ["y"]), mode="whole")


# ---- other dtypes, computed operands, older operator sets ----

NUMBERS = np.array([[3, -7, 0], [5, 1 << 40, -2]], np.int64)
TRUTHS = np.array([[True, False, True], [False, False, True]])
ROWS = np.linspace(-2, 2, 12, dtype=np.float32).reshape(2, 3, 2)
CHANNELS = np.array([0.5, -1, 2], np.float32)
ODDITIES = {
    "Relu of integers": (node("Relu", ["x"], ["y"]), {"x": NUMBERS.astype(np.int32)}, {}, 17),
    "Sign of integers": (node("Sign", ["x"], ["y"]), {"x": NUMBERS}, {}, 17),
    "the square of integers": (node("Pow", ["x", "two"], ["y"]), {"x": NUMBERS % 1000}, {"two": np.array(2)}, 17),
    "ArgMax of integers": (node("ArgMax", ["x"], ["y"], axis=1), {"x": NUMBERS}, {}, 17),
    "ReduceMax of bool": (node("ReduceMax", ["x", "one"], ["y"]), {"x": TRUTHS}, {"one": np.array([1])}, 20),
    "ReduceMin of bool": (node("ReduceMin", ["x", "one"], ["y"], keepdims=0), {"x": TRUTHS},
                          {"one": np.array([1])}, 20),
    "a Pad of a computed value": (node("Pad", ["x", "pads", "v"], ["y"]), {"x": ROWS, "v": np.array(0.25, np.float32)},
                                  {"pads": np.array([0, 1, 0, 2, 0, 1])}, 17),
    "a computed scale": (node("InstanceNormalization", ["x", "s", "b"], ["y"]),
                         {"x": ROWS, "s": CHANNELS, "b": 2 * CHANNELS}, {}, 17),
    "GreaterOrEqual of old": (node("GreaterOrEqual", ["x", "z"], ["y"]), {"x": NUMBERS, "z": NUMBERS[:1]}, {}, 12),
}  # fmt: skip


@pytest.mark.parametrize("name", list(ODDITIES))
def test_what_is_seldom_met_agrees_with_onnxruntime(name):
    made, feeds, constants, opset = ODDITIES[name]
    kinds = {n: helper.np_dtype_to_tensor_dtype(v.dtype) for n, v in feeds.items()}
    if made.op_type in ("Sign", "Pow", "ArgMax"):
        kinds["y"] = TensorProto.INT64
    elif made.op_type == "Relu":
        kinds["y"] = TensorProto.INT32
    elif made.op_type in ("ReduceMax", "ReduceMin", "GreaterOrEqual"):
        kinds["y"] = TensorProto.BOOL
    source = model([made], {n: v.shape for n, v in feeds.items()}, ["y"], constants, opset=opset, dtypes=kinds)
    assert_close(whole(compile(source, mode="whole"), feeds), onnxruntime(source, feeds))


@pytest.mark.parametrize("op, function", [("ReduceL1", np.abs), ("ReduceL2", np.abs), ("ReduceSumSquare", np.square)])
def test_a_reduction_over_no_axes_still_computes(op, function):
    """ONNX: "composite-reduction operators will still perform the non-reduction steps"."""
    source = model([node(op, ["x"], ["y"], noop_with_empty_axes=1)], {"x": ROWS.shape}, ["y"], opset=18)
    got = whole(compile(source, mode="whole"), {"x": ROWS})["y"]
    np.testing.assert_allclose(got, function(ROWS), rtol=FLOAT, atol=FLOAT)
