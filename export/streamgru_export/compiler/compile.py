"""ONNX to ``.sgru``: the passes in order. The work is in passes/; this file only says what follows what."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from streamgru.errors import ModelError
from streamgru.model import Model

from ..properties import about as about_model
from ..properties import time_axes
from .accuracy import OutputError, judge, measure
from .census import Census, census
from .graph.blame import blaming
from .graph.graph import Graph
from .graph.onnx_reader import read
from .lower.batchnorm import fold_batch_norm
from .lower.lower import lower
from .program import image as images
from .program.copies import merge_copies
from .program.fuse import fuse
from .program.plan import plan
from .program.program import Program, Tensor
from .program.weights import FORMATS, convert
from .stream.causal import check_causal, obstacles
from .stream.history import keep_history
from .stream.places import Time
from .stream.promote import Streamed, make_stream
from .stream.slots import Slot
from .stream.timeline import Timeline, find_time, refuse_bound_time, sequence_lengths, unbake
from .verify import check_model, verify

if TYPE_CHECKING:
    import onnx

MODES = ("stream", "whole")


@dataclass(frozen=True)
class Compiled:
    """A compiled model.

    Attributes
    ----------
    image : bytes
        The ``.sgru`` file.
    kind : str
        "sequence": a sequence graph, one frame at a time; "step": a step graph; "whole": as it stands.
    inputs, outputs, states : dict
        Name -> shape as the image has it (of one frame, without the time axis).
    time_axis : dict
        Input or output name -> where the time axis was, None where there was none.
    pairs : list of (str, str)
        The graph's own state inputs and outputs, which the stream now keeps.
    notes : list of str
        What the caller should know.
    nodes : dict
        Which nodes of the file became what, counted: census.py.
    program : Program
        What the image holds, for those who want to look.
    weights : str
        "f32", "f16" or "i8".
    errors : dict
        Output name -> :class:`accuracy.OutputError` of these weights; empty where no tolerance was given.
    """

    image: bytes
    kind: str
    inputs: dict[str, tuple[int, ...]]
    outputs: dict[str, tuple[int, ...]]
    states: dict[str, tuple[int, ...]]
    time_axis: dict[str, int | None]
    pairs: list[tuple[str, str]]
    notes: list[str] = field(default_factory=list)
    nodes: Census = field(default_factory=dict)
    program: Program = field(default_factory=Program, repr=False)
    weights: str = "f32"
    errors: dict[str, OutputError] = field(default_factory=dict)


@dataclass
class _Static:
    """A static graph, ready to be lowered."""

    graph: Graph
    kind: str
    slots: list[Slot]
    pairs: list[tuple[str, str]]
    axes: dict[str, int | None]
    notes: list[str]


def compile(
    source: str | os.PathLike[str] | bytes | onnx.ModelProto | Graph,
    path: str | os.PathLike[str] | None = None,
    *,
    mode: str = "stream",
    batch: int = 1,
    dims: Mapping[str, int] | None = None,
    time_axis: Mapping[str, int] | None = None,
    state: Iterable[tuple[str, str]] | None = None,
    length: int | None = None,
    weights: str = "f32",
    tolerance: float | None = None,
    samples: Any = None,
) -> Compiled:
    """Compiles an ONNX model.

    Parameters
    ----------
    source : path, bytes, ModelProto or Graph
        The model.
    path : path, optional
        Where to write the image; never left half written.
    mode : {"stream", "whole"}
        One frame at a time with the state kept, or the graph as it stands, for sequences of `length`.
    batch : int
        What a dynamic batch dimension is bound to.
    dims : mapping, optional
        Other dynamic dimensions by name.
    time_axis : mapping, optional
        Input name -> time axis, where it is not found or not what is meant. By default what the file says of itself
        (`properties.py`), else what is found.
    state : iterable of (input, output), optional
        The state pairs of a step graph; what is found otherwise is then not used. With none the graph stays as it is,
        its states inputs and outputs.
    length : int, optional
        For mode="whole": the number of frames.
    weights : {"f32", "f16", "i8"}
        What the matrices of products are stored as. "f16": half precision, widened exactly. "i8": bytes with a scale
        for each row; what a step multiplies them with is rounded to bytes too. Matrices of fewer than 16 rows or
        columns, or of fewer than 1024 elements, stay float32, and so do the kernels of convolutions that slide.
    tolerance : float, optional
        Refuse the model where these weights move an output by more: the RMSE against float32 weights over the output's
        RMS, such as 0.02, over `samples`.
    samples : array, or dict of name to array, optional
        Frames as :meth:`streamgru.Stream.run` takes them, for `tolerance`. By default 256 standard normal ones.

    Raises
    ------
    ModelError
        The model cannot be read, compiled or streamed; the message names the node. Or its error with these weights
        passes the tolerance; the message has the figures.
    """
    if weights not in FORMATS:
        raise ModelError(f"weights={weights!r}; 'f32', 'f16' or 'i8' was expected")
    if mode not in MODES:
        raise ModelError(f"mode={mode!r}; 'stream' or 'whole' was expected")
    if batch < 1 or (length is not None and length < 1):
        raise ModelError("batch and length must be 1 or more")
    with blaming():
        compiled = _compiled(source, mode, batch, dims or {}, time_axis, state, length, weights, tolerance, samples)
    for note in compiled.notes:
        if note.startswith("warning: "):
            warnings.warn(note.removeprefix("warning: "), stacklevel=2)
    if path is not None:
        images.write(compiled.image, path)
    return compiled


def refusals(source: str | os.PathLike[str] | bytes | onnx.ModelProto | Graph, **options: Any) -> list[str]:
    """Why a model does not stream: a message for each node that keeps it from it; none where it streams.

    Parameters
    ----------
    source, **options
        As :func:`compile` takes them.
    """
    try:
        compile(source, **options)
    except ModelError as error:
        return _obstacles(source, **options) or [str(error)]
    return []


def _obstacles(
    source: str | os.PathLike[str] | bytes | onnx.ModelProto | Graph,
    batch: int = 1,
    dims: Mapping[str, int] | None = None,
    time_axis: Mapping[str, int] | None = None,
    **_: Any,
) -> list[str]:
    """Those of the causality alone."""
    try:
        graph = source if isinstance(source, Graph) else check_model(read(source))
        timeline = find_time(graph, dims or {}, batch, time_axis or _declared_time(graph, dims or {}))
        return obstacles(timeline if timeline.time else unbake(timeline) or timeline)
    except ModelError:
        return []


def _compiled(
    source: str | os.PathLike[str] | bytes | onnx.ModelProto | Graph, mode: str, batch: int, dims: Mapping[str, int],
    time_axis: Mapping[str, int] | None, state: Iterable[tuple[str, str]] | None, length: int | None,
    weights: str, tolerance: float | None, samples: Any,
) -> Compiled:  # fmt: skip
    graph = source if isinstance(source, Graph) else check_model(read(source))
    timeline = find_time(graph, dims, batch, time_axis or _declared_time(graph, dims))
    if mode == "stream":
        refuse_bound_time(graph, dims, batch)
    static = _whole(timeline, length) if mode == "whole" else _streaming(timeline, state)
    static.notes[:0] = [*graph.notes, *static.graph.recognised.values(), *_suspicions(static.graph)]
    batch_axes = timeline.batch_axes() if mode == "stream" else {}
    compiled = _finish(graph, static, batch_axes, weights, tolerance, samples)
    Model(compiled.image, "the compiled image")  # the core's own checks: what it refuses is never written
    return compiled


def _declared_time(graph: Graph, dims: Mapping[str, int]) -> dict[str, int]:
    """The inputs' time axes that the file declares, where they are dimensions that the caller left unbound."""
    shapes = {p.name: p.shape for p in graph.inputs}
    declared = {name: axis for name, axis in time_axes(graph.metadata).items() if name in shapes}
    for name, axis in declared.items():
        if not 0 <= axis < len(shapes[name]):
            raise ModelError(
                f"metadata says that input '{name}' has its time on axis {axis}; it has {len(shapes[name])} dimensions"
            )
    return {n: a for n, a in declared.items() if isinstance(shapes[n][a], str) and shapes[n][a] not in dims}


