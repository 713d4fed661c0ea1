"""Mutation testing of the C core: is a wrong core noticed?

Each mutant is the core with one slip in it (c_slips.py): half of those drawn have a wrong token, a flipped sign, an
off-by-one, a swapped comparison, a wrong constant; the other half have lost a check, a term of one, a statement, a
loop or an error. It is built at -O1 and the C tests run, the quick ones first, then longer ones, then some under the
address and undefined-behaviour sanitizers (tests/asan.sh); a mutant is killed where a test fails, crashes or does not
end. What does not compile, or is the same program to the compiler, is no mutant and does not count. What survives is
printed. `c_excuses.txt` lists slips that nobody can see, each by its very lines, and why.

    python tests/mutants/core.py [--count N] [--seed S] [FILE...]     N mutants drawn from all of the files
"""

from __future__ import annotations

import argparse
import atexit
import os
import random
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import cache
from itertools import zip_longest
from pathlib import Path

from c_slips import mutants_of
from excuses import Excuses, Mutant

ROOT = Path(__file__).parents[2]
WORK = ROOT / "build" / "mutants" / str(os.getpid())
CORE = ROOT / "c_src"
FILES = [
    str(path.relative_to(CORE)) for path in sorted(CORE.rglob("*.[ch]")) if "embed" not in path.relative_to(CORE).parts
]
TESTS = (  # quick ones first; each is one program with its arguments
    ("checkkernels", "1"), ("random_grus", "60"), ("api",), ("models",), ("refusals",), ("elements", "40"),
    ("operators", "40"), ("random_cells", "40"), ("convolutions", "60"), ("rare_functions", "60"), ("environment",),
    ("hostile_operators", "12"), ("hostile_images", "2000"), ("function_errors", "49999"), ("wide_images",),
    ("hostile_weights",), ("border",), ("work", "60"), ("cpu",), ("pools", "4"), ("callers", "300"),
)  # fmt: skip
THOROUGH = (  # for what survives these; tests/kernels/test_kernels.py runs no fewer
    ("checkkernels", "8"), ("function_errors", "997"), ("elements", "200"), ("operators", "200"),
    ("random_cells", "200"), ("convolutions", "200"), ("rare_functions", "200"), ("random_grus", "500"),
    ("hostile_images", "20000"), ("pools", "20"),
)  # fmt: skip
SANITIZED = (  # and under the sanitizers
    ("api",), ("models",), ("refusals",), ("elements", "20"), ("operators", "20"), ("random_cells", "20"),
    ("convolutions", "40"), ("rare_functions", "20"), ("random_grus", "40"), ("hostile_operators", "16"),
    ("hostile_images", "10000"), ("pools", "4"),
)  # fmt: skip
SANITIZERS = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all")
SECONDS = 30  # of the processor for one test program; the unaltered one needs a few


class StillbornError(Exception):
    """The compiler refuses the mutant, or makes the same program of it."""


