"""What becomes of time where values are padded, convolved and cut along it: rules of causal.py.

A causal convolution is spelled in many ways: padded at the beginning by itself or by a Pad, padded at both ends and cut
at the end, one Pad for a whole stack. All come down to where frame 0 stands: a kernel that reaches `(k - 1) · dilation`
entries back moves it that far towards the front, padding at the beginning moves it away from there. If it ever stands
before entry 0, an output frame needs input frames that are still to come.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..graph.graph import Graph, Node
from ..graph.operators import axis, flag, pad_value, pads, slices, text
from ..graph.windows import window
from .check import Check
from .places import FIXED, LAST, Time


def transposed(check: Check, node: Node) -> None:
    """ConvTranspose: every frame adds to outputs from its own on, so what is cut off the beginning looks ahead."""
    p = check.place(node, 0)
    for i in range(1, len(node.inputs)):
        check.without_time(node, i)
    if not isinstance(p, Time) or p.axis == 0:
        check.put(node, p)
        return
    if p.axis == 1:
        check.refuse(node, "the frames of the sequence are its channels")
    k, moves = p.axis - 2, window(node, check.graph.types)
    if moves.strides[k] != 1:
        check.refuse(node, "its stride over the time axis gives more frames than there are")
    if moves.follows_size:
        check.refuse(node, "its padding along the time axis follows from the length of the sequence; give it as pads")
    begin, end, more, reach = moves.begins[k], moves.ends[k], moves.more[k], moves.reach(k)
    if not (reach or begin or end or more):
        check.put(node, p)
        return
    _only_frames(check, node, p)
    before, after = p.before - begin, p.after + reach + more - end
    if before < 0:
        check.refuse(
            node,
            f"it cuts {begin} entries off the beginning of the time axis: its outputs need {-before} frames of the "
            "future. A causal one is cut at the end alone",
        )
    if after < 0:
        check.refuse(node, "it cuts off frames at the end of the time axis")
    check.put(node, Time(p.axis, 1, before, after))


def conv(check: Check, node: Node) -> None:
    """Conv, MaxPool, AveragePool: time may be the batch, or an axis along which every output frame needs only frames
    up to its own."""
    p = check.place(node, 0)
    for i in range(1, len(node.inputs)):
        check.without_time(node, i)
    is_pool = node.op_type != "Conv"
    if not isinstance(p, Time) or p.axis == 0 or (p.axis == 1 and is_pool):
        check.put(node, p)
        return
    if p.axis == 1:
        check.refuse(node, "the frames of the sequence are its channels")
    k, moves = p.axis - 2, window(node, check.graph.types)
    if moves.strides[k] != 1:
        check.refuse(
            node, f"its stride over the time axis is {moves.strides[k]}: it does not give a frame for each frame"
        )
    begin, end, reach = moves.begins[k], moves.ends[k], moves.reach(k)
    if not (reach or begin or end):
        check.put(node, p)
        return
    _only_frames(check, node, p)
    before = p.before + begin - reach
    if before < 0:
        check.refuse(
            node,
            f"its kernel of {moves.kernel[k]} (dilation {moves.dilations[k]}) reaches {-before} frames into the future."
            f" A causal {'pool' if is_pool else 'convolution'} has all its padding, {reach}, at the beginning of the "
            "time axis, or cuts as much off the end",
        )
    if begin and node.op_type == "AveragePool" and not flag(node, "count_include_pad"):
        check.refuse(
            node,
            "its averages at the beginning of the sequence are over fewer frames than later; "
            "with count_include_pad=1, or a Pad before it, they are over as many",
        )
    check.put(node, Time(p.axis, 1, before, p.after + end))


def _only_frames(check: Check, node: Node, p: Time) -> None:
    """What is padded or convolved must lie along an axis of frames and nothing else."""
    if p.inner != 1 or check.shape(node.inputs[0])[p.axis] != p.entries(check.lengths[0]):
        check.refuse(node, "its time axis is made of frames and something else")
    if check.graph.types[node.inputs[0]].dtype != np.float32:
        check.refuse(node, "a history of frames that are not float is not supported")


def pad(check: Check, node: Node) -> None:
    """Pad of another axis than time, or of the time axis with a constant."""
    p = check.place(node, 0)
    if not isinstance(p, Time):
        check.put(node, p)
        return
    rank = len(check.shape(node.inputs[0]))
    both = [pads(node, rank, graph.constants) for graph in (check.graph, check.long)]
    ends, there = (None if found is None else found[p.axis] for found in both)
    if ends is None or ends != there:
        check.refuse(node, "it pads the time axis by a number that depends on the length of the sequence")
    if ends == (0, 0):
        check.put(node, p)
        return
    _only_frames(check, node, p)
    if max(ends) > 0 and (text(node, "mode") != "constant" or pad_value(node, check.graph.constants) is None):
        check.refuse(node, "it pads the time axis with something else than a constant")
    before, after = p.before + ends[0], p.after + ends[1]
    if before < 0 or after < 0:
        check.refuse(node, "it takes some frames of the sequence, other than the last")
    check.put(node, Time(p.axis, 1, before, after))


def constant_first(check: Check, node: Node) -> bool:
    """Concat of a constant and the frames, along time: a Pad whose frames may differ."""
    if len(node.inputs) != 2 or check.place(node, 0) != FIXED:
        return False
    p, (short, long) = check.place(node, 1), check.const(node, 0)
    if not isinstance(p, Time) or axis(node, len(check.shape(node.inputs[1])), check.graph.opset) != p.axis:
        return False
    if short is None or long is None or short.shape[p.axis] != long.shape[p.axis]:
        return False
    if p.inner != 1 or check.shape(node.inputs[1])[p.axis] != p.entries(check.lengths[0]) or short.dtype != np.float32:
        return False
    check.put(node, Time(p.axis, 1, p.before + short.shape[p.axis], p.after))
    return True


def slice_(check: Check, node: Node) -> None:
    """Slice: along time all of it, the last frame, or without what was padded."""
    p = check.place(node, 0)
    if not isinstance(p, Time):
        check.put(node, p)
        return
    entries = [_entries(check, g, node, p.axis) for g in (check.graph, check.long)]
    sizes = [g.types[node.inputs[0]].shape[p.axis] for g in (check.graph, check.long)]
    cuts = {(p.before - e.start, p.after - (n - e.stop)) for e, n in zip(entries, sizes, strict=True) if e.step == 1}
    if all(e.step > 0 and len(e) == n for e, n in zip(entries, sizes, strict=True)):
        check.put(node, p)
    elif all(list(e) == [n - 1] for e, n in zip(entries, sizes, strict=True)) and p.inner == 1 and not p.after:
        check.put(node, LAST)
    elif p.is_padded and all(e.step == 1 for e in entries) and len(cuts) == 1 and min(next(iter(cuts))) >= 0:
        before, after = cuts.pop()
        check.put(node, replace(p, before=before, after=after))
    else:
        check.refuse(node, "it takes some frames of the sequence, other than the last")


def _entries(check: Check, graph: Graph, node: Node, axis: int) -> range:
    """The entries of `axis` that a Slice takes."""
    shape = graph.types[node.inputs[0]].shape
    found = slices(node, shape, graph.constants)
    if found is None:
        check.refuse(node, "it takes frames by numbers that depend on the data")
    return found.get(axis, range(shape[axis]))
