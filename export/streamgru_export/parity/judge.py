"""The verdict of a parity check, and why: from the traces and the calls of the whole to words. It runs no model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from ..differences import Trace, compare
from ..lost_reset import EXPLANATION, MENDED, resetting_before, suspicious_grus, with_linear_before_reset
from .findings import AxisCheck, PeerCheck, Subject, Verdict
from .text import where
from .traces import ORACLE, RUN, STEP, TORCH_STEPPED, TORCH_WHOLE, several


def subjects(found: Mapping[str, Trace]) -> tuple[Subject, ...]:
    """How far each implementation ran, and at how many steps it was compared with ours."""
    return tuple(
        Subject(name, trace.reached, compare(found[STEP], trace).steps, trace.ended) for name, trace in found.items()
    )


def verdict(
    failures: Sequence[str],
    checks: Sequence[PeerCheck],
    far: Sequence[Subject],
    module_missing: str,
    nothing_shown: Sequence[str] = (),
) -> tuple[Verdict, tuple[str, ...]]:
    """The verdict, and why it is not "holds".

    Parameters
    ----------
    failures : sequence of str
        What differs.
    checks : sequence of PeerCheck
    far : sequence of Subject
    module_missing : str
        Why the module that was given could not be compared; empty where it was, or none was given.
    nothing_shown : sequence of str
        The outputs of which the frames show nothing.
    """
    unproved = [*nothing_shown] if checks else ["nothing was compared"]
    if checks and module_missing:
        unproved.append(f"the module was not compared ({module_missing})")
    cut = [f"{s.name} ended after {several(s.reached, 'step')}: {s.ended}" for s in far if s.ended]
    if failures:
        return "does not hold", (*failures, *unproved, *cut)
    if unproved:
        return "not proved", (*unproved, *cut)
    return ("partial", tuple(cut)) if cut else ("holds", ())


def nothing_shown(ours: Trace, tolerance: float) -> tuple[str, ...]:
    """The outputs that zeros, or anything, would pass for: all within the tolerance of zero, or none finite."""
    found = []
    for name, values in ours.values.items():
        finite = np.abs(values[np.isfinite(values)]) if values.dtype.kind == "f" else np.ones(1)
        if not finite.size:
            found.append(f"the output {name!r} has no finite number in any frame: give inputs= that it has some for")
        elif finite.max() <= tolerance:
            found.append(
                f"the output {name!r} is {finite.max():.2g} at most, within the tolerance of {tolerance:.2g}: zeros "
                "would pass too. Scale it up in the file and the module, or give inputs= that it answers to"
            )
    return tuple(found)


def failures(
    checks: Sequence[PeerCheck],
    identical: bool,
    axes: Sequence[AxisCheck],
    rounding: float | None,
    known: str,
    stored: str,
) -> tuple[str, ...]:
    """What differs, and what is known of the reason: `known` was proved."""
    reasons = [_reason(check) for check in checks if not check.ok]
    differ = bool(reasons)
    reasons[:0] = dict.fromkeys(check.words for check in axes if check.is_misread)
    reasons += [check.words for check in axes if check.outcome == "fails" and not check.is_misread]
    if known:
        reasons.insert(0, known)
    elif differ and stored != "f32":
        reasons.append(
            f"the image has {stored} weights, which move the outputs: state what they may cost as the tolerance"
        )
    elif differ and rounding is not None:
        reasons.append(
            f"for comparison: the other float32 implementations are themselves {rounding:.2g} off float64 here"
        )
    if not identical:
        reasons.append(f"{RUN} does not give the bits of {STEP}")
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


def rounding(found: Mapping[str, Trace], peers: Sequence[str]) -> float | None:
    """How far the float32 peers are from the oracle themselves; None where that is not known."""
    if ORACLE not in found:
        return None
    return max(
        (compare(found[name], found[ORACLE]).scaled for name in peers if name in found and name != ORACLE), default=None
    )


def lost_reset(
    proto: object,
    trace: Callable[[object], Trace | None],
    found: Mapping[str, Trace],
    checks: Sequence[PeerCheck],
    tolerance: float,
) -> str:
    """Why the module differs, where it is this: the graph with linear_before_reset=1 in its GRUs agrees with it.

    Whoever wrote the file: other tools take the exporter's name off it.
    """
    module = found.get(TORCH_WHOLE) or found.get(TORCH_STEPPED)
    failed = any(not check.ok and check.difference.reference in (TORCH_WHOLE, TORCH_STEPPED) for check in checks)
    names = resetting_before(proto) if module is not None and failed and proto is not None else []
    mended = trace(with_linear_before_reset(proto)) if names else None
    if module is None or mended is None:
        return ""
    error = compare(module, mended).scaled
    return MENDED.format(nodes=", ".join(names), error=error) if error <= tolerance else ""


def warnings(proto: object, notes: Sequence[str], found: Mapping[str, Trace]) -> tuple[str, ...]:
    """What is probably wrong with the graph itself: a GRU from PyTorch with linear_before_reset=0."""
    if proto is None:
        return tuple(notes)
    names = suspicious_grus(proto)
    if not names:
        return ()
    compared = found.keys() & {TORCH_WHOLE, TORCH_STEPPED}
    finding = " With 1 in its place the graph still differs from the module." if compared else ""
    return (f"{', '.join(names)}: {EXPLANATION}{finding}",)