def _whole(timeline: Timeline, length: int | None) -> _Static:
    """The graph as it stands."""
    if timeline.time and length is None:
        raise ModelError(f"mode='whole' needs length=: the dimension '{sorted(timeline.time)[0]}' is the time axis")
    return _Static(timeline.at(length or 1), "whole", [], [], {}, [])


def _streaming(timeline: Timeline, declared: Iterable[tuple[str, str]] | None) -> _Static:
    """One frame, with its states."""
    declared = None if declared is None else list(declared)
    if timeline.time:
        return _sequence(timeline, declared)
    static = timeline.at(1)
    step = make_stream(static, None, declared, set())
    lengths = sequence_lengths(static)
    if step.pairs or not lengths or declared == []:
        return _step(step)
    together = static.recognised and max(lengths.values()) > 1  # steps that were unrolled, one GRU now
    why = "no input has an axis that it runs along"
    try:
        sequence = unbake(replace(timeline, graph=timeline.at(1)) if together else timeline)
        if sequence is not None:
            return _sequence(sequence, declared)
    except ModelError as error:
        if any(n > 1 for o, n in lengths.items() if o not in static.recognised):
            raise
        why = str(error)  # one step, with its length of 1 all over the graph: it is a step as it stands
    if together:
        step.notes.append(f"the steps that were unrolled stay together, one call runs them all: {why}")
    return _step(step)


