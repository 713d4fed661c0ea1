"""The figures of a run of the suite as tables, and its goals beside what was reached."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import numpy as np

import serving
from streamgru.model import Weights

Group = dict[str, Any]
Row = dict[str, Any]


def row(group: Group, name: str) -> Row | None:
    """The subject of that name, or the fastest that fits a pattern."""
    fitting = [r for r in group["rows"] if fnmatchcase(r["name"], name)]
    return min(fitting, key=lambda r: float(r["median_us"]), default=None)


def ratio(group: Group, a: str, b: str) -> float | None:
    """How many times as long `a` takes as `b`: the median of the rounds' ratios."""
    above, below = row(group, a), row(group, b)
    if above is None or below is None:
        return None
    return float(np.median(np.divide(above["rounds_us"], below["rounds_us"])))


@dataclass(frozen=True)
class Table:
    """A line for each net: medians of subjects in µs, and ratios of two."""

    title: str
    mode: str
    columns: tuple[tuple[str, str] | tuple[str, str, str], ...]
    # (heading, subject) or (heading, subject, over subject)

    def text(self, groups: list[Group]) -> str:
        heading = ["", *(column[0] for column in self.columns)]
        groups = [group for group in groups if group["mode"] == self.mode]
        lines = [[group["net"], *(_cell(group, *column[1:]) for column in self.columns)] for group in groups]
        return _aligned(self.title, heading, lines)


TABLES = [
    Table(
        "One step, in C: µs, and over the time of reading the weights",
        "one step",
        (
            ("f32", "C f32"),
            ("reading", "reading f32"),
            ("over it", "C f32", "reading f32"),
            ("f16", "C f16"),
            ("i8", "C i8"),
            ("reading i8", "reading i8"),
            ("over it", "C i8", "reading i8"),
            ("f32/i8", "C f32", "C i8"),
            ("RTNeural", "RTNeural*"),
            ("/f32", "RTNeural*", "C f32"),
            ("nnet f32", "nnet f32"),
            ("nnet i8", "nnet i8"),
            ("/i8", "nnet i8", "C i8"),
        ),
    ),
    Table(
        "One step, from Python: µs, and onnxruntime's run over it",
        "one step",
        (
            ("step", "step f32"),
            ("in place", "step_inplace f32"),
            ("step i8", "step i8"),
            ("ort", "onnxruntime"),
            ("openvino", "openvino"),
            ("ncnn", "ncnn"),
            ("torch", "torch"),
            ("ort/step", "onnxruntime", "step f32"),
            ("ort/place", "onnxruntime", "step_inplace f32"),
            ("ort/i8", "onnxruntime", "step i8"),
        ),
    ),
    Table(
        "Blocks of 16 frames: µs a frame",
        "block of 16",
        (
            ("f32", "C block f32"),
            ("step/it", "C f32", "C block f32"),
            ("f16", "C block f16"),
            ("i8", "C block i8"),
            ("ort", "onnxruntime"),
            ("openvino", "openvino"),
            ("torch", "torch"),
            ("ort/f32", "onnxruntime", "C block f32"),
        ),
    ),
    *(
        Table(
            f"A pool of {n:,} streams: µs a frame of one stream; the share of the core's peak of multiply-adds",
            f"pool of {n}",
            (
                ("f32", "C pool f32"),
                ("alone/it", "C f32", "C pool f32"),
                ("peak", "multiply-adds", "C pool f32"),
                ("f16", "C pool f16"),
                ("i8", "C pool i8"),
                ("f32, 2 thr", "C pool f32, 2 threads"),
                ("i8, 2 thr", "C pool i8, 2 threads"),
                ("Python", "pool.step f32"),
                ("ort", "onnxruntime"),
                ("openvino", "openvino"),
                ("torch", "torch"),
                ("ort/f32", "onnxruntime", "C pool f32"),
            ),
        )
        for n in (64, 1000)
    ),
    Table(
        "One step on two threads: µs",
        "two threads",
        (
            ("f32", "C f32"),
            ("two", "C f32, 2 threads"),
            ("gain", "C f32", "C f32, 2 threads"),
            ("f16", "C f16"),
            ("two", "C f16, 2 threads"),
            ("i8", "C i8"),
            ("two", "C i8, 2 threads"),
            ("gain", "C i8", "C i8, 2 threads"),
            ("ort", "onnxruntime"),
            ("two", "onnxruntime, 2 threads"),
        ),
    ),
]


