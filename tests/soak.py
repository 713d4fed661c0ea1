"""A long run: a small GRU steps on and on; every so often its state goes through a file into another process, on
another instruction set. Memory stays flat, and the last outputs and the state equal those of a run without this.

    python tests/soak.py [STEPS]        10,000,000 by default
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

import streamgru
from streamgru_export.compiler import compile

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "build" / "soak"
BLOCK, RELAYS = 1000, 9  # frames of a run; processes that the long stream goes through
GROWTH = 4 << 20  # bytes that a process may grow by after its first block: the allocator's own
I, H = 8, 16  # noqa: E741 - sizes of input and state


def gru() -> onnx.ModelProto:
    r = np.random.default_rng(7)
    weights = {"W": (1, 3 * H, I), "R": (1, 3 * H, H), "B": (1, 6 * H)}
    constants = [numpy_helper.from_array(r.uniform(-0.5, 0.5, s).astype(np.float32), k) for k, s in weights.items()]
    node = helper.make_node("GRU", ["x", "W", "R", "B"], ["y"], name="gru", hidden_size=H, linear_before_reset=1)
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["T", 1, I])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["T", 1, 1, H])
    graph = helper.make_graph([node], "soak", [x], [y], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def frames(at: int, shape: tuple[int, ...]) -> np.ndarray:
    """Block number `at`, the same in every process."""
    return np.random.default_rng(at).uniform(-2, 2, (BLOCK, *shape)).astype(np.float32)


def memory() -> int:
    """Bytes of this process that are in memory now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def relay(first: int, last: int) -> None:
    """Blocks `first` to `last`, from the state in the file and back into it."""
    stream = streamgru.load(FOLDER / "gru.sgru").stream()
    state = FOLDER / "state"
    if first:
        stream.restore(state.read_bytes())
    y, after_first, shape = None, 0, stream.model.inputs[0].shape
    for at in range(first, last):
        y = stream.run(frames(at, shape))
        after_first = after_first or memory()
        if at % 100 == 0:  # and once through its own memory
            saved = stream.save()
            stream.reset()
            stream.restore(saved)
    state.write_bytes(stream.save())
    grown = memory() - after_first
    assert y is not None
    print(json.dumps({"isa": streamgru.isa(), "grown": grown, "last": y[-1].tobytes().hex()}))


def main() -> int:
    if len(sys.argv) > 2:
        relay(int(sys.argv[2]), int(sys.argv[3]))
        return 0
    blocks = max(RELAYS, int(sys.argv[1] if len(sys.argv) > 1 else 10_000_000) // BLOCK)
    FOLDER.mkdir(parents=True, exist_ok=True)
    compile(gru(), FOLDER / "gru.sgru")
    isas, began, grown, last = streamgru.available_isas(), time.monotonic(), 0, ""
    for i in range(RELAYS):
        span = [blocks * i // RELAYS, blocks * (i + 1) // RELAYS]
        command = [sys.executable, __file__, "relay", *map(str, span)]
        done = subprocess.run(
            command, env=os.environ | {"STREAMGRU_ISA": isas[i % len(isas)]}, capture_output=True, text=True, check=True
        )
        answer = json.loads(done.stdout)
        grown, last = max(grown, answer["grown"]), answer["last"]
    through = (FOLDER / "state").read_bytes()
    stream = streamgru.load(FOLDER / "gru.sgru").stream()
    y = None
    for at in range(blocks):
        y = stream.run(frames(at, stream.model.inputs[0].shape))
    assert y is not None
    same = y[-1].tobytes().hex() == last and stream.save() == through
    print(f"{blocks * BLOCK} steps through {RELAYS} processes on {', '.join(isas)}, then again in one: ", end="")
    print(f"{'the same bits' if same else 'OTHER BITS'}; memory grew by {grown >> 10} KB at most; ", end="")
    print(f"{time.monotonic() - began:.0f} s")
    return 0 if same and grown < GROWTH else 1


if __name__ == "__main__":
    sys.exit(main())
