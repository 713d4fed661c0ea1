"""Who a parity check compares with our stream: what of them is installed and takes the graph, and their traces.

Each may be missing, with its reason; nothing here is imported from a package that may be.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from streamgru.bound import bound_values

from ..differences import Trace
from . import setup, traces
from .traces import (
    ORACLE,
    ORT_STEPPED,
    ORT_WHOLE,
    RUN,
    STEP,
    TORCH_STEPPED,
    TORCH_WHOLE,
    Case,
    NotComparedError,
    PeerGraph,
    Shape,
)

if TYPE_CHECKING:
    import torch

    from .oracle_graph import OracleGraph
    from .ort_graph import OrtGraph
    from .torch_module import TorchModule

T = TypeVar("T")
Or: TypeAlias = "T | NotComparedError"  # what could be made, or the reason why it could not


@dataclass(frozen=True)
class Graphs:
    """Those that run the file."""

    oracle: Or[OracleGraph]
    ort: Or[OrtGraph]

    @property
    def proto(self) -> Any:
        """The graph as onnx reads it; None where it cannot."""
        return None if isinstance(self.oracle, NotComparedError) else self.oracle.proto

    @property
    def shapes(self) -> Mapping[str, Shape]:
        """The file's own input shapes, as the first that could read it has them."""
        return next((g.input_shapes for g in (self.ort, self.oracle) if not isinstance(g, NotComparedError)), {})

    @property
    def whole(self) -> tuple[str, Or[PeerGraph]]:
        """Who runs the whole: onnxruntime, or the oracle where it cannot be had."""
        no_ort = isinstance(self.ort, NotComparedError)
        if no_ort and not isinstance(self.oracle, NotComparedError):
            return ORACLE, self.oracle
        return "onnxruntime", self.ort

    def trace(self, case: Case, seconds: float) -> Trace:
        """The oracle's."""
        return _oracle_trace(case, given(self.oracle), seconds)

    def trace_of(self, case: Case, proto: object, seconds: float) -> Trace | None:
        """The oracle's on another graph; None where it fails."""
        oracle = given(self.oracle)
        made = type(oracle)(proto, oracle.bound)  # type: ignore[arg-type]  # a ModelProto, where onnx may be absent
        trace = attempt(lambda: _oracle_trace(case, made, seconds))
        return None if isinstance(trace, NotComparedError) else trace


def graphs_of(source: setup.Source) -> Graphs:
    """The file in each of them, its inputs bound as they were when it was compiled."""
    bound = bound_values(source.model.metadata)
    return Graphs(
        attempt(lambda: peer("oracle_graph").OracleGraph(_path(source), bound)),
        attempt(lambda: peer("ort_graph").OrtGraph(_path(source), bound)),
    )


def attempt(make: Callable[[], T]) -> Or[T]:
    """The result, or the reason why there is none."""
    try:
        return make()
    except NotComparedError as reason:
        return reason


def given(result: Or[T]) -> T:
    """The result of an attempt; raises its reason where there is none."""
    if isinstance(result, NotComparedError):
        raise result
    return result


def peer(name: str) -> Any:
    """The file here that runs an implementation, and needs the implementation's package."""
    try:
        return import_module(f".{name}", __package__)
    except ModuleNotFoundError as error:
        raise NotComparedError(f"{error.name} is not installed: pip install 'streamgru[export]'") from error


def _path(source: setup.Source) -> Path:
    if source.onnx is None:
        raise NotComparedError(source.problem)
    return source.onnx


def torch_module(module: torch.nn.Module | None, case: Case, graphs: Graphs) -> TorchModule:
    """The module, called in the order of the graph's inputs; without a graph, ours and then the states."""
    if module is None:
        raise NotComparedError("no module was given")
    bound = bound_values(case.model.metadata)
    inputs = [*case.frames, *case.state_names]
    outputs = [*(tensor.name for tensor in case.model.outputs), *case.state_names.values()]
    for graph in (graphs.oracle, graphs.ort):
        if not isinstance(graph, NotComparedError):
            inputs = [name for name in graph.input_names if name in inputs or name in bound]
            outputs = list(graph.output_names)
            break
    made: TorchModule = peer("torch_module").TorchModule(module, inputs, outputs, bound)
    return made


def run_all(
    case: Case, graphs: Graphs, module: Or[TorchModule], oracle_seconds: float
) -> tuple[dict[str, Trace], dict[str, str]]:
    """The traces of all that can be run, and the reasons for the others. What ours raises is raised."""
    found = {STEP: traces.stream_step(case), RUN: traces.stream_run(case)}
    plan: dict[str, Callable[[], Trace]] = {
        ORACLE: lambda: graphs.trace(case, oracle_seconds),
        TORCH_WHOLE: lambda: given(module).whole(TORCH_WHOLE, case),
        TORCH_STEPPED: lambda: given(module).stepped(TORCH_STEPPED, case),
        ORT_WHOLE: lambda: traces.graph_whole(ORT_WHOLE, case, given(graphs.ort)),
        ORT_STEPPED: lambda: traces.graph_stepped(ORT_STEPPED, case, given(graphs.ort)),
    }
    not_compared = {}
    for name, run in plan.items():
        result = attempt(run)
        if isinstance(result, NotComparedError):
            not_compared[name] = str(result)
        else:
            found[name] = result
    return found, not_compared


def _oracle_trace(case: Case, graph: PeerGraph, seconds: float) -> Trace:
    run = traces.graph_whole if case.is_sequence else traces.graph_stepped
    return run(ORACLE, case, graph, seconds)
