/* Random GRUs, each run in every way that must give the same bits: every instruction set; whole, step by step, in blocks; as a
 * batch and as single sequences. Compared by memcmp. Prints a digest of all outputs, which must be the same on every machine
 * (x86-64, aarch64 under qemu, ...). This is no check of the values themselves: those have float64 oracles in Python.
 *
 *     random_grus [count [seed]] */
#include <stdio.h>

#include "random_gru.h"

/* Runs `frames` frames of an image on an ISA; y gets the outputs, then the last state. 0 where a call failed. */
static int run(const unsigned char *bytes, size_t size, const char *isa, size_t block, size_t frames, const float *x,
               float *y, size_t y_count, float *h, size_t h_count)
{
    sgru_model model;
    (void)y_count;
    if (sgru_model_open(&model, bytes, size) || use_isa(isa)) return 0;
    size_t need = sgru_stream_size(&model, block);
    void *memory = aligned_alloc(64, need);
    sgru_stream *s = sgru_stream_init(memory, need, &model, block, SGRU_PASS_NONFINITE);
    const void *in[] = {x};
    void *out[] = {y};
    int status = !s || sgru_run(s, frames, in, out);
    if (!status) memcpy(h, s->state, h_count * sizeof *h);
    free(memory);
    return !status;
}

static int failures;

static void same(const char *what, unsigned i, const float *want, const float *got, size_t n)
{
    if (memcmp(want, got, n * sizeof *want) == 0) return;
    size_t k = 0;
    while (memcmp(want + k, got + k, 4) == 0) k++;
    printf("GRU %u: %s differs at %zu of %zu: %a, expected %a\n", i, what, k, n, (double)got[k], (double)want[k]);
    failures++;
}

/* Every ISA, whole; returns the digest of the reference. */
static uint64_t check_whole(const gru *c, unsigned i, float *y, float *h, float *got_y, float *got_h)
{
    size_t size, n = (size_t)c->T * c->B * c->H, m = (size_t)c->B * c->H;
    unsigned char *bytes = build(c, c->T, 0, c->B, (int)c->has_lens, &size);
    if (!run(bytes, size, "ref", 1, 1, c->x, y, n, h, m)) printf("GRU %u: refused\n", i), failures++;
    for (unsigned k = 0; isa_at(k); k++) {
        if (!run(bytes, size, isa_at(k), 1, 1, c->x, got_y, n, got_h, m)) failures++;
        same(isa_at(k), i, y, got_y, n);
        same(isa_at(k), i, h, got_h, m);
    }
    free(bytes);
    return sgru_checksum(y, n * 4 / 8 * 8) ^ sgru_checksum(h, m * 4 / 8 * 8);
}

/* Step by step and in blocks: forward, full lengths. */
static void check_steps(const gru *c, unsigned i, const float *y, const float *h, float *got_y, float *got_h)
{
    size_t size, n = (size_t)c->T * c->B * c->H, m = (size_t)c->B * c->H;
    unsigned char *bytes = build(c, 1, 0, c->B, 0, &size);
    for (size_t block = 1; block <= 8; block += block < 3 ? 1 : 4) {
        if (!run(bytes, size, "", block, c->T, c->x, got_y, n, got_h, m)) failures++;
        same("a run of steps", i, y, got_y, n);
        same("the state after steps", i, h, got_h, m);
    }
    free(bytes);
}

/* Each sequence of the batch alone. */
static void check_singles(const gru *c, unsigned i, const float *y, const float *h, float *got_y, float *got_h)
{
    size_t size;
    float *x = malloc(sizeof *x * c->T * c->I);
    for (uint32_t b = 0; b < c->B; b++) {
        unsigned char *bytes = build(c, c->T, b, 1, (int)c->has_lens, &size);
        for (uint32_t t = 0; t < c->T; t++)
            memcpy(x + (size_t)t * c->I, c->x + ((size_t)t * c->B + b) * c->I, sizeof *x * c->I);
        if (!run(bytes, size, "", 1, 1, x, got_y, (size_t)c->T * c->H, got_h, c->H)) failures++;
        for (uint32_t t = 0; t < c->T; t++)
            same("a sequence alone", i, y + ((size_t)t * c->B + b) * c->H, got_y + (size_t)t * c->H, c->H);
        same("its state", i, h + (size_t)b * c->H, got_h, c->H);
        free(bytes);
    }
    free(x);
}

int main(int argc, char **argv)
{
    unsigned count = argc > 1 ? (unsigned)atoi(argv[1]) : 2000;
    uint64_t seed = argc > 2 ? strtoull(argv[2], NULL, 0) : 1, digest = 0;
    rng = seed * 0x9E3779B97F4A7C15u + 1;
    static float y[7 * 9 * 130], h[9 * 130], got_y[7 * 9 * 130], got_h[9 * 130];
    for (unsigned i = 0; i < count; i++) {
        gru c = random_gru();
        digest = (digest ^ check_whole(&c, i, y, h, got_y, got_h)) * 0x9E3779B97F4A7C15u;
        if (!c.reverse && !c.has_lens) check_steps(&c, i, y, h, got_y, got_h);
        check_singles(&c, i, y, h, got_y, got_h);
        drop(&c);
    }
    printf("seed %llu:", (unsigned long long)seed);
    for (unsigned k = 0; isa_at(k); k++) printf(" %s", isa_at(k));
    printf("; digest %016llx\n%u passed, %d failed\n", (unsigned long long)digest, count, failures);
    return failures != 0;
}
