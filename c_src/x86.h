/* What an x86 processor and its operating system say of themselves, and the instruction sets that follow. For cpu.c and its test
 * alone. */
#ifndef SGRU_X86_H
#define SGRU_X86_H

#include <stdint.h>

enum { X86_AVX2 = 1, X86_AVX2_VNNI = 2, X86_AVX512 = 4, X86_AVX512_VNNI = 8 };

typedef struct x86 {
    uint32_t leaf1_c, leaf7_b, leaf7_c, leaf7_1_a; /* of CPUID: 0 where there is no such leaf */
    uint64_t saved;                                /* XCR0, the registers that the system keeps: 0 without OSXSAVE */
} x86;

static inline int has_bits(uint64_t word, uint64_t bits) { return (word & bits) == bits; }

static inline int has_osxsave(const x86 *p) { return p->leaf1_c >> 27 & 1; }

/* X86_AVX2: with FMA, F16C and the YMM registers; X86_AVX512: F, DQ, BW and VL with the mask and ZMM registers, and X86_AVX2. _VNNI:
 * with the integer products that came later. */
static inline unsigned x86_sets(const x86 *p)
{
    const uint32_t fma_avx_f16c = 1u << 12 | 1u << 28 | 1u << 29, avx2 = 1u << 5,
                   f_dq_bw_vl = 1u << 16 | 1u << 17 | 1u << 30 | 1u << 31;
    unsigned sets = X86_AVX2;
    if (!has_bits(p->leaf1_c, fma_avx_f16c) || !has_bits(p->leaf7_b, avx2) || !has_bits(p->saved, 0x6)) return 0;
    if (p->leaf7_1_a >> 4 & 1) sets |= X86_AVX2_VNNI;
    if (!has_bits(p->leaf7_b, f_dq_bw_vl) || !has_bits(p->saved, 0xE6)) return sets;
    return sets | X86_AVX512 | (p->leaf7_c >> 11 & 1 ? X86_AVX512_VNNI : 0);
}

#endif
