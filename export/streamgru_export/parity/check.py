"""Parity: proof that a stream computes what the ONNX graph and the PyTorch module compute.

The same frames go through our stream (a step at a time, and in blocks), onnxruntime, the torch module and a
float64 oracle. The verdict holds where

- `run` gives the very bits of `step`;
- our steps differ from every other implementation by at most the tolerance, over the output's scale,
  which is max(1, largest |value|);
- integers are equal;
- at least one other implementation was compared, and the module, where one was given.

Some models cost more in float32 than the default tolerance: weights that push sums into the tens lose digits in any
order of summation. The report says how far onnxruntime and the module are from the float64 oracle themselves, so that
a tolerance can be chosen with eyes open; the verdict is by the stated tolerance alone.

This file asks and judges. `traces.py` and the files it names run the implementations, `differences.py` measures, and
`findings.py` holds the result.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
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
from ..frames import Given, given_frames, id_tables, random_frames
from ..lost_reset import EXPLANATION, MENDED, resetting_before, suspicious_grus, with_linear_before_reset
from . import setup, traces
from .findings import PeerCheck
from .report import ParityReport
from .text import where
from .traces import RUN, STEP, Case, NotComparedError, PeerGraph

if TYPE_CHECKING:
    import torch

    from .oracle_graph import OracleGraph
    from .ort_graph import OrtGraph
    from .torch_module import TorchModule

__all__ = ["PEERS", "ParityReport", "parity"]

ORACLE = "float64 oracle"
ORT_WHOLE, ORT_STEPPED = "onnxruntime whole", "onnxruntime stepped"
TORCH_WHOLE, TORCH_STEPPED = "torch whole", "torch stepped"
# The reference is the first of these that could be run.
PEERS = (ORACLE, TORCH_WHOLE, TORCH_STEPPED, ORT_WHOLE, ORT_STEPPED)

ORACLE_SECONDS = 60.0  # of stepping the oracle, which takes 30 ms for a step of a convolutional net
LATENCY_FRAMES = 1000
MOST_STEPS = 10**9

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

    Returns
    -------
    ParityReport
        It tells what could not be compared, and why; call :meth:`ParityReport.raise_for_verdict` to fail.

    Raises
    ------
    OptionError
        `steps`, `seed`, `tolerance`, `module` or `weights` cannot be that, `reference` names nothing that was run,
        or there is no such option.
    ShapeError
        An array of `inputs` is missing, unknown, or does not fit the model.
    StreamgruError
        The model cannot be loaded, or our stream refuses the frames.
    """
    refuse_unknown(parity, unknown)
    steps, seed = whole_number("steps", steps, 1, MOST_STEPS), checked_seed(seed)
    tolerance = zero_or_more("tolerance", tolerance)
    weights = setup.checked_files(module, weights)
    if reference is not None:
        one_of("reference", reference, (STEP, RUN, *PEERS))
    source = setup.resolve(model, onnx)
    oracle: Or[OracleGraph] = _attempt(lambda: _peer("oracle_graph").OracleGraph(_path(source)))
    ort: Or[OrtGraph] = _attempt(lambda: _peer("ort_graph").OrtGraph(_path(source)))
    if inputs is None:
        tables: dict[str, int] = {} if isinstance(oracle, NotComparedError) else id_tables(oracle.proto)
        try:
            frames = random_frames(source.model, tables, steps, seed)
        except MemoryError as error:
            raise OptionError(f"steps: {steps} frames do not fit in memory") from error
    else:
        frames = given_frames(source.model, inputs)
    case = Case(source.model, frames, {"block": block, "nonfinite": nonfinite, "threads": threads})
    torch_module = _attempt(lambda: _torch_module(module, case, oracle, ort))
    found, not_compared = _run_all(case, oracle, ort, torch_module)
    if reference is not None and reference not in found:
        raise OptionError(f"reference {reference!r} was not run: {not_compared[reference]}")
    chosen = reference or next((peer for peer in PEERS if peer in found), None)
    rounding = _rounding(found)
    stored = source.model.metadata.get("weights") or "f32"
    checks = tuple(PeerCheck(compare(found[STEP], found[peer]), tolerance) for peer in PEERS if peer in found)
    identical = same_bits(found[STEP], found[RUN])
    lost = _lost_reset(case, oracle, found, checks, tolerance)
    reasons = _reasons(checks, identical, module, not_compared, rounding, lost, stored)
    return ParityReport(
        ok=not reasons,
        reasons=reasons,
        model=source.name,
        steps=case.steps,
        seed=seed if inputs is None else None,
        tolerance=tolerance,
        rounding=rounding,
        reference=chosen,
        differences=tuple(compare(t, found[chosen]) for n, t in found.items() if n != chosen) if chosen else (),
        pairs=tuple(compare(found[a], found[b]) for a, b in combinations(found, 2)),
        checks=checks,
        same_bits=identical,
        not_compared=not_compared,
        warnings=() if lost else _warnings(case, oracle, found),
        notes=(*(note.text for note in case.notes if note.kind == "note"), *getattr(torch_module, "remarks", ())),
        latency=_latency(case, ort),
        environment=environment(),
        hashes=setup.hashes(source, frames, module, weights),
        traces=found,
        weights=stored,
    )


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
    case: Case, oracle: Or[OracleGraph], ort: Or[OrtGraph], module: Or[TorchModule]
) -> tuple[dict[str, Trace], dict[str, str]]:
    """The traces of all that can be run, and the reasons for the others. What ours raises is raised."""
    found = {STEP: traces.stream_step(case), RUN: traces.stream_run(case)}
    plan: dict[str, Callable[[], Trace]] = {
        ORACLE: lambda: _oracle_trace(case, _given(oracle)),
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


def _oracle_trace(case: Case, graph: PeerGraph) -> Trace:
    if case.is_sequence:
        return traces.graph_whole(ORACLE, case, graph)
    return traces.graph_stepped(ORACLE, case, graph, ORACLE_SECONDS)


def _latency(case: Case, ort: Or[OrtGraph]) -> tuple[Latency, ...]:
    """Of `step()` beside onnxruntime's `run()` of one frame."""
    frames = min(case.steps, LATENCY_FRAMES)
    calls = {STEP: traces.step_call(case, frames)}
    if not isinstance(ort, NotComparedError) and case.takes_one_frame(ort):
        calls["onnxruntime run"] = ort.call(case, frames)
    return tuple(measure_latency(calls, frames))


# How to judge


def _rounding(found: Mapping[str, Trace]) -> float | None:
    """How far the float32 peers are from the oracle themselves; None where that is not known."""
    if ORACLE not in found:
        return None
    return max(
        (compare(found[name], found[ORACLE]).scaled for name in PEERS if name in found and name != ORACLE), default=None
    )


def _reasons(
    checks: tuple[PeerCheck, ...],
    identical: bool,
    module: torch.nn.Module | None,
    not_compared: Mapping[str, str],
    rounding: float | None,
    lost: str,
    stored: str,
) -> tuple[str, ...]:
    """Why the verdict does not hold."""
    reasons = [_reason(check) for check in checks if not check.ok]
    if lost:
        reasons.insert(0, lost)
    elif reasons and stored != "f32":
        reasons.append(
            f"the image has {stored} weights, which move the outputs: state what they may cost as the tolerance"
        )
    elif reasons and rounding is not None:
        reasons.append(
            f"for comparison: the other float32 implementations are themselves {rounding:.2g} off float64 here"
        )
    if not identical:
        reasons.append(f"{RUN} does not give the bits of {STEP}")
    if not checks:
        reasons.append("nothing was compared")
    elif module is not None and {TORCH_WHOLE, TORCH_STEPPED} <= set(not_compared):
        reasons.append(f"the module was not compared ({not_compared[TORCH_STEPPED]})")
    return tuple(reasons)


def _reason(check: PeerCheck) -> str:
    difference, worst = check.difference, check.difference.decisive
    if difference.problem or worst is None:
        return f"{difference.reference}: {difference.problem}"
    if difference.mismatches:
        return f"{difference.reference}: {difference.mismatches} integers of {worst.output!r} differ"
    return (
        f"{difference.reference}: off by {difference.scaled:.2g} of the output's scale at {where(worst)}, "
        f"{check.allowed:.2g} allowed"
    )


def _lost_reset(
    case: Case, oracle: Or[OracleGraph], found: Mapping[str, Trace], checks: tuple[PeerCheck, ...], tolerance: float
) -> str:
    """Why the module differs, where it is this: the graph with linear_before_reset=1 in its GRUs agrees with it.

    Whoever wrote the file: other tools take the exporter's name off it.
    """
    module = found.get(TORCH_WHOLE) or found.get(TORCH_STEPPED)
    failed = any(not check.ok and check.difference.reference in (TORCH_WHOLE, TORCH_STEPPED) for check in checks)
    if module is None or not failed or isinstance(oracle, NotComparedError):
        return ""
    names = resetting_before(oracle.proto)
    if not names:
        return ""
    graph = type(oracle)(with_linear_before_reset(oracle.proto))
    mended = _attempt(lambda: _oracle_trace(case, graph))
    if isinstance(mended, NotComparedError):
        return ""
    error = compare(module, mended).scaled
    return MENDED.format(nodes=", ".join(names), error=error) if error <= tolerance else ""


def _warnings(case: Case, oracle: Or[OracleGraph], found: Mapping[str, Trace]) -> tuple[str, ...]:
    """What is probably wrong with the graph itself: a GRU from PyTorch with linear_before_reset=0."""
    if isinstance(oracle, NotComparedError):
        return tuple(note.text for note in case.notes if note.kind == "warning")
    names = suspicious_grus(oracle.proto)
    if not names:
        return ()
    compared = found.keys() & {TORCH_WHOLE, TORCH_STEPPED}
    finding = " With 1 in its place the graph still differs from the module." if compared else ""
    return (f"{', '.join(names)}: {EXPLANATION}{finding}",)
