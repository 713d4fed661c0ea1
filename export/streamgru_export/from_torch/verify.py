"""Compares an exported graph, run by onnxruntime, with the PyTorch module it came from.

It does not compare with streamgru's own kernels: `streamgru.parity` does. Every trial draws fresh inputs, runs
several calls, and feeds each side its own states back; where axes are dynamic, other lengths and batches are
trials too.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from streamgru._types import Array
from streamgru.errors import ExportError

from ..lost_reset import suspicious_grus
from ..ort import Session, named, open_session
from .signature import FlatModule, Interface

SEED = 0
STEPS = 8  # calls of a step graph
CHUNKS = 2  # calls of a sequence graph
_TIME_ADVICE = (
    "by a Python loop over time, or by the exporter. Run nn.GRU over the time axis, or export one step, "
    'forward(x, h) -> (y, h), with stream="step"'
)
_ATTENTION_ADVICE = 'by nn.MultiheadAttention in the legacy exporter. Pass exporter="dynamo"'


@dataclass(frozen=True)
class Trial:
    """One shape to try, and how often to feed the states back."""

    time: int
    batch: int
    calls: int

    def __str__(self) -> str:
        return f"T={self.time}, B={self.batch}"


@dataclass(frozen=True)
class Verified:
    """The largest absolute difference found, and what was left unchecked."""

    max_abs_error: float
    notices: tuple[str, ...]


class _Mismatch(Exception):  # noqa: N818  a finding on its way to an ExportError
    """What differs; `error` is None where there is no number to give."""

    def __init__(self, what: str, error: float | None = None) -> None:
        super().__init__(what)
        self.error = error


def verify(
    path: Path, module: FlatModule, interface: Interface, tolerance: float, unused: Sequence[str] = ()
) -> Verified:
    """Run graph and module side by side.

    An output passes if its largest absolute difference is at most `tolerance × max(1, max|output|)`.

    Parameters
    ----------
    unused : sequence of str
        The inputs whose values no result depends on.

    Raises
    ------
    ExportError
        The graph does not run, gives another shape, or differs by more; with the output, the place and a
        likely cause.
    """
    session = _open(path)
    _check_inputs(session, interface, unused)
    worst, passed = 0.0, []
    notices: list[str] = []
    rng = np.random.default_rng(SEED)
    for trial in _trials(interface):
        try:
            worst = max(worst, _tried(session, module, interface, trial, tolerance, rng, notices))
            passed.append(trial)
        except _Refused as refusal:
            notices.append(f"not verified at {trial}: the module itself refuses it ({refusal})")
        except _Mismatch as mismatch:
            cause = _likely_cause(path, module, mismatch, passed, interface)
            raise ExportError(f"{mismatch} ({trial}, seed {SEED}).{cause and ' '}{cause}") from mismatch
    if not passed:
        raise ExportError(f"the graph cannot be compared with the module: {notices[0]}")
    if interface.time_axes and len({trial.time for trial in passed}) < 2:
        raise ExportError(f"the graph can be compared with the module at {passed[0]} alone: {notices[0]}")
    return Verified(worst, tuple(notices))


def _check_inputs(session: Session, interface: Interface, unused: Sequence[str]) -> None:
    """The graph's inputs are those asked for: by tracing, what has no part in a result goes."""
    found = [node.name for node in session.get_inputs()]
    lost = [name for name in interface.inputs if name not in found]
    if found == list(interface.inputs):
        return
    if set(lost) <= set(unused):
        raise ExportError(
            f"no result of forward() depends on the values of {', '.join(lost)}. Remove the argument, or leave it "
            "out of the example where it has a default"
        )
    raise ExportError(
        f"the exporter kept the inputs {found} of {list(interface.inputs)}, and lost others that results depend on"
    )


class _Refused(Exception):  # noqa: N818
    """The module does not accept this shape."""


def _open(path: Path) -> Session:
    """The graph as it was written, without onnxruntime's own rewriting and its noise."""
    try:
        onnx.checker.check_model(named(path))
        return open_session(path, optimised=False)
    except Exception as exc:
        raise ExportError(f"the exporter wrote a graph that onnxruntime does not accept: {exc}") from exc


def _trials(interface: Interface) -> Iterator[Trial]:
    """The example's shape first; then one step, twice the length (a stale one divides it), an odd one."""
    time, batch = interface.size(interface.time_axes), interface.size(interface.batch_axes)
    times = [time, 1, 2 * time, 2 * time + 1] if interface.time_axes else [time]
    batches = [batch, 1, batch + 2] if interface.batch_axes else [batch]
    calls = CHUNKS if interface.time_axes else STEPS
    for t, b in dict.fromkeys(itertools.product(times, batches)):
        yield Trial(t, b, calls)


def _tried(
    session: Session,
    module: FlatModule,
    interface: Interface,
    trial: Trial,
    tolerance: float,
    rng: np.random.Generator,
    notices: list[str],
) -> float:
    """The largest difference for random values; for the example's own where the module takes no others."""
    shapes = interface.shapes(trial.time, trial.batch)

    def random() -> list[Array]:
        drawn = [_draw(x, shape, rng) for x, shape in zip(interface.examples, shapes, strict=True)]
        return [_lengths(x, trial.time, rng) if i in interface.lengths else x for i, x in enumerate(drawn)]

    def longest_first() -> list[Array]:  # as packing wants it with enforce_sorted
        return [np.sort(x)[::-1] if i in interface.lengths else x for i, x in enumerate(random())]

    def own() -> list[Array]:
        return [_repeated(x.numpy(), shape) for x, shape in zip(interface.examples, shapes, strict=True)]

    refusals = []
    for values in (random, longest_first) if interface.lengths else (random,):
        try:
            return _try(session, module, interface, trial, tolerance, values)
        except _Refused as refusal:
            refusals.append(refusal)
    worst = _try(session, module, interface, trial, tolerance, own)
    notices.append(
        f"at {trial} verified on the example's values alone: the module refuses random ones ({refusals[-1]})"
    )
    return worst


