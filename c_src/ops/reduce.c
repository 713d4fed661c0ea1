/* Operators over one dimension of [outer, n, inner]: REDUCE, SOFTMAX, NORMALIZE, CUMSUM. With inner = 1 the order of a sum is that
 * of the reduce kernel (sixteen lanes); otherwise each of the `inner` columns is a chain in the order of n. */
#include "ops.h"

/* x and y have this dtype, x fills [outer, n, inner] and y `y_count` elements. */
static SGRU_COLD int operands_fit(const sgru_model *m, const sgru_op *op, uint32_t dtype, const uint32_t *dims,
                                  uint64_t y_count)
{
    uint64_t count = sgru_product(3, dims);
    return count && is_vector(m, op->in[0], dtype, count) && is_vector(m, op->out[0], dtype, y_count);
}

static uint32_t dtype_of(const sgru_model *m, uint32_t id) { return id == SGRU_NONE ? 0 : tensor_of(m, id)->dtype; }

/* ---- REDUCE: function, outer, n, inner ---- */

enum { SUM, MEAN, MAX, MIN, PROD, L1, L2, SQUARES, LOG_SUM_EXP, FUNCTIONS };

/* What joins two rows, or two integers. */
static const uint8_t joins[FUNCTIONS] = {B_ADD, B_ADD, B_MAX, B_MIN, B_MUL, B_ADD, B_ADD, B_ADD, B_ADD};

static SGRU_COLD int reduce_check(const sgru_model *m, const sgru_op *op, size_t *scratch)
{
    uint32_t f = op->params[0], n = op->params[2], inner = op->params[3], dtype = dtype_of(m, op->in[0]);
    int known = dtype == SGRU_F32 ? f < FUNCTIONS : is_integer(dtype) && f <= PROD;
    return known && operands_fit(m, op, dtype, op->params + 1, (uint64_t)op->params[1] * inner) &&
           need_scratch(scratch, sizeof(float) * (inner == 1 ? n : 2 * (uint64_t)inner));
}

/* The sums of squares or of elements become what was asked for; y [inner]. */
static void finish(const sgru_kernels *k, uint32_t f, size_t n, size_t inner, float *y)
{
    float count = (float)n;
    if (f == MEAN) k->binary(B_DIV, inner, y, 1, &count, 0, y);
    if (f == L2) k->unary(F_SQRT, 0, 0, inner, y, y);
}

/* Where a maximum is infinite, exp(x - maximum) shall not see inf - inf. */
static void bound(const sgru_kernels *k, size_t n, float *top)
{
    k->unary(F_CLIP, -0x1.fffffep127f, 0x1.fffffep127f, n, top, top);
}

static float reduce_row(const sgru_kernels *k, uint32_t f, size_t n, const float *x, float *exps)
{
    static const uint8_t kernel[] = {R_SUM, R_SUM, R_MAX, R_MIN, R_PROD, R_L1, R_SQUARES, R_SQUARES};
    float y, top;
    if (f != LOG_SUM_EXP) {
        y = k->reduce(kernel[f], n, x);
        finish(k, f, n, 1, &y);
        return y;
    }
    top = k->reduce(R_MAX, n, x);
    bound(k, 1, &top);
    k->binary(B_SUB, n, x, 1, &top, 0, exps);
    k->unary(F_EXP, 0, 0, n, exps, exps);
    y = k->reduce(R_SUM, n, exps);
    k->unary(F_LOG, 0, 0, 1, &y, &y);
    return y + top;
}

