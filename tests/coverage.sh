#!/usr/bin/env bash
# Lines and branches of c_src that the C tests reach, by gcov, and the lines that they miss. A line of a kernel's template counts
# once for all instruction sets; its branches count in each.
set -euo pipefail
cd "$(dirname "$0")/.."
out=$PWD/build/coverage
rm -rf "$out" && mkdir -p "$out"
programs=("random_grus 200" "operators 60" elements convolutions "random_cells 60" rare_functions "checkkernels 2" environment
    wide_images "hostile_images 5000" "hostile_operators 60" api models refusals work cpu "pools 6" "callers 300")
flags=(-std=gnu11 -O0 --coverage -pthread -ffp-contract=off -fno-math-errno -Ic_src -Itests/kernels)
for source in c_src/*.c c_src/ops/*.c c_src/kernels/*.c c_src/threads/*.c; do
    cc "${flags[@]}" -c "$source" -o "$out/$(basename "$(dirname "$source")")_$(basename "$source" .c).o"
done
for program in "${programs[@]}"; do
    name=${program%% *}
    cc "${flags[@]}" -fno-profile-arcs -fno-test-coverage "tests/kernels/$name.c" "$out"/*_*.o -lgcov -lm -o "$out/$name"
    # shellcheck disable=SC2086 # the words are the arguments
    (cd "$out" && ./$program >"$name.log" 2>&1) || { cat "$out/$name.log"; exit 1; }
done
cd "$out"
ln -sfn ../../c_src c_src # as the compiler saw it
gcov -b -c -o . c_src_*.gcda kernels_*.gcda ops_*.gcda threads_*.gcda >gcov.log 2>gcov.errors
printf '%-28s %-24s %s\n' "file below c_src" "lines reached" "branches taken"
awk -F "[:']" '/^File/ { file = ""; branches = ""; if ($2 ~ /^c_src/) file = substr($2, 7) }
    /^Lines executed/ { lines = $2 }
    /^Taken at least once/ { branches = $2 }
    /^Creating/ && file != "" { printf "%-28s %-24s %s\n", file, lines, branches; file = "" }' gcov.log
echo "== lines never reached"
# A template's line stands once for each instruction set: it is missed where it is missed in all.
for file in *.gcov; do
    grep -q 'Source:c_src' "$file" && awk -F: -v name="${file%.gcov}" '
        $1 ~ /#####/ { missed[$2 + 0] = $3 }
        $1 ~ /[0-9]/ { reached[$2 + 0] = 1 }
        END { for (n in missed) if (!(n in reached)) print name ":" n ":" missed[n] }' "$file"
done | sort -t: -k1,1 -k2,2n
exit 0
