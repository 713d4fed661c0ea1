"""What layout.py and codes.py say of an image is what the core and docs/format.md say, and all they say.

What each of them says is a dictionary under common names, so that a number, a field or a function on one side alone
is a difference; the last tests add, remove and swap some to see that. layout_elsewhere.py reads the core and the text.
"""

from __future__ import annotations

import math

import numpy as np
import pytest

from runtime.layout_elsewhere import CORE, DOCS, SHAPES, core, docs
from streamgru import codes, layout
from streamgru._kernel import lib
from streamgru.codes import Binary, Code, Extreme, Pooling, Reduction, Scatter, Unary
from streamgru.layout import Dtype, Kind, Layout

ENUMS = (Dtype, Kind, Layout, Code, Unary, Binary, Reduction, Scatter, Pooling, Extreme)
RECORDS = {"sgru_header": layout.HEADER, "sgru_tensor_rec": layout.TENSOR, "sgru_op_rec": layout.OPERATOR}
# The limits that the description tells too.
DESCRIBED = ("magic", "version", "none", "rank", "columns", "header", "tensor", "operator", "align", "summed")


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
        "align": layout.ALIGN, "summed": layout.SUMMED_FROM,
        "section": layout.HEADER.itemsize, "header": layout.HEADER.itemsize,
        "tensor": layout.TENSOR.itemsize, "operator": layout.OPERATOR.itemsize,
    }  # fmt: skip
    return said


def _stored(dtype, shape):
    tensor = np.zeros(1, layout.TENSOR)
    tensor["dtype"], tensor["layout"], tensor["rank"], tensor["dims"][0, :2] = dtype, Layout.PACKED, len(shape), shape
    return layout.stored_bytes(tensor[0])


# ---- they agree ----


def differences(said, ours):
    """The names under which two of them say different things."""
    named = {(code, i): name for code, names in ours["parameters"].items() for i, name in enumerate(names)}
    ours = {
        **ours,
        "number of parameters": {name: len(names) for name, names in ours["parameters"].items()},
        "parameter names": {at: {named.get(at)} for at in said.get("parameter names", ())},
        "places": {name: ours[name] for name in RECORDS},
        "described": {name: ours["limits"][name] for name in DESCRIBED},
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
    ("Unary", "kernels/kernels.h", "    F_MISH,\n", ""),
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
    ("parameter names", "ops/conv.c", "    P_N,\n    P_C,\n", "    P_C,\n    P_N,\n"),
    ("parameter names", "ops/conv.c", "    P_ALPHA,\n    P_BETA,\n", "    P_BETA,\n    P_ALPHA,\n"),
    ("parameter names", "ops/window.c", "    P_SH,\n    P_SW,\n", "    P_SW,\n    P_SH,\n"),
    ("parameter names", "ops/recurrent.h", "    P_X_T,\n    P_X_B,\n", "    P_X_B,\n    P_X_T,\n"),
    ("parameter names", "ops/lstm.c", "    P_C0 = P_CELL,\n    P_C0_B,\n", "    P_C0_B = P_CELL,\n    P_C0,\n"),
    ("parameter names", "ops/gru.c", "P_LBR = P_CELL, P_F, P_G = P_F + 3,", "P_F = P_CELL, P_LBR = P_F + 3, P_G,"),
    ("parameter names", "ops/rnn.c", "P_F = P_CELL, P_COUNT = P_F + 3", "P_G = P_CELL, P_COUNT = P_G + 3"),
    ("parameter names", "ops/dense.c", "n = op->params[0], M = op->params[1]", "M = op->params[0], n = op->params[1]"),
    ("parameter names", "ops/dense.c", "MATMUL: rank, M, N, K,", "MATMUL: rank, N, M, K,"),
    ("parameter names", "ops/reduce.c", "exclusive = param(op, 3)", "exclusive = param(op, 4)"),
    ("packed", "kernels/kernels.h", "return M / 16 * 16 * (K | 1)", "return M / 16 * 16 * K"),
    ("limits", "internal.h", "#define SGRU_MAX_RANK 8", "#define SGRU_MAX_RANK 9"),
    ("limits", "kernels/kernels.h", "#define SGRU_MAX_K_I8 65536u", "#define SGRU_MAX_K_I8 32768u"),
    ("limits", "model.c", "h->version != 1", "h->version != 2"),
    ("limits", "model.c", "#define HEADER_SIZE 128", "#define HEADER_SIZE 64"),
    ("limits", "model.c", "#define MAX_TENSORS (1u << 20)", "#define MAX_TENSORS (1u << 21)"),
    ("limits", "model.c", "offset % 64 == 0 && offset >=", "offset % 32 == 0 && offset >="),
    ("limits", "model.c", "end + bytes_of(t), 64)", "end + bytes_of(t), 32)"),
    ("limits", "model.c", "h + 32, size - 32", "h + 24, size - 24"),
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
    ("places", "| u32 | version, 1 |\n| 12 | u32 | flags, 0 |", "| u32 | flags, 0 |\n| 12 | u32 | version, 1 |"),
    ("places", "| 40 | u32 | number of words |", "| 40 | u32 | number of states |"),
    ("places", "| 104 | u64 | size of the JSON |", "| 104 | u64 | size of the data |"),
    ("places", "| 1 | u8 | kind:", "| 3 | u8 | kind:"),
    ("places", "| 16 | 8 × u32 | dimensions;", "| 16 | 8 × u32 | strides;"),
    ("places", "| 2 | u16 | number of input ids |", "| 2 | u16 | number of output ids |"),
    ("described", "header            128 bytes", "header            64 bytes"),
    ("described", "tensor records    64 bytes each", "tensor records    48 bytes each"),
    ("described", "operator records  32 bytes each", "operator records  64 bytes each"),
    ("described", "Every section begins on a 64-byte", "Every section begins on a 32-byte"),
    ("described", "constants, each on a 64-byte", "constants, each on a 32-byte"),
    ("described", "size is a multiple of 64", "size is a multiple of 128"),
    ("described", "version, 1 |", "version, 2 |"),
    ("described", "rank, 0 .. 8 |", "rank, 0 .. 6 |"),
    ("described", "checksum of bytes 32 ..", "checksum of bytes 24 .."),
    ("described", "scales finite, K at most 65536;", "scales finite, K at most 32768;"),
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