/* The same for `inner` columns side by side; y [inner]; row and top: working memory [inner]. */
static void reduce_columns(const sgru_kernels *k, uint32_t f, size_t n, size_t inner, const float *x, float *y,
                           float *row, float *top)
{
    if (f == LOG_SUM_EXP) {
        reduce_columns(k, MAX, n, inner, x, top, NULL, NULL);
        bound(k, inner, top);
    }
    for (size_t i = 0; i < n; i++, x += inner) {
        float *to = i ? row : y;
        const float *value = to;
        if (f == L1) k->unary(F_ABS, 0, 0, inner, x, to);
        else if (f == L2 || f == SQUARES) k->binary(B_MUL, inner, x, 1, x, 1, to);
        else if (f == LOG_SUM_EXP) {
            k->binary(B_SUB, inner, x, 1, top, 1, to);
            k->unary(F_EXP, 0, 0, inner, to, to);
        } else value = x;
        if (i) k->binary(joins[f], inner, y, 1, value, 1, y);
        else if (value == x) memcpy(y, x, inner * sizeof(float));
    }
    finish(k, f, n, inner, y);
    if (f != LOG_SUM_EXP) return;
    k->unary(F_LOG, 0, 0, inner, y, y);
    k->binary(B_ADD, inner, y, 1, top, 1, y);
}

/* Element `at` of n integers, `inner` elements apart. A mean truncates. */
static int64_t reduce_integers(uint32_t f, uint32_t dtype, size_t n, size_t inner, const unsigned char *x)
{
    size_t step = inner * dtype_size(dtype);
    int64_t y = load_integer(dtype, x);
    for (size_t i = 1; i < n; i++) y = sgru_integer_function(joins[f], y, load_integer(dtype, x + i * step));
    return f == MEAN ? y / (int64_t)n : y;
}

static int reduce_run(const sgru_stream *s, const sgru_op *op, size_t first, size_t frames)
{
    uint32_t f = op->params[0], dtype = dtype_of(s->model, op->in[0]);
    size_t outer = param(op, 1), n = param(op, 2), inner = param(op, 3), size = dtype_size(dtype);
    float *memory = (float *)s->scratch;
    FOR_EACH_FRAME (frame, first, frames) {
        const unsigned char *x = operand(s, op->in[0], frame);
        unsigned char *y = operand(s, op->out[0], frame);
        for (size_t o = 0; o < outer; o++, x += n * inner * size, y += inner * size) {
            if (dtype != SGRU_F32)
                for (size_t i = 0; i < inner; i++)
                    store_integer(dtype, y + i * size, reduce_integers(f, dtype, n, inner, x + i * size));
            else if (inner == 1) *(float *)y = reduce_row(s->k, f, n, (const float *)x, memory);
            else reduce_columns(s->k, f, n, inner, (const float *)x, (float *)y, memory, memory + inner);
        }
    }
    return SGRU_OK;
}

/* [outer, n, inner] elements at `cost`, in as many calls of kernels as each order has. */
static SGRU_COLD uint64_t rows_work(const uint32_t *dims, unsigned cost)
{
    uint64_t rows = (uint64_t)dims[0] * (dims[2] == 1 ? 1 : dims[1]);
    return plus(sgru_product(3, dims) * cost, times(rows, 2 * SGRU_CALL));
}

static SGRU_COLD uint64_t reduce_work(const sgru_model *m, const sgru_op *op)
{
    (void)m;
    return rows_work(op->params + 1, op->params[0] == LOG_SUM_EXP ? 32 : SGRU_STRANGE);
}

const sgru_op_def sgru_op_reduce = {1, 1, 4, reduce_check, reduce_run, SHARES_NOTHING, NULL, reduce_work, 0, NULL};

/* ---- SOFTMAX: outer, n, inner, log ---- */

static SGRU_COLD int softmax_check(const sgru_model *m, const sgru_op *op, size_t *scratch)
{
    return op->params[3] <= 1 && operands_fit(m, op, SGRU_F32, op->params, sgru_product(3, op->params)) &&
           need_scratch(scratch, 2 * sizeof(float) * (uint64_t)op->params[2]);
}

