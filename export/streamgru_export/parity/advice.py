"""Advice on what was misread: what to give the compiler. Only what was tried is given."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

from streamgru.errors import StreamgruError
from streamgru.model import Model, load

Pairs = list[tuple[str, str]]


@dataclass(frozen=True)
class Advice:
    """Compiles a file in other ways."""

    onnx: Path | None

    def time(self, axes: Mapping[str, int]) -> str:
        """`": time_axis={'x': 1}"` where the file streams so, and else why it does not; nothing without a file."""
        if self.onnx is None or not axes:
            return ""
        try:
            model = self._load(time_axis=dict(axes))
        except StreamgruError as error:
            return f". With time_axis={dict(axes)} it does not compile: {error}"
        streams = all(tensor.time_axis == axes[tensor.name] for tensor in model.inputs if tensor.name in axes)
        return f": time_axis={dict(axes)}" if streams else ""

    def pairings(self, model: Model) -> Iterator[tuple[Pairs, Model]]:
        """The file with two of its states in each other's place, where it compiles so."""
        pairs = [state.source for state in model.states if state.source is not None]
        for i, j in combinations(range(len(pairs)), 2):
            other = [*pairs]
            other[i], other[j] = (pairs[i][0], pairs[j][1]), (pairs[j][0], pairs[i][1])
            try:
                yield other, self._load(state=other)
            except StreamgruError:  # their shapes differ
                continue

    def _load(self, **options: Any) -> Model:
        assert self.onnx is not None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            model: Model = load(self.onnx, **options)
            return model
