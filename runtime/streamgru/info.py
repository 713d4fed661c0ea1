"""What `streamgru info` tells: what a model takes and keeps, what its nodes became, where the time and the bytes go,
and what keeps it from streaming."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from ._isa import isa
from ._printable import printable
from ._types import Json
from .errors import CannotStreamError, ModelError
from .model import load
from .notes import notes_of
from .profile import profile
from .tensors import TensorInfo

FRAMES = 16  # of a model that runs whole, for its figures
ABOUT = ("sample_rate", "labels", "normalisation", "meta")
MOST_TEXT = 100  # of one of them
MOST_BOUND = 8  # numbers of a bound input


def describe(path: Path) -> Json:
    """Everything about the model at `path`, as plain data.

    Raises
    ------
    ModelError, ImageError
        The file cannot be read, or it can neither stream nor run whole.
    """
    refusals: list[str] = []
    try:
        model = load(path)
    except ModelError as error:
        if path.suffix == ".sgru":
            raise
        obstacles = error.obstacles if isinstance(error, CannotStreamError) else ()
        refusals = list(map(str, obstacles)) or [str(error)]
        try:
            model = load(path, mode="whole", length=FRAMES)
        except ModelError:
            if not obstacles:
                raise
            known = {"ok": True, "model": str(path), "isa": isa(), "weights": "f32"}
            return {**known, "streams": False, "refusals": refusals}
    about = model.metadata
    kinds = profile(model)
    return {
        "ok": True,
        "model": str(path),
        "isa": isa(),
        "weights": about.get("weights", "f32"),
        "kind": about.get("kind"),
        "streams": about.get("kind") != "whole",
        "refusals": refusals,
        "frames": FRAMES if about.get("kind") == "whole" and refusals else 1,
        **{name: [_tensor(t) for t in getattr(model, name)] for name in ("inputs", "outputs", "states")},
        "lengths": list(model.lengths.inputs),
        "bound": about.get("bound") or {},
        "nodes": about.get("nodes") or {},
        "notes": [note.as_json() for note in notes_of(about)],
        "about": {key: about[key] for key in ABOUT if about.get(key) is not None},
        "operators": [asdict(kind) for kind in kinds],
        "ops": model.ops,
        "step_ns": sum(kind.ns for kind in kinds),
        "bytes": {**model.sizes, "weights": sum(kind.weights for kind in kinds)},
    }


def _tensor(t: TensorInfo) -> Json:
    more = {"replaces": list(t.source)} if t.source else {}
    return {"name": t.name, "shape": list(t.shape), "dtype": np.dtype(t.dtype).name, "time_axis": t.time_axis, **more}


def text(data: Json) -> str:
    """The same for people."""
    parts = [[f"{data['model']}, {data['weights']} weights, kernels {data['isa']}"]]
    if not data["streams"]:
        why = [f"  {reason}" for reason in data["refusals"]]
        parts.append(["It does not stream, it runs whole sequences:" if why else "It was compiled to run whole.", *why])
    if "operators" in data:
        parts += [
            _ports(data),
            _about(data["about"]),
            _nodes(data["nodes"]),
            list(map(str, notes_of(data))),
            _times(data),
            _bytes(data["bytes"]),
        ]
    return "\n\n".join("\n".join(part) for part in parts if part)


def _ports(data: Json) -> list[str]:
    lines = []
    for kind in ("inputs", "outputs", "states"):
        for t in data[kind]:
            is_length = kind == "inputs" and t["name"] in data["lengths"]
            length = (", a length: 1 in a step" if data["streams"] else ", a length") if is_length else ""
            time = f", time axis {t['time_axis']} left out" if t["time_axis"] is not None else ""
            pair = (
                " instead of input '{}' and output '{}'".format(*map(printable, t["replaces"]))
                if "replaces" in t
                else ""
            )
            lines.append(f"{kind[:-1]:<8} {printable(t['name']):<24} {t['dtype']:<8} {t['shape']}{time}{length}{pair}")
    for name, b in data["bound"].items():
        value = str(b["values"][:MOST_BOUND])
        lines.append(f"{'bound':<8} {printable(name):<24} {b['dtype']:<8} {b['shape']} is always {value}")
    return lines


def _about(about: Json) -> list[str]:
    """What the export was told of the model."""
    texts = {key.replace("_", " "): json.dumps(value, ensure_ascii=False) for key, value in about.items()}
    return [f"{key:<13} {text if len(text) <= MOST_TEXT else text[:MOST_TEXT] + '...'}" for key, text in texts.items()]


def _nodes(nodes: Any) -> list[str]:
    if not isinstance(nodes, dict) or not nodes:
        return []
    rows = [(kind, sum(became.values()), became) for kind, became in nodes.items()]
    lines = [f"{sum(count for _, count, _ in rows)} nodes in the file, and what they became"]
    for kind, count, became in sorted(rows, key=lambda row: (-row[1], row[0])):
        fates = ", ".join(f"{n} {fate}" for fate, n in sorted(became.items(), key=lambda item: -item[1]))
        lines.append(f"  {printable(kind):<22}{count:>5}  {fates}")
    return lines


def _times(data: Json) -> list[str]:
    frame = "a frame" if data["frames"] == 1 else f"{data['frames']} frames at once"
    lines = [
        f"operators in {frame}: {data['step_ns'] / 1e3:.2f} µs, {data['ops']:,} operations per step",
        f"  {'':<18}{'count':>6}{'µs':>10}{'share':>8}{'weights, bytes':>16}",
    ]
    for k in data["operators"]:
        lines.append(
            f"  {k['code']:<18}{k['count']:>6}{k['ns'] / 1e3:>10.2f}{k['share'] * 100:>7.1f}%{k['weights']:>16,}"
        )
    return lines


def _bytes(sizes: dict[str, int]) -> list[str]:
    return [
        f"bytes: image {sizes['image']:,}, of which weights {sizes['weights']:,}; a stream {sizes['stream']:,}: "
        f"arena {sizes['arena']:,}, state {sizes['state']:,}, scratch {sizes['scratch']:,};",
        f"       each slot of a pool {sizes['slot']:,}",
    ]
