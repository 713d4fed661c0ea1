"""The plots of a parity report, as SVG in data URIs. Needs matplotlib; `page.py` makes the page around them."""

from __future__ import annotations

import base64
import io
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from numpy.typing import NDArray

from streamgru._printable import printable

from ..differences import Difference
from .findings import Findings
from .traces import RUN, STEP

OURS = "#1d4ed8"
COLOURS = {
    STEP: OURS,
    "float64 oracle": "#111827",
    "torch whole": "#e05d00",
    "torch stepped": "#f2a65a",
    "onnxruntime whole": "#0f766e",
    "onnxruntime stepped": "#5eb5a8",
    "onnxruntime run": "#0f766e",
}
STYLE: Any = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#9aa4b2",
    "axes.labelcolor": "#5b6678",
    "axes.grid": True,
    "grid.color": "#eceff4",
    "axes.axisbelow": True,
    "xtick.color": "#5b6678",
    "ytick.color": "#5b6678",
    "legend.frameon": False,
    "svg.hashsalt": "streamgru",
}
WIDTH = 9.4  # inches
POINTS = 800  # of a curve; more steps are drawn as the largest of each group
LAST_STEPS = 200
ELEMENTS = 3
BINS = 80


def error_plot(report: Findings) -> str:
    """Every implementation's largest difference from the reference at each step, on a log scale."""
    curves = [d for d in report.differences if d.per_step is not None]
    if report.same_bits:
        curves = [d for d in curves if d.candidate != RUN]
    if not curves:
        return ""
    with mpl.rc_context(STYLE):
        figure, axes = _figure(3.1)
        for d in curves:
            assert d.per_step is not None
            x, y = thinned(*d.per_step)
            ended = report.traces[d.candidate].ended or report.traces[d.reference].ended
            ours = d.candidate == STEP
            style: dict[str, Any] = {"color": COLOURS.get(d.candidate), "label": _until(report, d)}
            few = {"marker": "o", "ms": 3} if len(x) < 2 * ELEMENTS * ELEMENTS else {}
            axes.plot(
                x,
                np.where(y > 0, y, np.nan),
                lw=1.4 if ours else 0.9,
                zorder=3 if ours else 2,
                **style,
                **few,
            )
            if ended:
                axes.axvline(x[-1], color=COLOURS.get(d.candidate), lw=0.8, ls=(0, (1, 2)))
        axes.axhline(report.tolerance, color="#b42318", lw=1, ls=(0, (4, 3)), label="tolerance")
        axes.set_xlim(-0.02 * report.steps, 1.02 * report.steps)  # all that was asked for, compared or not
        axes.set_yscale("log")
        axes.set_xlabel("step")
        axes.set_ylabel("largest |difference|")
        _legend_above(figure, axes)
        return _data_uri(figure)


def _until(report: Findings, d: Difference) -> str:
    """A curve's name, and where it ends and why, where that is before the last step."""
    shorter = min((report.traces[name] for name in (d.candidate, d.reference)), key=lambda trace: trace.reached)
    if not shorter.ended:
        return d.candidate
    whose = "" if shorter.name == d.candidate else f" of {shorter.name}"
    return f"{d.candidate}, to step {shorter.reached - 1}: {printable(shorter.ended)}{whose}"


def overlay_plot(report: Findings) -> str:
    """Our output over the reference's: the elements of the first float output that move most."""
    ours = report.traces[STEP]
    reference = report.traces[report.reference] if report.reference is not None else ours
    name = next((n for n, v in ours.values.items() if v.dtype.kind == "f" and len(v) > 1), None)
    if name is None or name not in reference.values:
        return ""
    end = min(int(ours.steps[name][-1]), int(reference.steps[name][-1])) + 1  # the last step that both have
    first = max(0, end - LAST_STEPS)
    a, b = (t.values[name].reshape(len(t.values[name]), -1) for t in (ours, reference))
    spread = np.std(np.nan_to_num(a.astype(np.float64), posinf=0, neginf=0), axis=0)
    chosen = np.sort(np.argsort(spread)[::-1][:ELEMENTS])
    with mpl.rc_context(STYLE):
        figure, axes = _figure(1.2 + 1.1 * len(chosen), rows=len(chosen))
        for ax, element in zip(axes.flat if isinstance(axes, np.ndarray) else [axes], chosen, strict=True):
            kept = reference.steps[name] >= first
            marker = "o" if kept.sum() < LAST_STEPS // 4 else None
            ax.plot(
                reference.steps[name][kept],
                b[kept, element],
                color="#f59e0b",
                lw=4,
                alpha=0.45,
                marker=marker,
                label=report.reference,
            )
            ax.plot(ours.steps[name][first:end], a[first:end, element], color=OURS, lw=1, label=STEP)
            index = np.unravel_index(int(element), ours.values[name].shape[1:])
            ax.set_ylabel(f"{printable(name)}{[int(i) for i in index]}", fontsize=8, parse_math=False)
        ax.set_xlabel("step")
        _legend_above(figure, ax)
        return _data_uri(figure)


def latency_plot(report: Findings) -> str:
    """Histograms of the times of single calls, on a log scale of time."""
    if not report.latency:
        return ""
    samples = [np.maximum(t.samples_us, 1e-3) for t in report.latency]
    low, high = min(s.min() for s in samples), max(np.percentile(s, 99.5) for s in samples)
    bins = np.geomspace(low * 0.9, high * 1.1, BINS)
    with mpl.rc_context(STYLE):
        figure, axes = _figure(2.6)
        for timing, us in zip(report.latency, samples, strict=True):
            colour = COLOURS.get(timing.name, "#6b7280")
            axes.hist(
                us,
                bins=bins,
                color=colour,
                alpha=0.75,
                label=f"{timing.name}, median {timing.median_us:.2f} µs",
            )
            axes.axvline(timing.median_us, color=colour, lw=1, ls=(0, (4, 3)))
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda us, _: f"{us:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_xlabel("µs for one call")
        axes.set_ylabel("calls")
        _legend_above(figure, axes)
        return _data_uri(figure)


def _figure(height: float, rows: int = 1) -> tuple[Figure, Any]:
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    return figure, figure.subplots(rows, sharex=True)


def _legend_above(figure: Figure, axes: Axes) -> None:
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper left", ncols=6, fontsize=8.5)


def thinned(x: NDArray[np.int64], y: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """At most POINTS points: the largest value of each group of neighbours."""
    if len(x) <= POINTS:
        return x, y
    starts = np.linspace(0, len(x), POINTS, endpoint=False).astype(int)
    return x[starts], np.maximum.reduceat(y, starts)


def _data_uri(figure: Figure) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    return "data:image/svg+xml;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
