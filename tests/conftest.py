"""Fixtures of all tests."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Iterator

import pytest

import shared


@pytest.fixture(scope="session")
def once(tmp_path_factory: pytest.TempPathFactory) -> shared.Once:
    """`once(key, make)` is the folder that `make(folder)` filled, the same for all tests and workers of this run."""
    own = tmp_path_factory.getbasetemp()
    return functools.partial(shared.once, own.parent if "PYTEST_XDIST_WORKER" in os.environ else own)


@pytest.fixture(scope="session", autouse=True)
def _one_table_of_functions() -> Iterator[None]:
    if "torch" in sys.modules:
        yield from shared.one_table_of_functions()
    else:
        yield
