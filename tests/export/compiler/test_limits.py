"""The limits of docs/security.md: each is what the page says, lets its last through and refuses the next.

A limit that would take gigabytes to meet is made smaller for the test.
"""

from __future__ import annotations

import os
import resource
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper

import streamgru
from export.compiler.greedy import GREEDY
from export.graphs import model, node
from streamgru import layout
from streamgru.errors import ModelError
from streamgru_export.compiler.graph import budget, onnx_reader
from streamgru_export.compiler.graph.onnx_reader import read
from streamgru_export.compiler.static.specialise import specialise

PAGE = Path(__file__).parents[3] / "docs" / "security.md"
GB = 2**30


def relus(count):
    """A chain of nodes."""
    nodes = [node("Relu", ["x" if k == 0 else f"v{k}"], [f"v{k + 1}"]) for k in range(count)]
    return model(nodes, {"x": [4]}, [f"v{count}"])


def nested(depth):
    """If inside of If, `depth` subgraphs deep."""
    out = helper.make_tensor_value_info("o", TensorProto.FLOAT, [4])
    other = helper.make_graph([helper.make_node("Neg", ["x"], ["o"])], "other", [], [out])
    inner = helper.make_graph([helper.make_node("Abs", ["x"], ["o"])], "innermost", [], [out])
    for k in range(depth - 1):
        choice = helper.make_node("If", ["c"], ["o"], then_branch=inner, else_branch=other)
        inner = helper.make_graph([choice], f"level{k}", [], [out])
    choice = node("If", ["c"], ["y"], then_branch=inner, else_branch=other)
    return model([choice], {"x": [4]}, ["y"], {"c": np.array(True)})


def declaring(*shapes):
    """A model with tensors of these shapes that hold no data."""
    source = relus(1)
    for k, shape in enumerate(shapes):
        source.graph.initializer.add(name=f"w{k}", data_type=TensorProto.FLOAT, dims=shape)
    return source


@pytest.mark.parametrize(
    "row",
    [
        f"ONNX file; a tensor of it | {onnx_reader.MAX_FILE_BYTES // GB} GB; {onnx_reader.MAX_TENSOR_BYTES // GB} GB",
        f"ONNX nodes, all subgraphs and functions together; depth; rank | {budget.MAX_NODES:,}; "
        f"{onnx_reader.MAX_DEPTH}; {layout.MAX_RANK}",
        f"ONNX: nodes that loops become; nodes computed to count their steps | {budget.MAX_UNROLLED:,}; "
        f"{budget.MAX_COUNTING:,}",
        f"ONNX: constants, of the file and computed, that are there at once | {budget.MAX_BYTES // GB} GB",
        f"ONNX: operations that compute constants | 10^{len(str(budget.MAX_WORK)) - 1}",
        f"image: tensors, operators | 2^{layout.MAX_RECORDS.bit_length() - 1} each",
        f"image: elements of a tensor; rank | 2^{(layout.MAX_ELEMENTS + 1).bit_length() - 1} − 1; {layout.MAX_RANK}",
    ],
)
def test_the_limits_are_those_of_the_page(row):
    assert f"| {row} |" in PAGE.read_text(encoding="utf-8").splitlines()


def test_the_limits_are_whole_gigabytes_and_powers():
    """So that none is rounded where the page is compared."""
    for size in (onnx_reader.MAX_FILE_BYTES, onnx_reader.MAX_TENSOR_BYTES, budget.MAX_BYTES):
        assert size % GB == 0
    for count in (layout.MAX_RECORDS, layout.MAX_ELEMENTS + 1):
        assert count.bit_count() == 1


def test_a_file_of_too_many_bytes_is_not_read(tmp_path, monkeypatch):
    path = tmp_path / "m.onnx"
    path.write_bytes(relus(1).SerializeToString())
    monkeypatch.setattr(onnx_reader, "MAX_FILE_BYTES", path.stat().st_size)
    assert len(read(path).nodes) == 1
    monkeypatch.setattr(onnx_reader, "MAX_FILE_BYTES", path.stat().st_size - 1)
    with pytest.raises(ModelError, match=r"m\.onnx: cannot be read: it has \d+ bytes; at most \d+ are accepted"):
        read(path)


