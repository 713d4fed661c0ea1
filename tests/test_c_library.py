"""The plain C library: what it installs, what it exports and needs, and the program of docs/c-api.md."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from runtime.models import gru_model

ROOT = Path(__file__).parents[1]
LIBC = {"memcpy", "memmove", "memset", "memcmp"}
SEED = 20261121


def output(*command, **options):
    done = subprocess.run([*map(str, command)], capture_output=True, check=False, **options)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


@pytest.fixture(scope="module")
def prefix(once):
    """Where the library is installed."""
    if not (shutil.which("cmake") and shutil.which("pkg-config")):
        pytest.skip("cmake or pkg-config not installed")
    return once("c_library", install) / "moved"


def install(folder):
    output("cmake", "-S", ROOT / "c_src", "-B", folder / "build", "-DCMAKE_INSTALL_LIBDIR=lib")
    output("cmake", "--build", folder / "build", "--parallel", os.cpu_count())
    output("cmake", "--install", folder / "build", "--prefix", folder / "first")
    (folder / "first").rename(folder / "moved")


@pytest.mark.slow
def test_the_library_exports_the_headers_functions_alone(prefix):
    header = re.sub(r"/\*.*?\*/", "", (prefix / "include" / "streamgru.h").read_text(), flags=re.DOTALL)
    declared = set(re.findall(r"^\w[\w ]*?\**(sgru_\w+)\(", header, re.MULTILINE))
    lines = output("nm", "-D", "--defined-only", prefix / "lib" / "libstreamgru.so").decode().splitlines()
    assert {line.split()[2] for line in lines} == declared
    assert len(declared) > 15


@pytest.mark.slow
def test_the_library_needs_no_more_of_libc_than_copying(prefix):
    lines = output("nm", "-D", "-u", prefix / "lib" / "libstreamgru.so").decode().splitlines()
    wanted = {line.split()[1].partition("@")[0] for line in lines if line.split()[0] == "U"}
    assert wanted <= LIBC


@pytest.mark.slow
@pytest.mark.parametrize("static", [False, True])
def test_the_guides_program_streams_the_same_bits(static, prefix, tmp_path):
    program, *_ = re.findall(r"^```c\n(.*?)^```", (ROOT / "docs" / "c-api.md").read_text(), re.MULTILINE | re.DOTALL)
    (tmp_path / "program.c").write_text(program)
    environment = {"PKG_CONFIG_PATH": str(prefix / "lib" / "pkgconfig")}
    flags = output(shutil.which("pkg-config"), "--cflags", "--libs", "streamgru", env=environment).decode().split()
    if static:
        flags = [prefix / "lib" / "libstreamgru.a" if flag == "-lstreamgru" else flag for flag in flags]
    strict = ["-std=c11", "-pedantic", "-Wall", "-Wextra", "-Wconversion", "-Werror"]
    output("cc", *strict, tmp_path / "program.c", *flags, "-o", tmp_path / "program")
    model = gru_model()
    model.save(tmp_path / "model.sgru")
    frames = np.random.default_rng(SEED).standard_normal((50, 1, 5)).astype(np.float32)
    libraries = {"LD_LIBRARY_PATH": str(prefix / "lib")}
    streamed = output(tmp_path / "program", tmp_path / "model.sgru", input=frames.tobytes(), env=libraries)
    assert streamed == model.stream().run(frames).tobytes()


def test_the_librarys_version_is_the_packages():
    library = re.search(r"VERSION ([\d.]+) ", (ROOT / "c_src" / "CMakeLists.txt").read_text().partition("project(")[2])[
        1
    ]
    assert f'version = "{library}"' in (ROOT / "pyproject.toml").read_text()
