/* x86-64 with AVX2 and FMA: 8 floats a vector, maskload and maskstore for the tails. */
#include "kernels.h"

#if defined(__x86_64__) && !defined(SGRU_NO_SIMD)
#include <immintrin.h>
#include <math.h>

#ifdef __clang__
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma")
#endif

#define UNROLL _Pragma("GCC unroll 16")
#define INLINE inline __attribute__((always_inline))
#define NAME(x) x##_avx2
#define VL 8
#define TILE_ROWS 1
#define TILE_COLUMNS 6
#define TILE_MAX 12

typedef __m256 V;
typedef __m256i VI;
typedef __m256 VM;

static const int32_t lanes_8[16] = {-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0};

static INLINE __m256i first_lanes(int n) { return _mm256_loadu_si256((const __m256i *)(lanes_8 + 8 - n)); }
static INLINE V v_load(const float *p) { return _mm256_loadu_ps(p); }
static INLINE void v_store(float *p, V v) { _mm256_storeu_ps(p, v); }
static INLINE V v_load_n(const float *p, int n) { return _mm256_maskload_ps(p, first_lanes(n)); }
static INLINE void v_store_n(float *p, V v, int n) { _mm256_maskstore_ps(p, first_lanes(n), v); }
static INLINE V v_set1(float f) { return _mm256_set1_ps(f); }
static INLINE V v_fma(V a, V b, V c) { return _mm256_fmadd_ps(a, b, c); }
static INLINE V v_add(V a, V b) { return _mm256_add_ps(a, b); }
static INLINE V v_sub(V a, V b) { return _mm256_sub_ps(a, b); }
static INLINE V v_mul(V a, V b) { return _mm256_mul_ps(a, b); }
static INLINE V v_div(V a, V b) { return _mm256_div_ps(a, b); }
static INLINE V v_sqrt(V a) { return _mm256_sqrt_ps(a); }
static INLINE V v_min(V a, V b) { return _mm256_min_ps(a, b); }
static INLINE V v_max(V a, V b) { return _mm256_max_ps(a, b); }
static INLINE VM v_lt(V a, V b) { return _mm256_cmp_ps(a, b, _CMP_LT_OQ); }
static INLINE VM v_le(V a, V b) { return _mm256_cmp_ps(a, b, _CMP_LE_OQ); }
static INLINE V v_select(VM m, V yes, V no) { return _mm256_blendv_ps(no, yes, m); }
static INLINE V v_abs(V a) { return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), a); }
static INLINE V v_copysign(V a, V s) { return _mm256_or_ps(v_abs(a), _mm256_and_ps(_mm256_set1_ps(-0.0f), s)); }
static INLINE VI v_bits(V a) { return _mm256_castps_si256(a); }
static INLINE V v_float(VI a) { return _mm256_castsi256_ps(a); }
static INLINE VI vi_add(VI a, VI b) { return _mm256_add_epi32(a, b); }
static INLINE VI vi_sub(VI a, VI b) { return _mm256_sub_epi32(a, b); }
static INLINE VI vi_xor(VI a, VI b) { return _mm256_xor_si256(a, b); }
static INLINE VI vi_shl23(VI a) { return _mm256_slli_epi32(a, 23); }
static INLINE VI vi_sra23(VI a) { return _mm256_srai_epi32(a, 23); }
static INLINE V vi_to_float(VI a) { return _mm256_cvtepi32_ps(a); }
static INLINE int v_all_zero(V a)
{
    return _mm256_movemask_ps(_mm256_cmp_ps(a, _mm256_setzero_ps(), _CMP_EQ_OQ)) == 0xFF;
}

#include "vmath.h"
#include "products.h"
#include "taps.h"
#include "elementwise.h"
#include "reduce.h"

SGRU_TABLE(avx2);

#ifdef __clang__
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#else
typedef int sgru_no_avx2; /* ISO C wants a declaration in every file */
#endif
