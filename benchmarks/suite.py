"""The benchmark: every GRU size and every model at hand, in every way of running them, beside the peers that are here.

    python benchmarks/suite.py [--quick] [--rtneural FOLDER] [--nnet FOLDER] [--only TEXT ...]
    python benchmarks/suite.py --again build/bench/suite.json        tables and plots of a run that was

Subjects of a group take turns in one run, round after round, so a busy moment of the machine touches all of them; a
ratio is the median of the rounds' own ratios. Beside them in every round: the time of reading the weights, which is the
limit of a step of one frame, and for pools that of the multiply-adds at the core's peak. Peers that are Python packages
are called from Python, those given as sources from C, as we are; the answer of each is compared with ours first. Not a
test: it tells which goals were missed and ends with 0. Figures go to build/bench/suite.json, tables to the terminal,
plots beside the JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from importlib import import_module, metadata
from pathlib import Path
from typing import Any

import numpy as np

import serving
import streamgru
import tables
from models import FOLDER, Array, Net, gru_name, nets
from ours import BUILD, Ours
from peers import packages, sources
from streamgru._threads import processors
from streamgru_export.bench import Samples, Subject, measure
from streamgru_export.environment import cpu_name
from tables import FORMATS

BLOCK = 16
POOLS = (64, 1000)
MANY = (1, 4, 16, 64, 256, 1000)  # streams, for the plot of throughput
MANY_NETS = (gru_name(64, 128), gru_name(64, 512))
MOST_ROUNDS = 200
SECONDS, QUICK_SECONDS = 6.5, 0.6  # for a group
QUANTILES = (0, 1, 10, 25, 50, 75, 90, 95, 99, 99.5, 99.9, 99.95, 99.99, 100)  # of single calls, percent
TOLERANCE = 1e-5  # of a peer's answer in float32


class Suite:
    """One run: the peers that are here, and what was found."""

    def __init__(self, seconds: float, rtneural: Path | None, nnet: Path | None) -> None:
        self.seconds = seconds
        self.machine = _machine()
        self.skipped: dict[str, str] = {}
        self.errors: dict[str, dict[str, float]] = {}  # of the peers' answers, by net
        self.groups: list[dict[str, Any]] = []
        self.libraries: list[tuple[str, Path]] = []
        for name, folder, compiled in (("RTNeural", rtneural, sources.rtneural), ("nnet", nnet, sources.nnet)):
            if folder is None:
                self.skip(name, f"no source folder given (--{name.lower()})")
                continue
            try:
                self.libraries += compiled(folder)
            except subprocess.CalledProcessError as error:
                self.skip(name, f"does not compile: {error.stderr.strip().splitlines()[0]}")

    def skip(self, peer: str, why: str) -> None:
        if peer not in self.skipped:
            self.skipped[peer] = why
            print(f"skipped: {peer}: {why}", flush=True)

    def measure(self, net: Net) -> None:
        """All groups of a net."""
        ours: dict[str, Ours] = {weights: Ours(net, weights) for weights in FORMATS}
        for mode, subjects in self._groups(net, ours):
            start = time.monotonic()
            samples = measure(list(subjects), MOST_ROUNDS, self.seconds)
            size = {"inputs": net.layer.inputs, "hidden": net.layer.hidden} if net.layer else {}
            group = {
                "net": net.name,
                "mode": mode,
                **size,
                "bytes": {weights: model.bytes for weights, model in ours.items()},
                "rows": [_row(s) for s in samples],
            }
            self.groups.append(group)
            print(f"{net.name}, {mode}: {time.monotonic() - start:.1f} s", file=sys.stderr, flush=True)

    def _groups(self, net: Net, ours: dict[str, Ours]) -> Iterator[tuple[str, Iterator[Subject]]]:
        yield "one step", self._one_step(net, ours)
        if processors() > 1:
            yield "two threads", self._two_threads(net, ours)
        else:
            self.skip("two threads", "this process may use one processor")
        yield f"block of {BLOCK}", self._block(net, ours)
        for n in POOLS:
            yield f"pool of {n}", self._pool(net, ours, n)
        if net.name in MANY_NETS:
            yield "many streams", self._many(net, ours)

    def _one_step(self, net: Net, ours: dict[str, Ours]) -> Iterator[Subject]:
        yield from (model.reading() for model in ours.values())
        yield from (model.step() for model in ours.values())
        yield from (model.python_step() for model in ours.values())
        yield from (ours[weights].python_inplace() for weights in ("f32", "i8"))
        feeds, answer = _second_step(net, ours["f32"])
        yield from self._package("onnxruntime", net, lambda: packages.onnxruntime(net.path, feeds), answer)
        yield from self._package("openvino", net, lambda: packages.openvino(net.path, feeds), answer)
        if (layer := net.layer) is None:
            return
        yield from self._package("torch", net, lambda: packages.torch(layer, feeds), answer)
        yield from self._package("ncnn", net, lambda: packages.ncnn(layer, feeds), answer)
        for name, library in self.libraries:
            if found := sources.subject(name, library, layer, feeds["x"]):
                subject, y = found
                subject.call()
                subject.call()
                self._compare(name, net, y, answer)
                yield subject

    def _two_threads(self, net: Net, ours: dict[str, Ours]) -> Iterator[Subject]:
        for model in ours.values():
            yield from (model.step(), model.step(threads=2))
        feeds = net.feeds()
        yield from self._package("onnxruntime", net, lambda: packages.onnxruntime(net.path, feeds))
        for subject in self._package("onnxruntime", net, lambda: packages.onnxruntime(net.path, feeds, threads=2)):
            yield _Resting("onnxruntime, 2 threads", subject.call)

    def _block(self, net: Net, ours: dict[str, Ours]) -> Iterator[Subject]:
        yield ours["f32"].step()
        yield from (model.block(BLOCK) for model in ours.values())
        yield from self._whole(net, BLOCK, 1)

    def _pool(self, net: Net, ours: dict[str, Ours], n: int) -> Iterator[Subject]:
        yield ours["f32"].step()
        if peak := ours["f32"].peak():
            yield peak
        for model in ours.values():
            yield model.pool(n)
            if processors() > 1:
                yield model.pool(n, threads=2)
        yield ours["f32"].python_pool(n)
        yield from self._whole(net, 1, n)

    def _many(self, net: Net, ours: dict[str, Ours]) -> Iterator[Subject]:
        if peak := ours["f32"].peak():
            yield peak
        for n in MANY:
            yield from (ours[weights].pool(n, name=f"C pool {weights}, {n}") for weights in ("f32", "i8"))
            make = partial(packages.onnxruntime, net.path, net.feeds(1, n))
            for subject in self._package("onnxruntime", net, make, frames=n):
                yield replace(subject, name=f"onnxruntime, {n}")

    def _whole(self, net: Net, frames: int, sequences: int) -> Iterator[Subject]:
        """Peers over many frames or sequences in one call; whole models are graphs of one step."""
        if (layer := net.layer) is None:
            return
        feeds = net.feeds(frames, sequences)
        calls: dict[str, Callable[[], packages.Call]] = {
            "onnxruntime": lambda: packages.onnxruntime(net.path, feeds),
            "openvino": lambda: packages.openvino(net.path, feeds),
            "torch": lambda: packages.torch(layer, feeds),
        }
        for name, make in calls.items():
            yield from self._package(name, net, make, frames=frames * sequences)

    def _package(
        self, name: str, net: Net, make: Callable[[], packages.Call], answer: Array | None = None, frames: int = 1
    ) -> Iterator[Subject]:
        """A peer that is a Python package: one subject, or none."""
        try:
            call = make()
        except ImportError:
            self.skip(name, f"not installed: pip install {name}")
            return
        except Exception as error:  # noqa: BLE001  whatever a peer raises, the others go on
            self.skip(f"{name}, {net.name}", f"{type(error).__name__}: {str(error).strip().splitlines()[0]:.100}")
            return
        if answer is not None:
            self._compare(name, net, np.asarray(call()[0]), answer)
        yield Subject(name, call, frames)

    def _compare(self, name: str, net: Net, y: Array, answer: Array) -> None:
        """Note how far a peer is from us; say so where it did not compute the same."""
        error = float(np.abs(y.ravel() - answer.ravel()).max())
        self.errors.setdefault(net.name, {})[name] = error
        if error > TOLERANCE and not name.startswith("nnet"):
            print(f"note: {name} differs from us by {error:.1e} on {net.name}", flush=True)

    def report(self) -> dict[str, Any]:
        return {
            "machine": self.machine,
            "seconds": self.seconds,
            "skipped": self.skipped,
            "errors": self.errors,
            "quantiles": list(QUANTILES),
            "groups": self.groups,
        }


class _Resting(Subject):
    """Sleeps when done: its threads look out for work a while, and would take a core from the next one."""

    REST = 0.005  # seconds

    def loop(self, calls: int) -> float:
        mean = super().loop(calls)
        time.sleep(self.REST)
        return mean


def _second_step(net: Net, ours: Ours) -> tuple[dict[str, Array], Array]:
    """A GRU's inputs for its second step on the same frame, and our answer; of another net, for its first."""
    feeds = net.feeds()
    with ours.model.stream() as stream:
        if not net.layer:
            stream.set_state({s.name: feeds[s.source[0]].reshape(s.shape) for s in ours.model.states if s.source})
        y = stream.step(ours.x)
        if net.layer:
            feeds["h0"] = y.reshape(feeds["h0"].shape).copy()
            y = stream.step(ours.x)
    return feeds, y if isinstance(y, np.ndarray) else next(iter(y.values()))


