/* The operators, one row each; a family lives in one file. docs/format.md lists their operands and parameters. */
#ifndef SGRU_OPS_H
#define SGRU_OPS_H

#include "../internal.h"

extern const sgru_op_def sgru_op_copy, sgru_op_fill, sgru_op_cast;                           /* move.c */
extern const sgru_op_def sgru_op_gather, sgru_op_gather_elements;                            /* index.c */
extern const sgru_op_def sgru_op_scatter_elements, sgru_op_scatter_nd;                       /* index.c */
extern const sgru_op_def sgru_op_unary, sgru_op_binary, sgru_op_where;                       /* elementwise.c */
extern const sgru_op_def sgru_op_affine, sgru_op_matmul;                                     /* dense.c */
extern const sgru_op_def sgru_op_gru, sgru_op_lstm, sgru_op_rnn;                             /* gru.c, lstm.c, rnn.c */
extern const sgru_op_def sgru_op_reduce, sgru_op_softmax, sgru_op_normalize, sgru_op_cumsum; /* reduce.c */
extern const sgru_op_def sgru_op_arg, sgru_op_topk;                                          /* order.c */
extern const sgru_op_def sgru_op_conv, sgru_op_conv_transpose;                               /* conv.c */
extern const sgru_op_def sgru_op_pool;                                                       /* window.c */

/* Whether a number names a float function of one element that the kernels have. */
static inline int is_activation(size_t f) { return f < F_COUNT && f != F_NOT && SGRU_HAS_UNARY(f); }

static inline int is_integer(uint32_t dtype) { return dtype == SGRU_I64 || dtype == SGRU_I32; }

/* f(a, b) for the functions of two elements that integers have (elementwise.c). */
int64_t sgru_integer_function(uint32_t f, int64_t a, int64_t b);

/* One integer of a tensor of i64 or i32, and back (wrapping around). */
static inline int64_t load_integer(uint32_t dtype, const void *p)
{
    int64_t wide;
    int32_t narrow;
    if (dtype == SGRU_I64) return memcpy(&wide, p, sizeof wide), wide;
    return memcpy(&narrow, p, sizeof narrow), narrow;
}

static inline void store_integer(uint32_t dtype, void *p, int64_t wide)
{
    int32_t narrow = (int32_t)(uint32_t)(uint64_t)wide;
    if (dtype == SGRU_I64) memcpy(p, &wide, sizeof wide);
    else memcpy(p, &narrow, sizeof narrow);
}

/* States what a run needs; 0 where that cannot be addressed. */
static inline int need_scratch(size_t *scratch, uint64_t bytes)
{
    *scratch = (size_t)bytes;
    return bytes <= SIZE_MAX / 8 && bytes <= (uint64_t)1 << 40;
}

/* Sums and products of operations (sgru_model_ops), which end at the largest number. */
static inline uint64_t plus(uint64_t a, uint64_t b) { return a > UINT64_MAX - b ? UINT64_MAX : a + b; }
static inline uint64_t times(uint64_t a, uint64_t b) { return a && b > UINT64_MAX / a ? UINT64_MAX : a * b; }

/* A call of a kernel takes as long as so many operations, and rows of fewer elements than a vector as long as whole ones. */
enum { SGRU_CALL = 64, SGRU_STRANGE = 16 /* an element of a plain loop */ };
static inline uint64_t whole_vectors(uint64_t n) { return (n + 15) / 16 * 16; }

/* Calls `each` for every frame: the body of an operator that has no use for a whole block. */
#define FOR_EACH_FRAME(f, first, frames) for (size_t f = (first); f < (first) + (frames); f++)

#endif
