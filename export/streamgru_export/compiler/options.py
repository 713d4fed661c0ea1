"""What a caller of the compiler may say, checked once; the stages take it as it is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt

from streamgru._options import one_of, whole_number, zero_or_more
from streamgru._types import Array, Frames
from streamgru.errors import OptionError
from streamgru.model import Weights

Mode: TypeAlias = Literal["stream", "whole"]
SHARE = "a share of an output's RMS, such as 0.02"
MOST_BOUND = 1024  # numbers of a bound input: they stand in the image's metadata
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
    values: Mapping[str, Array] = field(default_factory=dict)  # inputs bound to a constant


def checked(
    *,
    mode: str,
    batch: int,
    dims: Mapping[str, int] | None,
    time_axis: Mapping[str, int] | None,
    state: Iterable[tuple[str, str]] | None,
    values: Mapping[str, npt.ArrayLike] | None,
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
    if samples is not None and tolerance is None:
        raise OptionError("samples are frames for tolerance: give both")
    return Options(
        mode=mode,  # type: ignore[arg-type]  # one of them, as was seen
        batch=whole_number("batch", batch, 1, MOST),
        dims=numbers("dims", dims, 1),
        time_axis=numbers("time_axis", time_axis, -MOST),
        state=None if state is None else _pairs(state),
        values=bound_values(values),
        length=None if length is None else whole_number("length", length, 1, MOST),
        weights=weights,  # type: ignore[arg-type]
        tolerance=None if tolerance is None else zero_or_more("tolerance", tolerance, SHARE),
        samples=samples,
    )


def numbers(option: str, given: Mapping[str, int] | None, low: int) -> dict[str, int]:
    """A number for each name, none of them below `low`. OptionError where it is not that."""
    if not isinstance(given, (Mapping, type(None))):
        raise OptionError(f"{option} gives a number for each name, such as {{'T': 1}}, not {given!r:.100}")
    return {name: whole_number(f"{option}[{name!r}]", n, low, MOST) for name, n in (given or {}).items()}


def bound_values(given: Mapping[str, npt.ArrayLike] | None) -> dict[str, Array]:
    """A value for each name. OptionError where it is none, or of more numbers than metadata should hold."""
    if not isinstance(given, (Mapping, type(None))):
        raise OptionError(f"values gives a value for each input, such as {{'sr': 16000}}, not {given!r:.100}")
    return {str(name): _value(name, value) for name, value in (given or {}).items()}


def _value(name: object, value: npt.ArrayLike) -> Array:
    try:
        array = np.asarray(value)
    except ValueError:  # lists of unequal lengths
        array = np.empty(0)
    if not isinstance(name, str) or array.dtype.kind not in "biuf" or not 0 < array.size <= MOST_BOUND:
        raise OptionError(f"values[{name!r:.100}] is a number, or an array of at most {MOST_BOUND}, not {value!r:.100}")
    return array


def _pairs(pairs: Iterable[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    if not isinstance(pairs, Iterable):
        raise OptionError(f"state takes a list of pairs of an input and an output, not {pairs!r:.100}")
    return tuple(map(_pair, pairs))


def _pair(pair: object) -> tuple[str, str]:
    match pair:
        case (str(given), str(returned)):
            return given, returned
    raise OptionError(f"state takes pairs of an input and the output that continues it, not {pair!r:.100}")
