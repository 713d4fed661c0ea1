"""ReverseSequence, and what Keras makes of it: a bidirectional layer that runs whole."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto

from export.graphs import assert_close, gru_weights, model, node, onnxruntime, rng
from streamgru import Model
from streamgru.errors import CannotStreamError, ModelError, ShapeError
from streamgru_export.compiler.compile import compile

T, B, FEATURES, H = 5, 3, 4, 6
INT64 = TensorProto.INT64
AXES = {"time first": (0, 1), "batch first": (1, 0)}
OUT_OF_RANGE = [[T + 1, 1, 1], [-1, 1, 1], [1, 1, -(2**63)], [1, 2**63 - 1, 1]]


def reversed_(axes, rest, lengths=None, dtype=TensorProto.FLOAT):
    """x turned around; lengths None: they are an input."""
    shape = [(T, B)[a] for a in axes] + list(rest)
    turn = node("ReverseSequence", ["x", "lens"], ["y"], time_axis=axes.index(0), batch_axis=axes.index(1))
    inputs = {"x": shape} if lengths is not None else {"x": shape, "lens": [B]}
    constants = {} if lengths is None else {"lens": np.array(lengths, np.int64)}
    return model([turn], inputs, ["y"], constants, 10, {"lens": INT64, "x": dtype}, output_dtype=dtype)


def ran(source, feeds):
    image = Model(compile(source, mode="whole", length=T).image)
    return image.named(image.run(feeds if len(feeds) > 1 else feeds["x"]))


def values(shape, dtype=TensorProto.FLOAT):
    return (rng().normal(size=shape) * 9).astype(np.float32 if dtype == TensorProto.FLOAT else np.int64)


@pytest.mark.parametrize("axes", AXES.values(), ids=AXES)
@pytest.mark.parametrize("rest, dtype", [([], TensorProto.FLOAT), ([2, 3], TensorProto.FLOAT), ([4], INT64)])
@pytest.mark.parametrize("lengths", [[T, T, T], [1, 3, T], [0, 2, 2]])
@pytest.mark.parametrize("given", ["in the file", "as an input"])
def test_turns_each_sequence_around_within_its_length(axes, rest, dtype, lengths, given):
    source = reversed_(axes, rest, lengths if given == "in the file" else None, dtype)
    feeds = {"x": values([(T, B)[a] for a in axes] + rest, dtype)}
    feeds |= {} if given == "in the file" else {"lens": np.array(lengths)}
    np.testing.assert_array_equal(ran(source, feeds)["y"], onnxruntime(source, feeds)["y"])


@pytest.mark.parametrize("lengths", OUT_OF_RANGE)
def test_lengths_out_of_range_are_refused(lengths):
    with pytest.raises(ModelError, match=r"ReverseSequence_y.*lie outside 0 \.\. 5"):
        compile(reversed_((0, 1), [2], lengths), mode="whole")
    with pytest.raises(ShapeError):
        ran(reversed_((0, 1), [2]), {"x": values((T, B, 2)), "lens": np.array(lengths)})


def test_shapes_and_axes_that_are_none_are_refused():
    for attrs, lens in (({"time_axis": 0, "batch_axis": 0}, [T]), ({"time_axis": 0, "batch_axis": 1}, [2])):
        turn = node("ReverseSequence", ["x", "lens"], ["y"], **attrs)
        source = model([turn], {"x": [T, B], "lens": lens}, ["y"], dtypes={"lens": INT64})
        with pytest.raises(ModelError, match="ReverseSequence_y"):
            compile(source, mode="whole")


def bidirectional():
    """As tf2onnx writes Keras' Bidirectional: the backward layer runs over the turned sequence, and is turned back."""
    r = rng()
    weights = {f"{k}{d}": v for d in "fb" for k, v in gru_weights(r, FEATURES, H).items()}
    turn = {"time_axis": 0, "batch_axis": 1}
    nodes = [
        node("Transpose", ["x"], ["xt"], perm=[1, 0, 2]),
        node("Shape", ["xt"], ["s"]),
        node("Gather", ["s", "zero"], ["t"]),
        node("Gather", ["s", "one"], ["n"]),
        node("Unsqueeze", ["n", "axis"], ["n1"]),
        node("Expand", ["t", "n1"], ["lens"]),
        node("ReverseSequence", ["xt", "lens"], ["xr"], **turn),
        node("GRU", ["xt", "Wf", "Rf", "Bf"], ["yf"], hidden_size=H, linear_before_reset=1),
        node("GRU", ["xr", "Wb", "Rb", "Bb"], ["yr"], hidden_size=H, linear_before_reset=1),
        node("Squeeze", ["yf", "at"], ["f"]),
        node("Squeeze", ["yr", "at"], ["r"]),
        node("ReverseSequence", ["r", "lens"], ["b"], **turn),
        node("Concat", ["f", "b"], ["fb"], axis=-1),
        node("Transpose", ["fb"], ["y"], perm=[1, 0, 2]),
    ]
    numbers = {"zero": np.array(0), "one": np.array(1), "axis": np.array([0]), "at": np.array([1])}
    return model(nodes, {"x": ["batch", "time", FEATURES]}, ["y"], {**weights, **numbers})


def test_a_bidirectional_layer_of_keras_runs_whole():
    source, x = bidirectional(), values((B, T, FEATURES))
    with pytest.raises(CannotStreamError, match=r"ReverseSequence_xr.*turns the frames.*mode='whole'"):
        compile(source)
    image = Model(compile(source, mode="whole", length=T, batch=B).image)
    assert_close({"y": image.run(x)}, onnxruntime(source, {"x": x}))


def test_another_axis_than_time_is_turned_around_in_every_frame():
    """[time, bands, features] as [batch, time, features] of the operator: the frames are its batch."""
    turn = node("ReverseSequence", ["x", "lens"], ["xr"], time_axis=1, batch_axis=0)
    numbers = {"zero": np.array([0]), "one": np.array([1]), "bands": np.array([3]), "flat": np.array([0, 1, 12])}
    nodes = [
        node("Shape", ["x"], ["s"]),
        node("Slice", ["s", "zero", "one"], ["t"]),
        node("Expand", ["bands", "t"], ["lens"]),
        turn,
        node("Reshape", ["xr", "flat"], ["f"]),
        node("GRU", ["f", "W", "R", "B"], ["y"], hidden_size=H),
    ]
    source = model(nodes, {"x": ["T", 3, 4]}, ["y"], {**gru_weights(rng(), 12, H), **numbers})
    x = values((T, 3, 4))
    assert_close({"y": Model(compile(source).image).run(x)}, onnxruntime(source, {"x": x}))


def test_more_rows_than_there_is_room_for_are_refused():
    """A file of some bytes that declares 2^30 frames."""
    reverse = node("ReverseSequence", ["x", "lens"], ["y"], batch_axis=0, time_axis=1)
    source = model([reverse], {"x": [1, 2**30]}, ["y"], {"lens": np.array([5])})
    with pytest.raises(ModelError, match=r"ReverseSequence.*exceed"):
        compile(source, mode="whole", length=1)
