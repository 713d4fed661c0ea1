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

This file asks. `peers.py` and the files it names run the implementations, `axes.py` the whole, `differences.py`
measures, `judge.py` judges, and `findings.py` holds the result.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from typing import TYPE_CHECKING, Never

from streamgru._options import one_of, refuse_unknown, whole_number, zero_or_more
from streamgru._options import seed as checked_seed
from streamgru.errors import OptionError
from streamgru.model import Model, NonFinite

from ..differences import Latency, Trace, compare, measure_latency, same_bits
from ..environment import environment
from ..frames import Given, drawing, drawing_from, given_frames, id_tables, random_frames
from . import judge, setup, traces
from .advice import Advice
from .axes import MODULE, Comparison
from .caveats import caveats
from .findings import AxisCheck, PeerCheck, Verdict
from .peers import Graphs, Or, attempt, graphs_of, peer, run_all, torch_module
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
)
from .trial import Draw

if TYPE_CHECKING:
    import torch

    from .ort_graph import OrtGraph
    from .torch_module import TorchModule

__all__ = ["PEERS", "ParityReport", "parity"]

GRAPHS = (ORACLE, ORT_WHOLE, ORT_STEPPED)  # those that run the file
# The reference is the first of these that ran to the end.
PEERS = (ORACLE, TORCH_WHOLE, TORCH_STEPPED, ORT_WHOLE, ORT_STEPPED)

ORACLE_SECONDS = 120.0  # for the oracle: 100,000 steps of a GRU of 64 units, and some thousand of a convolutional net
LATENCY_FRAMES = 1000
MOST_STEPS = 10**9
SECONDS = "a number of seconds, such as 120"


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
        the first of PEERS that ran to the end.
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
    graphs = graphs_of(source)
    tables: dict[str, int] = {} if graphs.proto is None else id_tables(graphs.proto)
    try:
        if inputs is None:
            frames = random_frames(source.model, tables, steps, seed)
        else:
            frames = given_frames(source.model, inputs)
    except MemoryError as error:
        raise OptionError(f"steps: {steps} frames do not fit in memory") from error
    options: traces.StreamOptions = {"block": block, "nonfinite": nonfinite, "threads": threads}
    case = Case(source.model, frames, options, traces.unheard(source.model, graphs.ort, graphs.oracle))
    peers = attempt(lambda: torch_module(module, case, graphs))
    found, not_compared = run_all(case, graphs, peers, oracle_seconds)
    if reference is not None and reference not in found:
        raise OptionError(f"reference {reference!r} was not run: {not_compared[reference]}")
    chosen = reference or _reference(found)
    checks = tuple(PeerCheck(compare(found[STEP], found[name]), tolerance) for name in PEERS if name in found)
    seen = _Seen(case, source, graphs, peers, found, checks, tolerance, oracle_seconds)
    wholes = _wholes(seen, drawing(source.model, tables, seed) if inputs is None else drawing_from(frames, seed))
    lost = _lost(seen)
    verdict, reasons = _verdict(seen, wholes, lost, not_compared, module is not None)
    notes = {kind: [note.text for note in case.notes if note.kind == kind] for kind in ("note", "warning")}
    return ParityReport(
        verdict=verdict,
        reasons=reasons,
        caveats=_caveats(seen, wholes) if checks else (),
        model=source.name,
        steps=case.steps,
        seed=seed if inputs is None else None,
        tolerance=tolerance,
        subjects=judge.subjects(found),
        axes=wholes.checks,
        rounding=judge.rounding(found, PEERS),
        reference=chosen,
        differences=tuple(compare(t, found[chosen]) for n, t in found.items() if n != chosen) if chosen else (),
        pairs=tuple(compare(found[a], found[b]) for a, b in combinations(found, 2)),
        checks=checks,
        same_bits=same_bits(found[STEP], found[RUN]),
        not_compared=not_compared,
        warnings=() if lost else judge.warnings(graphs.proto, notes["warning"], found),
        notes=(*notes["note"], *getattr(peers, "remarks", ())),
        latency=_latency(case, graphs.ort),
        environment=environment(),
        hashes=setup.hashes(source, frames, module, weights),
        traces=found,
        weights=seen.stored,
    )


def _reference(found: Mapping[str, Trace]) -> str | None:
    """The first of PEERS that ran to the end; where none did, the one that came furthest."""
    peers = [peer for peer in PEERS if peer in found]
    return max(peers, key=lambda peer: found[peer].reached, default=None)  # the first of the largest


@dataclass(frozen=True)
class _Seen:
    """What was run, and what it gave."""

    case: Case
    source: setup.Source
    graphs: Graphs
    module: Or[TorchModule]
    found: Mapping[str, Trace]
    checks: tuple[PeerCheck, ...]
    tolerance: float
    oracle_seconds: float

    @property
    def stored(self) -> str:
        return self.case.model.metadata.get("weights") or "f32"


