/* AArch64 Advanced SIMD: 4 floats a vector; tails go through a small array. 32-bit NEON flushes subnormals, so it is
 * not the same arithmetic: there `ref` serves, on the scalar unit. */
#include "kernels.h"

#if defined(__aarch64__) && !defined(SGRU_NO_SIMD)
#include <arm_neon.h>
#include <math.h>
#include <string.h>

#define UNROLL _Pragma("GCC unroll 16")
#define INLINE inline __attribute__((always_inline))
#define NAME(x) x##_neon
#define VL 4
#define TILE_ROWS 1
#define TILE_COLUMNS 6
#define TILE_MAX 24

typedef float32x4_t V;
typedef int32x4_t VI;
typedef uint32x4_t VM;

static INLINE V v_load(const float *p) { return vld1q_f32(p); }
static INLINE void v_store(float *p, V v) { vst1q_f32(p, v); }
static INLINE V v_load_n(const float *p, int n)
{
    float f[4] = {0};
    for (int i = 0; i < n; i++) f[i] = p[i];
    return vld1q_f32(f);
}
static INLINE void v_store_n(float *p, V v, int n)
{
    float f[4];
    vst1q_f32(f, v);
    for (int i = 0; i < n; i++) p[i] = f[i];
}
static INLINE V v_set1(float f) { return vdupq_n_f32(f); }
static INLINE V v_fma(V a, V b, V c) { return vfmaq_f32(c, a, b); }
static INLINE V v_add(V a, V b) { return vaddq_f32(a, b); }
static INLINE V v_sub(V a, V b) { return vsubq_f32(a, b); }
static INLINE V v_mul(V a, V b) { return vmulq_f32(a, b); }
static INLINE V v_div(V a, V b) { return vdivq_f32(a, b); }
static INLINE V v_sqrt(V a) { return vsqrtq_f32(a); }
static INLINE VM v_lt(V a, V b) { return vcltq_f32(a, b); }
static INLINE VM v_le(V a, V b) { return vcleq_f32(a, b); }
static INLINE V v_select(VM m, V yes, V no) { return vbslq_f32(m, yes, no); }
static INLINE V v_min(V a, V b) { return v_select(v_lt(a, b), a, b); }
static INLINE V v_max(V a, V b) { return v_select(v_lt(b, a), a, b); }
static INLINE V v_abs(V a) { return vabsq_f32(a); }
static INLINE V v_copysign(V a, V s) { return vbslq_f32(vdupq_n_u32(0x80000000u), s, a); }
static INLINE VI v_bits(V a) { return vreinterpretq_s32_f32(a); }
static INLINE V v_float(VI a) { return vreinterpretq_f32_s32(a); }
static INLINE VI vi_add(VI a, VI b) { return vaddq_s32(a, b); }
static INLINE VI vi_sub(VI a, VI b) { return vsubq_s32(a, b); }
static INLINE VI vi_xor(VI a, VI b) { return veorq_s32(a, b); }
static INLINE VI vi_shl23(VI a) { return vshlq_n_s32(a, 23); }
static INLINE VI vi_sra23(VI a) { return vshrq_n_s32(a, 23); }
static INLINE V vi_to_float(VI a) { return vcvtq_f32_s32(a); }
static INLINE V v_load_half(const uint16_t *p) { return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p))); }
static INLINE V v_load_half_n(const uint16_t *p, int n) /* weights come by four */
{
    (void)n;
    return v_load_half(p);
}
static INLINE VI vi_load(const void *p) { return vreinterpretq_s32_u8(vld1q_u8(p)); }
static INLINE VI vi_set1(int32_t i) { return vdupq_n_s32(i); }
static INLINE VI vi_set1_bytes(const uint8_t *p)
{
    int32_t i;
    memcpy(&i, p, sizeof i);
    return vdupq_n_s32(i);
}
static INLINE VI vi_max(VI a, VI b) { return vmaxq_s32(a, b); }
static INLINE int32_t vi_max_all(VI a) { return vmaxvq_s32(a); }
static INLINE void vi_store_bytes(uint8_t *p, VI a)
{
    int16x4_t half = vmovn_s32(a);
    int8x8_t bytes = vmovn_s16(vcombine_s16(half, half));
    uint32_t four = vget_lane_u32(vreinterpret_u32_s8(bytes), 0);
    memcpy(p, &four, sizeof four);
}

/* Pairs of products in 16 bits: as |q| <= 127 and |w| <= 127, no sum of two overflows. */
static INLINE VI vi_dot(VI acc, VI w, VI x)
{
    int8x16_t w_v = vreinterpretq_s8_s32(w), x_v = vreinterpretq_s8_s32(x);
    int16x8_t low = vmull_s8(vget_low_s8(w_v), vget_low_s8(x_v)), high = vmull_high_s8(w_v, x_v);
    return vpadalq_s16(acc, vpaddq_s16(low, high));
}
static INLINE int v_all_zero(V a) { return vminvq_u32(vceqzq_f32(a)) != 0; }

#include "vmath.h"
#include "products.h"
#include "taps.h"
#include "elementwise.h"
#include "reduce.h"

/* Weights of half precision: the products once more. */
#define HALF
#undef NAME
#define NAME(x) x##_f16_neon
#define WEIGHT uint16_t
#define w_load v_load_half
#define w_load_n v_load_half_n
#include "products.h"

#define I8(x) x##_i8_neon
#define I8_DOT(acc, w, x) vi_dot(acc, w, x)
#define I8_FLIP 0
#define I8_ROWS1 4
#define I8_ROWS 1
#define I8_COLUMNS 4
#include "integer.h"

SGRU_TABLE(neon, neon, neon);

#ifdef __clang__
#pragma clang attribute push(__attribute__((target("dotprod"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("arch=armv8.2-a+dotprod")
#endif

#define I8(x) x##_i8_neon_dot
#define I8_DOT(acc, w, x) vdotq_s32(acc, vreinterpretq_s8_s32(w), vreinterpretq_s8_s32(x))
#define I8_FLIP 0
#define I8_ROWS1 4
#define I8_ROWS 1
#define I8_COLUMNS 6
#include "integer.h"

SGRU_TABLE(neon_dot, neon, neon_dot);

#ifdef __clang__
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#else
typedef int sgru_no_neon; /* ISO C wants a declaration in every file */
#endif
