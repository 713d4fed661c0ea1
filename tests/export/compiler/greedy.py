"""Small files that ask for much: memory or time that grows by constants, loops, lists and declarations."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
from onnx import TensorProto, helper

from export.graphs import model

BOOL, FLOAT, INT = TensorProto.BOOL, TensorProto.FLOAT, TensorProto.INT64
HUGE = 2**31 - 1  # elements that one tensor may have


def node(op, inputs, outputs, **attrs):
    return helper.make_node(op, inputs, outputs, name=outputs[0], **attrs)


def value(name, shape=None, dtype=FLOAT):
    return helper.make_tensor_value_info(name, dtype, shape)


def summed(nodes, constants, last="w", initial=(1, 4)):
    """y = x + the sum of what the nodes make of the constants."""
    known = {"w": np.ones(initial, np.float32), **constants}
    ends = [node("ReduceSum", [last], ["r"], keepdims=0), node("Add", ["x", "r"], ["y"])]
    return model([*nodes, *ends], {"x": [1, 4]}, ["y"], known, opset=17)


def ints(*numbers):
    return np.array(numbers, np.int64)


def loop(body_nodes, rounds, *, condition="go", result="q", constants=(), extra=()):
    """A Loop whose state `v` begins as `w`; its body makes `vo` of it."""
    keep = node("Identity", ["go"], ["on"])
    body = helper.make_graph([*extra, keep, *body_nodes], f"body_{result}",
                             [value("i", [], INT), value("go", [], BOOL), value("v")],
                             [value("on" if condition == "go" else condition, [], BOOL), value("vo")])  # fmt: skip
    body.initializer.extend(constants)
    return node("Loop", [rounds, "", "w"], [result], body=body)


def doubling(of="v", to="vo", times=8):
    return node("Concat", [of] * times, [to], axis=0)


def grows_in_a_loop():
    return summed([loop([doubling()], "M")], {"M": np.int64(60)}, "q")


def grows_in_a_loop_in_a_loop():
    inner = helper.make_graph([node("Identity", ["go2"], ["on2"]), doubling("u", "uo", 2)], "inner",
                              [value("j", [], INT), value("go2", [], BOOL), value("u")],
                              [value("on2", [], BOOL), value("uo")])  # fmt: skip
    return summed([loop([node("Loop", ["M", "", "v"], ["vo"], body=inner)], "M")], {"M": np.int64(9)}, "q")


def grows_in_a_branch_of_a_loop():
    then = helper.make_graph([doubling("v", "t")], "then", [], [value("t")])
    other = helper.make_graph([node("Identity", ["v"], ["e"])], "else", [], [value("e")])
    choice = node("If", ["yes"], ["vo"], then_branch=then, else_branch=other)
    return summed([loop([choice], "M")], {"M": np.int64(60), "yes": np.array(True)}, "q")


def grows_while_it_is_counted():
    """A counter beside a state of a GRU's kind: what it keeps of each step."""
    small = node("Less", ["i", "n"], ["early"])
    return summed([loop([doubling(times=2)], "M", condition="early", extra=[small])],
                  {"M": np.int64(10**6), "n": np.int64(10**6)}, "q")  # fmt: skip


def stacks_in_a_loop():
    """Each step's value, joined."""
    body = helper.make_graph(
        [node("Identity", ["go"], ["on"]), node("Identity", ["v"], ["vo"]), node("Add", ["v", "v"], ["seen"])],
        "body", [value("i", [], INT), value("go", [], BOOL), value("v")],
        [value("on", [], BOOL), value("vo"), value("seen")],
    )  # fmt: skip
    wide = node("ConstantOfShape", ["s"], ["w0"], value=helper.make_tensor("v", FLOAT, [1], [1.0]))
    return summed([wide, node("Loop", ["M", "", "w0"], ["q", "all"], body=body)],
                  {"M": np.int64(2000), "s": ints(2**22)}, "all")  # fmt: skip


def doubles_in_a_chain():
    chain = [doubling("w" if k == 0 else f"c{k}", f"c{k + 1}") for k in range(12)]
    return summed(chain, {}, "c12")


def doubles_in_functions():
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
    inner = [helper.make_function("own", "F0", ["a"], ["b"], [doubling("a", "b")], opsets)]
    for k in range(1, 4):
        calls = [helper.make_node(f"F{k - 1}", ["a"], ["t"], domain="own"),
                 helper.make_node(f"F{k - 1}", ["t"], ["b"], domain="own")]  # fmt: skip
        inner.append(helper.make_function("own", f"F{k}", ["a"], ["b"], calls, opsets))
    made = summed([helper.make_node("F3", ["w"], ["q"], domain="own")], {}, "q")
    made.functions.extend(inner)
    made.opset_import.extend(opsets[1:])
    return made


