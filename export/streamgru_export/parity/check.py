"""Parity: proof that a stream computes what the ONNX graph and the PyTorch module compute.

The same frames go through our stream (a step at a time, and in blocks), onnxruntime, the torch module and a
float64 oracle. The verdict is "holds" where

- `run` gives the very bits of `step`;
- our steps differ from every other implementation by at most the tolerance, over the output's scale,
  which is max(1, largest |value|);
- integers are equal;
- the whole in one call is what our stream makes of it, along every axis that the file leaves open (`axes.py`);
- at least one other implementation was compared, and the module, where one was given: else it is "not proved";
- each of them ran to the last step: else it is "partial".

Some models cost more in float32 than the default tolerance: weights that push sums into the tens lose digits in any
order of summation. The report says how far onnxruntime and the module are from the float64 oracle themselves, so that
a tolerance can be chosen with eyes open; the verdict is by the stated tolerance alone.

This file asks. `traces.py` and the files it names run the implementations, `axes.py` the whole, `differences.py`
measures, `judge.py` judges, and `findings.py` holds the result.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any, Never, TypeAlias, TypeVar

from streamgru._options import one_of, refuse_unknown, whole_number, zero_or_more
from streamgru._options import seed as checked_seed
from streamgru.errors import OptionError
from streamgru.model import Model, NonFinite

from ..differences import Latency, Trace, compare, measure_latency, same_bits
from ..environment import environment
from ..frames import Given, drawing, drawing_from, given_frames, id_tables, random_frames
from . import judge, setup, traces
from .advice import Advice
from .axes import Comparison
from .caveats import caveats
from .findings import AxisCheck, PeerCheck
from .report import ParityReport
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
from .trial import Draw

if TYPE_CHECKING:
    import torch

    from .oracle_graph import OracleGraph
    from .ort_graph import OrtGraph
    from .torch_module import TorchModule

__all__ = ["PEERS", "ParityReport", "parity"]

GRAPHS = (ORACLE, ORT_WHOLE, ORT_STEPPED)  # those that run the file
# The reference is the first of these that could be run.
PEERS = (ORACLE, TORCH_WHOLE, TORCH_STEPPED, ORT_WHOLE, ORT_STEPPED)

ORACLE_SECONDS = 120.0  # for the oracle: 100,000 steps of a GRU of 64 units, and some thousand of a convolutional net
LATENCY_FRAMES = 1000
MOST_STEPS = 10**9
SECONDS = "a number of seconds, such as 120"

T = TypeVar("T")
Or: TypeAlias = "T | NotComparedError"  # what could be made, or the reason why it could not


def parity(
    model: Model | str | os.PathLike[str],
    module: torch.nn.Module | None = None,
    *,
    steps: int = 1000,
    inputs: Given | None = None,
    seed: int = 0,
    tolerance: float = 2e-6,
    reference: str | None = None,
    onnx: str | os.PathLike[str] | None = None,
    weights: str | os.PathLike[str] | None = None,
    block: int | None = None,
    nonfinite: NonFinite = "refuse",
    threads: int | None = None,
    oracle_seconds: float = ORACLE_SECONDS,
    **unknown: Never,
) -> ParityReport:
    """Compare a model's stream with everything else that can run the model.

    >>> report = streamgru.parity("model.onnx", module, steps=1000)
    >>> report.raise_for_verdict()
    >>> report.save("certificate")

    Parameters
    ----------
    model : Model or path
        `.onnx` or `.sgru`.
    module : torch.nn.Module, optional
        The module that the graph was exported from. It is called with the graph's inputs in their order.
    steps : int
        Number of random frames. Standard normal; for ids, below the size of the table they index.
    inputs : array, or dict of name to array, optional
        Frames of your own, as :meth:`Stream.run` takes them, in place of random ones: the frame's shape with the
        time axis, of any length T, where the graph has it; [T, *frame] for a step graph.
    seed : int
        Of the random frames.
    tolerance : float
        The largest difference allowed, in units of the output: absolute for outputs within ±1, else relative to the
        largest. The default suits float32 weights; an image with "f16" or "i8" weights needs the error that you allow
        it.
    reference : str, optional
        What the table of differences is measured from: one of PEERS, "streamgru step" or "streamgru run". By default
        the first of PEERS that can be run.
    onnx : path, optional
        The graph that an image was compiled from. By default the file that the image names, if its sha256 is
        still the same.
    weights : path, optional
        The checkpoint that the module was filled from. It is not read but for its sha256.
    block, nonfinite, threads : optional
        Of the stream, as :meth:`Model.stream` takes them.
    oracle_seconds : float
        The time limit of the float64 oracle. Where it ends before the last step, the verdict is "partial".

    Returns
    -------
    ParityReport
        Its `verdict` is "holds", "does not hold", "partial" or "not proved". It tells how many steps were compared with
        whom, and what could not be compared, and why; :meth:`ParityReport.raise_for_verdict` fails for all but "holds".

    Raises
    ------
    OptionError
        `steps`, `seed`, `tolerance`, `oracle_seconds`, `module` or `weights` cannot be that, `reference` names nothing
        that was run, or there is no such option.
    ShapeError
        An array of `inputs` is missing, unknown, or does not fit the model.
    StreamgruError
        The model cannot be loaded, or our stream refuses the frames.
    """
    refuse_unknown(parity, unknown)
    steps, seed = whole_number("steps", steps, 1, MOST_STEPS), checked_seed(seed)
    tolerance = zero_or_more("tolerance", tolerance)
    oracle_seconds = zero_or_more("oracle_seconds", oracle_seconds, SECONDS)
    weights = setup.checked_files(module, weights)
    if reference is not None:
        one_of("reference", reference, (STEP, RUN, *PEERS))
    source = setup.resolve(model, onnx)
    oracle: Or[OracleGraph] = _attempt(lambda: _peer("oracle_graph").OracleGraph(_path(source)))
    ort: Or[OrtGraph] = _attempt(lambda: _peer("ort_graph").OrtGraph(_path(source)))
    tables: dict[str, int] = {} if isinstance(oracle, NotComparedError) else id_tables(oracle.proto)
    try:
        frames = (
            random_frames(source.model, tables, steps, seed) if inputs is None else given_frames(source.model, inputs)
        )
    except MemoryError as error:
        raise OptionError(f"steps: {steps} frames do not fit in memory") from error
    options: traces.StreamOptions = {"block": block, "nonfinite": nonfinite, "threads": threads}
    case = Case(source.model, frames, options, traces.unheard(source.model, ort, oracle))
    torch_module = _attempt(lambda: _torch_module(module, case, oracle, ort))
    found, not_compared = _run_all(case, oracle, ort, torch_module, oracle_seconds)
    if reference is not None and reference not in found:
        raise OptionError(f"reference {reference!r} was not run: {not_compared[reference]}")
    chosen = reference or _reference(found)
    rounding = judge.rounding(found, PEERS)
    stored = source.model.metadata.get("weights") or "f32"
    checks = tuple(PeerCheck(compare(found[STEP], found[peer]), tolerance) for peer in PEERS if peer in found)
    identical = same_bits(found[STEP], found[RUN])
    proto = None if isinstance(oracle, NotComparedError) else oracle.proto
    lost = judge.lost_reset(
        proto, lambda mended: _mended(case, oracle, mended, oracle_seconds), found, checks, tolerance
    )
    misread = "" if lost else _misread(case, oracle, found, checks, tolerance)
    draw = drawing(source.model, tables, seed) if inputs is None else drawing_from(frames, seed)
    ignored, axes, missing = _wholes(case, (ort, oracle), torch_module, draw, tolerance, source)
    shapes = _shapes(ort, oracle)
    subjects = judge.subjects(found)
    missing_module = module is not None and {TORCH_WHOLE, TORCH_STEPPED} <= set(not_compared)
    verdict, reasons = judge.verdict(
        (*ignored, *judge.failures(checks, identical, axes, rounding, lost or misread, stored)),
        checks,
        subjects,
        not_compared[TORCH_STEPPED] if missing_module else "",
    )
    notes = {kind: [note.text for note in case.notes if note.kind == kind] for kind in ("note", "warning")}
    return ParityReport(
        verdict=verdict,
        reasons=reasons,
        caveats=caveats(case, shapes, axes, missing, found.keys() & {TORCH_WHOLE, ORT_WHOLE, ORACLE}) if checks else (),
        model=source.name,
        steps=case.steps,
        seed=seed if inputs is None else None,
        tolerance=tolerance,
        subjects=subjects,
        axes=axes,
        rounding=rounding,
        reference=chosen,
        differences=tuple(compare(t, found[chosen]) for n, t in found.items() if n != chosen) if chosen else (),
        pairs=tuple(compare(found[a], found[b]) for a, b in combinations(found, 2)),
        checks=checks,
        same_bits=identical,
        not_compared=not_compared,
        warnings=() if lost else judge.warnings(proto, notes["warning"], found),
        notes=(*notes["note"], *getattr(torch_module, "remarks", ())),
        latency=_latency(case, ort),
        environment=environment(),
        hashes=setup.hashes(source, frames, module, weights),
        traces=found,
        weights=stored,
    )


def _reference(found: Mapping[str, Trace]) -> str | None:
    """The first of PEERS that ran to the end; where none did, the one that came furthest."""
    peers = [peer for peer in PEERS if peer in found]
    return max(peers, key=lambda peer: found[peer].reached, default=None)  # the first of the largest


# What to run


def _attempt(make: Callable[[], T]) -> Or[T]:
    """The result, or the reason why there is none."""
    try:
        return make()
    except NotComparedError as reason:
        return reason


def _given(result: Or[T]) -> T:
    """The result of an attempt; raises its reason where there is none."""
    if isinstance(result, NotComparedError):
        raise result
    return result


def _peer(name: str) -> Any:
    """The file here that runs an implementation, and needs the implementation's package."""
    try:
        return import_module(f".{name}", __package__)
    except ModuleNotFoundError as error:
        raise NotComparedError(f"{error.name} is not installed: pip install 'streamgru[export]'") from error


