"""Modules and tensors from the words of a command line."""

from __future__ import annotations

import json
import pickle
import sys
from importlib import import_module
from pathlib import Path

import torch

from streamgru._disk import opened
from streamgru._options import seed as checked_seed
from streamgru.errors import OptionError


def load_module(words: str, arguments: str = "{}", weights: Path | None = None) -> torch.nn.Module:
    """The torch module that `package.module:name` is or makes, with its checkpoint.

    Parameters
    ----------
    words : str
        ``package.module:name``: a module, or what makes one. The code is run.
    arguments : str
        Keyword arguments of what makes it, as JSON.
    weights : path, optional
        A checkpoint of plain tensors; no code of it is run.

    Raises
    ------
    OptionError
        There is no such thing, it makes no module, or the checkpoint does not fit.
    """
    where, _, name = words.partition(":")
    if not (where and name):
        raise OptionError(f"{words!r} is not of the form package.module:factory")
    given = _arguments(arguments)
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))  # as python -m does
    try:
        made = getattr(import_module(where), name)
        if not isinstance(made, torch.nn.Module):
            made = made(**given)
    except (AttributeError, TypeError) as error:  # no such name, no factory, or not its arguments
        raise OptionError(f"{words}: {error}") from error
    if not isinstance(made, torch.nn.Module):
        raise OptionError(f"{words} gives {type(made).__name__}, not a torch.nn.Module")
    if weights is not None:
        _load_weights(made, weights)
    return made.eval()


def _arguments(text: str) -> dict[str, object]:
    try:
        given = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise OptionError(f"--args {text!r:.100} is no JSON: {error}") from None
    if not isinstance(given, dict):
        raise OptionError(f'--args {text!r:.100}: an object of keyword arguments was expected, such as {{"size": 8}}')
    return given


def _load_weights(module: torch.nn.Module, path: Path) -> None:
    """Fill a module from a checkpoint: a state dict, or a dict that holds one under "state_dict"."""
    try:
        with opened(path) as file:
            checkpoint = torch.load(file, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, EOFError, RuntimeError) as error:
        raise OptionError(f"{path} is no checkpoint of plain tensors: save module.state_dict()") from error
    if isinstance(checkpoint, dict):
        checkpoint = checkpoint.get("state_dict", checkpoint)
    try:
        module.load_state_dict(checkpoint)
    except (RuntimeError, TypeError) as error:  # torch's words for keys or shapes that do not fit
        raise OptionError(f"{path} does not fit the module: {error}") from error


def example(spec: str, seed: int) -> torch.Tensor:
    """A tensor for `1,1,64` or `1,1:int64`: random, or zeros for integers. OptionError where it cannot be read."""
    shape_text, _, dtype_text = spec.partition(":")
    dtype = getattr(torch, dtype_text or "float32", None)
    if not isinstance(dtype, torch.dtype):
        raise OptionError(f"example {spec!r}: torch has no dtype {dtype_text!r}")
    try:
        shape = [int(size) for size in shape_text.split(",")]
    except ValueError:
        raise OptionError(f"example {spec!r}: write sizes separated by commas, such as 1,1,64") from None
    generator = torch.Generator().manual_seed(checked_seed(seed))
    try:
        if not dtype.is_floating_point:
            return torch.zeros(shape, dtype=dtype)  # an index that is always valid
        return torch.randn(shape, generator=generator).to(dtype)
    except (RuntimeError, TypeError, OverflowError, MemoryError):  # a negative size, or more than there is memory for
        raise OptionError(f"example {spec!r}: no tensor has these sizes, or none fits in memory") from None
