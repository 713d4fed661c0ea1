"""What a caller should know of a model, and how much it matters."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

NoteKind = Literal["note", "warning"]


@dataclass(frozen=True)
class Note:
    """What the compiler did that its caller may not expect; a warning where the model is probably wrong.

    Attributes
    ----------
    kind : {"note", "warning"}
    text : str
    """

    kind: NoteKind
    text: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.text}"

    def as_json(self) -> str | dict[str, str]:
        """As an image has it: a note is its text alone."""
        return self.text if self.kind == "note" else asdict(self)


def notes_of(metadata: Mapping[str, Any]) -> list[Note]:
    """The notes in an image's metadata. What has another form is left out: an image may come from anywhere."""
    listed = metadata.get("notes")
    return [note for note in map(_note, listed if isinstance(listed, list) else []) if note is not None]


def plain(texts: Iterable[str]) -> list[Note]:
    """Notes that are no warnings."""
    return [Note("note", text) for text in texts]


def _note(entry: object) -> Note | None:
    if isinstance(entry, str):
        return Note("note", entry)
    if isinstance(entry, dict) and entry.get("kind") in get_args(NoteKind) and isinstance(entry.get("text"), str):
        return Note(entry["kind"], entry["text"])
    return None
