"""Every message of the exporter that recommends something has a test that follows the recommendation.

The messages are read from the sources: one that is new has to be entered here, with the test that follows it.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from streamgru_export.from_torch import export as exporter

SOURCES = Path(exporter.__file__).parent
VERBS = (
    "call|compute|export|give|leave|let|make|multiply|pass|pick|pip install|raise|remove|return|run|scale|skip|try|"
    "upgrade|use|write"
)
ADVISES = re.compile(rf"(^|[.:;,\n(] ?| or | and | else )({VERBS})\b", re.IGNORECASE)

# Words of the message -> the tests that follow it, as file:test.
FOLLOWED = {
    "and neither reads as a state: it": "states:what_goes_in_and_comes_out_under_one_name_may_be_a_state_and_is_named",
    "Give every input a batch axis, or export with": "axes:batch_fixed_in_the_code_is_refused",
    "Compute both and choose with tensors": "branches:the_branch_written_with_tensors_exports",
    "Leave them tensors": "branches:the_branch_written_with_tensors_exports",
    "leave that out of forward(), or skip it": "branches:a_check_is_to_be_skipped_for_the_default_exporter",
    "it exports this module, and was verified": "exporters:the_other_exporter_is_recommended_where_it_was_seen_to_work",
    "Run nn.GRU over the time axis instead": "exporters:python_loop_over_time_is_refused_by_the_default_exporter",
    "unrolls nn.RNN": "exporters:plain_rnn_needs_the_legacy_exporter_for_a_dynamic_time",
    "call nn.GRU on the tensor itself": "exporters:packed_sequences_are_refused_with_a_way_out",
    "pick the last frames with gather": "exporters:the_last_frames_are_gathered_as_the_refusal_of_packing_says",
    "multiply with the mask": "exporters:the_other_exporter_is_recommended_where_it_was_seen_to_work",
    "write it with simpler ones": "exporters:an_operator_without_an_onnx_form_is_written_with_others",
    "pip install 'onnxscript": "exporters:missing_onnxscript_is_reported",
    "give it in the example": "kind:a_step_without_a_state_is_told_the_ways_out",
    "where streamgru keeps the GRU's state itself": "kind:a_step_without_a_state_is_told_the_ways_out",
    "its successor, pass output_names={} and": "kind:an_input_that_may_be_the_state_is_named_with_its_successor",
    "if that is its time, pass": "kind:a_layer_over_bands_has_no_time_to_watch_and_its_axis_is_named",
    "if its layers run within a frame, pass": "kind:a_layer_over_bands_has_no_time_to_watch_and_its_axis_is_named",
    "Leave stream= out": "kind:a_cell_is_a_step_whatever_is_asked_for",
    "Let forward() run its layers over a time axis": "kind:a_cell_that_hides_its_state_is_told_to_return_it",
    "give both one length in the example": "kind:a_second_sequence_is_not_frozen_without_a_word",
    "export the two parts of the module": "kind:parts_of_an_encoder_and_decoder_export_by_themselves",
    "Make the layer unidirectional": "kind:a_bidirectional_step_may_be_a_sequence",
    "write sizes separated by commas": "loading:an_example_has_the_dtype_that_is_named",
    "give the nn.Module it was made from": "prepare:scripted_module_is_refused",
    "Export the module in float32": "prepare:a_module_in_half_precision_is_refused_and_its_float_copy_is_proved",
    "or raise tolerance=": "prepare:a_module_that_needs_float64_is_refused",
    "keep the dtype that it is given": "prepare:a_module_that_makes_float64_itself_is_told_not_to",
    "write one step of it with functional.linear()": "prepare:an_lstm_with_projections_is_written_out",
    "export the float module that it was made from": "prepare:a_quantised_module_is_refused_by_its_layer",
    "Make it an argument and a result": "prepare:a_state_in_the_module_written_as_an_argument_exports",
    "Make it deterministic": "prepare:randomness_in_eval_mode_is_refused",
    "Return the new state from forward()": "states:a_state_that_is_no_output_is_to_be_returned",
    "Return what the layer makes of it": "states:a_result_is_not_taken_for_the_state_that_is_not_returned",
    "or pass state=[]: then it is a plain input": "states:a_result_is_not_taken_for_the_state_that_is_not_returned",
    "Pass state=[] to say that it is one": "states:a_condition_that_only_may_be_a_state_is_an_input_with_a_notice",
    "pass output_names=[...] and state=": "states:ambiguous_state_is_warned_about",
    "If it is the new state, pass": "states:a_cells_only_result_may_be_either_and_the_caller_is_asked",
    "Return its successor after the results": "states:a_state_of_another_shape_than_all_results_is_to_be_returned",
    "return a tensor, or tensors in tuples": "signature:several_outputs_without_names",
    "give {} different names": "states:given_names_and_state_are_kept",
    "give what forward() is called with": "signature:example_by_argument_name",
    "or export one step, ": "export:python_loop_over_a_cell_can_be_a_step",
    'Pass exporter="dynamo"': "exporters:gru_before_attention",
    "Upgrade onnxscript": "exporters:later_onnxscript_is_accepted",
    "pass total_length=": "verify:packed_sequences_are_verified_at_lengths_below_the_longest",
    "raise tolerance=": "verify:the_tolerance_decides",
    "Remove the argument, or leave it out": "verify:an_argument_forward_ignores_is_not_dropped_silently",
    "give the name of the ONNX file": "export:token_ids",
}


def messages() -> list[str]:
    """Every string in the sources that is a sentence, without docstrings; {} for what a message fills in."""
    found = []
    for source in SOURCES.glob("*.py"):
        tree = ast.parse(source.read_text())
        skipped = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in ast.walk(node)}
        skipped |= {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        for node in ast.walk(tree):
            if isinstance(node, ast.JoinedStr):
                parts = [part.value if isinstance(part, ast.Constant) else "{}" for part in node.values]
                found.append("".join(map(str, parts)))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in skipped:
                found.append(node.value)
    return [text for text in found if text.count(" ") > 3]


def test_every_message_that_recommends_something_is_entered() -> None:
    advice = [text for text in messages() if ADVISES.search(text)]
    new = [text for text in advice if not any(words in text for words in FOLLOWED)]
    assert not new, f"no test follows: {new}"


@pytest.mark.parametrize("words", FOLLOWED)
def test_what_is_entered_is_said_and_followed(words: str) -> None:
    assert any(words in text for text in messages()), "no message says so any longer"
    name, test = FOLLOWED[words].split(":")
    tests = (Path(__file__).parent / f"test_{name}.py").read_text()
    assert f"def test_{test}(" in tests, f"test_{name}.py has no test_{test}"
