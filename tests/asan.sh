#!/usr/bin/env bash
# The C core's tests under the address and undefined-behaviour sanitizers, pools and threads under the thread sanitizer too: any
# finding ends the program.
set -euo pipefail
cd "$(dirname "$0")/.."
flags=(-O1 -g -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer)
tests/cc.sh tests/kernels/random_grus.c build/asan/random_grus "${CC:-cc}" "${flags[@]}"
build/asan/random_grus 300 7
for program in operators elements refusals models convolutions random_cells rare_functions checkkernels environment wide_images hostile_weights api; do
    tests/cc.sh tests/kernels/$program.c build/asan/$program "${CC:-cc}" "${flags[@]}"
    build/asan/$program
done
tests/cc.sh tests/kernels/hostile_images.c build/asan/hostile_images "${CC:-cc}" "${flags[@]}"
build/asan/hostile_images 10000
tests/cc.sh tests/kernels/hostile_operators.c build/asan/hostile_operators "${CC:-cc}" "${flags[@]}"
build/asan/hostile_operators 60
tests/cc.sh tests/kernels/pools.c build/asan/pools "${CC:-cc}" "${flags[@]}"
build/asan/pools 30
tests/cc.sh tests/kernels/pools.c build/asan/pools_threads "${CC:-cc}" -O1 -g -fsanitize=thread
build/asan/pools_threads 10
