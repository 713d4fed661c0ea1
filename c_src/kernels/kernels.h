/* The table of kernels: everything hot, in one struct of function pointers. Each ISA fills one such table and nothing else.
 *
 * The arithmetic contract. An output element of a matrix product is one chain, in the order of k:
 *     acc = init; for k = 0 .. K-1: acc = fma(x[k], w[m][k], acc)
 * One output element lives in one SIMD lane, so lane width, unrolling, batching and threads cannot change a bit. Functions of one
 * element (vmath.h) are one sequence of IEEE operations each. Sums run in 16 lanes: lane j adds elements j, j+16, ...;
 * then lane j adds lane j+8, j+4, j+2, j+1. `ref` is the plain reading of all this; the others must equal it by memcmp.
 *
 * Weights in half precision are widened, which is exact, and then the same chain. Weights of 8 bits meet a column x of 8 bits:
 *     a = max |x[k]|; q[k] = round to nearest even (x[k] · (127 / a)); s = a / 127; d = Σ q[k] · w[m][k], an exact integer
 *     y[m] = fma(float(d), scale[m] · s, init[m])
 * every float operation rounded once, in this order. a < 2^-96 counts as zero: q = 0, s = 0. Where an x[k] is infinite or NaN,
 * q = 0 and s = NaN. So each column is on its own, and a step, a block and a batch have the same bits.
 *
 * No pointer needs alignment, and no kernel reads or writes beyond the shapes given. */
#ifndef SGRU_KERNELS_H
#define SGRU_KERNELS_H

#include <stddef.h>
#include <stdint.h>

/* Functions of one element; the numbers stand in images (docs/format.md). */
enum {
    F_IDENTITY,
    F_SIGMOID,
    F_TANH,
    F_RELU,
    F_LEAKY_RELU,
    F_ELU,
    F_HARD_SIGMOID,
    F_SOFTSIGN,
    F_SOFTPLUS,
    F_THRESHOLDED_RELU,
    F_SCALED_TANH,
    F_AFFINE,
    F_CLIP,
    F_EXP,
    F_LOG,
    F_SQRT,
    F_RECIPROCAL,
    F_NEG,
    F_ABS,
    F_FLOOR,
    F_CEIL,
    F_SIGN,
    F_ERF,
    F_SELU,
    F_GELU,
    F_GELU_TANH,
    F_HARD_SWISH,
    F_SILU,
    F_ROUND,
    F_CELU,
    F_NOT,
    F_MISH,
    F_SIN,
    F_COS,
    F_THRESHOLDED_RELU_EQ,
    F_COUNT,           /* an image names those up to here */
    F_SETTLE = F_COUNT /* the end of a cell's step */
};

/* Functions of two elements. */
enum {
    B_ADD,
    B_SUB,
    B_MUL,
    B_DIV,
    B_POW,
    B_MIN,
    B_MAX,
    B_PRELU,
    B_MOD,
    B_FMOD,
    B_FLOATS, /* float to float up to here */
    B_EQUAL = 16,
    B_LESS,
    B_LESS_EQUAL,
    B_GREATER,
    B_GREATER_EQUAL,
    B_AND = 24,
    B_OR,
    B_XOR
};

/* What a function of one element costs, in additions: about, and rather too much. */
static inline unsigned sgru_unary_cost(unsigned f)
{
    const uint64_t plain = 1u << F_IDENTITY | 1u << F_RELU | 1u << F_LEAKY_RELU | 1u << F_HARD_SIGMOID |
                           1u << F_THRESHOLDED_RELU | 1u << F_AFFINE | 1u << F_CLIP | 1u << F_NEG | 1u << F_ABS |
                           1u << F_SIGN | 1u << F_HARD_SWISH | 1u << F_NOT;
    return plain >> f & 1 ? 2 : f == F_SIN || f == F_COS ? 128 : 16;
}
static inline unsigned sgru_binary_cost(unsigned f) { return f == B_POW || f == B_MOD || f == B_FMOD ? 128 : 2; }

/* A build for one model (streamgru embed) names the functions it needs, a bit each: the code of the others is left out, and a
 * model that wants them is refused. */
#ifndef SGRU_UNARY_FUNCTIONS
#define SGRU_UNARY_FUNCTIONS UINT64_MAX
#define SGRU_BINARY_FUNCTIONS UINT64_MAX
#endif
#define SGRU_HAS_UNARY(f) (SGRU_UNARY_FUNCTIONS >> (f) & 1)
#define SGRU_HAS_BINARY(f) (SGRU_BINARY_FUNCTIONS >> (f) & 1)

/* Functions that vectors are not worth while for, in plain double precision (rare.c): F_SIN, F_COS; B_POW, B_MOD, B_FMOD. The
 * operands are those of the kernels `unary` and `binary`. */
void sgru_rare_unary(unsigned f, size_t n, const float *x, float *y);
void sgru_rare_binary(unsigned f, size_t n, const float *a, size_t step_a, const float *b, size_t step_b, float *y);

