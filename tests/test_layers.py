"""Who may import whom. What an arrow is: an import anywhere in a file, also one for types alone."""

from __future__ import annotations

import ast
import functools
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOOR = "streamgru._workshop"  # the one module of the edge package that names the workshop
STAGES = ("graph", "cells", "static", "stream", "lower")  # of the compiler: none imports a later one
ALONE = {"program": ("program",), "verify": ("graph", "program", "verify")}  # what these may import of the compiler

EDGE = (*sys.stdlib_module_names, "numpy", "cffi", "streamgru")  # what a machine that runs images has
SHARED = ("properties", "frames", "differences", "lost_reset")  # of the workshop, what the compiler may use

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
    found: list[str] = []
    arrows: dict[str, set[str]] = {}
    for name, text in known.items():
        own = name.split(".")
        for target in {target for target, _ in imports(name, text, known)} - {name}:
            found += [f"{name} {why}: {target}" for why in _why_not(own, target.split("."))]
        if own[0] == "streamgru" and name != DOOR and "streamgru_export" in _words(text):
            found.append(f"{name} names the workshop")
        found += [f"{name} imports inside of a function, line {line}" for line in _hidden(text)]
        arrows[name] = {t for t, _ in imports(name, text, known) if t in known} - {name} if name != DOOR else set()
    try:
        TopologicalSorter(arrows).prepare()
    except CycleError as error:
        found.append(f"a circle: {' <- '.join(error.args[1])}")
    return found


def _why_not(own: list[str], into: list[str]) -> Iterator[str]:
    """What is wrong with an arrow between two dotted names."""
    if own[0] == "streamgru" and into[0] not in EDGE and ".".join(own) != DOOR:
        is_workshop = into[0] == "streamgru_export"
        yield "names the workshop" if is_workshop else "imports more than the edge install has"
    if own[:2] != ["streamgru_export", "compiler"]:
        if own[:2] == ["streamgru_export", "oracle"] and into[0] == "streamgru_export" and into[1] != "oracle":
            yield "judges, and imports what it judges"
        return
    if into[0] not in (*EDGE, "streamgru_export", "onnx", "google"):
        yield "imports more than onnx"
    if into[0] != "streamgru_export":
        if own[2] == "program" and into[0] in ("onnx", "google"):
            yield "imports more than the edge install has"
        return
    if into[1] != "compiler":
        if into[1] not in SHARED or own[2] == "program":
            yield "imports the workshop around the compiler"
        return
    if own[2] in STAGES and into[2] in STAGES and STAGES.index(into[2]) > STAGES.index(own[2]):
        yield "imports a later stage"
    elif own[2] in (*STAGES, *ALONE) and into[2] not in (*ALONE.get(own[2], STAGES), "program"):
        yield "imports what its stage may not"


def _words(text: str) -> str:
    """All that a module says in strings that are not documentation."""
    documentation = {id(n.value) for n in parsed(text) if isinstance(n, ast.Expr)}
    constants = (n for n in parsed(text) if isinstance(n, ast.Constant) and id(n) not in documentation)
    return " ".join(n.value for n in constants if isinstance(n.value, str))


def _hidden(text: str) -> list[int]:
    """The lines of imports inside of functions and classes."""
    scopes = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    inside = (n for scope in parsed(text) if isinstance(scope, scopes) for n in ast.walk(scope))
    found = [n.lineno for n in inside if isinstance(n, (ast.Import, ast.ImportFrom))]
    calls = (n for n in parsed(text) if isinstance(n, ast.Call) and isinstance(n.func, ast.Name))
    return found + [n.lineno for n in calls if isinstance(n.func, ast.Name) and n.func.id == "__import__"]


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
        ("streamgru_export.bench", "class C:\n    import numpy", "imports inside of a function"),
        ("streamgru_export.bench", "f = lambda: __import__('numpy')", "imports inside of a function"),
        ("streamgru.stream", "M = importlib.import_module('streamgru_export.zoo')", "names the workshop"),
        ("streamgru.stream", "import torch", "more than the edge install has"),
        ("streamgru.errors", "import streamgru", "a circle"),
        ("streamgru_export.compiler.program.plan", "import onnx", "more than the edge install has"),
        ("streamgru_export.compiler.program.plan", "import streamgru_export.zoo", "the workshop around"),
        ("streamgru_export.compiler.graph.rows", "from ...parity import check", "the workshop around"),
        ("streamgru_export.compiler.graph.rows", "import torch", "more than onnx"),
        ("streamgru_export.oracle.model", "from ..compiler.lower import dense", "imports what it judges"),
    ],
)
def test_a_planted_breach_is_found(module, line, told):
    known = modules()
    known[module] += f"\n{line}\n"
    assert any(told in breach for breach in breaches(known)), breaches(known)