def _sequence(timeline: Timeline, declared: list[tuple[str, str]] | None) -> _Static:
    """A graph with a time axis, bound to one frame."""
    causality = check_causal(timeline)
    graph = timeline.at(1)
    axes: dict[str, int | None] = {p.name: timeline.axes().get(p.name) for p in graph.inputs}
    for port in graph.outputs:
        place = causality.places.get(port.name)
        axes[port.name] = place.axis if isinstance(place, Time) else None
        if isinstance(place, Time) and port.shape[place.axis] != 1:
            raise ModelError(
                f"output '{port.name}': its time axis {place.axis} is merged with another dimension; "
                "reshape it in the model, or compile it with batch=1"
            )
    timed = {name for name, axis in axes.items() if axis is not None}
    streamed = make_stream(graph, causality.over_time, declared, timed)
    streamed.slots += keep_history(streamed.graph, causality.places)
    return _Static(streamed.graph, "sequence", streamed.slots, streamed.pairs, axes, streamed.notes)


def _step(step: Streamed) -> _Static:
    names = [p.name for p in (*step.graph.inputs, *step.graph.outputs)]
    return _Static(step.graph, "step", step.slots, step.pairs, dict.fromkeys(names), step.notes)


def _suspicions(graph: Graph) -> list[str]:
    """Graphs that are known to compute something else than their author thinks."""
    found = []
    for node in graph.nodes:
        of_torch = graph.producer.lower().startswith("pytorch") or node.from_torch_gru
        is_meant = node.attrs.get("linear_before_reset", 0) or graph.recognised.keys() & set(node.outputs)
        if node.op_type == "GRU" and of_torch and not is_meant:
            found.append(
                f"warning: {node}: linear_before_reset=0 in a model exported from PyTorch, whose GRU is "
                "linear_before_reset=1. Exporters with onnxscript before 0.7.1 lost it; this model "
                "then computes something else than the module did (streamgru.parity shows it). "
                "It is obeyed as it stands"
            )
    return found


def _finish(
    read: Graph,
    static: _Static,
    batch_axes: Mapping[str, int],
    weights: str,
    tolerance: float | None,
    samples: Any,
) -> Compiled:
    """Lowers, plans and writes."""
    fold_batch_norm(static.graph)
    program = lower(static.graph, static.slots, static.axes)
    verify(program)
    lowered = list(program.operators)
    fuse(program)
    merge_copies(program)
    plan(program)
    verify(program)
    names = [t.name for t in (*program.inputs, *program.outputs)]
    axes = {n: static.axes.get(n) for n in names} if static.kind != "whole" else {}
    batch = {n: batch_axes[n] for n in names if n in batch_axes}
    graph = static.graph
    nodes = census(read, graph, lowered, program)
    states = [
        {"name": s.name, "input": s.input if s.is_pair else None, "output": s.output if s.is_pair else None}
        for s in static.slots
    ]
    about: dict[str, Any] = {
        "source": graph.source, "sha256": graph.sha256, "producer": graph.producer, "opset": graph.opset,
        "kind": static.kind, "time_axis": axes, "batch_axis": batch, "states": states, "notes": static.notes,
        "nodes": nodes, "weights": weights, **about_model(graph.metadata),
    }  # fmt: skip
    errors: dict[str, OutputError] = {}
    if weights != "f32":
        exact = images.build(program, about) if tolerance is not None else b""
        convert(program, weights)
        if tolerance is not None:
            errors = measure(exact, images.build(program, about), program, samples)
            judge(errors, weights, tolerance, graph.source or "the model")
            about["errors"] = {name: error.relative for name, error in errors.items()}
    return Compiled(
        images.build(program, about), static.kind, _shapes(program.inputs), _shapes(program.outputs),
        _shapes(program.states), axes, static.pairs, static.notes, nodes, program, weights, errors,
    )  # fmt: skip


def _shapes(tensors: list[Tensor]) -> dict[str, tuple[int, ...]]:
    return {t.name: t.shape for t in tensors}