/* y = x - max(x); then exp(y) / sum(exp(y)), or y - log(sum(exp(y))). */
static void softmax_row(const sgru_kernels *k, size_t n, int log, const float *x, float *y)
{
    float top = k->reduce(R_MAX, n, x), sum = 0.0f;
    k->binary(B_SUB, n, x, 1, &top, 0, y);
    if (!log) {
        k->unary(F_EXP, 0, 0, n, y, y);
        sum = k->reduce(R_SUM, n, y);
        k->binary(B_DIV, n, y, 1, &sum, 0, y);
        return;
    }
    float e;
    for (size_t i = 0; i < n; i++) {
        k->unary(F_EXP, 0, 0, 1, y + i, &e);
        sum += e;
    }
    k->unary(F_LOG, 0, 0, 1, &sum, &sum);
    k->binary(B_SUB, n, y, 1, &sum, 0, y);
}

/* The same for `inner` columns side by side; top and sum: [inner]. */
static void softmax_columns(const sgru_kernels *k, size_t n, size_t inner, int log, const float *x, float *y,
                            float *top, float *sum)
{
    memcpy(top, x, inner * sizeof(float));
    for (size_t i = 1; i < n; i++) k->binary(B_MAX, inner, top, 1, x + i * inner, 1, top);
    memset(sum, 0, inner * sizeof(float));
    for (size_t i = 0; i < n; i++) {
        float *row = y + i * inner;
        k->binary(B_SUB, inner, x + i * inner, 1, top, 1, row);
        k->unary(F_EXP, 0, 0, inner, row, row);
        k->binary(B_ADD, inner, sum, 1, row, 1, sum);
    }
    if (log) k->unary(F_LOG, 0, 0, inner, sum, sum);
    for (size_t i = 0; i < n; i++) {
        float *row = y + i * inner;
        if (log) k->binary(B_SUB, inner, x + i * inner, 1, top, 1, row);
        k->binary(log ? B_SUB : B_DIV, inner, row, 1, sum, 1, row);
    }
}

static int softmax_run(const sgru_stream *s, const sgru_op *op, size_t first, size_t frames)
{
    size_t outer = param(op, 0), n = param(op, 1), inner = param(op, 2);
    float *top = (float *)s->scratch;
    FOR_EACH_FRAME (f, first, frames) {
        const float *x = operand(s, op->in[0], f);
        float *y = operand(s, op->out[0], f);
        for (size_t o = 0; o < outer; o++, x += n * inner, y += n * inner) {
            if (inner == 1) softmax_row(s->k, n, op->params[3] == 1, x, y);
            else softmax_columns(s->k, n, inner, op->params[3] == 1, x, y, top, top + inner);
        }
    }
    return SGRU_OK;
}

static SGRU_COLD uint64_t softmax_work(const sgru_model *m, const sgru_op *op)
{
    (void)m;
    return rows_work(op->params, op->params[3] ? 96 : 32); /* a logarithm calls exp for each element */
}

const sgru_op_def sgru_op_softmax = {1, 1, 4, softmax_check, softmax_run, SHARES_NOTHING, NULL, softmax_work, 0, NULL};

/* ---- NORMALIZE: outer, n, epsilon ---- */

static SGRU_COLD int normalize_check(const sgru_model *m, const sgru_op *op, size_t *scratch)
{
    (void)scratch;
    const uint32_t dims[] = {op->params[0], op->params[1], 1};
    return operands_fit(m, op, SGRU_F32, dims, sgru_product(3, dims)) && is_optional(m, op->in[1], dims[1]) &&
           is_optional(m, op->in[2], dims[1]) && is_at_least_zero(op->params[2]);
}

/* y = (x - mean) / sqrt(variance + epsilon) · scale + shift. */
static void normalize_row(const sgru_kernels *k, size_t n, float epsilon, const float *x, const float *scale,
                          const float *shift, float *y)
{
    float mean = k->reduce(R_SUM, n, x) / (float)n, deviation;
    k->binary(B_SUB, n, x, 1, &mean, 0, y);
    deviation = k->reduce(R_SQUARES, n, y) / (float)n + epsilon;
    k->unary(F_SQRT, 0, 0, 1, &deviation, &deviation);
    k->binary(B_DIV, n, y, 1, &deviation, 0, y);
    if (scale && shift) k->muladd(n, y, scale, shift, y);
    else if (scale) k->binary(B_MUL, n, y, 1, scale, 1, y);
    else if (shift) k->binary(B_ADD, n, y, 1, shift, 1, y);
}

