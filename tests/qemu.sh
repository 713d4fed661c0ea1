#!/usr/bin/env bash
# The same bits on other machines: random GRUs and operators on aarch64 (NEON) and on x86-64 without and with AVX2, under
# emulation. Every run must print the digest that this machine prints.
set -euo pipefail
cd "$(dirname "$0")/.."
count=${1:-2000}
need() { command -v "$1" >/dev/null || { echo "$1 is missing: apt-get install $2"; exit 1; }; }
need qemu-aarch64 qemu-user
need aarch64-linux-gnu-gcc 'gcc-aarch64-linux-gnu libc6-dev-arm64-cross'

digests() { grep -o 'digest [0-9a-f]*' "$1" | sort -u; }
status=0
run() { # run NAME WANT COMMAND...: the program's output, and its digest against this machine's
    local name=$1 want=$2 log=build/qemu/$1.log
    shift 2
    echo "== $name"
    "$@" >"$log" 2>&1 || status=1
    tail -n 2 "$log"
    [ "$(digests "$log")" = "$(digests "$want")" ] || { echo "$name: not the digest of this machine"; status=1; }
}

for program in random_grus operators convolutions random_cells rare_functions; do
    arguments=()
    fewer=() # emulating the floats of x86-64 takes ten times as long as those of aarch64
    [ $program = random_grus ] && arguments=("$count" 1) && fewer=("$((count / 10))" 1)
    tests/cc.sh tests/kernels/$program.c build/qemu/$program cc -O2 -static
    tests/cc.sh tests/kernels/$program.c build/qemu/$program-aarch64 aarch64-linux-gnu-gcc -O2 -static
    echo "== $program on this machine"
    build/qemu/$program "${arguments[@]}" | tee build/qemu/$program.log | tail -n 2
    run $program-aarch64 build/qemu/$program.log qemu-aarch64 build/qemu/$program-aarch64 "${arguments[@]}"
    build/qemu/$program "${fewer[@]}" >build/qemu/$program-fewer.log
    run $program-x86-64-without-avx build/qemu/$program-fewer.log qemu-x86_64 -cpu Nehalem build/qemu/$program "${fewer[@]}"
    run $program-x86-64-with-avx2 build/qemu/$program-fewer.log qemu-x86_64 -cpu max build/qemu/$program "${fewer[@]}"
done

# Every table of kernels against ref: processors with and without the later integer products.
echo "== kernels of aarch64 with and without dot products, and of x86-64 without AVX-512"
tests/cc.sh tests/kernels/kernel_edges.c build/qemu/kernel_edges cc -O2 -static
tests/cc.sh tests/kernels/kernel_edges.c build/qemu/kernel_edges-aarch64 aarch64-linux-gnu-gcc -O2 -static
qemu-aarch64 -cpu max build/qemu/kernel_edges-aarch64 2 || status=1
qemu-aarch64 -cpu cortex-a57 build/qemu/kernel_edges-aarch64 2 || status=1
qemu-x86_64 -cpu max build/qemu/kernel_edges 1 || status=1

# 32-bit machines, where a size that needs more bits must not wrap around.
if command -v arm-linux-gnueabihf-gcc >/dev/null; then
    for program in operators wide_images environment; do
        tests/cc.sh tests/kernels/$program.c build/qemu/$program cc -O2 -static
        tests/cc.sh tests/kernels/$program.c build/qemu/$program-arm arm-linux-gnueabihf-gcc -O2 -mfpu=vfpv4 -static
        build/qemu/$program >build/qemu/$program.log
        run $program-arm build/qemu/$program.log qemu-arm build/qemu/$program-arm
    done
else
    echo "== no 32-bit ARM: apt-get install gcc-arm-linux-gnueabihf libc6-dev-armhf-cross"
fi
exit $status
