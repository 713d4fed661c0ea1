#!/usr/bin/env bash
# The C core's tests where memory that was never written is noticed: clang's MemorySanitizer, and valgrind, which sees the
# uninstrumented AVX2 code too. tests/asan.sh looks for bad addresses and undefined behaviour.
set -euo pipefail
cd "$(dirname "$0")/.."
programs=("random_grus 40 7" "operators 20" convolutions "random_cells 20" "rare_functions 20" environment api
    "hostile_images 1500" "hostile_operators 10")
clang=$(command -v clang-19 || command -v clang || true)
run() { # run HOW PROGRAM... : its last line
    echo "$*: $("$@" 2>&1 | tail -n 1)"
}
for program in "${programs[@]}"; do
    name=${program%% *}
    if [ -n "$clang" ]; then
        tests/cc.sh "tests/kernels/$name.c" "build/msan/$name" "$clang" -O1 -g -fsanitize=memory -fno-omit-frame-pointer
        # shellcheck disable=SC2086 # the words are the arguments
        run build/msan/$program
    fi
    if command -v valgrind >/dev/null; then
        tests/cc.sh "tests/kernels/$name.c" "build/valgrind/$name" cc -O1 -g
        # shellcheck disable=SC2086
        run valgrind --quiet --error-exitcode=9 build/valgrind/$program
    fi
done