@dataclass(frozen=True)
class Goal:
    """What is asked of a net in a mode: of one subject's time over another's, less another's, or alone."""

    nets: tuple[str, ...]
    mode: str
    a: str
    sign: str  # "/" or "-"; "" for a alone
    b: str
    relation: str  # "<=" or ">="
    bound: float

    def reached(self, groups: list[Group]) -> list[tuple[str, float, bool]]:
        """(what, how much, whether that is enough) for each net that was measured."""
        found = []
        for group in groups:
            a, b = row(group, self.a), row(group, self.b)
            if group["net"] not in self.nets or group["mode"] != self.mode or a is None or (self.sign and b is None):
                continue
            value = float(a["median_us"])
            if self.sign == "/":
                value = ratio(group, self.a, self.b) or 0.0
            elif b is not None:
                value = float(np.median(np.subtract(a["rounds_us"], b["rounds_us"])))
            unit = "" if self.sign == "/" else " µs"
            what = f"{group['net']}, {self.mode}: {self.a} {self.sign} {self.b}".rstrip()
            enough = value <= self.bound if self.relation == "<=" else value >= self.bound
            found.append((f"{what} {self.relation} {self.bound:g}{unit}", value, enough))
        return found


def _sizes(*hidden: int) -> tuple[str, ...]:
    return tuple(f"GRU {32 if h == 32 else 64} x {h}" for h in hidden)


STEP, POOL = "one step", "pool of 64"
ALL = _sizes(32, 64, 128, 256, 512, 1024)
GOALS = [
    Goal(_sizes(64), STEP, "C f32", "/", "reading f32", "<=", 1.3),
    Goal(_sizes(128), STEP, "C f32", "/", "reading f32", "<=", 1.2),
    Goal(_sizes(256, 512, 1024), STEP, "C f32", "/", "reading f32", "<=", 1.15),
    Goal(_sizes(64, 128, 256), STEP, "RTNeural*", "/", "C f32", ">=", 1.1),
    Goal(_sizes(128, 256), STEP, "C f32", "/", "C i8", ">=", 2.5),
    Goal(_sizes(512), STEP, "C f32", "/", "C i8", ">=", 12),
    Goal(_sizes(128, 256, 512), STEP, "nnet i8", "/", "C i8", ">=", 1.8),
    Goal(ALL, STEP, "step f32", "-", "C f32", "<=", 0.5),
    Goal(ALL, STEP, "step_inplace f32", "-", "C f32", "<=", 0.2),
    Goal(_sizes(32), STEP, "onnxruntime", "/", "step f32", ">=", 13),
    Goal(_sizes(64), STEP, "onnxruntime", "/", "step f32", ">=", 8.5),
    Goal(_sizes(128), STEP, "onnxruntime", "/", "step f32", ">=", 4.5),
    Goal(_sizes(256), STEP, "onnxruntime", "/", "step f32", ">=", 2.8),
    Goal(_sizes(64), STEP, "onnxruntime", "/", "step_inplace f32", ">=", 11),
    Goal(_sizes(512), STEP, "onnxruntime", "/", "step i8", ">=", 18),
    Goal(("GTCRN",), STEP, "onnxruntime", "/", "step f32", ">=", 6),
    Goal(("RNNoise",), STEP, "onnxruntime", "/", "step f32", ">=", 8),
    Goal(("three GRUs of 64",), STEP, "onnxruntime", "/", "step f32", ">=", 7),
    Goal(("g2p decoder", "g2p decoder, GRUCell"), STEP, "onnxruntime", "/", "step f32", ">=", 3.5),
    Goal(("NKF-AEC",), STEP, "onnxruntime", "/", "step f32", ">=", 2),
    Goal(("NSNet2",), STEP, "onnxruntime", "/", "step f32", ">=", 1.15),
    Goal(("NSNet2",), STEP, "onnxruntime", "/", "step i8", ">=", 4),
    Goal(_sizes(128, 256), POOL, "multiply-adds", "/", "C pool f32", ">=", 0.75),
    Goal(_sizes(512), POOL, "C f32", "/", "C pool f32", ">=", 5),
    # 1,000 streams at 100 steps a second: 2 µs are 20 % of a core
    Goal(_sizes(128), "pool of 1000", "C pool f32", "", "", "<=", 2.0),
    Goal(_sizes(128), "pool of 1000", "C pool i8", "", "", "<=", 1.0),
    Goal(_sizes(512), "two threads", "C f32", "/", "C f32, 2 threads", ">=", 4),
    Goal(("GRU 256 x 256",), "block of 16", "C f32", "/", "C block f32", ">=", 1.3),
]
FORMATS: tuple[Weights, ...] = ("f32", "f16", "i8")
LATENCY = ("C f32", "C i8", "step f32", "onnxruntime")  # the JSON has all


