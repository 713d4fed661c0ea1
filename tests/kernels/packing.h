/* Matrices as images hold them, in their three formats: docs/format.md as a writer, for the C tests. */
#ifndef TEST_PACKING_H
#define TEST_PACKING_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "kernels/kernels.h"

/* The half towards zero; below 2^-14 the subnormal one. */
static inline uint16_t half_of(float f)
{
    uint32_t u;
    memcpy(&u, &f, 4);
    uint16_t sign = (uint16_t)(u >> 16 & 0x8000);
    float a = fabsf(f);
    if (!(a < 65536.0f)) return (uint16_t)(sign | (a > 0.0f ? 0x7C00 : 0x7E00));
    if (a < 0x1p-14f) return (uint16_t)(sign | (uint16_t)(a * 0x1p24f));
    return (uint16_t)(sign | ((u & 0x7FFFFFFF) - 0x38000000) >> 13);
}

static inline float float_of_half(uint16_t h)
{
    int e = h >> 10 & 31, m = h & 0x3FF;
    float a = e == 31 ? (m ? NAN : INFINITY) : e ? ldexpf((float)(m + 1024), e - 25) : ldexpf((float)m, -24);
    return h & 0x8000 ? -a : a;
}

/* Element [m][k] of packed rows [M, K] of floats or halves. */
static inline size_t packed_at(size_t M, size_t K, size_t m, size_t k)
{
    size_t left = M - m / 16 * 16, width = left >= 16 ? 16 : (left + 3) / 4 * 4;
    return m / 16 * sgru_block_step(K) + k * width + m % 16;
}

/* w: [M][K] row-major, each in -127 .. 127; scale: [M]. `to` holds sgru_packed_bytes_i8 bytes. */
static inline void pack_i8(size_t M, size_t K, const int8_t *w, const float *scale, unsigned char *to)
{
    memset(to, 0, (size_t)sgru_packed_bytes_i8(M, K));
    for (size_t m = 0; m < M; m++) {
        unsigned char *block = to + m / 16 * sgru_block_step_i8(K), *line = block + sgru_lines_i8(K) * 64 + m % 16 * 4;
        int32_t sum = 0;
        for (size_t k = 0; k < K; k++) {
            block[k / 4 * 64 + m % 16 * 4 + k % 4] = (unsigned char)w[m * K + k];
            sum -= 128 * w[m * K + k];
        }
        memcpy(line, &sum, 4), memcpy(line + 64, &scale[m], 4);
    }
}

/* Rows of floats to 8 bits, the largest of each to 127. */
static inline void quantise_rows(size_t M, size_t K, const float *w, int8_t *q, float *scale)
{
    for (size_t m = 0; m < M; m++) {
        float most = 0;
        for (size_t k = 0; k < K; k++) most = fmaxf(most, fabsf(w[m * K + k]));
        scale[m] = most / 127;
        for (size_t k = 0; k < K; k++) q[m * K + k] = (int8_t)(most > 0 ? nearbyintf(w[m * K + k] / most * 127) : 0);
    }
}

#endif
