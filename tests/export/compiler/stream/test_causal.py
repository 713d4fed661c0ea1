"""What keeps a graph from streaming: every node that looks ahead by itself is told at once."""

import numpy as np
import pytest

from export.graphs import gru_weights, model, node, rng
from streamgru.errors import CannotStreamError
from streamgru_export.compiler.compile import compile
from streamgru_export.compiler.graph.onnx_reader import read
from streamgru_export.compiler.stream.causal import check_causal
from streamgru_export.compiler.stream.timeline import find_time

RUN_WHOLE = "It can run whole: streamgru.load(path, mode='whole').run(x)"


def three():
    """A GRU that runs both ways, a GRU that runs backwards, a mean over time; behind them nodes that only take what
    they know, and beside them a GRU that streams."""
    r = rng()
    weights = {}
    nodes = []
    for name, direction in (("both", "bidirectional"), ("back", "reverse"), ("forth", "forward")):
        made = gru_weights(r, 4, 3, directions=2 if direction == "bidirectional" else 1)
        weights |= {f"{k}_{name}": v for k, v in made.items()}
        inputs = ["x", *(f"{k}_{name}" for k in "WRB")]
        nodes.append(node("GRU", inputs, [name], hidden_size=3, direction=direction))
    nodes.append(node("ReduceMean", ["x"], ["total"], axes=[0], keepdims=1))
    nodes.append(node("Sub", ["x", "total"], ["centred"]))
    nodes.append(node("Tanh", ["both"], ["behind"]))
    return model(nodes, {"x": ["T", 1, 4]}, ["behind", "back", "forth", "centred"], weights)


def test_every_obstacle_is_told_with_its_node_reason_and_remedy():
    with pytest.raises(CannotStreamError) as caught:
        compile(three())
    obstacles = caught.value.obstacles
    assert [o.node for o in obstacles] == [
        "GRU node 'GRU_both'",
        "GRU node 'GRU_back'",
        "ReduceMean node 'ReduceMean_total'",
    ]
    assert "bidirectional" in obstacles[0].reason
    assert "reverse" in obstacles[1].reason
    assert "over the frames" in obstacles[2].reason
    assert {o.remedy for o in obstacles} == {RUN_WHOLE}


def test_its_text_is_the_first_ones():
    with pytest.raises(CannotStreamError) as caught:
        check_causal(find_time(read(three()), {}, 1))
    first = caught.value.obstacles[0]
    assert str(caught.value) == f"this model cannot stream: {first.node}: {first.reason}. {RUN_WHOLE}"


def test_what_streams_has_no_obstacle(tmp_path):
    """The same graph without the three, which another mode takes as it is."""
    source = three()
    kept = [n for n in source.graph.node if n.output[0] == "forth"]
    del source.graph.node[:], source.graph.output[3], source.graph.output[:2]
    source.graph.node.extend(kept)
    assert compile(source).kind == "sequence"
    assert compile(three(), mode="whole", length=5).kind == "whole"


def test_an_initial_state_that_is_computed_says_what_to_do():
    weights = gru_weights(rng(), 4, 3) | {"V": np.ones((4, 3), np.float32)}
    nodes = [
        node("MatMul", ["start", "V"], ["h0"]),
        node("GRU", ["x", "W", "R", "B", "", "h0"], ["y"], hidden_size=3),
        node("MatMul", ["start", "V"], ["z"]),
    ]
    source = model(nodes, {"x": ["T", 1, 4], "start": [1, 1, 4]}, ["y", "z"], weights)
    with pytest.raises(CannotStreamError, match=r"'h0' is computed from inputs\. Give it as an input") as caught:
        compile(source)
    assert [o.node for o in caught.value.obstacles] == ["GRU node 'GRU_y'"]
