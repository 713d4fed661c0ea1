/* Random GRUs in pools and on several threads: the bits of single streams on one, whatever the company, for every instruction set.
 * For ThreadSanitizer too.
 *
 *     pools [count [seed]] */
#include <stdio.h>

#include "random_gru.h"
#include "threads/threads.h"

enum { SLOTS = 7, STEPS = 5 };

static int failures;

static void expect(int holds, const char *what, unsigned i)
{
    if (holds) return;
    printf("GRU %u: %s\n", i, what);
    failures++;
}

static void *memory_of(size_t size) { return aligned_alloc(64, (size + 63) / 64 * 64); }

/* Slot j's frame of step t is x[t][j]; y likewise, of single streams; saved: [SLOTS] states. */
static void run_streams(const sgru_model *m, size_t frame, const float *x, size_t out, float *y, unsigned char *saved)
{
    size_t need = sgru_stream_size(m, 1);
    void *memory = memory_of(need);
    for (size_t j = 0; j < SLOTS; j++) {
        sgru_stream *s = sgru_stream_init(memory, need, m, 1, 0);
        for (size_t t = 0; t < STEPS; t++) {
            const void *in[] = {x + (t * SLOTS + j) * frame};
            void *outs[] = {y + (t * SLOTS + j) * out};
            if (sgru_step(s, in, outs)) failures++;
        }
        if (sgru_save(s, saved + j * sgru_save_size(m), sgru_save_size(m))) failures++;
    }
    free(memory);
}

static void check_pool(const sgru_model *m, unsigned i, size_t lanes, sgru_workers *workers, size_t frame,
                       const float *x, size_t out, const float *y, const unsigned char *saved)
{
    unsigned engines = workers ? workers->n : 1;
    size_t need = sgru_pool_size(m, SLOTS + 1, lanes, engines), bytes = sgru_save_size(m), bad;
    void *memory = memory_of(need);
    sgru_pool *pool = sgru_pool_init(memory, need, m, SLOTS + 1, lanes, engines, 5, 0);
    unsigned char *blob = malloc(bytes);
    float *got = malloc(SLOTS * out * sizeof *got);
    sgru_slot slots[SLOTS];
    expect(sgru_pool_use(pool, workers) == SGRU_OK, "workers refused", i);
    for (size_t j = 0; j < SLOTS; j++) slots[j] = sgru_pool_open(pool);
    for (size_t t = 0; t < STEPS; t++) {
        const void *in[] = {x + t * SLOTS * frame};
        void *outs[] = {got};
        expect(sgru_pool_step(pool, SLOTS, slots, in, outs, &bad) == SGRU_OK, "pool step", i);
        expect(memcmp(got, y + t * SLOTS * out, SLOTS * out * sizeof *got) == 0, "pool differs", i);
    }
    for (size_t j = 0; j < SLOTS; j++) {
        expect(sgru_pool_save(pool, slots[j], blob, bytes) == SGRU_OK, "pool save", i);
        expect(memcmp(blob, saved + j * bytes, bytes) == 0, "pool state differs", i);
    }
    const void *in[] = {x};
    void *outs[] = {got};
    float *bad_x = malloc(SLOTS * frame * sizeof *bad_x);
    for (size_t j = 0; j < SLOTS;
         j++) { /* whichever slot's frame it is, on whichever thread, it is told and nothing moves */
        const void *bad_in[] = {bad_x};
        memcpy(bad_x, x, SLOTS * frame * sizeof *bad_x);
        bad_x[j * frame + below((uint32_t)frame)] = NAN;
        expect(sgru_pool_step(pool, SLOTS, slots, bad_in, outs, &bad) == SGRU_E_NONFINITE && bad == j, "a NaN", i);
        expect(sgru_pool_save(pool, slots[j], blob, bytes) == SGRU_OK, "pool save after a NaN", i);
        expect(memcmp(blob, saved + j * bytes, bytes) == 0, "a slot has moved with a NaN", i);
    }
    sgru_slot twice[] = {slots[0], slots[1], slots[0]};
    expect(sgru_pool_step(pool, 3, twice, in, outs, &bad) == SGRU_E_SLOT && bad == 2, "a slot that stands twice", i);
    sgru_pool_close(pool, slots[1]);
    expect(sgru_pool_step(pool, 2, twice, in, outs, &bad) == SGRU_E_SLOT && bad == 1, "a closed slot", i);
    expect(sgru_pool_reset(pool, slots[1]) == SGRU_E_SLOT, "reset of a closed slot", i);
    free(memory), free(blob), free(got), free(bad_x);
}

