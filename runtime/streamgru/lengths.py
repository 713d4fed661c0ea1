"""Inputs that say how long the sequences are: sequence_lens of ONNX's GRU, LSTM and RNN.

A stream of a sequence graph takes frame after frame, and each alone is a sequence of one: its length is 1. Who knows
the whole sequence, as :meth:`Model.run` does, says so in a state of the image, [seen, least, most, pace]: the frames
seen so far, what a length may be, and 1 where frames count. It is reset to a sequence of one frame that does not count.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ._printable import printable
from ._types import Array
from .errors import ImageError, ShapeError
from .tensors import TensorInfo

FRAME = (0.0, 1.0, 1.0, 0.0)  # what the state is reset to
MOST_FRAMES = 2**24  # that float32 counts


@dataclass(frozen=True)
class Lengths:
    """The inputs that lengths come from, and the state that counts the frames; "": there is none."""

    inputs: tuple[str, ...] = ()
    state: str = ""


def lengths_of(
    metadata: Mapping[str, Any], inputs: Sequence[TensorInfo], states: Sequence[TensorInfo], name: str
) -> Lengths:
    """What an image says of its lengths.

    Raises
    ------
    ImageError
        It names inputs or a state that it does not have.
    """
    said = metadata.get("lengths")
    if said is None:
        return Lengths()
    names, state = (said.get(key) for key in ("inputs", "state")) if isinstance(said, dict) else (None, None)
    known = [t.name for t in inputs]
    counting = [t.name for t in states if t.shape == (len(FRAME),) and t.dtype == np.float32]
    if not isinstance(names, list) or any(n not in known for n in names) or state not in [None, *counting]:
        raise ImageError(f"{name}: 'lengths' in the JSON block is not what docs/format.md says")
    return Lengths(tuple(names), state or "")


def of_sequence(frames: int) -> Array:
    """The state at the beginning of a sequence of so many frames.

    Raises
    ------
    ShapeError
        They are more than are counted.
    """
    if frames > MOST_FRAMES:
        raise ShapeError(f"a sequence with lengths has at most {MOST_FRAMES} frames, got {frames}: cut it")
    return np.array([0, 0, frames, 1], np.float32)


def out_of_range(
    lengths: Lengths, values: Mapping[str, Array], kind: object, where: str, unmoved: str = "the state is as it was"
) -> ShapeError:
    """The error for lengths, or what they come from, that a call cannot have."""
    given = ", ".join(f"{printable(n)} is {np.asarray(values[n]).reshape(-1)[:8].tolist()}" for n in lengths.inputs)
    if kind == "whole":
        expected = "a length is 0 to the number of frames"
    else:
        expected = (
            "in a stream every frame is a sequence of one, of length 1; in Model.run it is 0 to the number of frames"
        )
    return ShapeError(f"{where}: a length, or an index in the data, is out of range ({given}); {unmoved}: {expected}")
