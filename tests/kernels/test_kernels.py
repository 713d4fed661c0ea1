"""Builds and runs the C test programs: the same bits on every instruction set, and the stated errors."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def build(tmp_path, program):
    binary = tmp_path / program
    done = subprocess.run(
        ["tests/cc.sh", f"tests/kernels/{program}.c", str(binary)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return binary


def all_of(*arguments):
    return pytest.param(*arguments, marks=pytest.mark.slow)


def run(tmp_path, program, *arguments):
    binary = build(tmp_path, program)
    done = subprocess.run([str(binary), *map(str, arguments)], capture_output=True, text=True, check=False)
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


# Trials are drawn from a printed seed: `make test` takes a few, the slow tests many.


@pytest.mark.parametrize("count, seed", [(300, 1), all_of(500, 2), all_of(2000, 1), all_of(2000, 2)])
def test_random_grus_give_the_same_bits_in_every_way(tmp_path, count, seed):
    assert f"{count} passed, 0 failed" in run(tmp_path, "random_grus", count, seed)


@pytest.mark.parametrize("count, seed", [(15, 1), (15, 2), all_of(60, 1), all_of(60, 2)])
def test_pools_and_threads_give_the_bits_of_single_streams(tmp_path, count, seed):
    assert f"{count} passed, 0 failed" in run(tmp_path, "pools", count, seed)


@pytest.mark.parametrize(
    "program, count",
    [("operators", 300), ("elements", 300), ("convolutions", 300), ("rare_functions", 300), ("random_cells", 100),
     all_of("random_cells", 300)],
)  # fmt: skip
def test_operators_give_the_same_bits_and_the_right_values(tmp_path, program, count):
    assert ", 0 failed" in run(tmp_path, program, count)


def test_functions_of_one_element_keep_their_stated_errors(tmp_path):
    assert ", 0 failed" in run(tmp_path, "function_errors", 997)


@pytest.mark.slow
def test_functions_of_one_element_keep_their_stated_errors_over_every_eleventh_float(tmp_path):
    assert ", 0 failed" in run(tmp_path, "function_errors", 11)


def test_altered_images_are_refused_or_harmless(tmp_path):
    assert ", 0 failed" in run(tmp_path, "hostile_images", 20000)


def test_every_operator_with_altered_operands_is_refused_or_harmless_and_gives_the_same_bits(tmp_path):
    assert ", 0 failed" in run(tmp_path, "hostile_operators", 100)


@pytest.mark.parametrize("count", [4, all_of(20)])
def test_kernels_compute_what_the_plain_ones_do_at_every_length_and_touch_nothing_else(tmp_path, count):
    assert ", 0 failed" in run(tmp_path, "checkkernels", count)


@pytest.mark.parametrize("steps", [500, all_of(20000)])
def test_a_second_caller_is_refused_and_a_child_of_fork_goes_on(tmp_path, steps):
    assert ", 0 failed" in run(tmp_path, "callers", steps)


@pytest.mark.parametrize(
    "program", ["environment", "wide_images", "hostile_weights", "refusals", "models", "api", "border", "work", "cpu"]
)
def test_edges(tmp_path, program):
    assert ", 0 failed" in run(tmp_path, program)


@pytest.mark.skipif(sys.platform != "linux", reason="seccomp is Linux's")
def test_a_step_makes_no_system_call(tmp_path):
    assert "1 passed, 0 failed" in run(tmp_path, "realtime")


def test_the_core_needs_memcpy_memmove_and_memset_alone(tmp_path):
    """So a step cannot allocate, lock or print: there is nothing to do it with."""
    archive, library = tmp_path / "core.a", tmp_path / "core.o"
    subprocess.run(["tests/cc.sh", "core", str(archive)], cwd=ROOT, check=True)
    members = subprocess.run(["ar", "t", str(archive)], capture_output=True, text=True, check=True).stdout.split()
    subprocess.run(["ar", "d", str(archive), *(name for name in members if "threads" in name)], check=True)
    whole = ["-Wl,--whole-archive", str(archive), "-Wl,--no-whole-archive"]
    subprocess.run(["cc", "-r", "-nostdlib", *whole, "-o", str(library)], check=True)
    undefined = subprocess.run(["nm", "-u", str(library)], capture_output=True, text=True, check=True).stdout.split()
    assert set(undefined) - {"U"} <= {"memcpy", "memmove", "memset", "memcmp", "_GLOBAL_OFFSET_TABLE_"}


@pytest.mark.parametrize(
    "machine, is_known",
    [("", False), ("-D__powerpc64__", False), ("-DSGRU_PLAIN_FLOATS", True), ("-D__wasm__", True),
     ("-D__riscv", True), ("-D__arm__", True), ("-D__mips_soft_float", True)],
)  # fmt: skip
def test_a_processor_of_unknown_floating_point_modes_is_refused(machine, is_known):
    """As this compiler would see it: what it says of its own machine is taken away."""
    ours = ["-U__SSE2__", "-U__aarch64__", "-U__arm__", "-U__riscv", "-U__riscv_flen"]
    command = ["cc", "-fsyntax-only", "-DSGRU_NO_SIMD", "-Ic_src", *ours, *machine.split(), "c_src/cpu.c"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode == 0) == is_known, done.stderr
    assert is_known or "SGRU_PLAIN_FLOATS" in done.stderr


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("valgrind"), reason="callgrind counts the instructions")
@pytest.mark.parametrize("isa", ["ref", "avx2"])  # valgrind knows no AVX-512
def test_no_frame_makes_a_step_more_than_a_fifth_slower(tmp_path, isa):
    """Instructions are counted, not time: subnormal and huge numbers and silence take the same path as any other."""
    build(tmp_path, "realtime")
    counts = {}
    for kind in ("ordinary", "huge", "silent", "subnormal", "fading", "nan"):
        command = ["valgrind", "--tool=callgrind", "--toggle-collect=sgru_step", f"--callgrind-out-file={tmp_path}/out"]
        done = subprocess.run(
            [*command, str(tmp_path / "realtime"), "--count", kind, isa], capture_output=True, text=True, check=False
        )
        if done.returncode == 1:
            pytest.skip(f"{isa} is not to be had")
        counts[kind] = int(re.search(r"Collected : (\d+)", done.stderr)[1])
    print({kind: f"{count / 1000:.0f} instructions a step" for kind, count in counts.items()})
    assert max(counts.values()) <= 1.2 * counts["ordinary"], counts
