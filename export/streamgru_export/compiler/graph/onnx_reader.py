"""Reads an ONNX model into a :class:`~streamgru_export.compiler.graph.graph.Graph`. It interprets nothing but the file
format. Nodes may stand in any order, as onnxruntime takes them; whether every value is written, and once, is for
verify.py to say.

Nothing in the file is trusted: sizes are limited, external data stays inside the model's folder, declared
output shapes are kept only as claims. float16, bfloat16 and float64 become float32, with a note.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import sys
from collections.abc import Sized
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx import TensorProto, helper, numpy_helper

from streamgru._disk import read_bytes
from streamgru._options import as_path
from streamgru._printable import printable
from streamgru.errors import FileError, ModelError
from streamgru.layout import MAX_RANK

from ...lost_reset import is_of_torch
from .budget import ENTRY, MAX_BYTES, Budget
from .dtypes import HELD, NARROWER, QUANTISED, ROUNDED
from .external_data import load_external
from .functions import inline_functions
from .graph import Array, Dim, Graph, Node, Port
from .operators import MAX_OPSET, MIN_OPSET
from .order import in_order
from .schema import check_attribute_types, check_form
from .wire import check_size

MAX_FILE_BYTES = 2**31  # protobuf's own limit
MAX_TENSOR_BYTES = 2**31
MAX_DEPTH = 16  # of subgraphs inside subgraphs
NUMBER = 50  # bytes, and nanoseconds, that a number takes in Python

# What Einsum can say. At another character onnx's shape inference does not end.
EQUATION = re.compile(r"[A-Za-z., ]*(->[A-Za-z. ]*)?")


def read(source: str | os.PathLike[str] | bytes | onnx.ModelProto) -> Graph:
    """Reads a model.

    Parameters
    ----------
    source : path, bytes or ModelProto
        The model; external data is found only where a path is given.

    Raises
    ------
    ModelError
        No ONNX model, too large, an unknown operator set or dtype, external data that cannot be had.
    """
    folder, name = None, ""
    if isinstance(source, onnx.ModelProto):
        model, digest = source, hashlib.sha256(source.SerializeToString(deterministic=True))
    else:
        if isinstance(source, bytes):
            data, name = source, "bytes"
        else:
            path = as_path("source", source)
            data, folder, name = _file_bytes(path), path.parent, printable(path.name)
        model, digest = _parse(data, name), hashlib.sha256(data)
        del data  # a copy of all that follows
    graph = _Reader(model, folder).graph()
    graph.source, graph.sha256 = name, digest.hexdigest()
    return graph


def _file_bytes(path: Path) -> bytes:
    try:
        return read_bytes(path, MAX_FILE_BYTES)
    except FileError as error:
        why = " (protobuf's limit: it is no ONNX model)" if error.errno == errno.EFBIG else ""
        raise ModelError(f"{error}{why}") from error


def _parse(data: bytes, name: str) -> onnx.ModelProto:
    check_size(data, MAX_BYTES)
    try:
        model = onnx.load_model_from_string(data)
    except (DecodeError, ValueError, RuntimeError) as error:
        raise ModelError(f"'{name}' is not an ONNX model: {error}") from None
    if not model.graph.output or not model.opset_import:
        raise ModelError(f"'{name}' is not an ONNX model: it has no graph with outputs, or no operator set")
    return model


class _Reader:
    """One model on its way to a graph."""

    def __init__(self, model: onnx.ModelProto, folder: Path | None) -> None:
        self.folder = folder
        self.budget = Budget()
        self.narrowed: set[str] = set()  # dtypes that became float32
        self.model = inline_functions(model, self.budget)

    def graph(self) -> Graph:
        model = self.model
        opset = self._opset()
        self._lists("the model", model.metadata_props)
        graph = self._graph(model.graph, opset, 0)
        graph.producer = f"{_text(model.producer_name)} {_text(model.producer_version)}".strip()
        graph.metadata = {_text(p.key): _text(p.value) for p in model.metadata_props}
        if self.narrowed:
            graph.notes.append(f"{', '.join(sorted(self.narrowed))} converted to float32")
        return graph

    def _opset(self) -> int:
        versions = {o.domain: o.version for o in self.model.opset_import}
        opset = versions.get("", versions.get("ai.onnx"))
        if opset is None:
            raise ModelError("the model imports no ONNX operator set (domain '' or 'ai.onnx')")
        if not MIN_OPSET <= opset <= MAX_OPSET:
            raise ModelError(
                f"operator set {opset}: {MIN_OPSET} to {MAX_OPSET} are understood; "
                "onnx.version_converter can convert the model"
            )
        return int(opset)

    def _graph(self, proto: onnx.GraphProto, opset: int, depth: int) -> Graph:
        if depth > MAX_DEPTH:
            raise ModelError(f"graph '{proto.name}': subgraphs nested deeper than {MAX_DEPTH}")
        self.budget.read(f"graph '{proto.name}'", len(proto.node))
        self._lists(f"graph '{proto.name}'", proto.initializer, proto.input, proto.output)
        if proto.sparse_initializer:
            raise ModelError(f"graph '{proto.name}': sparse initializers are not supported; make them dense")
        constants = {_text(t.name): self.tensor(t, t.name) for t in proto.initializer}
        inputs = [self._port(v, depth) for v in proto.input if _text(v.name) not in constants]
        outputs = [self._port(v, depth) for v in proto.output]
        graph = Graph(_text(proto.name), [], inputs, outputs, constants, opset)
        for node in proto.node:
            self._node(node, graph, depth)
        graph.nodes = in_order(graph.nodes)
        return graph

    def _port(self, value: onnx.ValueInfoProto, depth: int) -> Port:
        if depth and value.type.WhichOneof("value") == "sequence_type":  # of a loop's body: static/loops.py knows it
            return Port(value.name, HELD[TensorProto.FLOAT], ())
        if value.type.WhichOneof("value") not in ("tensor_type", None):
            raise ModelError(f"'{value.name}' is no tensor but a {value.type.WhichOneof('value')}: not supported")
        tensor = value.type.tensor_type
        if len(tensor.shape.dim) > MAX_RANK:
            raise ModelError(f"'{value.name}' has {len(tensor.shape.dim)} dimensions; at most {MAX_RANK} are supported")
        dims: list[Dim] = []
        for axis, dim in enumerate(tensor.shape.dim):
            if dim.WhichOneof("value") == "dim_value" and dim.dim_value > 0:
                dims.append(dim.dim_value)
            else:
                dims.append(_text(dim.dim_param) or f"{value.name}.{axis}")
        return Port(
            _text(value.name), self.dtype(tensor.elem_type or TensorProto.FLOAT, f"'{value.name}'"), tuple(dims)
        )

    def dtype(self, code: int, who: str) -> np.dtype[Any]:
        if code in ROUNDED:
            self.narrowed.add(TensorProto.DataType.Name(code).lower())
        if code not in HELD:
            name = TensorProto.DataType.Name(code) if code in TensorProto.DataType.values() else str(code)
            hint = f". {QUANTISED}" if code in NARROWER else ""
            raise ModelError(f"{who} has the dtype {name.lower()}; float, int64, int32 and bool are supported{hint}")
        return HELD[code]

    def tensor(self, proto: onnx.TensorProto, name: str) -> Array:
        """The array of a TensorProto; its declared size is checked before anything is allocated."""
        dtype = self.dtype(proto.data_type, f"tensor '{name}'")
        if len(proto.dims) > MAX_RANK:
            raise ModelError(f"tensor '{name}' has {len(proto.dims)} dimensions; at most {MAX_RANK} are supported")
        stored = np.dtype(helper.tensor_dtype_to_np_dtype(proto.data_type))
        size = stored.itemsize
        for d in proto.dims:
            size *= d
            if d < 0 or size > MAX_TENSOR_BYTES:
                raise ModelError(
                    f"tensor '{name}' of shape {list(proto.dims)}: {MAX_TENSOR_BYTES} bytes are accepted at most"
                )
        who = f"tensor '{name}'"
        self.budget.claim(who, max(size, size // stored.itemsize * dtype.itemsize))
        raw = load_external(proto, self.folder, size) if proto.data_location == TensorProto.EXTERNAL else proto.raw_data
        try:
            if raw and sys.byteorder == "little":  # as it lies there, without another copy
                array = np.frombuffer(raw, stored)
            else:
                array = self._listed(proto, who)
            array = np.ascontiguousarray(array.astype(dtype, copy=False)).reshape(tuple(proto.dims))
        except (ValueError, TypeError) as error:
            raise ModelError(f"{who}: its data does not fit its shape {list(proto.dims)}: {error}") from None
        self.budget.hold(who, array)
        return array

    def _listed(self, proto: onnx.TensorProto, who: str) -> Array:
        """The array of a TensorProto that has number after number, each of which becomes one of Python's for a
        moment."""
        count = max(map(len, (proto.float_data, proto.int32_data, proto.int64_data, proto.double_data)))
        self.budget.claim(who, 0, NUMBER * count)
        self.budget.spend(who, NUMBER * count)
        return numpy_helper.to_array(proto)

    def _lists(self, who: object, *lists: Sized) -> None:
        """Lists of the file that become lists of Python. ModelError where they are too long."""
        self.budget.claim(who, ENTRY * sum(map(len, lists)))
        self.budget.held += ENTRY * sum(map(len, lists))

    def _node(self, proto: onnx.NodeProto, graph: Graph, depth: int) -> None:
        self._lists(
            f"a node '{_text(proto.name)[:40]}'", proto.input, proto.output, proto.attribute, proto.metadata_props
        )
        inputs, outputs = ([_text(v) for v in names] for names in (proto.input, proto.output))
        node = Node(_text(proto.op_type), _text(proto.name), inputs, outputs)
        if proto.domain not in ("", "ai.onnx"):
            raise ModelError(f"{node}: the operator domain '{proto.domain}' is not supported; only ONNX's own is")
        meta = {_text(p.key): _text(p.value) for p in proto.metadata_props}
        node.from_torch_gru = node.op_type == "GRU" and is_of_torch(_text(self.model.producer_name), meta)
        kinds = {_text(a.name): a.type for a in proto.attribute}
        if len(kinds) < len(proto.attribute):
            raise ModelError(f"{node}: it has an attribute twice, and which of the two counts is not said")
        check_attribute_types(node, graph.opset, kinds)
        for a in proto.attribute:
            node.attrs[a.name] = self._attribute(a, node, graph.opset, depth)
        check_form(node, graph.opset)
        if node.op_type == "Constant":
            graph.constants[node.outputs[0]] = _constant(node)
        else:
            graph.nodes.append(node)

    def _attribute(self, a: onnx.AttributeProto, node: Node, opset: int, depth: int) -> Any:
        kind = a.type
        self._lists(node, a.ints, a.floats, a.strings)
        if a.ref_attr_name:
            raise ModelError(f"{node}: attribute '{a.name}' refers to a function's attribute")
        if kind == onnx.AttributeProto.TENSOR:
            return self.tensor(a.t, f"{a.name} of {node}")
        if kind == onnx.AttributeProto.GRAPH:
            return self._graph(a.g, opset, depth + 1)
        if kind not in (1, 2, 3, 6, 7, 8):  # FLOAT INT STRING FLOATS INTS STRINGS
            raise ModelError(f"{node}: attribute '{a.name}' is of a kind that is not supported")
        value = helper.get_attribute_value(a)
        if kind == onnx.AttributeProto.STRING:
            text = value.decode("utf-8", "replace")
            if (node.op_type, a.name) == ("Einsum", "equation") and not EQUATION.fullmatch(text):
                raise ModelError(f"{node}: '{text[:40]}' is no equation of letters, commas, '...' and '->'")
            return text
        if kind == onnx.AttributeProto.STRINGS:
            return [v.decode("utf-8", "replace") for v in value]
        if (a.name, kind) == ("to", onnx.AttributeProto.INT) and value in ROUNDED:
            self.dtype(value, str(node))
            return int(TensorProto.FLOAT)
        if a.name.endswith(("axis", "axes")) or a.name == "perm":
            _check_axes(a.name, list(value) if kind == onnx.AttributeProto.INTS else [value], node)
        return list(value) if kind in (6, 7) else value


def _text(name: str | bytes) -> str:
    """A string of the file. protobuf gives bytes where it is not UTF-8."""
    if isinstance(name, bytes):
        raise ModelError(f"the name {name[:40]!r} is not UTF-8: the file is damaged")
    return name


def _check_axes(name: str, axes: list[Any], node: Node) -> None:
    """No axis beyond any rank. onnx's shape inference would take it modulo 2^32 and write outside its arrays."""
    beyond = next((a for a in axes if not -MAX_RANK <= a <= MAX_RANK), None)
    if beyond is not None:
        raise ModelError(f"{node}: attribute '{name}' is {beyond}; tensors have at most {MAX_RANK} dimensions")


def _constant(node: Node) -> Array:
    """The value of a Constant node, whichever of its attributes holds it."""
    for key, dtype in (("value", None), ("value_float", np.float32), ("value_floats", np.float32),
                       ("value_int", np.int64), ("value_ints", np.int64)):  # fmt: skip
        if key in node.attrs:
            return np.asarray(node.attrs[key], dtype)
    raise ModelError(f"{node}: only number tensors are supported, and it holds {sorted(node.attrs)}")
