"""The result of a parity check: the verdict, the numbers behind it, and what could not be compared.

It only holds and tells; `parity.py` makes it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from streamgru.errors import ParityError

from ..differences import Difference, Latency, Trace
from .text import plain, text

FILES = ("onnx", "sgru", "weights", "module")  # the hashes that say what was compared


@dataclass(frozen=True)
class Check:
    """One condition of the verdict: our steps against a peer."""

    difference: Difference
    allowed: float  # for difference.scaled

    @property
    def ok(self) -> bool:
        return self.difference.scaled <= self.allowed and self.difference.mismatches == 0


@dataclass(frozen=True)
class ParityReport:
    """What a parity check found. Made by :func:`parity`.

    Attributes
    ----------
    ok : bool
        Whether the verdict holds.
    reasons : tuple of str
        Why it does not hold; empty where it does.
    model : str
        The file's name.
    steps, seed, tolerance
        What was asked for. The seed is None where the inputs were given.
    rounding : float or None
        What float32 costs here: the largest difference of onnxruntime and the module from the oracle, over
        the scale. None where that is not known. It has no part in the verdict.
    reference : str or None
        The implementation that `differences` are measured from; None where no other could be run.
    differences : tuple of Difference
        Every other implementation against the reference.
    pairs : tuple of Difference
        Every two implementations.
    checks : tuple of Check
        Our steps against each peer, with what is allowed.
    same_bits : bool
        Whether `run` gives the bits of `step`.
    not_compared : dict
        Implementation and reason.
    weights : str
        What the image's matrices are stored as: "f32", "f16" or "i8".
    warnings : tuple of str
        What is probably wrong with the graph.
    notes : tuple of str
        What the compiler had to say.
    latency : tuple of Latency
        Of `step()` and of onnxruntime's `run()`, measured in turns.
    environment, hashes : dict of str
    traces : dict of str to Trace
        What each implementation gave.
    """

    ok: bool
    reasons: tuple[str, ...]
    model: str
    steps: int
    seed: int | None
    tolerance: float
    rounding: float | None
    reference: str | None
    differences: tuple[Difference, ...]
    pairs: tuple[Difference, ...]
    checks: tuple[Check, ...]
    same_bits: bool
    not_compared: Mapping[str, str]
    warnings: tuple[str, ...]
    notes: tuple[str, ...]
    latency: tuple[Latency, ...]
    environment: Mapping[str, str]
    hashes: Mapping[str, str]
    traces: Mapping[str, Trace] = field(repr=False, compare=False)
    weights: str = "f32"

    @property
    def verdict(self) -> str:
        """The verdict in one line."""
        if not self.ok:
            return "Parity does not hold: " + "; ".join(self.reasons)
        names = ", ".join(check.difference.reference for check in self.checks)
        return f"Parity holds over {self.steps} steps against {names}"

    @property
    def line(self) -> str:
        """The verdict, the largest difference and the hashes in one line, for a log."""
        if not self.ok:
            return f"FAILS: {self.model}: {'; '.join(self.reasons)}"
        worst = max(self.checks, key=lambda check: check.difference.scaled / check.allowed)
        difference = f"{worst.difference.scaled:.1e} from {worst.difference.reference}, {worst.allowed:.1e} allowed"
        shown = ", ".join(f"{name} {self.hashes[name][:12]}" for name in FILES if name in self.hashes)
        return f"holds: {self.model}: {self.steps} steps, at most {difference}; sha256 {shown}"

    def raise_for_verdict(self) -> None:
        """Do nothing where the verdict holds.

        Raises
        ------
        ParityError
            It does not; the message says why.
        """
        if not self.ok:
            raise ParityError(f"{self.model}: {self.verdict}")

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
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "parity.json").write_text(self.to_json() + "\n", encoding="utf-8")
        self.save_html(folder / "parity.html")

    def save_html(self, path: str | os.PathLike[str]) -> None:
        """Write the report as one page that needs nothing else: no network, no other file.

        Raises
        ------
        ParityError
            matplotlib is not installed.
        """
        try:
            from streamgru_export.parity.page import render
        except ImportError as error:
            raise ParityError(
                f"the HTML report needs the package {error.name!r}: pip install 'streamgru[export]'"
            ) from error
        Path(path).write_text(render(self), encoding="utf-8")
