/* The proof that a step is fit for a real-time thread, and its figures.
 *
 *     realtime [IMAGE...]              10,000 steps of each image on each instruction set, 1000 on ref (without images: 1000 of random GRUs of
 *                                      both forms, odd and whole sizes) under seccomp's strict mode, where any system call but read,
 *                                      write and exit kills the process; calls of malloc, free and mutexes counted; the stack
 *                                      painted before and measured after
 *     realtime --jitter [STEPS]        the time of each of 1,000,000 steps of a GRU of H 32 beside as long a wait
 *     realtime --count KIND [ISA]      1000 steps with ordinary, huge, silent, fading, subnormal or nan frames: for callgrind */
#define _GNU_SOURCE
#include <linux/seccomp.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#include "random_gru.h"

enum { STREAMS = 256, FRAMES = 4, STACK = 1 << 18, PAINT = 0xA5 };

/* ---- what a step may not call ---- */

static unsigned long allocations, locks;

#if defined(__GLIBC__) && !defined(__SANITIZE_ADDRESS__)
extern void *__libc_malloc(size_t n), *__libc_calloc(size_t n, size_t each), *__libc_realloc(void *p, size_t n);
extern void __libc_free(void *p);
void *malloc(size_t n) { return allocations++, __libc_malloc(n); }
void *calloc(size_t n, size_t each) { return allocations++, __libc_calloc(n, each); }
void *realloc(void *p, size_t n) { return allocations++, __libc_realloc(p, n); }
void free(void *p) { allocations++, __libc_free(p); }
int pthread_mutex_lock(pthread_mutex_t *mutex) { return locks++, (void)mutex, 0; } /* of one thread */
int pthread_mutex_unlock(pthread_mutex_t *mutex) { return (void)mutex, 0; }
#endif

/* ---- streams and frames ---- */

typedef struct player {
    sgru_model model;
    sgru_stream *stream;
    const char *name;
    void *frames[FRAMES][16], *out[16]; /* ordinary, huge, silent, subnormal */
    size_t stack;
    int failed;
} player;

static player players[STREAMS];
static unsigned n_players;

static float sample(int kind)
{
    float u = uniform(1.0f);
    return kind == 0 ? u : kind == 1 ? 1e30f * u : kind == 2 ? 0.0f : 1e-40f;
}

/* Everything a stream needs, made in advance; 0 where the image is none, or has another kind of inputs. */
static int add_player(const char *name, const unsigned char *bytes, size_t size, const char *isa)
{
    player *p = &players[n_players];
    sgru_tensor_info info;
    if (n_players == STREAMS || sgru_model_open(&p->model, bytes, size) || sgru_set_isa(isa)) return 0;
    if (p->model.n_inputs > 16 || p->model.n_outputs > 16) return 0;
    size_t need = sgru_stream_size(&p->model, 1);
    p->name = name;
    p->stream = sgru_stream_init(aligned_alloc(64, need), need, &p->model, 1, SGRU_PASS_NONFINITE);
    for (uint32_t i = 0; i < p->model.n_inputs; i++)
        for (int kind = 0; kind < FRAMES; kind++) {
            sgru_tensor(&p->model, SGRU_INPUT, i, &info);
            float *x = p->frames[kind][i] = calloc(1, info.bytes);
            if (info.dtype == SGRU_F32)
                for (size_t j = 0; j < info.bytes / 4; j++) x[j] = sample(kind);
        }
    for (uint32_t i = 0; i < p->model.n_outputs; i++) {
        sgru_tensor(&p->model, SGRU_OUTPUT, i, &info);
        p->out[i] = calloc(1, info.bytes);
    }
    n_players++;
    return p->stream != NULL;
}

static unsigned char *build_random(uint32_t form, uint32_t H, uint32_t I, size_t *size)
{
    gru c = random_gru();
    c.lbr = form & 1, c.T = c.B = 1;
    if (H) drop(&c), c = random_gru();
    while (H && (c.H != H || c.I < I || !c.lbr || c.f != F_SIGMOID || c.g != F_TANH)) drop(&c), c = random_gru();
    unsigned char *bytes = build(&c, 1, 0, 1, 0, size);
    drop(&c);
    return bytes;
}

static unsigned char *read_file(const char *path, size_t *size)
{
    struct stat about;
    FILE *file = fopen(path, "rb");
    if (!file || fstat(fileno(file), &about)) return NULL;
    unsigned char *bytes = aligned_alloc(64, round_up((size_t)about.st_size, 64));
    *size = fread(bytes, 1, (size_t)about.st_size, file);
    fclose(file);
    return bytes;
}

/* ---- the stack ---- */

static ucontext_t home, away;
static player *on_trial;

static void one_step(void)
{
    on_trial->failed = sgru_step(on_trial->stream, (const void *const *)on_trial->frames[0], on_trial->out);
}

/* Bytes of stack below one_step() that a step has written. */
static size_t stack_of_step(player *p)
{
    static unsigned char stack[STACK] __attribute__((aligned(64)));
    size_t untouched = 0;
    memset(stack, PAINT, STACK);
    getcontext(&away);
    away.uc_stack.ss_sp = stack, away.uc_stack.ss_size = STACK, away.uc_link = &home;
    on_trial = p;
    makecontext(&away, one_step, 0);
    swapcontext(&home, &away);
    while (untouched < STACK && stack[untouched] == PAINT) untouched++;
    return STACK - untouched;
}

/* ---- without system calls ---- */

