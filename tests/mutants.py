"""Mutation testing of the C core: are wrong kernels noticed?

Each mutant is the core with one slip in it: a flipped sign, an off-by-one, a swapped comparison, a lost term, a wrong
constant. It is built at -O1 and the C tests run, the quick ones first; a mutant is killed where a test fails, does not
compile, crashes or does not end. What survives is printed. `EQUIVALENT` lists slips that change no result, and why.

    python tests/mutants.py [--count N] [--seed S] [FILE...]     N mutants drawn from all of the files
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
WORK = ROOT / "build" / "mutants"
FILES = [
    *(
        f"kernels/{n}"
        for n in ("ref.c", "rare.c", "avx2.c", "avx512.c", "vmath.h", "products.h", "taps.h", "integer.h")
    ),
    *("kernels/elementwise.h", "kernels/reduce.h", "stream.c", "model.c", "pool.c"),
    *(
        f"ops/{n}.c"
        for n in ("gru", "recurrent", "lstm", "rnn", "matrix", "dense", "conv", "elementwise", "reduce", "index")
    ),
    *(f"ops/{n}.c" for n in ("move", "order", "window", "plane")),
]
TESTS = (  # quick ones first; each is one program with its arguments
    ("checkkernels", "1"), ("random_grus", "60"), ("api",), ("operators", "40"), ("random_cells", "40"),
    ("convolutions",), ("rare_functions", "60"), ("environment",), ("hostile_operators", "12"),
    ("hostile_images", "2000"), ("function_errors", "49999"), ("wide_images",), ("hostile_weights",), ("pools", "4"),
)  # fmt: skip
SECONDS = 60  # for one test program; the unaltered one needs about one
SLIPS = (
    (r"(?<=[\w)\]]) \+ (?=[\w(])", " - "),
    (r"(?<=[\w)\]]) - (?=[\w(])", " + "),
    (r"(?<=[\w)\]]) \* (?=[\w(])", " + "),
    (r"(?<=[\w)\]]) < (?=[\w(])", " <= "),
    (r"(?<=[\w)\]]) <= (?=[\w(])", " < "),
    (r"(?<=[\w)\]]) > (?=[\w(])", " >= "),
    (r"(?<=[\w)\]]) == (?=[\w(])", " != "),
    (r"(?<=[\w)\]]) && (?=[\w(!])", " || "),
    (r"\+\+(?=[;,)])", "++, 0"),
    (r"\+= VL\b", "+= VL + 1"),
    (r"\bv_add\(", "v_sub("),
    (r"\bv_sub\(", "v_add("),
    (r"\bv_mul\(", "v_add("),
    (r"\bv_lt\(", "v_le("),
    (r"\bv_le\(", "v_lt("),
    (r"\bv_min\(", "v_max("),
    (r"\bv_max\(", "v_min("),
    (r"\bv_set1\((?=-?[0-9])", "v_set1(1.001f * "),
    (r"\bv_select\((\w+\([^()]*\)), ", r"v_select(!\1, "),
    (r"(?<![\w.])0\.0f", "1.0f"),
    (r"(?<![\w.])16(?![\w.])", "15"),
    (r"(?<![\w.])1(?![\w.])", "2"),
    (r"\breturn 0;", "return 1;"),
    (r"\breturn 1;", "return 0;"),
)
# file, a part of the line, why the slip changes nothing that anyone can see
EQUIVALENT: tuple[tuple[str, str, str], ...] = (
    ("stream.c", "s->turn", "which way the weights are walked changes the time, not the bits"),
    ("ops/gru.c", "turn", "which way the weights are walked changes the time, not the bits"),
    ("kernels/products.h", "groups", "how rows are grouped changes the time, not the bits, while every row is done"),
    ("kernels/products.h", "UNROLL", "a hint to the compiler"),
    ("stream.c", "SIZE_MAX / 2", "one byte more or less at half of the address space"),
)


class Mutant(NamedTuple):
    file: str
    line: int
    before: str
    after: str
    text: str  # of the whole file

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.before.strip()}  ->  {self.after.strip()}"


def mutants_of(file: str) -> list[Mutant]:
    """Every slip in every line of code of a file."""
    lines = (ROOT / "c_src" / file).read_text("utf-8").splitlines()
    found, in_comment = [], False
    for i, line in enumerate(lines):
        in_comment = in_comment or line.lstrip().startswith("/*")
        code = not in_comment and not re.match(r"\s*(#|static const char|typedef|enum|//|static inline)", line)
        in_comment = in_comment and "*/" not in line
        if not code:
            continue
        end = line.find("/*") if "/*" in line else len(line)
        for pattern, replacement in SLIPS:
            for match in re.finditer(pattern, line[:end]):
                after = line[: match.start()] + match.expand(replacement) + line[match.end() :]
                found.append(Mutant(file, i + 1, line, after, "\n".join([*lines[:i], after, *lines[i + 1 :], ""])))
    return found


def excuse(mutant: Mutant) -> str | None:
    return next((why for file, part, why in EQUIVALENT if mutant.file == file and part in mutant.before), None)


class Builder:
    """The tests' objects once, the core's objects by their content."""

    def __init__(self) -> None:
        shutil.rmtree(WORK, ignore_errors=True)
        shutil.copytree(ROOT / "c_src", WORK / "c_src")
        self.sources = [
            s for folder in (".", "ops", "kernels", "threads") for s in (WORK / "c_src" / folder).glob("*.c")
        ]
        self.clean = {source: self.compile(source) for source in self.sources}
        self.tests = {name: self.compile(ROOT / "tests" / "kernels" / f"{name}.c") for name, *_ in TESTS}

    def compile(self, source: Path) -> Path | None:
        out = WORK / f"{source.stem}-{hashlib.md5(str(source).encode()).hexdigest()[:6]}-{time.monotonic_ns()}.o"
        flags = ["-std=gnu11", "-O1", "-w", "-ffp-contract=off", "-fno-math-errno", "-Itests/kernels"]
        command = ["cc", *flags, f"-I{WORK / 'c_src'}", "-c", str(source), "-o", str(out)]
        return out if subprocess.run(command, cwd=ROOT, capture_output=True, check=False).returncode == 0 else None

    def killer(self, mutant: Mutant | None) -> str | None:
        """The test that notices, None where none does."""
        objects, changed = dict(self.clean), []
        if mutant is not None:
            target = WORK / "c_src" / mutant.file
            original = target.read_text("utf-8")
            target.write_text(mutant.text, "utf-8")
            kernels = [s for s in self.sources if s.parent.name == "kernels" and s.name != "rare.c"]
            changed = [target] if target.suffix == ".c" else kernels
            try:
                objects |= {source: self.compile(source) for source in changed}
            finally:
                target.write_text(original, "utf-8")
        if None in objects.values():
            return "the compiler"
        try:
            return self._failing([str(o) for o in objects.values()])
        finally:
            for source in changed:
                Path(str(objects[source])).unlink(missing_ok=True)

    def _failing(self, objects: list[str]) -> str | None:
        for name, *arguments in TESTS:
            program = WORK / name
            link = ["cc", str(self.tests[name]), *objects, "-pthread", "-lm", "-o", str(program)]
            if subprocess.run(link, capture_output=True, check=False).returncode:
                return "the linker"
            try:
                run = subprocess.run([str(program), *arguments], capture_output=True, timeout=SECONDS, check=False)
            except subprocess.TimeoutExpired:
                return f"{name}, which does not end"
            if run.returncode:
                return name
        return None


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*", default=FILES, help="below c_src/")
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=1e9, help="no new mutant after so many")
    options = parser.parse_args()
    os.environ["MALLOC_PERTURB_"] = "165"
    everything = [m for file in options.files for m in mutants_of(file)]
    excused = [m for m in everything if excuse(m)]
    left = [m for m in everything if not excuse(m)]
    chosen = random.Random(options.seed).sample(left, min(options.count, len(left)))
    builder = Builder()
    failing = builder.killer(None)
    if failing:
        print(f"{failing} fails without any mutant")
        return 2
    survivors, made, began = [], 0, time.monotonic()
    for mutant in chosen:
        if time.monotonic() - began > 60 * options.minutes:
            break
        made += 1
        killer = builder.killer(mutant)
        if killer is None:
            survivors.append(mutant)
            print(f"SURVIVES {mutant}", flush=True)
    share = 1 - len(survivors) / max(made, 1)
    print(f"seed {options.seed}: {len(everything)} slips, {len(excused)} of them equivalent for a reason given here")
    print(f"{made} mutants made, {made - len(survivors)} killed: {share:.1%}")
    return 0 if share >= 0.95 else 1


if __name__ == "__main__":
    sys.exit(main())