/* One term of a convolution's sums: where its weight and its inputs lie, in elements. */
typedef struct sgru_tap {
    uint32_t w, x;
} sgru_tap;

/* Reductions of a row. */
enum { R_SUM, R_MAX, R_MIN, R_PROD, R_L1, R_SQUARES };

/* Packed rows: blocks of 16 rows, [k][row in block], each K | 1 lines of 16 floats long: an odd number, so that blocks that are
 * read side by side do not fall into the same sets of the cache. The last, partial block is [k][rows rounded up to 4]. */
static inline size_t sgru_block_step(size_t K) { return 16 * (K | 1); }
static inline uint64_t sgru_packed_count(uint64_t M, uint64_t K)
{
    return M / 16 * 16 * (K | 1) + (M % 16 + 3) / 4 * 4 * K;
}

/* Packed rows of 8 bits: blocks of 16 rows, the last one filled with zeros. A block is (K + 3) / 4 lines of 64 bytes, [k / 4][row in
 * block][k % 4], zero where k >= K; a line of -128 · Σ w[m][k] for each row, int32; a line of scales, float; and, to make the number
 * of lines odd, a line of zeros. No weight is -128, and K is at most SGRU_MAX_K_I8: no sum leaves 32 bits. */
#define SGRU_MAX_K_I8 65536u
static inline size_t sgru_lines_i8(size_t K) { return (K + 3) / 4; }
static inline size_t sgru_block_step_i8(size_t K) { return 64 * ((sgru_lines_i8(K) + 2) | 1); }
static inline uint64_t sgru_packed_bytes_i8(uint64_t M, uint64_t K)
{
    return (M + 15) / 16 * 64 * (((K + 3) / 4 + 2) | 1);
}

/* A quantised column: s, then from byte SGRU_Q_HEAD on its q, in the form that the kernels of its table want, K rounded up to 16. */
#define SGRU_Q_HEAD 16
static inline size_t sgru_q_step(size_t K) { return SGRU_Q_HEAD + (K + 15) / 16 * 16; }

typedef struct sgru_kernels {
    const char *name;

    /* y[c][m] = chain over k of x[c][k] · w[m][k] from init[c][m] (zero where init is NULL). w: packed rows [M, K].
     * ld_*: elements between the columns c; ld_init = 0 gives every column the same bias. y may be init. */
    void (*affine)(size_t M, size_t K, size_t columns, const float *w, const float *init, size_t ld_init,
                   const float *x, size_t ld_x, float *y, size_t ld_y);

    /* affine with w: packed rows of half precision. */
    void (*affine_f16)(size_t M, size_t K, size_t columns, const uint16_t *w, const float *init, size_t ld_init,
                       const float *x, size_t ld_x, float *y, size_t ld_y);

    /* The columns x[c][K], quantised: q holds columns · sgru_q_step(K) bytes. */
    void (*quantise)(size_t K, size_t columns, const float *x, size_t ld_x, uint8_t *q);

    /* affine with w: packed rows of 8 bits, of columns that `quantise` of the same table made. */
    void (*affine_i8)(size_t M, size_t K, size_t columns, const int8_t *w, const float *init, size_t ld_init,
                      const uint8_t *q, float *y, size_t ld_y);

    /* y[m][n] = chain over k of a[m][k] · b[k][n] from zero; all row-major with leading dimensions. */
    void (*matmul)(size_t M, size_t N, size_t K, const float *a, size_t ld_a, const float *b, size_t ld_b, float *y,
                   size_t ld_y);

    /* y[m][n] = chain over t of x[tap[t].x + n] · w[m · ld_w + tap[t].w] from init[m] (zero where init is NULL). A matrix
     * product whose right-hand rows lie anywhere: a convolution. y is not x. */
    void (*taps)(size_t M, size_t N, size_t T, const sgru_tap *tap, const float *w, size_t ld_w, const float *init,
                 const float *x, float *y, size_t ld_y);

    /* The sums of a GRU step with linear_before_reset=1, one sequence, H a multiple of 16: z, r = bias_x, then W·x, then R·h;
     * nx = bias_x, then W·x; nh = bias_h, then R·h. sums: [3H] z, r, nx. w packed [3H, I], r packed [3H, H]; a bias may be NULL.
     * The rows are walked in groups, backwards where `descending`: what a step read last, the next reads first, from the
     * nearest cache. */
    void (*gru_sums)(size_t H, size_t I, const float *w, const float *r, const float *bias_x, const float *bias_h,
                     const float *x, const float *h, float *sums, float *nh, int descending);

    /* The end of a GRU step with linear_before_reset=1, sigmoid and tanh, no clip. All [n]; y may be h.
     * z, r: sums before the sigmoid. n = tanh(fma(sigmoid(r), nh, nx)); y = fma(z, h, (1 - z) · n), |y| < 2^-64 -> 0. */
    void (*gru_gates)(size_t n, const float *z, const float *r, const float *nx, const float *nh, const float *h,
                      float *y);

    /* y = fma(z, h, (1 - z) · n), |y| < 2^-64 -> 0: the blend alone, z after its activation. y may be h. */
    void (*gru_blend)(size_t n, const float *z, const float *candidate, const float *h, float *y);

    /* The end of a plain LSTM step, all [n]; i, o, f, g: sums before their functions. c = fma(sigmoid(f), c, sigmoid(i) ·
     * tanh(g)); h = sigmoid(o) · tanh(c); each below 2^-64 -> 0. */
    void (*lstm_gates)(size_t n, const float *i, const float *o, const float *f, const float *g, float *c, float *h);

    /* y = fma(a, b, c). y may be any of them. */
    void (*muladd)(size_t n, const float *a, const float *b, const float *c, float *y);

    /* y = f(x; alpha, beta) for the float functions F_. y may be x. */
    void (*unary)(unsigned f, float alpha, float beta, size_t n, const float *x, float *y);

    /* y = f(a, b), the float functions of two elements below B_FLOATS; step_a, step_b are 0 (one value for all) or 1.
     * y may be a or b where their step is 1. */
    void (*binary)(unsigned f, size_t n, const float *a, size_t step_a, const float *b, size_t step_b, float *y);

    /* The sum, maximum, minimum, product, sum of magnitudes or of squares of x[n], in sixteen lanes. */
    float (*reduce)(unsigned f, size_t n, const float *x);

    /* 1 where every element is finite, else 0. */
    int (*finite)(size_t n, const float *x);

    /* y = x with subnormals made zero and every NaN made 0x7FC00000. y may be x. */
    void (*tidy)(size_t n, const float *x, float *y);
} sgru_kernels;

