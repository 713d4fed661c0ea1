"""Inputs of the ONNX graph that were bound to a value when it was compiled, as the image's metadata names them:

    "bound": {name: {"dtype": "int64", "shape": [1], "values": [16000]}}

A stream has no such input. Whoever runs the graph itself feeds it the same value.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from ._types import Array, Json

DTYPES = ("float32", "int64", "int32", "bool")


def as_json(values: Mapping[str, Array]) -> Json:
    """As metadata has them."""
    return {
        name: {"dtype": value.dtype.name, "shape": list(value.shape), "values": value.reshape(-1).tolist()}
        for name, value in values.items()
    }


def bound_values(metadata: Json) -> dict[str, Array]:
    """Input name -> its value, of an image that is open."""
    return {
        name: np.array(b["values"], b["dtype"]).reshape(b["shape"]) for name, b in (metadata.get("bound") or {}).items()
    }


def are_bound(value: object) -> bool:
    """Whether metadata says it as it should."""
    return isinstance(value, dict) and all(map(_is_bound, value.values()))


def _is_bound(value: object) -> bool:
    match value:
        case {"dtype": str(dtype), "shape": list(shape), "values": list(values)}:
            sizes = all(type(n) is int and 0 <= n <= len(values) for n in shape)
            fits = sizes and math.prod(shape) == len(values) and all(isinstance(v, int | float) for v in values)
            return dtype in DTYPES and fits and all(abs(v) < 2**63 for v in values)
    return False