def test_more_nodes_than_the_limit_are_refused(monkeypatch):
    monkeypatch.setattr(budget, "MAX_NODES", 5)
    assert len(read(relus(5)).nodes) == 5
    with pytest.raises(ModelError, match="graph 'g': with its 6 nodes the model has more than 5"):
        read(relus(6))


def test_the_nodes_of_a_subgraph_are_counted_too(monkeypatch):
    monkeypatch.setattr(budget, "MAX_NODES", 2)
    out = helper.make_tensor_value_info("o", TensorProto.FLOAT, [4])
    many = [helper.make_node("Abs", ["x"], [f"o{k}"]) for k in range(2)] + [helper.make_node("Neg", ["o1"], ["o"])]
    branch = helper.make_graph(many, "branch", [], [out])
    source = model([node("If", ["c"], ["y"], then_branch=branch, else_branch=branch)], {"x": [4]}, ["y"],
                   {"c": np.array(True)})  # fmt: skip
    with pytest.raises(ModelError, match="graph 'branch': with its 3 nodes the model has more than 2"):
        read(source)


def test_the_lists_of_all_nodes_are_added_up(monkeypatch):
    monkeypatch.setattr(budget, "MAX_BYTES", 40 * budget.ENTRY)
    assert len(read(relus(10)).nodes) == 10
    with pytest.raises(ModelError, match="the model's constants, with those computed from them, exceed"):
        read(relus(30))
    wide = relus(1)
    wide.graph.input.extend(helper.make_tensor_value_info(f"i{k}", TensorProto.FLOAT, [4]) for k in range(60))
    with pytest.raises(ModelError, match="graph 'g': the model's constants"):
        read(wide)


def test_a_file_that_would_take_too_much_memory_is_not_parsed(monkeypatch):
    source = relus(10)
    source.graph.initializer.add(name="w", data_type=TensorProto.FLOAT, dims=[2**21 + 1], raw_data=bytes(2**23 + 4))
    data = source.SerializeToString()
    assert len(read(data).nodes) == 10
    monkeypatch.setattr(onnx_reader, "MAX_BYTES", 2**23)
    with pytest.raises(ModelError, match=f"they take more than {2**23} bytes of memory"):
        read(data)


def test_subgraphs_deeper_than_the_limit_are_refused():
    assert read(nested(onnx_reader.MAX_DEPTH)).nodes[0].op_type == "If"
    with pytest.raises(ModelError, match=f"subgraphs nested deeper than {onnx_reader.MAX_DEPTH}"):
        read(nested(onnx_reader.MAX_DEPTH + 1))


@pytest.mark.parametrize("shape", [[2**29 + 1], [2**15, 2**15], [2**30, 0], [1, 2**62]])
def test_a_tensor_that_declares_too_many_bytes_is_refused(shape):
    """Before an empty dimension can hide the others."""
    with pytest.raises(ModelError, match=f"'w0'.*{onnx_reader.MAX_TENSOR_BYTES} bytes are accepted at most"):
        read(declaring(shape))


def test_a_tensor_of_just_the_limit_is_refused_for_its_data_alone():
    assert onnx_reader.MAX_TENSOR_BYTES == 4 * 2**29
    with pytest.raises(ModelError, match="'w0': its data does not fit its shape"):
        read(declaring([2**29]))


def test_an_external_tensor_of_another_length_is_not_read(tmp_path):
    source = relus(1)
    tensor = source.graph.initializer.add(name="w", data_type=TensorProto.FLOAT, dims=[8])
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="w.bin")
    (tmp_path / "w.bin").write_bytes(bytes(36))  # without a length it is the whole file, whatever the shape says
    (tmp_path / "m.onnx").write_bytes(source.SerializeToString())
    with pytest.raises(ModelError, match=r"'w': its data does not fit.*\[8\]: 36 bytes of external data; it takes 32"):
        read(tmp_path / "m.onnx")


