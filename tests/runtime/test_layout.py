"""What layout.py and codes.py say of an image is what the core and docs/format.md say, and all they say.

What each of them says is a dictionary under common names, so that a number, a field or a function on one side alone
is a difference; the last tests add and remove some to see that.
"""

from __future__ import annotations

import math
import re
import shutil
import subprocess
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from streamgru import codes, layout
from streamgru._kernel import lib
from streamgru.codes import Binary, Code, Extreme, Pooling, Reduction, Scatter, Unary
from streamgru.layout import Dtype, Kind, Layout

ROOT = Path(__file__).parents[2]
DOCS = (ROOT / "docs" / "format.md").read_text(encoding="utf-8")
CORE = {
    p.relative_to(ROOT / "c_src").as_posix(): p.read_text(encoding="utf-8") for p in (ROOT / "c_src").rglob("*.[ch]")
}
ENUMS = (Dtype, Kind, Layout, Code, Unary, Binary, Reduction, Scatter, Pooling, Extreme)
RECORDS = {"sgru_header": layout.HEADER, "sgru_tensor_rec": layout.TENSOR, "sgru_op_rec": layout.OPERATOR}
SHAPES = list(product((1, 3, 15, 16, 17, 21, 64), (1, 2, 5, 16, 63)))  # of matrices of packed rows

# How the core and the text call what layout.py has another name for.
ALIASES = {
    "CONST": "CONSTANT", "LESS_EQUAL": "LESS_OR_EQUAL", "GREATER_EQUAL": "GREATER_OR_EQUAL", "REPLACE": "NONE",
    "ROW_MAJOR": "ROWS", "PACKED_ROWS": "PACKED",
}  # fmt: skip
COUNTS = {"F_COUNT", "B_FLOATS", "REDUCTIONS", "FUNCTIONS"}  # members that count the others
INSIDE = {"F_SETTLE"}  # a function that the core calls itself


def python():
    """What layout.py says."""
    said = {e.__name__: {member.name: int(member) for member in e} for e in ENUMS}
    for name, record in RECORDS.items():
        said[name] = {f: (record.fields[f][1], record.fields[f][0].itemsize) for f in record.names}
    said["parameters"] = {code.name: list(names) for code, names in codes.PARAMETERS.items()}
    said["lists"] = {code.name: list(names) for code, names in codes.LISTS.items()}
    said["sizes"] = {int(dtype): dtype.numpy.itemsize for dtype in Dtype}
    said["packed"] = {shape: [_stored(dtype, shape) for dtype in (Dtype.F32, Dtype.F16, Dtype.I8)] for shape in SHAPES}
    said["limits"] = {
        "magic": layout.MAGIC, "version": layout.VERSION, "records": layout.MAX_RECORDS, "none": layout.NONE,
        "rank": layout.MAX_RANK, "elements": layout.MAX_ELEMENTS, "columns": layout.MAX_COLUMNS_I8,
        "header": layout.HEADER.itemsize, "tensor": layout.TENSOR.itemsize, "operator": layout.OPERATOR.itemsize,
    }  # fmt: skip
    return said


def _stored(dtype, shape):
    tensor = np.zeros(1, layout.TENSOR)
    tensor["dtype"], tensor["layout"], tensor["rank"], tensor["dims"][0, :2] = dtype, Layout.PACKED, len(shape), shape
    return layout.stored_bytes(tensor[0])


# ---- the core ----

