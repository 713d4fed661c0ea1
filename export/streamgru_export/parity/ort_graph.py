"""An ONNX graph in onnxruntime, as one of the implementations that a parity check compares."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from streamgru._types import AnyDtype, Array

from ..ort import as_dtype, open_session
from .traces import Arrays, Case, its_reason


class OrtGraph:
    """The graph in onnxruntime, on one thread, as users run it: with its own optimisations.

    An input that was bound to a value when the graph was compiled always has it, and is none of `input_shapes`.

    Raises
    ------
    NotComparedError
        onnxruntime refuses the graph.
    """

    def __init__(self, path: Path, bound: Arrays) -> None:
        with its_reason("onnxruntime"):
            self.session = open_session(path)
        given = self.session.get_inputs()
        self.input_names = [i.name for i in given]
        self.bound = {name: value for name, value in bound.items() if name in self.input_names}
        self.input_shapes: dict[str, tuple[int | str | None, ...]] = {
            i.name: tuple(i.shape) for i in given if i.name not in bound
        }
        self.input_dtypes: dict[str, AnyDtype] = {i.name: as_dtype(i.type) for i in given if i.name not in bound}
        self.output_names: list[str] = [o.name for o in self.session.get_outputs()]

    def run(self, feeds: Mapping[str, Array]) -> Arrays:
        with its_reason("onnxruntime"):
            return dict(zip(self.output_names, self.session.run(None, {**self.bound, **feeds}), strict=True))

    def call(self, case: Case, frames: int) -> Callable[[int], object]:
        """`run` of one frame and a zero state, as a function of the frame's number: what a latency is measured on."""
        run = self.session.run
        prepared = [{**self.bound, **case.initial_states(), **case.feed(t, t + 1)} for t in range(frames)]
        return lambda t: run(None, prepared[t])
