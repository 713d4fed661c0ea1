"""If, Loop and Scan as ONNX has them, with bodies in float64.

onnx's evaluator joins the scans of a Loop along their first axis, where ONNX stacks them on a new one; takes an
absent condition for a false one; and has no Scan along another axis or backwards.

Where ONNX is silent: a Loop or Scan of no round has no element to tell the shape of its scans. They have 0 elements
along the new axis, and along the others what the body declares, else 0. onnxruntime does so for a Loop, and refuses
such a Scan.

A Loop without a condition runs all its rounds, whatever its body says. That is ONNX's text; onnxruntime stops where
the body's condition is false.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

from streamgru._types import Array

from .evaluate import Plan


class _Control(OpRun):
    """A node with bodies. It is called with its inputs, then with the captured values in their order."""

    bodies: tuple[str, ...] = ("body",)

    def __init__(self, node: onnx.NodeProto, run_params: dict[str, Any]) -> None:
        super().__init__(node, run_params)
        self.plans = [Plan(getattr(self, body)) for body in self.bodies]
        self.captured = tuple(dict.fromkeys(name for plan in self.plans for name in plan.captured))

    def split(self, values: Sequence[Any]) -> tuple[list[Any], dict[str, Any]]:
        """The node's own inputs, and the captured values by name."""
        own = len(self.onnx_node.input)
        return list(values[:own]), dict(zip(self.captured, values[own:], strict=True))


class If(_Control):
    """If: one of two bodies, neither of which has inputs of its own."""

    bodies = ("then_branch", "else_branch")

    def _run(self, *values: Any, **attributes: Any) -> tuple[Any, ...]:
        (condition,), around = self.split(values)
        then_branch, else_branch = self.plans
        return tuple((then_branch if condition.item() else else_branch).run(around))


class Loop(_Control):
    """Loop: (trip count, condition, *states) -> (*states, *scans), each scan [rounds, *element]."""

    body: ReferenceEvaluator

    def _run(self, *values: Any, **attributes: Any) -> tuple[Any, ...]:
        (plan,) = self.plans
        given, around = self.split(values)
        trips, condition, *states = given + [None] * (2 - len(given))
        if trips is None and condition is None:
            raise ValueError("a Loop with neither a trip count nor a condition never ends")
        index, going, *names = plan.inputs
        scans: list[list[Array]] = [[] for _ in plan.outputs[1 + len(states) :]]
        goes_on, rounds = condition is None or bool(condition.item()), 0
        while goes_on and (trips is None or rounds < trips.item()):
            own = {index: np.array(rounds), going: np.array(True), **dict(zip(names, states, strict=True))}
            again, *results = plan.run({**around, **own})
            goes_on, rounds = condition is None or bool(again.item()), rounds + 1
            states = results[: len(states)]
            for scan, element in zip(scans, results[len(states) :], strict=True):
                scan.append(element)
        return *states, *(_stacked(scan, self.body, 1 + len(states) + k) for k, scan in enumerate(scans))


class Scan(_Control):
    """Scan of opset 9 and later: (*states, *sequences) -> (*states, *scans), each with an axis and a direction."""

    body: ReferenceEvaluator
    num_scan_inputs: int
    scan_input_axes: list[int] | None
    scan_input_directions: list[int] | None
    scan_output_axes: list[int] | None
    scan_output_directions: list[int] | None

    def __init__(self, node: onnx.NodeProto, run_params: dict[str, Any]) -> None:
        if run_params["opsets"][""] < 9:
            raise RuntimeError("Scan of opset 8 has an axis for the batch; write it at opset 9 or later")
        super().__init__(node, run_params)

    def _run(self, *values: Any, **attributes: Any) -> tuple[Any, ...]:
        (plan,) = self.plans
        given, around = self.split(values)
        kept = len(given) - self.num_scan_inputs
        states, scans = given[:kept], [list[Array]() for _ in plan.outputs[kept:]]
        sequences = [
            np.flip(np.moveaxis(value, axis, 0), 0) if reverse else np.moveaxis(value, axis, 0)
            for value, axis, reverse in zip(
                given[kept:],
                _flags(self.scan_input_axes, self.num_scan_inputs),
                _flags(self.scan_input_directions, self.num_scan_inputs),
                strict=True,
            )
        ]
        if len({len(sequence) for sequence in sequences}) != 1:
            raise ValueError(f"the sequences of a Scan have different lengths: {[len(each) for each in sequences]}")
        for elements in zip(*sequences, strict=True):
            results = plan.run({**around, **dict(zip(plan.inputs, (*states, *elements), strict=True))})
            states = results[:kept]
            for scan, element in zip(scans, results[kept:], strict=True):
                scan.append(element)
        axes, directions = (_flags(each, len(scans)) for each in (self.scan_output_axes, self.scan_output_directions))
        return *states, *(
            _stacked(scan[::-1] if prepend else scan, self.body, kept + k, axis)
            for k, (scan, axis, prepend) in enumerate(zip(scans, axes, directions, strict=True))
        )


def _flags(given: Sequence[int] | None, count: int) -> Sequence[int]:
    """An attribute of one number for each; all 0 where it is absent."""
    return [0] * count if given is None else given


def _stacked(elements: Sequence[Array], body: ReferenceEvaluator, output: int, axis: int = 0) -> Array:
    """The elements of all rounds along a new axis."""
    if elements:
        return np.stack(elements, axis)
    assert body.output_types_ is not None  # a body is a graph
    declared = body.output_types_[output].tensor_type
    shape = [dim.dim_value for dim in declared.shape.dim]
    return np.stack([np.zeros(shape, onnx.helper.tensor_dtype_to_np_dtype(declared.elem_type))], axis).take([], axis)
