"""What the core's sources and docs/format.md say of an image, read from their text, for test_layout.py."""

from __future__ import annotations

import re
import shutil
import subprocess
from itertools import product
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCS = (ROOT / "docs" / "format.md").read_text(encoding="utf-8")
CORE = {
    p.relative_to(ROOT / "c_src").as_posix(): p.read_text(encoding="utf-8") for p in (ROOT / "c_src").rglob("*.[ch]")
}
RECORDS = ("sgru_header", "sgru_tensor_rec", "sgru_op_rec")
SHAPES = list(product((1, 3, 15, 16, 17, 21, 64), (1, 2, 5, 16, 63)))  # of matrices of packed rows

# How the core and the text call what layout.py has another name for.
ALIASES = {
    "CONST": "CONSTANT", "LESS_EQUAL": "LESS_OR_EQUAL", "GREATER_EQUAL": "GREATER_OR_EQUAL", "REPLACE": "NONE",
    "ROW_MAJOR": "ROWS", "PACKED_ROWS": "PACKED",
}  # fmt: skip
COUNTS = {"F_COUNT", "B_FLOATS", "REDUCTIONS", "FUNCTIONS"}  # members that count the others
INSIDE = {"F_SETTLE"}  # a function that the core calls itself
# How the description calls the fields of a record.
FIELDS = {
    '"SGRU\\r\\n\\x1a\\n"': "magic", "number of tensors": "n_tensors", "number of operators": "n_ops",
    "number of words": "n_words", "number of inputs": "n_inputs", "number of outputs": "n_outputs",
    "number of states": "n_states", "first word of the lists": "lists", "size of the strings": "strings_size",
    "offset of the tensor records": "tensors", "offset of the operator records": "ops", "offset of the words": "words",
    "offset of the strings": "strings", "offset of the JSON": "json", "size of the JSON": "json_size",
    "offset of the data": "data", "size of the data": "data_size", "file size": "file_size",
    "offset in the data": "offset", "dimensions": "dims", "state only": "reset", "0": "zero",
    "number of input ids": "n_in", "number of output ids": "n_out", "number of parameter words": "n_params",
    "first word": "first",
}  # fmt: skip
SIZES = {"T", "B", "I", "H", "N", "C", "W", "M", "OH", "OW"}  # parameters that codes.py has in capitals
# How the core calls parameters that codes.py has another name for; a row that names the operator goes first.
PARAMETERS = {
    "P_X": "x_offset", "P_Y": "y_offset", "P_H0": "h0_offset", "P_YH": "yh_offset", "P_C0": "c0_offset",
    "P_YC": "yc_offset", "P_LBR": "linear_before_reset", "P_H_FUNCTION": "h", "P_INCLUDE": "count_include_pad",
    "P_END_H": "pad_end_h", "P_END_W": "pad_end_w", "f": "function", "0 max / 1 min": "extreme",
    "a_row": "a_row_stride", "b_row": "b_row_stride", "CONV P_F": "activation", "CONV_TRANSPOSE P_F": "activation",
    "POOL P_FUNCTION": "pooling", "REDUCE f": "reduction", "REDUCE function": "reduction",
}  # fmt: skip


# ---- the core ----

PROGRAM = """
#include <stddef.h>
#include <stdio.h>
#include "internal.h"
DEFINES
int main(void)
{
    FIELDS
    for (unsigned i = 0; i < 256; i++)
        if (dtype_size(i)) printf("size %u %zu\\n", i, dtype_size(i));
    static const uint32_t shapes[][2] = {SHAPES};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        for (unsigned d = 0; d < 3; d++) {
            sgru_tensor_rec t = {.dtype = (uint8_t[]){SGRU_F32, SGRU_F16, SGRU_I8}[d], .layout = LAYOUT_PACKED,
                                 .rank = 2, .dims = {shapes[i][0], shapes[i][1]}};
            printf("packed %u %u %zu\\n", shapes[i][0], shapes[i][1], bytes_of(&t));
        }
    printf("limit none %u\\nlimit rank %u\\nlimit elements %u\\nlimit columns %u\\n", SGRU_NONE, SGRU_MAX_RANK,
           SGRU_MAX_ELEMENTS, SGRU_MAX_K_I8);
    printf("limit header %zu\\nlimit tensor %zu\\nlimit operator %zu\\n", sizeof(sgru_header), sizeof(sgru_tensor_rec),
           sizeof(sgru_op_rec));
    printf("limit section %u\\nlimit records %u\\n", HEADER_SIZE, MAX_TENSORS);
}
"""