def a_function_with_a_large_constant():
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
    large = helper.make_tensor("v", FLOAT, [2**18], bytes(2**20), raw=True)
    inner = [helper.make_function("own", "F0", ["a"], ["b"], [
        node("Constant", [], ["k"], value=large), node("ReduceSum", ["k"], ["r"], keepdims=0),
        node("Add", ["a", "r"], ["b"])], opsets)]  # fmt: skip
    for k in range(1, 12):
        calls = [helper.make_node(f"F{k - 1}", ["a"], ["t"], domain="own"),
                 helper.make_node(f"F{k - 1}", ["t"], ["b"], domain="own")]  # fmt: skip
        inner.append(helper.make_function("own", f"F{k}", ["a"], ["b"], calls, opsets))
    made = summed([helper.make_node("F11", ["w"], ["q"], domain="own")], {}, "q")
    made.functions.extend(inner)
    made.opset_import.extend(opsets[1:])
    return made


def one(op, inputs, constants, **attrs):
    """One node that makes much of little."""
    return lambda: summed([node(op, inputs, ["q"], **attrs)], constants, "q")


def many(op, inputs, constants, count=64, **attrs):
    """Nodes that each make a little less than is allowed."""

    def made():
        nodes = [node(op, inputs, [f"q{k}"], **attrs) for k in range(count)]
        return summed([*nodes, node("Concat", [f"q{k}" for k in range(count)], ["q"], axis=0)], constants, "q")

    return made


def chained(op, constants, count=200, opset_inputs=("w",), size=2**22, **attrs):
    """Slow nodes on something wide, one after the other."""

    def made():
        wide = node("ConstantOfShape", ["wide"], ["a0"], value=helper.make_tensor("v", FLOAT, [1], [0.5]))
        nodes = [node(op, [f"a{k}", *opset_inputs[1:]], [f"a{k + 1}"], **attrs) for k in range(count)]
        return summed([wide, *nodes], {"wide": ints(1, 1, 1, size), **constants}, f"a{count}")

    return made


def counts_long(rounds=10**9):
    small = node("Less", ["i", "n"], ["early"])
    body = [node("Add", ["v", "one"], ["vo"])]
    return summed([loop(body, "M", condition="early", extra=[small])],
                  {"M": np.int64(rounds), "n": np.int64(rounds), "one": np.float32(1)}, "q")  # fmt: skip


def loops_long():
    return summed([loop([node("Add", ["v", "v"], ["vo"])], "M")], {"M": np.int64(10**6)}, "q")


def loops_in_loops_in_loops():
    def inner(name, nodes, of, to):
        body = helper.make_graph(
            [node("Identity", [f"go{name}"], [f"on{name}"]), *nodes], f"body{name}",
            [value(f"i{name}", [], INT), value(f"go{name}", [], BOOL), value(f"v{name}")],
            [value(f"on{name}", [], BOOL), value(f"o{name}")])  # fmt: skip
        return node("Loop", ["M", "", of], [to], body=body)

    third = inner("3", [node("Add", ["v3", "v3"], ["o3"])], "v2", "o2")
    second = inner("2", [third], "v1", "o1")
    return summed([inner("1", [second], "w", "q")], {"M": np.int64(1000)}, "q")


def scans_long():
    body = helper.make_graph([doubling("s", "so", 2), node("Neg", ["e"], ["out"])], "body", [value("s"), value("e")],
                             [value("so"), value("out")])  # fmt: skip
    scan = node("Scan", ["w", "many"], ["q", "all"], body=body, num_scan_inputs=1)
    return summed([scan], {"many": np.ones((200, 1), np.float32)}, "q")


def sequence_grows():
    nodes = [node("SequenceEmpty", [], ["s0"])]
    nodes += [node("SequenceInsert", [f"s{k}", "w0"], [f"s{k + 1}"]) for k in range(400)]
    wide = node("ConstantOfShape", ["wide"], ["w0"], value=helper.make_tensor("v", FLOAT, [1], [1.0]))
    return summed([wide, *nodes, node("ConcatFromSequence", ["s400"], ["q"], axis=0)], {"wide": ints(2**22)}, "q")


def masks_of_dropout():
    wide = node("ConstantOfShape", ["wide"], ["w0"], value=helper.make_tensor("v", FLOAT, [1], [1.0]))
    drops = [node("Dropout", ["w0"], [f"d{k}", f"m{k}"]) for k in range(64)]
    return summed([wide, *drops, node("Concat", [f"m{k}" for k in range(64)], ["m"], axis=0),
                   node("Cast", ["m"], ["q"], to=FLOAT)], {"wide": ints(2**24)}, "q")  # fmt: skip


