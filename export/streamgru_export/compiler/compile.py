"""ONNX to ``.sgru``: the stages in order (:func:`stages`). The work is in the folders beside; this file only says what
follows what, and what is verified in between."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Never, TypeAlias

import numpy.typing as npt

from streamgru import bound
from streamgru._disk import write_bytes
from streamgru._options import as_path, refuse_unknown
from streamgru._types import Frames
from streamgru.errors import CannotStreamError, ModelError, StreamgruError
from streamgru.lengths import Lengths
from streamgru.model import Model, Weights
from streamgru.notes import Note, plain

from ..properties import about as about_model
from ..properties import time_axes
from .accuracy import OutputError, judge, measure
from .census import Census, census
from .graph.blame import blaming
from .graph.bound import bind_inputs
from .graph.graph import Graph
from .graph.onnx_reader import read
from .lower.batchnorm import fold_batch_norm
from .lower.lower import check_operators, lower
from .options import Mode, Options, checked
from .program import image as images
from .program.copies import merge_copies_in_place
from .program.fuse import fuse_in_place
from .program.plan import plan_in_place
from .program.program import Program, Tensor
from .program.weights import convert_in_place
from .static.specialise import Specialiser
from .stream.bound import check_bound
from .stream.one_frame import Static, streaming, whole
from .stream.places import PROBES, RUN_WHOLE, MayRunWholeError
from .stream.timeline import Timeline, find_time
from .suspicions import suspicions
from .verify import check_model, verify

if TYPE_CHECKING:
    import onnx

FEW = 5  # frames, to try whether a graph runs whole
Source: TypeAlias = "str | os.PathLike[str] | bytes | onnx.ModelProto | Graph"


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
    notes : list of Note
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
    notes: list[Note] = field(default_factory=list)
    nodes: Census = field(default_factory=dict)
    program: Program = field(default_factory=Program, repr=False)
    weights: str = "f32"
    errors: dict[str, OutputError] = field(default_factory=dict)


def compile(
    source: Source,
    path: str | os.PathLike[str] | None = None,
    *,
    mode: Mode = "stream",
    batch: int = 1,
    dims: Mapping[str, int] | None = None,
    time_axis: Mapping[str, int] | None = None,
    state: Iterable[tuple[str, str]] | None = None,
    values: Mapping[str, npt.ArrayLike] | None = None,
    length: int | None = None,
    weights: Weights = "f32",
    tolerance: float | None = None,
    samples: Frames | None = None,
    **unknown: Never,
) -> Compiled:
    """Compile an ONNX model.

    Parameters
    ----------
    source : path, bytes, ModelProto or Graph
        The model.
    path : path, optional
        Where to write the image; never left half written.
    mode : {"stream", "whole"}
        One frame at a time with the state kept, or the graph as it stands, for sequences of `length`.
    batch : int
        What a dynamic batch dimension is bound to: one along which every node treats its entries alike, whatever its
        name.
    dims : mapping, optional
        Other dynamic dimensions by name. Not the time axis, but where it has one entry and the graph takes and gives
        its states itself.
    time_axis : mapping, optional
        Input name -> time axis, where it is not found or not what is meant. By default what the file says of itself
        (`properties.py`), else what is found.
    state : iterable of (input, output), optional
        The state pairs of a step graph; what is found otherwise is then not used. With none the graph stays as it is,
        its states inputs and outputs.
    values : mapping, optional
        Input name -> the value that it always has, such as {"sr": 16000}: it is no input any more, and an If or a shape
        that hangs on it can be compiled. The image notes it as ``bound``.
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

    Returns
    -------
    Compiled
        The image, and what became of the model.

    Raises
    ------
    OptionError
        There is no such option, or it cannot have that value.
    CannotStreamError
        The model looks into the future; `obstacles` has every node that does.
    ModelError
        The model cannot be read, compiled or streamed; the message names the node. Or its error with these weights
        passes the tolerance; the message has the figures.
    FileError
        The image cannot be written to `path`.
    FaultError
        A fault of the compiler, not of the model.

    Examples
    --------
    >>> compiled = streamgru.compile("net.onnx", "net.sgru", weights="i8", tolerance=0.02)
    >>> compiled.inputs
    {'x': (1, 40)}
    """
    refuse_unknown(compile, unknown)
    path = None if path is None else as_path("path", path)
    options = checked(
        mode=mode, batch=batch, dims=dims, time_axis=time_axis, state=state, values=values, length=length,
        weights=weights, tolerance=tolerance, samples=samples,
    )  # fmt: skip
    with blaming():
        compiled = stages(source, options)
    for note in compiled.notes:
        if note.kind == "warning":
            warnings.warn(note.text, stacklevel=2)
    if path is not None:
        write_bytes(path, compiled.image)
    return compiled


def stages(source: Source, options: Options) -> Compiled:
    """Every stage, in order. Each gives something new, but for those whose names say that they change a program in
    place; what a stage leaves behind is verified before the next begins (`find_time`, `streaming` and `whole` do so
    after each pass of their own)."""
    graph = bind_inputs(check_model(source if isinstance(source, Graph) else read(source)), options.values)
    timeline, static = _static(graph, options)
    notes = [
        *plain([*graph.notes, *static.graph.recognised.values()]),
        *suspicions(static.graph, None if static.kind == "whole" else {s.input for s in static.slots}),
        *plain(static.notes),
        *static.doubts,
        *(Note("warning", text) for text in timeline.warnings),
    ]
    static = replace(static, graph=fold_batch_norm(static.graph))
    verify(static.graph)
    program = lower(static.graph, static.slots, static.axes, timeline.specialise.budget)
    verify(program)
    lowered = list(program.operators)
    fuse_in_place(program)
    merge_copies_in_place(program)
    plan_in_place(program)
    nodes = census(graph, static.graph, lowered, program)
    about = {
        **_about(static, program, timeline, options),
        "notes": [note.as_json() for note in notes],
        "nodes": nodes,
        "weights": options.weights,
        **about_model(graph.metadata),
    }
    errors = _convert_in_place(program, about, options)
    verify(program)
    image = images.build(program, about)
    Model(image, "the compiled image", max_ops=None)  # the core's own checks: what it refuses is never written
    return Compiled(
        image, static.kind, _shapes(program.inputs), _shapes(program.outputs), _shapes(program.states),
        about["time_axis"], static.pairs, notes, nodes, program, options.weights, errors,
    )  # fmt: skip


def _static(graph: Graph, options: Options) -> tuple[Timeline, Static]:
    """The graph with every dimension bound; what cannot stream is told whether it runs whole."""
    try:
        timeline = _time(graph, options)
        check_operators(timeline.at(PROBES[0] if timeline.time else 1))
        if options.mode == "whole":
            return timeline, whole(timeline, options.length)
        return timeline, streaming(timeline, options.state)
    except (CannotStreamError, MayRunWholeError) as error:
        if options.mode == "whole" or not _asks_for_whole(error):
            raise
        raise _advised(error, _whole_or_not(graph, options)) from None


def _asks_for_whole(error: ModelError) -> bool:
    """Whether its message is to tell whether the model runs whole."""
    return not isinstance(error, CannotStreamError) or any(o.remedy == RUN_WHOLE for o in error.obstacles)


def _advised(error: ModelError, advice: str) -> ModelError:
    """The error with this advice."""
    if isinstance(error, CannotStreamError):
        obstacles = error.obstacles
        return CannotStreamError([replace(o, remedy=advice) if o.remedy == RUN_WHOLE else o for o in obstacles])
    return ModelError(f"{error}. {advice}")


def _whole_or_not(graph: Graph, options: Options) -> str:
    """Whether it runs whole: tried on a few frames, of all open dimensions or of each."""
    names = [s for s in graph.symbols() if s not in options.dims]
    first = ""
    for longer in [names, *([s] for s in names if len(names) > 1)]:
        dims = {**options.dims, **dict.fromkeys(names, 1), **dict.fromkeys(longer, FEW)}
        try:
            with blaming():
                stages(graph, Options(mode="whole", dims=dims))
        except StreamgruError as error:
            first = first or str(error)
        else:
            return RUN_WHOLE
    return f"It does not run whole either: {first}"


def _time(graph: Graph, options: Options) -> Timeline:
    """Which dimensions are time; what the caller says is believed, then what the file says."""
    specialise = Specialiser(graph, verify)
    time_axis = options.time_axis or _declared_time(graph, options.dims)
    timeline = find_time(specialise, options.dims, options.batch, time_axis)
    warned = check_bound(timeline, options.dims, told=bool(time_axis)) if options.mode == "stream" else []
    return replace(timeline, warnings=warned)


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


def _about(static: Static, program: Program, timeline: Timeline, options: Options) -> dict[str, Any]:
    """What the image says of the model and of its streams (docs/format.md)."""
    graph = static.graph
    names = [t.name for t in (*program.inputs, *program.outputs)]
    batch_axes = timeline.batch_axes() if options.mode == "stream" else {}
    states = [
        {"name": s.name, "input": s.input if s.is_pair else None, "output": s.output if s.is_pair else None}
        for s in static.slots
    ]
    return {
        "source": graph.source,
        "sha256": graph.sha256,
        "producer": graph.producer,
        "opset": graph.opset,
        "kind": static.kind,
        "time_axis": {n: static.axes.get(n) for n in names} if static.kind != "whole" else {},
        "batch_axis": {n: batch_axes[n] for n in names if n in batch_axes},
        "states": states,
        **_lengths(static.lengths, {t.name for t in program.inputs}),
        **({"bound": bound.as_json(graph.bound)} if graph.bound else {}),
    }


def _lengths(lengths: Lengths, inputs: set[str]) -> dict[str, Any]:
    """Which inputs say how long sequences are; nothing where none does."""
    names = [name for name in lengths.inputs if name in inputs]
    return {"lengths": {"inputs": names, "state": lengths.state or None}} if names else {}


def _convert_in_place(program: Program, about: dict[str, Any], options: Options) -> dict[str, OutputError]:
    """The weights of fewer bits that were asked for; gives, and notes in `about`, what they cost where that is to be
    measured.

    Raises
    ------
    ModelError
        They cost more than the tolerance.
    """
    weights, tolerance = options.weights, options.tolerance
    if weights == "f32" or tolerance is None:
        convert_in_place(program, weights)
        return {}
    exact = images.build(program, about)
    convert_in_place(program, weights)
    errors = measure(exact, images.build(program, about), program, options.samples)
    judge(errors, weights, tolerance, about["source"] or "the model")
    about["errors"] = {name: error.relative for name, error in errors.items()}
    return errors


def _shapes(tensors: list[Tensor]) -> dict[str, tuple[int, ...]]:
    return {t.name: t.shape for t in tensors}
