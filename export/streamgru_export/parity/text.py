"""A parity report as text for a terminal and as plain data for JSON. `page.py` makes the page."""

from __future__ import annotations

import math
import textwrap
from typing import Any

from streamgru._printable import printable

from ..differences import Difference, Worst
from .findings import MARKS, AxisCheck, Findings, Subject

WIDTH = 100
SHORT_HASH = 12


def text(report: Findings) -> str:
    """The report in about a screenful, at most 100 columns wide."""
    seed = "inputs given" if report.seed is None else f"seed {report.seed}"
    asked = f"({report.steps} steps, {seed}, tolerance {report.tolerance:g})"
    lines = [f"parity of {printable(report.model)}: {MARKS[report.verdict]}   {asked}"]
    lines += [f"  {printable(told)}" for told in (*report.reasons, *report.caveats)]
    if report.differences:
        lines += ["", *_differences(report)]
    if report.checks:
        lines += ["", *_checks(report)]
    lines.append(f"  streamgru run gives the bits of step: {'yes' if report.same_bits else 'NO'}")
    if report.axes:
        lines += ["", *_axes(report)]
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
    header = "steps   max abs   max rel      rmse   max ulp   worst at"
    lines = [f"{'against ' + (report.reference or ''):27} {header}"]
    for d in report.differences:
        numbers = f"{d.max_abs:9.2e} {d.max_rel:9.2e} {d.rmse:9.2e} {ulps(d.max_ulp):>9}"
        lines.append(f"  {d.candidate:19} {d.steps:>11} {numbers}   {d.problem or where(d.worst)}")
    return lines


def _checks(report: Findings) -> list[str]:
    lines = [f"{'streamgru step against':23} {'steps':>15} {'of scale':>9} {'allowed':>9}"]
    far = {subject.name: subject for subject in report.subjects}
    for check in report.checks:
        d = check.difference
        integers = f"   {d.mismatches} integers differ" if d.mismatches else ""
        numbers = f"{d.scaled:9.2e} {check.allowed:9.2e}   {'ok' if check.ok else 'FAILS'}{integers}"
        lines.append(f"  {d.reference:19} {counted(far[d.reference], report.steps):>17} {numbers}")
    if report.rounding is not None:
        lines.append(f"  the other float32 implementations against float64: {report.rounding:.1e}")
    drifts = [d for d in (check.difference for check in report.checks) if d.windows]
    if drifts:
        lines.append("  drift, max abs in ten parts of the steps compared:")
        lines += [
            f"    {d.reference:19} {' '.join(f'{w.max_abs:.0e}' for w in d.windows)}{_until(far[d.reference])}"
            for d in drifts
        ]
    return lines


def counted(subject: Subject, asked: int) -> str:
    """How many steps of those asked for were compared, and up to which."""
    if subject.compared == asked:
        return f"{asked}"
    if subject.compared >= subject.reached:
        return f"{subject.compared} of {asked}"
    return f"{subject.compared} up to {subject.reached}"


def _until(subject: Subject) -> str:
    return f"   to step {subject.reached - 1}: {printable(subject.ended)}" if subject.ended else ""


def _axes(report: Findings) -> list[str]:
    lines = ["the whole in one call against the stream, from reset"]
    for check in report.axes:
        error = "" if check.scaled is None else f"{check.scaled:9.2e}   "
        lines.append(f"  {axis_line(check)}: {error}{OUTCOMES[check.outcome]}")
        if check.words and check.outcome != "fails":
            lines.append(f"    {printable(check.words)}")
    return lines


OUTCOMES = {"holds": "ok", "fails": "FAILS", "untried": "not tried", "bound": "depends on the size"}


def axis_line(check: AxisCheck) -> str:
    """Who ran what along which axis."""
    sizes = ", ".join(map(str, check.sizes))
    parts = "frames" if check.taken_for == "time" else "entries"
    return f"{check.peer}, {printable(check.axes)}, our {check.taken_for}" + (f", {sizes} {parts}" if sizes else "")


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
        "conclusion": report.conclusion,
        "reasons": list(report.reasons),
        "caveats": list(report.caveats),
        "model": report.model,
        "steps": report.steps,
        "seed": report.seed,
        "tolerance": report.tolerance,
        "weights": report.weights,
        "rounding": report.rounding,
        "reference": report.reference,
        "subjects": [
            {"name": s.name, "reached": s.reached, "compared": s.compared, "ended": s.ended} for s in report.subjects
        ],
        "axes": [_plain_axis(check) for check in report.axes],
        "differences": [_plain_difference(d) for d in report.differences],
        "pairs": [
            {
                "between": [d.candidate, d.reference],
                "steps": d.steps,
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
                "steps": check.difference.steps,
                "scaled": _number(check.difference.scaled),
                "allowed": check.allowed,
                "mismatches": check.difference.mismatches,
                "ok": check.ok,
                "windows": _windows(check.difference),
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
        "steps": d.steps,
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
        "windows": _windows(d),
    }


def _windows(d: Difference) -> list[dict[str, Any]]:
    return [
        {"first": w.first, "last": w.last, "max_abs": _number(w.max_abs), "rmse": _number(w.rmse)} for w in d.windows
    ]


def _plain_axis(check: AxisCheck) -> dict[str, Any]:
    return {
        "peer": check.peer,
        "axes": [{"input": name, "axis": axis} for name, axis in check.places],
        "named": check.axes,
        "taken_for": check.taken_for,
        "sizes": list(check.sizes),
        "scaled": None if check.scaled is None else _number(check.scaled),
        "outcome": check.outcome,
        "words": check.words,
        "seems": check.seems,
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
