/* Every kernel of every instruction set against `ref`, bit for bit, where it hurts: rows of every length from nothing to a few
 * vectors, each buffer ending where a page that cannot be touched begins and starting at any multiple of four bytes, in place
 * where kernels.h allows it, with infinities, NaNs, zeros of both signs, subnormals and numbers at the edges of the range.
 *
 *     kernel_edges [count [seed]] */
#define _DEFAULT_SOURCE
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "kernels/kernels.h"
#include "packing.h"
#include "random.h"

enum { PAGE = 1 << 20, BUFFERS = 12, LONGEST = 70 };

static unsigned passed, failed;
static float *ends[BUFFERS]; /* the first float of the page that cannot be touched */

static void make_buffers(void)
{
    for (int i = 0; i < BUFFERS; i++) {
        char *p = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (p == MAP_FAILED || mprotect(p + PAGE, PAGE, PROT_NONE)) exit(2);
        ends[i] = (float *)(void *)(p + PAGE);
    }
}

/* NaNs have an empty payload, as all NaNs of a stream; finite numbers are mostly tame. */
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
    float f;
    if (choice == 0) return below(2) ? INFINITY : -INFINITY;
    if (choice == 1) return NAN;
    if (choice < 5) return edges[below(24)];
    if (choice > 5 || tame) return uniform(4.0f);
    uint32_t bits = below(1u << 31) << 1 | below(2);
    memcpy(&f, &bits, 4);
    return f == f ? f : NAN;
}

/* n floats that end at the forbidden page. */
static float *input(int buffer, size_t n, int tame)
{
    float *p = ends[buffer] - n;
    for (size_t i = 0; i < n; i++) p[i] = any(tame);
    return p;
}

/* A NaN's sign and payload are the machine's own. */
static void compare(const char *what, const char *isa, unsigned f, size_t n, float *want, float *got)
{
    for (size_t i = 0; i < n; i++) {
        if (want[i] != want[i] && got[i] != got[i]) continue;
        if (memcmp(want + i, got + i, 4) == 0) continue;
        printf("%s %u on %s: element %zu of %zu is %a, of ref %a\n", what, f, isa, i, n, (double)got[i],
               (double)want[i]);
        failed++;
        return;
    }
    passed++;
}

static const sgru_kernels *ref(void) { return &sgru_kernels_ref; }

/* The outputs of ref and of k, both next to a forbidden page. */
#define WANT (ends[0] - n)
#define GOT (ends[1] - n)

static void try_rows(const sgru_kernels *k, size_t n)
{
    int tame = (int)below(2);
    float *v[6], alpha = any(1), beta = any(1);
    for (int i = 0; i < 6; i++) v[i] = input(2 + i, n, tame);
    for (unsigned f = 0; f < F_COUNT; f++) {
        if (f == F_NOT) continue;
        ref()->unary(f, alpha, beta, n, v[0], WANT), k->unary(f, alpha, beta, n, v[0], GOT);
        compare("unary", k->name, f, n, WANT, GOT);
        memcpy(GOT, v[0], n * 4);
        k->unary(f, alpha, beta, n, GOT, GOT);
        compare("unary in place", k->name, f, n, WANT, GOT);
    }
    for (unsigned f = 0; n && f < B_FLOATS; f++)
        for (size_t steps = 0; steps < 4; steps++) {
            size_t a = steps & 1, b = steps >> 1;
            const float *pa = a ? v[0] : v[0] + n - 1,
                        *pb = b ? v[1] : v[1] + n - 1; /* one value: the last before the page */
            ref()->binary(f, n, pa, a, pb, b, WANT), k->binary(f, n, pa, a, pb, b, GOT);
            compare("binary", k->name, f, n, WANT, GOT);
            if (a)
                memcpy(GOT, v[0], n * 4), k->binary(f, n, GOT, 1, pb, b, GOT),
                    compare("binary over a", k->name, f, n, WANT, GOT);
            if (b)
                memcpy(GOT, v[1], n * 4), k->binary(f, n, pa, a, GOT, 1, GOT),
                    compare("binary over b", k->name, f, n, WANT, GOT);
        }
    for (unsigned f = 0; f <= R_SQUARES; f++) {
        float want = ref()->reduce(f, n, v[0]), got = k->reduce(f, n, v[0]);
        compare("reduce", k->name, f, 1, &want, &got);
    }
    ref()->muladd(n, v[0], v[1], v[2], WANT);
    for (int over = 0; over < 4; over++) {
        if (over) memcpy(GOT, v[over - 1], n * 4);
        k->muladd(n, over == 1 ? GOT : v[0], over == 2 ? GOT : v[1], over == 3 ? GOT : v[2], GOT);
        compare("muladd", k->name, (unsigned)over, n, WANT, GOT);
    }
    ref()->gru_blend(n, v[0], v[1], v[2], WANT);
    memcpy(GOT, v[2], n * 4);
    k->gru_blend(n, v[0], v[1], GOT, GOT);
    compare("gru_blend", k->name, 0, n, WANT, GOT);
    ref()->gru_gates(n, v[0], v[1], v[2], v[3], v[4], WANT);
    memcpy(GOT, v[4], n * 4);
    k->gru_gates(n, v[0], v[1], v[2], v[3], GOT, GOT);
    compare("gru_gates", k->name, 0, n, WANT, GOT);
    float *c = ends[8] - n, *d = ends[9] - n;
    memcpy(c, v[4], n * 4), memcpy(d, v[4], n * 4);
    ref()->lstm_gates(n, v[0], v[1], v[2], v[3], c, WANT), k->lstm_gates(n, v[0], v[1], v[2], v[3], d, GOT);
    compare("lstm_gates c", k->name, 0, n, c, d), compare("lstm_gates h", k->name, 0, n, WANT, GOT);
    ref()->tidy(n, v[0], WANT), k->tidy(n, v[0], GOT);
    compare("tidy", k->name, 0, n, WANT, GOT);
    if (ref()->finite(n, v[0]) != k->finite(n, v[0])) printf("finite on %s\n", k->name), failed++;
}

