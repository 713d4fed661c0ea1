"""Fuzzes the way of an ONNX file: read, compile, load, step. Each case is a small valid model, altered.

What must hold: a model that streams, or one of streamgru's own errors that blames the model; never another exception or
a FaultError, never more than `SECONDS` or `BYTES`, never a crash. An image that the compiler wrote is one that the core
accepts.

    python tests/fuzz/onnx_models.py [--minutes M] [--seed N] [--keep FOLDER]     makes and tries cases
    python tests/fuzz/onnx_models.py --try FILE...                                tries kept ones again
"""

from __future__ import annotations

import argparse
import faulthandler
import os
import random
import resource
import signal
import sys
import time
import traceback
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

sys.path.insert(0, str(Path(__file__).parents[1]))
from google.protobuf.message import DecodeError, EncodeError, Message
from google.protobuf.text_format import MessageToString

from backend_nodes import all_cases
from streamgru.errors import FaultError, NonFiniteError, StreamgruError
from streamgru.image import MAX_OPS
from streamgru.model import Model
from streamgru_export.compiler.compile import compile
from streamgru_export.compiler.graph.blame import STRICT

SECONDS, BYTES = 20, 6 << 30  # of processor time; of address space, of which libraries and their threads take 2 GB
LARGEST_SEED = 6000
INTEGERS = (0, 1, 2, 3, 5, 7, 16, 255, -1, -2, 2**31 - 1, -(2**31), 2**31, 2**62, -(2**63), 2**63 - 1, 65537)
FLOATS = (0.0, -0.0, 1.0, -1.0, 0.5, float("nan"), float("inf"), float("-inf"), 1e30, 1e-40)
TEXTS = ("", "x", "h", "a" * 300, "\x00", "../x", "/etc/passwd", "é", "forward", "reverse", "bidirectional", "Tanh")
INTEGER_KINDS = {1, 2, 3, 4, 5, 6, 7, 13, 14, 15, 16, 17, 18}  # FieldDescriptor: int64, uint64, int32, enum ...
FLOAT_KINDS = {"double": 1, "float": 2}


class TooLong(BaseException):
    """The time is up. No `except Exception` may swallow it."""


# ---- seeds ----


def recurrent(op: str, gates: int, **attributes: Any) -> onnx.ModelProto:
    """x -> cell -> Squeeze -> Gemm: a sequence graph with a dynamic time axis and an initial state."""
    r = np.random.default_rng(1)
    d = 2 if attributes.get("direction") == "bidirectional" else 1
    shapes = {"W": (d, gates * 4, 3), "R": (d, gates * 4, 4), "B": (d, gates * 8), "V": (4, 2), "axes": None}
    values = {k: r.normal(size=s).astype(np.float32) if s else np.array([1], np.int64) for k, s in shapes.items()}
    nodes = [
        helper.make_node(op, ["x", "W", "R", "B", "", "h0"], ["s", "h"], name="cell", hidden_size=4, **attributes),
        helper.make_node("Squeeze", ["s", "axes"], ["q"], name="squeeze"),
        helper.make_node("MatMul", ["q", "V"], ["y"], name="dense"),
    ]
    return _model(nodes, {"x": ["T", 1, 3], "h0": [d, 1, 4]}, {"y": None, "h": [d, 1, 4]}, values)


def causal() -> onnx.ModelProto:
    """A causal convolution over time, a normalisation and a gate."""
    r = np.random.default_rng(2)
    values = {
        "w": r.normal(size=(4, 3, 3)).astype(np.float32),
        "pads": np.array([0, 0, 2, 0, 0, 0], np.int64),
        "scale": np.ones(4, np.float32),
    }
    nodes = [
        helper.make_node("Pad", ["x", "pads"], ["p"], name="pad"),
        helper.make_node("Conv", ["p", "w"], ["c"], name="conv", kernel_shape=[3]),
        helper.make_node("Transpose", ["c"], ["t"], name="turn", perm=[0, 2, 1]),
        helper.make_node("LayerNormalization", ["t", "scale"], ["n"], name="norm"),
        helper.make_node("Sigmoid", ["n"], ["g"], name="gate"),
        helper.make_node("Mul", ["g", "t"], ["y"], name="mul"),
    ]
    return _model(nodes, {"x": [1, 3, "T"]}, {"y": None}, values)


