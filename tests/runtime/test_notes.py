"""What the compiler has to say, as an image keeps it and as it is told."""

import pytest

import streamgru
from streamgru.notes import Note, notes_of, plain

WARNING, NOTE = Note("warning", "it is backwards"), Note("note", "warning: is how this text begins")


def test_it_says_what_it_is():
    assert [str(WARNING), str(NOTE)] == ["warning: it is backwards", "note: warning: is how this text begins"]
    assert streamgru.Note is Note


def test_a_plain_note_is_its_text_in_an_image():
    assert NOTE.as_json() == NOTE.text
    assert WARNING.as_json() == {"kind": "warning", "text": WARNING.text}
    assert plain(["a", "b"]) == [Note("note", "a"), Note("note", "b")]


def test_an_image_gives_back_what_it_was_given():
    """Whether it is a warning hangs on its kind, never on how its text begins."""
    given = [NOTE, WARNING]
    assert notes_of({"notes": [note.as_json() for note in given]}) == given


@pytest.mark.parametrize("notes", [None, 7, "text", {"kind": "note"}, [1, None, {}, [], {"kind": "error", "text": "x"},
                                                                      {"kind": "note", "text": 1}]])  # fmt: skip
def test_metadata_of_another_form_is_no_note(notes):
    assert notes_of({"notes": notes}) == []
    assert notes_of({}) == []
