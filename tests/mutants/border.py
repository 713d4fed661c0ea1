"""Mutation testing of the border in Python: are a wrong reader, budget, rule, pairing or certificate noticed?

cosmic-ray makes the mutants: its own, which alter operators, numbers, conditions and loops, and two more, which lose a
whole check or statement. Each is put into a copy of the tree and the tests of its file run, those of its folder, then
the wider ones; a mutant is killed where a test fails or does not end. What is the same program but for annotations and
docstrings is no mutant. What survives is printed. `border_excuses.txt` lists slips that nobody can see, each by its
very lines, and why.

    python tests/mutants/border.py [--count N] [--seed S] [--jobs J] [FILE...]     N mutants drawn from all of the files
"""

from __future__ import annotations

import argparse
import ast
import importlib
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from queue import SimpleQueue
from typing import Any, NamedTuple

import parso
import pytest
from cosmic_ray.ast import Visitor, get_ast
from cosmic_ray.mutating import MutationVisitor
from cosmic_ray.operators.operator import Operator
from cosmic_ray.operators.provider import OperatorProvider
from excuses import Excuses, Mutant, one_line

ROOT = Path(__file__).parents[2]
WORK = ROOT / "build" / "mutants" / str(os.getpid())
HERE = "export/streamgru_export"
READER = ("onnx_reader", "external_data", "evaluate", "functions", "schema", "order", "wire", "budget", "bound")
RULES = (
    "timeline", "rules", "padding_rules", "check", "causal", "pairs",
    "lengths", "dimensions", "bound", "elements", "backward", "unbake",
)  # fmt: skip
CERTIFICATE = ("check", "traces", "findings", "setup", "axes", "trial", "judge", "caveats", "misreadings", "peers")
FILES = [
    *(f"{HERE}/compiler/graph/{name}.py" for name in READER),
    *(f"{HERE}/compiler/stream/{name}.py" for name in RULES),
    *(f"{HERE}/parity/{name}.py" for name in CERTIFICATE),
    f"{HERE}/differences.py",
]
WIDER = ("tests/export/compiler/test_limits.py", "tests/export/compiler/test_hostile_models.py", "tests/test_forms.py")
MINUTES = 5  # of the processor for the tests of one mutant; the unaltered ones need one or two
PRELOADED = ("numpy", "onnx", "onnxruntime", "torch", "onnx.reference")
LEFT_OUT = {"NoOp", "VariableReplacer", "VariableInserter", "RemoveDecorator"}


class DropCheck(Operator):
    """`if` is never so."""

    def mutation_positions(self, node: Any) -> Iterator[tuple[Any, Any]]:
        if node.type == "if_stmt":
            yield node.children[1].start_pos, node.children[1].end_pos

    def mutate(self, node: Any, index: int) -> Any:
        node.children[1] = parso.parse(" False").children[0]
        return node

    @classmethod
    def examples(cls) -> tuple[()]:
        return ()


class DropStatement(Operator):
    """A call, a raise, a continue or a sum that is carried on is lost."""

    def mutation_positions(self, node: Any) -> Iterator[tuple[Any, Any]]:
        if node.type == "simple_stmt" and self._is_dropped(node.children[0]):
            yield node.start_pos, node.end_pos

    def _is_dropped(self, statement: Any) -> bool:
        if statement.type == "expr_stmt":
            return statement.children[1].type == "operator" and statement.children[1].value in ("+=", "-=", "|=", "&=")
        return statement.type in ("atom_expr", "raise_stmt", "delete_stmt") or statement == "continue"

    def mutate(self, node: Any, index: int) -> Any:
        statement = node.children[0]
        node.children[0] = parso.parse(statement.get_first_leaf().prefix + "pass").children[0]
        return node

    @classmethod
    def examples(cls) -> tuple[()]:
        return ()


class Place(NamedTuple):
    """Where a slip can be made: the n-th place in a file where an operator can."""

    file: str
    operator: type[Operator]
    n: int


class _Counter(Visitor):
    """How many places there are for an operator."""

    def __init__(self, operator: Operator) -> None:
        self.operator, self.places = operator, 0

    def visit(self, node: Any) -> Any:
        self.places += sum(1 for _ in self.operator.mutation_positions(node))
        return node


def places_of(file: str) -> Iterator[Place]:
    """Every place for a slip in a file."""
    tree, provider = get_ast((ROOT / file).read_text("utf-8")), OperatorProvider()
    for operator in [*(provider[name] for name in provider if name not in LEFT_OUT), DropCheck, DropStatement]:
        counter = _Counter(operator())
        counter.walk(tree)
        yield from (Place(file, operator, n) for n in range(counter.places))


def mutant_at(place: Place) -> Mutant | None:
    """The slip; None where it changes nothing that is run."""
    text = (ROOT / place.file).read_text("utf-8")
    visitor = MutationVisitor(place.n, place.operator())
    altered = visitor.walk(get_ast(text)).get_code()
    if _meaning(altered) in (None, _meaning(text)):
        return None
    return _mutant(place.operator.__name__, place.file, text, altered)


