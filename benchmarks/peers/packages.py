"""The peers that are Python packages, called from Python as their users do, on one thread. Each is optional.

A state goes in with every call and comes out, but is not handed back: that would cost the peer time. One that is not
installed raises ImportError.
"""

from __future__ import annotations

import struct
import tempfile
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from models import Array, Layer

Call = Callable[[], Any]  # gives the outputs, the first of them first


def onnxruntime(path: Path, feeds: dict[str, Array], threads: int = 1) -> Call:
    session = import_module("streamgru_export.ort").open_session(path, threads)
    return lambda: session.run(None, feeds)


def openvino(path: Path, feeds: dict[str, Array]) -> Call:
    """Its inputs are put in place beforehand: to hand them over takes it longer than a small step."""
    package = import_module("openvino")
    core = package.Core()
    model = core.read_model(str(path))
    model.reshape({name: list(array.shape) for name, array in feeds.items()})
    settings = {"INFERENCE_NUM_THREADS": 1, "PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
    request = core.compile_model(model, "CPU", settings).create_infer_request()
    for name, array in feeds.items():
        request.set_tensor(name, package.Tensor(array))
    return lambda: list(request.infer().values())


def torch(layer: Layer, feeds: dict[str, Array]) -> Call:
    """`nn.GRU` in inference mode."""
    package = import_module("torch")
    package.set_num_threads(1)
    gru = package.nn.GRU(layer.inputs, layer.hidden).eval()
    names = ["weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"]
    arrays = [layer.w, layer.r, layer.bias_w, layer.bias_r]
    gru.load_state_dict({n: package.from_numpy(_reset_first(a)) for n, a in zip(names, arrays, strict=True)})
    x, h = (package.from_numpy(array) for array in feeds.values())

    def call() -> Any:
        with package.inference_mode():
            return gru(x, h)

    return call


def ncnn(layer: Layer, feeds: dict[str, Array]) -> Call:
    """A net of one GRU layer; x and h of one sequence."""
    package = import_module("ncnn")
    net = package.Net()
    net.opt.num_threads, net.opt.use_vulkan_compute = 1, False
    for kind in ("fp16_packed", "fp16_storage", "fp16_arithmetic", "bf16_storage"):
        setattr(net.opt, f"use_{kind}", False)
    z_w, r_w, n_w = np.split(layer.bias_w, 3)
    z_r, r_r, n_r = np.split(layer.bias_r, 3)
    bias = np.concatenate([r_w + r_r, z_w + z_r, n_w, n_r])
    with tempfile.TemporaryDirectory() as folder:
        text, weights = Path(folder, "gru.param"), Path(folder, "gru.bin")
        gru = f"GRU gru 2 2 x h y h_n 0={layer.hidden} 1={layer.w.size} 2=0"
        text.write_text(f"7767517\n3 4\nInput x 0 1 x\nInput h 0 1 h\n{gru}\n")
        f32 = struct.pack("<I", 0)
        weights.write_bytes(b"".join(f32 + a.tobytes() for a in (_reset_first(layer.w), bias, _reset_first(layer.r))))
        if net.load_param(str(text)) or net.load_model(str(weights)):
            raise ImportError("this ncnn does not take the layer")
    x, h = (array.reshape(-1, array.shape[-1]) for array in feeds.values())

    def call() -> Any:
        extractor = net.create_extractor()
        extractor.input("x", package.Mat(x))
        extractor.input("h", package.Mat(h))
        return [np.array(extractor.extract("y")[1])]

    return call


def _reset_first(array: Array) -> Array:
    """Gates in the order r z n, as torch and ncnn have them."""
    z, r, n = np.split(array, 3)
    return np.concatenate([r, z, n])