@dataclass(frozen=True)
class _Wholes:
    """What calls of the whole found."""

    checks: tuple[AxisCheck, ...] = ()
    ignored: tuple[str, ...] = ()  # what the stream does not hear
    missing: str = ""  # why nobody could run the whole


def _wholes(seen: _Seen, draw: Draw) -> _Wholes:
    """The whole against the stream along every axis: by onnxruntime or the oracle, and by the module."""
    case, shapes = seen.case, seen.graphs.shapes
    if case.model.metadata.get("kind") == "whole":
        return _Wholes()
    (name, whole), advice = seen.graphs.whole, Advice(seen.source.onnx)
    checks: list[AxisCheck] = []
    ignored: list[str] = []
    if not isinstance(whole, NotComparedError):
        comparison = Comparison(name, whole, case, shapes, draw, seen.tolerance, advice)
        ignored += [*comparison.ignored(), *comparison.disobeyed()]
        checks += comparison.checks()
    if not isinstance(seen.module, NotComparedError) and shapes:
        longer = Comparison(MODULE, seen.module, case, shapes, draw, seen.tolerance, advice)
        checks += longer.checks(longer=True)
        checks += () if case.is_sequence else longer.step_checks(shapes)
    return _Wholes(tuple(checks), tuple(ignored), str(whole) if isinstance(whole, NotComparedError) else "")


# How to judge


def _verdict(
    seen: _Seen, wholes: _Wholes, lost: str, not_compared: Mapping[str, str], wants_module: bool
) -> tuple[Verdict, tuple[str, ...]]:
    found, missing = seen.found, ""
    if wants_module and not {TORCH_WHOLE, TORCH_STEPPED} & found.keys():
        missing = not_compared[TORCH_WHOLE if seen.case.is_sequence else TORCH_STEPPED]
    known = lost or _misread(seen)
    identical, rounding = same_bits(found[STEP], found[RUN]), judge.rounding(found, PEERS)
    failures = judge.failures(seen.checks, identical, wholes.checks, rounding, known, seen.stored)
    nothing = judge.nothing_shown(found[STEP], seen.tolerance)
    return judge.verdict((*wholes.ignored, *failures), seen.checks, judge.subjects(found), missing, nothing)


def _caveats(seen: _Seen, wholes: _Wholes) -> tuple[str, ...]:
    ran_whole = seen.found.keys() & {TORCH_WHOLE, ORT_WHOLE, ORACLE}
    return caveats(seen.case, seen.graphs.shapes, wholes.checks, wholes.missing, ran_whole)


def _lost(seen: _Seen) -> str:
    """Why the module differs, where its graph lost linear_before_reset."""
    case, seconds = seen.case, seen.oracle_seconds
    trace = partial(seen.graphs.trace_of, case, seconds=seconds)
    return judge.lost_reset(seen.graphs.proto, trace, seen.found, seen.checks, seen.tolerance)


def _misread(seen: _Seen) -> str:
    """Why our stream differs from its graph, where a misreading of it gives what ours gives."""
    oracle, found = seen.graphs.oracle, seen.found
    failed = any(not check.ok for check in seen.checks if check.difference.reference in GRAPHS)
    if isinstance(oracle, NotComparedError) or not failed:
        return ""
    first = min(_first_wrong(found[STEP], found[name], seen.tolerance) for name in GRAPHS if name in found)
    reason: str = peer("misreadings").reason(
        seen.case, oracle.proto, partial(type(oracle), bound=oracle.bound), first, seen.tolerance
    )
    return reason


def _first_wrong(ours: Trace, theirs: Trace, tolerance: float) -> int:
    """The first step that is off; beyond all steps where none is, or where it is not known."""
    difference = compare(ours, theirs)
    if difference.per_step is None:
        return 0 if difference.problem else MOST_STEPS
    steps, error = difference.per_step
    scale = max(output.scale for output in difference.outputs)
    return int(next(iter(steps[~(error <= tolerance * scale)]), MOST_STEPS))


def _tried(call: Callable[[int], object]) -> object:
    with traces.its_reason("onnxruntime"):
        return call(0)


def _latency(case: Case, ort: Or[OrtGraph]) -> tuple[Latency, ...]:
    """Of `step()` beside onnxruntime's `run()` of one frame."""
    frames = min(case.steps, LATENCY_FRAMES)
    calls = {STEP: traces.step_call(case, frames)}
    if not isinstance(ort, NotComparedError) and case.takes_one_frame(ort):
        call = ort.call(case, frames)
        if not isinstance(attempt(lambda: _tried(call)), NotComparedError):
            calls["onnxruntime run"] = call
    return tuple(measure_latency(calls, frames))
