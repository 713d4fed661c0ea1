"""Recurrences that are written out as Scan and Loop, and files compiled with a dimension bound that should not be."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto, helper

import streamgru
from export.graphs import model, node, rng

IN, H = 3, 4


def cell_weights():
    """Of a plain recurrence, and what it begins with."""
    r = rng()
    w, u = (r.normal(size=shape).astype(np.float32) / 2 for shape in ((IN, H), (H, H)))
    return {"W": w, "R": u, "h0": np.zeros((1, H), np.float32)}


def value(name, *shape, dtype=TensorProto.FLOAT):
    return helper.make_tensor_value_info(name, dtype, shape)


def over_scan(dimension):
    """A plain recurrence as a Scan along axis 0, which the file calls `dimension`."""
    body = helper.make_graph(
        [
            node("MatMul", ["x_t", "W"], ["a"]),
            node("MatMul", ["h", "R"], ["b"]),
            node("Add", ["a", "b"], ["s"]),
            node("Tanh", ["s"], ["h2"]),
            node("Identity", ["h2"], ["y_t"]),
        ],
        "body",
        [value("h", 1, H), value("x_t", 1, IN)],
        [value("h2", 1, H), value("y_t", 1, H)],
    )
    scan = node("Scan", ["h0", "x"], ["hN", "y"], body=body, num_scan_inputs=1)
    return model([scan], {"x": [dimension, 1, IN]}, ["y"], cell_weights())


def over_loop(dimension):
    """The same as a Loop along axis 1 that takes a frame a round: what tf2onnx makes of Keras' cells."""
    body = helper.make_graph(
        [
            node("Gather", ["xt", "i"], ["x_t"], axis=0),
            node("MatMul", ["x_t", "W"], ["a"]),
            node("MatMul", ["h", "R"], ["b"]),
            node("Add", ["a", "b"], ["s"]),
            node("Tanh", ["s"], ["h2"]),
            node("Identity", ["h2"], ["y_t"]),
            node("Identity", ["c"], ["c2"]),
        ],
        "body",
        [value("i", dtype=TensorProto.INT64), value("c", dtype=TensorProto.BOOL), value("h", 1, H)],
        [
            value("c2", dtype=TensorProto.BOOL),
            value("h2", 1, H),
            value("y_t", 1, H),
        ],
    )
    nodes = [
        node("Transpose", ["x"], ["xt"], perm=[1, 0, 2]),
        node("Shape", ["xt"], ["shape"]),
        node("Gather", ["shape", "zero"], ["rounds"], axis=0),
        node("Loop", ["rounds", "true", "h0"], ["hN", "ys"], body=body),
        node("Transpose", ["ys"], ["y"], perm=[1, 0, 2]),
    ]
    constants = {**cell_weights(), "zero": np.array(0), "true": np.array(True)}
    return model(nodes, {"x": [1, dimension, IN]}, ["y"], constants)


def bound_to_one(file, dimension):
    """The file compiled with the dimension bound, whatever the compiler finds of it."""
    proto = type(file)()
    proto.CopyFrom(file)
    for value in proto.graph.input:
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param == dimension or not dim.WhichOneof("value"):
                dim.dim_value = 1
    return streamgru.Model(streamgru.compile(proto, state=[]).image)
