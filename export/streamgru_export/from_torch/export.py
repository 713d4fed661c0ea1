"""PyTorch to ONNX that streams, verified against the module before a file is left behind.

It does not compile an image and knows no kernel: `compile` reads what this writes. In order: copy the module
(eval mode, parametrizations folded, float32), refuse what ONNX would silently drop, name inputs, outputs and
states, call torch's exporter, declare what was measured, compare with the module, move the file into place.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Never

import numpy.typing as npt
import onnx_ir as ir
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from streamgru._disk import folder_of_drafts, move
from streamgru._options import as_path, one_of, refuse_unknown
from streamgru.errors import ExportError, OptionError

from ..properties import of_person, of_stream
from .axes import TimeAxes, find_batch_axes, find_time_axes, grow
from .branches import explain, find_branches
from .dataflow import watch
from .exporters import Exporter, Hints, check_onnxscript, run_exporter
from .kind import Kind, check_apart, check_backward, choose_kind
from .prepare import fold_parametrizations, prepare, run_twice
from .signature import Example, FlatModule, Interface, output_keys
from .states import Signature, StateNames, find_states, written_names
from .verify import Verified, verify

SINGLE_FILE_BYTES = 2**31 - 2**24  # protobuf's limit, less room for the graph itself


@dataclass(frozen=True)
class ExportResult:
    """What :func:`export` wrote.

    Attributes
    ----------
    path : Path
        The ONNX file.
    kind : "step" or "sequence"
    inputs, outputs : tuple of str
        The graph's names, states included, in order.
    state : tuple of (str, str)
        Each state's input and the output that continues it.
    time_axis : dict
        The dynamic time axis of every input and output that has one; empty for a step graph.
    max_abs_error : float
        The largest absolute difference between onnxruntime and the module, over all verified runs.
    warnings : tuple of str
        What the caller should know; each was also issued as a `UserWarning`.
    """

    path: Path
    kind: Kind
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    state: tuple[tuple[str, str], ...]
    time_axis: Mapping[str, int] = field(default_factory=dict)
    max_abs_error: float = 0.0
    warnings: tuple[str, ...] = ()


def export(
    module: nn.Module,
    example: Example,
    path: str | Path,
    *,
    stream: Kind | None = None,
    input_names: Sequence[str] | None = None,
    output_names: Sequence[str] | None = None,
    state: Sequence[tuple[str, str]] | None = None,
    time_axis: int | None = None,
    dynamic_batch: bool = False,
    opset: int | None = None,
    exporter: Exporter = "dynamo",
    tolerance: float = 1e-5,
    sample_rate: float | None = None,
    labels: Sequence[str] | Mapping[str, Sequence[str]] | None = None,
    normalisation: Mapping[str, npt.ArrayLike] | None = None,
    metadata: Mapping[str, object] | None = None,
    **unknown: Never,
) -> ExportResult:
    """Export a module as an ONNX graph that streams, and verify it.

    >>> net = GRUNet(input_size=64, hidden_size=64, output_size=1)
    >>> result = streamgru.export(net, (torch.zeros(1, 1, 64), net.initial_state()), "model.onnx")
    >>> result.kind, result.state
    ('step', (('h_in', 'h_out'),))

    A **step** graph has fixed shapes, takes one frame and the states, and gives the result and the new
    states: `forward(x, h) -> (y, h)`. Prefer it for streaming: nothing in it depends on a length, so none of
    the exporters' faults with dynamic axes can touch it, the compiler has nothing to guess, and its state is
    the caller's. A **sequence** graph has a dynamic time axis. Use it where the module only runs whole
    sequences, or is to run them offline as well; streamgru's compiler binds its time to one step and keeps
    each GRU's state itself.

    With `stream=None`: a step graph if a state goes in and comes out and the example is one frame (no time
    axis, or one of length 1); a sequence graph if there is a time axis otherwise; a step graph for a module
    without memory.

    Parameters
    ----------
    module : torch.nn.Module
        Left as it is: a copy is exported, in eval mode, with weight_norm, spectral_norm and other parametrizations
        folded into plain weights. In float32, as streams compute: one in float64 is converted where its results stay
        within `tolerance`; one in float16 or bfloat16 is refused.
    example : Tensor, tuple, list or dict
        What `forward` is called with: one tensor, its arguments in order, or by name. Arguments may nest, as
        an LSTM's `(x, (h, c))`. None and numbers stay constant.
    path : str or Path
        The file to write. It appears only if the graph is right. Weights beyond 2 GB go to a
        file beside it, `<path>.<hash of them>.data`; those of an earlier export stay until you delete them.
    stream : "step", "sequence" or None
    input_names, output_names : sequence of str, optional
        One for each tensor, in order. By default inputs are called like `forward`'s arguments; outputs by
        their key in a returned dict or named tuple, else `y`, `y1` ...; states `<name>_in` and `<name>_out`.
    state : sequence of (input, output), optional
        The states; [] if there is none, whatever its name. By default every input that a recurrent layer takes as
        its state and gives back, or whose name reads as one (h, h0, hx, state, hidden, cache ...), with the output of
        its name, else the one that the layer made of it, else the last free one of its shape if another is left as a
        result. An output not known by the name given here is found in these ways, and then called so.
    time_axis : int, optional
        Of the first input that is no state. By default it is found by running the module. Given, it also says that
        another sequence among the inputs keeps the example's length.
    dynamic_batch : bool
        Whether the batch axis stays dynamic as well.
    opset : int, optional
        By default the exporter's.
    exporter : "dynamo" or "legacy"
        torch's default exporter, or the one by tracing.
    tolerance : float
        The largest difference to the module allowed: absolute for outputs within ±1, else relative to the
        largest.
    sample_rate : float, optional
        Of the signal that the frames are cut from, in hertz.
    labels : sequence of str, or mapping of output name to such a sequence, optional
        What the elements of an output mean.
    normalisation : mapping, optional
        What a caller has to do to a frame first: finite numbers or arrays of them by name, such as `mean` and
        `deviation`. The graph does not apply it.
    metadata : mapping, optional
        What else is to be kept, each value as JSON. All four are in the file under `streamgru.meta.<key>`, go on into
        the image, and come back in `streamgru.load(path).metadata`: these under `"meta"`, the three above by name.

    Returns
    -------
    ExportResult

    Raises
    ------
    FileError
        The file cannot be written to `path`.
    ExportError
        The module cannot be exported faithfully: state kept in buffers, or that goes in and does not come out; branches
        on values; lengths fixed by Python loops; a dtype that float32 does not replace; an exporter that fails or that
        is known to be wrong; a graph that differs from the module. Nothing is left at `path`.
    OptionError
        There is no such option, or it cannot have that value.

    Notes
    -----
    The file's `metadata_props` also hold its kind, time axes and states: `properties.py` lists them. The compiler
    takes them at their word.
    """
    refuse_unknown(export, unknown)
    path = _checked_path(path)
    _check_choices(stream, exporter, tolerance)
    named = {"sample_rate": sample_rate, "labels": labels, "normalisation": normalisation}
    properties = of_person({**(metadata or {}), **{k: v for k, v in named.items() if v is not None}})
    if exporter == "dynamo":
        check_onnxscript()
    notices: list[str] = []
    reference, arguments, examples = prepare(module, example, tolerance, notices)
    returned = run_twice(reference, examples, notices)
    results = [y for y in pytree.tree_leaves(returned) if y is not None]
    signature = Signature(
        arguments,
        examples,
        output_keys(reference.module, returned),
        results,
        written_names(reference.module, len(results)),
        watch(reference, examples),
    )
    branches = find_branches(reference, examples, signature.flow)
    words = explain(branches, arguments)
    if branches.deciding and exporter == "legacy":  # it would trace one of them without a word
        raise ExportError(words)
    notices += [f"forward() checks values in {read.place}: the graph does not" for read in branches.checks]
    states = find_states(signature, input_names=input_names, output_names=output_names, state=state)
    notices += states.notices
    lengths = _lengths(signature)
    times = find_time_axes(reference, examples, [i for i, _ in states.pairs], time_axis, lengths)
    kind = choose_kind(stream, reference, signature, states, times)
    check_backward(kind, examples, times, notices)
    check_apart(kind, signature, times, notices, given=time_axis is not None)
    interface = _interface(reference, examples, states, times, kind, dynamic_batch, lengths)
    shapes = _measure_shapes(reference, interface)
    result = ExportResult(path, kind, interface.inputs, interface.outputs, _pair_names(interface))
    result = replace(result, time_axis=_time_axis(interface, shapes))
    properties |= of_stream(result.kind, result.time_axis, result.state)
    hints = Hints(words, signature.flow.packs)
    unused = [name for i, name in enumerate(states.inputs) if i not in signature.flow.used]
    job = _Job(path.name, reference, interface, shapes, properties, opset, tolerance, hints, unused)
    with folder_of_drafts(path) as folder:
        draft = Path(folder) / "model.onnx"  # the exporters do not take every name that a file can have
        verdict, weights = _written(job, draft, exporter, branching=bool(branches.deciding))
        if weights is not None:  # first: a reader never sees a model without them
            move(weights, path.with_name(weights.name))
        move(draft, path)
    notices += verdict.notices
    for notice in notices:
        warnings.warn(notice, UserWarning, stacklevel=2)
    return replace(result, max_abs_error=verdict.max_abs_error, warnings=tuple(notices))


def _checked_path(path: str | Path) -> Path:
    path = as_path("path", path)
    if path.is_dir() or not path.name:
        raise ExportError(f"{path} is a folder; give the name of the ONNX file to write")
    if not path.parent.is_dir():
        raise ExportError(f"cannot write {path}: the folder {path.parent} does not exist")
    return path


def _check_choices(stream: str | None, exporter: str, tolerance: float) -> None:
    if stream is not None:
        one_of("stream", stream, ("step", "sequence"))
    one_of("exporter", exporter, ("dynamo", "legacy"))
    if not tolerance > 0:
        raise OptionError(f"tolerance={tolerance}: a positive number was expected")


def _lengths(signature: Signature) -> frozenset[int]:
    """The inputs that are lengths of packed sequences, one for each."""
    given = signature.examples
    return frozenset(i for i in signature.flow.lengths if given[i].ndim == 1 and not given[i].is_floating_point())


def _interface(
    module: FlatModule,
    examples: Sequence[Tensor],
    states: StateNames,
    times: TimeAxes,
    kind: Kind,
    dynamic_batch: bool,
    lengths: frozenset[int],
) -> Interface:
    batch = {}
    if dynamic_batch:
        batch = find_batch_axes(module, examples, [i for i, _ in states.pairs], times.axes)
    time = times.axes if kind == "sequence" else {}
    return Interface(states.inputs, states.outputs, tuple(examples), states.pairs, time, batch, lengths)


def _pair_names(interface: Interface) -> tuple[tuple[str, str], ...]:
    return tuple((interface.inputs[i], interface.outputs[o]) for i, o in interface.states)


Shape = tuple[int | str, ...]


def _measure_shapes(module: FlatModule, interface: Interface) -> list[Shape]:
    """The outputs' shapes, dynamic axes by name: measured, since exporters declare stale ones."""
    time, batch = interface.size(interface.time_axes), interface.size(interface.batch_axes)

    def measure(axes: Mapping[int, int], lengths: Collection[int] = ()) -> list[torch.Size]:
        with torch.no_grad():
            return [y.shape for y in module(*grow(interface.examples, axes, lengths))]

    base = measure({})
    longer = measure(interface.time_axes, interface.lengths)
    wider = measure(interface.batch_axes)
    return [
        tuple(_dimension(*sizes, name, axis, time, batch) for axis, sizes in enumerate(zip(b, t, w, strict=True)))
        for name, b, t, w in zip(interface.outputs, base, longer, wider, strict=True)
    ]


