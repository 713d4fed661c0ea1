"""Mutation testing of the C core: are wrong kernels noticed?

Each mutant is the core with one slip in it: a flipped sign, an off-by-one, a swapped comparison, a lost term, a wrong
constant. It is built at -O1 and the C tests run, the quick ones first, then longer ones, then some under the address
and undefined-behaviour sanitizers (tests/asan.sh); a mutant is killed where a test fails, crashes or does not end. What
does not compile, or is the same program to the compiler, is no mutant and does not count. What survives is printed.
`EQUIVALENT` lists slips that change no result, and why.

    python tests/mutants.py [--count N] [--seed S] [FILE...]     N mutants drawn from all of the files
"""

from __future__ import annotations

import argparse
import os
import random
import re
import resource
import shutil
import subprocess
import sys
import time
from functools import cache
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
    ("checkkernels", "1"), ("random_grus", "60"), ("api",), ("models",), ("refusals",), ("elements", "40"),
    ("operators", "40"), ("random_cells", "40"), ("convolutions", "60"), ("rare_functions", "60"), ("environment",),
    ("hostile_operators", "12"), ("hostile_images", "2000"), ("function_errors", "49999"), ("wide_images",),
    ("hostile_weights",), ("pools", "4"),
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
SLIPS = (
    (r"(?<=[\w)\]]) \+ (?=[\w(])", " - "),
    (r"(?<=[\w)\]]) - (?=[\w(])", " + "),
    (r"(?<=[\w)\]]) \* (?=[\w(])", " + "),
    (r"(?<=[\w)\]]) < (?=[\w(])", " <= "),
    (r"(?<=[\w)\]]) <= (?=[\w(])", " < "),
    (r"(?<=[\w)\]]) > (?=[\w(])", " >= "),
    (r"(?<=[\w)\]]) == (?=[\w(])", " != "),
    (r"(?<=[\w)\]]) && (?=[\w(!])", " || "),
    (r"(?<=\w)\+\+(?=[,)])", " += 2"),
    (r"(?<=\w)\+\+(?=;)", "--"),
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
    (r"(?<![\w.])(?<!return )1(?![\w.])", "2"),
    (r"\breturn 0;", "return 1;"),
    (r"\breturn 1;", "return 0;"),
)
# file, a part of the line before and after the slip, why it changes nothing that anyone can see
EQUIVALENT: tuple[tuple[str, str, str, str], ...] = (
    ("stream.c", "s->turn++", "", "which way the weights are walked changes the time, not the bits"),
    ("stream.c", "frames > most", "frames >= most", "the sum is above `most` then"),
    ("stream.c", "states > most", "states >= most", "the sum is above `most` then"),
    ("stream.c", "size > most", "size >= most", "sizes are multiples of 64, which `most` is not"),
    ("pool.c", "lanes > SIZE_MAX", "lanes >= SIZE_MAX", "an engine that large is refused"),
    ("pool.c", "engine > most", "engine >= most", "sizes are multiples of 64, which `most` is not"),
    ("pool.c", "2 * pool->workers->n", "2 + pool->workers->n", "when a step is shared changes the time, not the bits"),
    ("pool.c", "++pool->step == 0", "", "to begin the count anew more often changes nothing"),
    ("pool.c", "pool->step = 1", "pool->step = 2", "any number does that no place has"),
    ("pool.c", "(pool->opened + 1)", "(pool->opened - 1)", "any numbers do that are not equal"),
    ("pool.c", "(pool->opened + 1)", "(pool->opened + 2)", "any numbers do that are not equal"),
    ("pool.c", "pool->opened = 1", "pool->opened = 2", "any numbers do that are not equal"),
    ("model.c", "if (*area < ", "if (*area <= ", "puts the same number in its place"),
    ("model.c", "scratch_size < ", "scratch_size <= ", "puts the same number in its place"),
    ("model.c", "scratch[1] < ", "scratch[1] <= ", "puts the same number in its place"),
    ("model.c", "t->offset > MAX_AREA", "t->offset >= MAX_AREA", "its end is beyond MAX_AREA then"),
    ("model.c", "end > SIZE_MAX / 4", "end >= SIZE_MAX / 4", "where size_t has 64 bits, MAX_AREA comes first"),
    ("model.c", "reach < 0", "reach <= 0", "0 changes neither end"),
    ("ops/recurrent.c", "columns < B", "columns <= B", "puts the same number in its place"),
    ("ops/recurrent.c", "all > columns", "all >= columns", "puts the same number in its place"),
    ("ops/recurrent.c", "bytes > most", "bytes >= most", "puts the same number in its place"),
    ("ops/recurrent.c", "16384 / G < 6", "16384 / G <= 6", "the same number"),
    (
        "ops/matrix.c",
        "< SGRU_WORTH_SHARING",
        "SGRU_WORTH_SHARING",
        "when a product is shared changes the time, not the bits",
    ),
    ("kernels/ref.c", "a < 0x1p-96f", "a <= 0x1p-96f", "2^-96 itself is known before"),
    ("kernels/rare.c", "x > 1.0f", "x >= 1.0f", "the next line answers 1"),
    ("kernels/rare.c", "y > 0.0f", "y >= 0.0f", "y is not 0 here"),
    ("kernels/rare.c", "magnitude < 0x4C", "magnitude <= 0x4C", "both ways are exact at 2^25"),
    (
        "ops/recurrent.c",
        "s->turn & 1",
        "s->turn & 2",
        "which way the weights are walked changes the time, not the bits",
    ),
    ("ops/gru.c", "size_t multiplications", "", "which way sums are computed changes the time, not the bits"),
    ("ops/gru.c", "< SGRU_WORTH_SHARING", "<= SGRU_WORTH_SHARING", "which way sums are computed changes the time"),
    ("ops/gru.c", "< SINGLE_PASS_FLOATS", "<= SINGLE_PASS_FLOATS", "which way sums are computed changes the time"),
    ("ops/reduce.c", "k->binary(", ", 2, ", "these kernels ask whether a step is 0"),
    ("ops/window.c", "k->binary(", ", 2, ", "these kernels ask whether a step is 0"),
    ("ops/gru.c", "k->binary(B_MUL", ", 2, ", "these kernels ask whether a step is 0"),
    ("ops/lstm.c", "k->binary(B_MUL", ", 2, ", "these kernels ask whether a step is 0"),
    ("kernels/products.h", "b + TILE_ROWS <= end", "b + TILE_ROWS < end", "how work is cut into tiles changes no bit"),
    ("kernels/products.h", "+ 4 <= columns", "+ 4 < columns", "how work is cut into tiles changes no bit"),
    ("kernels/products.h", "M > 16 &&", "M > 15 &&", "a multiple of 16 is not meant anyway"),
    ("kernels/products.h", "M > 16 &&", "M >= 16 &&", "a multiple of 16 is not meant anyway"),
    ("kernels/products.h", "(TAIL_ROWS + 1)", "<= 16 * (TAIL_ROWS + 1)", "a multiple of 16 is not meant anyway"),
    ("kernels/products.h", "16 * (TAIL_ROWS", "15 * (TAIL_ROWS", "how work is cut into tiles changes no bit"),
    ("kernels/products.h", "16 * (TAIL_ROWS", "16 + (TAIL_ROWS", "how work is cut into tiles changes no bit"),
    ("kernels/products.h", "(TAIL_ROWS + 1)", "(TAIL_ROWS - 1)", "how work is cut into tiles changes no bit"),
    ("kernels/taps.h", "if (most > 2)", "if (most >= 2)", "no tile is wider than `most`"),
    ("kernels/integer.h", "b + I8_ROWS <= blocks", "b + I8_ROWS < blocks", "how work is cut into tiles changes no bit"),
    ("kernels/integer.h", "k + VL <= K", "k + VL < K", "a whole vector may be loaded as a partial one"),
    ("kernels/elementwise.h", "i + VL <= (n)", "i + VL < (n)", "a whole vector may be loaded as a partial one"),
    ("kernels/elementwise.h", "step_b ? 0.0f", "step_b ? 1.0f", "neither has a way of its own"),
    ("kernels/reduce.h", "i + 16 <= n", "i + 16 < n", "what is left may be sixteen"),
    ("kernels/vmath.h", "v_set1(-20.0f)", "1.001f * -20.0f", "exp(-20) is lost beside 1"),
    ("kernels/vmath.h", "v_set1(20.0f)", "1.001f * 20.0f", "tanh(20) is 1"),
    ("kernels/vmath.h", "v_set1(4.0f)", "1.001f * 4.0f", "erf(4) is 1"),
    ("kernels/vmath.h", "v_lt(x, zero), e, one", "v_le(x, zero), e, one", "at 0 e is one"),
    ("kernels/vmath.h", "v_lt(y, v_set1(0.6f))", "v_le(y, v_set1(0.6f))", "both ways give the same bits at 0.6f"),
    ("kernels/vmath.h", "v_lt(a, big)", "v_le(a, big)", "both ways give 2^23"),
    ("kernels/vmath.h", "v_sub(v_set1(0.0f), infinity)", "v_sub(v_set1(1.0f), infinity)", "infinity swallows it"),
    ("kernels/vmath.h", "v_mul(x, x)); /* +inf", "v_add(x, x)", "infinity and NaN stay what they are"),
    ("kernels/vmath.h", "one, v_mul(x, v_set1(0.0f))", "one, v_mul(x, v_set1(1.0f))", "x is 0 or NaN here"),
    ("kernels/rare.c", "x < 0 ? -0.5", "x <= 0 ? -0.5", "half of one is cut off at 0"),
    ("kernels/rare.c", "y < 0 ? -0.0f", "y <= 0 ? -0.0f", "y is not 0 here"),
    ("kernels/rare.c", "(r < 0) == (y < 0)", "<= 0)", "neither is 0 here"),
    ("ops/elementwise.c", "a % b != 0 &&", "(b <= 0)", "b is not 0 here"),
    ("kernels/rare.c", "a < 0x1p24f", "a <= 0x1p24f", "2^24 is even"),
    ("kernels/rare.c", "bits < 40 ? bits", "bits <= 40 ? bits", "the same number"),
    ("kernels/rare.c", "x < 0 ? -x : x", "x <= 0 ? -x", "a zero of either sign has the same magnitude"),
    ("kernels/rare.c", "y < 0 ? -y : y", "y <= 0 ? -y", "a zero of either sign has the same magnitude"),
    ("kernels/rare.c", "x > 90.0", "x >= 90.0", "exp(90) is above every float"),
    ("kernels/rare.c", "x < -105.0", "x <= -105.0", "exp(-105) is below every float"),
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


CHOICE = re.compile(r"(?P<a>[\w>.*/ -]+?) [<>]= (?P<b>[\w>.*/ -]+?) \? (?P=a) : (?P=b)(?![\w.*/])")


def excuse(mutant: Mutant) -> str | None:
    chosen = None if mutant.file.startswith("kernels/") else CHOICE.search(mutant.after)  # there are zeros of two signs
    if chosen and chosen[0] not in mutant.before:
        return "the smaller or larger of two equal integers"
    return next(
        (why for file, b, a, why in EQUIVALENT if mutant.file == file and b in mutant.before and a in mutant.after),
        None,
    )


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
        self.tests: dict[str, Path] = {}

    def compile(self, source: Path, kind: str) -> Path:
        out = source.with_suffix(f".{kind}.o")
        command = ["cc", *self.flags, "-c", str(source.relative_to(self.work)), "-o", str(out)]
        if subprocess.run(command, cwd=self.work, capture_output=True, check=False).returncode:
            raise StillbornError
        return out

    def killer(self, mutant: Mutant | None, tests: tuple[tuple[str, ...], ...]) -> str | None:
        """The first of the tests that notices, None where none does."""
        objects = dict(self.clean)
        if mutant is not None:
            target = self.work / "c_src" / mutant.file
            original = target.read_text("utf-8")
            target.write_text(mutant.text, "utf-8")
            kernels = [s for s in self.sources if s.parent.name == "kernels" and s.name != "rare.c"]
            try:
                objects |= {s: self.compile(s, "mutant") for s in ([target] if target.suffix == ".c" else kernels)}
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
                    timeout=10 * SECONDS,
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
    everything = [m for file in options.files for m in mutants_of(file)]
    excused = [m for m in everything if excuse(m)]
    left = [m for m in everything if not excuse(m)]
    judge = Judge()
    made, survivors, stillborn, began = 0, 0, 0, time.monotonic()
    for mutant in random.Random(options.seed).sample(left, len(left)):
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
    print(f"seed {options.seed}: {len(everything)} slips, {len(excused)} of them equivalent for a reason given here")
    print(f"{stillborn} more that do not compile or are the same program")
    print(f"{made} mutants made, {made - survivors} killed: {share:.1%}")
    return 0 if share >= 0.95 else 1


if __name__ == "__main__":
    sys.exit(main())
