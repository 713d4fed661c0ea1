"""Inputs of the ONNX graph that were bound to a value when it was compiled, as the image's metadata names them:

    "bound": {name: {"dtype": "int64", "shape": [1], "values": [16000]}}

A stream has no such input. Whoever runs the graph itself feeds it the same value.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, cast

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


def are_bound(value: Any) -> bool:
    """Whether metadata says it as it should."""
    return isinstance(value, dict) and all(_is_bound(bound) for bound in cast(Json, value).values())


def _is_bound(bound: Any) -> bool:
    if not isinstance(bound, dict):
        return False
    dtype, shape, values = (cast(Json, bound).get(key) for key in ("dtype", "shape", "values"))
    if dtype not in DTYPES or not isinstance(shape, list) or not isinstance(values, list):
        return False
    sizes: list[Any] = shape
    numbers: list[Any] = values
    fits = all(type(n) is int and 0 <= n <= len(numbers) for n in sizes) and math.prod(sizes) == len(numbers)
    return fits and all(isinstance(v, int | float) and abs(v) < 2**63 for v in numbers)
