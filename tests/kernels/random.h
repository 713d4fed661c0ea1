/* The random numbers of the C tests: the same on every machine from the same seed. */
#ifndef TEST_RANDOM_H
#define TEST_RANDOM_H

#include <stdint.h>

static uint64_t rng;

static inline uint32_t below(uint32_t n)
{
    rng ^= rng << 13, rng ^= rng >> 7, rng ^= rng << 17;
    return (uint32_t)(rng >> 33) % n;
}

/* A format of weights: SGRU_F32 as often as SGRU_F16 and SGRU_I8 together. */
static inline int any_format(void)
{
    static const int formats[] = {1, 1, 5, 6};
    return formats[below(4)];
}

static inline float uniform(float scale) { return scale * ((float)below(1u << 24) * 0x1p-23f - 1.0f); }

#endif
