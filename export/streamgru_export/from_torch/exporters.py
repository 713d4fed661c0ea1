"""Calls PyTorch's ONNX exporters in an environment in which they export recurrent layers rightly.

It does not judge the result: `verify.py` does. What it works around, each seen in torch 2.13:

- onnxscript before 0.7.1 writes `nn.GRU` with linear_before_reset=0: another function, no warning.
- torch's operators cache their dispatch. After one export of a GRU in a process, the next one with a dynamic
  time axis silently fixes that axis to the example's length, because the cache outlives the decomposition it
  was made for.
- That decomposition refuses an initial state that is cut from a larger tensor. It is held only where an axis is
  dynamic, and gets copies.
- It is dropped before shapes are inferred: the example's length ends up in Reshape nodes.
- `nn.MultiheadAttention`'s fast path has no ONNX form.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
import logging
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import onnx_ir as ir
import torch
from packaging.version import Version
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from streamgru.errors import ExportError

Exporter: TypeAlias = Literal["dynamo", "legacy"]

MIN_ONNXSCRIPT = "0.7.1"


def check_onnxscript() -> None:
    """Refuse an onnxscript that writes wrong GRUs.

    Raises
    ------
    ExportError
        onnxscript is missing, or older than 0.7.1.
    """
    advice = f"pip install 'onnxscript>={MIN_ONNXSCRIPT}', or pass exporter=\"legacy\""
    try:
        version = importlib.metadata.version("onnxscript")
    except importlib.metadata.PackageNotFoundError:
        raise ExportError(f"onnxscript is not installed, and torch's default exporter needs it: {advice}") from None
    if Version(version) < Version(MIN_ONNXSCRIPT):
        raise ExportError(
            f"onnxscript {version} exports nn.GRU with linear_before_reset=0, where PyTorch computes "
            f"linear_before_reset=1: the model would be silently wrong. {advice}"
        )


def run_exporter(
    module: nn.Module,
    examples: Sequence[Tensor],
    path: Path,
    *,
    exporter: Exporter,
    inputs: Sequence[str],
    outputs: Sequence[str],
    dynamic: Sequence[Mapping[int, str]],
    opset: int | None,
    hints: Hints,
) -> ir.Model:
    """Export a module with flat inputs.

    Parameters
    ----------
    path : Path
        Where the legacy exporter may leave its raw file.
    exporter : "dynamo" or "legacy"
    dynamic : sequence of {axis: name}
        The dynamic axes of each input.
    hints : Hints
        What may explain a failure.

    Raises
    ------
    ExportError
        The exporter failed; the message gives its reason, and what usually helps.
    """
    common: dict[str, Any] = {
        "input_names": list(inputs),
        "output_names": list(outputs),
        "opset_version": opset,
        "verbose": False,
    }
    try:
        with _exporter_environment(long=any(dynamic)):
            if exporter == "dynamo":
                return _run_dynamo(module, examples, dynamic, common)
            return _run_legacy(module, examples, path, dynamic, common)
    except Exception as exc:
        raise ExportError(_explain(exc, module, exporter, any(dynamic), hints)) from exc


def _run_dynamo(
    module: nn.Module,
    examples: Sequence[Tensor],
    dynamic: Sequence[Mapping[int, str]],
    common: dict[str, Any],
) -> ir.Model:
    # Names, not torch.export.Dim: a Dim makes an axis of size 1 static without a word.
    shapes = (tuple(dict(d) for d in dynamic),) if any(dynamic) else None
    with _own_initial_states(module) if shapes else contextlib.nullcontext():
        program = torch.onnx.export(module, tuple(examples), dynamo=True, dynamic_shapes=shapes, **common)
    if program is None:
        raise RuntimeError("torch.onnx.export returned nothing")
    return program.model


def _run_legacy(
    module: nn.Module,
    examples: Sequence[Tensor],
    path: Path,
    dynamic: Sequence[Mapping[int, str]],
    common: dict[str, Any],
) -> ir.Model:
    axes = {name: dict(d) for name, d in zip(common["input_names"], dynamic, strict=True) if d}
    torch.onnx.export(module, tuple(examples), path, dynamo=False, dynamic_axes=axes, **common)
    return ir.load(path)


@contextlib.contextmanager
def _own_initial_states(module: nn.Module) -> Iterator[None]:
    """Let each layer copy the initial state it is given: where that is cut from a larger tensor, torch's while-loop
    form refuses its strides."""

    def copied(_layer: nn.Module, args: tuple[Any, ...], options: dict[str, Any]) -> tuple[Any, Any]:
        own = pytree.tree_map_only(Tensor, _contiguous_copy, (args[1:], options))
        return (*args[:1], *own[0]), own[1]

    layers = [layer for layer in module.modules() if isinstance(layer, nn.RNNBase)]
    hooks = [layer.register_forward_pre_hook(copied, with_kwargs=True) for layer in layers]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _contiguous_copy(x: Tensor) -> Tensor:
    """`contiguous()` leaves the strides of axes of size 1 as they are."""
    return x.clone(memory_format=torch.contiguous_format)


@contextlib.contextmanager
def _exporter_environment(*, long: bool) -> Iterator[None]:
    """`long`: an axis is dynamic, so that torch's form of a recurrent layer for a fixed length will not do."""
    fast_path = torch.backends.mha.get_fastpath_enabled()
    registry = logging.getLogger("torch.onnx._internal.exporter._registration")
    level = registry.level
    with warnings.catch_warnings(), torch.no_grad(), _recurrent_layers(_decompositions() if long else []):
        warnings.simplefilter("ignore")  # tracer warnings; the result is verified instead
        torch.backends.mha.set_fastpath_enabled(False)
        registry.setLevel(logging.ERROR)  # a line for each operator of a package that is not installed
        try:
            yield
        finally:
            torch.backends.mha.set_fastpath_enabled(fast_path)
            registry.setLevel(level)


