"""Every integer attribute of every ONNX operator at the edges of its range: an error, whatever onnx makes of it.

Each model is compiled in a child process, for some of what was found here ended the process.
"""

from __future__ import annotations

import os
import signal
import traceback
from collections.abc import Iterator

import onnx
import pytest
from onnx import AttributeProto, helper

from backend_nodes import all_cases
from streamgru.errors import FaultError, StreamgruError
from streamgru_export.compiler.compile import compile
from streamgru_export.compiler.graph.blame import STRICT

EDGES = (-(2**63), -(2**31), -100, -3, -2, -1, 0, 1, 3, 100, 2**31 - 1, 2**31, 2**62, 2**63 - 1)
LENGTHS = (0, 1, 9)
SECONDS = 60  # for one model; they take milliseconds
CHUNK = 500  # models of one child
INT, INTS = AttributeProto.INT, AttributeProto.INTS


def altered(given: AttributeProto | None, name: str, kind: int) -> Iterator[AttributeProto]:
    """An attribute with one number at an edge, or with another count of numbers."""
    if kind == INT:
        yield from (helper.make_attribute(name, edge) for edge in EDGES)
    elif kind == INTS:
        old = list(given.ints) if given else []
        for edge in EDGES:
            yield from (helper.make_attribute(name, [*old[:k], edge, *old[k + 1 :]]) for k in {0, max(len(old) - 1, 0)})
        for length in LENGTHS:
            yield helper.make_attribute(name, [*old, *[1] * length][:length], attr_type=INTS)


def edges() -> Iterator[tuple[str, bytes]]:
    """Models of one operator each, with one attribute altered; two for each value."""
    met: dict[str, int] = {}
    for case in all_cases():
        version = next((o.version for o in case.model.opset_import if o.domain == ""), 1)
        for k, node in enumerate(case.model.graph.node):
            if node.domain or not onnx.defs.has(node.op_type):
                continue
            given = {a.name: a for a in node.attribute}
            for name, known in onnx.defs.get_schema(node.op_type, version).attributes.items():
                for attribute in altered(given.get(name), name, known.type.value):
                    what = f"{node.op_type}.{name}={helper.get_attribute_value(attribute)}"
                    met[what] = met.get(what, 0) + 1
                    if met[what] <= 2:
                        model = onnx.ModelProto.FromString(case.model.SerializeToString())
                        rest = [a for a in node.attribute if a.name != name]
                        del model.graph.node[k].attribute[:]
                        model.graph.node[k].attribute.extend([*rest, attribute])
                        yield what, model.SerializeToString()


def compile_all(models: list[tuple[str, bytes]], mode: str, out: int) -> None:
    """In a child: the number of each model before it is compiled, and what was no error of ours."""
    os.environ[STRICT] = "1"
    for k, (what, data) in enumerate(models):
        os.write(out, f"@{k}\n".encode())
        signal.alarm(SECONDS)
        try:
            compile(data, mode=mode, length=2 if mode == "whole" else None)
        except BaseException as error:  # noqa: BLE001 - whatever it is, it is told
            if isinstance(error, FaultError) or not isinstance(error, StreamgruError):
                os.write(out, f"{what}: {traceback.format_exc()!r}\n".encode())


def in_a_child(models: list[tuple[str, bytes]], mode: str) -> tuple[int, list[str]]:
    """How many were tried before the child ended, and the findings."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            compile_all(models, mode, writing)
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        lines = pipe.read().decode(errors="replace").splitlines()
    status = os.waitpid(child, 0)[1]
    tried = 1 + max(int(line[1:]) for line in lines if line.startswith("@"))
    findings = [line for line in lines if not line.startswith("@")]
    return tried, [*findings, *([f"{models[tried - 1][0]}: ends the process, status {status}"] if status else [])]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("mode", ["stream", "whole"])
def test_an_attribute_at_its_edge_is_only_an_error(mode):
    models, findings = list(edges()), []
    print(f"{len(models)} models")
    assert len(models) > 5000
    while models:
        tried, found = in_a_child(models[:CHUNK], mode)
        models, findings = models[tried:], findings + found
    assert findings == []
