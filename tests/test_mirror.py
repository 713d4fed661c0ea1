"""Tests mirror the sources: each module of the compiler and of the exporter has the test file of its name."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES, TESTS = ROOT / "export" / "streamgru_export", ROOT / "tests" / "export"
MIRRORED = ("compiler", "from_torch")
# What no single module answers for.
ACROSS = {
    "compiler/test_hostile_models.py",  # what fuzzing found
    "compiler/test_limits.py",  # docs/security.md
    "compiler/test_slips.py",  # whose fault they are
    "compiler/cells/test_recognise_random.py",  # any spelling of a cell
    "from_torch/test_advice.py",  # what its messages recommend
    "from_torch/test_options.py",  # what export may be told
}


def modules():
    """The modules as paths without their ending."""
    found = [
        path.relative_to(SOURCES).with_suffix("") for folder in MIRRORED for path in SOURCES.glob(f"{folder}/**/*.py")
    ]
    return sorted(path for path in found if path.name != "__init__")


def mirror(module):
    """Where the tests of a module are."""
    return module.with_name(f"test_{module.name}.py")


@pytest.mark.parametrize("module", modules(), ids=str)
def test_every_module_has_the_tests_of_its_name(module):
    path = TESTS / mirror(module)
    assert path.is_file(), f"there is no {path.relative_to(ROOT)}"
    assert "\ndef test_" in path.read_text(encoding="utf-8")


def test_every_test_file_has_the_module_of_its_name():
    wanted = {mirror(module).as_posix() for module in modules()}
    found = {path.relative_to(TESTS).as_posix() for folder in MIRRORED for path in TESTS.glob(f"{folder}/**/test_*.py")}
    assert found - wanted == ACROSS