static int play(int argc, char **argv)
{
    size_t size, deepest = 0;
    int most = argc > 1 ? 10000 : 1000;
    rng = 20261120;
    for (unsigned k = 0; sgru_available_isa(k); k++) {
        for (uint32_t form = 0; argc == 1 && form < 8; form++) {
            unsigned char *bytes = build_random(form, 0, 0, &size);
            if (!add_player("a random GRU", bytes, size, sgru_available_isa(k))) return 1;
        }
        for (int i = 1; i < argc; i++) {
            unsigned char *bytes = read_file(argv[i], &size);
            if (!bytes || !add_player(argv[i], bytes, size, sgru_available_isa(k)))
                return printf("%s: cannot be played\n", argv[i]), 1;
        }
    }
    for (unsigned i = 0; i < n_players; i++) {
        players[i].stack = stack_of_step(&players[i]);
        if (players[i].stack > deepest) deepest = players[i].stack;
        if (argc > 1)
            printf("%-50s %-7s %6zu bytes of stack\n", players[i].name, sgru_stream_isa(players[i].stream),
                   players[i].stack);
    }
    printf("%u streams, %d steps each, a tenth on ref; stack of a step: at most %zu bytes\n", n_players, most, deepest);
    fflush(stdout);
    if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT)) return 1;
    allocations = locks = 0;
    int failed = 0;
    for (unsigned i = 0; i < n_players; i++) {
        player *p = &players[i];
        int steps = strcmp(sgru_stream_isa(p->stream), "ref") ? most : most / 10; /* the same code, but slow kernels */
        for (int step = 0; step < steps; step++)
            failed |= sgru_step(p->stream, (const void *const *)p->frames[step / 100 % FRAMES], p->out);
    }
    failed |= allocations || locks || deepest >= STACK;
    const char *text = failed ? "0 passed, 1 failed\n" : "0 system calls, 0 allocations, 0 locks\n1 passed, 0 failed\n";
    (void)!write(1, text, strlen(text));
    syscall(SYS_exit, failed);
    return failed;
}

/* ---- the clock ---- */

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static int by_size(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

static void print_times(const char *what, float *ns, size_t n)
{
    qsort(ns, n, sizeof *ns, by_size);
    printf("%-22s p50 %8.0f   p99 %8.0f   p99.99 %8.0f   max %10.0f ns\n", what, (double)ns[n / 2],
           (double)ns[n / 100 * 99], (double)ns[n - 1 - n / 10000], (double)ns[n - 1]);
}

/* A loop that touches no memory. */
static void wait_for(size_t turns)
{
    for (size_t i = 0; i < turns; i++) __asm__ volatile("" : : "r"(i));
}

/* Turns that take as long as a step does when nothing comes between. */
static size_t turns_of_a_step(const player *p)
{
    double step = 1e9, wait = 1e9;
    for (int i = 0; i < 1000; i++) {
        double a = now();
        sgru_step(p->stream, (const void *const *)p->frames[0], p->out);
        double b = now();
        wait_for(10000);
        double c = now();
        if (b - a < step) step = b - a;
        if (c - b < wait) wait = c - b;
    }
    return (size_t)(step / wait * 10000);
}

/* Steps and turns that only pass as much time alternate: both see the same machine. */
static int time_steps(size_t n)
{
    size_t size;
    rng = 20261120;
    float *step_ns = malloc(n * sizeof *step_ns), *empty_ns = malloc(n * sizeof *empty_ns);
    unsigned char *bytes = build_random(1, 32, 16, &size);
    if (!add_player("GRU", bytes, size, "")) return 1;
    player *p = &players[0];
    size_t turns = turns_of_a_step(p);
    for (size_t i = 0; i < n; i++) {
        double a = now();
        wait_for(turns);
        double b = now();
        sgru_step(p->stream, (const void *const *)p->frames[0], p->out);
        step_ns[i] = (float)(now() - b), empty_ns[i] = (float)(b - a);
    }
    printf("%zu steps of a GRU, H 32, on %s\n", n, sgru_stream_isa(p->stream));
    print_times("a step", step_ns, n), print_times("waiting as long", empty_ns, n);
    return 0;
}

/* ---- for callgrind ---- */

static int count_steps(const char *kind, const char *isa)
{
    static const char *const kinds[] = {"ordinary", "huge", "silent", "subnormal", "fading", "nan"};
    size_t size, n = 0;
    int number = 0;
    rng = 20261120;
    while (number < 6 && strcmp(kind, kinds[number])) number++;
    unsigned char *bytes = build_random(1, 32, 16, &size);
    if (number == 6 || !add_player("GRU", bytes, size, isa)) return 1;
    player *p = &players[0];
    sgru_tensor_info info;
    sgru_tensor(&p->model, SGRU_INPUT, 0, &info), n = info.bytes / 4;
    float *x = p->frames[number < 4 ? number : 0][0];
    for (int step = 0; step < 1000; step++) {
        for (size_t j = 0; j < n && number == 4; j++) x[j] *= 0.8f; /* down to nothing, through the subnormals */
        if (number == 5) x[0] = NAN;
        const void *in[] = {x};
        sgru_step(p->stream, in, p->out);
    }
    return 0;
}

int main(int argc, char **argv)
{
    if (argc > 1 && !strcmp(argv[1], "--jitter")) return time_steps(argc > 2 ? strtoull(argv[2], NULL, 0) : 1000000);
    if (argc > 2 && !strcmp(argv[1], "--count")) return count_steps(argv[2], argc > 3 ? argv[3] : "");
    return play(argc, argv);
}
