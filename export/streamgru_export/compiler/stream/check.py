"""The walk over a graph that places its values in time, and the questions that the rules ask (rules.py)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NoReturn

import numpy as np

from streamgru.errors import CannotStreamError, Obstacle

from ..graph.graph import Array, Graph, Node
from ..graph.kinds import ELEMENTWISE
from .places import FIXED, LAST, PROBES, RUN_WHOLE, Place, Time, inner_of

# What may read a value that was padded along time: it treats all its entries alike, or knows of them.
OF_PADDED = {
    *ELEMENTWISE, "Transpose", "Concat", "Split", "Softmax", "LayerNormalization", "BatchNormalization", "Pad", "Slice",
    "Conv", "ConvTranspose", "MaxPool", "AveragePool",
}  # fmt: skip


class Check:
    """The walk, and the questions the rules ask."""

    def __init__(
        self,
        short: Graph,
        long: Graph,
        axes: dict[str, int],
        rules: Mapping[str, Rule],
        lengths: tuple[int, int] = PROBES,
    ) -> None:
        self.graph, self.long, self.rules, self.lengths = short, long, rules, lengths
        self.places: dict[str, Place] = {}
        self.over_time: set[str] = set()
        self.full: set[str] = set()  # of these, first outputs of those whose sequence_lens are full
        for port in short.inputs:
            self.places[port.name] = Time(axes[port.name]) if port.name in axes else FIXED
        self.there = {next(o for o in n.outputs if o): n for n in long.nodes}

    def walk(self) -> list[tuple[Node, Obstacle]]:
        """Visits every node, in order. Those that look at other frames themselves, not through others, and why."""
        found: list[tuple[Node, Obstacle]] = []
        behind: set[str] = set()  # values that depend on a node that does
        for node in self.graph.nodes:
            if behind.isdisjoint(node.inputs):
                try:
                    if not node.is_like(self.there.get(next(o for o in node.outputs if o))):
                        self.refuse(node, "the graph computes it in another way for another length of the sequence")
                    self.visit(node)
                    continue
                except CannotStreamError as error:
                    found += [(node, o) for o in error.obstacles]
            behind.update(o for o in node.outputs if o)
        producers = self.graph.producers()
        for port in self.graph.outputs:
            if port.name in producers and port.name not in behind:
                try:
                    self.leave(producers[port.name], port.name)
                except CannotStreamError as error:
                    found += [(producers[port.name], o) for o in error.obstacles]
        return found

    def visit(self, node: Node) -> None:
        rule = self.rules.get(node.op_type)
        padded = next((i for i in node.inputs if i and self._is_padded(self.places.get(i))), None)
        if padded is not None and node.op_type not in OF_PADDED:
            self.refuse(
                node,
                f"its input '{padded}' has more entries than frames, for it was padded along the time axis; "
                "cut them off before, or use up the padding in a convolution",
            )
        if rule is not None:
            rule(self, node)
        else:
            self.rest(node)
        self._same_weights(node)
        for o in node.outputs:
            if o:
                self._confirm(node, o)

    def _same_weights(self, node: Node) -> None:
        """Numbers that the rule did not ask for, such as a kernel or what a Pad fills with, are the same for every
        length. Integers among them are shapes, axes and indices: what those do is seen in the outputs."""
        for i, name in enumerate(node.inputs):
            value = self.graph.constants.get(name)
            if value is not None and value.dtype.kind == "f":
                self.place(node, i)

    @staticmethod
    def _is_padded(place: Place | None) -> bool:
        return isinstance(place, Time) and place.is_padded

    def leave(self, producer: Node, output: str) -> None:
        """An output of the graph has one entry for each frame."""
        if self._is_padded(self.places[output]):
            self.refuse(
                producer,
                f"the output '{output}' has more entries than frames, for it was padded along the time axis; "
                "cut them off",
            )

    def rest(self, node: Node) -> None:
        """An operator without a rule may not touch time at all."""
        if any(isinstance(self.place(node, i), Time) for i in range(len(node.inputs))):
            self.refuse(node, "no rule says how this operator treats the frames of a sequence")
        self.put(node, LAST if any(self.place(node, i) == LAST for i in range(len(node.inputs))) else FIXED)

    def refuse(self, node: Node, why: str) -> NoReturn:
        raise CannotStreamError([Obstacle(str(node), why, RUN_WHOLE)])

    def put(self, node: Node, place: Place, i: int | None = None) -> None:
        """The place of output `i`, or of all."""
        for o in node.outputs if i is None else node.outputs[i : i + 1]:
            if o:
                self.places[o] = place

    def place(self, node: Node, i: int) -> Place:
        """Where input `i` has its time. Constants are FIXED, but for those that repeat along time."""
        name = node.input(i)
        if not name:
            return FIXED
        if name not in self.places:
            self.places[name] = self._constant(node, name)
        return self.places[name]

    def _constant(self, node: Node, name: str) -> Place:
        a, b = self.graph.constants.get(name), self.long.constants.get(name)
        if a is None or b is None:
            self.refuse(node, f"its input '{name}' is a constant for some lengths only")
        differ = [i for i, (m, n) in enumerate(zip(a.shape, b.shape, strict=False)) if m != n]
        if a.ndim != b.ndim or len(differ) > 1:
            self.refuse(node, f"its constant '{name}' changes with the length of the sequence")
        if not differ:
            if not np.array_equal(a, b, equal_nan=a.dtype.kind == "f"):
                self.refuse(node, f"its constant '{name}' changes with the length of the sequence")
            return FIXED
        axis = differ[0]
        one = np.take(a, [0], axis)
        if not (a == one).all() or not (b == one).all():
            self.refuse(node, f"its constant '{name}' differs from frame to frame (a position?)")
        inner = inner_of(a.shape[axis], b.shape[axis], self.lengths)
        if inner is None:
            self.refuse(node, f"its constant '{name}' changes with the length of the sequence")
        return Time(axis, inner)

    def shape(self, name: str) -> tuple[int, ...]:
        """At the shorter length."""
        return self.graph.types[name].shape

    def _confirm(self, node: Node, o: str) -> None:
        """The two shapes must say what the rule says."""
        a, b, place = self.shape(o), self.long.types[o].shape, self.places[o]
        expected = list(a)
        if isinstance(place, Time):
            if place.axis >= len(a):
                self.refuse(node, f"its output '{o}' has fewer axes than the one that is time")
            more = place.before + place.after
            count = a[place.axis] - more
            frames, others = self.lengths
            if count % frames:
                self.refuse(node, f"its output '{o}' has {count} entries along the time axis for {frames} frames")
            expected[place.axis] = count // frames * others + more
        if tuple(expected) != b:
            self.refuse(
                node,
                f"the shape of its output '{o}' follows the length of the sequence in a way not understood",
            )

    def const(self, node: Node, i: int) -> tuple[Array | None, Array | None]:
        """The constant at input `i`, for both lengths."""
        name = node.input(i)
        return self.graph.constants.get(name), self.long.constants.get(name)

    def without_time(self, node: Node, *inputs: int) -> None:
        """Refuses time in these inputs."""
        for i in inputs:
            if isinstance(self.place(node, i), Time):
                self.refuse(node, f"its input '{node.input(i)}' depends on the frame")

    def join(self, node: Node, places: list[Place]) -> Place:
        """One place for operands that meet element by element; axes may be counted from the end."""
        times = {p for p in places if isinstance(p, Time)}
        if len(times) > 1:
            self.refuse(node, "it combines frames of different times")
        if times and LAST in places:
            self.refuse(node, "it combines every frame with what is known only at the end of the sequence")
        return next(iter(times)) if times else LAST if LAST in places else FIXED


Rule = Callable[[Check, Node], None]