def numbers_in_a_list():
    made = summed([], {}, "w")
    tensor = made.graph.initializer.add(name="list", data_type=INT, dims=[2**20])
    tensor.int64_data.extend([1] * 2**20)
    return made


def an_attribute_of_many_numbers():
    return summed([node("Constant", [], ["q"], value_ints=[1] * 2**20)], {}, "q")


def a_node_of_many_operands():
    return summed([node("Concat", ["w"] * 2**20, ["q"], axis=0)], {}, "q")


def declares_much():
    made = summed([], {}, "w")
    for k in range(8):
        made.graph.initializer.add(name=f"w{k}", data_type=FLOAT, dims=[2**29])
    return made


GREEDY: dict[str, Callable[[], onnx.ModelProto]] = {
    f.__name__: f
    for f in (
        grows_in_a_loop, grows_in_a_loop_in_a_loop, grows_in_a_branch_of_a_loop, grows_while_it_is_counted,
        stacks_in_a_loop, doubles_in_a_chain, doubles_in_functions, a_function_with_a_large_constant, counts_long,
        loops_long, loops_in_loops_in_loops, scans_long, sequence_grows, masks_of_dropout, numbers_in_a_list,
        an_attribute_of_many_numbers, a_node_of_many_operands, declares_much,
    )
} | {
    "Expand": one("Expand", ["w", "s"], {"s": ints(2**27, 4)}),
    "Tile": one("Tile", ["w", "s"], {"s": ints(2**27, 1)}),
    "ConstantOfShape": one("ConstantOfShape", ["s"], {"s": ints(HUGE)}),
    "Range": one("Range", ["a", "b", "c"], {"a": np.float32(0), "b": np.float32(2**30), "c": np.float32(1)}),
    "Pad": one("Pad", ["w", "s"], {"s": ints(0, 2**27, 0, 0)}),
    "OneHot": one("OneHot", ["i", "depth", "two"], {"i": ints(*range(64)), "depth": np.int64(2**24),
                                                    "two": np.float32([0, 1])}),
    "Gather": one("Gather", ["w", "i"], {"i": np.zeros((1, 2**22), np.int64)}),
    "Add, outer": one("Add", ["a", "b"], {"a": np.ones((2**15, 1), np.float32), "b": np.ones(2**15, np.float32)}),
    "Where, outer": one("Where", ["c", "a", "b"], {
        "a": np.ones((2**10, 1, 1), np.float32), "b": np.ones((2**10, 1), np.float32), "c": np.ones(2**10, np.bool_)}),
    "MatMul, outer": one("MatMul", ["a", "b"], {
        "a": np.ones((2**15, 1), np.float32), "b": np.ones((1, 2**15), np.float32)}),
    "Einsum, much summed": one("Einsum", ["a", "a", "a", "a"], {"a": np.ones((256, 256), np.float32)},
                               equation="ab,cd,ef,gh->"),
    "EyeLike": one("EyeLike", ["a"], {"a": np.ones((2**15, 1), np.float32) @ np.ones((1, 2**6), np.float32)}),
    "Resize": one("Resize", ["a", "", "by"], {"a": np.ones((1, 1, 64), np.float32),
                                              "by": np.float32([1, 1, 2**20])}, mode="linear"),
    "Conv": one("Conv", ["a", "k"], {"a": np.ones((1, 1, 2**20), np.float32), "k": np.ones((64, 1, 512), np.float32)}),
    "many ConstantOfShape": many("ConstantOfShape", ["s"], {"s": ints(2**26)}),
    "many Expand": many("Expand", ["w", "s"], {"s": ints(2**24, 4)}),
    "many Erf": chained("Erf", {}),
    "many Softplus": chained("Softplus", {}, 2000),
    "many TopK": lambda: summed(
        [node("ConstantOfShape", ["wide"], ["a0"], value=helper.make_tensor("v", FLOAT, [1], [0.5])),
         *(node("TopK", [f"a{k}", "n"], [f"a{k + 1}", f"i{k}"]) for k in range(200))],
        {"wide": ints(2**22), "n": ints(2**22)}, "a200"),
    "many ScatterND": lambda: summed(
        [node("ScatterND", ["z" if k == 0 else f"a{k}", "i", "u"], [f"a{k + 1}"]) for k in range(200)],
        {"z": np.zeros(2**17, np.float32), "i": np.arange(2**17)[:, None], "u": np.ones(2**17, np.float32)}, "a200"),
    "MaxPool": one("MaxPool", ["a"], {"a": np.ones((1, 1, 2**10, 2**10), np.float32)}, kernel_shape=[64, 64]),
    "LRN": one("LRN", ["a"], {"a": np.ones((1, 2**10, 2**8, 4), np.float32)}, size=513),
}  # fmt: skip
