"""What becomes of time where values are padded, convolved and cut along it: rules of causal.py.

A causal convolution is spelled in many ways: padded at the beginning by itself or by a Pad, padded at both ends and cut
at the end, one Pad for a whole stack. All come down to where frame 0 stands: a kernel that reaches `(k - 1) · dilation`
entries back moves it that far towards the front, padding at the beginning moves it away from there. If it ever stands
before entry 0, an output frame needs input frames that are still to come.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ..graph.graph import Array, Graph, Node
from .check import Check
from .places import FIXED, LAST, PROBES, Time


def kernel_of(graph: Graph, node: Node) -> list[int]:
    """The spatial size of a convolution's or a pool's kernel."""
    return list(node.attrs.get("kernel_shape") or graph.types[node.inputs[1]].shape[2:])


def padding(node: Node, size: Sequence[int], kernel: Sequence[int]) -> tuple[list[int], list[int]]:
    """Entries that a Conv adds at the beginning and at the end of each spatial axis; auto_pad spelled out."""
    n = len(kernel)
    strides, dilations = node.attrs.get("strides", [1] * n), node.attrs.get("dilations", [1] * n)
    auto = node.attrs.get("auto_pad", "NOTSET")
    if not auto.startswith("SAME"):
        pads = list(node.attrs.get("pads", [0] * 2 * n)) if auto == "NOTSET" else [0] * 2 * n
        return pads[:n], pads[n:]
    outs = [-(-s // step) for s, step in zip(size, strides, strict=True)]
    walks = zip(outs, strides, kernel, dilations, size, strict=True)
    totals = [max(0, (o - 1) * step + (k - 1) * d + 1 - s) for o, step, k, d, s in walks]
    less, more = [t // 2 for t in totals], [t - t // 2 for t in totals]
    return (more, less) if auto == "SAME_LOWER" else (less, more)


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
    k, kernel = p.axis - 2, kernel_of(check.graph, node)
    if node.attrs.get("strides", [1] * len(kernel))[k] != 1:
        check.refuse(node, "its stride over the time axis gives more frames than there are")
    if node.attrs.get("output_shape") or node.attrs.get("auto_pad", "NOTSET").startswith("SAME"):
        check.refuse(node, "its padding along the time axis follows from the length of the sequence; give it as pads")
    begin, end, more = transposed_padding(node, len(kernel))
    reach = (kernel[k] - 1) * node.attrs.get("dilations", [1] * len(kernel))[k]
    if not (reach or begin[k] or end[k] or more[k]):
        check.put(node, p)
        return
    _only_frames(check, node, p)
    before, after = p.before - begin[k], p.after + reach + more[k] - end[k]
    if before < 0:
        check.refuse(
            node,
            f"it cuts {begin[k]} entries off the beginning of the time axis: its outputs need {-before} frames of the "
            "future. A causal one is cut at the end alone",
        )
    if after < 0:
        check.refuse(node, "it cuts off frames at the end of the time axis")
    check.put(node, Time(p.axis, 1, before, after))


def transposed_padding(node: Node, n: int) -> tuple[list[int], list[int], list[int]]:
    """Of a ConvTranspose: what is cut off the beginning and the end of each spatial axis, and added to the end."""
    pads = node.attrs.get("pads", [0] * 2 * n) if node.attrs.get("auto_pad", "NOTSET") == "NOTSET" else [0] * 2 * n
    return list(pads[:n]), list(pads[n:]), list(node.attrs.get("output_padding", [0] * n))


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
    k, size, kernel = p.axis - 2, check.shape(node.inputs[0])[2:], kernel_of(check.graph, node)
    begin, end = padding(node, size, kernel)
    dilation, stride = (node.attrs.get(key, [1] * len(kernel))[k] for key in ("dilations", "strides"))
    if stride != 1:
        check.refuse(node, f"its stride over the time axis is {stride}: it does not give a frame for each frame")
    reach = (kernel[k] - 1) * dilation
    if not reach and not begin[k] and not end[k]:
        check.put(node, p)
        return
    _only_frames(check, node, p)
    before = p.before + begin[k] - reach
    if before < 0:
        check.refuse(
            node,
            f"its kernel of {kernel[k]} (dilation {dilation}) reaches {-before} frames into the future. A causal "
            f"{'pool' if is_pool else 'convolution'} has all its padding, {reach}, at the beginning of the time axis, "
            "or cuts as much off the end",
        )
    if begin[k] and node.op_type == "AveragePool" and not node.attrs.get("count_include_pad", 0):
        check.refuse(
            node,
            "its averages at the beginning of the sequence are over fewer frames than later; "
            "with count_include_pad=1, or a Pad before it, they are over as many",
        )
    check.put(node, Time(p.axis, 1, before, p.after + end[k]))


def _only_frames(check: Check, node: Node, p: Time) -> None:
    """What is padded or convolved must lie along an axis of frames and nothing else."""
    if p.inner != 1 or check.shape(node.inputs[0])[p.axis] != p.entries(PROBES[0]):
        check.refuse(node, "its time axis is made of frames and something else")
    if check.graph.types[node.inputs[0]].dtype != np.float32:
        check.refuse(node, "a history of frames that are not float is not supported")


def pads_of(graph: Graph, node: Node) -> list[tuple[int, int]] | None:
    """A Pad's begin and end for every axis; None where they are computed."""
    rank = len(graph.types[node.inputs[0]].shape)

    def ints(key: str, i: int, default: list[int] | None) -> list[int] | None:
        given: Array | None = graph.constants.get(node.input(i)) if node.input(i) else None
        if given is not None:
            return [int(v) for v in given.reshape(-1)]
        return None if node.input(i) else [int(v) for v in node.attrs[key]] if key in node.attrs else default

    pads, axes = ints("pads", 1, None), ints("axes", 3, list(range(rank)))
    if pads is None or axes is None or len(pads) != 2 * len(axes):
        return None
    found = [(0, 0)] * rank
    for axis, begin, end in zip(axes, pads, pads[len(axes) :], strict=False):
        found[axis % rank] = (begin, end)
    return found


