/* A GRU's step with weights of f32, f16 and i8, turn by turn in one run: one stream, one stream in blocks of 16 frames, and 64 sequences
 * at once. One thread; medians over rounds; input 64, linear_before_reset=1. Nothing here is a test.
 *
 *     weight_formats [isa [rounds]] */
#define _POSIX_C_SOURCE 199309L
#include <math.h>
#include <stdio.h>
#include <time.h>

#include "random_gru.h"

enum { INPUT = 64, FORMATS = 3, WAYS = 3, MOST_ROUNDS = 1000 };

static const int formats[FORMATS] = {SGRU_F32, SGRU_F16, SGRU_I8};
static const uint32_t batches[WAYS] = {1, 1, 64};
static const size_t blocks[WAYS] = {1, 16, 1};

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

/* A stream that stays for the rest of the run, as its image and model do. */
static sgru_stream *open_stream(uint32_t H, int format, uint32_t batch, size_t block)
{
    float scale = 1.0f / sqrtf((float)H);
    gru c = {.B = batch, .I = INPUT, .H = H, .lbr = 1, .has_bias = 1, .f = F_SIGMOID, .g = F_TANH};
    c.w_format = c.r_format = format;
    c.w = randoms((size_t)3 * H * INPUT, scale), c.r = randoms((size_t)3 * H * H, scale);
    c.bias_x = randoms(3 * H, scale), c.bias_h = randoms(H, scale), c.h0 = randoms((size_t)batch * H, 1.0f);
    size_t size;
    unsigned char *bytes = build(&c, 1, 0, batch, 0, &size);
    sgru_model *m = malloc(sizeof *m);
    drop(&c);
    if (sgru_model_open(m, bytes, size)) exit(2);
    size_t need = sgru_stream_size(m, block);
    return sgru_stream_init(aligned_alloc(64, round_up(need, 64)), need, m, block, 0);
}

/* µs for one frame of one sequence, over about 300 µs. */
static double measure(sgru_stream *s, size_t block, uint32_t batch, const float *x, float *y)
{
    const void *in[] = {x};
    void *out[] = {y};
    unsigned n = 0;
    sgru_run(s, block, in, out);
    double start = now();
    do sgru_run(s, block, in, out), n++;
    while (now() - start < 300);
    return (now() - start) / n / (double)block / batch;
}

int main(int argc, char **argv)
{
    static double times[WAYS][FORMATS][MOST_ROUNDS];
    int rounds = argc > 2 ? atoi(argv[2]) : 100;
    if (rounds < 1 || rounds > MOST_ROUNDS || sgru_set_isa(argc > 1 ? argv[1] : "")) return 2;
    rng = 1;
    float *x = randoms(INPUT * 64 * 16, 1.0f), *y = malloc(sizeof *y * 1024 * 64 * 16);
    printf("%s, µs for a frame of a sequence: f32, f16, i8, and f32 over i8\n", sgru_isa());
    printf("%5s %39s %39s %39s\n", "H", "a step", "in blocks of 16", "64 sequences at once");
    for (uint32_t H = 64; H <= 1024; H *= 2) {
        sgru_stream *streams[WAYS][FORMATS];
        for (int w = 0; w < WAYS; w++)
            for (int f = 0; f < FORMATS; f++) streams[w][f] = open_stream(H, formats[f], batches[w], blocks[w]);
        for (int r = 0; r < rounds; r++)
            for (int w = 0; w < WAYS; w++)
                for (int f = 0; f < FORMATS; f++) times[w][f][r] = measure(streams[w][f], blocks[w], batches[w], x, y);
        printf("%5u", H);
        for (int w = 0; w < WAYS; w++) {
            for (int f = 0; f < FORMATS; f++) {
                qsort(times[w][f], (size_t)rounds, sizeof(double), compare);
                printf(" %9.3f", times[w][f][rounds / 2]);
            }
            printf(" %8.1fx", times[w][0][rounds / 2] / times[w][2][rounds / 2]);
        }
        printf("\n");
    }
    return 0;
}
