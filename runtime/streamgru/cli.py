"""The command line: each command is a thin call of the library.

Exit code 0: what was asked holds. 1: it does not (an error, parity that fails). 2: the command line itself
is wrong. 3 and 4: parity that is partial, or not proved. With --json one JSON value goes to standard output, errors
included, and nothing else.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from . import denoise, info
from ._disk import read_bytes, write_bytes
from ._printable import printable
from ._types import Json
from ._workshop import needs_packages, workshop
from .errors import DataError, ModelError, StreamgruError
from .files import read_frames, write_frames
from .image import MAX_OPS
from .model import load

Answer = tuple[bool | int, Json, str]  # whether what was asked holds, or an exit code; for machines; for people
Command = Callable[[argparse.Namespace], Answer]

# The commands of the workshop, for where it is not installed.
WORKSHOP = ("demo", "export", "train", "compile", "embed", "parity", "bench")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. Returns the exit code."""
    args = _parser().parse_args(argv)
    command: Command = args.command
    try:
        with needs_packages(f"streamgru {args.name}"):
            done, data, text = command(args)
    except (StreamgruError, OSError, ValueError, ModuleNotFoundError) as error:
        return _fail(args, str(error))
    if args.json or text:
        _print(json.dumps(data, indent=2) if args.json else printable(text, keep="\n"))
    return int(not done) if isinstance(done, bool) else done


def _print(text: str) -> None:
    """To standard output; a reader that has seen enough, such as `head`, may have closed it."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        os.dup2(
            os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno()
        )  # so that the interpreter's own flush does not fail


def _fail(args: argparse.Namespace, message: str) -> int:
    if args.json:
        print(json.dumps({"ok": False, "error": message}))
    else:
        print(f"streamgru {args.name}: error: {message}", file=sys.stderr)
    return 1


def _info(args: argparse.Namespace) -> Answer:
    data = info.describe(args.model)
    return True, data, info.text(data)


def _run(args: argparse.Namespace) -> Answer:
    model = load(args.model, max_ops=args.max_ops)
    if not model.inputs:
        raise DataError(f"{args.model} has no inputs to stream to")
    X = read_frames(args.input, model.inputs)
    with model.stream() as stream:
        if args.restore is not None:
            stream.restore(read_bytes(args.restore, model.sizes["saved_state"]))
        Y = stream.run(X if len(model.inputs) > 1 else next(iter(X.values())))
        write_frames(args.output, model.named(Y), model.outputs)
        if args.save is not None:
            write_bytes(args.save, stream.save())
    frames = X[model.inputs[0].name].shape[model.inputs[0].time_axis or 0]
    return True, {"ok": True, "frames": frames, "output": str(args.output)}, f"{frames} frames, wrote {args.output}"


def _denoise(args: argparse.Namespace) -> Answer:
    rate, noisy = denoise.read_wav(args.input)
    denoiser = denoise.Denoiser(load(args.model))
    if rate != denoiser.sample_rate:
        raise DataError(
            f"{args.input} has {rate} samples a second, the model hears {denoiser.sample_rate}: convert it first, "
            f"for example with sox {args.input} -r {denoiser.sample_rate} converted.wav"
        )
    start = time.perf_counter()
    clean = np.stack([denoiser.denoise(channel) for channel in noisy.T], 1)
    seconds, spent = len(noisy) / rate, time.perf_counter() - start
    denoise.write_wav(args.output, rate, clean)
    data = {"ok": True, "output": str(args.output), "seconds": seconds, "channels": noisy.shape[1], "spent": spent}
    speed = f"{seconds * noisy.shape[1] / spent:.0f} times as fast as it sounds" if spent else ""
    return True, data, f"wrote {args.output}: {seconds:.1f} s of sound, {speed}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="streamgru",
        description="Streaming GRU inference on CPUs, from a PyTorch model to one frame at a time.",
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    def command(name: str, function: Command, summary: str, example: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(
            name,
            help=summary,
            description=f"{summary[0].upper()}{summary[1:]}.",
            epilog=f"example:\n  {example}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        sub.set_defaults(command=function, name=name)
        sub.add_argument("--json", action="store_true", help="print JSON, for machines")
        return sub

    try:
        workshop("commands", "this command").add_to(command)
    except ModelError as error:
        _add_absent(commands, error)
    _add_own(command)
    return parser


def _add_absent(commands: Any, why: ModelError) -> None:
    """The workshop's commands where it is not installed: each says what it needs."""

    def absent(args: argparse.Namespace) -> Answer:
        args.json = "--json" in args.rest
        raise why

    for name in WORKSHOP:
        sub = commands.add_parser(name, help="needs streamgru[export]", prefix_chars="\0")
        sub.add_argument("rest", nargs="*")
        sub.set_defaults(command=absent, name=name, json=False)


def _add_own(command: Callable[[str, Command, str, str], argparse.ArgumentParser]) -> None:
    """The commands that need numpy and cffi alone."""
    sub = command(
        "run",
        _run,
        "stream frames from a file through a model",
        "streamgru run model.sgru frames.npy -o out.npy",
    )
    sub.add_argument("model", type=Path)
    sub.add_argument("input", type=Path, help=".npy, .npz with an array for each input, or .csv, a frame a line")
    sub.add_argument("-o", "--output", type=Path, required=True, help=".npy, .npz or .csv")
    sub.add_argument("--restore", type=Path, metavar="STATE", help="begin with a state that --save wrote")
    sub.add_argument("--save", type=Path, metavar="STATE", help="write the state after the last frame")
    sub.add_argument(
        "--max-ops",
        type=int,
        default=MAX_OPS,
        metavar="N",
        help="operations that a step may take (default %(default)s)",
    )

    sub = command(
        "info",
        _info,
        "tell what a model takes and keeps, what its nodes became, where its time goes, and why it does not stream",
        "streamgru info model.onnx",
    )
    sub.add_argument("model", type=Path, help=".onnx or .sgru")

    sub = command(
        "denoise",
        _denoise,
        "take the noise out of speech in a WAV file, with a model of band gains",
        "streamgru denoise build/denoise/denoise.sgru noisy.wav -o clean.wav   # after: streamgru train denoise",
    )
    sub.add_argument("model", type=Path, help="what the recipe `denoise` made")
    sub.add_argument("input", type=Path, metavar="WAV", help="PCM; every channel is denoised by itself")
    sub.add_argument("-o", "--output", type=Path, required=True, metavar="WAV")


if __name__ == "__main__":
    sys.exit(main())