def pad_value(graph: Graph, node: Node) -> float | None:
    """What a Pad fills with; None where it is computed."""
    if not node.input(2):
        return float(node.attrs.get("value", 0.0))
    value = graph.constants.get(node.inputs[2])
    return None if value is None else float(value.reshape(-1)[0])


def pad(check: Check, node: Node) -> None:
    """Pad of another axis than time, or of the time axis with a constant."""
    p = check.place(node, 0)
    if not isinstance(p, Time):
        check.put(node, p)
        return
    both = [pads_of(graph, node) for graph in (check.graph, check.long)]
    pads, there = (None if found is None else found[p.axis] for found in both)
    if pads is None or pads != there:
        check.refuse(node, "it pads the time axis by a number that depends on the length of the sequence")
    if pads == (0, 0):
        check.put(node, p)
        return
    _only_frames(check, node, p)
    if max(pads) > 0 and (node.attrs.get("mode", "constant") != "constant" or pad_value(check.graph, node) is None):
        check.refuse(node, "it pads the time axis with something else than a constant")
    before, after = p.before + pads[0], p.after + pads[1]
    if before < 0 or after < 0:
        check.refuse(node, "it takes some frames of the sequence, other than the last")
    check.put(node, Time(p.axis, 1, before, after))


def constant_first(check: Check, node: Node) -> bool:
    """Concat of a constant and the frames, along time: a Pad whose frames may differ."""
    if len(node.inputs) != 2 or check.place(node, 0) != FIXED:
        return False
    p, (short, long) = check.place(node, 1), check.const(node, 0)
    if not isinstance(p, Time) or node.attrs["axis"] % len(check.shape(node.inputs[1])) != p.axis:
        return False
    if short is None or long is None or short.shape[p.axis] != long.shape[p.axis]:
        return False
    if p.inner != 1 or check.shape(node.inputs[1])[p.axis] != p.entries(PROBES[0]) or short.dtype != np.float32:
        return False
    check.put(node, Time(p.axis, 1, p.before + short.shape[p.axis], p.after))
    return True


def slice_(check: Check, node: Node) -> None:
    """Slice: along time all of it, the last frame, or without what was padded."""
    p = check.place(node, 0)
    if not isinstance(p, Time):
        check.put(node, p)
        return
    entries = [entries_of(g, node, p.axis) for g in (check.graph, check.long)]
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


def slice_ints(graph: Graph, node: Node) -> list[tuple[int, int, int, int]]:
    """(axis, start, end, step) of a Slice, as they are given."""
    rank = len(graph.types[node.inputs[0]].shape)

    def ints(key: str, i: int, default: list[int]) -> list[int]:
        if node.input(i):
            return [int(v) for v in graph.constants[node.inputs[i]].reshape(-1)]
        return [int(v) for v in node.attrs.get(key, default)]

    starts, ends = ints("starts", 1, []), ints("ends", 2, [])
    axes, steps = ints("axes", 3, list(range(len(starts)))), ints("steps", 4, [1] * len(starts))
    return [(a % rank, start, end, step) for a, start, end, step in zip(axes, starts, ends, steps, strict=True)]


def entries_of(graph: Graph, node: Node, axis: int) -> range:
    """The entries of `axis` that a Slice takes."""
    size = graph.types[node.inputs[0]].shape[axis]
    for a, start, end, step in slice_ints(graph, node):
        if a == axis:
            stop = None if step < 0 and end < -size else end
            return range(size)[slice(start, stop, step)]
    return range(size)
