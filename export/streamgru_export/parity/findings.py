"""What a parity check found, as plain data: the verdict and the numbers behind it.

It shows nothing: `text.py`, `page.py` and `plots.py` do.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from streamgru._printable import printable

from ..differences import Difference, Latency, Trace

FILES = ("onnx", "sgru", "weights", "module")  # the hashes that say what was compared


@dataclass(frozen=True)
class PeerCheck:
    """One condition of the verdict: our steps against a peer."""

    difference: Difference
    allowed: float  # for difference.scaled

    @property
    def ok(self) -> bool:
        return self.difference.scaled <= self.allowed and self.difference.mismatches == 0


@dataclass(frozen=True)
class Findings:
    """What a parity check found.

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
    checks : tuple of PeerCheck
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
    checks: tuple[PeerCheck, ...]
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
            return printable(f"FAILS: {self.model}: {'; '.join(self.reasons)}")
        worst = max(self.checks, key=lambda check: check.difference.scaled / check.allowed)
        difference = f"{worst.difference.scaled:.1e} from {worst.difference.reference}, {worst.allowed:.1e} allowed"
        shown = ", ".join(f"{name} {self.hashes[name][:12]}" for name in FILES if name in self.hashes)
        return printable(f"holds: {self.model}: {self.steps} steps, at most {difference}; sha256 {shown}")
