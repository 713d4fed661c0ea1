"""Who may import whom. What an arrow is: an import anywhere in a file, also one for types alone."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOOR = "streamgru._workshop"  # the one module of the edge package that names the workshop
STAGES = ("graph", "cells", "static", "stream", "lower")  # of the compiler: none imports a later one
ALONE = {"program": ("program",), "verify": ("graph", "program", "verify")}  # what these may import of the compiler

Modules = dict[str, str]  # dotted name, with .__init__ where it is a package -> text


def modules() -> Modules:
    roots = (ROOT / "runtime", ROOT / "export")
    files = ((f, f.relative_to(root).with_suffix("").parts) for root in roots for f in root.rglob("*.py"))
    return {
        ".".join(parts): file.read_text(encoding="utf-8") for file, parts in files if parts[0].startswith("streamg")
    }


@functools.cache
def parsed(text: str) -> list[ast.AST]:
    return list(ast.walk(ast.parse(text)))


def imports(name: str, text: str, known: Modules) -> Iterator[tuple[str, ast.stmt]]:
    """The modules that a module imports."""
    for node in parsed(text):
        if isinstance(node, ast.Import):
            found = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = name.split(".")[: -node.level] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            found = [f"{base}.{alias.name}" for alias in node.names]
            found = [f if f in known or f"{f}.__init__" in known else base for f in found]
        else:
            continue
        for target in found:
            yield (target if target in known else f"{target}.__init__"), node


def breaches(known: Modules) -> list[str]:
    """Every arrow that breaks a rule."""
    found, arrows = [], {}
    for name, text in known.items():
        targets = [(t, node) for t, node in imports(name, text, known) if t in known and t != name]
        own = name.split(".")
        for target, _ in targets:
            into = target.split(".")
            if own[0] == "streamgru" and into[0] == "streamgru_export" and name != DOOR:
                found.append(f"{name} names the workshop: {target}")
            if own[1] == into[1] == "compiler":
                if own[2] in STAGES and into[2] in STAGES and STAGES.index(into[2]) > STAGES.index(own[2]):
                    found.append(f"{name} imports a later stage: {target}")
                if own[2] in (*STAGES, *ALONE) and into[2] not in (*ALONE.get(own[2], STAGES), "program"):
                    found.append(f"{name} imports {target}")
        found += [f"{name} imports inside of a function, line {line}" for line in _hidden(text)]
        arrows[name] = {t for t, _ in targets if name != DOOR and not t.endswith("streamgru.__init__")}
    try:
        TopologicalSorter(arrows).prepare()
    except CycleError as error:
        found.append(f"a circle: {' <- '.join(error.args[1])}")
    return found


def _hidden(text: str) -> list[int]:
    """The lines of imports inside of functions."""
    functions = [n for n in parsed(text) if isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef))]
    inside = (n for function in functions for n in ast.walk(function))
    return [n.lineno for n in inside if isinstance(n, (ast.Import, ast.ImportFrom))]


def test_no_arrow_breaks_a_rule():
    assert breaches(modules()) == []


@pytest.mark.parametrize(
    "module, line, told",
    [
        ("streamgru.stream", "from streamgru_export.zoo import GRUNet", "streamgru.stream names the workshop"),
        ("streamgru_export.compiler.graph.rows", "from ..lower import dense", "imports a later stage"),
        ("streamgru_export.compiler.program.plan", "from ..graph import graph", "program.plan imports"),
        ("streamgru.errors", "from . import stream", "a circle"),
        ("streamgru_export.bench", "def f():\n    import numpy", "imports inside of a function"),
    ],
)
def test_a_planted_breach_is_found(module, line, told):
    known = modules()
    known[module] += f"\n{line}\n"
    assert any(told in breach for breach in breaches(known)), breaches(known)