def _dimension(base: int, longer: int, wider: int, name: str, axis: int, time: int, batch: int) -> int | str:
    if base == longer == wider:
        return base
    if base == wider:
        return "time" if base == time else f"{name}_time"
    if base == longer:
        return "batch" if base == batch else f"{name}_batch"
    return f"{name}_{axis}"


def _time_axis(interface: Interface, shapes: Sequence[Shape]) -> dict[str, int]:
    axes = {interface.inputs[i]: axis for i, axis in interface.time_axes.items()}
    for name, shape in zip(interface.outputs, shapes, strict=True):
        for axis, size in enumerate(shape):
            if size in ("time", f"{name}_time"):
                axes.setdefault(name, axis)
    return axes


@dataclass(frozen=True)
class _Job:
    """What is to be exported, by whichever exporter."""

    name: str  # of the file
    reference: FlatModule
    interface: Interface
    shapes: Sequence[Shape]  # of the outputs
    properties: Mapping[str, str]
    opset: int | None
    tolerance: float
    hints: Hints
    unused: Sequence[str]  # the inputs whose values no result depends on


def _written(job: _Job, draft: Path, exporter: Exporter, *, branching: bool) -> tuple[Verified, Path | None]:
    """Write the draft and verify it; gives the file of its weights too, where that is another. Where the default
    exporter fails, the other is recommended if it does not; never for a module that branches on values, of which it
    would write one branch."""
    try:
        return _write(job, draft, exporter)
    except ExportError as error:
        if exporter == "dynamo" and not branching and _works(job, draft.with_name("other.onnx")):
            raise ExportError(f'{error}\nPass exporter="legacy": it exports this module, and was verified') from error
        raise


