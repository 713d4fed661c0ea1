"""A step of a torch GRU at several sizes, from Python: ours beside onnxruntime and torch, in one run.

    python benchmarks/sizes.py [--rounds 30] [--json build/bench/sizes.json]

Each size is exported, verified and compiled first; `streamgru.bench` does the timing, in turns. Not a test: it judges
nothing. The figures of docs/speed.md come from here.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import warnings
from pathlib import Path

import torch
from torch import nn

import streamgru
from streamgru.bench import BenchReport, bench

SIZES = [(32, 32), (64, 64), (64, 128), (64, 256), (64, 512)]  # input, hidden


def measure(inputs: int, hidden: int, rounds: int, folder: Path) -> BenchReport:
    """One size: export a step graph, compile it, time it beside its peers."""
    torch.manual_seed(0)
    module = nn.GRU(inputs, hidden).eval()
    example = (torch.randn(1, 1, inputs), torch.zeros(1, 1, hidden))
    path = folder / f"gru{hidden}.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        streamgru.export(module, example, path, stream="step")
    return bench(path, module=module, example=example, rounds=rounds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--json", type=Path, help="also write the figures here")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    reports = {}
    with tempfile.TemporaryDirectory() as folder:
        for inputs, hidden in SIZES:
            report = measure(inputs, hidden, arguments.rounds, Path(folder))
            reports[f"{inputs}x{hidden}"] = report.to_dict()
            print(f"input {inputs}, H {hidden}")
            print(report.text(), flush=True)
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(reports, indent=2))


if __name__ == "__main__":
    main()
