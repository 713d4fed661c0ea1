"""What a caller may say: an unknown option or value is refused with the nearest known one."""

from __future__ import annotations

import inspect
import math
import operator
import os
from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from .errors import OptionError


def refuse_unknown(function: Callable[..., Any], unknown: Mapping[str, object]) -> None:
    """OptionError where a keyword was given that `function` does not have."""
    if unknown:
        name = next(iter(unknown))
        kinds = (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
        known = [p.name for p in inspect.signature(function).parameters.values() if p.kind in kinds]
        raise OptionError(f"{function.__qualname__} has no option {name!r}{_nearest(name, known)}")


def one_of(option: str, value: object, known: Iterable[str]) -> None:
    """OptionError where the value of an option is none of those that it may have."""
    known = list(known)
    if not isinstance(value, str) or value not in known:  # an array is compared with nothing
        listed = ", ".join(map(repr, known))
        raise OptionError(f"{option}={value!r:.100}: one of {listed} was expected{_nearest(str(value), known)}")


def whole_number(option: str, value: object, low: int, high: int, why: str = "") -> int:
    """The value as an int. OptionError where it is none, or not within low .. high; `why` tells of the bounds."""
    try:
        number = operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        raise OptionError(f"{option} is a whole number of {low} to {high}{why}, not {value!r:.100}") from None
    if not low <= number <= high:
        raise OptionError(f"{option} is {low} to {high}{why}, not {number}")
    return number


def seed(value: object) -> int:
    """The value as a seed that numpy and torch both take. OptionError where it is none."""
    return whole_number("seed", value, 0, 2**64 - 1)


def zero_or_more(option: str, value: object, what: str = "a number of 0 or more") -> float:
    """The value as a float. OptionError where it is not `what`: no number, NaN or negative."""
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not number >= 0:
        raise OptionError(f"{option} is {what}, not {value!r:.100}")
    return number


def as_path(option: str, value: object) -> Path:
    """The value as a path. OptionError where it is none."""
    try:
        path = Path(value)  # type: ignore[arg-type]
    except TypeError:
        advice = "; os.fsdecode() makes one of a name in bytes" if isinstance(value, bytes) else ""
        raise OptionError(f"{option} is a path, not {value!r:.100}{advice}") from None
    if value == "":
        raise OptionError(f"{option} is a path, not an empty text")
    if not is_name(path):
        raise OptionError(f"{option} is a path, and no file has the name {str(path)!r:.100}: it holds a NUL or half a "
                          "character")  # fmt: skip
    return path


def is_name(path: Path) -> bool:
    """Whether a file could have that name: bytes that are no text are half surrogates of a certain range."""
    try:
        return b"\0" not in os.fsencode(path)
    except UnicodeEncodeError:
        return False


def _nearest(name: str, known: list[str]) -> str:
    nearest = import_module("difflib").get_close_matches(name, known, 1)  # a millisecond that only an error pays
    return f"; did you mean {nearest[0]!r}?" if nearest else ""
