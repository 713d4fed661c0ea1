"""docs/reports.md has the reports that are tried, and no others."""

import re
from pathlib import Path

import pytest

HERE = Path(__file__).parent
TABLE = (HERE.parents[1] / "docs" / "reports.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^## (\w+)[^\n]*\n(.*?)(?=^## |\Z)", TABLE, re.MULTILINE | re.DOTALL))


@pytest.mark.parametrize("section", SECTIONS)
def test_the_table_lists_the_reports_that_are_tried(section):
    listed = re.findall(r"^\| ([\w./-]+#\d+) \|", SECTIONS[section], re.MULTILINE)
    source = (HERE / f"test_{section.lower()}.py").read_text(encoding="utf-8")
    assert sorted(listed) == sorted(re.findall(r'^    """([\w./-]+#\d+): ', source, re.MULTILINE))
    assert len(listed) == 10
