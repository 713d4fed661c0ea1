#!/usr/bin/env bash
# Builds one C test program against the core: tests/cc.sh PROGRAM.c OUT [compiler and flags...]. The core is built once for each
# compiler, flags and sources, each program once for each of these and its own, and both are kept in build/core/. `core` for PROGRAM.c:
# the core alone, an archive.
set -euo pipefail
cd "$(dirname "$0")/.."
program=$1 out=$2
shift 2
[ $# -gt 0 ] || set -- "${CC:-cc}" -O2
command=("$@" -std=gnu11 -ffp-contract=off -fno-math-errno -Wall -Wextra -Ic_src -Itests/kernels -pthread)
key_of() { cksum | cut -d ' ' -f 1; }
compiling=" ${command[*]} "
compiling=${compiling// -static / } # concerns the linker alone
key=$({ echo "$compiling" && find c_src -type f | sort | xargs cat; } | key_of)
core=build/core/$key
built=$core/core.a
[ "$program" = core ] || built=$core/$(basename "${program%.c}")-$({ echo "${command[*]}" && cat "$program" tests/kernels/*.h; } | key_of)
mkdir -p "$core" "$(dirname "$out")"
if [ ! -e "$core/core.a" ]; then
    exec 9>"$core/lock" # two tests may want it at once
    flock 9
    if [ ! -e "$core/core.a" ]; then
        compile() { "${@:3}" -c "$2" -o "$1/$(echo "${2%.c}" | tr / _).o"; }
        export -f compile
        printf '%s\n' c_src/*.c c_src/ops/*.c c_src/kernels/*.c c_src/threads/*.c |
            xargs -P "$(nproc)" -I '{}' bash -c 'compile "$@"' _ "$core" '{}' "${command[@]}"
        ar rcs "$core/building.a" "$core"/*.o
        mv "$core/building.a" "$core/core.a"
    fi
    flock -u 9
fi
if [ ! -e "$built" ]; then
    exec 9>"$built.lock"
    flock 9
    if [ ! -e "$built" ]; then
        "${command[@]}" "$program" "$core/core.a" -o "$built.building" -lm
        mv "$built.building" "$built"
    fi
    flock -u 9
fi
cp --remove-destination "$built" "$out"