def test_all_tensors_together_have_a_limit(monkeypatch):
    """In initializers and in attributes."""
    w = np.ones(4096, np.float32)
    constant = node("Constant", [], ["v"], value=helper.make_tensor("v", TensorProto.FLOAT, [4096], w.tobytes(), True))
    nodes = [constant, node("Add", ["x", "w"], ["s"]), node("Add", ["s", "v"], ["y"])]
    source = model(nodes, {"x": [4096]}, ["y"], {"w": w})
    monkeypatch.setattr(budget, "MAX_BYTES", 2 * w.nbytes + 4096)  # and what the lists of the file take
    assert set(read(source).constants) == {"v", "w"}
    monkeypatch.setattr(budget, "MAX_BYTES", 2 * w.nbytes - 1)
    with pytest.raises(ModelError, match=f"the model's constants.*exceed {2 * w.nbytes - 1} bytes"):
        read(source)


def test_an_input_of_too_many_dimensions_is_refused():
    assert len(read(model([node("Relu", ["x"], ["y"])], {"x": [1] * 8}, ["y"])).inputs[0].shape) == 8
    with pytest.raises(ModelError, match="'x' has 9 dimensions; at most 8"):
        read(model([node("Relu", ["x"], ["y"])], {"x": [1] * 9}, ["y"]))


def test_a_tensor_of_too_many_dimensions_is_refused():
    with pytest.raises(ModelError, match="tensor 'w' has 9 dimensions; at most 8"):
        read(model([node("Add", ["x", "w"], ["y"])], {"x": [1]}, ["y"], {"w": np.ones([1] * 9, np.float32)}))


def test_a_computed_value_of_too_many_dimensions_is_refused():
    shapes = {"s8": np.ones(8, np.int64), "s9": np.ones(9, np.int64)}
    graph = specialise(read(model([node("Reshape", ["x", "s8"], ["y"])], {"x": [1]}, ["y"], shapes)), {})
    assert graph.types["y"].shape == (1,) * 8
    with pytest.raises(ModelError, match=r"Reshape_y.*too large"):
        specialise(read(model([node("Reshape", ["x", "s9"], ["y"])], {"x": [1]}, ["y"], shapes)), {})


@pytest.mark.parametrize("size, fits", [(2**31 - 1, True), (2**31, False)])
def test_a_computed_value_of_too_many_elements_is_refused(size, fits):
    source = model([node("Expand", ["x", "s"], ["y"])], {"x": [1]}, ["y"], {"s": np.array([size])})
    if fits:
        assert specialise(read(source), {}).types["y"].size == size
        return
    with pytest.raises(ModelError, match=r"Expand_y.*too large"):
        specialise(read(source), {})


def test_constants_computed_while_compiling_have_a_limit(monkeypatch):
    """All that are there at once: of a chain two links."""
    w = np.ones(4096, np.float32)
    nodes = [node("Neg", ["w"], ["a"]), node("Abs", ["a"], ["b"]), node("Add", ["x", "b"], ["y"])]
    graph = read(model(nodes, {"x": [4096]}, ["y"], {"w": w}))
    monkeypatch.setattr(budget, "TRANSIENT", 9)
    monkeypatch.setattr(budget, "MAX_BYTES", 3 * w.nbytes)
    assert [n.op_type for n in specialise(graph, {}).nodes] == ["Add"]
    monkeypatch.setattr(budget, "MAX_BYTES", 3 * w.nbytes - 1)
    with pytest.raises(ModelError, match=rf"Abs_b.*constants.*exceed {3 * w.nbytes - 1} bytes"):
        specialise(graph, {})


MB = 2**20
FITS = {"numbers_in_a_list", "EyeLike"}  # what is not too much after all


