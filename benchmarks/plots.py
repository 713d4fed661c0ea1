"""The plots of a run of the suite: time over the hidden size, throughput over the number of streams, latency."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tables import Group, row

STYLE: Any = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.grid.which": "major",
    "grid.color": "#eceff4",
    "axes.axisbelow": True,
    "legend.frameon": False,
}
CURVES = {  # subject -> colour and line
    "C f32": ("#1d4ed8", "o-"),
    "C f16": ("#7c3aed", "o-"),
    "C i8": ("#0f766e", "o-"),
    "step f32": ("#60a5fa", "s-"),
    "step_inplace f32": ("#93c5fd", "s-"),
    "RTNeural*": ("#e05d00", "^-"),
    "nnet i8": ("#b45309", "^-"),
    "onnxruntime": ("#b91c1c", "D-"),
    "openvino": ("#be185d", "D-"),
    "ncnn": ("#78716c", "D-"),
    "torch": ("#111827", "D-"),
    "reading f32": ("#1d4ed8", ":"),
    "reading i8": ("#0f766e", ":"),
}
CALLS = ("C f32", "step_inplace f32", "step f32", "onnxruntime", "openvino", "ncnn", "torch")
LATENCY_NET = "GRU 64 x 128"
INPUTS = 64  # of the sizes in one curve


def draw(report: dict[str, Any], folder: Path) -> list[Path]:
    """Write the plots for which there are figures, and say which."""
    groups: list[Group] = report["groups"]
    cpu = report["machine"]["cpu"]
    with mpl.rc_context(STYLE):
        figures = {
            "time_over_hidden_size.png": _sizes(groups, cpu),
            "throughput_over_streams.png": _streams(groups, cpu),
            "latency.png": _latency(groups, report["quantiles"], cpu),
        }
        for name, figure in figures.items():
            if figure:
                figure.savefig(folder / name, dpi=150)
    return [folder / name for name, figure in figures.items() if figure]


def _sizes(groups: list[Group], cpu: str) -> Figure | None:
    groups = [g for g in groups if g["mode"] == "one step" and (g.get("inputs") == INPUTS or g.get("hidden") == 32)]
    if not groups:
        return None
    figure, axes = _figure(f"One step of a GRU, {cpu}, one thread", "hidden size", "µs")
    for name, (colour, line) in CURVES.items():
        points = [(g["hidden"], r["median_us"], r["low_us"], r["high_us"]) for g in groups if (r := row(g, name))]
        if not points:
            continue
        hidden, median, low, high = zip(*points, strict=True)
        label = f"limit: {name}" if line == ":" else name.rstrip("*")
        axes.plot(hidden, median, line, color=colour, label=label, markersize=3.5, linewidth=1.4)
        axes.fill_between(hidden, low, high, color=colour, alpha=0.15, linewidth=0)
    _ticks(axes, sorted({g["hidden"] for g in groups}))
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def _streams(groups: list[Group], cpu: str) -> Figure | None:
    groups = [g for g in groups if g["mode"] == "many streams"]
    if not groups:
        return None
    figure, axes = _figure(
        f"Many streams of a GRU, {cpu}, one thread", "streams in one call", "million frames a second"
    )
    kinds = {"C pool f32": "-", "C pool i8": "--", "onnxruntime": ":"}
    counts: set[int] = set()
    for colour, group in zip(("#1d4ed8", "#e05d00", "#0f766e"), groups, strict=False):
        if peak := row(group, "multiply-adds"):
            label = f"H {group['hidden']}, limit: multiply-adds of f32"
            axes.axhline(1 / peak["median_us"], linestyle="-.", linewidth=0.8, color=colour, label=label)
        for kind, line in kinds.items():
            named = [(*r["name"].partition(", ")[::2], r["median_us"]) for r in group["rows"]]
            points = sorted((int(n), 1 / us) for name, n, us in named if name == kind)
            if points:
                counts |= {n for n, _ in points}
                label = f"H {group['hidden']}, {kind.removeprefix('C ')}"
                axes.plot(*zip(*points, strict=True), line, marker="o", markersize=3.5, color=colour, label=label)
    _ticks(axes, sorted(counts))
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def _latency(groups: list[Group], levels: Sequence[float], cpu: str) -> Figure | None:
    group = next((g for g in groups if g["mode"] == "one step" and g["net"] == LATENCY_NET), None)
    if group is None:
        return None
    figure, axes = _figure(f"Single calls, {LATENCY_NET}, {cpu}", "µs", "share of calls that take longer")
    for name in CALLS:
        if r := row(group, name):
            times = zip(levels, r["quantiles_us"], strict=True)
            points = [(us, 1 - level / 100) for level, us in times if (1 - level / 100) * r["calls"] > 1]
            points.append((r["max_us"], 1 / r["calls"]))
            axes.plot(*zip(*points, strict=True), CURVES[name][1], color=CURVES[name][0], markersize=2.5, label=name)
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def _figure(title: str, x: str, y: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    axes.set(title=title, xlabel=x, ylabel=y, xscale="log", yscale="log")
    return figure, axes


def _ticks(axes: Axes, values: Sequence[int]) -> None:
    axes.set_xticks(values, [f"{value:,}" for value in values])
    axes.minorticks_off()