def _path(source: setup.Source) -> Path:
    if source.onnx is None:
        raise NotComparedError(source.problem)
    return source.onnx


def _torch_module(module: torch.nn.Module | None, case: Case, *graphs: Or[OracleGraph] | Or[OrtGraph]) -> TorchModule:
    """The module, called in the order of the graph's inputs; without a graph, ours and then the states."""
    if module is None:
        raise NotComparedError("no module was given")
    inputs = [*case.frames, *case.state_names]
    outputs = [*(tensor.name for tensor in case.model.outputs), *case.state_names.values()]
    for graph in graphs:
        if not isinstance(graph, NotComparedError):
            inputs = [name for name in graph.input_shapes if name in inputs]
            outputs = list(graph.output_names)
            break
    made: TorchModule = _peer("torch_module").TorchModule(module, inputs, outputs)
    return made


def _run_all(
    case: Case, oracle: Or[OracleGraph], ort: Or[OrtGraph], module: Or[TorchModule], oracle_seconds: float
) -> tuple[dict[str, Trace], dict[str, str]]:
    """The traces of all that can be run, and the reasons for the others. What ours raises is raised."""
    found = {STEP: traces.stream_step(case), RUN: traces.stream_run(case)}
    plan: dict[str, Callable[[], Trace]] = {
        ORACLE: lambda: _oracle_trace(case, _given(oracle), oracle_seconds),
        TORCH_WHOLE: lambda: _given(module).whole(TORCH_WHOLE, case),
        TORCH_STEPPED: lambda: _given(module).stepped(TORCH_STEPPED, case),
        ORT_WHOLE: lambda: traces.graph_whole(ORT_WHOLE, case, _given(ort)),
        ORT_STEPPED: lambda: traces.graph_stepped(ORT_STEPPED, case, _given(ort)),
    }
    not_compared = {}
    for name, run in plan.items():
        result = _attempt(run)
        if isinstance(result, NotComparedError):
            not_compared[name] = str(result)
        else:
            found[name] = result
    return found, not_compared


