"""The result of a parity check, with the ways to tell it: an error, a text, JSON, a page."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import Any

from streamgru._disk import make_folder, write_text
from streamgru._options import as_path
from streamgru._workshop import workshop
from streamgru.errors import ModelError, ParityError

from .findings import Findings
from .text import plain, text


@dataclass(frozen=True)
class ParityReport(Findings):
    """What a parity check found. Made by :func:`parity`; its attributes are those of `Findings`."""

    def raise_for_verdict(self) -> None:
        """Do nothing where the verdict is "holds".

        Raises
        ------
        ParityError
            It is another: the error's `verdict` says which, the message why.
        """
        if not self.ok:
            raise ParityError(f"{self.model}: {self.conclusion}", verdict=self.verdict)

    def text(self) -> str:
        """The report for a terminal: a screenful."""
        return text(self)

    def to_dict(self) -> dict[str, Any]:
        """The report as plain data, without the traces. Infinity and NaN are strings."""
        return plain(self)

    def to_json(self) -> str:
        """The report as JSON."""
        return json.dumps(self.to_dict(), indent=2, allow_nan=False)

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write the certificate: parity.json and parity.html in a folder, which is made where it is missing.

        Raises
        ------
        ParityError
            matplotlib is not installed.
        """
        folder = as_path("folder", folder)
        make_folder(folder)
        write_text(folder / "parity.json", self.to_json() + "\n")
        self.save_html(folder / "parity.html")

    def save_html(self, path: str | os.PathLike[str]) -> None:
        """Write the report as one page that needs nothing else: no network, no other file.

        Raises
        ------
        ParityError
            matplotlib is not installed.
        """
        try:
            path = as_path("path", path)
            page = workshop("parity.page", "the HTML report")
        except ModelError as error:
            raise ParityError(str(error)) from error
        write_text(path, page.render(self))
