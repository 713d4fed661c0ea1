"""The past frames that a padded value begins with become a state: at one frame a step, padding in front of the frame
is `history ++ frame`, and the history moves on by one.

Works on a graph of one frame and the places that causal.py found. Padding behind the last frame is left out, and with
it the Slices that cut it off again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from ..graph.budget import check_room
from ..graph.builder import Builder
from ..graph.graph import Array, Graph, Node, Port, TensorType
from ..graph.operators import pad_value, pads, slices
from ..graph.windows import window
from .places import Place, Time
from .slots import Slot

# What a window finds in its own padding; MaxPool leaves it out, which the lowest number comes to.
WINDOWS = {"Conv": 0.0, "AveragePool": 0.0, "MaxPool": float(np.finfo(np.float32).min)}
END = np.iinfo(np.int64).max


def keep_history(graph: Graph, places: Mapping[str, Place]) -> tuple[Graph, list[Slot]]:
    """A graph of one frame in which nothing is padded along time.

    Parameters
    ----------
    graph : Graph
        Of one frame.
    places : mapping
        From :func:`compiler.stream.causal.check_causal`.

    Returns
    -------
    Graph
        With a history in the place of each padding; the graph itself where there is none.
    list of Slot
        The histories, new inputs of that graph.
    """
    if not any(isinstance(p, Time) and p.is_padded for p in places.values()) and not any(
        _has_history(n, graph, places) for n in graph.nodes
    ):
        return graph, []
    graph = graph.copied()
    walk = _Walk(graph, places)
    for node in graph.nodes:
        walk.visit(node)
    graph.nodes = walk.build.nodes
    graph.types.update(walk.build.new_types)
    graph.constants.update(walk.build.new_constants)
    return graph, walk.slots


def _has_history(node: Node, graph: Graph, places: Mapping[str, Place]) -> bool:
    """A window that pads its own time axis, or a ConvTranspose that reaches along it."""
    p = places.get(node.inputs[0]) if node.op_type in (*WINDOWS, "ConvTranspose") else None
    if not isinstance(p, Time) or p.axis < 2:
        return False
    k, moves = p.axis - 2, window(node, graph.types)
    if node.op_type == "ConvTranspose":
        return moves.kernel[k] > 1
    return bool(moves.begins[k] or moves.ends[k])


class _Walk:
    """The nodes in order, those that pad or cut time written anew."""

    def __init__(self, graph: Graph, places: Mapping[str, Place]) -> None:
        self.graph, self.places = graph, places
        self.build = Builder(graph.types, graph.constants, graph.opset)
        self.slots: list[Slot] = []
        self.rules = {
            "Pad": self._pad, "Concat": self._concat, "Slice": self._slice, "ConvTranspose": self._transposed,
            **dict.fromkeys(WINDOWS, self._window),
        }  # fmt: skip
        self.joined: dict[tuple[str, int, bytes], str] = {}  # (frame, axis, what its history begins with) -> both

    def visit(self, node: Node) -> None:
        rule = self.rules.get(node.op_type)
        p, q = self.places.get(node.inputs[-1 if node.op_type == "Concat" else 0]), self.places.get(node.output(0))
        self.build.name = node.name or node.output(0)
        if rule is not None and isinstance(p, Time) and isinstance(q, Time):
            rule(node, p, q)
        else:
            self._keep(node)

    def _keep(self, node: Node) -> None:
        """As it is; with the shapes that its operands have now."""
        if all(not i or self.build.types[i] == self.graph.types[i] for i in node.inputs):
            self.build.nodes.append(node)
        else:
            self.build.add(node)

    def _after(self, x: str, axis: int, start: Array) -> str:
        """`start ++ x` along the time axis, where `start` is what a stream begins with."""
        key = (x, axis, repr(start.shape).encode() + start.tobytes())
        if key not in self.joined:
            name = self.build.name
            state = self.build.free(f"{name}/history_in")
            self.build.types[state] = TensorType(start.dtype, start.shape)
            self.graph.inputs.append(Port(state, start.dtype, start.shape))
            both = self.build.emit("Concat", [state, x], axis=axis)
            later = self.build.free(f"{name}/history_out")  # one frame on, whatever stands behind it
            self._slice_to(both, later, [(axis, 1, 1 + start.shape[axis], 1)])
            self.slots.append(Slot(self._unused(f"{name}.history"), state, later, start))
            self.joined[key] = both
        return self.joined[key]

    def _unused(self, name: str) -> str:
        """A name that no history has."""
        taken = {s.name for s in self.slots}
        while name in taken:
            name += "_"
        return name

    def _padded(self, x: str, axis: int, count: int, value: float) -> str:
        """`count` past frames before `x`; the first ones are made of `value`."""
        if count <= 0:
            return x
        shape = self.build.shape(x)
        check_room(f"the past of '{x}'", (*shape[:axis], count, *shape[axis + 1 :]), 4)
        start = np.full((*shape[:axis], count, *shape[axis + 1 :]), value, np.float32)
        return self._after(x, axis, start)

    def _slice_to(self, x: str, output: str, ranges: list[tuple[int, int, int, int]]) -> str:
        axes, starts, ends, steps = ([r[i] for r in ranges] for i in range(4))
        if self.graph.opset < 10:
            return self.build.emit("Slice", [x], output, axes=axes, starts=starts, ends=ends)
        names = [
            self.build.constant(np.array(v, np.int64), what)
            for v, what in ((starts, "starts"), (ends, "ends"), (axes, "axes"), (steps, "steps"))
        ]
        return self.build.emit("Slice", [x, *names], output)

    def _pad(self, node: Node, p: Time, _: Time) -> None:
        ends = pads(node, len(self.graph.types[node.inputs[0]].shape), self.graph.constants)
        if ends is None or ends[p.axis] == (0, 0):
            self._keep(node)
            return
        value = pad_value(node, self.graph.constants) or 0.0
        x = self._padded(node.inputs[0], p.axis, ends[p.axis][0], value)
        ends[p.axis] = (min(0, ends[p.axis][0]), 0)
        flat = [b for b, _ in ends] + [e for _, e in ends]
        if not any(flat):
            self.build.emit("Identity", [x], node.outputs[0])
        elif self.graph.opset < 11:
            self.build.add(replace(node, inputs=[x], attrs={**node.attrs, "pads": flat}))
        else:
            names = [x, self.build.constant(np.array(flat, np.int64), "pads"), node.input(2)]
            self.build.add(replace(node, inputs=names if names[2] else names[:2]))

    def _transposed(self, node: Node, p: Time, _: Time) -> None:
        """What a frame adds to later outputs, those outputs fetch from the history."""
        k, moves = p.axis - 2, window(node, self.graph.types)
        if p.axis < 2 or moves.kernel[k] == 1:
            self._keep(node)
            return
        begin, end, more, reach = list(moves.begins), list(moves.ends), list(moves.more), moves.reach(k)
        x = self._padded(node.inputs[0], p.axis, reach, 0.0)
        begin[k], end[k], more[k] = begin[k] + reach, reach, 0
        self._moved(node, x, pads=[*begin, *end], output_padding=more)

    def _window(self, node: Node, p: Time, _: Time) -> None:
        k, moves = p.axis - 2, window(node, self.graph.types)
        begin, end = list(moves.begins), list(moves.ends)
        if p.axis < 2 or (not begin[k] and not end[k]):
            self._keep(node)
            return
        x = self._padded(node.inputs[0], p.axis, begin[k], WINDOWS[node.op_type])
        begin[k] = end[k] = 0
        self._moved(node, x, pads=[*begin, *end])

    def _moved(self, node: Node, x: str, **padding: list[int]) -> None:
        """The node over `x`, with this padding in place of its own."""
        attrs = {key: v for key, v in node.attrs.items() if key != "auto_pad"}
        self.build.add(replace(node, inputs=[x, *node.inputs[1:]], attrs={**attrs, **padding}))

    def _concat(self, node: Node, p: Time, q: Time) -> None:
        if q.before == p.before:
            self._keep(node)
            return
        both = self._after(node.inputs[1], p.axis, self.graph.constants[node.inputs[0]])
        self.build.emit("Identity", [both], node.outputs[0])

    def _slice(self, node: Node, p: Time, q: Time) -> None:
        if p == q:
            self._keep(node)
            return
        taken = slices(node, self.graph.types[node.inputs[0]].shape, self.graph.constants) or {}
        ranges = [_as_given(axis, entries) for axis, entries in taken.items() if axis != p.axis]
        if p.before != q.before:
            ranges.append((p.axis, p.before - q.before, END, 1))
        if ranges:
            self._slice_to(node.inputs[0], node.outputs[0], ranges)
        else:
            self.build.emit("Identity", [node.inputs[0]], node.outputs[0])


def _as_given(axis: int, entries: range) -> tuple[int, int, int, int]:
    """(axis, start, end, step) of a Slice; before the first entry, where an end below zero would count from behind."""
    return axis, entries.start, entries.stop if entries.stop >= 0 else -END, entries.step