class Builder:
    """The tests' objects and the core's, for a set of flags; a mutant's own are made when it comes."""

    def __init__(self, flags: tuple[str, ...] = ()) -> None:
        self.work = WORK / ("sanitized" if flags else "plain")
        shutil.rmtree(self.work, ignore_errors=True)
        shutil.copytree(ROOT / "c_src", self.work / "c_src")
        shutil.copytree(ROOT / "tests" / "kernels", self.work / "tests")
        self.flags = ["-std=gnu11", "-O1", "-w", "-ffp-contract=off", "-fno-math-errno", "-Ic_src", "-Itests", *flags]
        folders = (".", "ops", "kernels", "threads")
        self.sources = [s for f in folders for s in (self.work / "c_src" / f).glob("*.c")]
        self.clean = {source: self.compile(source, "clean") for source in self.sources}
        self.included = {source: self._included(source) for source in self.sources}
        self.tests: dict[str, Path] = {}

    def compile(self, source: Path, kind: str) -> Path:
        out = source.with_suffix(f".{kind}.o")
        command = ["cc", *self.flags, "-c", str(source.relative_to(self.work)), "-o", str(out)]
        if subprocess.run(command, cwd=self.work, capture_output=True, check=False).returncode:
            raise StillbornError
        return out

    def _included(self, source: Path) -> set[Path]:
        """The files that a source is made of, itself among them."""
        command = ["cc", *self.flags, "-MM", str(source.relative_to(self.work))]
        made_of = subprocess.run(command, cwd=self.work, capture_output=True, text=True, check=True).stdout
        return {self.work / name for name in made_of.replace("\\\n", " ").split()[1:]}

    def killer(self, mutant: Mutant | None, tests: tuple[tuple[str, ...], ...]) -> str | None:
        """The first of the tests that notices, None where none does."""
        objects = dict(self.clean)
        if mutant is not None:
            target = self.work / "c_src" / mutant.file
            original = target.read_text("utf-8")
            target.write_text(mutant.text, "utf-8")
            try:
                objects |= {s: self.compile(s, "mutant") for s in self.sources if target in self.included[s]}
            finally:
                target.write_text(original, "utf-8")
            if all(o.read_bytes() == self.clean[s].read_bytes() for s, o in objects.items()):
                raise StillbornError
        return self._failing([str(o) for o in objects.values()], tests)

    def _failing(self, objects: list[str], tests: tuple[tuple[str, ...], ...]) -> str | None:
        for name, *arguments in tests:
            program = self.work / name
            if name not in self.tests:
                self.tests[name] = self.compile(self.work / "tests" / f"{name}.c", "test")
            link = ["cc", *self.flags, str(self.tests[name]), *objects, "-pthread", "-lm", "-o", str(program)]
            if subprocess.run(link, capture_output=True, check=False).returncode:
                raise StillbornError
            try:
                run = subprocess.run(
                    [str(program), *arguments],
                    capture_output=True,
                    timeout=4 * SECONDS,
                    check=False,
                    preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS)),
                )
            except subprocess.TimeoutExpired:
                return f"{name}, which does not end"
            if run.returncode:
                return " ".join((name, *arguments))
        return None


class Judge:
    """All the tests, in their stages; each stage is tried without a mutant when it is first needed."""

    def __init__(self) -> None:
        plain = Builder()
        self.stages = (
            (lambda: plain, TESTS),
            (lambda: plain, THOROUGH),
            (cache(lambda: Builder(SANITIZERS)), SANITIZED),
        )
        self.tried: set[int] = set()

    def killer(self, mutant: Mutant) -> str | None:
        """The first test that notices, None where none does."""
        for i, (builder, tests) in enumerate(self.stages):
            if i not in self.tried and (failing := builder().killer(None, tests)):
                sys.exit(f"{failing} fails without any mutant")
            self.tried.add(i)
            if killer := builder().killer(mutant, tests):
                return killer if i < 2 else f"{killer} under the sanitizers"
        return None


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*", default=FILES, help="below c_src/")
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=1e9, help="no new mutant after so many")
    parser.add_argument("--verbose", action="store_true", help="print what kills each mutant")
    options = parser.parse_args()
    os.environ["MALLOC_PERTURB_"] = "165"
    os.environ["ASAN_OPTIONS"] = "detect_leaks=0"
    atexit.register(shutil.rmtree, WORK, ignore_errors=True)
    excuses = Excuses(Path(__file__).with_name("c_excuses.txt"))
    everything = [m for file in options.files for m in mutants_of(CORE, file)]
    left = [m for m in everything if m not in excuses]
    if options.files == FILES and excuses.stale():
        sys.exit("c_excuses.txt excuses what is no slip:\n" + "\n".join(excuses.stale()))
    judge = Judge()
    made, survivors, stillborn, began = 0, 0, 0, time.monotonic()
    for mutant in drawn(left, options.seed):
        if made == options.count or time.monotonic() - began > 60 * options.minutes:
            break
        try:
            killer = judge.killer(mutant)
        except StillbornError:
            stillborn += 1
            continue
        made += 1
        survivors += killer is None
        if killer is None or options.verbose:
            print(f"killed by {killer}: {mutant}" if killer else f"SURVIVES {mutant}", flush=True)
    share = 1 - survivors / max(made, 1)
    print(f"seed {options.seed}: {len(everything)} slips, {len(everything) - len(left)} of them excused by name")
    print(f"{stillborn} more that do not compile or are the same program")
    print(f"{made} mutants made, {made - survivors} killed: {share:.1%}")
    return 0 if share >= 0.95 else 1


def drawn(mutants: list[Mutant], seed: int) -> Iterator[Mutant]:
    """All of them in an order of chance, a wrong token and a lost statement by turns while there are both."""
    order = random.Random(seed).sample(mutants, len(mutants))
    kinds = [[m for m in order if m.kind == kind] for kind in ("token", "statement")]
    return (mutant for pair in zip_longest(*kinds) for mutant in pair if mutant)


if __name__ == "__main__":
    sys.exit(main())
