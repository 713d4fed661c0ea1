"""Builds the extension ``streamgru._kernel`` with cffi; the declarations are read from ``streamgru.h`` itself."""

import re
from pathlib import Path

from cffi import FFI

HERE = Path(__file__).resolve().parent
SOURCES = [
    *("model.c", "stream.c", "cpu.c"),
    *(f"kernels/{name}.c" for name in ("ref", "rare", "avx2", "avx512", "neon")),
    *(f"ops/{name}.c" for name in ("table", "move", "index", "elementwise", "dense", "reduce", "order")),
    *(f"ops/{name}.c" for name in ("recurrent", "gru", "lstm", "rnn", "plane", "conv", "pool")),
]
HEADERS = [
    *("streamgru.h", "internal.h", "ops/ops.h", "ops/recurrent.h", "ops/plane.h"),
    *(f"kernels/{name}.h" for name in ("kernels", "vmath", "products", "taps", "elementwise", "reduce")),
]
FLAGS = ["-std=c11", "-O3", "-ffp-contract=off", "-fno-math-errno", "-fvisibility=hidden", "-g0"]


def declarations(header: str) -> str:
    """The header as cffi's parser wants it: no comments, no directives but the integer constants."""
    text = re.sub(r"/\*.*?\*/|//[^\n]*", "", header, flags=re.S)
    text = re.sub(r"#ifdef __cplusplus.*?#endif", "", text, flags=re.S)
    constants = re.findall(r"^#define (SGRU_\w+) (\d+)u?\s*$", text, flags=re.M)
    body = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    return "\n".join(f"#define {name} {value}" for name, value in constants) + "\n" + body


ffi = FFI()
ffi.cdef(declarations((HERE / "streamgru.h").read_text(encoding="utf-8")))
ffi.set_source(
    "streamgru._kernel",
    '#include "streamgru.h"',
    sources=[f"c_src/{source}" for source in SOURCES],
    depends=[f"c_src/{header}" for header in HEADERS],
    include_dirs=["c_src"],
    extra_compile_args=FLAGS,
)

if __name__ == "__main__":
    ffi.compile(verbose=True)
