"""Slips in C, one at a time: a wrong token, a check that is dropped, a statement, a term or an error that is lost."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from excuses import Mutant, one_line

# A token and what stands in its place.
TOKENS = (
    (r"(?<=[\w)\]]) \+ (?=[\w(])", " - "),
    (r"(?<=[\w)\]]) - (?=[\w(])", " + "),
    (r"(?<=[\w)\]]) \* (?=[\w(])", " + "),
    (r"(?<=[\w)\]]) < (?=[\w(])", " <= "),
    (r"(?<=[\w)\]]) <= (?=[\w(])", " < "),
    (r"(?<=[\w)\]]) > (?=[\w(])", " >= "),
    (r"(?<=[\w)\]]) >= (?=[\w(])", " > "),
    (r"(?<=[\w)\]]) == (?=[\w(])", " != "),
    (r"(?<=[\w)\]]) && (?=[\w(!])", " || "),
    (r"(?<=[\w)\]]) \|\| (?=[\w(!])", " && "),
    (r"(?<=\w)\+\+(?=[,)])", " += 2"),
    (r"(?<=\w)\+\+(?=;)", "--"),
    (r"\+= VL\b", "+= VL + 1"),
    (r"\bv_add\(", "v_sub("),
    (r"\bv_sub\(", "v_add("),
    (r"\bv_mul\(", "v_add("),
    (r"\bv_lt\(", "v_le("),
    (r"\bv_le\(", "v_lt("),
    (r"\bv_min\(", "v_max("),
    (r"\bv_max\(", "v_min("),
    (r"\bv_set1\((?=-?[0-9])", "v_set1(1.001f * "),
    (r"\bv_select\((\w+\([^()]*\)), ", r"v_select(!\1, "),
    (r"(?<![\w.])0\.0f", "1.0f"),
    (r"(?<![\w.])16(?![\w.])", "15"),
    (r"(?<![\w.])(?<!return )1(?![\w.])", "2"),
    (r"\breturn 0;", "return 1;"),
    (r"\breturn 1;", "return 0;"),
)
OPAQUE = re.compile(
    r'/\*.*?\*/|//[^\n]*|^[ \t]*#(?:[^\n\\]|\\.)*|"(?:[^"\\\n]|\\.)*"|\'(?:[^\'\\\n]|\\.)*\'', re.DOTALL | re.MULTILINE
)
# Lines whose tokens declare rather than compute.
DECLARING = re.compile(r"\s*(static const char|typedef|enum|static inline)")
NOT_DROPPED = re.compile(
    r"(if|for|while|do|else|switch|case|default|return|goto|typedef|extern|_Static_assert|static|const|struct|enum|union)\b"
    r"|[\w ]*\w[ *]+\w+( =[^=]|;|\[[^=]*;|\[[^=]*= |, )"  # a declaration
)
CLOSING = {"(": ")", "[": "]", "{": "}"}


def mutants_of(root: Path, file: str) -> list[Mutant]:
    """Every slip in a file, in the order of its lines. Its kind is "token" or "statement"."""
    text = (root / file).read_text("utf-8")
    code = OPAQUE.sub(lambda match: re.sub(r"[^\n]", " ", match[0]), text)
    tokens = dict.fromkeys(_tokens(code), "token")
    statements = dict.fromkeys(_statements(code, text), "statement")
    spans = sorted((statements | tokens).items())
    return [_mutant(kind, file, text, *span) for span, kind in spans]


def _mutant(kind: str, file: str, text: str, begin: int, end: int, new: str) -> Mutant:
    first, last = text.rfind("\n", 0, begin) + 1, text.find("\n", end)
    before, after = text[first:last], text[first:begin] + new + text[end:last]
    line = text.count("\n", 0, begin) + 1
    return Mutant(kind, file, line, one_line(before), one_line(after), text[:begin] + new + text[end:])


def _tokens(code: str) -> Iterator[tuple[int, int, str]]:
    at = 0
    for line in code.splitlines(keepends=True):
        if not DECLARING.match(line):
            for pattern, new in TOKENS:
                for match in re.finditer(pattern, line):
                    yield at + match.start(), at + match.end(), match.expand(new)
        at += len(line)


def _statements(code: str, text: str) -> Iterator[tuple[int, int, str]]:
    """Whole checks, terms, loops, errors and statements that are lost."""
    for match in re.finditer(r"\b(if|while) \(", code):
        begin, end = match.end(), _end_of(code, match.end() - 1) - 1
        yield begin, end, f"0 && ({text[begin:end]})"
        if match[1] == "if":
            yield begin, end, f"1 || ({text[begin:end]})"
    for match in re.finditer(r"\bfor \(([^;]*);([^;]+);", code):
        yield match.start(2), match.end(2), f" 0 && ({match[2].strip()})"
    for match in re.finditer(r" (&&|\|\|) ", code):
        yield match.start(), _operand_after(code, match.end()), ""
        yield _operand_before(code, match.start()), match.end(), ""
    for match in re.finditer(r"\breturn (\w+\([^;]*\));", code):
        yield match.start(1), match.end(1), f"(({text[match.start(1) : match.end(1)]}), 0)"
    for match in re.finditer(r"(?<=[;{}])\s*([a-z_*(+-][^;{}]*;)", code):
        if _inside_function(code, match.start(1)) and not NOT_DROPPED.match(match[1]):
            yield match.start(1), match.end(1), ";"


def _end_of(code: str, opening: int) -> int:
    """Where the bracket at `opening` has been closed."""
    depth = 0
    for i in range(opening, len(code)):
        depth += (code[i] in CLOSING) - (code[i] in CLOSING.values())
        if depth == 0:
            return i + 1
    raise ValueError("a bracket is left open")


ENDS = re.compile(r"[?:;,{}]|&&|\|\|")
BEGINS = re.compile(r"[?:;,{}]\s*|(?:&&|\|\|)\s*|(?<![=!<>])=\s+|\breturn\s+")


def _operand_after(code: str, at: int) -> int:
    """Where the operand of && or || ends that begins at `at`."""
    depth = 0
    for i in range(at, len(code)):
        depth += (code[i] in CLOSING) - (code[i] in CLOSING.values())
        if depth < 0 or (depth == 0 and ENDS.match(code, i)):
            return i - (code[i - 1] == " ")
    raise ValueError("an operand does not end")


def _operand_before(code: str, at: int) -> int:
    """Where the operand of && or || begins that ends at `at`."""
    depth, flat = 0, ""  # what stands before, each bracket's inside made blank
    for i in range(at - 1, -1, -1):
        depth += (code[i] in CLOSING.values()) - (code[i] in CLOSING)
        if depth < 0:
            break
        flat = (code[i] if depth == 0 else "_") + flat
        if depth == 0 and code[i] in ";{}":
            break
    begins = [match.end() for match in BEGINS.finditer(flat)]
    return at - len(flat) + (begins[-1] if begins else 0)


def _inside_function(code: str, at: int) -> bool:
    """Whether a statement may stand there: within braces, and not within those of a struct or of values."""
    depth = 0
    for i in range(at - 1, -1, -1):
        depth += (code[i] in CLOSING) - (code[i] in CLOSING.values())
        if depth == 1:
            return code[i] == "{" and code[:i].rstrip()[-1:] in (")", "{", "}", ";", "e", "o")  # else, do
    return False
