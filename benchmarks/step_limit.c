/* The C step against its limit: a step at batch 1 must read all its weights, so the limit is the time of reading them, measured here
 * in the same run, turn by turn. One thread; medians over rounds; input 64 (32 for H = 32). Nothing here is a test.
 *
 * At the end: reading the weights of whole models (benchmarks/models.py).
 *
 *     step_limit [isa [rounds]] */
#define _POSIX_C_SOURCE 199309L
#include <stdio.h>
#include <time.h>

#include "random_gru.h"

#if defined(__x86_64__)
#include <immintrin.h>

/* Reads n floats as fast as one core can, and does nothing with them. */
__attribute__((target("avx512f,avx512dq"))) static float read_avx512(const float *p, size_t n)
{
    __m512 acc[8];
    for (int i = 0; i < 8; i++) acc[i] = _mm512_setzero_ps();
    for (size_t i = 0; i + 128 <= n; i += 128)
        for (int j = 0; j < 8; j++) acc[j] = _mm512_or_ps(acc[j], _mm512_loadu_ps(p + i + j * 16));
    for (int j = 1; j < 8; j++) acc[0] = _mm512_or_ps(acc[0], acc[j]);
    return _mm512_cvtss_f32(acc[0]);
}

__attribute__((target("avx2"))) static float read_avx2(const float *p, size_t n)
{
    __m256 acc[8];
    for (int i = 0; i < 8; i++) acc[i] = _mm256_setzero_ps();
    for (size_t i = 0; i + 64 <= n; i += 64)
        for (int j = 0; j < 8; j++) acc[j] = _mm256_or_ps(acc[j], _mm256_loadu_ps(p + i + j * 8));
    for (int j = 1; j < 8; j++) acc[0] = _mm256_or_ps(acc[0], acc[j]);
    return _mm256_cvtss_f32(acc[0]);
}
#endif

static float read_plain(const float *p, size_t n)
{
    float acc[16] = {0};
    for (size_t i = 0; i + 16 <= n; i += 16)
        for (int j = 0; j < 16; j++) acc[j] += p[i + j];
    return acc[0];
}

/* The widest reader this machine has; asking it takes microseconds, so it is asked once. */
static float (*reader(void))(const float *, size_t)
{
#if defined(__x86_64__)
    if (strcmp(sgru_available_isa(0), "avx512") == 0) return read_avx512;
    if (strcmp(sgru_available_isa(0), "avx2") == 0) return read_avx2;
#endif
    return read_plain;
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *v, int n)
{
    qsort(v, (size_t)n, sizeof *v, by_value);
    return v[n / 2];
}

enum { MOST_ROUNDS = 1001 };

static void measure(uint32_t H, uint32_t I, size_t block, int rounds)
{
    static double steps[MOST_ROUNDS], reads[MOST_ROUNDS], ratios[MOST_ROUNDS];
    gru c = {.T = 1, .B = 1, .I = I, .H = H, .lbr = 1, .has_bias = 1, .f = F_SIGMOID, .g = F_TANH};
    c.w = randoms((size_t)3 * H * I, 0.05f), c.r = randoms((size_t)3 * H * H, 0.05f);
    c.bias_x = randoms(3 * H, 0.5f), c.bias_h = randoms(H, 0.5f), c.h0 = randoms(H, 1.0f),
    c.x = randoms(block * I, 1.0f);
    size_t size, weights = (size_t)3 * H * (H + I), count = 2000000 / weights / block + 1;
    unsigned char *bytes = build(&c, 1, 0, 1, 0, &size);
    sgru_model m;
    if (sgru_model_open(&m, bytes, size)) return;
    size_t need = sgru_stream_size(&m, block);
    void *memory = aligned_alloc(64, need);
    sgru_stream *s = sgru_stream_init(memory, need, &m, block, 0);
    float *y = malloc(block * H * sizeof *y);
    const void *in[] = {c.x};
    void *out[] = {y};
    volatile float sink;
    float (*read_all)(const float *, size_t) = reader();
    for (int r = 0; r < rounds; r++) {
        double start = now();
        for (size_t i = 0; i < count; i++) sgru_run(s, block, in, out);
        steps[r] = (now() - start) / (double)(count * block);
        start = now();
        for (size_t i = 0; i < count; i++) {
            sink = read_all((const float *)(bytes + size) - weights, weights);
            __asm__ volatile("" : : : "memory"); /* or it would be read once */
        }
        reads[r] = (now() - start) / (double)count;
        ratios[r] = steps[r] / reads[r];
    }
    (void)sink;
    double step = median(steps, rounds), reading = median(reads, rounds);
    printf("%5u %5u %9.0f %9.3f %9.3f %9.2f %9.0f\n", H, (unsigned)block, (double)weights * 4e-3, step * 1e6,
           reading * 1e6, median(ratios, rounds), (double)weights * 4e-9 / reading);
    drop(&c), free(bytes), free(memory), free(y);
}

/* Reading as many weights as a model has, again and again. */
static void read_weights(const char *name, size_t bytes, int rounds)
{
    static double reads[MOST_ROUNDS];
    size_t n = bytes / sizeof(float), count = 2000000 / n + 1;
    float *p = randoms(n, 1.0f);
    volatile float sink;
    float (*read_all)(const float *, size_t) = reader();
    for (int r = 0; r < rounds; r++) {
        double start = now();
        for (size_t i = 0; i < count; i++) {
            sink = read_all(p, n);
            __asm__ volatile("" : : : "memory");
        }
        reads[r] = (now() - start) / (double)count;
    }
    (void)sink;
    double reading = median(reads, rounds), least = reads[0]; /* the median sorts */
    printf("%-26s %9.0f KB %9.2f us %6.0f GB/s, undisturbed %9.2f us\n", name, (double)bytes * 1e-3, reading * 1e6,
           (double)bytes * 1e-9 / reading, least * 1e6);
    free(p);
}

int main(int argc, char **argv)
{
    static const uint32_t sizes[] = {32, 64, 128, 256, 512, 1024};
    int rounds = argc > 2 ? atoi(argv[2]) : 301;
    if (rounds < 1 || rounds > MOST_ROUNDS || sgru_set_isa(argc > 1 ? argv[1] : "")) return 2;
    rng = 1;
    printf("%s\n%5s %5s %9s %9s %9s %9s %9s\n", sgru_isa(), "H", "block", "weights", "step", "reading", "ratio",
           "read at");
    printf("%5s %5s %9s %9s %9s %9s %9s\n", "", "", "KB", "us", "us", "median", "GB/s");
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        for (size_t block = 1; block <= 16; block *= 16) measure(sizes[i], sizes[i] == 32 ? 32 : 64, block, rounds);
    read_weights("three GRUs of 64, Linear", 303620, rounds); /* `streamgru info` tells their sizes */
    read_weights("RNNoise", 355164, rounds);
    read_weights("g2p decoder", 1663512, rounds); /* without the embedding, of which a step reads a row */
    read_weights("NSNet2", 11160388, rounds);
    return 0;
}
