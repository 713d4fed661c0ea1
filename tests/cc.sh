#!/usr/bin/env bash
# Builds one C test program against the core: tests/cc.sh PROGRAM.c OUT [compiler and flags...]. Used by the tests, asan.sh, qemu.sh.
set -euo pipefail
cd "$(dirname "$0")/.."
program=$1 out=$2
shift 2
[ $# -gt 0 ] || set -- "${CC:-cc}" -O2
mkdir -p "$(dirname "$out")"
"$@" -std=gnu11 -ffp-contract=off -fno-math-errno -Wall -Wextra -Ic_src -Itests/kernels \
    "$program" c_src/*.c c_src/ops/*.c c_src/kernels/*.c c_src/threads/*.c -pthread -o "$out" -lm
