"""Which ONNX nodes became what: for `streamgru info`. It changes nothing.

A node of the file is one of these in the end:

    an operator's code   it is computed by this operator; where others help it, such as a COPY, the one that computes
    fused                its work is done inside another operator
    free                 it costs nothing: a view, a value computed where it is needed, or one that nobody reads
    folded               it was computed by the compiler: constants, shapes, inference-time Dropout
    GRU cell             one of the pieces of a GRU
    opened               a Loop, Scan or If, whose body stands in its place
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from streamgru.codes import Code

from .graph.graph import Graph, Node
from .program.program import Operator, Program

Census = dict[str, dict[str, int]]  # ONNX operator -> what its nodes became -> how many

MOVES = {Code.COPY, Code.FILL}
BODIES = {"Loop", "Scan", "If"}


def census(read: Graph, static: Graph, lowered: Sequence[Operator], program: Program) -> Census:
    """Counts the nodes of a file.

    Parameters
    ----------
    read, static : Graph
        As the file has it, and as it was lowered.
    lowered : sequence of Operator
        The operators before any was fused or merged; the program holds those that are left.
    """
    producers = static.producers()
    named = {(n.op_type, n.name): n for n in static.nodes if n.name}  # a BatchNormalization folded in takes the output
    left = set(map(id, program.operators))
    before: dict[int, list[Operator]] = {}
    for op in lowered:
        before.setdefault(id(op.origin), []).append(op)

    def fate(node: Node) -> str:
        there = next((producers[o] for o in node.outputs if o in producers), None)
        if there is None or there.op_type != node.op_type:
            there = named.get((node.op_type, node.name))
        if there is None:
            return _gone(node, static)
        own = before.get(id(there), [])
        codes = {op.code for op in own if id(op) in left}
        if codes:
            return "+".join(sorted(c.name for c in codes - MOVES or codes))
        return "free" if {op.code for op in own} <= MOVES else "fused"

    found: dict[str, Counter[str]] = {}
    for node in read.nodes:
        found.setdefault(node.op_type, Counter())[fate(node)] += 1
    return {kind: dict(sorted(counts.items())) for kind, counts in sorted(found.items())}


def _gone(node: Node, static: Graph) -> str:
    if node.op_type in BODIES:
        return "opened"
    return "GRU cell" if static.pieces.intersection(node.outputs) else "folded"
