"""Weights that lie in a file beside the model. Only files inside the model's own folder are ever opened.

The paths, offsets and lengths come from the model, so none of them is trusted.
"""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath, PureWindowsPath

import onnx

from streamgru._disk import opened
from streamgru.errors import FileError, ModelError

ANY_LENGTH = 2**63  # of a file that holds many tensors; of each no more is read than it takes


def load_external(tensor: onnx.TensorProto, folder: Path | None, size: int) -> bytes:
    """The bytes of an external `tensor`.

    Parameters
    ----------
    tensor : TensorProto
        A tensor whose ``data_location`` is EXTERNAL.
    folder : Path or None
        The model's folder; None where the model came from memory.
    size : int
        Bytes that its shape and dtype take.

    Raises
    ------
    ModelError
        Naming the tensor: a path outside the folder, a missing file, an offset or length that does not fit.
    """
    entry = {e.key: e.value for e in tensor.external_data}
    who = f"tensor '{tensor.name}'"
    if folder is None:
        raise ModelError(f"{who} lies in an external file, but the model was given as bytes: pass its path instead")
    path = _inside(folder, entry.get("location", ""), who)
    offset = _number(entry.get("offset", "0"), "offset", who)
    try:
        with opened(path, ANY_LENGTH) as file:
            end = os.fstat(file.fileno()).st_size
            length = _number(entry["length"], "length", who) if "length" in entry else end - offset
            if offset > end or length < 0 or length > end - offset:
                raise ModelError(
                    f"{who}: bytes {offset} to {offset + length} lie beyond the end of '{path.name}' ({end} bytes)"
                )
            if length != size:
                raise ModelError(f"{who}: its data does not fit its shape {list(tensor.dims)}: {length} bytes of "
                                 f"external data; it takes {size}")  # fmt: skip
            file.seek(offset)
            return file.read(length)
    except FileError as error:
        raise ModelError(f"{who}: {error}") from error


def _inside(folder: Path, location: str, who: str) -> Path:
    """The file that `location` names, which must lie in `folder` even after every link is followed."""
    parts = (PurePosixPath(location), PureWindowsPath(location))
    if not location or "\0" in location or any(p.is_absolute() or p.anchor or ".." in p.parts for p in parts):
        raise ModelError(f"{who}: external data at '{location}': only a path inside the model's folder is accepted")
    root = folder.resolve()
    try:
        path = (root / location).resolve()
        is_file = path.is_file()
    except (OSError, RuntimeError) as error:  # a name too long, a loop of links
        raise ModelError(f"{who}: external data at '{location[:40]}' cannot be found: {error}") from None
    if not path.is_relative_to(root):
        raise ModelError(f"{who}: external data at '{location}' leads outside the model's folder")
    if not is_file:
        raise ModelError(f"{who}: its external data file '{location}' is not beside the model; copy it there")
    return path


def _number(text: str, what: str, who: str) -> int:
    if not (text.isascii() and text.isdigit()) or len(text) > 18:
        raise ModelError(f"{who}: external data has the {what} '{text[:40]}'; a non-negative number was expected")
    return int(text)