PROGRAM = """
#include <stddef.h>
#include <stdio.h>
#include "internal.h"
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


def _parameter_counts(sources):
    """How many parameters an operator has at least."""
    (cells,) = (e for e in _enums(sources["ops/recurrent.h"]) if "P_CELL" in e)
    counts = {}
    for text in sources.values():
        found = re.findall(r"^const sgru_op_def sgru_op_(\w+) = \{\w+,\s*\w+,\s*(\w+),", text, re.MULTILINE)
        known = {name: n for e in _enums(text, {**cells, "W": 1}) for name, n in e.items()} if found else {}
        counts.update({name.upper(): int(known.get(count, count)) for name, count in found})
    return counts


def _limits(model):
    (letters,) = re.findall(r"magic\[8\] = \{(.*?)\}", model)
    escapes = {r"'\r'": "\r", r"'\n'": "\n"}
    magic = [escapes.get(c) or (chr(int(c, 16)) if c.startswith("0x") else c.strip("'")) for c in letters.split(", ")]
    (shift,) = re.findall(r"#define MAX_TENSORS \(1u << (\d+)\)", model)
    (version,) = re.findall(r"h->version != (\d+)\)", model)
    return {"magic": "".join(magic).encode("latin-1"), "records": 1 << int(shift), "version": int(version)}


def _compiled(sources, folder):
    """What a program prints that includes internal.h."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler")
    for file in ("internal.h", "kernels/kernels.h", "streamgru.h"):
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
    (folder / "print.c").write_text(PROGRAM.replace("FIELDS", "\n".join(fields)).replace("SHAPES", shapes))
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
    rows = re.findall(r"^\| (\d+) \| (?:(\d+) × )?(?:u(\d+)|(\d+) bytes) \|", section, re.MULTILINE)
    return [(int(at), int(n or 1) * (int(bits) // 8 if bits else int(size))) for at, n, bits, size in rows]


# ---- they agree ----


def differences(said, ours):
    """The names under which two of them say different things."""
    ours = {
        **ours,
        "number of parameters": {name: len(names) for name, names in ours["parameters"].items()},
        "places": {name: list(ours[name].values()) for name in RECORDS},
    }
    return [what for what in said if said[what] != ours[what]]


def test_the_core_says_the_same(tmp_path):
    assert differences(core(CORE, tmp_path), python()) == []


def test_the_description_says_the_same():
    assert differences(docs(DOCS), python()) == []


def test_the_dtypes_of_frames_are_those_of_the_public_header():
    assert (lib.SGRU_F32, lib.SGRU_I64, lib.SGRU_I32, lib.SGRU_BOOL) == (Dtype.F32, Dtype.I64, Dtype.I32, Dtype.BOOL)


def test_every_dtype_is_found_by_numpys():
    assert [Dtype.of(dtype.numpy) for dtype in Dtype] == list(Dtype)


def test_every_operator_tells_its_parameters_and_where_its_functions_are():
    assert set(codes.PARAMETERS) == set(codes.FUNCTIONS_AT) == set(Code)
    named = {code.name for code, places in codes.FUNCTIONS_AT.items() if places}
    assert named == {"UNARY", "BINARY", "AFFINE", "GRU", "LSTM", "RNN", "CONV", "CONV_TRANSPOSE"}


def test_lists_follow_the_parameters():
    words = [Binary.ADD, 2, 3, 5, 5, 1, 0, -1]
    assert codes.lists_of(Code.BINARY, words) == [(3, 5), (5, 1), (0, -1)]
    assert codes.lists_of(Code.COPY, [0, 7, 8]) == [(), (), ()]


@pytest.mark.parametrize("shape", [(3,), (2, 3, 5), ()])
@pytest.mark.parametrize("dtype", list(Dtype))
def test_rows_take_the_bytes_of_their_elements(dtype, shape):
    tensor = np.zeros(1, layout.TENSOR)
    tensor["dtype"], tensor["rank"], tensor["dims"][0, : len(shape)] = dtype, len(shape), shape
    assert layout.shape_of(tensor[0]) == shape
    assert layout.stored_bytes(tensor[0]) == math.prod(shape) * dtype.numpy.itemsize


# ---- and a change on one side alone is found ----

IN_CORE = [
    ("Unary", "kernels/kernels.h", "    F_MISH,\n", "    F_MISH,\n    F_TAN,\n"),
    ("Unary", "kernels/kernels.h", "    F_COS,\n", ""),
    ("Binary", "kernels/kernels.h", "    B_XOR\n", "    B_XOR,\n    B_XNOR\n"),
    ("Reduction", "ops/reduce.c", "LOG_SUM_EXP, FUNCTIONS", "LOG_SUM_EXP, LAST, FUNCTIONS"),
    ("Scatter", "ops/index.c", "REPLACE, ADD, MUL,", "REPLACE, MUL, ADD,"),
    ("Pooling", "ops/window.c", "enum { MAX, AVERAGE };", "enum { MAX, AVERAGE, LP };"),
    ("Code", "ops/table.c", "    [82] = &sgru_op_pool,\n", "    [82] = &sgru_op_pool,\n    [83] = &sgru_op_resize,\n"),
    ("Code", "ops/table.c", "    [3] = &sgru_op_cast,\n", ""),
    ("Dtype", "streamgru.h", "#define SGRU_BOOL 4\n", "#define SGRU_BOOL 4\n#define SGRU_F64 7\n"),
    ("Dtype", "internal.h", "SGRU_I8 = 6", "SGRU_I8 = 6, SGRU_I4"),
    ("sizes", "internal.h", "{0, 4, 8, 4, 1, 2, 1}", "{0, 4, 8, 4, 1, 2, 1, 8}"),
    ("Kind", "internal.h", "KIND_ARENA, KIND_STATE", "KIND_STATE, KIND_ARENA"),
    ("Layout", "internal.h", "LAYOUT_PACKED }", "LAYOUT_PACKED, LAYOUT_COLUMNS }"),
    ("sgru_header", "internal.h", "json_size, data,", "data, json_size,"),
    ("sgru_tensor_rec", "internal.h", "    uint32_t zero[3];", "    uint32_t scale, zero[2];"),
    ("sgru_op_rec", "internal.h", "    uint32_t zero[4];\n", ""),
    ("number of parameters", "ops/conv.c", "    P_BETA,\n", ""),
    ("number of parameters", "ops/gru.c", "P_COUNT = P_G + 3", "P_COUNT = P_G + 4"),
    ("packed", "kernels/kernels.h", "return M / 16 * 16 * (K | 1)", "return M / 16 * 16 * K"),
    ("limits", "internal.h", "#define SGRU_MAX_RANK 8", "#define SGRU_MAX_RANK 9"),
    ("limits", "model.c", "h->version != 1", "h->version != 2"),
]
IN_DOCS = [
    ("Unary", "33 cos,", "33 cos, 35 tan,"),
    ("Unary", "31 mish, ", ""),
    ("Binary", "26 xor", "26 xor, 27 xnor"),
    ("Reduction", "8 log_sum_exp", "8 log_sum_exp, 9 log_sum"),
    ("Scatter", "3 max, 4 min)", "3 max)"),
    ("Pooling", "1 average", "2 average"),
    ("Extreme", "(0 max, 1 min)", "(0 min, 1 max)"),
    ("Code", "| 82 | POOL |", "| 83 | POOL |"),
    ("Dtype", "6 i8 |", "6 i8, 7 f64 |"),
    ("Kind", "2 state |", "2 state, 3 shared |"),
    ("Layout", "1 packed rows |", "2 packed rows |"),
    ("parameters", "exclusive, reverse |", "reverse |"),
    ("parameters", "    x_offset, x_t, x_b,", "    x_offset, x_b, x_t,"),
    ("parameters", "yc_offset, yc_b, input_forget", "yc_offset, yc_b"),
    ("lists", "c_strides[rank], a_strides[rank]", "a_strides[rank], c_strides[rank]"),
    ("places", "| 120 | u64 |", "| 120 | u32 |"),
    ("places", "| 48 | u32 | state only", "| 50 | u16 | state only"),
    ("places", "| 12 | u32 | name, an offset into the strings: the ONNX", "| 16 | u32 | name, an offset: the ONNX"),
]


@pytest.mark.parametrize("what, file, before, after", IN_CORE)
def test_a_change_of_the_core_alone_is_found(what, file, before, after, tmp_path):
    assert CORE[file].count(before) == 1
    changed = {**CORE, file: CORE[file].replace(before, after)}
    assert what in differences(core(changed, tmp_path), python())


@pytest.mark.parametrize("what, before, after", IN_DOCS)
def test_a_change_of_the_description_alone_is_found(what, before, after):
    assert DOCS.count(before) == 1
    assert differences(docs(DOCS.replace(before, after)), python()) == [what]


@pytest.mark.parametrize("name", [e.__name__ for e in ENUMS])
def test_a_member_of_layout_py_alone_is_found(name, tmp_path):
    ours = python()
    ours[name]["NEW"] = 99
    assert differences(docs(DOCS), ours) == [name]
    if name != "Extreme":  # the core has no name for these
        assert differences(core(CORE, tmp_path), ours) == [name]


@pytest.mark.parametrize("name", RECORDS)
def test_a_field_of_layout_py_alone_is_found(name, tmp_path):
    ours = python()
    ours[name]["new"] = (0, 4)
    assert differences(docs(DOCS), ours) == ["places"]
    assert differences(core(CORE, tmp_path), ours) == [name]


def test_a_parameter_of_layout_py_alone_is_found(tmp_path):
    ours = python()
    ours["parameters"]["POOL"].append("new")
    assert differences(docs(DOCS), ours) == ["parameters"]
    assert differences(core(CORE, tmp_path), ours) == ["number of parameters"]
