"""The page of a parity report: one HTML file that needs no network and no other file, fit for a screen and
for paper.

It measures and judges nothing: all it shows is in the `Findings`. `plots.py` draws the plots.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping, Sequence

from streamgru._printable import printable

from ..differences import Difference, Latency
from .findings import AxisCheck, Findings, PeerCheck, Verdict
from .plots import error_plot, latency_plot, overlay_plot
from .text import OUTCOMES, counted, ulps, where
from .traces import STEP

CSS = """
:root { --ink: #172033; --soft: #5b6678; --line: #e3e7ee; --paper: #fff; --wash: #f5f7fa;
        --good: #137547; --good-wash: #e8f5ee; --bad: #b42318; --bad-wash: #fdecea; --warn-wash: #fff6e0; }
* { box-sizing: border-box; }
body { margin: 0; background: var(--wash); color: var(--ink);
       font: 15px/1.5 system-ui, "Segoe UI", Roboto, "Liberation Sans", sans-serif; }
main { max-width: 1020px; margin: 32px auto; padding: 40px 48px; background: var(--paper);
       border: 1px solid var(--line); border-radius: 12px; }
header { display: flex; justify-content: space-between; align-items: flex-start; gap: 24px; }
.kicker { margin: 0; color: var(--soft); font-size: 13px; letter-spacing: .06em; text-transform: uppercase; }
h1 { margin: 2px 0 0; font-size: 30px; line-height: 1.2; overflow-wrap: anywhere; }
h2 { margin: 40px 0 4px; font-size: 19px; }
p { margin: 4px 0 12px; } .soft { color: var(--soft); }
.badge { flex: none; padding: 8px 18px; border-radius: 999px; font-weight: 650; white-space: nowrap; }
.warn { color: #7a4b00; background: var(--warn-wash); }
.good { color: var(--good); background: var(--good-wash); } .bad { color: var(--bad); background:
var(--bad-wash); } .note { margin: 12px 0; padding: 12px 16px; border-radius: 8px; background:
var(--warn-wash); } .note.bad { background: var(--bad-wash); color: var(--ink); } .note ul { margin: 0;
padding-left: 18px; } .cards { display: grid; grid-template-columns: repeat(4, 1fr); gap: 12px; margin: 26px
0 8px; } .card { padding: 14px 16px; border: 1px solid var(--line); border-radius: 8px; }
.card b { display: block; font-size: 22px; font-weight: 650; font-variant-numeric: tabular-nums; }
.card span { color: var(--soft); font-size: 13px; }
table { width: 100%; border-collapse: collapse; margin: 8px 0 4px; font-size: 14px; }
th { color: var(--soft); font-weight: 550; text-align: left; border-bottom: 2px solid var(--line); }
th, td { padding: 7px 10px 7px 0; vertical-align: top; } td { border-bottom: 1px solid var(--line); }
.number + :not(.number) { padding-left: 14px; }
.number { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
code, .mono { font: 12.5px/1.5 ui-monospace, "Cascadia Mono", "Liberation Mono", monospace; overflow-wrap:
anywhere; } img { display: block; width: 100%; margin: 8px 0; }
footer { margin-top: 40px; padding-top: 12px; border-top: 1px solid var(--line); color: var(--soft);
font-size: 13px; } @media screen and (max-width: 760px) { main { margin: 0; padding: 20px; border: 0; } .cards {
grid-template-columns: 1fr 1fr; }
  header { flex-direction: column; } table { display: block; overflow-x: auto; } }
@media print { body { background: none; font-size: 11px; } h1 { font-size: 24px; }
  h2 { margin-top: 20px; font-size: 15px; } table { font-size: 10.5px; } th, td { padding: 3px 8px 3px 0; }
  code, .mono { font-size: 9.5px; } .cards { margin: 14px 0 4px; } .card { padding: 8px 12px; }
  footer { margin-top: 8px; padding-top: 4px; font-size: 10px; }
  main { margin: 0; padding: 0; border: 0; max-width: none; } section { break-inside: avoid; }
  * { print-color-adjust: exact; -webkit-print-color-adjust: exact; } }
@page { margin: 16mm; }
"""


BADGES: Mapping[Verdict, tuple[str, str]] = {
    "holds": ("good", "Parity holds"),
    "does not hold": ("bad", "Parity does not hold"),
    "partial": ("warn", "Parity is partial"),
    "not proved": ("warn", "Parity is not proved"),
}


def render(report: Findings) -> str:
    """The whole page.

    Parameters
    ----------
    report : Findings

    Returns
    -------
    str
        HTML with its style and its plots (SVG as data URIs) inside. Names that came from the model are
        escaped.
    """
    kind, mark = BADGES[report.verdict]
    sections = [
        _messages(report),
        _cards(report),
        _section("Verdict", _verdict_note(report), _checks(report)),
        _section(
            "The whole in one call",
            "So many frames, or entries of a batch, in one call, against our streams from reset: along every axis that "
            "the file leaves open, whatever we call it.",
            _axes(report.axes),
        ),
        _section("Differences", _reference_note(report), _differences(report)),
        _section(
            "All pairs",
            "The largest absolute difference between every two, over all outputs and all steps that both have: in "
            "brackets how many, where they are fewer than were asked for.",
            _pair_table(report.pairs, report.steps),
        ),
        _section(
            "Error over time",
            f"At each step compared, the largest absolute difference from {shown(report.reference or 'nothing')}.",
            _image(error_plot(report), "error over time"),
        ),
        _section(
            "Output",
            "Ours over the reference, in the elements that move most, over the last steps that both have.",
            _image(overlay_plot(report), "our output over the reference"),
        ),
        _section(
            "Time of one call",
            "One thread; the calls take turns, so a busy moment of the machine meets each of them.",
            _image(latency_plot(report), "histogram of call times"),
            _latencies(report.latency),
        ),
        _not_compared(report.not_compared),
        _section("Made with", "", _pairs(report.environment)),
        _section(
            "sha256",
            "Of the files, of the module's parameters, and of the frames fed in.",
            _pairs(report.hashes),
        ),
    ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Parity of {shown(report.model)}</title><style>{CSS}</style></head><body><main>"
        f'<header><div><p class="kicker">streamgru parity report</p><h1>{shown(report.model)}</h1></div>'
        f'<div class="badge {kind}">{mark}</div></header>'
        f"{''.join(sections)}"
        f"<footer>{shown(report.conclusion)}.</footer></main></body></html>\n"
    )


def shown(text: object) -> str:
    """A text as HTML: nothing in it is markup, and nothing moves what stands beside it."""
    return html.escape(printable(str(text), keep="\n"))


def _section(title: str, note: str, *parts: str) -> str:
    """A titled block; nothing where it has no content."""
    if not any(parts):
        return ""
    line = f'<p class="soft">{note}</p>' if note else ""
    return f"<section><h2>{shown(title)}</h2>{line}{''.join(parts)}</section>"


def _messages(report: Findings) -> str:
    """Why the verdict does not hold, and the warnings."""
    reasons = "".join(f"<li>{shown(reason)}</li>" for reason in report.reasons)
    colour = "bad" if report.verdict == "does not hold" else ""
    failed = f'<div class="note {colour}"><ul>{reasons}</ul></div>' if reasons else ""
    failed += "".join(f'<div class="note">{shown(caveat[:1].upper() + caveat[1:])}.</div>' for caveat in report.caveats)
    warnings = "".join(f'<div class="note"><b>Warning.</b> {shown(w)}</div>' for w in report.warnings)
    return failed + warnings + "".join(f'<p class="soft">Note: {shown(note)}.</p>' for note in report.notes)


def _cards(report: Findings) -> str:
    """The four numbers one looks for first."""
    ours = next((d for d in report.differences if d.candidate == STEP), None)
    cards = [
        (
            _steps_compared(report),
            "steps, " + ("inputs given" if report.seed is None else f"random, seed {report.seed}"),
        ),
        (
            f"{ours.max_abs:.2e}" if ours else "–",
            f"largest error against {report.reference or 'nothing'}" + (f", {ours.steps} steps" if ours else ""),
        ),
        ("identical" if report.same_bits else "DIFFERENT", "bits of run and step"),
        _speed_card(report.latency),
    ]
    inner = "".join(f'<div class="card"><b>{shown(b)}</b><span>{shown(s)}</span></div>' for b, s in cards)
    return f'<div class="cards">{inner}</div>'


def _steps_compared(report: Findings) -> str:
    """The steps that every implementation ran; "512 of 1000" where one ended before."""
    peers = {check.difference.reference for check in report.checks}
    least = min((subject.reached for subject in report.subjects if subject.name in peers), default=0)
    return f"{report.steps}" if least >= report.steps else f"{least} of {report.steps}"


def _speed_card(latency: Sequence[Latency]) -> tuple[str, str]:
    if not latency:
        return "–", "step() was not timed"
    ours, *peers = latency
    if not peers:
        return f"{ours.median_us:.2f} µs", "median of step()"
    return (
        f"{peers[0].median_us / ours.median_us:.1f}×",
        f"{peers[0].name}() over step(), {ours.median_us:.2f} µs",
    )


def _verdict_note(report: Findings) -> str:
    known = report.rounding is not None
    peers = f" The other float32 implementations are {report.rounding:.1e} off float64 themselves." if known else ""
    return (
        "Ours against each peer, over the output's scale max(1, largest |value|). The largest errors of the first and "
        f"the last tenth of the steps compared show drift.{peers}"
    )


def _checks(report: Findings) -> str:
    far = {subject.name: subject for subject in report.subjects}
    rows = [
        (
            shown(check.difference.reference),
            counted(far[check.difference.reference], report.steps),
            f"{check.difference.scaled:.2e}",
            f"{check.allowed:.2e}",
            *_ends(check.difference),
            _mark(check) + _ended(far[check.difference.reference].ended),
        )
        for check in report.checks
    ]
    head = ("streamgru step against", "steps", "difference", "allowed", "first tenth", "last tenth", "")
    return _table(head, rows, numeric=range(1, 6)) if rows else ""


def _ended(why: str) -> str:
    return f"; ended: {shown(why)}" if why else ""


def _ends(d: Difference) -> tuple[str, str]:
    """The largest errors of the first and of the last tenth of the steps compared."""
    if not d.windows:
        return "", ""
    return f"{d.windows[0].max_abs:.1e}", f"{d.windows[-1].max_abs:.1e}"


def _axes(axes: Sequence[AxisCheck]) -> str:
    rows = [
        (
            shown(check.peer),
            shown(check.axes),
            check.taken_for,
            ", ".join(map(str, check.sizes)),
            "" if check.scaled is None else f"{check.scaled:.2e}",
            _outcome(check),
        )
        for check in axes
    ]
    return _table(("by", "along", "our", "at once", "difference", ""), rows, numeric=(4,)) if rows else ""


def _outcome(check: AxisCheck) -> str:
    colour = {"holds": "good", "fails": "bad"}.get(check.outcome)
    mark = f'<b style="color:var(--{colour})">{OUTCOMES[check.outcome]}</b>' if colour else OUTCOMES[check.outcome]
    return f"{mark}: {shown(check.words)}" if check.words and check.outcome != "fails" else mark


def _mark(check: PeerCheck) -> str:
    if check.ok:
        return '<b style="color:var(--good)">✓ within</b>'
    integers = f", {check.difference.mismatches} integers differ" if check.difference.mismatches else ""
    return f'<b style="color:var(--bad)">✗ outside{integers}</b>'


def _reference_note(report: Findings) -> str:
    return (
        f"Everything against {shown(report.reference or 'nothing')}. Relative and ulp errors count where "
        "the reference is above a millionth of the scale."
    )


def _differences(report: Findings) -> str:
    head = ("", "steps", "max abs", "max rel", "RMSE", "max ulp", "first tenth", "last tenth", "worst at")
    rows = [_difference_row(d) for d in report.differences]
    return _table(head, rows, numeric=range(1, 8)) if rows else ""


def _difference_row(d: Difference) -> tuple[str, ...]:
    if d.problem:
        return (shown(d.candidate), *[""] * 7, shown(d.problem))
    numbers = (f"{d.max_abs:.2e}", f"{d.max_rel:.2e}", f"{d.rmse:.2e}", ulps(d.max_ulp), *_ends(d))
    return (shown(d.candidate), f"{d.steps}", *numbers, f"<code>{shown(where(d.worst))}</code>")


def _pair_table(pairs: Sequence[Difference], asked: int) -> str:
    """A triangle: each implementation against those before it, with the steps where they are fewer."""
    found = {
        (d.reference, d.candidate): "–" if d.problem else f"{d.max_abs:.1e}{f' ({d.steps})' * (d.steps < asked)}"
        for d in pairs
    }
    names = list(dict.fromkeys(name for d in pairs for name in (d.candidate, d.reference)))
    rows = [(shown(a), *(found.get((a, b), "") for b in names[:-1])) for a in names[1:]]
    return _table(("", *map(shown, names[:-1])), rows, numeric=range(1, len(names))) if rows else ""


def _latencies(latency: Sequence[Latency]) -> str:
    rows = [
        (shown(t.name), f"{t.median_us:.2f}", f"{t.p99_us:.2f}", f"{t.max_us:.2f}", f"{len(t.samples_us)}")
        for t in latency
    ]
    return _table(("call", "median µs", "p99 µs", "max µs", "calls"), rows, numeric=range(1, 5)) if rows else ""


def _not_compared(reasons: Mapping[str, str]) -> str:
    rows = [(shown(name), shown(reason)) for name, reason in reasons.items()]
    return _section("Not compared", "", _table(("implementation", "reason"), rows)) if rows else ""


def _pairs(values: Mapping[str, str]) -> str:
    rows = [(shown(key), f'<span class="mono">{shown(value)}</span>') for key, value in values.items()]
    return _table((), rows)


def _table(head: Iterable[str], rows: Iterable[Sequence[str]], numeric: Iterable[int] = ()) -> str:
    """A table of cells that are HTML already; the columns in `numeric` are set flush right."""
    right = set(numeric)

    def row(tag: str, cells: Iterable[str]) -> str:
        return "".join(
            f'<{tag} class="number">{cell}</{tag}>' if i in right else f"<{tag}>{cell}</{tag}>"
            for i, cell in enumerate(cells)
        )

    header = row("th", head)
    body = "".join(f"<tr>{row('td', cells)}</tr>" for cells in rows)
    return f"<table>{f'<thead><tr>{header}</tr></thead>' if header else ''}<tbody>{body}</tbody></table>"


def _image(uri: str, text: str) -> str:
    return f'<img alt="{shown(text)}" src="{uri}">' if uri else ""
