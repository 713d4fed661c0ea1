/* Several callers: a second call at a time, two threads in one stream, two streams on one team of threads, a child of fork(), a thread
 * in the middle of a step at a fork; and the ids of a pool's slots to their last. For ThreadSanitizer too, without the forks.
 *
 *     callers [steps] */
#include <pthread.h>
#include <stdatomic.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "holds.h"
#include "pool.h"
#include "random_gru.h"
#include "threads/threads.h"

enum { THREADS = 3, SLOTS = 3, PATIENCE = 60 /* seconds for a child */ };

static void *memory_of(size_t size) { return aligned_alloc(64, round_up(size, 64)); }

static sgru_stream *new_stream(const sgru_model *m)
{
    size_t need = sgru_stream_size(m, 1);
    return sgru_stream_init(memory_of(need), need, m, 1, 0);
}

static unsigned char *state_after(const sgru_model *m, const float *x, unsigned steps)
{
    sgru_stream *s = new_stream(m);
    unsigned char *blob = malloc(sgru_save_size(m));
    memcpy(sgru_input(s, 0), x, bytes_of(tensor_of(m, words_of(m)[header_of(m)->lists])));
    for (unsigned i = 0; i < steps; i++) HOLDS(sgru_step_inplace(s) == SGRU_OK);
    HOLDS(sgru_save(s, blob, sgru_save_size(m)) == SGRU_OK);
    free(s);
    return blob;
}

/* Takes `blob`. */
static int is_state(const sgru_stream *s, unsigned char *blob)
{
    size_t size = sgru_save_size(s->model);
    unsigned char *own = malloc(size);
    int same = sgru_save(s, own, size) == SGRU_OK && memcmp(own, blob, size) == 0;
    free(own), free(blob);
    return same;
}

/* ---- a call that finds another in progress ---- */

static uint64_t no_clock(void) { return 0; }

static void try_taken_stream(const sgru_model *m, const float *x)
{
    uint64_t ticks[MOST_OPS + 1];
    size_t size = sgru_save_size(m);
    unsigned char *blob = state_after(m, x, 1), *after = malloc(size);
    sgru_stream *s = new_stream(m);
    const void *in[] = {x};
    void *out[] = {sgru_output(s, 0)};
    HOLDS(sgru_reset(NULL) == SGRU_E_ARGUMENT && sgru_claim(&s->taken));
    HOLDS(sgru_step(s, in, out) == SGRU_E_BUSY && sgru_run(s, 1, in, out) == SGRU_E_BUSY);
    HOLDS(sgru_step_inplace(s) == SGRU_E_BUSY && sgru_reset(s) == SGRU_E_BUSY);
    HOLDS(sgru_save(s, after, size) == SGRU_E_BUSY && sgru_restore(s, blob, size) == SGRU_E_BUSY);
    HOLDS(sgru_profile(s, no_clock, ticks) == SGRU_E_BUSY && sgru_run_part(s, 1, 1, in, out) == SGRU_E_BUSY);
    HOLDS(!sgru_claim(&s->taken));
    sgru_release(&s->taken);
    HOLDS(is_state(s, state_after(m, x, 0)));
    HOLDS(sgru_step(s, in, out) == SGRU_OK && is_state(s, state_after(m, x, 1)));
    HOLDS(sgru_restore(s, blob, size - 1) == SGRU_E_STATE && sgru_restore(s, blob, size) == SGRU_OK);
    HOLDS(sgru_profile(s, no_clock, ticks) == SGRU_OK && sgru_reset(s) == SGRU_OK);
    HOLDS(is_state(s, state_after(m, x, 0)));
    free(s), free(blob), free(after);
}

static sgru_pool *new_pool(const sgru_model *m, size_t capacity, uint32_t tag)
{
    size_t need = sgru_pool_size(m, capacity, 2, 1);
    return sgru_pool_init(memory_of(need), need, m, capacity, 2, 1, tag, 0);
}