@contextlib.contextmanager
def _recurrent_layers(decompositions: Sequence[Callable[[], AbstractContextManager[object]]]) -> Iterator[None]:
    """Hold these forms of GRU and LSTM over the whole export, with no stale dispatch."""
    with contextlib.ExitStack() as stack:
        _clear_dispatch()
        stack.callback(_clear_dispatch)
        for register in decompositions:
            stack.enter_context(register())
        _clear_dispatch()
        yield


def _decompositions() -> list[Callable[[], AbstractContextManager[object]]]:
    """torch's private context managers for its while-loop form; a torch without them is left to the verification."""
    try:
        patches = importlib.import_module("torch.export._patches")
    except ImportError:
        return []
    names = ("register_gru_while_loop_decomposition", "register_lstm_while_loop_decomposition")
    return [getattr(patches, name) for name in names if hasattr(patches, name)]


def _clear_dispatch() -> None:
    for operator in ("gru", "lstm", "rnn_tanh", "rnn_relu"):
        cache = getattr(getattr(torch.ops.aten, operator).input, "_dispatch_cache", None)
        if cache is not None:
            cache.clear()


FIXED_TIME = (
    "The time length is fixed in the module's Python code: a loop over range(x.shape[1]), int(x.shape[1]), "
    "len(x) or unbind. Run nn.GRU over the time axis instead; or export one step, forward(x, h) -> (y, h), with "
    'stream="step": for streaming that is the better graph anyway'
)
UNROLLED = (
    "torch's default exporter unrolls nn.RNN over the example's time length: pass exporter=\"legacy\", or export one "
    'step, forward(x, h) -> (y, h), with stream="step"'
)
PACKED = (
    "torch's default exporter has no packed sequences (pack_padded_sequence). Streams need no padding: call nn.GRU on "
    "the tensor itself, and pick the last frames with gather where the lengths differ"
)
BY_VALUE = (
    "What forward() computes has a shape that depends on values, as nonzero() or a boolean mask gives it: multiply "
    "with the mask, or use torch.where, so that shapes depend on shapes alone"
)
NO_FORM = "An operator has no ONNX form: write it with simpler ones"

# What the exporters say, and what it means; the first that is found counts.
_CAUSES = (
    (r"argument 'size' failed to unpack|_?pack_padded", PACKED),
    (r"GuardOnDataDependent|[Dd]ata.?dependent|DynamicOutputShape", BY_VALUE),
    (r"inferred a static shape|Constraints violated|specialized", FIXED_TIME),
    (r"UnsupportedOperatorError|not supported|No ONNX function found|Unsupported operator", NO_FORM),
)


@dataclass(frozen=True)
class Hints:
    """What is known of a module that may explain why an exporter fails."""

    branches: str = ""  # where it reads the values of tensors, in words
    packs: bool = False  # whether it packs sequences


def _explain(exc: BaseException, module: nn.Module, exporter: str, dynamic: bool, hints: Hints) -> str:
    reason = _reason(exc)
    cause = next((cause for pattern, cause in _CAUSES if re.search(pattern, reason)), "")
    if cause == BY_VALUE and (hints.branches or hints.packs):
        cause = hints.branches or PACKED
    if cause == PACKED and exporter != "dynamo":
        cause = ""
    if (
        cause == FIXED_TIME
        and exporter == "dynamo"
        and dynamic
        and any(isinstance(m, nn.RNN) for m in module.modules())
    ):
        cause = UNROLLED
    return f"the {exporter} exporter failed: {reason}" + (f"\n{cause}" if cause else "")


_FOR_TORCHS_AUTHORS = r"\s*$|For more information|For extended logs|consider using|Caused by:|from user code:"


def _reason(exc: BaseException) -> str:
    """The exporter's own summary, without its advice on how to debug torch."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", str(exc))
    summary = re.search(r"## Exception summary\s*(.*?)\s*(?:\(Refer to|$)", text, re.DOTALL)
    text = summary.group(1) if summary else text
    lines = [line for line in text.strip().splitlines() if not re.match(_FOR_TORCHS_AUTHORS, line)]
    return "\n".join(lines[:6]) or type(exc).__name__
