"""Whether a module becomes a step graph or a sequence graph, and why it cannot be what was asked for.

What a refusal recommends was tried on the module, or follows from its code alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias

from torch import Tensor

from streamgru.errors import ExportError

from .axes import RECURRENT, TimeAxes, accepts, grow
from .signature import FlatModule
from .states import Signature, StateNames

Kind: TypeAlias = Literal["step", "sequence"]


def choose_kind(
    stream: Kind | None, module: FlatModule, signature: Signature, states: StateNames, times: TimeAxes
) -> Kind:
    """A step graph if a state goes in and comes out and the example is one frame, else a sequence graph if there is
    a time axis.

    Raises
    ------
    ExportError
        The module cannot be what the caller asked for.
    """
    length = next((signature.examples[i].shape[axis] for i, axis in times.axes.items()), None)
    one_frame = bool(states.pairs) and length in (None, 1)
    kind = stream or ("sequence" if times.axes and not one_frame else "step")
    recurrent = any(isinstance(m, RECURRENT) for m in module.modules())
    if kind == "sequence" and not times.axes:
        raise ExportError(_no_time(module, signature, states, forgetful=recurrent and not states.pairs))
    if kind == "step" and not states.pairs and recurrent:
        raise ExportError(_no_state(module, signature, states, times))
    return kind


def _no_time(module: FlatModule, signature: Signature, states: StateNames, *, forgetful: bool) -> str:
    examples = signature.examples
    shapes = ", ".join(f"{n} {tuple(x.shape)}" for n, x in zip(states.inputs, examples, strict=True))
    said = (
        f'stream="sequence": along no axis of the inputs ({shapes}) does a longer example make a recurrent layer run '
        "more steps. "
    )
    lead = next((i for i in range(len(examples)) if i not in dict(states.pairs)), None)
    axes = [] if lead is None else _growing(module, examples, lead)
    if axes:
        given = " or ".join(f"time_axis={axis}" for axis in axes)
        said += (
            f"The module accepts a longer '{states.inputs[lead or 0]}' all the same: if that is its time, pass {given}"
        )
    elif not forgetful:
        said += 'Leave stream= out, or pass stream="step": what one call takes is one step'
    else:
        said += "Let forward() run its layers over a time axis, or take and return the state: forward(x, h) -> (y, h)"
    return said


def _growing(module: FlatModule, examples: Sequence[Tensor], lead: int) -> list[int]:
    """The axes after the first, which is the batch, along which the module accepts a longer input."""
    axes = range(1, examples[lead].ndim)
    return [axis for axis in axes if accepts(module, grow(examples, {lead: axis}))]


def _no_state(module: FlatModule, signature: Signature, states: StateNames, times: TimeAxes) -> str:
    said = (
        "a step graph of this module would forget everything between two calls: it has recurrent layers, but no state "
        "goes in and comes out. Let forward() take and return it, forward(x, h) -> (y, h), and give it in the example"
    )
    pair = next(((i, o) for i, x in enumerate(signature.examples) for o in _successors(signature, i, x)), None)
    if pair is not None:
        i, o = states.inputs[pair[0]], states.outputs[pair[1]]
        said += f"; if '{i}' is a state and '{o}' its successor, pass output_names={[*states.outputs]} and "
        said += f"state=[({i!r}, {o!r})]"
    if times.axes:
        said += '; or export with stream="sequence", where streamgru keeps the GRU\'s state itself'
    elif axes := _growing(module, signature.examples, 0):
        said += f'; or, if its layers run within a frame, pass stream="sequence" and time_axis={axes[0]}'
    return said


def _successors(signature: Signature, i: int, x: Tensor) -> list[int]:
    """The outputs of the shape of input `i` that depend on it."""
    results = enumerate(zip(signature.results, signature.flow.results, strict=True))
    return [o for o, (y, facts) in results if y.shape == x.shape and y.dtype == x.dtype and i in facts.depends]


def check_backward(kind: Kind, examples: Sequence[Tensor], times: TimeAxes, notices: list[str]) -> None:
    """A layer that runs backward over time needs the future. One over another axis, in a frame, does not."""
    if not times.backward:
        return
    layers = ", ".join(name.removeprefix("module.").removeprefix("module") or "the module" for name in times.backward)
    if kind == "sequence":
        notices.append(f"bidirectional over time ({layers}): the graph runs whole sequences and cannot stream")
    elif all(examples[i].shape[axis] == 1 for i, axis in times.axes.items()):
        raise ExportError(
            f"bidirectional over time ({layers}): a step cannot know the frames to come. Make the layer "
            'unidirectional, or export with stream="sequence" to run whole sequences'
        )


def check_apart(kind: Kind, signature: Signature, times: TimeAxes, notices: list[str], *, given: bool) -> None:
    """A second sequence of its own length, as a decoder's beside an encoder's, is frozen to the example's.

    `given`: the caller named the time axis himself, and leaves the other sequence as it is.

    Raises
    ------
    ExportError
        Results grow with that second sequence, and the caller did not name the time axis.
    """
    if kind != "sequence":
        return
    names, examples = signature.arguments, signature.examples
    lead, time = next(iter(times.axes.items()))
    for i, axis in {**times.apart, **times.loose}.items():
        fixed = f"'{names[i]}' {tuple(examples[i].shape)} keeps its length {examples[i].shape[axis]} on axis {axis}"
        if given or i in times.loose:
            notices.append(f"{fixed}, though forward() takes more: the graph has one time, that of '{names[lead]}'")
            continue
        raise ExportError(
            f"'{names[lead]}' and '{names[i]}' are sequences of two lengths, and a graph has one time. With that of "
            f"'{names[lead]}', {fixed}. If they run frame by frame together, give both one length in the example; if "
            f"that length is fixed, pass time_axis={time}; else export the two parts of the module by themselves"
        )
