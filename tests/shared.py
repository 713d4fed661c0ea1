"""What tests make once: for all of them, and where workers share a run, for all of these."""

from __future__ import annotations

import copy
import fcntl
import functools
import importlib
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

Once = Callable[[str, Callable[[Path], object]], Path]


def once(root: Path, key: str, make: Callable[[Path], object]) -> Path:
    """The folder `key` of `root`, filled by `make` where no one has done it. It is to be read, not written."""
    folder, done = root / key, root / f"{key}.done"
    with (root / f"{key}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            shutil.rmtree(folder, ignore_errors=True)  # of one that failed
            folder.mkdir()
            make(folder)
            done.touch()
    return folder


def one_table_of_functions() -> Iterator[None]:
    """While this is open, torch's exporter makes its table of functions once a process, and each export takes a copy.

    For the table it parses the source of 500 functions: half of the time of a small module's export.
    """
    registration: Any = importlib.import_module("torch.onnx._internal.exporter._registration")
    registry = registration.ONNXRegistry
    original = registry.__dict__["from_torchlib"]
    table = functools.cache(registry.from_torchlib)

    def from_torchlib(**options: Any) -> Any:
        own = copy.copy(table(**options))
        own.functions = {name: list(functions) for name, functions in own.functions.items()}
        return own

    registry.from_torchlib = staticmethod(from_torchlib)
    yield
    registry.from_torchlib = original


def first(frames: Any, count: int) -> Any:
    """The first frames of an array [T, ...], or of each of several by name."""
    return {name: x[:count] for name, x in frames.items()} if isinstance(frames, dict) else frames[:count]