def core(sources, folder):
    """What the core's sources say: enumerations and tables by their text, the rest by a compiler."""
    said = {
        "Dtype": _dtypes(sources),
        "Code": {name.upper(): int(n) for n, name in re.findall(r"\[(\d+)\] = &sgru_op_(\w+)", sources["ops/table.c"])},
        "Kind": _enum(sources["internal.h"], "KIND_CONST"),
        "Layout": _enum(sources["internal.h"], "LAYOUT_ROWS"),
        "Unary": _enum(sources["kernels/kernels.h"], "F_IDENTITY"),
        "Binary": _enum(sources["kernels/kernels.h"], "B_ADD"),
        "Reduction": _enum(sources["ops/reduce.c"], "SUM"),
        "Scatter": _enum(sources["ops/index.c"], "REPLACE"),
        "Pooling": _enum(sources["ops/window.c"], "MAX"),
        "number of parameters": _parameter_counts(sources),
        **{name: {} for name in RECORDS}, "sizes": {}, "packed": {}, "limits": _limits(sources["model.c"]),
        "parameter names": _parameter_names(sources),
    }  # fmt: skip
    for line in _compiled(sources, folder).splitlines():
        what, *rest = line.split()
        if what == "field":
            said[rest[0]][rest[1]] = (int(rest[2]), int(rest[3]))
        elif what == "size":
            said["sizes"][int(rest[0])] = int(rest[1])
        elif what == "packed":
            said["packed"].setdefault((int(rest[0]), int(rest[1])), []).append(int(rest[2]))
        else:
            said["limits"][rest[0]] = int(rest[1])
    return said


def _plain(text):
    return re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL)


def _enums(text, known=None):
    """Every enumeration of a file: its members with their numbers."""
    known, found = dict(known or {}), []
    for body in re.findall(r"\benum \{(.*?)\}", _plain(text), re.DOTALL):
        members, number = {}, -1
        for name, value in re.findall(r"(\w+)(?:\s*=\s*([\w +<]+))?\s*(?:,|$)", body.strip()):
            if value and "<" not in value:
                number = sum(known[part] if part in known else int(part, 0) for part in value.strip().split(" + "))
            else:
                number += 1
            members[name] = known[name] = number
        found.append(members)
    return found


def _enum(text, first):
    """The enumeration that begins with `first`, without its prefix."""
    members = next(e for e in _enums(text) if next(iter(e)) == first)
    prefix = first.partition("_")[0] + "_" if "_" in first else ""
    names = {m.removeprefix(prefix): n for m, n in members.items() if m not in COUNTS | INSIDE}
    return {ALIASES.get(name, name): n for name, n in names.items()}


def _dtypes(sources):
    public = re.findall(r"^#define SGRU_([A-Z]\d+|BOOL) (\d+)$", _plain(sources["streamgru.h"]), re.MULTILINE)
    return {**{name: int(n) for name, n in public}, **_enum(sources["internal.h"], "SGRU_F16")}


def _operators(sources):
    """Each operator: its name, its number of parameters as written, its part of its file, and the file."""
    for text in sources.values():
        after = 0
        for row in re.finditer(r"^const sgru_op_def sgru_op_(\w+) = \{\s*\w+,\s*\w+,\s*(\w+),", text, re.MULTILINE):
            yield row[1].upper(), row[2], text[after : row.end()], text
            after = row.end()


def _numbers(sources, text):
    """The members of a file's enumerations, and those that every cell has."""
    (cells,) = (e for e in _enums(sources["ops/recurrent.h"]) if "P_CELL" in e)
    own = {name: n for e in _enums(text, {**cells, "W": 1}) for name, n in e.items()}
    return {**cells, **own} if "P_CELL" in text else own


def _parameter_counts(sources):
    """How many parameters an operator has at least."""
    counts = {name: (count, text) for name, count, _, text in _operators(sources)}
    return {name: int(_numbers(sources, text).get(count, count)) for name, (count, text) in counts.items()}


def _parameter_names(sources):
    """What the core calls the parameters of operators, each at its place."""
    found = {}
    for operator, count, part, text in _operators(sources):
        named = [*_enumerated(_numbers(sources, text))] if count == "P_COUNT" else []
        locals_ = re.findall(r"(\w+) = (?:param(?:_[fi])?\(op, (\d+)\)|op->params\[(\d+)\])[,;]", part)
        named += [(int(called or indexed), name) for name, called, indexed in locals_]
        for at, name in named + _headed(text, operator):
            found.setdefault((operator, at), set()).add(_parameter(operator, name))
    return found


