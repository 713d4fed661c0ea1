/* Which instruction sets follow from what a processor and its system say of themselves.
 *
 *     cpu */
#include "x86.h"

#include "holds.h"

enum {
    FMA = 1u << 12,
    OSXSAVE = 1u << 27,
    AVX = 1u << 28,
    F16C = 1u << 29,
    AVX2 = 1u << 5,
    AVX512_F = 1u << 16,
    AVX512_DQ = 1u << 17,
    AVX512_CD = 1u << 28,
    AVX512_BW = 1u << 30,
    AVX512_VNNI = 1u << 11,
    AVX_VNNI = 1u << 4
};
enum { X87 = 1, XMM = 2, YMM = 4, MASKS = 0x20, ZMM = 0xC0 };

static const uint32_t haswell = FMA | OSXSAVE | AVX | F16C,
                      skylake = AVX2 | AVX512_F | AVX512_DQ | AVX512_CD | AVX512_BW, avx512_vl = 1u << 31;

static unsigned sets(uint32_t leaf1_c, uint32_t leaf7_b, uint32_t leaf7_c, uint32_t leaf7_1_a, uint64_t saved)
{
    x86 p = {leaf1_c, leaf7_b, leaf7_c, leaf7_1_a, saved};
    return x86_sets(&p);
}

static void try_processors(void)
{
    const uint64_t ymm = X87 | XMM | YMM, zmm = ymm | MASKS | ZMM;
    const uint32_t server = skylake | avx512_vl;
    HOLDS(sets(0, 0, 0, 0, 0) == 0);                                            /* Nehalem */
    HOLDS(sets(OSXSAVE | AVX, 0, 0, 0, ymm) == 0);                              /* Sandy Bridge */
    HOLDS(sets(OSXSAVE | AVX | F16C, 0, 0, 0, ymm) == 0);                       /* Ivy Bridge */
    HOLDS(sets(OSXSAVE | AVX | F16C | FMA, 0, 0, 0, ymm) == 0);                 /* Piledriver */
    HOLDS(sets(haswell, AVX2, 0, 0, ymm) == X86_AVX2);                          /* Haswell, Zen to Zen 3 */
    HOLDS(sets(haswell, AVX2, 0, AVX_VNNI, ymm) == (X86_AVX2 | X86_AVX2_VNNI)); /* Alder Lake */
    HOLDS(sets(haswell, AVX2 | AVX512_F | AVX512_CD, 0, 0, zmm) == X86_AVX2);   /* Knights Landing */
    HOLDS(sets(haswell, server, 0, 0, zmm) == (X86_AVX2 | X86_AVX512));         /* Skylake-X */
    HOLDS(sets(haswell, server, AVX512_VNNI, 0, zmm) ==
          (X86_AVX2 | X86_AVX512 | X86_AVX512_VNNI));                                       /* Cascade Lake, Zen 4 */
    HOLDS(sets(haswell, server, AVX512_VNNI, AVX_VNNI, zmm) == 15);                         /* Sapphire Rapids, Zen 5 */
    HOLDS(sets(haswell, server, AVX512_VNNI, AVX_VNNI, ymm) == (X86_AVX2 | X86_AVX2_VNNI)); /* under an older system */
    HOLDS(sets(haswell & ~(uint32_t)OSXSAVE, server, AVX512_VNNI, AVX_VNNI, 0) == 0);
}

/* A machine that has everything, with one bit of one word missing. */
static void try_each_bit(void)
{
    const uint64_t all = UINT64_MAX;
    for (int bit = 0; bit < 64; bit++) {
        const uint64_t rest = all & ~((uint64_t)1 << bit);
        const uint32_t low = (uint32_t)rest, full = (uint32_t)all;
        int avx2 = bit == 12 || bit == 28 || bit == 29, avx512 = bit == 16 || bit == 17 || bit == 30 || bit == 31;
        HOLDS(sets(low, full, full, full, all) == (avx2 ? 0u : 15u));
        HOLDS(sets(full, low, full, full, all) == (bit == 5 ? 0u : avx512 ? 3u : 15u));
        HOLDS(sets(full, full, low, full, all) == (bit == 11 ? 7u : 15u));
        HOLDS(sets(full, full, full, low, all) == (bit == 4 ? 13u : 15u));
        HOLDS(sets(full, full, full, full, rest) == (bit == 1 || bit == 2 ? 0u : bit >= 5 && bit <= 7 ? 3u : 15u));
        x86 p = {low, 0, 0, 0, 0};
        HOLDS(has_osxsave(&p) == (bit != 27));
    }
}

int main(void)
{
    try_processors(), try_each_bit();
    printf("%u passed, %u failed\n", passed, failed);
    return failed != 0;
}
