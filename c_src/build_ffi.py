"""Builds the extension ``streamgru._kernel`` with cffi; the declarations are read from ``streamgru.h`` itself."""

import re
import sys
from pathlib import Path

from cffi import FFI

HERE = Path(__file__).resolve().parent
SOURCES = [
    *("model.c", "written.c", "stream.c", "pool.c", "profile.c", "cpu.c", "threads/threads.c"),
    *(f"kernels/{name}.c" for name in ("ref", "rare", "avx2", "avx512", "neon")),
    *(f"ops/{name}.c" for name in ("table", "move", "index", "elementwise", "matrix", "dense", "reduce", "order")),
    *(f"ops/{name}.c" for name in ("recurrent", "gru", "lstm", "rnn", "plane", "conv", "window")),
]
HEADERS = [
    *(
        "streamgru.h",
        "threads/threads.h",
        "internal.h",
        "claim.h",
        "pool.h",
        "ops/ops.h",
        "ops/matrix.h",
        "ops/recurrent.h",
        "ops/plane.h",
    ),
    *(f"kernels/{name}.h" for name in ("kernels", "vmath", "products", "taps", "integer", "elementwise", "reduce")),
]
FLAGS = ["-std=c11", "-O3", "-ffp-contract=off", "-fno-math-errno", "-fvisibility=hidden", "-g0"]

# What stream.py calls for a frame. cffi's wrappers let go of the interpreter lock around every call, which costs more
# than a small step does, and where another thread takes the lock meanwhile it keeps it for milliseconds: the
# wrappers of functions whose names end in _locked keep it.
DECLARATIONS = """
typedef struct sgru_call { sgru_stream *stream; const void *const *x; void *const *y; } sgru_call;
int sgru_run_part(sgru_stream *stream, size_t at, size_t end, const void *const *inputs, void *const *outputs);
void sgru_undo(sgru_stream *stream);
int sgru_step_inplace_locked(sgru_stream *stream);
int sgru_step_call(sgru_call *call);
int sgru_step_call_locked(sgru_call *call);
uint64_t sgru_nanoseconds(void);
"""
PREAMBLE = """
#include <time.h>

#include "internal.h"
#include "streamgru.h"
#include "threads/threads.h"

typedef struct sgru_call {
    sgru_stream *stream;
    const void *const *x;
    void *const *y;
} sgru_call;

/* One argument, since cffi makes a tuple of two. */
static int sgru_step_call(sgru_call *call) { return sgru_step(call->stream, call->x, call->y); }

static int sgru_step_call_locked(sgru_call *call) { return sgru_step_call(call); }

static int sgru_step_inplace_locked(sgru_stream *stream) { return sgru_step_inplace(stream); }

/* The clock of runtime/streamgru/profile.py. */
static uint64_t sgru_nanoseconds(void)
{
    struct timespec t;
    return timespec_get(&t, TIME_UTC) ? (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec : 0;
}

#define KEEPS_LOCK (__builtin_strstr(__func__, "_locked") != 0)
#undef Py_BEGIN_ALLOW_THREADS
#undef Py_END_ALLOW_THREADS
#define Py_BEGIN_ALLOW_THREADS { PyThreadState *_save = KEEPS_LOCK ? NULL : PyEval_SaveThread();
#define Py_END_ALLOW_THREADS if (!KEEPS_LOCK) PyEval_RestoreThread(_save); }
"""


def declarations(header: str) -> str:
    """The header as cffi's parser wants it: no comments, no directives but the integer constants."""
    text = re.sub(r"/\*.*?\*/|//[^\n]*", "", header, flags=re.S)
    text = re.sub(r"#ifdef __cplusplus.*?#endif", "", text, flags=re.S)
    constants = re.findall(r"^#define (SGRU_\w+) (\d+)u?\s*$", text, flags=re.M)
    body = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    return "\n".join(f"#define {name} {value}" for name, value in constants) + "\n" + body


ffi = FFI()
for header in ("streamgru.h", "threads/threads.h"):
    ffi.cdef(declarations((HERE / header).read_text(encoding="utf-8")))
ffi.cdef(DECLARATIONS)
ffi.set_source(
    "streamgru._kernel",
    PREAMBLE,
    sources=[f"c_src/{source}" for source in SOURCES],
    depends=[f"c_src/{header}" for header in HEADERS],
    include_dirs=["c_src"],
    extra_compile_args=FLAGS,
    extra_link_args=["-Wl,--strip-all"] if sys.platform == "linux" else [],
)

if __name__ == "__main__":
    ffi.compile(verbose=True)
