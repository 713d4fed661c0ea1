"""What an ONNX file of ours says about itself, in its `metadata_props`: the exporter writes it, the compiler reads it.

    streamgru.kind                "step" or "sequence"
    streamgru.time_axis           {"x": 1, "y": 1}: the axis of each input and output that has one
    streamgru.state               [["h_in", "h_out"]]: each state's input, and the output that continues it
    streamgru.meta.sample_rate    of the signal that the frames were cut from, in hertz
    streamgru.meta.labels         ["yes", "no"], or {"y": ["yes", "no"]}: what the elements of an output mean
    streamgru.meta.normalisation  {"mean": [...], "deviation": [...]}: numbers by name; who applies them is the caller
    streamgru.meta.<key>          what else the exporting person wanted kept

All values but the first are JSON. Files come from anywhere: what is not of this form is refused with the key's name.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from streamgru.errors import ModelError, OptionError

KIND, TIME_AXIS, STATE, META = "streamgru.kind", "streamgru.time_axis", "streamgru.state", "streamgru.meta."

# What a value must be, by its key: the rule, and how a message calls it.
RULES: dict[str, tuple[Callable[[Any], bool], str]] = {
    TIME_AXIS: (lambda v: _is_object(v, lambda axis: type(axis) is int), "an object of axes by name"),
    STATE: (lambda v: isinstance(v, list) and all(map(_is_pair, v)), "a list of [input, output] pairs"),
    META + "sample_rate": (lambda v: _is_number(v) and v > 0, "a number of hertz above 0"),
    META + "labels": (
        lambda v: _are_labels(v) or _is_object(v, _are_labels),
        "a list of strings, or such a list for each output's name",
    ),
    META + "normalisation": (lambda v: _is_object(v, _are_numbers), "an object of finite numbers, or lists of them"),
}
KNOWN = ("sample_rate", "labels", "normalisation")  # which stand beside `states` and `time_axis` in the image


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


def _are_numbers(value: Any) -> bool:
    return _is_number(value) or (isinstance(value, list) and all(map(_are_numbers, value)))


def _are_labels(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(label, str) for label in value)


def _is_pair(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(isinstance(name, str) for name in value)


def _is_object(value: Any, fits: Callable[[Any], bool]) -> bool:
    return isinstance(value, dict) and all(map(fits, value.values()))


# Writing.


def of_stream(kind: str, time_axis: Mapping[str, int], state: Sequence[tuple[str, str]]) -> dict[str, str]:
    """The properties that say how a graph streams."""
    return {KIND: kind, TIME_AXIS: json.dumps(dict(time_axis)), STATE: json.dumps(list(state))}


def _as_list(value: Any) -> object:
    return value.tolist()


def of_person(values: Mapping[str, object]) -> dict[str, str]:
    """The properties for what a person wants kept: key -> anything that JSON can hold; arrays become lists.

    Raises
    ------
    OptionError
        A value that JSON cannot hold, or that is not of its key's form.
    """
    properties = {}
    for key, value in values.items():
        try:
            text = json.dumps(value, default=_as_list, allow_nan=False)
        except (TypeError, ValueError, AttributeError, RecursionError) as error:
            raise OptionError(
                f"metadata[{key!r}] is of type {type(value).__name__}, and JSON cannot hold it ({error}); "
                "give finite numbers, strings, lists and dicts of them"
            ) from error
        holds, words = RULES.get(META + key, (lambda v: True, ""))
        if not holds(json.loads(text)):
            raise OptionError(f"{key}={value!r}; {words} was expected")
        properties[META + key] = text
    return properties


# Reading.


def _read(properties: Mapping[str, str], key: str) -> Any:
    """A property's value.

    Raises
    ------
    ModelError
        It is no JSON, or not of its key's form.
    """
    holds, words = RULES.get(key, (lambda v: True, "JSON"))
    try:
        value = json.loads(properties[key], parse_constant=_refuse)
        fits = holds(value)
    except (ValueError, RecursionError, OverflowError):
        fits = False
    if not fits:
        raise ModelError(f"metadata '{key}' is {properties[key][:80]!r}; {words} was expected")
    return value


def _refuse(name: str) -> None:
    raise ValueError(name)  # NaN and Infinity are no JSON


def state_pairs(properties: Mapping[str, str]) -> list[tuple[str, str]] | None:
    """The states' (input, output) names; None where the file does not say."""
    return [(i, o) for i, o in _read(properties, STATE)] if STATE in properties else None


def time_axes(properties: Mapping[str, str]) -> dict[str, int]:
    """The time axis of each input and output that has one; empty where the file does not say."""
    axes: dict[str, int] = _read(properties, TIME_AXIS) if TIME_AXIS in properties else {}
    return axes


def about(properties: Mapping[str, str]) -> dict[str, Any]:
    """For the image: `sample_rate`, `labels` and `normalisation` where the file has them, all else under `meta`."""
    found = {key.removeprefix(META): _read(properties, key) for key in properties if key.startswith(META)}
    known = {key: found.pop(key) for key in KNOWN if key in found}
    return known | ({"meta": found} if found else {})
