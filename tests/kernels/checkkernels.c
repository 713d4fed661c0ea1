/* Every function of the table on every instruction set of this machine against `ref`, bit for bit, where it hurts: rows of every
 * length from nothing to a few vectors, random shapes, each buffer between two pages that cannot be touched and pressed against
 * one of them, so that it starts at any multiple of four bytes; in place where kernels.h allows it; with infinities, NaNs, zeros of
 * both signs, subnormals and numbers at the edges of the range. No function may change the modes of the floating-point
 * environment. A signal is caught and named: the function, the instruction set, the shape, the seed that brings it back.
 *
 *     checkkernels [count [seed]]
 *     checkkernels --bench             nanoseconds of a call of each function */
#define _GNU_SOURCE
#include <fenv.h>
#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "kernels/kernels.h"
#include "packing.h"
#include "random.h"

enum { PAGE = 1 << 16, ROOM = 1 << 19, BUFFERS = 12, LONGEST = 70 };

static unsigned passed, failed;
static uint64_t seed;
static float *starts[BUFFERS], *ends[BUFFERS]; /* where the forbidden pages around a buffer end and begin */
static unsigned at_start;                      /* a bit for each buffer: which of the two it touches */

static void make_buffers(void)
{
    for (int i = 0; i < BUFFERS; i++) {
        char *p = mmap(NULL, ROOM + 2 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (p == MAP_FAILED || mprotect(p + PAGE, ROOM, PROT_READ | PROT_WRITE)) exit(2);
        starts[i] = (float *)(void *)(p + PAGE), ends[i] = (float *)(void *)(p + PAGE + ROOM);
    }
}

static float *place(int buffer, size_t n) { return at_start >> buffer & 1 ? starts[buffer] : ends[buffer] - n; }

/* ---- what is on trial, for the reports ---- */

static const char *function, *isa;
static unsigned variant;
static char shape[160];
static sigjmp_buf escape;

static void complain(const char *what)
{
    printf("%s %u on %s (%s): %s; seed %llu\n", function, variant, isa, shape, what, (unsigned long long)seed);
    failed++;
}

static void caught(int signal)
{
    complain(strsignal(signal));
    siglongjmp(escape, 1);
}

static void catch_signals(void)
{
    static const int signals[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT};
    struct sigaction action = {.sa_handler = caught, .sa_flags = SA_NODEFER};
    for (size_t i = 0; i < sizeof signals / sizeof *signals; i++) sigaction(signals[i], &action, NULL);
}

#if defined(__SSE2__)
#include <xmmintrin.h>
static unsigned modes(void) { return _mm_getcsr() & ~0x3Fu; } /* all but the flags */
#else
static unsigned modes(void) { return (unsigned)fegetround(); }
#endif

/* One call of a function of k, and a look at the modes after it. */
static unsigned modes_before;
static void begin(const char *name, unsigned number, const sgru_kernels *k)
{
    function = name, variant = number, isa = k->name, modes_before = modes();
}
static void end(void)
{
    if (modes() != modes_before) complain("other floating-point modes after the call");
}
#define CALL(what, number, ...) begin(what, (unsigned)(number), k), (__VA_ARGS__), end()

/* A float of any bits: now and then a NaN of any sign and payload, which a weight can be. */
static float any_bits(uint32_t bits)
{
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

/* Finite numbers are mostly tame. */
static float any(int tame)
{
    static const float edges[] = {0.0f,
                                  -0.0f,
                                  1.0f,
                                  -1.0f,
                                  0x1p-149f,
                                  -0x1p-126f,
                                  0x1.fffffep127f,
                                  -0x1.fffffep127f,
                                  0x1p-64f,
                                  0x1.fffffep-65f,
                                  88.7228317f,
                                  -87.33f,
                                  0x1p23f,
                                  8388607.5f,
                                  0.6f,
                                  -0.5f,
                                  1.5f,
                                  2.5f,
                                  0x1p24f,
                                  -1e10f,
                                  20.0f,
                                  0x1p-20f,
                                  1e-30f,
                                  -3.0f};
    uint32_t choice = below(tame ? 64 : 8);
    if (choice == 0) return below(2) ? INFINITY : -INFINITY;
    if (choice == 1) return any_bits(0x7F800001u + below(0x7FFFFE) + (below(2) << 31));
    if (choice < 5) return edges[below(24)];
    if (choice > 5 || tame) return uniform(4.0f);
    return any_bits(below(1u << 31) << 1 | below(2));
}

/* n floats next to a forbidden page. */
static float *input(int buffer, size_t n, int tame)
{
    float *p = place(buffer, n);
    for (size_t i = 0; i < n; i++) p[i] = any(tame);
    return p;
}

/* A NaN's sign and payload are the machine's own. */
static void compare(size_t n, const float *want, const float *got)
{
    for (size_t i = 0; i < n; i++) {
        char text[100];
        if ((want[i] != want[i] && got[i] != got[i]) || memcmp(want + i, got + i, 4) == 0) continue;
        snprintf(text, sizeof text, "element %zu is %a, of ref %a", i, (double)got[i], (double)want[i]);
        complain(text);
        return;
    }
    passed++;
}

static const sgru_kernels *ref(void) { return &sgru_kernels_ref; }

/* The outputs of ref and of k, both next to a forbidden page. */
#define WANT place(0, n)
#define GOT place(1, n)

static void try_rows(const sgru_kernels *k, size_t n)
{
    int tame = (int)below(2);
    float *v[6], alpha = any(1), beta = any(1);
    snprintf(shape, sizeof shape, "n %zu", n);
    for (int i = 0; i < 6; i++) v[i] = input(2 + i, n, tame);
    for (unsigned f = 0; f < F_COUNT; f++) {
        if (f == F_NOT) continue;
        ref()->unary(f, alpha, beta, n, v[0], WANT);
        for (size_t i = 0; i < n; i++)
            if (v[0][i] != v[0][i] && WANT[i] == WANT[i])
                function = "unary", variant = f, complain("not a NaN of a NaN");
        CALL("unary", f, k->unary(f, alpha, beta, n, v[0], GOT)), compare(n, WANT, GOT);
        memcpy(GOT, v[0], n * 4);
        CALL("unary in place", f, k->unary(f, alpha, beta, n, GOT, GOT)), compare(n, WANT, GOT);
    }
    for (unsigned f = 0; n && f < B_FLOATS; f++)
        for (size_t steps = 0; steps < 4; steps++) {
            size_t a = steps & 1, b = steps >> 1;
            const float *pa = a ? v[0] : v[0] + n - 1, *pb = b ? v[1] : v[1] + n - 1; /* one value for all: the last */
            ref()->binary(f, n, pa, a, pb, b, WANT);
            CALL("binary", f, k->binary(f, n, pa, a, pb, b, GOT)), compare(n, WANT, GOT);
            memcpy(GOT, v[0], n * 4);
            if (a) CALL("binary over a", f, k->binary(f, n, GOT, 1, pb, b, GOT)), compare(n, WANT, GOT);
            memcpy(GOT, v[1], n * 4);
            if (b) CALL("binary over b", f, k->binary(f, n, pa, a, GOT, 1, GOT)), compare(n, WANT, GOT);
        }
    for (unsigned f = 0; f <= R_SQUARES; f++) {
        float want = ref()->reduce(f, n, v[0]), got = 0;
        CALL("reduce", f, got = k->reduce(f, n, v[0])), compare(1, &want, &got);
    }
    ref()->muladd(n, v[0], v[1], v[2], WANT);
    for (unsigned over = 0; over < 4; over++) {
        if (over) memcpy(GOT, v[over - 1], n * 4);
        const float *p[] = {over == 1 ? GOT : v[0], over == 2 ? GOT : v[1], over == 3 ? GOT : v[2]};
        CALL("muladd over", over, k->muladd(n, p[0], p[1], p[2], GOT)), compare(n, WANT, GOT);
    }
    for (unsigned over = 0; over < 2; over++) { /* the state in place, or not */
        ref()->gru_blend(n, v[0], v[1], v[2], WANT), memcpy(GOT, v[2], n * 4);
        CALL("gru_blend", over, k->gru_blend(n, v[0], v[1], over ? GOT : v[2], GOT)), compare(n, WANT, GOT);
        ref()->gru_gates(n, v[0], v[1], v[2], v[3], v[4], WANT), memcpy(GOT, v[4], n * 4);
        CALL("gru_gates", over, k->gru_gates(n, v[0], v[1], v[2], v[3], over ? GOT : v[4], GOT));
        compare(n, WANT, GOT);
    }
    float *c = place(8, n), *d = place(9, n);
    memcpy(c, v[4], n * 4), memcpy(d, v[4], n * 4);
    ref()->lstm_gates(n, v[0], v[1], v[2], v[3], c, WANT);
    CALL("lstm_gates", 0, k->lstm_gates(n, v[0], v[1], v[2], v[3], d, GOT)), compare(n, c, d), compare(n, WANT, GOT);
    ref()->tidy(n, v[0], WANT);
    CALL("tidy", 0, k->tidy(n, v[0], GOT)), compare(n, WANT, GOT);
    memcpy(GOT, v[0], n * 4);
    CALL("tidy in place", 0, k->tidy(n, GOT, GOT)), compare(n, WANT, GOT);
    int finite = 0;
    CALL("finite", 0, finite = k->finite(n, v[0]));
    if (finite != ref()->finite(n, v[0])) complain("not what ref says");
    for (size_t i = 0; i < n; i++) v[0][i] = uniform(1e30f); /* nothing but finite numbers, then one that is not */
    CALL("finite", 1, finite = k->finite(n, v[0]));
    if (!finite) complain("finite numbers only");
    if (n) v[0][below((uint32_t)n)] = below(2) ? NAN : -INFINITY;
    CALL("finite", 2, finite = k->finite(n, v[0]));
    if (n && finite) complain("one number is not finite");
}

static void try_affine(const sgru_kernels *k)
{
    size_t M = 1 + below(90), K = 1 + below(20), C = 1 + below(9), ld_x = K + below(3), ld_y = M + below(3),
           n = (C - 1) * ld_y + M;
    float *w = input(2, sgru_packed_count(M, K), 1), *x = input(3, (C - 1) * ld_x + K, 1);
    size_t each = below(2), n_init = each ? n : M;
    float *init = below(4) ? input(4, n_init, 1) : NULL;
    snprintf(shape, sizeof shape, "M %zu, K %zu, %zu columns, ld_x %zu, ld_y %zu, init %d", M, K, C, ld_x, ld_y,
             !!init);
    memset(WANT, 0, n * 4), memset(GOT, 0, n * 4);
    ref()->affine(M, K, C, w, init, each * ld_y, x, ld_x, WANT, ld_y);
    CALL("affine", each, k->affine(M, K, C, w, init, each * ld_y, x, ld_x, GOT, ld_y));
    compare(n, WANT, GOT);
    if (!init || !each) return;
    memcpy(GOT, init, n * 4);
    for (size_t i = 0; i < n; i++)
        if (i % ld_y >= M) GOT[i] = 0;
    CALL("affine over init", 0, k->affine(M, K, C, w, GOT, ld_y, x, ld_x, GOT, ld_y));
    compare(n, WANT, GOT);
}

static void try_affine_f16(const sgru_kernels *k)
{
    size_t M = 1 + below(90), K = 1 + below(20), C = 1 + below(9), ld_x = K + below(3), ld_y = M + below(3),
           n = (C - 1) * ld_y + M, halves = sgru_packed_count(M, K);
    uint16_t *w = (uint16_t *)(void *)ends[2] - halves;
    for (size_t i = 0; i < halves; i++) w[i] = below(8) ? half_of(uniform(2.0f)) : (uint16_t)below(0x7C01);
    float *x = input(3, (C - 1) * ld_x + K, 1), *init = below(4) ? input(4, M, 1) : NULL;
    memset(WANT, 0, n * 4), memset(GOT, 0, n * 4);
    snprintf(shape, sizeof shape, "M %zu, K %zu, %zu columns, ld_x %zu, ld_y %zu", M, K, C, ld_x, ld_y);
    ref()->affine_f16(M, K, C, w, init, 0, x, ld_x, WANT, ld_y);
    CALL("affine_f16", 0, k->affine_f16(M, K, C, w, init, 0, x, ld_x, GOT, ld_y)), compare(n, WANT, GOT);
}

/* Columns of every size, with the largest possible sums now and then; the integers are held against plain loops. */
static void try_affine_i8(const sgru_kernels *k)
{
    size_t M = 1 + below(below(8) ? 150 : 20), K = 1 + below(below(4) ? 20 : 300), C = 1 + below(below(2) ? 3 : 20);
    size_t ld_x = K + below(3), ld_y = M + below(3), n = (C - 1) * ld_y + M, bytes = sgru_packed_bytes_i8(M, K);
    size_t q_bytes = C * sgru_q_step(K);
    int extreme = below(8) == 0, each = (int)below(2);
    static int8_t weights[150 * 300];
    static float scales[150];
    for (size_t i = 0; i < M * K; i++) weights[i] = (int8_t)(extreme ? 127 : (int)below(255) - 127);
    for (size_t m = 0; m < M; m++) scales[m] = below(16) ? fabsf(uniform(0.1f)) : any(0);
    unsigned char *w = (unsigned char *)ends[2] - bytes, *q = (unsigned char *)ends[5] - q_bytes,
                  *q_k = (unsigned char *)ends[6] - q_bytes;
    pack_i8(M, K, weights, scales, w);
    float *x = input(3, (C - 1) * ld_x + K, below(4) != 0), *init = below(4) ? input(4, each ? n : M, 1) : NULL;
    for (size_t c = 0; c < C; c++)
        for (size_t i = 0, what = below(8); i < K && what < 4; i++)
            x[c * ld_x + i] = what == 0 ? 0.0f : what == 1 ? uniform(0x1p-95f) : what == 2 ? 3.0f : uniform(2.0f);
    if (below(8) == 0) { /* the smallest maximum that is no zero */
        for (size_t i = 0; i < K; i++) x[i] = uniform(0x1p-97f);
        x[below((uint32_t)K)] = below(2) ? 0x1p-96f : -0x1p-96f;
    }
    memset(WANT, 0, n * 4), memset(GOT, 0, n * 4);
    snprintf(shape, sizeof shape, "M %zu, K %zu, %zu columns, ld_x %zu, ld_y %zu", M, K, C, ld_x, ld_y);
    ref()->quantise(K, C, x, ld_x, q), ref()->affine_i8(M, K, C, (int8_t *)w, init, each ? ld_y : 0, q, WANT, ld_y);
    CALL("quantise", 0, k->quantise(K, C, x, ld_x, q_k));
    for (size_t c = 0; c < C; c++) compare(1, (float *)(q + c * sgru_q_step(K)), (float *)(q_k + c * sgru_q_step(K)));
    CALL("affine_i8", each, k->affine_i8(M, K, C, (int8_t *)w, init, each ? ld_y : 0, q_k, GOT, ld_y));
    compare(n, WANT, GOT);
    size_t c = below((uint32_t)C), m = below((uint32_t)M);
    float most = 0, s = 0;
    int64_t sum = 0;
    for (size_t i = 0; i < K; i++) most = fmaxf(most, fabsf(x[c * ld_x + i]));
    memcpy(&s, q + c * sgru_q_step(K), 4);
    for (size_t i = 0; i < K && s > 0.0f; i++)
        sum += (int64_t)nearbyintf(x[c * ld_x + i] * (127 / most)) * weights[m * K + i];
    float want = fmaf((float)sum, scales[m] * s, init ? init[(each ? c * ld_y : 0) + m] : 0.0f);
    compare(1, &want, WANT + c * ld_y + m);
}

static void try_gru_sums(const sgru_kernels *k)
{
    size_t H = 16 * (1 + below(8)), I = 1 + below(40), n = 3 * H;
    float *w = input(2, sgru_packed_count(n, I), 1), *r = input(3, sgru_packed_count(n, H), 1), *x = input(4, I, 1),
          *h = input(5, H, 1), *bias_x = below(4) ? input(6, n, 1) : NULL, *bias_h = below(4) ? input(7, H, 1) : NULL;
    float *want_nh = place(8, H), *got_nh = place(9, H);
    snprintf(shape, sizeof shape, "H %zu, I %zu, biases %d %d", H, I, !!bias_x, !!bias_h);
    ref()->gru_sums(H, I, w, r, bias_x, bias_h, x, h, WANT, want_nh, 0);
    for (int descending = 0; descending < 2; descending++) {
        CALL("gru_sums", descending, k->gru_sums(H, I, w, r, bias_x, bias_h, x, h, GOT, got_nh, descending));
        compare(n, WANT, GOT), compare(H, want_nh, got_nh);
    }
}

static void try_matmul(const sgru_kernels *k)
{
    size_t M = 1 + below(9), N = 1 + below(90), K = 1 + below(20), ld_a = below(4) ? K + below(3) : below(3),
           ld_b = below(4) ? N + below(3) : below(3), ld_y = N + below(3), n = (M - 1) * ld_y + N;
    float *a = input(2, (M - 1) * ld_a + K, 1), *b = input(3, (K - 1) * ld_b + N, 1);
    memset(WANT, 0, n * 4), memset(GOT, 0, n * 4);
    snprintf(shape, sizeof shape, "M %zu, N %zu, K %zu, ld %zu %zu %zu", M, N, K, ld_a, ld_b, ld_y);
    ref()->matmul(M, N, K, a, ld_a, b, ld_b, WANT, ld_y);
    CALL("matmul", 0, k->matmul(M, N, K, a, ld_a, b, ld_b, GOT, ld_y));
    compare(n, WANT, GOT);
}

static void try_taps(const sgru_kernels *k)
{
    size_t M = 1 + below(9), N = 1 + below(LONGEST), T = below(12), reach = below(30), ld_y = N + below(3),
           n = (M - 1) * ld_y + N;
    sgru_tap taps[12];
    for (size_t t = 0; t < T; t++) taps[t] = (sgru_tap){(uint32_t)t, below((uint32_t)reach + 1)};
    float *x = input(2, reach + N, 1), *w = input(3, M * (T ? T : 1), 1), *init = below(4) ? input(4, M, 1) : NULL;
    memset(WANT, 0, n * 4), memset(GOT, 0, n * 4);
    snprintf(shape, sizeof shape, "M %zu, N %zu, %zu taps, reach %zu, ld_y %zu, init %d", M, N, T, reach, ld_y, !!init);
    ref()->taps(M, N, T, taps, w, T, init, x, WANT, ld_y);
    CALL("taps", 0, k->taps(M, N, T, taps, w, T, init, x, GOT, ld_y));
    compare(n, WANT, GOT);
}

/* ---- the clock ---- */

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

/* The best of many rounds, in nanoseconds a call. */
#define TIME(what, ...)                                                                                                \
    do {                                                                                                               \
        double best = 1e18;                                                                                            \
        for (int round = 0; round < 10; round++) {                                                                     \
            double began = now();                                                                                      \
            for (int i = 0; i < 30; i++) __VA_ARGS__;                                                                  \
            double each = (now() - began) / 30;                                                                        \
            if (each < best) best = each;                                                                              \
        }                                                                                                              \
        printf("%-24s %-8s %10.1f ns\n", what, k->name, best);                                                         \
    } while (0)

static void time_all(const sgru_kernels *k)
{
    enum { N = 256, H = 64 };
    static sgru_tap taps[24];
    float *v[8];
    volatile float sink;
    for (int i = 0; i < 8; i++) {
        v[i] = starts[i];
        for (size_t j = 0; j < 3 * H * (H + 1) + N; j++) v[i][j] = uniform(1.0f);
    }
    for (uint32_t t = 0; t < 24; t++) taps[t] = (sgru_tap){t, t};
    TIME("affine [192, 64]", k->affine(3 * H, H, 1, v[0], v[1], 0, v[2], H, v[3], 3 * H));
    TIME("affine [192, 64] x 8", k->affine(3 * H, H, 8, v[0], v[1], 0, v[2], H, v[3], 3 * H));
    TIME("matmul [16, 64] [64, 64]", k->matmul(16, H, H, v[0], H, v[1], H, v[3], H));
    TIME("taps 8 x 64, 24 taps", k->taps(8, H, 24, taps, v[0], 24, v[1], v[2], v[3], H));
    TIME("gru_sums 64, 64", k->gru_sums(H, H, v[0], v[1], v[2], v[4], v[5], v[6], v[3], v[7], 0));
    TIME("gru_gates 256", k->gru_gates(N, v[0], v[1], v[2], v[4], v[5], v[3]));
    TIME("gru_blend 256", k->gru_blend(N, v[0], v[1], v[2], v[3]));
    TIME("lstm_gates 256", k->lstm_gates(N, v[0], v[1], v[2], v[4], v[5], v[3]));
    TIME("muladd 256", k->muladd(N, v[0], v[1], v[2], v[3]));
    TIME("unary sigmoid 256", k->unary(F_SIGMOID, 1, 1, N, v[0], v[3]));
    TIME("unary tanh 256", k->unary(F_TANH, 1, 1, N, v[0], v[3]));
    TIME("binary add 256", k->binary(B_ADD, N, v[0], 1, v[1], 1, v[3]));
    TIME("reduce sum 256", sink = k->reduce(R_SUM, N, v[0]));
    TIME("finite 256", sink = (float)k->finite(N, v[0]));
    TIME("tidy 256", k->tidy(N, v[0], v[3]));
    (void)sink;
}

int main(int argc, char **argv)
{
    int bench = argc > 1 && strcmp(argv[1], "--bench") == 0;
    unsigned count = argc > 1 ? (unsigned)atoi(argv[1]) : 20;
    volatile unsigned n_isas = 0;
    const sgru_kernels *k;
    seed = argc > 2 ? strtoull(argv[2], NULL, 0) : 1;
    rng = seed * 0x9E3779B97F4A7C15u + 1;
    make_buffers();
    for (unsigned i = 0; bench && (k = sgru_kernels_available(i)); i++) time_all(k);
    if (bench) return 0;
    catch_signals();
    for (volatile unsigned i = 0; (k = sgru_kernels_available(i)); i++, n_isas++)
        for (volatile unsigned turn = 0; turn < count; turn++) {
            if (sigsetjmp(escape, 1)) continue;
            for (size_t n = 0; n <= LONGEST; n++) at_start = below(1u << BUFFERS), try_rows(k, n);
            for (unsigned j = 0; j < 100; j++) {
                at_start = below(1u << BUFFERS);
                try_affine(k), try_affine_f16(k), try_affine_i8(k), try_gru_sums(k), try_matmul(k), try_taps(k);
            }
        }
    printf(
        "seed %llu: 16 functions (%d of one element, %d of two, %d reductions) on %u instruction sets, %u shapes each\n"
        "%u passed, %u failed\n",
        (unsigned long long)seed, F_COUNT - 1, B_FLOATS, R_SQUARES + 1, n_isas, count * (LONGEST + 1 + 600), passed,
        failed);
    return failed != 0;
}
