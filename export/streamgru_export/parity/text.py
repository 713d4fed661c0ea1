"""A parity report as text for a terminal and as plain data for JSON. `page.py` makes the page."""

from __future__ import annotations

import math
import textwrap
from typing import Any

from streamgru._printable import printable

from ..differences import Difference, Worst
from .findings import Findings

WIDTH = 100
SHORT_HASH = 12


def text(report: Findings) -> str:
    """The report in about a screenful, at most 100 columns wide."""
    seed = "inputs given" if report.seed is None else f"seed {report.seed}"
    mark = "HOLDS" if report.ok else "DOES NOT HOLD"
    lines = [
        f"parity of {printable(report.model)}: {mark}   ({report.steps} steps, {seed}, tolerance {report.tolerance:g})"
    ]
    lines += [f"  {printable(reason)}" for reason in report.reasons]
    if report.differences:
        lines += ["", *_differences(report)]
    if report.checks:
        lines += ["", *_checks(report)]
    lines.append(f"  streamgru run gives the bits of step: {'yes' if report.same_bits else 'NO'}")
    if report.weights != "f32":
        lines += ["", *_weights(report)]
    if report.not_compared:
        lines += ["", "not compared"]
        lines += [f"  {name + ':':20} {printable(reason)}" for name, reason in report.not_compared.items()]
    lines += [f"\nwarning: {printable(warning)}" for warning in report.warnings]
    lines += [f"\nnote: {printable(str(note))}" for note in report.notes]
    if report.latency:
        lines += ["", "time of one call, one thread, in turns"]
        lines += [f"  {t.name:20} median {t.median_us:9.2f} µs   p99 {t.p99_us:9.2f} µs" for t in report.latency]
    installed = [f"{k} {v}" for k, v in report.environment.items() if v != "not installed"]
    lines += ["", ", ".join(installed)]
    lines.append("sha256: " + ", ".join(f"{k} {v[:SHORT_HASH]}" for k, v in report.hashes.items()))
    return "\n".join(wrapped for line in lines for wrapped in _wrap(line))


def _wrap(line: str) -> list[str]:
    indent = " " * (len(line) - len(line.lstrip(" ")) + 2)
    return [
        part
        for piece in line.split("\n")
        for part in textwrap.wrap(piece, WIDTH, subsequent_indent=indent, break_long_words=False) or [""]
    ]


def _differences(report: Findings) -> list[str]:
    header = "max abs   max rel      rmse   max ulp   worst at"
    lines = [f"{'against ' + (report.reference or ''):23} {header}"]
    for d in report.differences:
        note = report.traces[d.candidate].note
        place = f"{where(d.worst)}{f' ({note})' if note else ''}" if not d.problem else d.problem
        lines.append(
            f"  {d.candidate:19} {d.max_abs:9.2e} {d.max_rel:9.2e} {d.rmse:9.2e} {ulps(d.max_ulp):>9}   {place}"
        )
    ours = next((d for d in report.differences if d.candidate == "streamgru step"), None)
    if ours is not None and ours.windows:
        lines.append(f"  drift of streamgru step, max abs by {len(ours.windows)} windows of steps:")
        lines.append("    " + " ".join(f"{w.max_abs:.1e}" for w in ours.windows))
    return lines


def _checks(report: Findings) -> list[str]:
    known = report.rounding is not None
    rounding = f"other float32 implementations against float64: {report.rounding:.1e}" if known else ""
    lines = [f"{'streamgru step against':23} {'of scale':>9} {'allowed':>9}   {rounding}"]
    for check in report.checks:
        d = check.difference
        integers = f"   {d.mismatches} integers differ" if d.mismatches else ""
        mark = "ok" if check.ok else "FAILS"
        lines.append(f"  {d.reference:19}   {d.scaled:9.2e} {check.allowed:9.2e}   {mark}{integers}")
    return lines


def _weights(report: Findings) -> list[str]:
    """What weights of fewer bits cost each output."""
    ours = next((d for d in report.differences if d.candidate == "streamgru step"), None)
    if ours is None:
        return []
    lines = [f"{report.weights} weights against {ours.reference}: RMSE over the output's RMS, over all steps"]
    return lines + [f"  {printable(o.output):19} {o.relative:9.3%}" for o in ours.outputs if o.max_ulp is not None]


def ulps(count: int | None) -> str:
    """A count of ulps: in full while that is readable."""
    return "–" if count is None else str(count) if count < 100_000 else f"{count:.2g}"


def where(worst: Worst | None) -> str:
    """A place as `y[0, 3], step 17`."""
    return "" if worst is None else f"{printable(worst.output)}{list(worst.index)}, step {worst.step}"


def plain(report: Findings) -> dict[str, Any]:
    """The report as JSON takes it, without the traces. Infinity and NaN are strings."""
    return {
        "ok": report.ok,
        "verdict": report.verdict,
        "reasons": list(report.reasons),
        "model": report.model,
        "steps": report.steps,
        "seed": report.seed,
        "tolerance": report.tolerance,
        "weights": report.weights,
        "rounding": report.rounding,
        "reference": report.reference,
        "differences": [_plain_difference(d) for d in report.differences],
        "pairs": [
            {
                "between": [d.candidate, d.reference],
                "problem": d.problem,
                "max_abs": _number(d.max_abs),
                "rmse": _number(d.rmse),
                "scaled": _number(d.scaled),
                "mismatches": d.mismatches,
            }
            for d in report.pairs
        ],
        "checks": [
            {
                "reference": check.difference.reference,
                "scaled": _number(check.difference.scaled),
                "allowed": check.allowed,
                "mismatches": check.difference.mismatches,
                "ok": check.ok,
            }
            for check in report.checks
        ],
        "run_gives_the_bits_of_step": report.same_bits,
        "not_compared": dict(report.not_compared),
        "warnings": list(report.warnings),
        "notes": list(report.notes),
        "latency": [
            {"name": t.name, "median_us": t.median_us, "p99_us": t.p99_us, "max_us": t.max_us} for t in report.latency
        ],
        "environment": dict(report.environment),
        "hashes": dict(report.hashes),
    }


def _plain_difference(d: Difference) -> dict[str, Any]:
    return {
        "candidate": d.candidate,
        "reference": d.reference,
        "problem": d.problem,
        "max_abs": _number(d.max_abs),
        "max_rel": _number(d.max_rel),
        "rmse": _number(d.rmse),
        "max_ulp": d.max_ulp,
        "scaled": _number(d.scaled),
        "mismatches": d.mismatches,
        "worst": _plain_worst(d.worst),
        "outputs": [
            {
                "output": o.output,
                "steps": o.steps,
                "max_abs": _number(o.max_abs),
                "rmse": _number(o.rmse),
                "rms": _number(o.rms),
                "scale": o.scale,
                "mismatches": o.mismatches,
            }
            for o in d.outputs
        ],
        "windows": [
            {"first": w.first, "last": w.last, "max_abs": _number(w.max_abs), "rmse": _number(w.rmse)}
            for w in d.windows
        ],
    }


def _plain_worst(worst: Worst | None) -> dict[str, Any] | None:
    if worst is None:
        return None
    return {
        "output": worst.output,
        "step": worst.step,
        "index": list(worst.index),
        "candidate": _number(worst.candidate),
        "reference": _number(worst.reference),
    }


def _number(value: float) -> float | str:
    return value if math.isfinite(value) else str(value)
