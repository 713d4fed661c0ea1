"""What a parity check starts from: the model, the files it came from, and the hashes of them all. It runs no model."""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from streamgru._disk import read_bytes
from streamgru._options import as_path
from streamgru._printable import printable
from streamgru._types import Array
from streamgru.errors import ModelError, OptionError
from streamgru.model import Model, load

if TYPE_CHECKING:
    import torch


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
        The model cannot be loaded, or there is no file `onnx`.
    """
    if onnx is not None:
        onnx = as_path("onnx", onnx)
        if not _is_file(onnx):
            raise ModelError(f"onnx: there is no file {onnx}")
    folder = Path()
    if isinstance(model, Model):
        name = model.metadata.get("source") or "model"
    else:
        path = as_path("model", model)
        folder, name, model = path.parent, printable(path.name), _load(path)
        if onnx is None and path.suffix != ".sgru":
            return Source(name, model, path)
    if onnx is not None:
        return Source(name, model, onnx)
    graph = model.metadata.get("source") or ""
    found = next((p for p in (folder / graph, Path(graph)) if _is_file(p)), None)
    if found is None:
        return Source(name, model, None, f"its graph {graph or ''} is not here: give it as onnx=")
    if sha256(read_bytes(found)) != model.metadata.get("sha256"):
        return Source(name, model, None, f"{found} is no longer what was compiled: give the graph as onnx=")
    return Source(name, model, found)


def checked_files(module: torch.nn.Module | None, weights: str | os.PathLike[str] | None) -> Path | None:
    """The checkpoint's file. OptionError where there is none, or where `module` is no module."""
    if module is not None and not (callable(module) and hasattr(module, "state_dict")):
        raise OptionError(f"module is a torch.nn.Module, not {module!r:.100}")
    if weights is None:
        return None
    path = as_path("weights", weights)
    if not _is_file(path):
        raise OptionError(f"weights: there is no file {path}")
    return path


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


def hashes(
    source: Source,
    frames: Mapping[str, Array],
    module: torch.nn.Module | None,
    weights: Path | None,
) -> dict[str, str]:
    """sha256 of the graph's file, the image, the checkpoint's file, the module's parameters and the frames."""
    files = {} if source.onnx is None else {"onnx": read_bytes(source.onnx)}
    files["sgru"] = source.model.image
    if weights is not None:
        files["weights"] = read_bytes(weights)
    found = {name: sha256(data) for name, data in files.items()}
    if module is not None:
        found["module"] = _sha256_of(_of_tensor(name, value) for name, value in module.state_dict().items())
    found["frames"] = _sha256_of(_of_array(name, array) for name, array in frames.items())
    return found


def sha256(data: bytes) -> str:
    """In hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


class _Item(NamedTuple):
    """What a digest says of one array: its name, dtype and shape as text, and its bytes, little-endian, in C order."""

    header: bytes
    data: bytes


def _sha256_of(items: Iterable[_Item]) -> str:
    """Of a set of arrays, whatever their order, their byte order and how they lie in memory.

    Each part goes with its length before it, so that no two sets have the same bytes.
    """
    digest = hashlib.sha256()
    for item in sorted(items):
        for part in item:
            digest.update(len(part).to_bytes(8, "little"))
            digest.update(part)
    return digest.hexdigest()


def _of_array(name: str, array: Array) -> _Item:
    return _Item(_header(name, array.dtype.name, array.shape), _little(array).tobytes())


def _of_tensor(name: str, value: torch.Tensor) -> _Item:
    """Of an entry of a state dict; by what it prints where it is no tensor. NumPy lacks bfloat16: bytes, then."""
    if not hasattr(value, "detach"):
        return _Item(_header(name, type(value).__qualname__, ()), repr(value).encode("utf-8", "backslashreplace"))
    value = value.detach().cpu()
    dense = value.to_dense() if str(value.layout) != "torch.strided" else value
    octets = dense.contiguous().flatten().view(dense.new_zeros(0).byte().dtype)
    return _Item(_header(name, str(value.dtype).removeprefix("torch."), tuple(value.shape)), octets.numpy().tobytes())


def _header(name: str, dtype: str, shape: tuple[int, ...]) -> bytes:
    return json.dumps([name, dtype, list(shape)]).encode()


def _little(array: Array) -> Array:
    return array.astype(array.dtype.newbyteorder("<"), copy=False)
