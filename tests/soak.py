"""Two long runs of a small GRU. Memory stays flat in both.

In the first, one stream steps on and on; every so often its state goes through a file into another process, on another
instruction set. The last outputs and the state equal those of a run without this. In the second, as many steps are made
by streams that come to a pool of several threads, change their slots and go; each ends in the state of a stream alone.

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
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

import streamgru
from streamgru._threads import processors
from streamgru_export.compiler.compile import compile

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "build" / "soak"
BLOCK, RELAYS = 1000, 9  # frames of a run; processes that the long stream goes through
GROWTH = 4 << 20  # bytes that a process may grow by after its first block: the allocator's own
SEATS = 40  # slots of the pool
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


class Reader:
    """A stream that came to the pool: the frames it reads, how many it has read, and its seat."""

    def __init__(self, number: int, seat: int, length: int) -> None:
        self.number, self.seat, self.at = number, seat, 0
        self.x = frames(number, (1, I))[:length]


def crowd(steps: int) -> None:
    """Streams of up to a block each in a pool; any of those present take part in a step."""
    model, r, threads = streamgru.load(FOLDER / "gru.sgru"), np.random.default_rng(1), min(2, processors())
    pool = model.pool(SEATS, threads=threads)
    present: list[Reader] = []
    made = came = gone = moved = after_first = 0
    while made < steps:
        while len(present) < SEATS and r.random() < 0.5:
            present.append(Reader(came, pool.open(), int(r.integers(1, BLOCK))))
            came += 1
        taking_part = [present[i] for i in r.permutation(len(present))[: r.integers(1, SEATS)]]
        if not taking_part:
            continue
        if r.random() < 0.01:
            reader = taking_part[0]
            saved = pool.save(reader.seat)
            pool.close(reader.seat)
            reader.seat = pool.open()
            pool.restore(reader.seat, saved)
            moved += 1
        pool.step([reader.seat for reader in taking_part], np.stack([reader.x[reader.at] for reader in taking_part]))
        made += len(taking_part)
        for reader in taking_part:
            reader.at += 1
            if reader.at < len(reader.x):
                continue
            alone = model.stream()
            alone.run(reader.x)
            if alone.save() != pool.save(reader.seat):
                sys.exit(f"stream {reader.number} ends in another state than alone")
            pool.close(reader.seat)
            present.remove(reader)
            gone += 1
        if gone >= SEATS and not after_first:
            after_first = memory()
    answer = {"made": made, "gone": gone, "moved": moved, "threads": threads, "grown": memory() - after_first}
    print(json.dumps(answer))


def child(*arguments: object, isa: str = "") -> dict[str, Any]:
    """What this program prints as a process of its own."""
    command = [sys.executable, __file__, *map(str, arguments)]
    environment = os.environ | ({"STREAMGRU_ISA": isa} if isa else {})
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return dict(json.loads(done.stdout))


def main() -> int:
    if sys.argv[1:2] == ["relay"]:
        relay(int(sys.argv[2]), int(sys.argv[3]))
        return 0
    if sys.argv[1:2] == ["crowd"]:
        crowd(int(sys.argv[2]))
        return 0
    blocks = max(RELAYS, int(sys.argv[1] if len(sys.argv) > 1 else 10_000_000) // BLOCK)
    FOLDER.mkdir(parents=True, exist_ok=True)
    compile(gru(), FOLDER / "gru.sgru")

    isas, began = streamgru.available_isas(), time.monotonic()
    ends = [blocks * i // RELAYS for i in range(RELAYS + 1)]
    answers = [child("relay", *ends[i : i + 2], isa=isas[i % len(isas)]) for i in range(RELAYS)]
    through = (FOLDER / "state").read_bytes()
    stream = streamgru.load(FOLDER / "gru.sgru").stream()
    y = np.empty(0)
    for at in range(blocks):
        y = stream.run(frames(at, stream.model.inputs[0].shape))
    same = y[-1].tobytes().hex() == answers[-1]["last"] and stream.save() == through
    relays_grown = max(answer["grown"] for answer in answers)
    print(f"{blocks * BLOCK} steps through {RELAYS} processes on {', '.join(isas)}, then again in one: ", end="")
    print(f"{'the same bits' if same else 'OTHER BITS'}; memory grew by {relays_grown >> 10} KB at most; ", end="")
    print(f"{time.monotonic() - began:.0f} s", flush=True)

    began = time.monotonic()
    pool = child("crowd", blocks * BLOCK)
    print(
        f"{pool['made']} steps in a pool of {SEATS} slots, {pool['threads']} threads: {pool['gone']} streams came ",
        end="",
    )
    print(f"and went, {pool['moved']} changed slots, each ended as one alone; ", end="")
    print(f"memory grew by {pool['grown'] >> 10} KB; {time.monotonic() - began:.0f} s")
    return 0 if same and max(relays_grown, pool["grown"]) < GROWTH else 1


if __name__ == "__main__":
    sys.exit(main())