static void check_stream(const sgru_model *m, unsigned i, sgru_workers *workers, size_t frame, const float *x,
                         size_t out, const float *y)
{
    size_t need = sgru_stream_size(m, 1);
    void *memory = memory_of(need);
    sgru_stream *s = sgru_stream_init(memory, need, m, 1, 0);
    float *got = malloc(out * sizeof *got);
    sgru_stream_use(s, workers);
    for (size_t t = 0; t < STEPS; t++) {
        const void *in[] = {x + t * SLOTS * frame};
        void *outs[] = {got};
        expect(sgru_step(s, in, outs) == SGRU_OK, "step on threads", i);
        expect(memcmp(got, y + t * SLOTS * out, out * sizeof *got) == 0, "threads differ", i);
    }
    free(memory), free(got);
}

static void check(unsigned i, sgru_workers *const *workers, size_t n_workers)
{
    gru c = random_gru();
    if (below(3) == 0) { /* large enough to be shared */
        drop(&c);
        c.H = below(2) ? 160 + 16 * below(2) : 150 + below(30), c.I = 100 + below(60), c.B = 1;
        float scale = 1.7320508f / (float)c.H;
        c.w = randoms((size_t)3 * c.H * c.I, scale), c.r = randoms((size_t)3 * c.H * c.H, scale);
        c.bias_x = randoms(3 * c.H, 0.5f), c.bias_h = randoms(c.H, 0.5f);
        c.h0 = randoms(c.H, 1.0f), c.x = randoms(c.I, 1.0f);
    }
    size_t size, frame = (size_t)c.B * c.I, out = (size_t)c.B * c.H;
    unsigned char *bytes = build(&c, 1, 0, c.B, 0, &size);
    sgru_model m;
    expect(sgru_model_open(&m, bytes, size) == SGRU_OK, "image refused", i);
    float *x = randoms(STEPS * SLOTS * frame, 2.0f), *y = malloc(STEPS * SLOTS * out * sizeof *y);
    unsigned char *saved = malloc(SLOTS * sgru_save_size(&m));
    use_isa("ref");
    run_streams(&m, frame, x, out, y, saved);
    for (unsigned isa = 0; isa_at(isa); isa++) {
        use_isa(isa_at(isa));
        for (size_t w = 0; w < n_workers; w++) {
            check_pool(&m, i, 1 + below(9), workers[w], frame, x, out, y, saved);
            check_stream(&m, i, workers[w], frame, x, out, y);
        }
    }
    drop(&c), free(bytes), free(x), free(y), free(saved);
}

int main(int argc, char **argv)
{
    unsigned count = argc > 1 ? (unsigned)atoi(argv[1]) : 100, seed = argc > 2 ? (unsigned)atoi(argv[2]) : 1;
    rng = 0x9E3779B97F4A7C15u * (seed + 1);
    void *memory[2];
    sgru_threads *threads[2];
    for (unsigned i = 0; i < 2; i++) {
        memory[i] = memory_of(sgru_threads_size(i + 2));
        threads[i] = sgru_threads_start(memory[i], sgru_threads_size(i + 2), i + 2);
        if (!threads[i]) return 2;
    }
    sgru_workers *const workers[] = {NULL, sgru_threads_workers(threads[0]), sgru_threads_workers(threads[1])};
    for (unsigned i = 0; i < count; i++) check(i, workers, 3);
    for (unsigned i = 0; i < 2; i++) sgru_threads_stop(threads[i]), free(memory[i]);
    printf("seed %u: %u passed, %d failed\n", seed, count, failures);
    return failures != 0;
}