static void try_affine(const sgru_kernels *k)
{
    size_t M = 1 + below(90), K = 1 + below(20), C = 1 + below(9), ld_x = K + below(3), ld_y = M + below(3),
           n = (C - 1) * ld_y + M;
    float *w = input(2, sgru_packed_count(M, K), 1), *x = input(3, (C - 1) * ld_x + K, 1);
    size_t each = below(2), n_init = each ? n : M;
    float *init = below(4) ? input(4, n_init, 1) : NULL;
    memset(WANT, 0, n * 4), memset(GOT, 0, n * 4);
    ref()->affine(M, K, C, w, init, each * ld_y, x, ld_x, WANT, ld_y);
    k->affine(M, K, C, w, init, each * ld_y, x, ld_x, GOT, ld_y);
    compare("affine", k->name, (unsigned)M, n, WANT, GOT);
    if (!init || !each) return;
    memcpy(GOT, init, n * 4);
    for (size_t i = 0; i < n; i++)
        if (i % ld_y >= M) GOT[i] = 0;
    k->affine(M, K, C, w, GOT, ld_y, x, ld_x, GOT, ld_y);
    compare("affine over init", k->name, (unsigned)M, n, WANT, GOT);
}

static void try_affine_f16(const sgru_kernels *k)
{
    size_t M = 1 + below(90), K = 1 + below(20), C = 1 + below(9), ld_x = K + below(3), ld_y = M + below(3),
           n = (C - 1) * ld_y + M, halves = sgru_packed_count(M, K);
    uint16_t *w = (uint16_t *)ends[2] - halves;
    for (size_t i = 0; i < halves; i++) w[i] = below(8) ? half_of(uniform(2.0f)) : (uint16_t)below(0x7C01);
    float *x = input(3, (C - 1) * ld_x + K, 1), *init = below(4) ? input(4, M, 1) : NULL;
    memset(WANT, 0, n * 4), memset(GOT, 0, n * 4);
    ref()->affine_f16(M, K, C, w, init, 0, x, ld_x, WANT, ld_y), k->affine_f16(M, K, C, w, init, 0, x, ld_x, GOT, ld_y);
    compare("affine_f16", k->name, (unsigned)M, n, WANT, GOT);
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
    memset(WANT, 0, n * 4), memset(GOT, 0, n * 4);
    ref()->quantise(K, C, x, ld_x, q), k->quantise(K, C, x, ld_x, q_k);
    ref()->affine_i8(M, K, C, (int8_t *)w, init, each ? ld_y : 0, q, WANT, ld_y);
    k->affine_i8(M, K, C, (int8_t *)w, init, each ? ld_y : 0, q_k, GOT, ld_y);
    compare("affine_i8", k->name, (unsigned)M, n, WANT, GOT);
    for (size_t c = 0; c < C; c++)
        compare("quantise", k->name, (unsigned)K, 1, (float *)(q + c * sgru_q_step(K)),
                (float *)(q_k + c * sgru_q_step(K)));
    size_t c = below((uint32_t)C), m = below((uint32_t)M);
    float most = 0, s = 0;
    int64_t sum = 0;
    for (size_t i = 0; i < K; i++) most = fmaxf(most, fabsf(x[c * ld_x + i]));
    memcpy(&s, q + c * sgru_q_step(K), 4);
    for (size_t i = 0; i < K && most >= 0x1p-96f && most < INFINITY; i++)
        sum += (int64_t)nearbyintf(x[c * ld_x + i] * (127 / most)) * weights[m * K + i];
    float want = fmaf((float)sum, scales[m] * s, init ? init[(each ? c * ld_y : 0) + m] : 0.0f);
    compare("the plain sum", k->name, (unsigned)K, 1, &want, WANT + c * ld_y + m);
}

