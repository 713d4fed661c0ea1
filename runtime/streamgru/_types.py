"""What this package's values are to a type checker, where Python's own types say less."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[Any]  # of whatever dtype a model has
Frames: TypeAlias = "Array | Mapping[str, Array]"  # of a model with one input, or by name
Outputs: TypeAlias = "Array | dict[str, Array]"
AnyDtype: TypeAlias = np.dtype[Any]
Json: TypeAlias = dict[str, Any]  # an object as json reads and writes it
CData: TypeAlias = Any  # a pointer or struct of cffi, which has no types