def cell_by_hand() -> onnx.ModelProto:
    """A step graph with its state outside: h_out = (1 - z) n + z h."""
    r = np.random.default_rng(3)
    values = {k: r.normal(size=(7, 4)).astype(np.float32) for k in ("Wz", "Wn")} | {"one": np.float32(1)}
    nodes = [
        helper.make_node("Concat", ["x", "h_in"], ["xh"], name="join", axis=1),
        helper.make_node("MatMul", ["xh", "Wz"], ["zs"], name="zsum"),
        helper.make_node("Sigmoid", ["zs"], ["z"], name="z"),
        helper.make_node("MatMul", ["xh", "Wn"], ["ns"], name="nsum"),
        helper.make_node("Tanh", ["ns"], ["n"], name="n"),
        helper.make_node("Sub", ["one", "z"], ["u"], name="u"),
        helper.make_node("Mul", ["u", "n"], ["a"], name="a"),
        helper.make_node("Mul", ["z", "h_in"], ["b"], name="b"),
        helper.make_node("Add", ["a", "b"], ["h_out"], name="add"),
    ]
    return _model(nodes, {"x": [1, 3], "h_in": [1, 4]}, {"h_out": [1, 4]}, values)


def _model(nodes: Any, inputs: Any, outputs: Any, constants: Any) -> onnx.ModelProto:
    ins = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in inputs.items()]
    outs = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in outputs.items()]
    graph = helper.make_graph(nodes, "g", ins, outs, [numpy_helper.from_array(v, k) for k, v in constants.items()])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8, producer_name="fuzz")


def seeds() -> list[bytes]:
    """The models above, four times each, and ONNX's own node tests."""
    own = [
        recurrent("GRU", 3, linear_before_reset=1),
        recurrent("GRU", 3, clip=0.5, activations=["HardSigmoid", "Relu"]),
        recurrent("LSTM", 4),
        recurrent("RNN", 1, direction="reverse"),
        recurrent("GRU", 3, direction="bidirectional"),
        causal(),
        cell_by_hand(),
    ]
    small = [case.model.SerializeToString() for case in all_cases()]
    return [m.SerializeToString() for m in own] * 40 + [m for m in small if len(m) < LARGEST_SEED]


# ---- mutations ----


def places(message: Message, found: list[tuple[Message, Any]]) -> list[tuple[Message, Any]]:
    """Every field that is set, of every message inside."""
    for field, value in message.ListFields():
        found.append((message, field))
        if field.message_type is not None:
            for inner in value if isinstance(value, (list, tuple)) or hasattr(value, "add") else [value]:
                places(inner, found)
    return found


def other_value(field: Any, old: Any, r: random.Random, texts: list[Any]) -> Any:
    """Another value for a field that is no message."""
    if field.type in FLOAT_KINDS.values():
        return r.choice(FLOATS)
    if field.type == 9:
        return r.choice(texts) if r.random() < 0.7 else r.choice(TEXTS)
    if field.type == 12:
        return altered_bytes(old, r) if old else b"\x01\x00\x00\x00"
    if field.type == 8:
        return not old
    return r.choice(INTEGERS) if r.random() < 0.6 else old + r.choice((-1, 1, 2))


def alter_field(message: Any, field: Any, r: random.Random, texts: list[Any]) -> None:
    value = getattr(message, field.name)
    if hasattr(value, "append") and len(value):
        at = r.randrange(len(value))
        action = r.randrange(4)
        if action == 0:
            del value[at]
        elif field.message_type is not None:
            if action == 1:
                value[at].CopyFrom(value[r.randrange(len(value))])
            else:
                value.add().CopyFrom(value[at])
        elif action == 1:
            value.append(value[at])
        else:
            value[at] = other_value(field, value[at], r, texts)
    elif field.message_type is not None or r.random() < 0.15:
        message.ClearField(field.name)
    else:
        setattr(message, field.name, other_value(field, value, r, texts))


def altered_bytes(data: bytes, r: random.Random) -> bytes:
    out = bytearray(data)
    at = r.randrange(len(out)) if out else 0
    match r.randrange(4):
        case 0 if out:
            out[at] ^= 1 << r.randrange(8)
        case 1:
            del out[at : at + r.randrange(1, 9)]
        case 2:
            out[at:at] = bytes(r.randrange(256) for _ in range(r.randrange(1, 9)))
        case _ if out:
            out[at] = r.choice((0, 1, 0x7F, 0x80, 0xFF))
    return bytes(out)


