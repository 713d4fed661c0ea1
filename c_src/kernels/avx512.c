/* x86-64 with AVX-512 F, VL, BW and DQ: 16 floats a vector, masks for the tails. */
#include "kernels.h"

#if defined(__x86_64__) && !defined(SGRU_NO_SIMD)
#include <immintrin.h>
#include <math.h>
#include <string.h>

#ifdef __clang__
#pragma clang attribute push(__attribute__((target("avx512f,avx512vl,avx512bw,avx512dq,avx2,fma,f16c"))),              \
                             apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx512f,avx512vl,avx512bw,avx512dq,avx2,fma,f16c")
#endif

#define UNROLL _Pragma("GCC unroll 16")
#define INLINE inline __attribute__((always_inline))
#define NAME(x) x##_avx512
#define VL 16
#define TILE_ROWS 4
#define TILE_COLUMNS 6
#define TILE_MAX 24

typedef __m512 V;
typedef __m512i VI;
typedef __mmask16 VM;

static INLINE VM first_lanes(int n) { return (VM)((1u << n) - 1u); }
static INLINE V v_load(const float *p) { return _mm512_loadu_ps(p); }
static INLINE void v_store(float *p, V v) { _mm512_storeu_ps(p, v); }
static INLINE V v_load_n(const float *p, int n) { return _mm512_maskz_loadu_ps(first_lanes(n), p); }
static INLINE void v_store_n(float *p, V v, int n) { _mm512_mask_storeu_ps(p, first_lanes(n), v); }
static INLINE V v_set1(float f) { return _mm512_set1_ps(f); }
static INLINE V v_fma(V a, V b, V c) { return _mm512_fmadd_ps(a, b, c); }
static INLINE V v_add(V a, V b) { return _mm512_add_ps(a, b); }
static INLINE V v_sub(V a, V b) { return _mm512_sub_ps(a, b); }
static INLINE V v_mul(V a, V b) { return _mm512_mul_ps(a, b); }
static INLINE V v_div(V a, V b) { return _mm512_div_ps(a, b); }
static INLINE V v_sqrt(V a) { return _mm512_sqrt_ps(a); }
static INLINE V v_min(V a, V b) { return _mm512_min_ps(a, b); }
static INLINE V v_max(V a, V b) { return _mm512_max_ps(a, b); }
static INLINE VM v_lt(V a, V b) { return _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ); }
static INLINE VM v_le(V a, V b) { return _mm512_cmp_ps_mask(a, b, _CMP_LE_OQ); }
static INLINE V v_select(VM m, V yes, V no) { return _mm512_mask_blend_ps(m, no, yes); }
static INLINE V v_abs(V a) { return _mm512_andnot_ps(_mm512_set1_ps(-0.0f), a); }
static INLINE V v_copysign(V a, V s) { return _mm512_or_ps(v_abs(a), _mm512_and_ps(_mm512_set1_ps(-0.0f), s)); }
static INLINE VI v_bits(V a) { return _mm512_castps_si512(a); }
static INLINE V v_float(VI a) { return _mm512_castsi512_ps(a); }
static INLINE VI vi_add(VI a, VI b) { return _mm512_add_epi32(a, b); }
static INLINE VI vi_sub(VI a, VI b) { return _mm512_sub_epi32(a, b); }
static INLINE VI vi_xor(VI a, VI b) { return _mm512_xor_si512(a, b); }
static INLINE VI vi_shl23(VI a) { return _mm512_slli_epi32(a, 23); }
static INLINE VI vi_sra23(VI a) { return _mm512_srai_epi32(a, 23); }
static INLINE V vi_to_float(VI a) { return _mm512_cvtepi32_ps(a); }
static INLINE V v_load_half(const uint16_t *p) { return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p)); }
static INLINE V v_load_half_n(const uint16_t *p, int n)
{
    return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(first_lanes(n), p));
}
static INLINE VI vi_load(const void *p) { return _mm512_loadu_si512(p); }
static INLINE VI vi_set1(int32_t i) { return _mm512_set1_epi32(i); }
static INLINE VI vi_set1_bytes(const uint8_t *p)
{
    int32_t i;
    memcpy(&i, p, sizeof i);
    return _mm512_set1_epi32(i);
}
static INLINE VI vi_max(VI a, VI b) { return _mm512_max_epi32(a, b); }
static INLINE int32_t vi_max_all(VI a) { return _mm512_reduce_max_epi32(a); }
static INLINE void vi_store_bytes(uint8_t *p, VI a) { _mm_storeu_si128((__m128i *)p, _mm512_cvtepi32_epi8(a)); }
static INLINE int v_all_zero(V a) { return _mm512_cmp_ps_mask(a, _mm512_setzero_ps(), _CMP_EQ_OQ) == 0xFFFF; }

#include "vmath.h"
#include "products.h"
#include "taps.h"
#include "elementwise.h"
#include "reduce.h"

/* Weights of half precision: the products once more. */
#define HALF
#undef NAME
#define NAME(x) x##_f16_avx512
#define WEIGHT uint16_t
#define w_load v_load_half
#define w_load_n v_load_half_n
#include "products.h"

SGRU_TABLE(avx512, avx512, avx2); /* 8 bits without VNNI: as AVX2 does them */

#ifdef __clang__
#pragma clang attribute pop
#pragma clang attribute push(__attribute__((target("avx512f,avx512vl,avx512bw,avx512dq,avx512vnni,avx2,fma,f16c"))),   \
                             apply_to = function)
#else
#pragma GCC target("avx512vnni")
#endif

/* Written out, as GCC 12 and 13 copy the accumulators of the intrinsic to and fro. */
static INLINE VI vi_dot(VI acc, VI w, VI x)
{
    __asm__("vpdpbusd %2, %1, %0" : "+v"(acc) : "v"(x), "vm"(w));
    return acc;
}

#define I8(x) x##_i8_avx512_vnni
#define I8_DOT(acc, w, x) vi_dot(acc, w, x)
#define I8_FLIP 0x80
#define I8_ROWS1 6
#define I8_ROWS 4
#define I8_COLUMNS 6
#include "integer.h"

SGRU_TABLE(avx512_vnni, avx512, avx512_vnni);

#ifdef __clang__
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#else
typedef int sgru_no_avx512; /* ISO C wants a declaration in every file */
#endif