static int normalize_run(const sgru_stream *s, const sgru_op *op, size_t first, size_t frames)
{
    size_t outer = param(op, 0), n = param(op, 1);
    FOR_EACH_FRAME (f, first, frames) {
        const float *x = operand(s, op->in[0], f), *scale = operand(s, op->in[1], f), *shift = operand(s, op->in[2], f);
        float *y = operand(s, op->out[0], f);
        for (size_t o = 0; o < outer; o++, x += n, y += n) normalize_row(s->k, n, param_f(op, 2), x, scale, shift, y);
    }
    return SGRU_OK;
}

static SGRU_COLD uint64_t normalize_work(const sgru_model *m, const sgru_op *op)
{
    (void)m;
    const uint32_t dims[] = {op->params[0], op->params[1], 1};
    return rows_work(dims, SGRU_STRANGE);
}

const sgru_op_def sgru_op_normalize = {3, 1,   3, normalize_check, normalize_run, SHARES_NOTHING, NULL, normalize_work,
                                       0, NULL};

/* ---- CUMSUM: outer, n, inner, exclusive, reverse ---- */

static SGRU_COLD int cumsum_check(const sgru_model *m, const sgru_op *op, size_t *scratch)
{
    (void)scratch;
    uint32_t dtype = dtype_of(m, op->in[0]);
    return (dtype == SGRU_F32 || is_integer(dtype)) && op->params[3] <= 1 && op->params[4] <= 1 &&
           operands_fit(m, op, dtype, op->params, sgru_product(3, op->params));
}

/* y = a + b for n elements. */
static void add_row(const sgru_kernels *k, uint32_t dtype, size_t n, const unsigned char *a, const unsigned char *b,
                    unsigned char *y)
{
    size_t size = dtype_size(dtype);
    if (dtype == SGRU_F32) k->binary(B_ADD, n, (const float *)a, 1, (const float *)b, 1, (float *)y);
    else
        for (size_t i = 0; i < n * size; i += size)
            store_integer(dtype, y + i,
                          sgru_integer_function(B_ADD, load_integer(dtype, a + i), load_integer(dtype, b + i)));
}

static int cumsum_run(const sgru_stream *s, const sgru_op *op, size_t first, size_t frames)
{
    uint32_t dtype = dtype_of(s->model, op->in[0]);
    size_t outer = param(op, 0), n = param(op, 1), inner = param(op, 2), row = inner * dtype_size(dtype);
    size_t exclusive = param(op, 3), reverse = param(op, 4);
    FOR_EACH_FRAME (f, first, frames) {
        const unsigned char *x = operand(s, op->in[0], f);
        unsigned char *y = operand(s, op->out[0], f);
        for (size_t o = 0; o < outer; o++, x += n * row, y += n * row) {
            size_t before = reverse ? n - 1 : 0;
            if (exclusive) memset(y + before * row, 0, row);
            else memmove(y + before * row, x + before * row, row);
            for (size_t i = 1; i < n; i++) {
                size_t at = reverse ? n - 1 - i : i;
                add_row(s->k, dtype, inner, y + before * row, x + (exclusive ? before : at) * row, y + at * row);
                before = at;
            }
        }
    }
    return SGRU_OK;
}

static SGRU_COLD uint64_t cumsum_work(const sgru_model *m, const sgru_op *op)
{
    (void)m;
    const uint32_t *p = op->params;
    return times((uint64_t)p[0] * p[1], (uint64_t)p[2] * SGRU_STRANGE + SGRU_CALL);
}

const sgru_op_def sgru_op_cumsum = {1, 1, 5, cumsum_check, cumsum_run, SHARES_NOTHING, NULL, cumsum_work, 0, NULL};