def _enumerated(numbers):
    """The parameters among the members of enumerations; a function has three words."""
    members = {name: n for name, n in numbers.items() if re.match(r"P_(?!COUNT|CELL)", name)}
    for name, n in members.items():
        yield n, name
        if name in {"P_F", "P_G", "P_H_FUNCTION"} and "P_ALPHA" not in members:
            yield n + 1, f"{name[:3]}_ALPHA"
            yield n + 2, f"{name[:3]}_BETA"


def _headed(text, operator):
    """The parameters that the heading of an operator tells."""
    headings = "\n".join(re.findall(r"^/\* ---- (.*?) ---- \*/", text, re.MULTILINE))
    names = "".join(re.findall(rf"\b{operator}: ([^;.(\n]*)", headings)).split(", ") if operator != "FILL" else []
    return [(at, name.strip()) for at, name in enumerate(names) if name and "[" not in name]


def _parameter(operator, name):
    """The name of a parameter in codes.py."""
    bare = name.removeprefix("P_")
    usual = bare if bare == name or bare in SIZES else bare.lower()
    return PARAMETERS.get(f"{operator} {name}", PARAMETERS.get(name, usual))


def _limits(model):
    (letters,) = re.findall(r"magic\[8\] = \{(.*?)\}", model)
    escapes = {r"'\r'": "\r", r"'\n'": "\n"}
    magic = [escapes.get(c) or (chr(int(c, 16)) if c.startswith("0x") else c.strip("'")) for c in letters.split(", ")]
    (version,) = re.findall(r"h->version != (\d+)\)", model)
    boundaries = re.findall(r" % (\d+)|round_up\((?:[^()]|\([^()]*\))*, (\d+)\)", model)
    summed = re.search(r"sgru_checksum\(\(const unsigned char \*\)h \+ (\d+), size - (\d+)\)", model)
    return {
        "magic": "".join(magic).encode("latin-1"), "version": int(version),
        "align": _one("".join(b) for b in boundaries), "summed": _one(summed.groups()),
    }  # fmt: skip


def _one(numbers):
    """The number that all of them are; all of them where they differ."""
    different = {int(n) for n in numbers}
    return different.pop() if len(different) == 1 else different


