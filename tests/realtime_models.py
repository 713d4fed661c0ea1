"""Compiles the models of `make realtime` into a folder: the real ones, where they are, and each cell of the zoo.

python tests/realtime_models.py FOLDER
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch

import streamgru
import streamgru_export
from real_models import MODELS
from streamgru.errors import StreamgruError
from streamgru_export.compiler.compile import compile
from streamgru_export.zoo import CELLS, CellNet, StackedGRU


def main() -> None:
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(20261121)
    torch.set_num_threads(1)
    nets = {name: CellNet([cell(5, 16)], 3) for name, cell in CELLS.items()} | {"stacked": StackedGRU(5)}
    for name, net in nets.items():
        path = folder / f"zoo-{name}.onnx"
        if path.with_suffix(".sgru").exists():
            continue
        net.eval()
        is_step = isinstance(net, CellNet)
        example = (torch.randn(1, 5), net.initial_state()) if is_step else torch.randn(1, 7, 5)
        streamgru_export.export(net, example, path, stream="step" if is_step else "sequence", exporter="legacy")
        compile(path, path.with_suffix(".sgru"))
    for path in sorted(MODELS.rglob("*.onnx")):
        try:
            streamgru.load(path).save(folder / f"{path.stem}.sgru")
        except StreamgruError as error:  # an encoder that looks into the future is no stream
            print(f"{path.name} does not stream: {error}")


if __name__ == "__main__":
    main()