def text(report: dict[str, Any]) -> str:
    """All tables."""
    machine, groups = report["machine"], report["groups"]
    packages = ", ".join(f"{name} {version}" for name, version in machine["packages"].items())
    head = [
        f"{machine['cpu']}, {machine['processors']} processors, load {machine['load']:.1f}, kernels {machine['isa']}; "
        f"{machine['commit']}, {machine['date']}",
        f"{packages}; medians of rounds in turns, one thread where nothing else is said",
    ]
    parts = ["\n".join(head), *(table.text(groups) for table in TABLES)]
    parts += [
        _load(groups),
        _bandwidth(groups),
        _latency(groups, report["quantiles"]),
        _goals(groups),
        _errors(report["errors"]),
    ]
    if "serving" in report:
        parts.append(serving.text(report["serving"]))
    return "\n\n".join(part for part in parts if part)


def _load(groups: list[Group]) -> str:
    lines = []
    for group in groups:
        if group["mode"] == "pool of 1000":
            found = [row(group, f"C pool {weights}") for weights in FORMATS]
            lines.append([group["net"], *(f"{r['median_us'] * 10:.1f} %" if r else "-" for r in found)])
    return _aligned("1,000 streams of 100 steps a second each: share of one core", ["", *FORMATS], lines)


def _bandwidth(groups: list[Group]) -> str:
    lines = []
    for group in groups:
        cells = [group["net"]]
        for weights, size in group["bytes"].items() if group["mode"] == STEP else ():
            reading = row(group, f"reading {weights}")
            cells += [f"{size / 1e3:.0f}", f"{size / reading['median_us'] / 1e3:.0f}" if reading else "-"]
        lines += [cells] if cells[1:] else []
    heading = ["", *(f"{what} {weights}" for weights in FORMATS for what in ("KB", "GB/s"))]
    return _aligned("The weights that a step reads, and how fast this core reads them", heading, lines)


def _latency(groups: list[Group], levels: list[float]) -> str:
    lines = []
    for group in groups:
        for name in LATENCY if group["mode"] == STEP else ():
            if r := row(group, name):
                times = (r["quantiles_us"][levels.index(50)], r["p99_us"], r["p999_us"], r["max_us"])
                lines.append([f"{group['net']}, {name}", *map(_number, times), f"{r['calls']:,}"])
    heading = ["", "p50", "p99", "p99.9", "max", "calls"]
    return _aligned("Single calls: µs, the clock's own 0.03 to 0.05 included", heading, lines)


def _goals(groups: list[Group]) -> str:
    found = [reached for goal in GOALS for reached in goal.reached(groups)]
    lines = [[what, f"{value:.2f}", "" if enough else "missed"] for what, value, enough in found]
    title = f"Goals: {sum(enough for *_, enough in found)} of {len(found)} reached"
    return _aligned(title, ["", "reached", ""], lines)


def _errors(errors: dict[str, dict[str, float]]) -> str:
    names = list(dict.fromkeys(name for peers in errors.values() for name in peers))
    lines = [[net, *(f"{e[name]:.0e}" if name in e else "-" for name in names)] for net, e in errors.items()]
    return _aligned("Largest difference of the peers' answers from ours", ["", *names], lines)


def _cell(group: Group, a: str, b: str = "") -> str:
    if not b:
        found = row(group, a)
        return _number(found["median_us"]) if found else "-"
    value = ratio(group, a, b)
    return "-" if value is None else f"{value:.2f}×"


def _number(value: float) -> str:
    """Three digits."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _aligned(title: str, heading: list[str], lines: list[list[str]]) -> str:
    """Columns of the same width, the first to the left; nothing where there are no lines."""
    if not lines:
        return ""
    widths = [max(map(len, column)) for column in zip(heading, *lines, strict=True)]
    shown = [title]
    for line in (heading, *lines):
        first, *rest = (cell.rjust(width) for cell, width in zip(line, widths, strict=True))
        shown.append("  ".join([first.strip().ljust(widths[0]), *rest]).rstrip())
    return "\n".join(shown)
