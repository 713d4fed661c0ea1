"""onnxruntime's sessions, on the CPU. No other file of the workshop imports onnxruntime."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import onnxruntime

from streamgru._disk import read_bytes
from streamgru._types import AnyDtype, Array
from streamgru.errors import ModelError

ERRORS_ARE_RAISED = 4  # the log level at which nothing is printed


class Port(Protocol):
    """An input or an output; a dynamic axis is a name or None."""

    name: str
    type: str
    shape: list[int | str | None]


class Session(Protocol):
    """What is used of onnxruntime.InferenceSession, which ships no types."""

    def get_inputs(self) -> list[Port]: ...
    def get_outputs(self) -> list[Port]: ...
    def run(self, outputs: Sequence[str] | None, feeds: Mapping[str, Array]) -> list[Array]: ...


def as_dtype(kind: str) -> AnyDtype:
    """What `Port.type` says, such as "tensor(float)". Object where NumPy has no such numbers."""
    name = kind.removeprefix("tensor(").removesuffix(")")
    known = {"float": "float32", "double": "float64", "float16": "float16", "bool": "bool"}
    try:
        return np.dtype(known.get(name, name))
    except TypeError:
        return np.dtype(object)


def open_session(path: Path, threads: int = 1, *, optimised: bool = True) -> Session:
    """A graph in onnxruntime, as its users run it.

    Parameters
    ----------
    path : Path
    threads : int
        That share an operator.
    optimised : bool
        Whether onnxruntime may rewrite the graph, as it does by default.

    Raises
    ------
    ModelError
        onnxruntime refuses the file.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = ERRORS_ARE_RAISED
    if not optimised:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        session: Session = onnxruntime.InferenceSession(named(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its exceptions have no common base but this
        raise ModelError(f"{path}: onnxruntime refuses it: {error}") from error
    return session


def named(path: Path) -> str | bytes:
    """The file's name; what is in it, where the name is no UTF-8, which neither onnx nor onnxruntime takes."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return read_bytes(path)
    return str(path)
