"""What is shipped: a small wheel for every CPython from 3.11 on, that needs numpy and cffi and no more."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from runtime.models import gru_model

ROOT = Path(__file__).parents[1]
HEAVY = ["torch", "onnx", "onnxruntime", "onnxscript", "streamgru_export", "matplotlib", "tqdm", "rich"]


def python(code):
    """Run code in a fresh interpreter; its standard output."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def requirement_names(text):
    return {re.match(r"[A-Za-z0-9_.-]+", line)[0].lower().replace("_", "-") for line in text}


@pytest.mark.parametrize("module", ["streamgru", "streamgru.cli"])
def test_import_adds_nothing_heavy(module):
    code = f"import sys, {module}; print(*sorted(set({HEAVY}) & set(sys.modules)))"
    assert python(code) == ""


def test_streamgru_works_where_nothing_heavy_can_be_imported(tmp_path):
    code = f"""
import sys
for name in {HEAVY}:
    sys.modules[name] = None  # import raises ModuleNotFoundError
import streamgru
print(streamgru.isa() in streamgru.available_isas())
"""
    assert python(code) == "True"


def test_the_extension_is_small():
    (extension,) = (ROOT / "runtime" / "streamgru").glob("_kernel*.so")
    assert extension.stat().st_size < 400 * 1024


def test_every_requirement_is_pinned():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    required = requirement_names(
        [*project["dependencies"], *(r for extra in project["optional-dependencies"].values() for r in extra)]
    )
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if re.match(r"\w", line)]
    assert all("==" in line for line in lines)
    assert required - requirement_names(lines) == set()
    assert "torch==2.13.0" in lines


def test_make_help_lists_every_target():
    makefile = (ROOT / "Makefile").read_text()
    targets = re.search(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)[1].split()
    listed = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert targets == re.findall(r"^  make (\S+)  +\S", listed, re.MULTILINE)


@pytest.fixture(scope="module")
def wheel(once):
    """The wheel, built from a copy of what a checkout holds."""
    (path,) = (once("wheel", build_wheel) / "dist").glob("*.whl")
    return path


def build_wheel(source):
    for folder in ("c_src", "runtime", "export"):
        ignore = shutil.ignore_patterns("__pycache__", "*.so", "*.egg-info")
        shutil.copytree(ROOT / folder, source / folder, ignore=ignore)
    for file in ("pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE"):
        shutil.copy(ROOT / file, source)
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", "dist", "."]
    subprocess.run(command, cwd=source, check=True)


@pytest.mark.slow
def test_one_wheel_serves_every_python(wheel):
    assert re.fullmatch(r"streamgru-0\.1\.0-cp311-abi3-linux_\w+\.whl", wheel.name)


@pytest.mark.slow
def test_the_wheel_holds_both_packages_and_no_more(wheel):
    with zipfile.ZipFile(wheel) as archive:
        shipped = {name for name in archive.namelist() if ".dist-info/" not in name}
    expected = {
        path.relative_to(root).as_posix()
        for root in (ROOT / "runtime", ROOT / "export")
        for path in root.rglob("*")
        if path.suffix in {".py", ".pyi", ".csv", ".txt"} or path.name == "py.typed"
    }
    c_src = [path for path in (ROOT / "c_src").rglob("*") if path.is_file() and path.suffix not in {".py", ".pyc"}]
    expected |= {f"streamgru/{path.relative_to(ROOT).as_posix()}" for path in c_src}
    assert shipped - {"streamgru/_kernel.abi3.so"} == expected
    assert "streamgru/_kernel.abi3.so" in shipped


@pytest.mark.slow
def test_the_wheel_embeds_without_a_checkout(wheel, tmp_path):
    gru_model().save(tmp_path / "model.sgru")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    command = [sys.executable, "-m", "streamgru", "embed", "model.sgru", "--out", "c"]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site")}
    subprocess.run(command, cwd=tmp_path, env=environment, check=True)
    subprocess.run(["make", "-C", "c", "run"], cwd=tmp_path, check=True)


@pytest.mark.slow
def test_the_edge_install_requires_numpy_and_cffi_alone(wheel):
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        metadata = archive.read(name).decode()
    required = re.findall(r"^Requires-Dist: ([\w-]+)[^;\n]*$", metadata, re.MULTILINE)
    assert sorted(required) == ["cffi", "numpy"]