/* The definition that ends each ISA's file. `integers`: whose quantise and affine_i8 it takes; a processor with better
 * integer products has a table of its own, which differs in these two alone and has the same name. */
#define SGRU_TABLE(table, isa, integers)                                                                               \
    const sgru_kernels sgru_kernels_##table = {                                                                        \
        .name = #isa,                                                                                                  \
        .affine = affine_##isa,                                                                                        \
        .affine_f16 = affine_f16_##isa,                                                                                \
        .quantise = sgru_quantise_i8_##integers,                                                                       \
        .affine_i8 = sgru_affine_i8_##integers,                                                                        \
        .matmul = matmul_##isa,                                                                                        \
        .taps = taps_##isa,                                                                                            \
        .gru_sums = gru_sums_##isa,                                                                                    \
        .gru_gates = gru_gates_##isa,                                                                                  \
        .gru_blend = gru_blend_##isa,                                                                                  \
        .lstm_gates = lstm_gates_##isa,                                                                                \
        .muladd = muladd_##isa,                                                                                        \
        .unary = unary_##isa,                                                                                          \
        .binary = binary_##isa,                                                                                        \
        .reduce = reduce_##isa,                                                                                        \
        .finite = finite_##isa,                                                                                        \
        .tidy = tidy_##isa,                                                                                            \
    }

/* The products of integer.h, which another file's table may take. */
#define SGRU_INTEGERS(integers)                                                                                        \
    void sgru_quantise_i8_##integers(size_t K, size_t columns, const float *x, size_t ld_x, uint8_t *q);               \
    void sgru_affine_i8_##integers(size_t M, size_t K, size_t columns, const int8_t *w, const float *init,             \
                                   size_t ld_init, const uint8_t *q, float *y, size_t ld_y)

extern const sgru_kernels sgru_kernels_ref;
SGRU_INTEGERS(ref);
#if defined(__x86_64__) && !defined(SGRU_NO_SIMD)
extern const sgru_kernels sgru_kernels_avx2, sgru_kernels_avx2_vnni, sgru_kernels_avx512, sgru_kernels_avx512_vnni;
SGRU_INTEGERS(avx2);
SGRU_INTEGERS(avx2_vnni);
SGRU_INTEGERS(avx512_vnni);
#endif
#if defined(__aarch64__) && !defined(SGRU_NO_SIMD)
extern const sgru_kernels sgru_kernels_neon, sgru_kernels_neon_dot;
SGRU_INTEGERS(neon);
SGRU_INTEGERS(neon_dot);
#endif

/* The i-th table that this machine can run, best first, NULL after the last; and the one in use (cpu.c). */
const sgru_kernels *sgru_kernels_available(unsigned i);
const sgru_kernels *sgru_kernels_chosen(void);

/* The floating-point environment of the contract for the duration of a call (cpu.c). */
typedef struct sgru_fpenv {
    uint64_t control, status;
} sgru_fpenv;
sgru_fpenv sgru_fpenv_enter(void);
void sgru_fpenv_leave(sgru_fpenv saved);

#endif
