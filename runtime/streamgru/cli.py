"""The command line: each command is a thin call of the library.

Exit code 0: what was asked holds. 1: it does not (an error, parity that fails). 2: the command line itself
is wrong. With --json one JSON value goes to standard output, errors included, and nothing else.
"""

from __future__ import annotations

import argparse
import csv
import importlib
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

import streamgru

if TYPE_CHECKING:
    import torch

Arrays = dict[str, NDArray[Any]]

# What `pip install 'streamgru[export]'` adds.
EXTRA = {"torch", "onnx", "onnxscript", "onnxruntime", "tqdm", "rich", "matplotlib"}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. Returns the exit code."""
    args = _parser().parse_args(argv)
    try:
        command: Callable[[argparse.Namespace], int] = args.command
        return command(args)
    except ModuleNotFoundError as error:
        hint = ". Install it with: pip install 'streamgru[export]'" if error.name in EXTRA else ""
        return _fail(args, f"{error}{hint}")
    except (streamgru.StreamgruError, OSError, ValueError) as error:
        return _fail(args, str(error))


def _fail(args: argparse.Namespace, message: str) -> int:
    if args.json:
        print(json.dumps({"ok": False, "error": message}))
    else:
        print(f"streamgru {args.name}: error: {message}", file=sys.stderr)
    return 1


def _tell(args: argparse.Namespace, data: dict[str, Any], text: str) -> None:
    """One answer, for a machine or for a person."""
    print(json.dumps(data, indent=2) if args.json else text)


# demo


def _demo(args: argparse.Namespace) -> int:
    demo = _need("streamgru.demo")
    code: int = demo.main(args.output, epochs=args.epochs, seed=args.seed, as_json=args.json)
    return code


# export


def _export(args: argparse.Namespace) -> int:
    exporter = _need("streamgru_export")
    module = _load_module(args)
    example = tuple(_example(spec, args.seed) for spec in args.example)
    result = exporter.export(module, example, args.output, stream=args.stream)
    data = {"onnx": str(args.output), "kind": result.kind, "max_abs_error": result.max_abs_error}
    error = f"differs from the module by at most {result.max_abs_error:.1e}"
    _tell(args, {"ok": True, **data}, f"wrote {args.output}, a {result.kind} graph: {error}")
    return 0


def _load_module(args: argparse.Namespace) -> torch.nn.Module:
    """The torch module that `package.module:name` is or makes, with its checkpoint."""
    import torch

    where, _, name = args.module.partition(":")
    if not (where and name):
        raise ValueError(f"{args.module!r} is not of the form package.module:factory")
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))  # as python -m does
    try:
        made = getattr(_need(where), name)
        if not isinstance(made, torch.nn.Module):
            made = made(**json.loads(args.args))
    except (AttributeError, TypeError) as error:  # no such name, no factory, or not its arguments
        raise ValueError(f"{args.module}: {error}") from error
    if not isinstance(made, torch.nn.Module):
        raise ValueError(f"{args.module} gives {type(made).__name__}, not a torch.nn.Module")
    if args.weights is not None:
        _load_weights(made, args.weights)
    return made.eval()


def _load_weights(module: torch.nn.Module, path: Path) -> None:
    """Fill a module from a checkpoint: a state dict, or a dict that holds one under "state_dict"."""
    import pickle

    import torch

    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ValueError(f"{path} is no checkpoint of plain tensors: save module.state_dict()") from error
    if isinstance(checkpoint, dict):
        checkpoint = checkpoint.get("state_dict", checkpoint)
    try:
        module.load_state_dict(checkpoint)
    except (RuntimeError, TypeError) as error:  # torch's words for keys or shapes that do not fit
        raise ValueError(f"{path} does not fit the module: {error}") from error


def _example(spec: str, seed: int) -> torch.Tensor:
    """A tensor for `1,1,64` or `1,1:int64`."""
    import torch

    shape_text, _, dtype_text = spec.partition(":")
    dtype = getattr(torch, dtype_text or "float32", None)
    if not isinstance(dtype, torch.dtype):
        raise ValueError(f"example {spec!r}: torch has no dtype {dtype_text!r}")
    try:
        shape = [int(size) for size in shape_text.split(",")]
    except ValueError:
        raise ValueError(f"example {spec!r}: write sizes separated by commas, such as 1,1,64") from None
    if not dtype.is_floating_point:
        return torch.zeros(shape, dtype=dtype)  # an index that is always valid
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


# train


def _train(args: argparse.Namespace) -> int:
    ok, data, text = _need("streamgru_export.recipes.command").answer(args)
    _tell(args, data, text)
    return 0 if ok else 1


# compile, info


def _compile(args: argparse.Namespace) -> int:
    output = args.output or args.onnx.with_suffix(".sgru")
    samples = None
    if args.samples is not None:
        if args.tolerance is None:
            raise ValueError("--samples are frames for --tolerance: give both")
        samples = _read_frames(args.samples, streamgru.load(args.onnx).inputs)
    compiled = _need("streamgru_export").compile(
        args.onnx, output, weights=args.weights, tolerance=args.tolerance, samples=samples
    )
    size = output.stat().st_size
    errors = {name: error.relative for name, error in compiled.errors.items()}
    text = [f"wrote {output}, {size:,} bytes"]
    text += [f"{args.weights} weights move {name} by {error:.3%} of its RMS" for name, error in errors.items()]
    data = {"ok": True, "sgru": str(output), "bytes": size, "weights": args.weights, "errors": errors}
    _tell(args, data, "\n".join(text))
    return 0


def _info(args: argparse.Namespace) -> int:
    model = streamgru.load(args.model)
    tensors = {"inputs": model.inputs, "outputs": model.outputs, "states": model.states}
    weights = model.metadata.get("weights", "f32")
    data: dict[str, Any] = {"ok": True, "model": str(args.model), "isa": streamgru.isa(), "weights": weights}
    lines = [f"{args.model}, {weights} weights, kernels {streamgru.isa()}"]
    for kind, infos in tensors.items():
        data[kind] = [{"name": t.name, "shape": list(t.shape), "dtype": np.dtype(t.dtype).name} for t in infos]
        lines += [f"{kind[:-1]:<8} {t.name:<24} {np.dtype(t.dtype).name:<8} {list(t.shape)}" for t in infos]
    _tell(args, data, "\n".join(lines))
    return 0


# embed


def _embed(args: argparse.Namespace) -> int:
    kernels = [name for name in args.kernels.split(",") if name]
    report = _need("streamgru.embed").embed(args.model, args.output, kernels=kernels, steps=args.steps, seed=args.seed)
    _tell(args, {"ok": True, **report.as_dict()}, report.text())
    return 0


# run


def _run(args: argparse.Namespace) -> int:
    model = streamgru.load(args.model)
    if not model.inputs:
        raise ValueError(f"{args.model} has no inputs to stream to")
    X = _read_frames(args.input, model.inputs)
    with model.stream() as stream:
        if args.restore is not None:
            stream.restore(args.restore.read_bytes())
        Y = stream.run(X if len(model.inputs) > 1 else next(iter(X.values())))
        outputs = Y if isinstance(Y, dict) else {model.outputs[0].name: Y}
        _write_frames(args.output, outputs, model.outputs)
        if args.save is not None:
            args.save.write_bytes(stream.save())
    frames = X[model.inputs[0].name].shape[model.inputs[0].time_axis or 0]
    _tell(
        args,
        {"ok": True, "frames": frames, "output": str(args.output)},
        f"{frames} frames, wrote {args.output}",
    )
    return 0


def _read_frames(path: Path, inputs: Sequence[streamgru.TensorInfo]) -> Arrays:
    """Frames for each input, as Stream.run takes them."""
    if path.suffix in (".npy", ".npz"):
        arrays = _read_numpy(path)
    elif path.suffix == ".csv":
        arrays = {"": _read_csv(path, inputs[0].dtype)}
    else:
        raise ValueError(f"{path}: frames are read from .npy, .npz or .csv")
    if len(arrays) == 1 == len(inputs):
        arrays = {inputs[0].name: next(iter(arrays.values()))}
    names = [t.name for t in inputs]
    if sorted(arrays) != sorted(names):
        raise ValueError(f"{path} must be an .npz with an array for each input, {names}; it has {sorted(arrays)}")
    return {t.name: _as_frames(arrays[t.name], t, path) for t in inputs}


def _read_numpy(path: Path) -> Arrays:
    """The arrays of an .npz by name, or that of an .npy by no name."""
    try:
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return {"": loaded}
        with loaded:
            return dict(loaded)
    except (ValueError, EOFError, BadZipFile) as error:
        raise ValueError(f"{path} is no {path.suffix} of plain numbers: {error}") from None


def _as_frames(array: NDArray[Any], tensor: streamgru.TensorInfo, path: Path) -> NDArray[Any]:
    """The array in the model's dtype, with its time axis where the model's is.

    Frames may also stand on the first axis, each in its shape (up to axes of length 1) or flat.
    """
    axis = tensor.time_axis or 0
    shape = list(tensor.shape)
    given = list(array.shape)
    if given[:axis] + given[axis + 1 :] != shape or array.ndim != len(shape) + 1:
        flat = int(np.prod(shape))
        if array.ndim == 0 or _squeezed(given[1:]) not in (_squeezed(shape), _squeezed([flat])):
            wanted = str([*shape[:axis], "frames", *shape[axis:]]).replace("'", "")
            raise ValueError(f"{path}: {tensor.name} has shape {given}, not {wanted}")
        array = np.moveaxis(array.reshape(len(array), *shape), 0, axis)
    if not np.can_cast(array.dtype, tensor.dtype, "same_kind"):
        raise ValueError(f"{path}: {tensor.name} is {array.dtype}, the model takes {np.dtype(tensor.dtype)}")
    return np.ascontiguousarray(array, tensor.dtype)


def _squeezed(shape: Sequence[int]) -> list[int]:
    return [size for size in shape if size != 1]


def _read_csv(path: Path, dtype: Any) -> NDArray[Any]:
    """One frame in each line, numbers between commas; `#` begins a comment."""
    with path.open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.reader(line for line in file if not line.startswith("#")) if row]
    number = float if np.issubdtype(dtype, np.floating) else int
    try:
        return np.array([[number(cell) for cell in row] for row in rows]).astype(dtype)
    except ValueError as error:
        raise ValueError(f"{path}: each line is one frame of numbers between commas: {error}") from None


def _write_frames(path: Path, outputs: Arrays, tensors: Sequence[streamgru.TensorInfo]) -> None:
    if path.suffix == ".npz":
        np.savez(path, **outputs)  # type: ignore[arg-type]
        return
    if len(outputs) != 1:
        raise ValueError(f"{path}: the model has {len(outputs)} outputs, so they go to an .npz")
    Y = next(iter(outputs.values()))
    if path.suffix == ".npy":
        np.save(path, Y)
    elif path.suffix == ".csv":
        rows = np.moveaxis(Y, tensors[0].time_axis or 0, 0)
        np.savetxt(path, rows.reshape(len(rows), -1), delimiter=",", fmt="%.9g")  # 9 digits keep every float32
    else:
        raise ValueError(f"{path}: frames are written to .npy, .npz or .csv")


# parity, bench


def _parity(args: argparse.Namespace) -> int:
    module = _load_module(args) if args.module is not None else None
    report = streamgru.parity(
        args.model, module=module, onnx=args.onnx, steps=args.steps, seed=args.seed, tolerance=args.tolerance
    )
    if args.html is not None:
        report.save_html(args.html)
    print(report.to_json() if args.json else report.text())
    return 0 if report.ok else 1


def _bench(args: argparse.Namespace) -> int:
    report = _need("streamgru.bench").bench(args.model, onnx=args.onnx, rounds=args.rounds, seed=args.seed)
    print(report.to_json() if args.json else report.text())
    return 0


def _need(name: str) -> ModuleType:
    """Import what only some commands need, so that the others run on numpy and cffi alone."""
    return importlib.import_module(name)


# the parser


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="streamgru",
        description="Streaming GRU inference on CPUs, from a PyTorch model to one frame at a time.",
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    def command(
        name: str, function: Callable[[argparse.Namespace], int], summary: str, example: str
    ) -> argparse.ArgumentParser:
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

    sub = command("demo", _demo, "go the whole road on a real series, in a minute", "streamgru demo -o build/demo")
    sub.add_argument("-o", "--output", type=Path, default=Path("build/demo"), metavar="FOLDER")
    sub.add_argument("--epochs", type=int, default=160, help="of the training (default %(default)s)")
    sub.add_argument("--seed", type=int, default=0)

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
    sub.add_argument("--seed", type=int, default=0, help="of the numbers in the example")
    sub.add_argument("-o", "--output", type=Path, required=True, metavar="ONNX")

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

    sub = command("info", _info, "list a model's inputs, outputs and states", "streamgru info model.sgru --json")
    sub.add_argument("model", type=Path)

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

    sub = command(
        "parity",
        _parity,
        "prove that the stream computes what onnxruntime and the module compute",
        "streamgru parity model.onnx --module net:make --weights net.pt --html report.html",
    )
    sub.add_argument("model", type=Path, help=".onnx, or the .sgru made of it")
    sub.add_argument("--onnx", type=Path, help="the graph, where the image does not find it")
    sub.add_argument("--steps", type=int, default=1000, help="random frames (default %(default)s)")
    sub.add_argument("--seed", type=int, default=0, help="of the frames")
    sub.add_argument("--tolerance", type=float, default=2e-6, help="largest difference allowed (default %(default)s)")
    sub.add_argument("--module", metavar="MODULE:FACTORY", help="the PyTorch original; this code is run")
    _add_module_options(sub)
    sub.add_argument("--html", type=Path, metavar="FILE", help="write a page with plots")

    sub = command(
        "bench", _bench, "time a step, beside onnxruntime where it is installed", "streamgru bench model.onnx"
    )
    sub.add_argument("model", type=Path)
    sub.add_argument("--onnx", type=Path, help="the model for onnxruntime, where MODEL is an image")
    sub.add_argument("--rounds", type=int, default=30, help="more rounds, a steadier median (default %(default)s)")
    sub.add_argument("--seed", type=int, default=0, help="of the random frame")
    return parser


def _add_module_options(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--args", default="{}", metavar="JSON", help="keyword arguments of the factory")
    sub.add_argument("--weights", type=Path, metavar="PT", help="a checkpoint: plain tensors only, no code is run")


if __name__ == "__main__":
    sys.exit(main())