static void try_taken_pool(const sgru_model *m, const float *x)
{
    size_t size = sgru_save_size(m), bad;
    unsigned char *before = state_after(m, x, 0), *blob = malloc(size);
    sgru_pool *pool = new_pool(m, SLOTS, 1);
    sgru_slot slot = sgru_pool_open(pool);
    const void *in[] = {x};
    void *out[] = {sgru_output(pool->engines[0], 0)};
    HOLDS(slot && sgru_claim(&pool->taken));
    HOLDS(sgru_pool_step(pool, 1, &slot, in, out, &bad) == SGRU_E_BUSY && bad == 1);
    HOLDS(!sgru_pool_open(pool) && sgru_pool_close(pool, slot) == SGRU_E_BUSY);
    HOLDS(sgru_pool_reset(pool, slot) == SGRU_E_BUSY && sgru_pool_save(pool, slot, blob, size) == SGRU_E_BUSY);
    HOLDS(sgru_pool_restore(pool, slot, before, size) == SGRU_E_BUSY && sgru_pool_use(pool, NULL) == SGRU_E_BUSY);
    sgru_release(&pool->taken);
    HOLDS(pool->open == 1 && sgru_pool_save(pool, slot, blob, size) == SGRU_OK && !memcmp(blob, before, size));
    for (int i = 0; i < 2; i++) { /* every error gives the pool back */
        HOLDS(sgru_pool_close(pool, slot ^ 1) == SGRU_E_SLOT && sgru_pool_reset(pool, 0) == SGRU_E_SLOT);
        HOLDS(sgru_pool_save(pool, slot ^ 1, blob, size) == SGRU_E_SLOT);
        HOLDS(sgru_pool_save(pool, slot, blob, size - 1) == SGRU_E_ARGUMENT);
        HOLDS(sgru_pool_restore(pool, 0, blob, size) == SGRU_E_SLOT);
        HOLDS(sgru_pool_restore(pool, slot, blob, size - 1) == SGRU_E_STATE);
        HOLDS(sgru_pool_step(pool, 1, (sgru_slot[]){slot ^ 1}, in, out, NULL) == SGRU_E_SLOT);
        HOLDS(sgru_pool_step(pool, 1, &slot, in, out, NULL) == SGRU_OK && sgru_pool_use(pool, NULL) == SGRU_OK);
        HOLDS(sgru_pool_restore(pool, slot, before, size) == SGRU_OK && sgru_pool_reset(pool, slot) == SGRU_OK);
    }
    HOLDS(sgru_pool_close(pool, slot) == SGRU_OK && pool->open == 0);
    free(pool), free(before), free(blob);
}

/* A run in parts has the bits of one; an error, and sgru_undo(), go back to where the run began. */
static void try_parts(const sgru_model *m, const float *x)
{
    enum { FRAMES = 7 };
    sgru_stream *s = new_stream(m);
    size_t n = s->inputs[0].floats;
    float *xs = malloc(FRAMES * n * sizeof *xs), *ys = malloc(FRAMES * s->outputs[0].bytes);
    for (size_t i = 0; i < FRAMES * n; i++) xs[i] = x[i % n];
    const void *in[] = {xs};
    void *out[] = {ys};
    HOLDS(sgru_run_part(s, 0, 3, in, out) == SGRU_OK && is_state(s, state_after(m, x, 3)));
    HOLDS(sgru_run_part(s, 3, FRAMES, in, out) == SGRU_OK && is_state(s, state_after(m, x, FRAMES)));
    sgru_undo(s);
    HOLDS(is_state(s, state_after(m, x, 0)));
    HOLDS(sgru_run(s, 2, in, out) == SGRU_OK && sgru_run_part(s, 0, 2, in, out) == SGRU_OK);
    xs[5 * n] = NAN;
    HOLDS(sgru_run_part(s, 2, FRAMES, in, out) == SGRU_E_NONFINITE && is_state(s, state_after(m, x, 2)));
    free(s), free(xs), free(ys);
}

