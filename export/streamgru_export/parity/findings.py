"""What a parity check found, as plain data: the verdict and the numbers behind it.

It shows nothing: `text.py`, `page.py` and `plots.py` do.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from streamgru._printable import printable

from ..differences import Difference, Latency, Trace

FILES = ("onnx", "sgru", "weights", "module")  # the hashes that say what was compared


Verdict: TypeAlias = Literal["holds", "does not hold", "partial", "not proved"]
Outcome: TypeAlias = Literal["holds", "fails", "untried", "bound"]
# What a whole does along an axis: what comes later depends on what came before; an output holds all entries, in any
# order; what comes before depends on what comes later; no entry depends on another.
COUNTED = "depends on the length of"
MEMORY, GATHERED, MIXED, SINGLE = "carries memory along", "gathers up", "mixes", "keeps apart"
EXIT_CODES: Mapping[Verdict, int] = {"holds": 0, "does not hold": 1, "partial": 3, "not proved": 4}  # 2: argparse's
MARKS: Mapping[Verdict, str] = {
    "holds": "HOLDS", "does not hold": "DOES NOT HOLD", "partial": "PARTIAL", "not proved": "NOT PROVED"
}  # fmt: skip


@dataclass(frozen=True)
class Subject:
    """How far an implementation was taken, and at how many steps it was compared with ours."""

    name: str
    reached: int  # steps it was taken through
    compared: int  # fewer than it reached where a whole run tells an output after its last step alone
    ended: str  # why it reached no more; empty where it ran to the end

    def __str__(self) -> str:
        return f"{self.reached}" if self.compared >= self.reached else f"{self.compared} of {self.reached}"


@dataclass(frozen=True)
class AxisCheck:
    """One condition of the verdict: the whole in one call against our stream, along axes that grow together.

    Attributes
    ----------
    peer : str
        Who ran the whole.
    places : tuple of (str, int)
        Inputs and their axes.
    axes : str
        The same in words, with the file's name for them.
    taken_for : "time" or "batch"
        What the stream takes them for.
    sizes : tuple of int
        How many frames, or entries, were given in one call; empty where none could be.
    scaled : float or None
        The largest difference over the output's scale; None where there is none.
    outcome : "holds", "fails", "untried" or "bound"
        "bound": to more than one, and the entries depend on one another, so it is held for that size alone.
    words : str
        Why it fails, or was not tried, or what was refused.
    seems : str
        Where it fails, what the whole itself does along the axes; empty where that could not be tried.
    """

    peer: str
    places: tuple[tuple[str, int], ...]
    axes: str
    taken_for: str
    sizes: tuple[int, ...]
    scaled: float | None
    outcome: Outcome
    words: str
    seems: str = ""

    @property
    def is_misread(self) -> bool:
        """Whether the axis itself is another than the stream takes it for, rather than the numbers."""
        other = (MEMORY, GATHERED, MIXED, COUNTED) if self.taken_for == "batch" else (MIXED, SINGLE, COUNTED)
        return self.outcome == "fails" and self.seems in other


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
    verdict : "holds", "does not hold", "partial" or "not proved"
        "partial": nothing differs, but an implementation ended before the last step. "not proved": there is nothing
        to compare with, or the module that was given could not be compared.
    reasons : tuple of str
        Why it is not "holds"; empty where it is.
    caveats : tuple of str
        What the verdict does not say, such as that time was not tried.
    model : str
        The file's name.
    steps, seed, tolerance
        What was asked for. The seed is None where the inputs were given. `subjects` says what was compared.
    subjects : tuple of Subject
        How far each implementation ran.
    axes : tuple of AxisCheck
        The whole in one call against our stream, along each axis.
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

    verdict: Verdict
    reasons: tuple[str, ...]
    caveats: tuple[str, ...]
    model: str
    steps: int
    seed: int | None
    tolerance: float
    subjects: tuple[Subject, ...]
    axes: tuple[AxisCheck, ...]
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
    def ok(self) -> bool:
        """Whether the verdict is "holds"."""
        return self.verdict == "holds"

    @property
    def exit_code(self) -> int:
        """Of the command: 0 holds, 1 does not hold, 3 partial, 4 not proved."""
        return EXIT_CODES[self.verdict]

    @property
    def conclusion(self) -> str:
        """The verdict in one line, with what it does not say."""
        if self.verdict == "holds":
            said = f"Parity holds over {self.steps} steps against {self._peers()}"
        elif self.verdict == "partial":
            said = f"Parity is partial: {'; '.join(self.reasons)}. What was compared agrees: {self._peers(True)}"
        else:
            said = f"Parity {'is not proved' if self.verdict == 'not proved' else 'does not hold'}: "
            said += "; ".join(self.reasons)
        return "; ".join((said, *self.caveats))

    def _peers(self, counted: bool = False) -> str:
        """Those compared; with their steps where they are not all steps, or `counted`."""
        far = {subject.name: subject for subject in self.subjects}
        names = [check.difference.reference for check in self.checks]
        whole = [counted or far[name].compared < self.steps for name in names]
        return ", ".join(f"{n} ({far[n]} steps)" if told else n for n, told in zip(names, whole, strict=True))

    @property
    def line(self) -> str:
        """The verdict, the largest difference and the hashes in one line, for a log."""
        told = {"does not hold": "FAILS", "holds": "holds"}.get(self.verdict, MARKS[self.verdict])
        if self.verdict in ("does not hold", "not proved"):
            return printable(f"{told}: {self.model}: {'; '.join(self.reasons)}")
        worst = max(self.checks, key=lambda check: check.difference.scaled)
        far = next(subject for subject in self.subjects if subject.name == worst.difference.reference)
        difference = f"{worst.difference.scaled:.1e} from {far.name}, {worst.allowed:.1e} allowed"
        steps = f"{self.steps} steps" if self.ok else f"{'; '.join(self.reasons)}; over {far} steps"
        hashes = ", ".join(f"{name} {self.hashes[name][:12]}" for name in FILES if name in self.hashes)
        caveats = "".join(f"; {caveat}" for caveat in self.caveats)
        return printable(f"{told}: {self.model}: {steps}, at most {difference}{caveats}; sha256 {hashes}")
