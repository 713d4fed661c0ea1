"""Which axis of a module's inputs is time, and which is the batch: found by running it on a longer example.

It does not read the module's code. An axis is time if the module accepts twice as many entries along it and
one of its recurrent layers then sees a longer sequence, or one of its cells is called more often.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TypeAlias

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence
from torch.utils.hooks import RemovableHandle

from streamgru.errors import ExportError

from .signature import FlatModule

RECURRENT = (nn.RNNBase, nn.RNNCellBase)

_Sequence: TypeAlias = Tensor | PackedSequence


@dataclass(frozen=True)
class TimeAxes:
    """The time axis of every input that has one, and the bidirectional layers that run along it."""

    axes: dict[int, int] = field(default_factory=dict)  # input position -> axis
    backward: tuple[str, ...] = ()
    apart: dict[int, int] = field(default_factory=dict)  # inputs with a time of their own: results grow with them
    loose: dict[int, int] = field(default_factory=dict)  # inputs that may as well be longer: no result grows with them


def find_time_axes(
    module: FlatModule,
    examples: Sequence[Tensor],
    states: Sequence[int],
    axis: int | None = None,
    lengths: Collection[int] = (),
) -> TimeAxes:
    """The time axes of the inputs that are no state.

    Without recurrent layers to watch, time is the first axis after the batch along which the module accepts a
    longer example.

    Parameters
    ----------
    axis : int, optional
        The caller's word for it, on the first input that is no state.
    lengths : positions of inputs
        Those that are lengths of packed sequences: they grow with the time.

    Raises
    ------
    ExportError
        The module does not accept a longer example along `axis`.
    """
    data = [i for i in range(len(examples)) if i not in states and i not in lengths]
    if not data:
        return TimeAxes()
    lead = max(data, key=lambda i: min(examples[i].ndim, 2))  # the first sequence-like input
    watched = any(isinstance(m, RECURRENT) for m in module.modules())
    if axis is not None:
        found = _probe(module, examples, data, lead, _checked_axis(axis, examples[lead]), lengths)
        if found is None:
            raise ExportError(
                f"time_axis={axis}: the module refuses an example twice as long along that axis; "
                f"the input's shape is {tuple(examples[lead].shape)}"
            )
        return _with_apart(module, examples, data, found[0], lengths)
    for candidate in _candidates(examples[lead], watched=watched, stateful=bool(states)):
        found = _probe(module, examples, data, lead, candidate, lengths)
        if found is not None and (found[1] or not watched):
            return _with_apart(module, examples, data, found[0], lengths)
    return TimeAxes()


def _with_apart(
    module: FlatModule, examples: Sequence[Tensor], data: Sequence[int], times: TimeAxes, lengths: Collection[int]
) -> TimeAxes:
    """Also the inputs that can be longer while those with a time are not."""
    apart: dict[int, int] = {}
    loose: dict[int, int] = {}
    free = [i for i in data if i not in times.axes]
    for i in free:
        for axis in range(1, examples[i].ndim):
            found = _probe(module, examples, free, i, axis, lengths) if examples[i].shape[axis] > 1 else None
            if found is not None:
                grows = found[1] or _results_grow(module, examples, found[0].axes)
                (apart if grows else loose)[i] = axis
                break
    return replace(times, apart=apart, loose=loose)


def _results_grow(module: FlatModule, examples: Sequence[Tensor], axes: Mapping[int, int]) -> bool:
    with torch.no_grad():
        before, after = module(*examples), module(*grow(examples, axes))
    return any(a.shape != b.shape for a, b in zip(before, after, strict=True))


def _checked_axis(axis: int, x: Tensor) -> int:
    if not -x.ndim <= axis < x.ndim:
        raise ExportError(f"time_axis={axis}: the input's shape is {tuple(x.shape)}, it has {x.ndim} axes")
    return axis % x.ndim


def _candidates(x: Tensor, *, watched: bool, stateful: bool) -> list[int]:
    """Axes to try, likeliest first. Axis 0 is the batch unless something speaks against it."""
    after = list(range(1, x.ndim))
    return [*after, 0] if watched or (stateful and x.ndim > 2) else after


def _probe(
    module: FlatModule,
    examples: Sequence[Tensor],
    data: Sequence[int],
    lead: int,
    axis: int,
    lengths: Collection[int],
) -> tuple[TimeAxes, bool] | None:
    """Double `axis`. None if the module refuses; else the axes, and whether a layer saw more steps."""
    if axis >= examples[lead].ndim:
        return None
    size = examples[lead].shape[axis]
    together = [i for i in data if examples[i].ndim > axis and examples[i].shape[axis] == size]
    before = _lengths(module, examples)
    for group in (together, [lead]):
        axes = dict.fromkeys(group, axis)
        after = _lengths(module, grow(examples, axes, lengths))
        if after is not None and before is not None:
            longer = [name for name, n in after.items() if n > before.get(name, n)]
            backward = [name for name in longer if getattr(module.get_submodule(name), "bidirectional", False)]
            return TimeAxes(axes, tuple(backward)), bool(longer)
    return None


def grow(examples: Sequence[Tensor], axes: Mapping[int, int], lengths: Collection[int] = ()) -> list[Tensor]:
    """The examples, twice as long along the given axes, and twice these lengths. Sorted ones stay sorted."""
    grown = [x.repeat_interleave(2, axes[i]) if i in axes else x for i, x in enumerate(examples)]
    return [2 * x if i in lengths else x for i, x in enumerate(grown)]


def _lengths(module: FlatModule, examples: Sequence[Tensor]) -> dict[str, int] | None:
    """How many steps each recurrent layer runs for these inputs, and each cell; None if the module refuses them."""
    with _watch(module) as lengths:
        return lengths if accepts(module, examples) else None


def accepts(module: FlatModule, examples: Sequence[Tensor]) -> bool:
    """Whether the module runs on these inputs."""
    try:
        with torch.no_grad():
            module(*examples)
    except Exception:  # noqa: BLE001  a module may refuse a shape with any exception
        return False
    return True


@contextmanager
def _watch(module: FlatModule) -> Iterator[dict[str, int]]:
    lengths: dict[str, int] = {}

    def note(name: str, layer: nn.RNNBase) -> RemovableHandle:
        def hook(_layer: nn.Module, args: tuple[_Sequence, ...], options: dict[str, _Sequence]) -> None:
            x = args[0] if args else options["input"]
            if isinstance(x, PackedSequence):
                lengths[name] = x.batch_sizes.numel()
            else:
                lengths[name] = x.shape[1 if layer.batch_first and x.ndim == 3 else 0]

        return layer.register_forward_pre_hook(hook, with_kwargs=True)

    def count(name: str, cell: nn.RNNCellBase) -> RemovableHandle:
        def hook(_cell: nn.Module, _args: object) -> None:
            lengths[name] = lengths.get(name, 0) + 1

        return cell.register_forward_pre_hook(hook)

    named = [(name, m) for name, m in module.named_modules() if isinstance(m, RECURRENT)]
    hooks = [note(name, m) if isinstance(m, nn.RNNBase) else count(name, m) for name, m in named]
    try:
        yield lengths
    finally:
        for hook in hooks:
            hook.remove()


def find_batch_axes(
    module: FlatModule, examples: Sequence[Tensor], states: Sequence[int], time_axes: dict[int, int]
) -> dict[int, int]:
    """The batch axis of every input.

    An input's batch is its first axis that is not time; a state of rank 3 may hold it in the middle,
    `[layers, B, H]`.

    Raises
    ------
    ExportError
        The module does not accept twice the batch.
    """
    data = {i: 1 if time_axes.get(i) == 0 else 0 for i in range(len(examples)) if i not in states}
    tries = ({**data, **{i: min(k, examples[i].ndim - 2) for i in states}} for k in (1, 0))
    for axes in tries:
        axes = {i: axis for i, axis in axes.items() if 0 <= axis < examples[i].ndim}
        sizes = {examples[i].shape[axis] for i, axis in axes.items()}
        if len(sizes) == 1 and accepts(module, grow(examples, axes)):
            return dict(sorted(axes.items()))
    shapes = ", ".join(str(tuple(x.shape)) for x in examples)
    raise ExportError(
        f"dynamic_batch=True: the module refuses twice the batch of the example (input shapes {shapes}). "
        "Give every input a batch axis, or export with a fixed batch (dynamic_batch=False)"
    )
