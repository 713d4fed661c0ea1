"""A model as a folder of C files that builds anywhere: the core, the image, and a replay that proves the bits.

    streamgru.c streamgru.h    the core, with what this model needs (amalgamate.py)
    model.c model.h            the image, a constant
    recording.c                random frames, and what this machine computed from them
    main.c                     replays them and compares bit for bit
    Makefile CMakeLists.txt    build it; cortex_m.c and cortex_m.ld start it on a bare Cortex-M

The image is the ``.sgru`` file, byte for byte, so that a state saved on a device is restored on a server and back.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from streamgru._disk import make_folder, write_text
from streamgru._options import as_path, whole_number
from streamgru._options import seed as checked_seed
from streamgru._types import Array
from streamgru.model import Model, load

from ..frames import random_frames
from .amalgamate import amalgamate, sources_folder

TEMPLATES = ("main.c", "cortex_m.c", "cortex_m.ld", "Makefile", "CMakeLists.txt")
WORDS_A_LINE = 5
MOST_STEPS = 10**5  # the recording is source text, and constants of the program

MODEL_H = """\
/* The model of model.c, {name}. */
#ifndef MODEL_H
#define MODEL_H

#include <stdint.h>

#define MODEL_IMAGE_SIZE {image} /* bytes of flash */
#define MODEL_STREAM_SIZE {stream} /* bytes of RAM for each stream, given to sgru_stream_init() on a 64-byte boundary */
#define MODEL_RECORDED_STEPS {steps}

#if defined(__GNUC__)
#define MODEL_ALIGNED __attribute__((aligned(64)))
#else
#define MODEL_ALIGNED _Alignas(64)
#endif

extern const uint64_t model_image[];
extern const uint64_t model_recording[]; /* [steps] of the inputs, then the outputs, each on whole words */

#endif
"""


@dataclass(frozen=True)
class EmbedReport:
    """What :func:`embed` wrote, and the memory it will take: the code for a Cortex-M at -Os, without the C library."""

    folder: str
    files: tuple[str, ...]
    kernels: tuple[str, ...]
    image_bytes: int
    code_bytes: int
    stream_bytes: int

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    def text(self) -> str:
        return (
            f"wrote {', '.join(self.files)} into {self.folder}\n"
            f"flash  {self.image_bytes + self.code_bytes:>9,} bytes: the image {self.image_bytes:,}, "
            f"the code about {self.code_bytes:,} on a Cortex-M\n"
            f"RAM    {self.stream_bytes:>9,} bytes for each stream\n"
            f"build and check: make -C {self.folder} run size"
        )


def embed(
    model: Model | str | os.PathLike[str],
    folder: str | os.PathLike[str],
    *,
    kernels: Iterable[str] = ("ref",),
    steps: int = 8,
    seed: int = 0,
) -> EmbedReport:
    """Write a model as a folder of C files.

    >>> print(embed("model.onnx", "firmware", kernels=["neon"]).text())

    Parameters
    ----------
    model : Model, or the path of a ``.sgru`` image or an ONNX file
    folder : path
        Made where it is not there; files of the same names are replaced.
    kernels : names of instruction sets
        ``ref`` serves every machine and is always there; ``neon``, ``avx2``, ``avx512`` serve theirs faster.
    steps : int
        Random frames that are recorded for ``main.c`` to replay.
    seed : int
        Of the frames.

    Raises
    ------
    ModelError
        The model cannot be loaded.
    OptionError
        There are no such kernels, or no steps.
    """
    folder = as_path("folder", folder)
    steps, seed = whole_number("steps", steps, 1, MOST_STEPS), checked_seed(seed)
    if not isinstance(model, Model):
        model = load(model)
    core, kernels = amalgamate(model.image, kernels), tuple(kernels)
    name = re.sub(r"[^\w. -]", "_", str(model.metadata.get("source") or "a model"))  # it goes into comments
    sizes = model.sizes
    include = '#include "model.h"\n\nMODEL_ALIGNED const uint64_t '
    texts = {
        "streamgru.h": (sources_folder() / "streamgru.h").read_text(encoding="utf-8"),
        "streamgru.c": core,
        "model.h": MODEL_H.format(name=name, image=sizes["image"], stream=sizes["stream"], steps=steps),
        "model.c": f"/* The image: {name} */\n{include}model_image[] = {{\n{_words(model.image)}}};\n",
        "recording.c": "/* Random frames, and what the host computed from them. */\n"
        f"{include}model_recording[] = {{\n{_words(_recording(model, steps, seed))}}};\n",
        **{file: (sources_folder() / "embed" / file).read_text(encoding="utf-8") for file in TEMPLATES},
    }
    make_folder(folder)
    for file, text in texts.items():
        write_text(folder / file, text)
    return EmbedReport(str(folder), tuple(texts), kernels, sizes["image"], _code_bytes(model.image), sizes["stream"])


def _words(data: bytes) -> str:
    """Bytes as the numbers of a C array of 64-bit words."""
    words = np.frombuffer(data, "<u8").tolist()
    lines = (words[at : at + WORDS_A_LINE] for at in range(0, len(words), WORDS_A_LINE))
    return "".join("    {},\n".format(", ".join(f"0x{word:016X}" for word in line)) for line in lines)


def _recording(model: Model, steps: int, seed: int) -> bytes:
    return b"".join(array.tobytes() + bytes(-array.nbytes % 8) for array in _tensors(model, steps, seed))


def _tensors(model: Model, steps: int, seed: int) -> Iterator[Array]:
    """Of each step the inputs, then the outputs."""
    frames = random_frames(model, {}, steps, seed)
    with model.stream() as stream:
        for step in range(steps):
            frame = {name: values[step] for name, values in frames.items()}
            y = stream.step(frame if len(frame) != 1 else next(iter(frame.values())))
            outputs = model.named(y)
            yield from frame.values()
            yield from (outputs[tensor.name] for tensor in model.outputs)


def _code_bytes(image: bytes) -> int:
    """What `size` told of six models at -Os on a Cortex-M4F was within 5 % of this line through their statements."""
    statements = re.sub(r"/\*.*?\*/", "", amalgamate(image), flags=re.DOTALL).count(";")
    return 25 * statements - 17500
