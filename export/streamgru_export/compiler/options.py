"""What a caller of the compiler may say, checked once; the stages take it as it is."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias, get_args

from streamgru._options import one_of, whole_number
from streamgru._types import Frames
from streamgru.errors import OptionError
from streamgru.model import Weights

Mode: TypeAlias = Literal["stream", "whole"]
MOST = 2**31 - 1  # of a dimension: the C core counts elements in 31 bits


@dataclass(frozen=True)
class Options:
    """How a model is compiled; :func:`compile` says what each means."""

    mode: Mode = "stream"
    batch: int = 1
    dims: Mapping[str, int] = field(default_factory=dict)
    time_axis: Mapping[str, int] = field(default_factory=dict)  # none: what the file says of itself, or what is found
    state: tuple[tuple[str, str], ...] | None = None  # None: the pairs that are found
    length: int | None = None
    weights: Weights = "f32"
    tolerance: float | None = None
    samples: Frames | None = None


def checked(
    *,
    mode: str,
    batch: int,
    dims: Mapping[str, int] | None,
    time_axis: Mapping[str, int] | None,
    state: Iterable[tuple[str, str]] | None,
    length: int | None,
    weights: str,
    tolerance: float | None,
    samples: Frames | None,
) -> Options:
    """The options, where each can have its value.

    Raises
    ------
    OptionError
        Naming the option, what it was given and what was expected.
    """
    one_of("mode", mode, get_args(Mode))
    one_of("weights", weights, get_args(Weights))
    return Options(
        mode=mode,  # type: ignore[arg-type]  # one of them, as was seen
        batch=whole_number("batch", batch, 1, MOST),
        dims=_numbers("dims", dims, 1),
        time_axis=_numbers("time_axis", time_axis, -MOST),
        state=None if state is None else tuple(map(_pair, state)),
        length=None if length is None else whole_number("length", length, 1, MOST),
        weights=weights,  # type: ignore[arg-type]
        tolerance=None if tolerance is None else _tolerance(tolerance),
        samples=samples,
    )


def _numbers(option: str, given: Mapping[str, int] | None, low: int) -> dict[str, int]:
    if not isinstance(given, (Mapping, type(None))):
        raise OptionError(f"{option} gives a number for each name, such as {{'T': 1}}, not {given!r}")
    return {name: whole_number(f"{option}[{name!r}]", n, low, MOST) for name, n in (given or {}).items()}


def _pair(pair: object) -> tuple[str, str]:
    match pair:
        case (str(given), str(returned)):
            return given, returned
    raise OptionError(f"state takes pairs of an input and the output that continues it, not {pair!r}")


def _tolerance(value: float) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not number >= 0:
        raise OptionError(f"tolerance is a share of an output's RMS, such as 0.02, not {value!r}")
    return number
