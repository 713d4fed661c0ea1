"""onnxruntime's calls, for a drop-in trial: stateless, one thread, the whole graph for each call.

It is the slow way to stream: `streamgru.load(path).stream()` keeps the state and takes a frame at a time.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from streamgru._types import Array
from streamgru.errors import OptionError, ShapeError

from ..compiler.graph.dtypes import FED
from .graph import NodeArg, WholeGraph
from .model import Images


class InferenceSession:
    """``onnxruntime.InferenceSession`` for a graph that streamgru can compile.

    >>> session = streamgru.InferenceSession("model.onnx")
    >>> (y,) = session.run(None, {"x": x})

    Every set of input shapes is compiled when it is first met; the last 64 stay, or 256 MB of them. NaN and infinity
    pass. Graphs of float16 or float64 are computed in float32. Threads may share a session.

    Parameters
    ----------
    path_or_bytes : path or bytes
        The ONNX model.
    sess_options, providers, provider_options : optional
        Taken so that the call can stay as it is, and not looked at: one thread on the CPU is all there is.

    Raises
    ------
    ModelError
        The model cannot be read or, where its shapes are numbers, compiled; the message names the node.
    """

    def __init__(
        self,
        path_or_bytes: str | os.PathLike[str] | bytes,
        sess_options: object = None,
        providers: object = None,
        provider_options: object = None,
    ) -> None:
        self._images = Images(WholeGraph(path_or_bytes))
        self._inputs = self._images.graph.inputs
        self._outputs = self._images.graph.outputs
        self._images.prepare()

    def get_inputs(self) -> list[NodeArg]:
        """The inputs: name, shape, type."""
        return list(self._inputs)

    def get_outputs(self) -> list[NodeArg]:
        """The outputs: name, shape, type."""
        return list(self._outputs)

    def run(
        self, output_names: Sequence[str] | None, input_feed: Mapping[str, npt.ArrayLike], run_options: object = None
    ) -> list[Array]:
        """One call of the graph.

        Parameters
        ----------
        output_names : sequence of str or None
            The outputs wanted, in this order; None or none: all.
        input_feed : mapping of name to array
            Every input, in the dtype and shape the graph declares.
        run_options : optional
            Not looked at.

        Returns
        -------
        list of numpy.ndarray

        Raises
        ------
        ShapeError
            An input is missing, unknown, or of another dtype or shape; an output is unknown.
        OptionError
            `output_names` is no sequence of names.
        ModelError
            The graph cannot be compiled for these shapes.
        """
        known = {arg.name: arg for arg in self._outputs}
        wanted = list(known) if output_names is None else _names(output_names) or list(known)
        if unknown := [name for name in wanted if not isinstance(name, str) or name not in known]:
            raise ShapeError(f"there is no output {unknown[0]!r}; there are {list(known)}")
        if not isinstance(input_feed, Mapping):
            raise ShapeError(f"the inputs are a dict of arrays by name, not {type(input_feed).__name__}")
        if set(input_feed) != {arg.name for arg in self._inputs}:
            raise ShapeError(f"the inputs are {[arg.name for arg in self._inputs]}, got {list(input_feed)}")
        results = self._images.run({arg.name: _as_fed(arg, input_feed[arg.name]) for arg in self._inputs}, "pass")
        return [results[name].astype(FED[known[name].type], copy=False) for name in wanted]


def _names(given: Sequence[str]) -> list[str]:
    if isinstance(given, str | bytes) or not isinstance(given, Iterable):
        raise OptionError(f"output_names is a list of names, or None for all, not {given!r:.100}")
    return list(given)


def _as_fed(arg: NodeArg, value: npt.ArrayLike) -> Array:
    """The array in the dtype that the image has."""
    try:
        array = np.asarray(value)
    except ValueError as error:  # lists of unequal lengths
        raise ShapeError(f"input {arg.name!r}: {error}") from None
    declared = FED[arg.type]
    if array.dtype != declared:
        raise ShapeError(f"input {arg.name!r}: expected {declared}, got {array.dtype}; convert it with .astype")
    return np.asarray(array, np.float32 if declared.kind == "f" else declared, order="C")
