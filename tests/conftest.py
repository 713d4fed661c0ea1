"""For all tests: an error of Python's own comes through as it is, and is never taken for a model's fault."""

import pytest

from streamgru_export.compiler.graph.blame import STRICT


@pytest.fixture(scope="session", autouse=True)
def strict():
    """Programs that tests start inherit it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(STRICT, "1")
        yield