def _repeated(x: Array, shape: Sequence[int]) -> Array:
    """The values of `x`, from the start again where there are not enough."""
    for axis, size in enumerate(shape):
        x = np.take(x, range(size), axis, mode="wrap")
    return x


def _try(
    session: Session,
    module: FlatModule,
    interface: Interface,
    trial: Trial,
    tolerance: float,
    values: Callable[[], list[Array]],
) -> float:
    ours: dict[int, Array] = {}  # states by input position, as the graph gave them
    theirs: dict[int, Array] = {}
    worst = 0.0
    for call in range(trial.calls):
        fresh = values()
        expected = _run_module(module, [theirs.get(i, x) for i, x in enumerate(fresh)])
        given = {name: ours.get(i, x) for i, (name, x) in enumerate(zip(interface.inputs, fresh, strict=True))}
        actual = _run_graph(session, interface.outputs, given)
        for name, got, want in zip(interface.outputs, actual, expected, strict=True):
            worst = max(worst, _compare(name, got, want, call, tolerance))
        ours = {i: actual[o] for i, o in interface.states}
        theirs = {i: expected[o] for i, o in interface.states}
    return worst


def _lengths(drawn: Array, time: int, rng: np.random.Generator) -> Array:
    """Lengths of sequences of up to `time` frames."""
    return rng.integers(1, time, drawn.shape, drawn.dtype, endpoint=True)


def _draw(example: Tensor, shape: Sequence[int], rng: np.random.Generator) -> Array:
    """Random values of the example's kind: its mean, spread and range; for integers and booleans, its values.

    An example that is all one value (zeros, ones) says nothing of the kind: standard normal values then.
    """
    values: Array = example.detach().numpy().ravel()
    if not example.is_floating_point():
        return np.asarray(rng.choice(values, size=shape)) if values.size else np.empty(shape, values.dtype)
    noise = rng.standard_normal(shape).astype(values.dtype)
    if not values.size or np.ptp(values) == 0:
        return noise
    near: Array = np.clip(noise * values.std() + values.mean(), values.min(), values.max())
    return near


def _run_module(module: FlatModule, inputs: Sequence[Array]) -> list[Array]:
    try:
        with torch.no_grad():
            return [y.numpy().copy() for y in module(*(torch.from_numpy(np.array(x)) for x in inputs))]
    except Exception as exc:
        raise _Refused(_first_line(exc)) from exc


def _run_graph(session: Session, outputs: Sequence[str], inputs: dict[str, Array]) -> list[Array]:
    try:
        return list(session.run(list(outputs), inputs))
    except Exception as exc:
        raise _Mismatch(f"onnxruntime fails on the exported graph: {_first_line(exc)}") from exc


def _first_line(exc: BaseException) -> str:
    return (str(exc).strip().splitlines() or [type(exc).__name__])[0]


def _compare(name: str, got: Array, want: Array, call: int, tolerance: float) -> float:
    """The largest absolute difference; raises _Mismatch above the tolerance."""
    if got.shape != want.shape:
        raise _Mismatch(f"output '{name}' has the shape {got.shape}, the module's is {want.shape}, in call {call}")
    if not want.size:
        return 0.0
    with np.errstate(invalid="ignore"):
        apart = np.abs(got.astype(np.float64) - want.astype(np.float64))
    difference = np.where((got == want) | (np.isnan(got) & np.isnan(want)), 0.0, apart)
    error = float(np.max(difference))  # NaN if any is: then neither comparison below holds
    scale = max(1.0, float(np.max(np.abs(want[np.isfinite(want)]), initial=0.0)))
    if not error <= tolerance * scale:
        at = tuple(int(k) for k in np.unravel_index(np.nanargmax(np.nan_to_num(difference, nan=np.inf)), got.shape))
        raise _Mismatch(
            f"output '{name}' differs from the module by {error:.3g} at index {at}, where the module gives "
            f"{want[at]:.6g}, in call {call}; the tolerance is {tolerance * scale:.3g}",
            error,
        )
    return error


def _likely_cause(
    path: Path, module: FlatModule, mismatch: _Mismatch, passed: Sequence[Trial], interface: Interface
) -> str:
    if _lost_linear_before_reset(path, module):
        return (
            "Likely cause: the graph's GRU has linear_before_reset=0 where PyTorch computes "
            "linear_before_reset=1, "
            "as onnxscript before 0.7.1 writes it. Upgrade onnxscript"
        )
    if interface.lengths and "shape" in str(mismatch):
        return "Likely cause: pad_packed_sequence() cuts to the longest sequence: pass total_length=x.shape[1] to it"
    if passed and interface.time_axes:
        attention = any(isinstance(m, nn.MultiheadAttention) for m in module.modules())
        advice = _ATTENTION_ADVICE if attention else _TIME_ADVICE
        return f"It is right at {passed[0]}. Likely cause: its length is fixed in the graph, {advice}"
    if passed:
        return f"It is right at {passed[0]}. Likely cause: the example's batch size is fixed in forward()"
    if mismatch.error is not None and mismatch.error < 1e-3:
        return "The difference is small: if it is rounding in a deep or badly scaled model, raise tolerance="
    return "Likely cause: the exporter mistranslates an operator"


def _lost_linear_before_reset(path: Path, module: FlatModule) -> bool:
    if not any(isinstance(m, nn.GRU) for m in module.modules()):
        return False
    return bool(suspicious_grus(onnx.load(str(path), load_external_data=False)))
