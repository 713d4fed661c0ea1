"""Inputs that always have the same value: bound to it, they are constants of the graph, and an If or a shape that hangs
on them can be compiled."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from streamgru.errors import ModelError

from .graph import Array, Graph, Port


def bind_inputs(graph: Graph, values: Mapping[str, Array]) -> Graph:
    """The graph without these inputs.

    Raises
    ------
    ModelError
        There is no such input, or it does not take that value.
    """
    if not values:
        return graph
    ports = {p.name: p for p in graph.inputs}
    if unknown := [name for name in values if name not in ports]:
        raise ModelError(f"values: there is no input '{unknown[0]}'; there are {sorted(ports)}")
    found = {name: _as_input(ports[name], value) for name, value in values.items()}
    inputs = [p for p in graph.inputs if p.name not in found]
    return replace(graph, inputs=inputs, constants={**graph.constants, **found}, types={}, bound=found)


def _as_input(port: Port, value: Array) -> Array:
    """The value in the input's dtype and shape; one number fits any shape of one element."""
    if value.size == 1 and all(d == 1 or isinstance(d, str) for d in port.shape):
        value = value.reshape((1,) * len(port.shape))
    fits = value.ndim == len(port.shape) and all(
        d == n or isinstance(d, str) for d, n in zip(port.shape, value.shape, strict=True)
    )
    if not fits:
        raise ModelError(f"values: input '{port.name}' has the shape {list(port.shape)}, got {list(value.shape)}")
    is_bool = port.dtype == np.bool_
    with np.errstate(invalid="ignore", over="ignore"):
        cast = value.astype(port.dtype)
        exact = np.isfinite(cast).all() if port.dtype.kind == "f" else (cast == value).all()
    if not exact or is_bool != (value.dtype == np.bool_):
        raise ModelError(f"values: input '{port.name}' is {port.dtype}, and cannot be {value.reshape(-1)[:8].tolist()}")
    return np.asarray(cast, order="C")