def compiled_elsewhere(source, folder):
    """In a process of its own: what came of it, the bytes that it took at most, the seconds of processor."""
    data, answer = source.SerializeToString(), folder / "answer"
    child = os.fork()
    if child == 0:
        before, begin = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
        try:
            streamgru.compile(data, mode="whole")
            said = "fits"
        except ModelError as error:
            said = f"refused: {error}"
        except BaseException as error:  # noqa: BLE001 - what a test must not see
            said = f"failed: {error!r}"
        peak = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
        answer.write_text(f"{peak} {time.process_time() - begin} {said}", encoding="utf-8")
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    peak, seconds, said = answer.read_text(encoding="utf-8").split(" ", 2)
    return said, int(peak), float(seconds)


@pytest.mark.skipif(sys.platform != "linux", reason="a process's memory as Linux counts it")
@pytest.mark.parametrize("name", GREEDY)
def test_what_asks_for_too_much_is_refused_before_it_is_made(name, tmp_path, monkeypatch):
    """With limits of a hundredth, so that it costs no more than a test may. Python itself takes a few megabytes."""
    limit = 64 * MB
    for which, most in {"MAX_BYTES": limit, "MAX_WORK": 10**9, "MAX_UNROLLED": 500, "MAX_COUNTING": 1000}.items():
        monkeypatch.setattr(budget, which, most)
    said, peak, seconds = compiled_elsewhere(GREEDY[name](), tmp_path)
    print(f"{said}\n{peak / MB:.0f} MB, {seconds:.2f} s")
    assert said == "fits" if name in FITS else said.startswith("refused: ")
    assert peak < 1.5 * limit + 8 * MB
    assert seconds < 5


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="a process's memory as Linux counts it")
@pytest.mark.parametrize("name", ["grows_in_a_loop", "doubles_in_a_chain", "stacks_in_a_loop", "many Softplus"])
def test_what_asks_for_too_much_takes_half_as_much_again_as_the_limit_at_most(name, tmp_path):
    said, peak, seconds = compiled_elsewhere(GREEDY[name](), tmp_path)
    print(f"{said}\n{peak / budget.MAX_BYTES:.2f} of the limit, {seconds:.2f} s")
    assert said.startswith("refused: ")
    assert peak < 1.5 * budget.MAX_BYTES


@pytest.mark.parametrize(
    "source, which",
    [
        (lambda: model([node("Pad", ["x", "p"], ["y"], mode="edge")], {"x": [4]}, ["y"],
                       {"p": np.array([2**20, 2**20])}), "Pad"),
        (lambda: model([node("Conv", ["x", "w"], ["y"], dilations=[2**20], pads=[2**21, 0])], {"x": [1, 4, "time"]},
                       ["y"], {"w": np.ones((1, 4, 3), np.float32)}), "the past of 'x'"),
        (lambda: model([node("LayerNormalization", ["x", "g"], ["y"], axis=0)], {"x": [2**11, 2**11]}, ["y"],
                       {"g": np.ones((1, 1), np.float32)}), "LayerNormalization"),
    ],
)  # fmt: skip
def test_what_the_image_would_keep_has_the_same_limit(source, which, monkeypatch):
    """Indices, the past of a convolution, a scale that is stretched: made of shapes alone."""
    monkeypatch.setattr(budget, "MAX_BYTES", 8 * MB)
    with pytest.raises(ModelError, match=which):
        streamgru.compile(source())


def test_a_step_that_touches_too_much_to_be_checked_is_refused_and_a_smaller_one_is_not():
    def chain(size):
        nodes = [node("Expand", ["x", "s"], ["v0"])]
        nodes += [node("Abs" if k % 2 else "Neg", [f"v{k}"], [f"v{k + 1}"]) for k in range(300)]
        return model([*nodes, node("ReduceSum", ["v300"], ["y"])], {"x": [1, 1]}, ["y"], {"s": np.array([1, size])})

    with pytest.raises(ModelError, match="reads and writes too much to be checked: make its tensors smaller"):
        streamgru.compile(chain(2**26))
    assert streamgru.compile(chain(2**18)).outputs
