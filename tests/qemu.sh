#!/usr/bin/env bash
# The same bits on other machines, under emulation: every program must print the digest that this machine prints. The argument is
# the number of random trials of each kind, 50 unless given; emulation is some twenty times slower.
#
# 32-bit ARM runs `ref`, with and without fma: its NEON flushes subnormals and cannot divide, which is another arithmetic than the
# contract's. The 32-bit machines also show that a size that needs more bits does not wrap around.
set -euo pipefail
cd "$(dirname "$0")/.."
count=${1:-50}
need() { command -v "$1" >/dev/null || { echo "$1 is missing: apt-get install $2"; exit 1; }; }
need qemu-aarch64 qemu-user
need aarch64-linux-gnu-gcc 'gcc-aarch64-linux-gnu libc6-dev-arm64-cross'
need arm-linux-gnueabihf-gcc 'gcc-arm-linux-gnueabihf libc6-dev-armhf-cross'
need riscv64-linux-gnu-gcc 'gcc-riscv64-linux-gnu libc6-dev-riscv64-cross'

common="random_grus operators rare_functions checkkernels"
vectors="$common random_cells convolutions"
narrow="$common wide_images environment border"

# build FOLDER PROGRAMS COMPILER...
build() {
    local folder=build/qemu/$1 programs=$2
    shift 2
    for program in $programs; do tests/cc.sh "tests/kernels/$program.c" "$folder/$program" "$@" -O2 -static; done
}

# run NAME FOLDER PROGRAMS [EMULATOR...]
run() {
    local name=$1 folder=build/qemu/$2 programs=$3 status=0
    shift 3
    for program in $programs; do
        local log=build/qemu/$name-$program.log arguments=()
        case $program in
        random_grus | operators | convolutions | rare_functions) arguments=("$count" 1) ;;
        random_cells) arguments=($((count / 2)) 1) ;; # of three kinds, of many steps
        checkkernels) arguments=(1) ;;
        esac
        "$@" "$folder/$program" "${arguments[@]}" >"$log" 2>&1 || status=1
        echo "$name $program: $(tail -n 1 "$log")"
        [ "$(digests "$log")" = "$(digests "build/qemu/host-$program.log")" ] ||
            { echo "$name $program: not the digest of this machine" && status=1; }
    done
    return $status
}
digests() { grep -o 'digest [0-9a-f]*' "$1" | sort -u; }

build host "$vectors wide_images environment border" cc
run host host "$vectors wide_images environment border"

jobs=()
run x86-64-without-avx host "$common" qemu-x86_64 -cpu Nehalem & jobs+=($!)
# qemu 7.2 reads what a masked load of AVX2 leaves out, so pages that cannot be touched are for real processors.
run x86-64-with-avx2 host "${common/ checkkernels/}" qemu-x86_64 -cpu max & jobs+=($!)
machine() { build "$1" "$2" "${@:4}" && run "$1" "$1" "$2" "$3"; } # machine NAME PROGRAMS EMULATOR COMPILER...
machine aarch64 "$vectors" qemu-aarch64 aarch64-linux-gnu-gcc && # ... and a processor without dot products
    run aarch64-without-dot aarch64 checkkernels qemu-aarch64 -cpu cortex-a57 & jobs+=($!)
machine armv7 "$narrow" qemu-arm arm-linux-gnueabihf-gcc -mfpu=vfpv4 & jobs+=($!)
machine armv7-without-fma "$narrow" qemu-arm arm-linux-gnueabihf-gcc -mfpu=vfpv3-d16 & jobs+=($!)
machine riscv64 "$common" qemu-riscv64 riscv64-linux-gnu-gcc & jobs+=($!)

status=0
for job in "${jobs[@]}"; do wait "$job" || status=1; done
[ $status -eq 0 ] && echo "every machine gives the digests of this one" || echo "some machine differs"
exit $status
