"""Fixtures of all tests."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Iterator
from typing import Any

import pytest

import shared
import streamgru
from streamgru_export.compiler.graph.blame import STRICT


@pytest.fixture(scope="session", autouse=True)
def strict() -> Iterator[None]:
    """An error of Python's own comes through as it is, and is no model's fault; so in programs that tests
    start."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(STRICT, "1")
        yield


@pytest.fixture(scope="session")
def once(tmp_path_factory: pytest.TempPathFactory) -> shared.Once:
    """`once(key, make)` is the folder that `make(folder)` filled, the same for all tests and workers of this run."""
    own = tmp_path_factory.getbasetemp()
    return functools.partial(shared.once, own.parent if "PYTEST_XDIST_WORKER" in os.environ else own)


@pytest.fixture(scope="session", autouse=True)
def one_table_of_functions() -> Iterator[None]:
    """Torch's exporter reads its functions once a process."""
    if "torch" in sys.modules:
        yield from shared.one_table_of_functions()
    else:
        yield


@pytest.fixture
def short_proofs(monkeypatch: pytest.MonkeyPatch) -> None:
    """The parity that a recipe ships its nets with reads 200 frames of its data, not all."""
    prove = streamgru.parity

    def short(*model: Any, inputs: Any, **options: Any) -> streamgru.ParityReport:
        return prove(*model, inputs=shared.first(inputs, 200), **options)

    monkeypatch.setattr(streamgru, "parity", short)
