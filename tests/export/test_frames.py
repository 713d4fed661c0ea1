"""Frames to try a model on."""

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from streamgru_export.frames import id_tables


def test_ids_stay_below_the_smallest_table_they_index():
    nodes = [helper.make_node("Gather", [table, "ids"], [f"{table}_row"]) for table in ("a", "b")]
    nodes.append(helper.make_node("Gather", ["c", "ids"], ["column"], axis=1))
    tables = {"a": np.zeros((9, 4)), "b": np.zeros((6, 4)), "c": np.zeros((2, 3))}
    ids = helper.make_tensor_value_info("ids", TensorProto.INT64, [1])
    y = helper.make_tensor_value_info("column", TensorProto.DOUBLE, None)
    weights = [numpy_helper.from_array(value, name) for name, value in tables.items()]
    model = helper.make_model(helper.make_graph(nodes, "g", [ids], [y], weights))
    assert id_tables(model) == {"ids": 6}
