"""Slips that change nothing that anyone can see, each by its very lines."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import NamedTuple


class Mutant(NamedTuple):
    """A file with one slip in it. `before` and `after` are the lines that differ, spaces made one."""

    kind: str
    file: str
    line: int
    before: str
    after: str
    text: str  # of the whole file

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.before}  ->  {self.after}"


def one_line(text: str) -> str:
    """The text with one space for each run of white space."""
    return " ".join(text.split())


class Excuses:
    """Of each slip its file, its lines before and after, and the reason.

    In the file a paragraph each: `FILE: REASON`, then pairs of lines that begin with `-` and `+`.
    """

    def __init__(self, path: Path) -> None:
        self.reasons: dict[tuple[str, str, str], str] = {}
        for paragraph in filter(None, path.read_text("utf-8").strip().split("\n\n")):
            head, *lines = paragraph.splitlines()
            file, reason = head.split(": ", 1)
            for before, after in zip(lines[::2], lines[1::2], strict=True):
                if (before[:2], after[:2]) != ("- ", "+ "):
                    sys.exit(f"{path.name}: {before!r} and {after!r} are no pair of - and +")
                self.reasons[file, before[2:], after[2:]] = reason
        self.used: set[tuple[str, str, str]] = set()

    def __contains__(self, slip: Mutant) -> bool:
        key = slip.file, slip.before, slip.after
        if key not in self.reasons:
            return False
        self.used.add(key)
        return True

    def stale(self) -> list[str]:
        """What excuses no slip that was asked about."""
        return [f"{file}: {before}  ->  {after}" for file, before, after in self.reasons.keys() - self.used]