/* ---- threads ---- */

typedef struct caller {
    sgru_stream *stream;
    unsigned steps, done, busy, wrong;
} caller;

static void *call_on(void *argument)
{
    caller *c = argument;
    for (unsigned i = 0; i < c->steps; i++) {
        int status = sgru_step_inplace(c->stream);
        c->done += status == SGRU_OK, c->busy += status == SGRU_E_BUSY;
        c->wrong += status != SGRU_OK && status != SGRU_E_BUSY;
    }
    return NULL;
}

/* Callers side by side; those without a stream of their own share one. All that got through are in the state, no other. */
static void try_threads(const sgru_model *m, const float *x, unsigned steps, sgru_workers *workers, int shared)
{
    pthread_t threads[THREADS];
    caller callers[THREADS];
    unsigned done = 0, busy = 0;
    for (unsigned i = 0; i < THREADS; i++) {
        callers[i] = (caller){.stream = shared && i ? callers[0].stream : new_stream(m), .steps = steps};
        memcpy(sgru_input(callers[i].stream, 0), x, callers[i].stream->inputs[0].bytes);
        sgru_stream_use(callers[i].stream, workers);
    }
    for (unsigned i = 0; i < THREADS; i++) HOLDS(!pthread_create(&threads[i], NULL, call_on, &callers[i]));
    for (unsigned i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
    for (unsigned i = 0; i < THREADS; i++) {
        done += callers[i].done, busy += callers[i].busy;
        HOLDS(callers[i].wrong == 0 && callers[i].done + callers[i].busy == steps);
        if (!shared) HOLDS(callers[i].busy == 0 && is_state(callers[i].stream, state_after(m, x, steps)));
    }
    if (shared) HOLDS(is_state(callers[0].stream, state_after(m, x, done)));
    for (unsigned i = 0; i < (shared ? 1 : THREADS); i++) free(callers[i].stream);
}

/* ---- processes ---- */

#ifndef __SANITIZE_THREAD__ /* it allows no threads in a child */

/* Without the exits of sanitizers, which look for the parent's threads. */
static void leave(void) { fflush(stdout), _exit(failed != 0); }

static int waits_well(pid_t child)
{
    int status;
    return waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

/* Four steps of a stream on the team, here and in a child, a child's child, and here again; each ends the team, in its own process. */
static void try_fork(const sgru_model *m, const float *x, unsigned generation)
{
    void *memory = memory_of(sgru_threads_size(THREADS));
    sgru_threads *team = sgru_threads_start(memory, sgru_threads_size(THREADS), THREADS);
    sgru_stream *s = new_stream(m);
    memcpy(sgru_input(s, 0), x, s->inputs[0].bytes);
    sgru_stream_use(s, sgru_threads_workers(team));
    unsigned steps = 0;
    for (; steps < 2 * generation; steps++) HOLDS(sgru_step_inplace(s) == SGRU_OK);
    fflush(stdout);
    pid_t parent = getpid(), child = 0;
    for (unsigned i = 0; i < 2; i++) /* the second is the child's, and nobody's where the first made none */
        if ((i == 0 || child == 0) && (child = fork()) == 0) {
            alarm(PATIENCE);
            for (unsigned last = steps + generation; steps < last; steps++) HOLDS(sgru_step_inplace(s) == SGRU_OK);
            HOLDS(is_state(s, state_after(m, x, steps)));
        }
    if (child) HOLDS(waits_well(child));
    HOLDS(sgru_step_inplace(s) == SGRU_OK && is_state(s, state_after(m, x, steps + 1)));
    sgru_threads_stop(team);
    free(memory), free(s);
    if (getpid() != parent) leave();
}

/* The child finds the stream as it was left: taken. Its team works on for others. */
static void try_fork_within_a_step(const sgru_model *m, const float *x)
{
    void *memory = memory_of(sgru_threads_size(2));
    sgru_threads *team = sgru_threads_start(memory, sgru_threads_size(2), 2);
    caller long_one = {.stream = new_stream(m), .steps = 20000};
    sgru_stream *other = new_stream(m);
    pthread_t thread;
    sgru_stream_use(long_one.stream, sgru_threads_workers(team)), sgru_stream_use(other, sgru_threads_workers(team));
    memcpy(sgru_input(other, 0), x, other->inputs[0].bytes);
    memcpy(sgru_input(long_one.stream, 0), x, other->inputs[0].bytes);
    fflush(stdout);
    HOLDS(!pthread_create(&thread, NULL, call_on, &long_one));
    for (int i = 0; i < 20; i++) {
        pid_t child = fork();
        if (child == 0) {
            alarm(PATIENCE);
            int status = sgru_step_inplace(long_one.stream);
            HOLDS(status == SGRU_OK || status == SGRU_E_BUSY);
            HOLDS(sgru_step_inplace(other) == SGRU_OK && is_state(other, state_after(m, x, 1)));
            sgru_threads_stop(team);
            leave();
        }
        HOLDS(waits_well(child));
    }
    pthread_join(thread, NULL);
    HOLDS(long_one.done == long_one.steps && is_state(long_one.stream, state_after(m, x, long_one.done)));
    sgru_threads_stop(team);
    free(memory), free(other), free(long_one.stream);
}

#endif

/* ---- threads that sleep ---- */

static pthread_t own_thread;
static atomic_int others;

/* The caller's own parts last until another thread has one, or for five seconds. */
static void meet(void *work, unsigned i)
{
    (void)work, (void)i;
    if (!pthread_equal(pthread_self(), own_thread)) atomic_fetch_add(&others, 1);
    for (int ms = 0; ms < 5000 && !atomic_load(&others); ms++) usleep(1000);
}

static void try_sleepers(sgru_workers *workers)
{
    own_thread = pthread_self();
    for (int i = 0; i < 3; i++) {
        atomic_store(&others, 0);
        usleep(50000); /* they have stopped to look for work */
        workers->run(workers, meet, NULL);
        HOLDS(atomic_load(&others) > 0);
    }
    clock_t before = clock(); /* of the processor, for all threads */
    usleep(200000);
    HOLDS(clock() - before < CLOCKS_PER_SEC / 50);
}

/* ---- ids ---- */

static void try_ids(const sgru_model *m)
{
    HOLDS(place_bits_of(1) == 0 && place_bits_of(2) == 1 && place_bits_of(3) == 2 &&
          place_bits_of((size_t)1 << 24) == 24);
    for (unsigned bits = 0; bits <= MOST_PLACE_BITS; bits++) {
        HOLDS(opening_bits_of(bits) >= 40 && opening_bits_of(bits) + bits <= 64);
        HOLDS((opening_bits_of(bits) + bits <= 63) == (bits <= 23));
        uint64_t last = UINT64_MAX >> (64 - opening_bits_of(bits));
        HOLDS(next_opening(last - 1, bits) == last && next_opening(last, bits) == 1 && next_opening(0, bits) == 1);
    }
    for (size_t capacity = 1; capacity <= 9; capacity += capacity) {
        sgru_pool *pool = new_pool(m, capacity, 0x7FFF), *other = new_pool(m, capacity, 0x7FFE);
        uint64_t last = UINT64_MAX >> (64 - opening_bits_of(pool->place_bits));
        sgru_slot first = sgru_pool_open(pool), foreign = sgru_pool_open(other), before = 0;
        HOLDS(first != foreign && sgru_pool_close(pool, foreign) == SGRU_E_SLOT);
        HOLDS(sgru_pool_close(pool, first) == SGRU_OK);
        pool->opened = last - 5; /* the last ones, and the first once more */
        for (int i = 0; i < 10; i++) {
            sgru_slot id = sgru_pool_open(pool);
            HOLDS(id && id != before && id >> 63 == 0 &&
                  (id >> pool->place_bits) == (i < 5 ? last - 4 + i : (uint64_t)i - 4));
            HOLDS(sgru_pool_close(pool, before) == SGRU_E_SLOT && sgru_pool_close(pool, id) == SGRU_OK);
            HOLDS(sgru_pool_reset(pool, id) == SGRU_E_SLOT);
            before = id;
        }
        free(pool), free(other);
    }
}

/* The number of a pool's steps begins again after 2^32: no slot was in the new first one, and what lies behind the slots is left alone. */
static void try_step_numbers(const sgru_model *m, const float *x)
{
    size_t size = sgru_save_size(m);
    unsigned char *before = malloc(size), *after = malloc(size);
    sgru_pool *pool = new_pool(m, 4, 0);
    sgru_slot first = sgru_pool_open(pool), second = sgru_pool_open(pool);
    const void *in[] = {x};
    void *out[] = {sgru_output(pool->engines[0], 0)};
    for (int i = 0; i < 2; i++) HOLDS(sgru_pool_step(pool, 1, &first, in, out, NULL) == SGRU_OK);
    HOLDS(sgru_pool_step(pool, 1, &second, in, out, NULL) == SGRU_OK && pool->step == 3);
    pool->places[0].step = 1, pool->places[1].step = 2, pool->step = UINT32_MAX;
    HOLDS(sgru_pool_save(pool, first, before, size) == SGRU_OK);
    HOLDS(sgru_pool_step(pool, 1, &second, in, out, NULL) == SGRU_OK && pool->step == 1);
    HOLDS(sgru_pool_save(pool, first, after, size) == SGRU_OK && !memcmp(before, after, size));
    HOLDS(pool->places[0].step == 0 && sgru_pool_step(pool, 1, &first, in, out, NULL) == SGRU_OK && pool->step == 2);
    free(pool), free(before), free(after);
}

int main(int argc, char **argv)
{
    unsigned steps = argc > 1 ? (unsigned)atoi(argv[1]) : 2000;
    size_t size;
    rng = 20261127;
    gru c = random_gru();
    while (c.H % 16 || c.B != 1 || !c.lbr || !c.has_bias || c.reverse || c.f != F_SIGMOID) drop(&c), c = random_gru();
    drop(&c);
    c.H = 160, c.I = 120; /* large enough to be shared */
    c.w = randoms((size_t)3 * c.H * c.I, 0.1f), c.r = randoms((size_t)3 * c.H * c.H, 0.1f);
    c.bias_x = randoms(3 * c.H, 0.5f), c.bias_h = randoms(c.H, 0.5f);
    c.h0 = randoms(c.H, 1.0f), c.x = randoms(c.I, 1.0f);
    unsigned char *bytes = build(&c, 1, 0, 1, 0, &size);
    sgru_model m;
    HOLDS(sgru_model_open(&m, bytes, size) == SGRU_OK);
    try_taken_stream(&m, c.x), try_taken_pool(&m, c.x), try_parts(&m, c.x), try_ids(&m);
    try_step_numbers(&m, c.x);
    void *memory = memory_of(sgru_threads_size(2));
    sgru_threads *team = sgru_threads_start(memory, sgru_threads_size(2), 2);
    sgru_workers *const workers[] = {NULL, sgru_threads_workers(team)};
    for (int i = 0; i < 4; i++) try_threads(&m, c.x, steps, workers[i % 2], i / 2);
    try_sleepers(workers[1]);
    sgru_threads_stop(team);
#ifndef __SANITIZE_THREAD__
    for (unsigned generation = 0; generation < 3; generation++) try_fork(&m, c.x, generation);
    try_fork_within_a_step(&m, c.x);
#endif
    drop(&c), free(bytes), free(memory);
    printf("%u passed, %u failed\n", passed, failed);
    return failed != 0;
}
