/* x86-64 with AVX2, FMA and F16C: 8 floats a vector, maskload and maskstore for the tails. */
#include "kernels.h"

#if defined(__x86_64__) && !defined(SGRU_NO_SIMD)
#include <immintrin.h>
#include <math.h>
#include <string.h>

#ifdef __clang__
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c")
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
static INLINE V v_load_half(const uint16_t *p) { return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p)); }
static INLINE V v_load_half_n(const uint16_t *p, int n) /* weights come by four */
{
    return n == 8 ? v_load_half(p) : _mm256_cvtph_ps(_mm_loadl_epi64((const __m128i *)p));
}
static INLINE VI vi_load(const void *p) { return _mm256_loadu_si256(p); }
static INLINE VI vi_set1(int32_t i) { return _mm256_set1_epi32(i); }
static INLINE VI vi_set1_bytes(const uint8_t *p)
{
    int32_t i;
    memcpy(&i, p, sizeof i);
    return _mm256_set1_epi32(i);
}
static INLINE VI vi_max(VI a, VI b) { return _mm256_max_epi32(a, b); }
static INLINE int32_t vi_max_all(VI a)
{
    __m128i m = _mm_max_epi32(_mm256_castsi256_si128(a), _mm256_extracti128_si256(a, 1));
    m = _mm_max_epi32(m, _mm_shuffle_epi32(m, 0x4E));
    return _mm_cvtsi128_si32(_mm_max_epi32(m, _mm_shuffle_epi32(m, 0xB1)));
}
static INLINE void vi_store_bytes(uint8_t *p, VI a)
{
    const __m128i low = _mm_set1_epi32(0x0C080400);
    __m128i bytes = _mm_unpacklo_epi32(_mm_shuffle_epi8(_mm256_castsi256_si128(a), low),
                                       _mm_shuffle_epi8(_mm256_extracti128_si256(a, 1), low));
    _mm_storel_epi64((__m128i *)p, bytes);
}

/* |x| · (w with the sign of x), pairs in 16 bits: as |x| <= 127 and |w| <= 127, no sum of two saturates. */
static INLINE VI vi_dot(VI acc, VI w, VI x)
{
    VI pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(x), _mm256_sign_epi8(w, x));
    return _mm256_add_epi32(acc, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}
static INLINE int v_all_zero(V a)
{
    return _mm256_movemask_ps(_mm256_cmp_ps(a, _mm256_setzero_ps(), _CMP_EQ_OQ)) == 0xFF;
}

#include "vmath.h"
#include "products.h"
#include "taps.h"
#include "elementwise.h"
#include "reduce.h"

/* Weights of half precision: the products once more. */
#define HALF
#undef NAME
#define NAME(x) x##_f16_avx2
#define WEIGHT uint16_t
#define w_load v_load_half
#define w_load_n v_load_half_n
#include "products.h"

#define I8(x) x##_i8_avx2
#define I8_DOT(acc, w, x) vi_dot(acc, w, x)
#define I8_FLIP 0
#define I8_ROWS1 4
#define I8_ROWS 1
#define I8_COLUMNS 4
#include "integer.h"

SGRU_TABLE(avx2, avx2, avx2);

#ifdef __clang__
#pragma clang attribute pop
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c,avxvnni"))), apply_to = function)
#else
#pragma GCC target("avxvnni")
#endif

#define I8(x) x##_i8_avx2_vnni
#define I8_DOT(acc, w, x) _mm256_dpbusd_avx_epi32(acc, x, w)
#define I8_FLIP 0x80
#define I8_ROWS1 4
#define I8_ROWS 1
#define I8_COLUMNS 6
#include "integer.h"

SGRU_TABLE(avx2_vnni, avx2, avx2_vnni);

#ifdef __clang__
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#else
typedef int sgru_no_avx2; /* ISO C wants a declaration in every file */
#endif