def _oracle_trace(case: Case, graph: PeerGraph, seconds: float) -> Trace:
    if case.is_sequence:
        return traces.graph_whole(ORACLE, case, graph, seconds)
    return traces.graph_stepped(ORACLE, case, graph, seconds)


def _mended(case: Case, oracle: Or[OracleGraph], proto: object, seconds: float) -> Trace | None:
    """The oracle on another graph; None where it fails."""
    graph = type(_given(oracle))(proto)  # type: ignore[arg-type]  # what stands for a ModelProto where onnx may be absent
    mended = _attempt(lambda: _oracle_trace(case, graph, seconds))
    return None if isinstance(mended, NotComparedError) else mended


def _misread(
    case: Case, oracle: Or[OracleGraph], found: Mapping[str, Trace], checks: Sequence[PeerCheck], tolerance: float
) -> str:
    """Why our stream differs from its graph, where a misreading of it gives what ours gives."""
    failed = any(not check.ok for check in checks if check.difference.reference in GRAPHS)
    if isinstance(oracle, NotComparedError) or not failed:
        return ""
    first = min(_first_wrong(found[STEP], found[name], tolerance) for name in GRAPHS if name in found)
    reason: str = _peer("misreadings").reason(case, oracle.proto, type(oracle), first, tolerance)
    return reason


