"""The commands of the workshop: demo, export, train, compile, embed, parity, bench. Each is a thin call of the library.

`streamgru.cli` reads the command line and prints what these answer. What a command needs is loaded when it runs, so
that none costs what it does not use.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import streamgru
from streamgru._workshop import workshop
from streamgru.errors import OptionError
from streamgru.files import read_frames

Answer = tuple[bool | int, dict[str, Any], str]  # whether it holds, or an exit code; for machines; for people


def _demo(args: argparse.Namespace) -> Answer:
    answer: Answer = _need("recipes.demo", args).answer(
        args.output, epochs=args.epochs, seed=args.seed, quiet=args.json
    )
    return answer


def _export(args: argparse.Namespace) -> Answer:
    loading = _need("from_torch.loading", args)
    module = loading.load_module(args.module, args.args, args.weights)
    example = tuple(loading.example(spec, args.seed) for spec in args.example)
    result = streamgru.export(
        module, example, args.output,
        stream=args.stream, exporter=args.exporter, sample_rate=args.sample_rate, labels=args.label,
    )  # fmt: skip
    data = {"ok": True, "onnx": str(args.output), "kind": result.kind, "max_abs_error": result.max_abs_error}
    error = f"differs from the module by at most {result.max_abs_error:.1e}"
    return True, data, f"wrote {args.output}, a {result.kind} graph: {error}"


def _train(args: argparse.Namespace) -> Answer:
    answer: Answer = _need("recipes.command", args).answer(args)
    return answer


def _compile(args: argparse.Namespace) -> Answer:
    output = args.output or args.onnx.with_suffix(".sgru")
    samples = None
    if args.samples is not None:
        if args.tolerance is None:
            raise OptionError("--samples are frames for --tolerance: give both")
        samples = read_frames(args.samples, streamgru.load(args.onnx, values=dict(args.value)).inputs)
    compiled = streamgru.compile(
        args.onnx, output, weights=args.weights, tolerance=args.tolerance, samples=samples, values=dict(args.value)
    )
    size = output.stat().st_size
    errors = {name: error.relative for name, error in compiled.errors.items()}
    text = [f"wrote {output}, {size:,} bytes"]
    text += [f"{args.weights} weights move {name} by {error:.3%} of its RMS" for name, error in errors.items()]
    data = {"ok": True, "sgru": str(output), "bytes": size, "weights": args.weights, "errors": errors}
    return True, data, "\n".join(text)


def _value(text: str) -> tuple[str, int | float | list[int | float]]:
    """INPUT=NUMBER, or INPUT=NUMBER,NUMBER for an input of several."""
    name, _, written = text.rpartition("=")
    try:
        numbers = [int(n) if n.strip().lstrip("+-").isdigit() else float(n) for n in written.split(",")]
    except ValueError:
        numbers = []
    if not name or not numbers:
        raise argparse.ArgumentTypeError(f"INPUT=NUMBER was expected, such as sr=16000, not {text!r:.100}")
    return name, numbers[0] if len(numbers) == 1 else numbers


def _embed(args: argparse.Namespace) -> Answer:
    embed = _need("embed.embed", args).embed
    kernels = [name for name in args.kernels.split(",") if name]
    report = embed(args.model, args.output, kernels=kernels, steps=args.steps, seed=args.seed)
    return True, {"ok": True, **report.as_dict()}, report.text()


def _parity(args: argparse.Namespace) -> Answer:
    module = None
    if args.module is not None:
        module = _need("from_torch.loading", args).load_module(args.module, args.args, args.weights)
    report = streamgru.parity(
        args.model,
        module=module,
        onnx=args.onnx,
        weights=args.weights,
        steps=args.steps,
        seed=args.seed,
        tolerance=args.tolerance,
        oracle_seconds=args.oracle_seconds,
    )
    if args.html is not None:
        report.save_html(args.html)
    if args.out is not None:
        report.save(args.out)
    return report.exit_code, report.to_dict(), report.line if args.ci else report.text()


def _bench(args: argparse.Namespace) -> Answer:
    report = _need("bench", args).bench(args.model, onnx=args.onnx, rounds=args.rounds, seed=args.seed)
    return True, report.to_dict(), report.text()


def _need(module: str, args: argparse.Namespace) -> Any:
    """A module of the workshop, loaded by the command that uses it."""
    return workshop(module, f"streamgru {args.name}")


# the parser


class Add(Protocol):
    """Adds a command to the command line, and gives its parser."""

    def __call__(
        self, name: str, function: Callable[[argparse.Namespace], Answer], summary: str, example: str
    ) -> argparse.ArgumentParser: ...


def add_to(command: Add) -> None:
    """Adds the commands."""
    for add in (_add_demo, _add_export, _add_train, _add_compile, _add_embed, _add_parity, _add_bench):
        add(command)


def _add_demo(command: Add) -> None:
    sub = command("demo", _demo, "go the whole road on a real series, in a minute", "streamgru demo -o build/demo")
    sub.add_argument("-o", "--output", type=Path, default=Path("build/demo"), metavar="FOLDER")
    sub.add_argument("--epochs", type=int, help="of the training (default: those of `streamgru train co2`)")
    sub.add_argument("--seed", type=int, default=0)


def _add_export(command: Add) -> None:
    sub = command(
        "export",
        _export,
        "export a PyTorch module to an ONNX that streams, verified against the module",
        "streamgru export streamgru_export.zoo:GRUNet\n"
        '      --args \'{"input_size": 64, "hidden_size": 64, "output_size": 1}\'\n'
        "      --weights net.pt --example 1,1,64 --example 2,1,64 -o model.onnx",
    )
    sub.add_argument("module", metavar="MODULE:FACTORY", help="a torch module, or what makes it; this code is run")
    _add_module_options(sub)
    sub.add_argument(
        "--example",
        action="append",
        required=True,
        metavar="SIZES",
        help="shape of one argument of the module, such as 1,1,64 or 1,1:int64; repeat it for each argument",
    )
    sub.add_argument("--stream", choices=["step", "sequence"], help="one step, or a sequence of any length")
    sub.add_argument("--exporter", choices=["dynamo", "legacy"], default="dynamo", help="torch's (default %(default)s)")
    sub.add_argument("--sample-rate", type=float, metavar="HERTZ", help="of the signal: kept in the model")
    sub.add_argument(
        "--label", action="append", metavar="NAME", help="of an output's element: kept; repeat it for each"
    )
    sub.add_argument("--seed", type=int, default=0, help="of the numbers in the example")
    sub.add_argument("-o", "--output", type=Path, required=True, metavar="ONNX")


def _add_train(command: Add) -> None:
    sub = command(
        "train",
        _train,
        "train a net by a recipe, ship it as a stream, prove and judge it",
        "streamgru train numbers -o build/numbers --set optimiser=adamw --set epochs=20",
    )
    sub.add_argument("recipe", nargs="?", help="one of --list")
    sub.add_argument("--list", action="store_true", help="show the recipes")
    sub.add_argument("--family", action="store_true", help="one table of all cells: parity, speed")
    sub.add_argument("--compare", action="store_true", help="one table of GRU, LSTM and plain RNN")
    sub.add_argument("--diagnose", action="store_true", help="plot gradients through time, cell by cell")
    sub.add_argument("-o", "--output", type=Path, metavar="FOLDER", help="default: build/RECIPE")
    sub.add_argument("--config", type=Path, metavar="TOML", help="settings of the training, in a table [train]")
    sub.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="one setting; it wins over --config"
    )
    sub.add_argument("--resume", type=Path, metavar="CHECKPOINT", help="go on from a checkpoint.pt of this recipe")


def _add_compile(command: Add) -> None:
    sub = command(
        "compile",
        _compile,
        "compile an ONNX model to an image",
        "streamgru compile model.onnx -o model.sgru --weights i8 --tolerance 0.02",
    )
    sub.add_argument("onnx", type=Path)
    sub.add_argument("-o", "--output", type=Path, metavar="SGRU", help="default: beside the model")
    sub.add_argument(
        "--weights",
        choices=["f32", "f16", "i8"],
        default="f32",
        help="what matrices are stored as (default %(default)s)",
    )
    sub.add_argument(
        "--tolerance", type=float, help="refuse weights that move an output by more of its RMS, such as 0.02 (RMSE)"
    )
    sub.add_argument("--samples", type=Path, metavar="FRAMES", help="frames to measure that on, as for `streamgru run`")
    sub.add_argument(
        "--value", action="append", default=[], type=_value, metavar="INPUT=NUMBER",
        help="bind an input to the value that it always has, such as sr=16000; may be given again",
    )  # fmt: skip


def _add_embed(command: Add) -> None:
    sub = command(
        "embed",
        _embed,
        "write a model as a folder of C files for a microcontroller, or any other machine",
        "streamgru embed model.onnx --out firmware && make -C firmware run TARGET=cortex-m4",
    )
    sub.add_argument("model", type=Path, help=".onnx or .sgru")
    sub.add_argument("-o", "--out", dest="output", type=Path, required=True, metavar="FOLDER")
    sub.add_argument(
        "--kernels", default="ref", help="instruction sets besides ref, such as neon,avx2 (default: ref alone)"
    )
    sub.add_argument("--steps", type=int, default=8, help="random frames to record and replay (default %(default)s)")
    sub.add_argument("--seed", type=int, default=0, help="of the frames")


def _add_parity(command: Add) -> None:
    sub = command(
        "parity",
        _parity,
        "prove that the stream computes what onnxruntime and the module compute",
        "streamgru parity model.onnx --module net:make --weights net.pt --steps 100000 --out report/\n\n"
        "exit code:\n  0 parity holds\n  1 it does not hold, or an error\n  2 the command line is wrong\n"
        "  3 partial: nothing differs, but an implementation ended before the last step\n"
        "  4 not proved: nothing to compare with, or the module could not be compared",
    )
    sub.add_argument("model", type=Path, help=".onnx, or the .sgru made of it")
    sub.add_argument("--onnx", type=Path, help="the graph, where the image does not find it")
    sub.add_argument("--steps", type=int, default=1000, help="random frames (default %(default)s)")
    sub.add_argument("--seed", type=int, default=0, help="of the frames")
    sub.add_argument("--tolerance", type=float, default=2e-6, help="largest difference allowed (default %(default)s)")
    sub.add_argument(
        "--oracle-seconds", type=float, default=120.0, metavar="SECONDS",
        help="time limit of the float64 oracle; a verdict that it cuts short is PARTIAL (default %(default)g)",
    )  # fmt: skip
    sub.add_argument("--module", metavar="MODULE:FACTORY", help="the PyTorch original; this code is run")
    _add_module_options(sub)
    sub.add_argument("--out", type=Path, metavar="FOLDER", help="write the certificate: parity.json and parity.html")
    sub.add_argument("--html", type=Path, metavar="FILE", help="write the page with plots alone")
    sub.add_argument("--ci", action="store_true", help="print the verdict in one line")


def _add_bench(command: Add) -> None:
    sub = command(
        "bench", _bench, "time a step, beside onnxruntime where it is installed", "streamgru bench model.onnx"
    )
    sub.add_argument("model", type=Path)
    sub.add_argument("--onnx", type=Path, help="the model for onnxruntime, where MODEL is an image")
    sub.add_argument("--rounds", type=int, default=30, help="more rounds, a steadier median (default %(default)s)")
    sub.add_argument("--seed", type=int, default=0, help="of the random frame")


def _add_module_options(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--args", default="{}", metavar="JSON", help="keyword arguments of the factory")
    sub.add_argument("--weights", type=Path, metavar="PT", help="a checkpoint: plain tensors only, no code is run")
