"""Random changes to graphs of GRU cells: whatever is recognised in what comes out, the numbers stay the graph's."""

from __future__ import annotations

import random

import numpy as np
import onnx
import pytest
from torch import nn

from export.cells import Fused, Joined, Raw, Separate, grus, step_graph
from export.graphs import assert_close, onnxruntime, whole
from streamgru.errors import ModelError
from streamgru_export.compiler.compile import compile

SEED, CHANGES = 41, 40
SWAPS = {"Add": "Sub", "Sub": "Add", "Mul": "Add", "Sigmoid": "Tanh", "Tanh": "Sigmoid"}
TOLERANCE = 1e-5  # random sums may reach 10, where float32 is that coarse
CELLS = {
    "torch": lambda: nn.GRUCell(5, 7), "fused": Fused, "separate": Separate, "before": lambda: Separate(before=True),
    "joined": Joined, "raw": Raw,
}  # fmt: skip


def changed(source, r):
    """One operator becomes another, or one operand becomes another value of its shape."""
    copy = onnx.ModelProto()
    copy.CopyFrom(source)
    shapes = {v.name: tuple(d.dim_value for d in v.type.tensor_type.shape.dim) for v in copy.graph.value_info}
    shapes |= {v.name: tuple(d.dim_value for d in v.type.tensor_type.shape.dim) for v in copy.graph.input}
    kinds = (*SWAPS, "MatMul", "Gemm", "Concat")
    nodes = [n for n in copy.graph.node if n.op_type in kinds and len(shapes.get(n.output[0], (0, 0))) == 2]
    node = r.choice(nodes)
    if node.op_type in SWAPS and r.random() < 0.4:
        node.op_type = SWAPS[node.op_type]
        return copy
    known = [*(v.name for v in copy.graph.input)]
    for earlier in copy.graph.node:
        if earlier is node or earlier.output[0] == node.output[0]:
            break
        known += [o for o in earlier.output if o in shapes]
    i = r.randrange(1 if node.op_type in ("MatMul", "Gemm") else len(node.input))
    same = [v for v in known if shapes[v] == shapes.get(node.input[i]) and v != node.input[i]]
    if not same:
        return None
    node.input[i] = r.choice(same)
    return copy


@pytest.mark.parametrize("name", CELLS)
def test_changed_cells_keep_their_numbers(name):
    print(f"seed {SEED}")
    r = random.Random(SEED)
    source = onnx.shape_inference.infer_shapes(step_graph(CELLS[name], False, batch=2))
    recognised = 0
    for i in range(CHANGES):
        graph = changed(source, r)
        if graph is not None and r.random() < 0.3:
            graph = changed(graph, r)
        if graph is None:
            continue
        del graph.graph.value_info[:]
        try:
            compiled = compile(graph, mode="whole")
        except ModelError as error:
            pytest.fail(f"change {i}: {error}")
        recognised += bool(grus(compiled))
        normal = np.random.default_rng(i).normal
        x = {n: normal(size=shape).astype(np.float32) for n, shape in compiled.inputs.items()}
        assert_close(whole(compiled, x), onnxruntime(graph, x), TOLERANCE)
    assert 0 < recognised < CHANGES  # both kinds were met
