/* The loops that benchmarks/ours.py times without Python in between, and the two limits of a core. A shared library; the functions of
 * the core come as pointers, so that what is timed is the extension itself. */
#define _POSIX_C_SOURCE 199309L
#include <time.h>

#include "streamgru.h"

static int64_t now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* Calls it `calls` times; each: NULL, or [calls], where the time of every call goes. Returns the ns of them all. */
#define TIMED(call)                                                                                                    \
    int64_t start = now(), last = start;                                                                               \
    for (int64_t i = 0; i < calls; i++) {                                                                              \
        call;                                                                                                          \
        if (each) {                                                                                                    \
            int64_t stamp = now();                                                                                     \
            each[i] = stamp - last, last = stamp;                                                                      \
        }                                                                                                              \
    }                                                                                                                  \
    return now() - start

typedef int step_fn(sgru_stream *, const void *const *, void *const *);
typedef int run_fn(sgru_stream *, size_t, const void *const *, void *const *);
typedef int pool_fn(sgru_pool *, size_t, const sgru_slot *, const void *const *, void *const *, size_t *);
typedef void peer_fn(void *, const float *, float *);

int64_t time_step(step_fn *step, sgru_stream *s, const void *const *in, void *const *out, int64_t calls, int64_t *each)
{
    TIMED(step(s, in, out));
}

int64_t time_run(run_fn *run, sgru_stream *s, size_t frames, const void *const *in, void *const *out, int64_t calls,
                 int64_t *each)
{
    TIMED(run(s, frames, in, out));
}

int64_t time_pool(pool_fn *step, sgru_pool *pool, size_t n, const sgru_slot *slots, const void *const *in,
                  void *const *out, int64_t calls, int64_t *each)
{
    TIMED(step(pool, n, slots, in, out, NULL));
}

int64_t time_peer(peer_fn *step, void *peer, const float *x, float *y, int64_t calls, int64_t *each)
{
    TIMED(step(peer, x, y));
}

/* The first limit: reading the weights, as fast as one core can, and doing nothing with them. p: 64-byte aligned, n bytes, the rest
 * beyond a multiple of 512 left out. */
#if defined(__AVX512F__)
#include <immintrin.h>
static void read_all(const char *p, size_t n)
{
    __m512i acc[8] = {0};
    for (size_t i = 0; i + 512 <= n; i += 512)
        for (int j = 0; j < 8; j++) acc[j] = _mm512_or_si512(acc[j], _mm512_load_si512(p + i + 64 * j));
    for (int j = 0; j < 8; j++) __asm__ volatile("" : : "x"(acc[j]));
}
#elif defined(__AVX2__)
#include <immintrin.h>
static void read_all(const char *p, size_t n)
{
    __m256i acc[8] = {0};
    for (size_t i = 0; i + 256 <= n; i += 256)
        for (int j = 0; j < 8; j++)
            acc[j] = _mm256_or_si256(acc[j], _mm256_load_si256((const __m256i *)(p + i + 32 * j)));
    for (int j = 0; j < 8; j++) __asm__ volatile("" : : "x"(acc[j]));
}
#else
static void read_all(const char *p, size_t n)
{
    uint64_t acc[16] = {0};
    for (size_t i = 0; i + 128 <= n; i += 128)
        for (int j = 0; j < 16; j++) acc[j] |= ((const uint64_t *)(p + i))[j];
    for (int j = 0; j < 16; j++) __asm__ volatile("" : : "r"(acc[j]));
}
#endif

int64_t time_reading(const char *p, size_t n, int64_t calls, int64_t *each)
{
    TIMED(read_all(p, n); __asm__ volatile("" : : : "memory")); /* or it would be read once */
}

/* The second: a multiply-add in every lane, every accumulator in a register. A call does PEAK_TURNS * PEAK_CHAINS * PEAK_LANES of them. */
enum { PEAK_TURNS = 1000, PEAK_CHAINS = 12 };
#if defined(__AVX512F__)
enum { PEAK_LANES = 16 };
typedef __m512 lanes;
#define FMA _mm512_fmadd_ps
#define ALL _mm512_set1_ps
#elif defined(__AVX2__) && defined(__FMA__)
enum { PEAK_LANES = 8 };
typedef __m256 lanes;
#define FMA _mm256_fmadd_ps
#define ALL _mm256_set1_ps
#elif defined(__ARM_NEON)
#include <arm_neon.h>
enum { PEAK_LANES = 4 };
typedef float32x4_t lanes;
#define FMA(a, b, c) vfmaq_f32(c, a, b)
#define ALL vdupq_n_f32
#endif

#ifdef FMA
#ifdef __ARM_NEON
#define REGISTER "w"
#else
#define REGISTER "x"
#endif
static void multiply_add(void)
{
    lanes acc[PEAK_CHAINS], a = ALL(1.0f), b = ALL(1e-9f);
    for (int i = 0; i < PEAK_CHAINS; i++) acc[i] = ALL((float)i);
    for (int n = 0; n < PEAK_TURNS; n++) {
        for (int i = 0; i < PEAK_CHAINS; i++) acc[i] = FMA(acc[i], a, b);
        __asm__ volatile("" : "+" REGISTER(a), "+" REGISTER(b));
    }
    for (int i = 0; i < PEAK_CHAINS; i++) __asm__ volatile("" : : REGISTER(acc[i]));
}

int64_t peak_count(void) { return (int64_t)PEAK_TURNS * PEAK_CHAINS * PEAK_LANES; }
int64_t time_peak(int64_t calls, int64_t *each) { TIMED(multiply_add()); }
#else
int64_t peak_count(void) { return 0; }
int64_t time_peak(int64_t calls, int64_t *each) { return (void)calls, (void)each, 0; }
#endif
