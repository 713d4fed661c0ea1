"""One node at a time: the types are those of onnxruntime's results, the values NumPy's."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from export.cells import exported
from export.graphs import CELLS, FLOAT, cell, model, node, onnxruntime, rng
from streamgru import Model
from streamgru.errors import ModelError
from streamgru_export.compiler.compile import compile
from streamgru_export.compiler.graph.evaluate import RANDOM, SMALL, evaluate, infer
from streamgru_export.compiler.graph.graph import Node, TensorType
from streamgru_export.compiler.graph.onnx_reader import read

F32 = np.dtype(np.float32)


def types(**arrays):
    return {n: TensorType(np.asarray(a).dtype, np.shape(a)) for n, a in arrays.items()}


X = np.linspace(-1, 1, 24, dtype=np.float32).reshape(2, 3, 4)
CASES = {
    "MatMul": (["x", "w"], {"w": np.ones((4, 5), np.float32)}, {}),
    "Reshape": (["x", "s"], {"s": np.array([4, -1])}, {}),
    "Expand": (["x", "s"], {"s": np.array([3, 1, 3, 1])}, {}),
    "Slice": (["x", "a", "b", "c", "d"],
              {"a": np.array([2]), "b": np.array([-99]), "c": np.array([1]), "d": np.array([-2])}, {}),
    "Pad": (["x", "p"], {"p": np.array([0, 1, 0, 0, 3, 2])}, {}),
    "Tile": (["x", "s"], {"s": np.array([1, 2, 1])}, {}),
    "ArgMax": (["x"], {}, {"axis": 1, "keepdims": 0}),
    "Shape": (["x"], {}, {}),
    "Greater": (["x", "w"], {"w": np.float32([0, 0, 0, 1])}, {}),
}  # fmt: skip


@pytest.mark.parametrize("op", list(CASES))
def test_types_are_those_of_what_onnxruntime_gives(op):
    inputs, constants, attrs = CASES[op]
    kind = {"ArgMax": TensorProto.INT64, "Shape": TensorProto.INT64, "Greater": TensorProto.BOOL}.get(op, 1)
    source = model([node(op, inputs, ["y"], **attrs)], {"x": X.shape}, ["y"], constants, output_dtype=kind)
    expected = onnxruntime(source, {"x": X})["y"]
    found = infer(Node(op, "", inputs, ["y"], attrs), types(x=X, **constants), constants, 17)["y"]
    assert found == TensorType(expected.dtype, expected.shape)
    (value,) = evaluate(Node(op, "", inputs, ["y"], attrs), [X, *(constants[i] for i in inputs[1:])], 17)
    np.testing.assert_allclose(value, expected, rtol=1e-6)


@pytest.mark.parametrize("op", list(CELLS))
@pytest.mark.parametrize("direction", ["forward", "bidirectional"])
@pytest.mark.parametrize("layout", [0, 1])
def test_types_of_recurrent_nodes(op, direction, layout):
    source, feeds = cell(op, np.random.default_rng(5), direction=direction, **({"layout": 1} if layout else {}))
    graph = read(source)
    known = types(**feeds, **graph.constants)
    found = infer(graph.nodes[0], known, graph.constants, 14)
    steps, batch, hidden, directions = 5, 3, 6, 1 + (direction == "bidirectional")
    x = feeds["x"].shape
    assert x == ((batch, steps, 4) if layout else (steps, batch, 4))
    y = (batch, steps, directions, hidden) if layout else (steps, directions, batch, hidden)
    state = (batch, directions, hidden) if layout else (directions, batch, hidden)
    assert {n: t.shape for n, t in found.items()} == dict(
        zip(graph.nodes[0].outputs, [y, state, state], strict=False)
    )  # fmt: skip
    if not layout:  # onnxruntime has no layout=1
        assert {n: v.shape for n, v in onnxruntime(source, feeds).items()} == {n: t.shape for n, t in found.items()}


@pytest.mark.parametrize(
    "i, shape, what",
    [(1, (1, 18, 5), "W"), (2, (1, 18, 7), "R"), (3, (1, 35), "B"), (4, (2,), "sequence_lens"), (5, (1, 2, 6), "h")],
)
def test_an_operand_of_a_cell_that_does_not_fit_is_named_with_what_was_expected(i, shape, what):
    shapes = [(5, 3, 4), (1, 18, 4), (1, 18, 6), (1, 36), (3,), (1, 3, 6)]
    names = [f"x{k}" for k in range(6)]
    dtypes = [F32] * 4 + [np.dtype(np.int32), F32]
    good = {n: TensorType(d, s) for n, d, s in zip(names, dtypes, shapes, strict=True)}
    gru = Node("GRU", "gru", names, ["y", "h"], {"hidden_size": 6})
    assert infer(gru, good, {}, 17)["h"].shape == (1, 3, 6)
    with pytest.raises(ModelError, match=rf"'gru'.*'x{i}' has the shape.*was expected") as caught:
        infer(gru, good | {names[i]: TensorType(dtypes[i], shape)}, {}, 17)
    assert what in str(caught.value)
    assert str(list(shapes[i])) in str(caught.value)


def test_a_cell_of_another_rank_is_refused():
    known = {"x": TensorType(F32, (5, 4)), "w": TensorType(F32, (1, 18, 4)), "r": TensorType(F32, (1, 18, 6))}
    with pytest.raises(ModelError, match=r"must have 3 dimensions; they are \[5, 4\]"):
        infer(Node("GRU", "gru", ["x", "w", "r"], ["y"]), known, {}, 17)


def test_a_shape_that_depends_on_the_data_is_refused():
    with pytest.raises(ModelError, match=r"NonZero.*depends on the data"):
        infer(Node("NonZero", "", ["x"], ["y"]), types(x=X), {}, 17)
    with pytest.raises(ModelError, match=r"Reshape.*'y'"):
        infer(Node("Reshape", "", ["x", "s"], ["y"]), types(x=X, s=np.zeros(3, np.int64)), {}, 17)


def test_a_long_constant_is_not_looked_at():
    """Shapes come from short lists; a table of that length is none."""
    size = SMALL + 1
    with pytest.raises(ModelError, match="'y'"):
        infer(Node("ConstantOfShape", "", ["s"], ["y"]), types(s=np.ones(size, np.int64)),
              {"s": np.ones(size, np.int64)}, 17)  # fmt: skip


def test_a_dtype_that_is_not_computed_with_is_refused_by_name():
    with pytest.raises(ModelError, match=r"Cast.*'y' is float16"):
        infer(Node("Cast", "", ["x"], ["y"], {"to": TensorProto.FLOAT16}), types(x=X), {}, 17)


def test_operands_that_contradict_each_other_are_named_with_their_shapes():
    with pytest.raises(ModelError, match=r"Add node 'sum': its inputs do not fit \(x \[2, 3, 4\], z \[5\]\)"):
        infer(Node("Add", "sum", ["x", "z"], ["y"]), types(x=X, z=np.zeros(5, np.float32)), {}, 17)


@pytest.mark.parametrize("op", ["GreaterOrEqual", "LessOrEqual"])
@pytest.mark.parametrize("opset", [12, 15, 17])
def test_comparisons_of_older_operator_sets_have_their_types(op, opset):
    found = infer(Node(op, "", ["x", "z"], ["y"]), types(x=X, z=np.zeros(4, np.float32)), {}, opset)
    assert found["y"] == TensorType(np.dtype(np.bool_), (2, 3, 4))


def test_absent_outputs_have_no_types():
    layer = Node("LayerNormalization", "", ["x", "g"], ["y", "", "inv"])
    found = infer(layer, types(x=X, g=np.ones(4, np.float32)), {}, 17)
    assert {n: t.shape for n, t in found.items()} == {"y": (2, 3, 4), "inv": (2, 3, 1)}


@pytest.mark.parametrize("op", sorted(RANDOM))
def test_random_values_are_no_constants(op):
    with pytest.raises(ModelError, match=f"{op}.*random"):
        evaluate(Node(op, "", [], ["y"], {"shape": [2]}), [], 17)


def test_what_onnx_cannot_compute_is_refused_by_node():
    with pytest.raises(ModelError, match="Gather node 'pick': its constant value cannot be computed"):
        evaluate(Node("Gather", "pick", ["x", "i"], ["y"]), [X, np.array(9)], 17)


def test_warnings_of_numpy_are_kept_in(recwarn):
    (value,) = evaluate(Node("Log", "", ["x"], ["y"]), [np.float32([-1, 0])], 17)
    assert np.isnan(value[0])
    assert np.isneginf(value[1])
    assert not recwarn.list


# ---- axes from the end, in operator sets whose schemas do not have them: onnxruntime takes them ----

SHAPE = [2, 3, 4]
FROM_THE_END = {  # the node, its opsets, what it reads besides x
    "Concat": (node("Concat", ["x", "x"], ["y"], axis=-1), range(7, 14), SHAPE),
    "Slice": (node("Slice", ["x"], ["y"], axes=[-1, 0], starts=[1, 0], ends=[3, 1]), range(7, 10), SHAPE),
    "Squeeze": (node("Squeeze", ["x"], ["y"], axes=[-1, -3]), range(7, 13), [2, 1, 4, 1]),
    "Unsqueeze": (node("Unsqueeze", ["x"], ["y"], axes=[-1, 1]), range(7, 13), SHAPE),
    "Squeeze by input": (node("Squeeze", ["x", "back"], ["y"]), range(13, 18), [2, 1, 4, 1]),
    "Unsqueeze by input": (node("Unsqueeze", ["x", "back"], ["y"]), range(13, 18), SHAPE),
    "Split": (node("Split", ["x"], ["y", "z"], axis=-1), range(7, 13), SHAPE),
    "Gather": (node("Gather", ["x", "i"], ["y"], axis=-2), range(7, 14), SHAPE),
    "ReduceMean": (node("ReduceMean", ["x"], ["y"], axes=[-1, -2]), range(7, 14), SHAPE),
    "Softmax": (node("Softmax", ["x"], ["y"], axis=-2), range(7, 14), SHAPE),
    "ArgMax": (node("ArgMax", ["x"], ["y"], axis=-1), range(7, 14), SHAPE),
    "TopK": (node("TopK", ["x"], ["y", "z"], axis=-1, k=2), range(7, 10), SHAPE),
    "LayerNormalization": (node("LayerNormalization", ["x", "w"], ["y"], axis=-1), range(7, 18), SHAPE),
}  # fmt: skip


@pytest.mark.parametrize("op, opset", [(op, n) for op, (_, opsets, _) in FROM_THE_END.items() for n in opsets[::2]])
@pytest.mark.parametrize("is_constant", [False, True], ids=["computed", "folded"])
def test_takes_axes_from_the_end_in_every_operator_set(op, opset, is_constant):
    form, _, shape = FROM_THE_END[op]
    x = rng().normal(size=shape).astype(np.float32)
    constants = {
        "i": np.array([2, 0]),
        "back": np.array([-1, -3]),
        "w": np.float32([1, 2, 3, 4]),
        **({"x": x} if is_constant else {}),
    }
    renamed = helper.make_node(form.op_type, form.input, ["t", *form.output[1:]])
    renamed.attribute.extend(form.attribute)
    nodes = [renamed, node("Cast", ["t"], ["f"], to=1), node("Mul", ["f", "factor"], ["y"])]
    feeds = {"factor": np.float32([0.5]), **({} if is_constant else {"x": x})}
    source = model(nodes, {n: v.shape for n, v in feeds.items()}, ["y"],
                   {k: v for k, v in constants.items() if k in form.input}, opset)  # fmt: skip
    image = Model(compile(source, mode="whole").image)
    np.testing.assert_allclose(
        image.run(feeds if len(feeds) > 1 else feeds["factor"]), onnxruntime(source, feeds)["y"], rtol=0, atol=FLOAT
    )


def test_an_lstm_with_a_projection_as_torch_writes_it_is_refused_with_what_to_do():
    source, _ = cell("LSTM", rng(), initial=True, h=3)
    wide = numpy_helper.from_array(np.zeros((1, 3, 8), np.float32), "c0")  # the cell's own size, not the projection's
    next(t for t in source.graph.initializer if t.name == "c0").CopyFrom(wide)
    with pytest.raises(ModelError, match=r"initial_c.*proj_size.*write one step out"):
        compile(source, mode="whole")


class WrittenOut(nn.Module):
    """One step of an LSTM with a projection, as that message has it."""

    def __init__(self, lstm):
        super().__init__()
        self.lstm = lstm

    def forward(self, x, h, c):
        w = self.lstm
        i, f, g, o = (x @ w.weight_ih_l0.T + h @ w.weight_hh_l0.T + w.bias_ih_l0 + w.bias_hh_l0).chunk(4, -1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        h = (torch.sigmoid(o) * torch.tanh(c)) @ w.weight_hr_l0.T
        return h.clone(), h, c


def test_a_step_written_out_is_the_lstm_with_a_projection():
    torch.manual_seed(5)
    lstm, x = nn.LSTM(5, 8, proj_size=3), torch.randn(20, 1, 5)
    states = torch.zeros(1, 3), torch.zeros(1, 8)
    source = exported(WrittenOut(lstm), (x[0], *states), (["x", "h", "c"], ["y", "hn", "cn"]), False)
    compiled = compile(source)
    assert compiled.pairs == [("h", "hn"), ("c", "cn")]
    y = Model(compiled.image).run(x.numpy())
    np.testing.assert_allclose(y, lstm.eval()(x)[0].detach().numpy(), rtol=0, atol=FLOAT)
