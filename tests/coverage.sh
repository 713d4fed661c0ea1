#!/usr/bin/env bash
# Lines and branches of c_src that the C tests reach, by gcov, and the lines that they miss. The machine's best instruction sets run
# too, so a kernel's template counts once for all of them.
set -euo pipefail
cd "$(dirname "$0")/.."
out=$PWD/build/coverage
rm -rf "$out" && mkdir -p "$out"
programs=("random_grus 200" "operators 60" convolutions "random_cells 60" rare_functions "checkkernels 2" environment wide_images
    "hostile_images 5000" "hostile_operators 60" api)
flags=(-std=gnu11 -O0 --coverage -ffp-contract=off -fno-math-errno -Ic_src -Itests/kernels)
for source in c_src/*.c c_src/ops/*.c c_src/kernels/*.c; do
    cc "${flags[@]}" -c "$source" -o "$out/$(basename "$(dirname "$source")")_$(basename "$source" .c).o"
done
for program in "${programs[@]}"; do
    name=${program%% *}
    cc "${flags[@]}" -fno-profile-arcs -fno-test-coverage "tests/kernels/$name.c" "$out"/*_*.o -lgcov -lm -o "$out/$name"
    # shellcheck disable=SC2086 # the words are the arguments
    (cd "$out" && ./$program >"$name.log" 2>&1) || { cat "$out/$name.log"; exit 1; }
done
(cd "$out" && gcov -b -c -o . ./*_*.gcda >gcov.log 2>&1 || true)
awk '/^File .*c_src/ { file = $2; gsub(/\x27/, "", file); sub(/.*c_src\//, "", file); seen = 1; next }
    /^File/ { seen = 0 }
    seen && /^Lines executed/ { sub(/.*:/, "", $2); lines = $2 " of " $4 }
    seen && /^Branches executed/ { next }
    seen && /^Taken at least once/ { split($0, part, /[: ]+/); printf "%-28s lines %-18s branches %s of %s\n", file, lines, part[5], part[7]; seen = 0 }
    seen && /^No branches/ { printf "%-28s lines %-18s\n", file, lines; seen = 0 }' "$out/gcov.log" | sort -u
echo "== lines never reached"
grep -H '#####:' "$out"/*.gcov | grep -E '/(model|stream|cpu|[a-z_0-9]+)\.[ch]\.gcov' | grep -v '/usr/' | sed -E 's/.*\/([a-z_0-9]+\.[ch])\.gcov: *#####: */\1:/' | grep -vE '^(trial|image|random|math|emm|avx|imm)' | sort -u | head -n 60
