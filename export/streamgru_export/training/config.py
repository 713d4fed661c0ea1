"""How a net is trained: one dataclass, also from TOML and from `name=value` words. It needs no torch."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from streamgru._disk import read_bytes
from streamgru._options import as_path
from streamgru.errors import OptionError

CHOICES: dict[str, tuple[str, ...]] = {
    "optimiser": ("gd", "sgd", "momentum", "nesterov", "adagrad", "rmsprop", "adam", "adamw"),
    "schedule": ("constant", "exponential", "linear", "step", "cosine", "plateau"),
    "initialiser": ("default", "truncated_normal", "xavier", "kaiming"),
    "recurrent_initialiser": ("default", "orthogonal"),
    "loss": ("mse", "huber", "cross_entropy"),
    "clip_by": ("norm", "value"),
}

_POSITIVE: tuple[Callable[[Any], bool], str] = (lambda v: v > 0, "a number above 0")
_COUNT: tuple[Callable[[Any], bool], str] = (lambda v: v >= 1, "1 or more")
_ZERO_UP: tuple[Callable[[Any], bool], str] = (lambda v: v >= 0, "0 or more")
_FRACTION: tuple[Callable[[Any], bool], str] = (lambda v: 0 <= v < 1, "at least 0 and below 1")
_RANGES = {
    "epochs": _COUNT,
    "batch_size": _COUNT,
    "seed": _ZERO_UP,
    "learning_rate": _POSITIVE,
    "momentum": _FRACTION,
    "weight_decay": _ZERO_UP,
    "decay": (lambda v: 0 < v <= 1, "above 0 and at most 1"),
    "decay_every": _COUNT,
    "clip": _ZERO_UP,
    "dropout": _FRACTION,
    "gate_dropout": _FRACTION,
    "patience": _ZERO_UP,
    "checkpoint_every": _COUNT,
}


@dataclass(frozen=True)
class TrainConfig:
    """How to train.

    Attributes
    ----------
    epochs : int
        Passes over the training data.
    batch_size : int
        Examples a step; "gd" takes all of them.
    seed : int
        Of the initial weights, the order of the examples, and dropout.
    optimiser : str
        "gd": full-batch gradient descent. "sgd"; "momentum": heavy ball (Polyak 1964); "nesterov" (1983);
        "adagrad" (Duchi et al. 2011); "rmsprop" (Hinton 2012); "adam" (Kingma and Ba 2015); "adamw"
        (Loshchilov and Hutter 2019). All are torch's own.
    learning_rate : float
    momentum : float
        Of "momentum" and "nesterov".
    weight_decay : float
        Of every optimiser; decoupled from the gradient in "adamw".
    schedule : str
        Of the learning rate, over epochs. "exponential": times `decay` after each. "linear": down to `decay`
        times the first. "step": times `decay` every `decay_every`. "cosine": down to zero. "plateau": times
        `decay` when the validation loss has not improved for `decay_every`.
    decay, decay_every : float, int
        See `schedule`.
    initialiser : str
        Of the weights of linear and recurrent layers. "default": torch's. "truncated_normal": of deviation
        1/√fan_in, cut at two. "xavier" (Glorot and Bengio 2010), "kaiming" (He et al. 2015): uniform.
    recurrent_initialiser : str
        Of the products with h. "orthogonal": each gate's matrix (Saxe et al. 2014).
    loss : str
        "mse" and "huber" skip targets that are NaN, "cross_entropy" those that are −100.
    clip : float
        0: no clipping. Else the largest norm of the whole gradient, or the largest value of each of its elements.
    clip_by : str
        "norm" (Pascanu et al. 2013) or "value".
    dropout, gate_dropout : float, optional
        Of all dropout between layers, and of all gates that can drop out; None leaves the net's own.
    patience : int
        Stop after so many epochs without a better validation loss; 0: never.
    checkpoint_every : int
        Epochs.
    resume : str
        A checkpoint to go on from.

    Raises
    ------
    OptionError
        A value that is not allowed; the message names those that are.
    """

    epochs: int = 100
    batch_size: int = 32
    seed: int = 0
    optimiser: str = "adam"
    learning_rate: float = 1e-3
    momentum: float = 0.9
    weight_decay: float = 0.0
    schedule: str = "constant"
    decay: float = 0.1
    decay_every: int = 30
    initialiser: str = "default"
    recurrent_initialiser: str = "default"
    loss: str = "mse"
    clip: float = 1.0
    clip_by: str = "norm"
    dropout: float | None = None
    gate_dropout: float | None = None
    patience: int = 0
    checkpoint_every: int = 10
    resume: str = ""

    def __post_init__(self) -> None:
        for name in _NAMES:
            object.__setattr__(self, name, _checked(name, getattr(self, name)))

    def updated(self, settings: Mapping[str, Any]) -> TrainConfig:
        """A copy with other values. Raises OptionError for a name that is no setting."""
        unknown = sorted(set(settings) - set(_NAMES))
        if unknown:
            raise OptionError(f"{unknown[0]!r} is no setting of the training; one of {', '.join(_NAMES)} was expected")
        return replace(self, **settings)

    def from_words(self, words: Iterable[str]) -> TrainConfig:
        """A copy with what `name=value` words say, such as `optimiser=sgd`."""
        settings = {}
        for word in words:
            name, equals, text = word.partition("=")
            if not equals:
                raise OptionError(f"{word!r} is not of the form name=value")
            settings[name.strip().replace("-", "_")] = text.strip()
        return self.updated(settings)

    def from_toml(self, path: str | Path) -> TrainConfig:
        """A copy with what a TOML file says, in its table `[train]` or, without one, at its top."""
        path = as_path("config", path)
        try:
            settings = tomllib.loads(read_bytes(path).decode())
        except ValueError as error:  # no TOML, or no UTF-8
            raise OptionError(f"{path} is no TOML: {error}") from error
        table = settings.get("train", settings)
        if not isinstance(table, dict):
            raise OptionError(f"{path}: train={table!r}; a table of settings was expected")
        try:
            return self.updated(table)
        except OptionError as error:
            raise OptionError(f"{path}: {error}") from error


_TYPES = {field.name: str(field.type).split(" | ") for field in fields(TrainConfig)}
_NAMES = tuple(_TYPES)
_CASTS: dict[str, Callable[[Any], Any]] = {"int": int, "float": float, "str": str}


def _checked(name: str, value: Any) -> Any:
    """The value in its field's type, where it is allowed."""
    kind, *optional = _TYPES[name]
    if optional and value in (None, "", "none", "None"):
        return None
    if name in CHOICES:
        if value not in CHOICES[name]:
            raise OptionError(f"{name}={value!r}; one of {', '.join(CHOICES[name])} was expected")
        return value
    number = _cast(name, kind, value)
    if name in _RANGES:
        holds, words = _RANGES[name]
        if not holds(number) or number == float("inf"):
            raise OptionError(f"{name}={value}; {words} was expected")
    return number


def _cast(name: str, kind: str, value: Any) -> Any:
    kinds = {"int": "a whole number", "float": "a number", "str": "text"}
    if kind == "str":
        allowed = isinstance(value, str)
    else:
        allowed = isinstance(value, str | int | float) and not isinstance(value, bool)
    try:
        cast = _CASTS[kind](value) if allowed else None
    except (ValueError, OverflowError):
        cast = None
    if cast is None or (kind == "int" and not isinstance(value, str) and cast != value):
        raise OptionError(f"{name}={value!r}; {kinds[kind]} was expected")
    return cast