def _compiled(sources, folder):
    """What a program prints that includes internal.h."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler")
    for file in ("claim.h", "internal.h", "kernels/kernels.h", "streamgru.h"):
        (folder / file).parent.mkdir(exist_ok=True)
        (folder / file).write_text(sources[file], encoding="utf-8")
    fields = []
    for record in RECORDS:
        (body,) = re.findall(rf"typedef struct {record} \{{(.*?)\}}", _plain(sources["internal.h"]), re.DOTALL)
        for declared in re.findall(r"\w+ ([^;]+);", body):
            for name in re.findall(r"(\w+)(?:\[\w+\])?(?:,|$)", declared):
                place = f"offsetof({record}, {name}), sizeof ((({record} *)0)->{name})"
                fields.append(f'printf("field {record} {name} %zu %zu\\n", {place});')
    shapes = ", ".join(f"{{{m}, {k}}}" for m, k in SHAPES)
    defines = "\n".join(re.findall(r"^#define .*$", _plain(sources["model.c"]), re.MULTILINE))
    program = PROGRAM.replace("DEFINES", defines).replace("FIELDS", "\n".join(fields)).replace("SHAPES", shapes)
    (folder / "print.c").write_text(program)
    subprocess.run([compiler, "-std=c11", "-w", "print.c", "-o", "print"], cwd=folder, check=True)
    return subprocess.run([folder / "print"], capture_output=True, text=True, check=True).stdout


# ---- docs/format.md ----


def docs(text):
    """What the description says."""
    rows = re.findall(r"^\| (\d+) \| ([A-Z_]+) \|[^|\n]*\|[^|\n]*\| (.*?) \|$", text, re.MULTILINE)
    cells = {name: cell for _, name, cell in rows}
    (dtypes,) = re.findall(r"\| dtype: (.*?) \|", text)
    (kinds,) = re.findall(r"\| kind: (.*?) \|", text)
    (layouts,) = re.findall(r"\| layout: (.*?) \|", text)
    (unary,) = re.findall(r"^Unary functions.*?: (.*?)\.\n", text, re.MULTILINE | re.DOTALL)
    (binary,) = re.findall(r"^Binary functions: (.*?)\.\n", text, re.MULTILINE | re.DOTALL)
    return {
        "Dtype": _numbered(dtypes), "Kind": _numbered(kinds), "Layout": _numbered(layouts),
        "Code": {name: int(code) for code, name, _ in rows},
        "Unary": _numbered(unary), "Binary": _numbered(binary),
        "Reduction": _listed(cells["REDUCE"], "reduction"),
        "Scatter": _listed(cells["SCATTER_ELEMENTS"], "reduction"),
        "Pooling": _listed(cells["POOL"], "pooling"),
        "Extreme": _listed(cells["ARG"], "extreme"),
        "parameters": {name: _parameters(text, name, cells) for name in cells},
        "lists": {name: re.findall(r"(\w+)\[rank\]", cell) for name, cell in cells.items() if "[rank]" in cell},
        "described": _described(text),
        "places": {name: _places(text, title) for name, title in
                   zip(RECORDS, ("Header", "Tensor record", "Operator record"), strict=True)},
    }  # fmt: skip


def _without_brackets(text):
    while (shorter := re.sub(r" ?\([^()]*\)", "", text)) != text:
        text = shorter
    return text


def _numbered(text):
    """`1 f32, 2 i64` as names with their numbers."""
    found = {}
    for part in re.split(r"[,;]", _without_brackets(text)):
        number, name = part.split(maxsplit=1)
        name = re.sub(r"\W", "_", name.strip().upper())
        found[ALIASES.get(name, name)] = int(number)
    return found


def _listed(cell, parameter):
    (numbers,) = re.findall(rf"\b{parameter} \(([^()]*)\)", cell)
    return _numbered(numbers)


def _parameters(text, name, cells):
    """The parameters of an operator but for its lists."""
    cell = cells["CONV"] if cells[name] == "the same" else cells[name]
    if cell == "see below":
        (block,) = re.findall(r"Common parameters, in this order:\n\n(.*?)\n\n", text, re.DOTALL)
        common = [re.sub(r"(?<=\S)  .*", "", line.strip()).rstrip(",") for line in block.splitlines()]
        (own,) = re.findall(rf"^{name} then has: (.*?)\.(?:\s|$)", _without_brackets(text), re.MULTILINE)
        cell = ", ".join([*common, own])
    names = re.split(r"[:.]", _without_brackets(cell))[0].split(",")
    return [re.sub(r"(?<=\w) f$", "", n.strip()) for n in names if "[" not in n and n.strip() != "–"]


def _places(text, title):
    """Where the fields of a record lie, and how long they are."""
    (section,) = re.findall(rf"^## {title}\n(.*?)^## ", text, re.MULTILINE | re.DOTALL)
    rows = re.findall(r"^\| (\d+) \| (?:(\d+) × )?(?:u(\d+)|(\d+) bytes) \| (.*?) \|$", section, re.MULTILINE)
    sizes = [int(n or 1) * (int(bits) // 8 if bits else int(size)) for _, n, bits, size, _ in rows]
    return {_field(what): (int(at), size) for (at, *_, what), size in zip(rows, sizes, strict=True)}


def _field(what):
    """The field that a row is about."""
    called = re.split(r"[,:;(]| of bytes", what.strip("`"))[0].strip()
    return FIELDS.get(called, called)


def _described(text):
    """The numbers that stand in sentences."""
    once = {
        "version": r"version, (\d+) \|", "rank": r"rank, 0 \.\. (\d+) \|", "columns": r"scales finite, K at most (\d+)",
        "header": r"^    header +(\d+) bytes$", "tensor": r"^    tensor records +(\d+) bytes each$",
        "operator": r"^    operator records +(\d+) bytes each$", "summed": r"checksum of bytes (\d+) \.\. file size",
        "none": r"absent optional input or output has id `(\w+)`",
    }  # fmt: skip
    boundaries = re.findall(r" on a (\d+)-byte boundary|(?:size is|data \() ?a multiple of (\d+)", text)
    (magic,) = re.findall(r'8 bytes \| `"(.*?)"` \|', text)
    return {
        **{name: int(re.search(said, text, re.MULTILINE)[1], 0) for name, said in once.items()},
        "align": _one("".join(b) for b in boundaries),
        "magic": magic.encode().decode("unicode_escape").encode("latin-1"),
    }