def _row(samples: Samples) -> dict[str, Any]:
    timing = samples.timing(samples)
    return {
        "name": samples.name,
        "median_us": timing.median_us,
        "low_us": timing.low_us,
        "high_us": timing.high_us,
        "p99_us": timing.p99_us,
        "p999_us": timing.p999_us,
        "max_us": timing.max_us,
        "calls": len(samples.calls),
        "quantiles_us": [float(f"{q / 1e3:.4g}") for q in np.percentile(samples.calls, QUANTILES)],
        "rounds_us": [float(f"{mean / 1e3:.5g}") for mean in samples.means],
    }


def _machine() -> dict[str, Any]:
    """What the run is measured on, as it stands before it."""
    root = Path(__file__).parents[1]
    git = subprocess.run(
        ["git", "-C", root, "describe", "--always", "--dirty"], capture_output=True, text=True, check=False
    )
    found = {}
    for name in ("numpy", "onnxruntime", "openvino", "torch", "ncnn"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return {
        "cpu": cpu_name(),
        "processors": processors(),
        "load": os.getloadavg()[0],
        "isa": streamgru.isa(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "commit": git.stdout.strip(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "packages": found,
    }


def show(report: dict[str, Any], folder: Path) -> None:
    """Tables to the terminal, plots into the folder where matplotlib is installed."""
    print(tables.text(report))
    try:
        plots = import_module("plots")
    except ImportError:
        print("skipped: plots: matplotlib is not installed")
    else:
        print("\n" + "\n".join(f"wrote {path}" for path in plots.draw(report, folder)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="two minutes instead of ten")
    parser.add_argument("--seconds", type=float, help=f"for each group (default {SECONDS}, quick {QUICK_SECONDS})")
    parser.add_argument("--only", nargs="+", metavar="TEXT", help="only nets whose name holds one of these")
    parser.add_argument("--models", type=Path, default=FOLDER, help="the folder of the shared models")
    parser.add_argument("--rtneural", type=Path, metavar="FOLDER", help="RTNeural's source")
    parser.add_argument("--nnet", type=Path, metavar="FOLDER", help="RNNoise's source, which holds nnet.c")
    parser.add_argument("--out", type=Path, default=BUILD, metavar="FOLDER", help="where JSON and plots go")
    parser.add_argument("--again", type=Path, metavar="JSON", help="measure nothing, show this run")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    if arguments.again:
        return show(json.loads(arguments.again.read_text()), arguments.out)
    seconds = arguments.seconds or (QUICK_SECONDS if arguments.quick else SECONDS)
    suite = Suite(seconds, arguments.rtneural, arguments.nnet)
    with tempfile.TemporaryDirectory() as folder:
        for net in nets(Path(folder), arguments.models):
            if not arguments.only or any(text in net.name for text in arguments.only):
                suite.measure(net)
        report = suite.report() | {"serving": serving.measure(Path(folder), seconds)}
    (arguments.out / "suite.json").write_text(json.dumps(report))
    return show(report, arguments.out)


if __name__ == "__main__":
    main()
