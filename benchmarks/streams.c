/* Many streams and several threads: a pool of 64 and of 1,000 streams against as many single steps and against the core's own peak of
 * multiply-adds, measured here in the same run; a step on two threads against one. Medians over rounds, turn by turn; input 64,
 * linear_before_reset=1, weights of f32 and i8. Nothing here is a test.
 *
 *     streams [isa [rounds]] */
#define _POSIX_C_SOURCE 199309L
#include <math.h>
#include <stdio.h>
#include <time.h>

#include "random_gru.h"
#include "threads/threads.h"

enum { INPUT = 64, MOST_SLOTS = 1000, MOST_ROUNDS = 500 };

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec * 1e-3;
}

static int compare(const void *a, const void *b)
{
    double d = *(const double *)a - *(const double *)b;
    return d < 0 ? -1 : d > 0;
}

static double median(double *v, int n)
{
    qsort(v, (size_t)n, sizeof *v, compare);
    return v[n / 2];
}

/* Multiply-adds a second, in thousands of millions, with every accumulator in a register. */
#if defined(__x86_64__)
#include <immintrin.h>
#define PEAK(name, isa, V, set, fma, floats)                                                                           \
    __attribute__((target(isa))) static double peak_##name(void)                                                       \
    {                                                                                                                  \
        V acc[12], a = set(1.0f), b = set(1e-9f);                                                                      \
        for (int i = 0; i < 12; i++) acc[i] = set((float)i);                                                           \
        double start = now();                                                                                          \
        for (int n = 0; n < 20000; n++) {                                                                              \
            for (int i = 0; i < 12; i++) acc[i] = fma(acc[i], a, b);                                                   \
            __asm__ volatile("" : "+x"(a), "+x"(b));                                                                   \
        }                                                                                                              \
        double took = now() - start;                                                                                   \
        for (int i = 0; i < 12; i++) __asm__ volatile("" : : "x"(acc[i]));                                             \
        return 20000.0 * 12 * (floats) / took * 1e-3;                                                                  \
    }
PEAK(avx512, "avx512f", __m512, _mm512_set1_ps, _mm512_fmadd_ps, 16)
PEAK(avx2, "avx2,fma", __m256, _mm256_set1_ps, _mm256_fmadd_ps, 8)
static double peak(void)
{
    if (strcmp(sgru_isa(), "avx512") == 0) return peak_avx512();
    return strcmp(sgru_isa(), "avx2") == 0 ? peak_avx2() : 0;
}
#else
static double peak(void) { return 0; }
#endif

static sgru_model *open_model(uint32_t H, int format)
{
    float scale = 1.0f / sqrtf((float)H);
    gru c = {.B = 1, .I = INPUT, .H = H, .lbr = 1, .has_bias = 1, .f = F_SIGMOID, .g = F_TANH};
    c.w_format = c.r_format = format;
    c.w = randoms((size_t)3 * H * INPUT, scale), c.r = randoms((size_t)3 * H * H, scale);
    c.bias_x = randoms(3 * H, scale), c.bias_h = randoms(H, scale), c.h0 = randoms(H, 1.0f);
    size_t size;
    unsigned char *bytes = build(&c, 1, 0, 1, 0, &size);
    sgru_model *m = malloc(sizeof *m);
    drop(&c);
    if (sgru_model_open(m, bytes, size)) exit(2);
    return m;
}

static void *memory_of(size_t size) { return aligned_alloc(64, round_up(size, 64)); }

static sgru_stream *open_stream(const sgru_model *m)
{
    size_t need = sgru_stream_size(m, 1);
    return sgru_stream_init(memory_of(need), need, m, 1, 0);
}

static const float *x;
static float *y;

/* µs of a step, over at least 300 µs. */
static double time_stream(sgru_stream *s)
{
    const void *in[] = {x};
    void *out[] = {y};
    unsigned n = 0;
    sgru_step(s, in, out);
    double start = now();
    do sgru_step(s, in, out), n++;
    while (now() - start < 300);
    return (now() - start) / n;
}

