"""What a parity check starts from: the model's files, the frames, the environment, the hashes.

It runs no model. Only numpy is imported here; versions of the other packages are read from their metadata.
"""

from __future__ import annotations

import hashlib
import os
import platform
import warnings
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamgru._isa import isa
from streamgru._options import as_path
from streamgru.errors import ShapeError
from streamgru.model import Model, load

PACKAGES = ("numpy", "onnx", "onnxruntime", "torch", "onnxscript")
FLAGS = 2  # values of an input of ids where no table tells how many there are


class Source(NamedTuple):
    """A model, and the ONNX file it came from: None with the problem where there is none."""

    name: str
    model: Model
    onnx: Path | None
    problem: str = ""


def resolve(model: Model | str | os.PathLike[str], onnx: str | os.PathLike[str] | None) -> Source:
    """The model and its graph. An image names its graph: it is looked for beside the image and in this
    folder.

    Raises
    ------
    ModelError
        The model cannot be loaded.
    """
    folder = Path()
    if isinstance(model, Model):
        name = model.metadata.get("source") or "model"
    else:
        path = as_path("model", model)
        folder, name, model = path.parent, path.name, _load(path)
        if onnx is None and path.suffix != ".sgru":
            return Source(name, model, path)
    if onnx is not None:
        return Source(name, model, as_path("onnx", onnx))
    graph = model.metadata.get("source") or ""
    found = next((p for p in (folder / graph, Path(graph)) if _is_file(p)), None)
    if found is None:
        return Source(name, model, None, f"its graph {graph or ''} is not here: give it as onnx=")
    if sha256(found.read_bytes()) != model.metadata.get("sha256"):
        return Source(name, model, None, f"{found} is no longer what was compiled: give the graph as onnx=")
    return Source(name, model, found)


def _is_file(path: Path) -> bool:
    """False also for a name that no system can have: it comes from the image."""
    try:
        return path.is_file()
    except OSError:
        return False


def _load(path: Path) -> Model:
    """The model, without the warnings of the compiler: the report has them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return load(path)


def random_frames(model: Model, tables: Mapping[str, int], steps: int, seed: int) -> dict[str, NDArray[Any]]:
    """For each input [steps, *frame]: standard normal, or ids below the size of the table they index.

    An input without a time axis in a sequence graph is the same at every step.
    """
    rng = np.random.default_rng(seed)
    sequence = any(t.time_axis is not None for t in model.inputs)
    frames = {}
    for tensor in model.inputs:
        shape = (steps, *tensor.shape)
        if tensor.dtype.kind == "f":
            values = rng.standard_normal(shape).astype(tensor.dtype)
        else:
            values = rng.integers(0, tables.get(tensor.name, FLAGS), shape).astype(tensor.dtype)
        constant = sequence and tensor.time_axis is None
        frames[tensor.name] = np.repeat(values[:1], steps, axis=0) if constant else values
    return frames


def given_frames(model: Model, inputs: Any) -> dict[str, NDArray[Any]]:
    """The caller's inputs, shaped as :meth:`Stream.run` takes them, as [T, *frame] each.

    Raises
    ------
    ShapeError
        An input is missing, unknown, or of another shape or length than the others.
    """
    given = dict(inputs) if isinstance(inputs, Mapping) else {model.inputs[0].name: inputs}
    names = [tensor.name for tensor in model.inputs]
    if sorted(given) != sorted(names):
        raise ShapeError(f"the inputs are {names}, got {sorted(map(str, given))}")
    frames = {}
    for tensor in model.inputs:
        values, axis = np.asarray(given[tensor.name]), tensor.time_axis or 0
        expected = [*tensor.shape[:axis], "T", *tensor.shape[axis:]]
        if values.ndim <= axis or np.moveaxis(values, axis, 0).shape[1:] != tensor.shape:
            raise ShapeError(f"input {tensor.name!r}: shape {expected} expected, got {list(values.shape)}")
        frames[tensor.name] = np.ascontiguousarray(np.moveaxis(values, axis, 0))
    lengths = {name: len(values) for name, values in frames.items()}
    if len(set(lengths.values())) != 1 or 0 in lengths.values():
        raise ShapeError(f"the inputs must have the same number of frames, 1 or more: {lengths}")
    return frames


def environment() -> dict[str, str]:
    """Versions, CPU and instruction set: what a figure depends on."""
    from streamgru import __version__

    from ..bench import cpu_name

    return {
        "streamgru": __version__,
        "isa": isa(),
        "cpu": cpu_name(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        **{package: _version(package) for package in PACKAGES},
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def hashes(
    source: Source, frames: Mapping[str, NDArray[Any]], module: Any, weights: str | os.PathLike[str] | None
) -> dict[str, str]:
    """sha256 of the graph's file, the image, the checkpoint's file, the module's parameters and the frames."""
    files = {} if source.onnx is None else {"onnx": source.onnx.read_bytes()}
    files["sgru"] = source.model.image
    if weights is not None:
        files["weights"] = Path(weights).read_bytes()
    found = {name: sha256(data) for name, data in files.items()}
    if hasattr(module, "state_dict"):
        parameters = {name: value.detach().cpu() for name, value in module.state_dict().items()}
        found["module"] = _sha256_of_arrays({name: np.asarray(value) for name, value in parameters.items()})
    found["frames"] = _sha256_of_arrays(frames)
    return found


def sha256(data: bytes) -> str:
    """In hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def _sha256_of_arrays(arrays: Mapping[str, NDArray[Any]]) -> str:
    digest = hashlib.sha256()
    for name, array in arrays.items():
        digest.update(f"{name} {array.dtype} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