def case(pool: list[bytes], r: random.Random) -> bytes:
    data = r.choice(pool)
    if r.random() < 0.1:
        for _ in range(r.randrange(1, 4)):
            data = altered_bytes(data, r)
        return data
    model = onnx.ModelProto.FromString(data)
    texts = [*(n for node in model.graph.node for n in (*node.input, *node.output)), *TEXTS]
    for _ in range(r.choice((1, 1, 2, 3, 6))):
        message, field = r.choice(places(model, []) or [(model, model.DESCRIPTOR.fields_by_name["ir_version"])])
        try:
            alter_field(message, field, r, texts)
        except (ValueError, TypeError, OverflowError):  # a value that the field cannot hold
            continue
    if r.random() < 0.1:  # nodes of another model
        model.graph.node.add().CopyFrom(r.choice(onnx.ModelProto.FromString(r.choice(pool)).graph.node))
    try:
        return model.SerializeToString()
    except EncodeError:
        return data


# ---- a trial ----


def attempt(data: bytes, mode: str) -> str:
    """What became of a model: the name of our error, or "streams"."""
    try:
        image = compile(data, mode=mode, length=3 if mode == "whole" else None).image
    except FaultError:
        raise
    except StreamgruError as error:
        return type(error).__name__
    model = Model(image, max_ops=None)
    if model.ops > MAX_OPS:
        return "too much work"
    if sum(model.sizes.values()) > 1 << 26:
        return "too large to run"
    stream = model.stream(block=1)
    frames = {t.name: np.zeros(t.shape, t.dtype) for t in model.inputs}
    try:
        for _ in range(2):
            stream.step(frames if len(frames) != 1 else next(iter(frames.values())))
    except (NonFiniteError, StreamgruError) as error:
        return type(error).__name__
    return "streams"


def trial(data: bytes, mode: str) -> tuple[str, str]:
    """The outcome, and where it is a finding its report."""
    signal.setitimer(signal.ITIMER_VIRTUAL, SECONDS)
    faulthandler.dump_traceback_later(20 * SECONDS, exit=True)  # where no signal gets through: a library hangs
    try:
        return attempt(data, mode), ""
    except TooLong:
        return "too long", traceback.format_exc()
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        return type(error).__name__, traceback.format_exc()
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        faulthandler.cancel_dump_traceback_later()


def where(report: str) -> str:
    """The line that raised it: findings of one line are one."""
    return next(line for line in reversed(report.splitlines()) if line.startswith("  File "))


def up(*_: Any) -> None:
    raise TooLong


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=1, help="of processor time")
    parser.add_argument("--seed", type=int, default=0, help="0: from the clock")
    parser.add_argument("--keep", type=Path, default=Path("build/fuzz/onnx_models"), help="where findings go")
    parser.add_argument("--try", dest="files", nargs="+", type=Path, help="files to try in place of new cases")
    options = parser.parse_args()
    seed = options.seed or time.time_ns() % 2**32
    os.environ[STRICT] = "1"
    resource.setrlimit(resource.RLIMIT_AS, (BYTES, BYTES))
    signal.signal(signal.SIGVTALRM, up)
    warnings.simplefilter("ignore")
    np.seterr(all="ignore")
    if options.files:
        for path in options.files:
            for mode in ("stream", "whole"):
                print(path, mode, *trial(path.read_bytes(), mode))
        return 0
    options.keep.mkdir(parents=True, exist_ok=True)
    r, pool = random.Random(seed), seeds()
    outcomes: Counter[str] = Counter()
    findings: dict[str, str] = {}
    slowest, began = 0.0, time.process_time()
    print(f"seed {seed}: {len(pool)} models", flush=True)
    while time.process_time() - began < 60 * options.minutes:
        data, mode = case(pool, r), r.choice(("stream", "stream", "whole"))
        (options.keep / "current").write_bytes(data)  # what to look at after a crash
        at = time.process_time()
        outcome, report = trial(data, mode)
        slowest = max(slowest, time.process_time() - at)
        outcomes[outcome] += 1
        if report:
            key = where(report) + outcome
            if key not in findings:
                findings[key] = report
                name = options.keep / f"{outcome.replace(' ', '-')}-{len(findings)}"
                name.with_suffix(".onnx").write_bytes(data)
                try:
                    text = MessageToString(onnx.ModelProto.FromString(data))
                except DecodeError:
                    text = "(no ONNX model)"
                name.with_suffix(".txt").write_text(f"mode {mode}\n{report}\n{text}\n", "utf-8")
                print(f"{name}: {' '.join(report.splitlines()[-2:])}", flush=True)
    minutes = (time.process_time() - began) / 60
    print(f"{outcomes.total()} cases in {minutes:.1f} minutes of processor time, the slowest {slowest:.2f} s")
    print(f"{dict(outcomes.most_common())}\n{len(findings)} findings")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
