/* The reference kernels: plain C, one float at a time, for any machine. They are the definition that every ISA must equal
 * bit for bit, and they serve where there is no better. Matrix products are written out here; functions of one element
 * share vmath.h with the ISAs (vectors of one float), whose values the tests hold against float64. */
#include <math.h>
#include <string.h>

#include "kernels.h"

#define INLINE inline __attribute__((always_inline))
#define UNROLL
#define NAME(x) x##_ref
#define VL 1

typedef float V;
typedef int32_t VI;
typedef int VM;

static INLINE int32_t v_bits(float a)
{
    int32_t i;
    memcpy(&i, &a, sizeof i);
    return i;
}

static INLINE float v_float(int32_t i)
{
    float a;
    memcpy(&a, &i, sizeof a);
    return a;
}

#if defined(__FP_FAST_FMAF) || defined(__FMA__) || defined(__aarch64__) || defined(__ARM_FEATURE_FMA)
static INLINE float v_fma(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
#else
/* a · b + c rounded once. The product is exact in a double; the sum is rounded to odd, which keeps what the rounding to
 * float needs to know (Boldo and Melquiond, "Emulation of FMA and correctly rounded sums", IEEE Trans. Computers 2008). A
 * call, since it stands in a thousand places. */
static __attribute__((noinline)) float v_fma(float a, float b, float c)
{
    double product = (double)a * b, sum = product + c, part = sum - product;
    double error = (product - (sum - part)) + (c - part);
    if (error < 0 || error > 0) {
        uint64_t bits;
        memcpy(&bits, &sum, sizeof bits);
        if (!(bits & 1)) bits += (error > 0) == (sum > 0) ? 1 : (uint64_t)-1;
        memcpy(&sum, &bits, sizeof sum);
    }
    return (float)sum;
}
#endif

#if defined(__SSE2__)
#include <emmintrin.h>
static INLINE float v_sqrt(float a) { return _mm_cvtss_f32(_mm_sqrt_ss(_mm_set_ss(a))); }
#elif defined(__aarch64__)
#include <arm_neon.h>
static INLINE float v_sqrt(float a) { return vget_lane_f32(vsqrt_f32(vdup_n_f32(a)), 0); }
#else
/* Bit by bit: the root of the significand, 24 bits and one to round with. */
static float v_sqrt(float a)
{
    int32_t bits = v_bits(a), e = bits >> 23;
    if (a < 0.0f) return NAN;
    if (!(a > 0.0f) || e == 255) return a;
    if (e == 0) return v_sqrt(a * 0x1p24f) * 0x1p-12f;
    uint64_t m = (uint64_t)((bits & 0x7FFFFF) | 0x800000) << (e & 1 ? 25 : 26), root = 0; /* an even exponent */
    for (uint64_t bit = (uint64_t)1 << 25; bit; bit >>= 1)
        if ((root | bit) * (root | bit) <= m) root |= bit;
    root = (root >> 1) + (root & 1);
    return v_float((int32_t)((e + 127 - (e & 1 ? 0 : 1)) / 2 - 1) * 0x800000 + (int32_t)root);
}
#endif

static INLINE float v_load(const float *p) { return *p; }
static INLINE void v_store(float *p, float v) { *p = v; }
static INLINE float v_load_n(const float *p, int n) { return n ? *p : 0.0f; } /* there are no tails of one float */
static INLINE void v_store_n(float *p, float v, int n)
{
    if (n) *p = v;
}
static INLINE float v_set1(float a) { return a; }
static INLINE float v_add(float a, float b) { return a + b; }
static INLINE float v_sub(float a, float b) { return a - b; }
static INLINE float v_mul(float a, float b) { return a * b; }
static INLINE float v_div(float a, float b) { return a / b; }
static INLINE int v_lt(float a, float b) { return a < b; }
static INLINE int v_le(float a, float b) { return a <= b; }
static INLINE float v_select(int m, float yes, float no) { return m ? yes : no; }
static INLINE float v_min(float a, float b) { return a < b ? a : b; }
static INLINE float v_max(float a, float b) { return a > b ? a : b; }
static INLINE float v_abs(float a) { return v_float(v_bits(a) & 0x7FFFFFFF); }
static INLINE float v_copysign(float a, float s)
{
    return v_float((v_bits(a) & 0x7FFFFFFF) | (v_bits(s) & (int32_t)0x80000000));
}
static INLINE int32_t vi_add(int32_t a, int32_t b) { return (int32_t)((uint32_t)a + (uint32_t)b); }
static INLINE int32_t vi_sub(int32_t a, int32_t b) { return (int32_t)((uint32_t)a - (uint32_t)b); }
static INLINE int32_t vi_xor(int32_t a, int32_t b) { return a ^ b; }
static INLINE int32_t vi_shl23(int32_t a) { return (int32_t)((uint32_t)a << 23); }
static INLINE int32_t vi_sra23(int32_t a) { return a >= 0 ? a >> 23 : ~(~a >> 23); }
static INLINE float vi_to_float(int32_t a) { return (float)a; }
static INLINE int v_all_zero(float a) { return a == 0.0f; }

#include "vmath.h"
#include "elementwise.h"
#include "reduce.h"

/* Half precision to float: every half is a float. */
static float half(uint16_t bits)
{
    int32_t sign = bits & 0x8000 ? INT32_MIN : 0, rest = bits & 0x7FFF;
    if (rest >= 0x7C00) return v_float(sign | 0x7F800000 | (rest & 0x3FF) << 13);
    if (rest >= 0x400) return v_float(sign | (rest + 0x1C000) << 13);
    return sign ? -((float)rest * 0x1p-24f) : (float)rest * 0x1p-24f;
}

/* Row m of packed rows [M, K] times x, on from acc. */
static float row_ref(size_t M, size_t K, size_t m, const float *w, const float *x, float acc)
{
    size_t block = m / 16, rows = M - block * 16;
    size_t width = rows >= 16 ? 16 : (rows + 3) / 4 * 4;
    const float *w_m = w + block * sgru_block_step(K) + m % 16; /* [K][width] */
    for (size_t k = 0; k < K; k++) acc = v_fma(x[k], w_m[k * width], acc);
    return acc;
}

static void affine_ref(size_t M, size_t K, size_t columns, const float *w, const float *init, size_t ld_init,
                       const float *x, size_t ld_x, float *y, size_t ld_y)
{
    for (size_t c = 0; c < columns; c++)
        for (size_t m = 0; m < M; m++)
            y[c * ld_y + m] = row_ref(M, K, m, w, x + c * ld_x, init ? init[c * ld_init + m] : 0.0f);
}

static void affine_f16_ref(size_t M, size_t K, size_t columns, const uint16_t *w, const float *init, size_t ld_init,
                           const float *x, size_t ld_x, float *y, size_t ld_y)
{
    for (size_t c = 0; c < columns; c++)
        for (size_t m = 0; m < M; m++) {
            size_t width = M - m / 16 * 16 >= 16 ? 16 : (M % 16 + 3) / 4 * 4;
            const uint16_t *w_m = w + m / 16 * sgru_block_step(K) + m % 16; /* [K][width] */
            float acc = init ? init[c * ld_init + m] : 0.0f;
            for (size_t k = 0; k < K; k++) acc = v_fma(x[c * ld_x + k], half(w_m[k * width]), acc);
            y[c * ld_y + m] = acc;
        }
}

void sgru_quantise_i8_ref(size_t K, size_t columns, const float *x, size_t ld_x, uint8_t *q)
{
    for (size_t c = 0; c < columns; c++, x += ld_x, q += sgru_q_step(K)) {
        int32_t most = 0;
        float s = NAN, inverse = 0.0f;
        for (size_t k = 0; k < K; k++) most = v_bits(v_abs(x[k])) > most ? v_bits(v_abs(x[k])) : most;
        float a = v_float(most);
        int known = a >= 0x1p-96f && a < INFINITY;
        if (known) s = a / 127.0f, inverse = 127.0f / a;
        else if (a < 0x1p-96f) s = 0.0f;
        memcpy(q, &s, sizeof s);
        for (size_t k = 0; k < K; k++) {
            float rounded = x[k] * inverse + 12582912.0f; /* 1.5 · 2^23: the low byte is the nearest integer */
            q[SGRU_Q_HEAD + k] = known ? (uint8_t)v_bits(rounded) : 0;
        }
    }
}

void sgru_affine_i8_ref(size_t M, size_t K, size_t columns, const int8_t *w, const float *init, size_t ld_init,
                        const uint8_t *q, float *y, size_t ld_y)
{
    for (size_t c = 0; c < columns; c++, q += sgru_q_step(K))
        for (size_t m = 0; m < M; m++) {
            const int8_t *block = w + m / 16 * sgru_block_step_i8(K), *w_m = block + m % 16 * 4; /* [K/4][16][4] */
            int32_t sum = 0;
            float scale, s;
            for (size_t k = 0; k < K; k++) sum += w_m[k / 4 * 64 + k % 4] * (int8_t)q[SGRU_Q_HEAD + k];
            memcpy(&scale, block + sgru_lines_i8(K) * 64 + 64 + m % 16 * sizeof scale, sizeof scale);
            memcpy(&s, q, sizeof s);
            y[c * ld_y + m] = v_fma((float)sum, scale * s, init ? init[c * ld_init + m] : 0.0f);
        }
}

static void gru_sums_ref(size_t H, size_t I, const float *w, const float *r, const float *bias_x, const float *bias_h,
                         const float *x, const float *h, float *sums, float *nh, int descending)
{
    (void)descending;
    for (size_t m = 0; m < 3 * H; m++) {
        float over_x = row_ref(3 * H, I, m, w, x, bias_x ? bias_x[m] : 0.0f);
        sums[m] = m < 2 * H ? row_ref(3 * H, H, m, r, h, over_x) : over_x;
        if (m >= 2 * H) nh[m - 2 * H] = row_ref(3 * H, H, m, r, h, bias_h ? bias_h[m - 2 * H] : 0.0f);
    }
}

static void matmul_ref(size_t M, size_t N, size_t K, const float *a, size_t ld_a, const float *b, size_t ld_b, float *y,
                       size_t ld_y)
{
    for (size_t m = 0; m < M; m++)
        for (size_t n = 0; n < N; n++) {
            float acc = 0.0f;
            for (size_t k = 0; k < K; k++) acc = v_fma(a[m * ld_a + k], b[k * ld_b + n], acc);
            y[m * ld_y + n] = acc;
        }
}

static void taps_ref(size_t M, size_t N, size_t T, const sgru_tap *tap, const float *w, size_t ld_w, const float *init,
                     const float *x, float *y, size_t ld_y)
{
    for (size_t m = 0; m < M; m++)
        for (size_t n = 0; n < N; n++) {
            float acc = init ? init[m] : 0.0f;
            for (size_t t = 0; t < T; t++) acc = v_fma(x[tap[t].x + n], w[m * ld_w + tap[t].w], acc);
            y[m * ld_y + n] = acc;
        }
}

SGRU_TABLE(ref, ref, ref);