def _works(job: _Job, draft: Path) -> bool:
    try:
        _write(job, draft, "legacy")
    except ExportError:
        return False
    return True


def _write(job: _Job, draft: Path, exporter: Exporter) -> tuple[Verified, Path | None]:
    model = _export_graph(job, draft, exporter)
    _declare(model, job.interface, job.shapes)
    model.metadata_props.update(job.properties)
    weights = _save(model, draft, job.name)
    return verify(draft, job.reference, job.interface, job.tolerance, job.unused), weights


def _export_graph(job: _Job, draft: Path, exporter: Exporter) -> ir.Model:
    interface = job.interface
    dynamic: list[dict[int, str]] = [{} for _ in interface.inputs]
    for name, axes in (("time", interface.time_axes), ("batch", interface.batch_axes)):
        for i, axis in axes.items():
            dynamic[i][axis] = name
    return run_exporter(
        fold_parametrizations(job.reference),
        interface.examples,
        draft.with_name(f"raw-{draft.name}"),
        exporter=exporter,
        inputs=interface.inputs,
        outputs=interface.outputs,
        dynamic=dynamic,
        opset=job.opset,
        hints=job.hints,
    )


def _declare(model: ir.Model, interface: Interface, shapes: Sequence[Shape]) -> None:
    """Declare the measured shapes, name the weights as the module does, drop the source's stack traces."""
    for value, shape in zip(model.graph.outputs, shapes, strict=True):
        value.shape = ir.Shape(shape)
    for weight in list(model.graph.initializers.values()):
        weight.name = (weight.name or "").removeprefix("module.")
    for node in model.graph.all_nodes():
        node.metadata_props.pop("pkg.torch.onnx.stack_trace", None)
        if interface.time_axes:  # the exporters infer inner shapes for the example's length
            for value in node.outputs:
                if not value.is_graph_output():
                    value.shape = value.type = None


def _save(model: ir.Model, draft: Path, name: str) -> Path | None:
    """One file; and a second one for the weights, which is given, where they are too large for that. Its name follows
    from what is in it, so that no model ever stands beside the weights of another one."""
    values = [w.const_value for w in model.graph.initializers.values() if w.const_value is not None]
    if sum(value.nbytes for value in values) <= SINGLE_FILE_BYTES:
        ir.save(model, draft)
        return None
    digest = hashlib.sha256()
    for value in values:
        digest.update(value.tobytes())
    beside = f"{name.encode('utf-8', 'replace').decode()}.{digest.hexdigest()[:16]}.data"  # ONNX's names are UTF-8
    ir.save(model, draft, external_data=beside)
    return draft.with_name(beside)
