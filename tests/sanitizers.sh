#!/usr/bin/env bash
# The C core's tests where memory that was never written is noticed: clang's MemorySanitizer, which does not understand the masked
# stores of AVX2 and so sees `ref` alone, and valgrind, which does. tests/asan.sh looks for bad addresses and undefined behaviour.
set -euo pipefail
cd "$(dirname "$0")/.."
programs=("random_grus 40 7" "operators 20" convolutions "random_cells 20" "rare_functions 20" environment api
    "hostile_images 1500" "hostile_operators 10" refusals models)
clang=$(command -v clang-19 || command -v clang || true)
for program in "${programs[@]}"; do
    name=${program%% *}
    if [ -n "$clang" ]; then
        tests/cc.sh "tests/kernels/$name.c" "build/msan/$name" "$clang" -O1 -g -fsanitize=memory \
            -fno-omit-frame-pointer -DSGRU_NO_SIMD
        # shellcheck disable=SC2086 # the words are the arguments
        tests/quiet.sh build/msan/$program
    fi
    # valgrind keeps no exception flags and flushes nothing, which is what `environment` looks at
    if command -v valgrind >/dev/null && [ "$name" != environment ]; then
        tests/cc.sh "tests/kernels/$name.c" "build/valgrind/$name" cc -O1 -g
        # shellcheck disable=SC2086
        tests/quiet.sh valgrind --quiet --error-exitcode=9 build/valgrind/$program
    fi
done