static void try_gru_sums(const sgru_kernels *k)
{
    size_t H = 16 * (1 + below(8)), I = 1 + below(40), n = 3 * H;
    float *w = input(2, sgru_packed_count(n, I), 1), *r = input(3, sgru_packed_count(n, H), 1), *x = input(4, I, 1),
          *h = input(5, H, 1), *bias_x = below(4) ? input(6, n, 1) : NULL, *bias_h = below(4) ? input(7, H, 1) : NULL;
    ref()->gru_sums(H, I, w, r, bias_x, bias_h, x, h, WANT, ends[8] - H, 0);
    k->gru_sums(H, I, w, r, bias_x, bias_h, x, h, GOT, ends[9] - H, (int)below(2));
    compare("gru_sums", k->name, (unsigned)H, n, WANT, GOT),
        compare("gru_sums nh", k->name, (unsigned)H, H, ends[8] - H, ends[9] - H);
}

static void try_matmul(const sgru_kernels *k)
{
    size_t M = 1 + below(9), N = 1 + below(90), K = 1 + below(20), ld_a = below(4) ? K + below(3) : below(3),
           ld_b = below(4) ? N + below(3) : below(3), ld_y = N + below(3), n = (M - 1) * ld_y + N;
    float *a = input(2, (M - 1) * ld_a + K, 1), *b = input(3, (K - 1) * ld_b + N, 1);
    memset(WANT, 0, n * 4), memset(GOT, 0, n * 4);
    ref()->matmul(M, N, K, a, ld_a, b, ld_b, WANT, ld_y), k->matmul(M, N, K, a, ld_a, b, ld_b, GOT, ld_y);
    compare("matmul", k->name, (unsigned)N, n, WANT, GOT);
}

static void try_taps(const sgru_kernels *k)
{
    size_t M = 1 + below(9), N = 1 + below(LONGEST), T = below(12), reach = below(30), ld_y = N + below(3),
           n = (M - 1) * ld_y + N;
    sgru_tap taps[12];
    for (size_t t = 0; t < T; t++) taps[t] = (sgru_tap){(uint32_t)t, below((uint32_t)reach + 1)};
    float *x = input(2, reach + N, 1), *w = input(3, M * (T ? T : 1), 1), *init = below(4) ? input(4, M, 1) : NULL;
    memset(WANT, 0, n * 4), memset(GOT, 0, n * 4);
    ref()->taps(M, N, T, taps, w, T, init, x, WANT, ld_y), k->taps(M, N, T, taps, w, T, init, x, GOT, ld_y);
    compare("taps", k->name, (unsigned)M, n, WANT, GOT);
}

int main(int argc, char **argv)
{
    unsigned count = argc > 1 ? (unsigned)atoi(argv[1]) : 20;
    uint64_t seed = argc > 2 ? strtoull(argv[2], NULL, 0) : 1;
    rng = seed * 0x9E3779B97F4A7C15u + 1;
    make_buffers();
    const sgru_kernels *k;
    for (unsigned i = 0; (k = sgru_kernels_available(i)); i++)
        for (unsigned turn = 0; turn < count; turn++) {
            for (size_t n = 0; n <= LONGEST; n++) try_rows(k, n);
            for (unsigned j = 0; j < 100; j++)
                try_affine(k), try_affine_f16(k), try_affine_i8(k), try_gru_sums(k), try_matmul(k), try_taps(k);
        }
    printf("seed %llu\n%u passed, %u failed\n", (unsigned long long)seed, passed, failed);
    return failed != 0;
}