def _meaning(text: str) -> str | None:
    """What a module does, without its annotations and docstrings; None where it is no Python."""
    try:
        tree = ast.parse(text)
    except SyntaxError:
        return None
    for node in ast.walk(tree):
        if isinstance(node, ast.arg):
            node.annotation = None
        if isinstance(node, ast.AnnAssign):
            node.annotation = ast.Constant(None)
        if isinstance(node, ast.FunctionDef):
            node.returns = None
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            node.value = ast.Constant(None)
    return ast.dump(tree)


def _mutant(kind: str, file: str, before: str, after: str) -> Mutant:
    old, new = before.splitlines(), after.splitlines()
    first = next(i for i, (a, b) in enumerate(zip(old, new, strict=False)) if a != b)
    last = next(i for i, (a, b) in enumerate(zip(reversed(old), reversed(new), strict=False)) if a != b)
    cut = (one_line("\n".join(lines[first : len(lines) - last])) for lines in (old, new))
    return Mutant(kind, file, first + 1, *cut, after)


def _lines(file: str) -> str:
    return one_line((ROOT / file).read_text("utf-8"))


# Running


def tests_of(file: str) -> list[str]:
    """The tests that are to notice, the nearest first."""
    path = Path(file).relative_to(HERE)
    folder = Path("tests/export") / path.parent
    nearest = folder / f"test_{path.name}"
    others = sorted(str(p.relative_to(ROOT)) for p in (ROOT / folder).glob("test_*.py") if p.name != nearest.name)
    return [str(p) for p in (nearest, *others, *WIDER) if (ROOT / p).exists()]


def copy_of_tree(name: str) -> Path:
    """The tree as it stands, in a folder of its own."""
    folder = WORK / name
    shutil.rmtree(folder, ignore_errors=True)
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout.decode()
    for file in [
        *filter(None, listed.split("\0")),
        *(str(p.relative_to(ROOT)) for p in (ROOT / "runtime").rglob("*.so")),
    ]:
        if (ROOT / file).is_file():
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / file, folder / file)
    return folder


def is_killed(folder: Path, file: str, text: str | None) -> bool:
    """Whether the tests of a file fail with `text` in its place."""
    target = folder / file
    original = target.read_text("utf-8")
    if text is not None:
        target.write_text(text, "utf-8")
    try:
        pid = os.fork()
        if pid == 0:
            _run_tests(folder, tests_of(file))
        return _status(pid) != 0
    finally:
        target.write_text(original, "utf-8")


def _run_tests(folder: Path, tests: list[str]) -> None:
    """In a child: what is imported already is not imported again. It does not return."""
    os.setsid()
    os.chdir(folder)
    resource.setrlimit(resource.RLIMIT_CPU, (60 * MINUTES, 60 * MINUTES))
    sys.dont_write_bytecode = True
    sys.path[:0] = [str(folder / "runtime"), str(folder / "export")]
    log = os.open("tests.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(log, 1), os.dup2(log, 2)
    code = 3
    try:
        code = pytest.main(["-x", "-q", "-p", "no:cacheprovider", "-m", "not slow and not recipe", *tests])
    finally:
        os._exit(code)


def _status(pid: int) -> int:
    """How the child ended; it is ended where it does not."""
    end = time.monotonic() + 4 * 60 * MINUTES
    while time.monotonic() < end:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return status
        time.sleep(0.1)
    os.killpg(pid, signal.SIGKILL)
    return os.waitpid(pid, 0)[1]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*", default=FILES)
    parser.add_argument("--count", type=int, default=150)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--verbose", action="store_true", help="print the killed mutants too")
    options = parser.parse_args()
    for name in PRELOADED:
        importlib.import_module(name)
    excuses = Excuses(Path(__file__).with_name("border_excuses.txt"))
    if stale := [f"{file}: {before}" for file, before, _ in excuses.reasons if before not in _lines(file)]:
        sys.exit("border_excuses.txt excuses slips in lines that are not there:\n" + "\n".join(stale))
    places = [place for file in options.files for place in places_of(file)]
    made = filter(None, map(mutant_at, random.Random(options.seed).sample(places, len(places))))
    chosen = list(islice((mutant for mutant in made if mutant not in excuses), options.count))
    folders: SimpleQueue[Path] = SimpleQueue()
    for i in range(options.jobs):
        folders.put(copy_of_tree(str(i)))
    folder = folders.get()
    for file in {frozenset(tests_of(mutant.file)): mutant.file for mutant in chosen}.values():
        if is_killed(folder, file, None):
            sys.exit(f"the tests of {file} fail without any mutant: {folder}/tests.log")
    folders.put(folder)

    def judged(mutant: Mutant) -> bool:
        folder = folders.get()
        killed = is_killed(folder, mutant.file, mutant.text)
        folders.put(folder)
        if not killed or options.verbose:
            print(f"{'killed' if killed else 'SURVIVES'} {mutant}", flush=True)
        return killed

    with ThreadPoolExecutor(options.jobs) as pool:
        killed = sum(pool.map(judged, chosen))
    share = killed / max(len(chosen), 1)
    print(f"seed {options.seed}: {len(places)} slips, {len(excuses.used)} of those drawn excused by name")
    print(f"{len(chosen)} mutants made, {killed} killed: {share:.1%}")
    return 0 if share >= 0.85 else 1


if __name__ == "__main__":
    sys.exit(main())