static double time_pool(sgru_pool *pool, size_t n, const sgru_slot *slots)
{
    const void *in[] = {x};
    void *out[] = {y};
    unsigned turns = 0;
    double start = now();
    do sgru_pool_step(pool, n, slots, in, out, NULL), turns++;
    while (now() - start < 300);
    return (now() - start) / turns / (double)n;
}

static sgru_pool *open_pool(const sgru_model *m, size_t n, sgru_slot *slots)
{
    size_t need = sgru_pool_size(m, n, 64, 1);
    sgru_pool *pool = sgru_pool_init(memory_of(need), need, m, n, 64, 1, 1, 0);
    for (size_t i = 0; i < n; i++) slots[i] = sgru_pool_open(pool);
    return pool;
}

static void measure_pools(uint32_t H, int format, int rounds)
{
    static double singles[MOST_ROUNDS], few[MOST_ROUNDS], many[MOST_ROUNDS], peaks[MOST_ROUNDS];
    static sgru_slot slots[2][MOST_SLOTS];
    sgru_model *m = open_model(H, format);
    sgru_stream *s = open_stream(m);
    sgru_pool *pools[] = {open_pool(m, 64, slots[0]), open_pool(m, MOST_SLOTS, slots[1])};
    for (int r = 0; r < rounds; r++) {
        singles[r] = time_stream(s);
        few[r] = time_pool(pools[0], 64, slots[0]);
        many[r] = time_pool(pools[1], MOST_SLOTS, slots[1]);
        peaks[r] = peak();
    }
    double macs = 3.0 * H * (H + INPUT), single = median(singles, rounds), pool = median(few, rounds),
           thousand = median(many, rounds), most = median(peaks, rounds);
    printf("%5u %4s %9.2f %9.3f %8.1fx %9.1f %9.1f %6.0f%% %9.3f %8.1f%%\n", H, format == SGRU_F32 ? "f32" : "i8",
           single, pool, single / pool, macs / pool * 1e-3, most, macs / pool * 1e-3 / most * 100, thousand,
           thousand * 1e-6 * 1000 * 100 * 100);
}

static void measure_threads(uint32_t H, int format, int rounds)
{
    static double one[MOST_ROUNDS], two[MOST_ROUNDS];
    sgru_model *m = open_model(H, format);
    sgru_stream *a = open_stream(m), *b = open_stream(m);
    size_t need = sgru_threads_size(2);
    sgru_threads *threads = sgru_threads_start(memory_of(need), need, 2);
    if (!threads) return;
    sgru_stream_use(b, sgru_threads_workers(threads));
    for (int r = 0; r < rounds; r++) one[r] = time_stream(a), two[r] = time_stream(b);
    double single = median(one, rounds), both = median(two, rounds);
    printf("%5u %4s %9.2f %9.2f %8.2fx\n", H, format == SGRU_F32 ? "f32" : "i8", single, both, single / both);
    sgru_threads_stop(threads);
}

int main(int argc, char **argv)
{
    static const uint32_t sizes[] = {64, 128, 256, 512, 1024};
    static const int formats[] = {SGRU_F32, SGRU_I8};
    int rounds = argc > 2 ? atoi(argv[2]) : 61;
    if (rounds < 1 || rounds > MOST_ROUNDS || sgru_set_isa(argc > 1 ? argv[1] : "")) return 2;
    rng = 1;
    x = randoms((size_t)MOST_SLOTS * INPUT, 1.0f), y = malloc(MOST_SLOTS * 1024 * sizeof *y);
    printf("%s, us a step of one stream\n%5s %4s %9s %9s %9s %9s %9s %7s %9s %9s\n", sgru_isa(), "H", "", "alone",
           "of 64", "gain", "G madd/s", "peak", "", "of 1000", "load");
    for (size_t f = 0; f < 2; f++)
        for (size_t i = 0; i < 4; i++) measure_pools(sizes[i], formats[f], rounds);
    printf("load: of one core, 1,000 streams at 100 steps a second each\n\n%5s %4s %9s %9s\n", "H", "", "1 thread",
           "2 threads");
    for (size_t f = 0; f < 2; f++)
        for (size_t i = 1; i < 5; i++) measure_threads(sizes[i], formats[f], rounds);
    return 0;
}
