#!/usr/bin/env bash
# Fuzzes the C core (libFuzzer, address and undefined-behaviour sanitizers) and the way of an ONNX file, each for so many minutes,
# 0.5 for instance, as many at once as there are processors: tests/fuzz.sh [MINUTES [TARGET...]]. Each begins with what was found
# before, tests/fuzz/regressions/. Corpora, findings and logs stay in build/fuzz/; a finding ends its target with an error.
set -euo pipefail
cd "$(dirname "$0")/.."
minutes=${1:-1}
shift || true
[ $# -gt 0 ] || set -- image state differential onnx_models
clang=$(command -v clang-19 || command -v clang) || { echo "clang is missing: apt-get install clang-19 libclang-rt-19-dev"; exit 1; }
if [ $# -gt 1 ]; then
    echo "== fuzzing $*: $minutes minutes each"
    printf '%s\n' "$@" | xargs -P "$(nproc)" -I '{}' tests/fuzz.sh "$minutes" '{}'
    exit
fi

target=$1 folder=build/fuzz/$1
seconds=$(awk "BEGIN { printf \"%d\", 60 * $minutes }")
flags=(-O1 -g -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all)
limits=(-max_total_time="$seconds" -timeout=20 -rss_limit_mb=2000 -max_len=4096 -len_control=10 -print_final_stats=1)
corpora=("$folder/corpus")
[ ! -d "tests/fuzz/regressions/$target" ] || corpora+=("tests/fuzz/regressions/$target")
mkdir -p "$folder"/{corpus,findings}
if [ "$target" = onnx_models ]; then
    run=("${PYTHON:-python3}" tests/fuzz/onnx_models.py --minutes "$minutes")
    summary=.
else
    tests/cc.sh "tests/fuzz/$target.c" "$folder/$target" "$clang" "${flags[@]}"
    run=("$folder/$target" "${limits[@]}" -artifact_prefix="$folder/findings/" "${corpora[@]}")
    summary='^(Done|stat::)'
fi
"${run[@]}" >"$folder/log" 2>&1 || { tail -n 60 "$folder/log"; exit 1; }
echo "== $target"
grep -E "$summary" "$folder/log"
