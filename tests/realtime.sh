#!/usr/bin/env bash
# The proof that a step is fit for a real-time thread: tests/realtime.sh [IMAGE.sgru...], by default what realtime_models.py compiles.
set -euo pipefail
cd "$(dirname "$0")/.."
out=build/realtime
rm -rf $out/objects && mkdir -p $out/objects
if [ $# -eq 0 ]; then
    "${PYTHON:-python3}" tests/realtime_models.py $out/models
    set -- $out/models/*.sgru
fi
sources=(c_src/*.c c_src/ops/*.c c_src/kernels/*.c)
flags=(-std=c11 -O3 -ffp-contract=off -fno-math-errno -Ic_src)

echo "== what the core needs of others"
compile() { cc "${@:2}" -fstack-usage -c "$1" -o "$objects/$(echo "${1%.c}" | tr / _).o"; }
export -f compile
printf '%s\n' "${sources[@]}" | objects=$out/objects xargs -P "$(nproc)" -I '{}' bash -c 'compile "$@"' _ '{}' "${flags[@]}"
cc -r -nostdlib $out/objects/*.o -o $out/core.o
nm -u $out/core.o
if nm -u $out/core.o | grep -vwE 'memcpy|memmove|memset|memcmp|_GLOBAL_OFFSET_TABLE_'; then exit 1; fi

echo "== without a C library: -ffreestanding -nostdlib, and a linker that tolerates no missing symbol"
cc "${flags[@]}" -O2 -fno-builtin -fno-stack-protector -ffreestanding -nostdlib -static -Wl,--no-undefined \
    tests/kernels/freestanding.c "${sources[@]}" -o $out/freestanding
$out/freestanding && echo "runs: a step of a GRU, from _start"

echo "== stack frames of the core, from -fstack-usage: the five largest, and any of unknown size"
sort -t '	' -k 2 -n -r $out/objects/*.su | awk 'NR <= 5' # which reads to the end
if grep -w dynamic $out/objects/*.su | grep -vw bounded; then exit 1; fi

echo "== steps under seccomp, on every instruction set"
tests/cc.sh tests/kernels/realtime.c $out/realtime cc -O2
$out/realtime "$@"

echo "== the time of a step beside the machine's own jitter"
$out/realtime --jitter

echo "== the time of a step by the magnitude of its numbers"
tests/cc.sh tests/kernels/magnitudes.c $out/magnitudes
$out/magnitudes