def _first_wrong(ours: Trace, peer: Trace, tolerance: float) -> int:
    """The first step that is off; beyond all steps where none is, or where it is not known."""
    difference = compare(ours, peer)
    if difference.per_step is None:
        return 0 if difference.problem else MOST_STEPS
    steps, error = difference.per_step
    scale = max(output.scale for output in difference.outputs)
    return int(next(iter(steps[~(error <= tolerance * scale)]), MOST_STEPS))


def _shapes(*graphs: Or[OracleGraph] | Or[OrtGraph]) -> Mapping[str, Shape]:
    """The file's own input shapes, as the first that could read it has them."""
    return next((graph.input_shapes for graph in graphs if not isinstance(graph, NotComparedError)), {})


def _wholes(
    case: Case,
    graphs: tuple[Or[OrtGraph], Or[OracleGraph]],
    module: Or[TorchModule],
    draw: Draw,
    tolerance: float,
    source: setup.Source,
) -> tuple[tuple[str, ...], tuple[AxisCheck, ...], str]:
    """What the stream ignores, the whole against the stream along every axis, and why none could run the whole.

    onnxruntime, or the oracle where it cannot be had; and the module.
    """
    shapes = _shapes(*graphs)
    if case.model.metadata.get("kind") == "whole":
        return (), (), ""
    found: list[AxisCheck] = []
    peers = [
        (name, graph)
        for name, graph in zip(("onnxruntime", ORACLE), graphs, strict=True)
        if not isinstance(graph, NotComparedError)
    ]
    advice = Advice(source.onnx)
    ignored: list[str] = []
    for name, graph in peers[:1]:
        comparison = Comparison(name, graph, case, shapes, draw, tolerance, advice)
        ignored += [*comparison.ignored(), *comparison.disobeyed()]
        found += comparison.checks()
    if not isinstance(module, NotComparedError) and shapes:
        longer = Comparison("the module", module, case, shapes, draw, tolerance, advice)
        found += longer.checks(longer=True)
        if not case.is_sequence:
            found += longer.step_checks(shapes)
    return tuple(ignored), tuple(found), "" if peers else str(graphs[0])


def _latency(case: Case, ort: Or[OrtGraph]) -> tuple[Latency, ...]:
    """Of `step()` beside onnxruntime's `run()` of one frame."""
    frames = min(case.steps, LATENCY_FRAMES)
    calls = {STEP: traces.step_call(case, frames)}
    if not isinstance(ort, NotComparedError) and case.takes_one_frame(ort):
        calls["onnxruntime run"] = ort.call(case, frames)
    return tuple(measure_latency(calls, frames))
