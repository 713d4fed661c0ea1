#!/usr/bin/env bash
# Fuzzes the C core (libFuzzer, address and undefined-behaviour sanitizers) and the way of an ONNX file, each for so many
# minutes: tests/fuzz.sh [MINUTES [TARGET...]]. Each begins with what was found before, tests/fuzz/regressions/. Corpora and findings
# stay in build/fuzz/; a finding ends the run with an error.
set -euo pipefail
cd "$(dirname "$0")/.."
minutes=${1:-1}
shift || true
[ $# -gt 0 ] || set -- image state differential onnx_models
clang=$(command -v clang-19 || command -v clang) || { echo "clang is missing: apt-get install clang-19 libclang-rt-19-dev"; exit 1; }
flags=(-O1 -g -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all)
limits=(-max_total_time=$((60 * minutes)) -timeout=20 -rss_limit_mb=2000 -max_len=4096 -len_control=10 -print_final_stats=1)
for target in "$@"; do
    echo "== $target"
    if [ "$target" = onnx_models ]; then
        "${PYTHON:-python3}" tests/fuzz/onnx_models.py --minutes "$minutes"
        continue
    fi
    mkdir -p build/fuzz/"$target"/{corpus,findings}
    corpora=("build/fuzz/$target/corpus")
    [ ! -d "tests/fuzz/regressions/$target" ] || corpora+=("tests/fuzz/regressions/$target")
    tests/cc.sh "tests/fuzz/$target.c" "build/fuzz/$target/$target" "$clang" "${flags[@]}"
    log=build/fuzz/$target/log
    "build/fuzz/$target/$target" "${limits[@]}" -artifact_prefix="build/fuzz/$target/findings/" \
        "${corpora[@]}" >"$log" 2>&1 || { tail -n 60 "$log"; exit 1; }
    grep -E '^(Done|stat::)' "$log"
done
