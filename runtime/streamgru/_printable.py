"""Names from a model, safe to print: a file must not move the cursor, colour a terminal or forge a line of a log."""

from __future__ import annotations


def printable(text: str, keep: str = "") -> str:
    """The text with what does not print (control characters, text direction, half surrogates) as escapes."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in keep else c.encode("unicode_escape").decode("ascii") for c in text)
