"""A graph as a list of calls: what is made once is made once, and a step is the calls alone.

The operators are those of onnx's reference evaluator and our own (`operators.py`, `control.py`). Its own loop over
the nodes is not used: it looks up every attribute at every call, computes what depends on no input over and over,
wants the nodes in order, and takes an output that nobody named for an input that nobody gave.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from graphlib import CycleError, TopologicalSorter
from typing import Any, NamedTuple

import numpy as np
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

from streamgru._types import Array
from streamgru.errors import ModelError

# An array, a sequence of them, or None for an optional input that is absent: what flows along an edge.
Values = dict[str, Any]
# What an operator can fail with. AttributeError: onnx's ask an absent input for its shape.
FAILURES = (ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)
# Where onnx has the operators of one operand and of two: `run` is `_run` between two comparisons of dtypes.
CHECKED = "onnx.reference.ops._op"


class Call(NamedTuple):
    """A node, ready to be called with what it reads."""

    node: OpRun
    function: Callable[..., tuple[Any, ...]]  # without what `node.run` checks: the first run goes through that
    reads: tuple[str, ...]  # its inputs, then what its bodies take from around them
    writes: tuple[str, ...]


class Plan:
    """A graph or the body of a Loop, Scan or If, ready to be run often.

    Attributes
    ----------
    inputs, outputs : list of str
    captured : tuple of str
        The names that it reads and that stand in the graph around it: `run` wants them among the values.

    Raises
    ------
    ModelError
        The nodes depend on one another in a circle.
    """

    def __init__(self, evaluator: ReferenceEvaluator) -> None:
        self.inputs: list[str] = list(evaluator.input_names)
        self.outputs: list[str] = list(evaluator.output_names)
        self._initial: Values = {"": None, **evaluator.rt_inits_}
        _protect(evaluator.rt_inits_.values())
        self._calls = _in_order([_call(node) for node in evaluator.rt_nodes_])
        made = {name for call in self._calls for name in call.writes}
        read = [name for call in self._calls for name in call.reads] + self.outputs
        self.captured = tuple(dict.fromkeys(n for n in read if n not in {*made, *self.inputs, *self._initial}))
        self._constants: Values = {}  # of the calls below, once they are known
        self._rest: list[Call] | None = None

    def run(self, values: Mapping[str, Any]) -> list[Any]:
        """The outputs, in their order.

        Raises
        ------
        ModelError
            An operator fails, or answers in less than float64 (checked in the first run). The message names the node.
        """
        if self._rest is not None and self._initial.keys().isdisjoint(values):
            known = {**self._constants, **values}
            for call in self._rest:
                _make(call, call.function, known)
            return self._outputs(known)
        known = {**self._initial, **values}
        for call in self._calls:
            _make(call, call.node.run, known)
            _refuse_narrow(call, known)
        if self._initial.keys().isdisjoint(values):
            self._keep_constants(known)
        return self._outputs(known)

    def _outputs(self, known: Values) -> list[Any]:
        try:
            return [known[name] for name in self.outputs]
        except KeyError as error:
            raise ModelError(f"the node that has the output {error} does not give it") from error

    def _keep_constants(self, known: Values) -> None:
        """What depends on no input is not computed again."""
        fixed, rest = set(self._initial), []
        for call in self._calls:
            if fixed.issuperset(call.reads):
                fixed.update(call.writes)
            else:
                rest.append(call)
        needed = {name for call in rest for name in call.reads}.union(self.outputs)
        self._constants = {name: known[name] for name in fixed & needed & known.keys()}
        _protect(self._constants.values())
        self._rest = rest


def _protect(values: Iterable[Any]) -> None:
    """Nobody may write into what every run sees. What cannot be written into is known to be constant."""
    for value in values:
        if isinstance(value, np.ndarray):
            value.setflags(write=False)


def _call(node: OpRun) -> Call:
    """A node with its attributes read."""
    run: Callable[..., tuple[Any, ...]] = type(node).run
    function: Callable[..., tuple[Any, ...]] = node.run
    if run is OpRun.run and not node.has_linked_attribute:
        function = partial(node._run, **{name: getattr(node, name) for name in node.attributes_names_})
    elif run.__module__ == CHECKED:
        function = node._run
    captured: tuple[str, ...] = getattr(node, "captured", ())
    return Call(node, function, (*node.input, *captured), tuple(node.output))


def _in_order(calls: list[Call]) -> list[Call]:
    """Every call after those that write what it reads. A file's order need not be one."""
    writers = {name: k for k, call in enumerate(calls) for name in call.writes if name}
    before = {k: [writers[name] for name in call.reads if name in writers] for k, call in enumerate(calls)}
    try:
        return [calls[k] for k in TopologicalSorter(before).static_order()]
    except CycleError as error:
        nodes = ", ".join(_name(calls[k].node) for k in error.args[1][:-1])
        raise ModelError(f"each of these nodes waits for another of them: {nodes}") from error


def _make(call: Call, function: Callable[..., tuple[Any, ...]], known: Values) -> None:
    """Call one node and write down what it gives."""
    try:
        results = function(*[known[name] for name in call.reads])
    except FAILURES as error:
        raise ModelError(f"{_name(call.node)}: {_reason(error)}") from error
    for name, value in zip(call.writes, results, strict=False):
        if name:
            known[name] = value if isinstance(value, (np.ndarray, list)) else _as_array(value)


def _as_array(value: Any) -> Any:
    """NumPy gives a scalar where ONNX has a tensor of no axes."""
    return np.array(value) if np.isscalar(value) else value


def _reason(error: Exception) -> str:
    return f"there is no {error}" if isinstance(error, KeyError) else str(error)


def _name(node: OpRun) -> str:
    proto = node.onnx_node
    return f"{proto.op_type} node {proto.name!r}" if proto.name else f"{proto.op_type} node of {list(proto.output)}"


def is_narrow(array: Array) -> bool:
    """Whether the array holds floats of less than 64 bits (bfloat16 is of no standard kind)."""
    return bool(array.dtype != np.float64 and (array.dtype.kind == "f" or array.dtype.name == "bfloat16"))


def _refuse_narrow(call: Call, known: Values) -> None:
    for name in filter(None, call.writes):
        value = known.get(name)
        if isinstance(value, np.ndarray) and is_narrow(value):
            raise ModelError(f"tensor {name!r} came out as {value.dtype}, not as float64")
