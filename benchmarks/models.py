"""What is measured: a GRU of every size, its weights known to all peers, and whole models.

The GRUs are graphs of any number of frames and sequences; the whole models are graphs of one frame.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

Array = NDArray[Any]

SIZES = [(32, 32), (64, 64), (64, 128), (64, 256), (256, 256), (64, 512), (64, 1024)]  # input, hidden
STACKS = {"guitar amp, GRU of 32": [(1, 32)], "three GRUs of 64": [(64, 64)] * 3}  # a Linear of one output follows
FOLDER = Path(os.environ.get("STREAMGRU_MODELS") or Path(__file__).parents[2] / "shared" / "models")
SHARED = {  # name -> file, batch
    "GTCRN": ("gtcrn/gtcrn_simple", 1),
    "RNNoise": ("rnnoise-2018/rnnoise_stream", 1),
    "g2p decoder": ("g2p-en/decoder_gru", 1),
    "g2p decoder, GRUCell": ("g2p-en/decoder_grucell", 1),
    "NKF-AEC": ("nkf-aec/nkf_kgnet_step", 513),
    "NSNet2": ("nsnet2/nsnet2_state_ts_op17", 1),
}


@dataclass(frozen=True)
class Layer:
    """A GRU layer: its gates in ONNX's order z r n, linear_before_reset=1."""

    w: Array  # [3H, I]
    r: Array  # [3H, H]
    bias_w: Array  # [3H]
    bias_r: Array  # [3H]

    @property
    def inputs(self) -> int:
        return int(self.w.shape[1])

    @property
    def hidden(self) -> int:
        return int(self.r.shape[1])


@dataclass(frozen=True)
class Net:
    """A model file, and the layer it is made of where it is one alone."""

    name: str
    path: Path
    batch: int = 1  # what a dynamic dimension of a whole model is
    layer: Layer | None = None

    def feeds(self, frames: int = 1, sequences: int = 1) -> dict[str, Array]:
        """Inputs of the graph: random floats within -1 .. 1, as far as nnet's 8 bits reach, and zeros as ids."""
        random = np.random.default_rng(0)
        free = {"time": frames, "batch": sequences if self.layer else self.batch}
        graph = onnx.load(self.path, load_external_data=False).graph
        constants = {tensor.name for tensor in graph.initializer}
        feeds = {}
        for port in graph.input:
            if port.name in constants:
                continue
            dims = port.type.tensor_type.shape.dim
            shape = [d.dim_value if d.HasField("dim_value") else free.get(d.dim_param, self.batch) for d in dims]
            is_float = port.type.tensor_type.elem_type == TensorProto.FLOAT
            feeds[port.name] = random.uniform(-1, 1, shape).astype(np.float32) if is_float else np.zeros(shape, int)
        return feeds


def gru_name(inputs: int, hidden: int) -> str:
    return f"GRU {inputs} x {hidden}"


def nets(folder: Path, shared: Path = FOLDER) -> list[Net]:
    """All of them; the GRUs and stacks are written into `folder`, the shared ones are there or left out."""
    found = []
    for inputs, hidden in SIZES:
        path = folder / f"gru_{inputs}_{hidden}.onnx"
        (layer,) = write_stack(path, [(inputs, hidden)])
        found.append(Net(gru_name(inputs, hidden), path, layer=layer))
    for number, (name, sizes) in enumerate(STACKS.items()):
        path = folder / f"stack_{number}.onnx"
        write_stack(path, sizes, outputs=1)
        found.append(Net(name, path))
    paths = {name: (shared / f"{file}.onnx", batch) for name, (file, batch) in SHARED.items()}
    return found + [Net(name, path, batch) for name, (path, batch) in paths.items() if path.exists()]


def write_stack(path: Path, sizes: Sequence[tuple[int, int]], outputs: int = 0) -> list[Layer]:
    """GRUs on each other as ONNX, any number of frames and sequences; `outputs`: of a Linear at the end, or 0."""
    random = np.random.default_rng(0)
    layers = [_random_layer(random, inputs, hidden) for inputs, hidden in sizes]
    constants: dict[str, Array] = {"axis": np.array([1])}
    nodes, ports, results = [], [_port("x", "time", "batch", sizes[0][0])], []
    y = "x"
    for i, layer in enumerate(layers):
        bias = np.concatenate([layer.bias_w, layer.bias_r])
        constants |= {f"W{i}": layer.w[None], f"R{i}": layer.r[None], f"B{i}": bias[None]}
        attributes: dict[str, Any] = {"hidden_size": layer.hidden, "linear_before_reset": 1}
        inputs = [y, f"W{i}", f"R{i}", f"B{i}", "", f"h{i}"]
        nodes.append(helper.make_node("GRU", inputs, [f"Y{i}", f"h{i}_n"], **attributes))
        nodes.append(helper.make_node("Squeeze", [f"Y{i}", "axis"], [y := f"y{i}"]))
        ports.append(_port(f"h{i}", 1, "batch", layer.hidden))
        results.append(_port(f"h{i}_n", 1, "batch", layer.hidden))
    if outputs:
        constants["W"] = _uniform(random, layers[-1].hidden, (layers[-1].hidden, outputs))
        nodes.append(helper.make_node("MatMul", [y, "W"], [y := "out"]))
    results.insert(0, _port(y, "time", "batch", outputs or layers[-1].hidden))
    tensors = [numpy_helper.from_array(array, name) for name, array in constants.items()]
    graph = helper.make_graph(nodes, "stack", ports, results, tensors)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return layers


def _port(name: str, *dims: str | int) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, dims)


def _random_layer(random: np.random.Generator, inputs: int, hidden: int) -> Layer:
    shapes = [(3 * hidden, inputs), (3 * hidden, hidden), (3 * hidden,), (3 * hidden,)]
    return Layer(*(_uniform(random, hidden, shape) for shape in shapes))


def _uniform(random: np.random.Generator, hidden: int, shape: tuple[int, ...]) -> Array:
    """As torch begins."""
    return random.uniform(-(hidden**-0.5), hidden**-0.5, shape).astype(np.float32)
