#!/usr/bin/env bash
# The C core's tests under the address and undefined-behaviour sanitizers, pools and threads under the thread sanitizer too: any
# finding ends the program.
set -euo pipefail
cd "$(dirname "$0")/.."
address="-fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer"
programs=("random_cells 100" "hostile_images 10000" "hostile_operators 60" "pools 30" operators elements "random_grus 300 7"
    "checkkernels 8" convolutions rare_functions models environment api wide_images hostile_weights refusals work cpu "callers 300")

try() { # try FLAGS FOLDER PROGRAM [ARGUMENT...]
    # shellcheck disable=SC2086 # the words are the flags
    tests/cc.sh "tests/kernels/$3.c" "build/$2/$3" "${CC:-cc}" -O1 -g $1 && tests/quiet.sh "build/$2/$3" "${@:4}"
}
export -f try
printf '%s\n' "${programs[@]}" | xargs -P "$(nproc)" -I '{}' bash -c "try '$address' asan {}"
try -fsanitize=thread tsan pools 10
try -fsanitize=thread tsan callers 300
