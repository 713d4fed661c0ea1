/* Operators of one element at a time: UNARY, BINARY and WHERE with broadcasting. Floats go through the kernels;
 * integers, comparisons and logic are plain loops. */
#include "ops.h"

/* ---- UNARY: function, alpha, beta ---- */

static SGRU_COLD int unary_check(const sgru_model *m, const sgru_op *op, size_t *scratch)
{
    (void)scratch;
    uint32_t f = op->params[0];
    if (op->in[0] == SGRU_NONE) return 0;
    const sgru_tensor_rec *x = tensor_of(m, op->in[0]);
    int known = x->dtype == SGRU_F32    ? is_activation(f)
                : x->dtype == SGRU_BOOL ? f == F_NOT
                                        : is_integer(x->dtype) && (f == F_NEG || f == F_ABS);
    return known && is_plain(m, op->in[0], x->dtype) && is_vector(m, op->out[0], x->dtype, count_of(x));
}

static uint64_t neg_or_abs(uint32_t f, int64_t v) { return f == F_NEG || v < 0 ? 0u - (uint64_t)v : (uint64_t)v; }

static void unary_integers(uint32_t f, uint32_t dtype, size_t n, const void *x, void *y)
{
    for (size_t i = 0; i < n; i++) {
        if (dtype == SGRU_BOOL) ((uint8_t *)y)[i] = !((const uint8_t *)x)[i];
        else if (dtype == SGRU_I64) ((int64_t *)y)[i] = (int64_t)neg_or_abs(f, ((const int64_t *)x)[i]);
        else ((int32_t *)y)[i] = (int32_t)(uint32_t)neg_or_abs(f, ((const int32_t *)x)[i]);
    }
}

static int unary_run(const sgru_stream *s, const sgru_op *op, size_t first, size_t frames)
{
    const sgru_tensor_rec *t = tensor_of(s->model, op->in[0]);
    size_t n = count_of(t);
    FOR_EACH_FRAME (f, first, frames) {
        const void *x = operand(s, op->in[0], f);
        void *y = operand(s, op->out[0], f);
        if (t->dtype == SGRU_F32) s->k->unary(op->params[0], param_f(op, 1), param_f(op, 2), n, x, y);
        else unary_integers(op->params[0], t->dtype, n, x, y);
    }
    return SGRU_OK;
}

static SGRU_COLD uint64_t unary_work(const sgru_model *m, const sgru_op *op)
{
    return (uint64_t)count_of(tensor_of(m, op->in[0])) * sgru_unary_cost(op->params[0]);
}

const sgru_op_def sgru_op_unary = {1, 1, 3, unary_check, unary_run, SHARES_ELEMENTS, NULL, unary_work, 0, NULL};

/* ---- broadcasting: the rows of a walk over dims, with a stride for each operand ---- */

/* The element offsets of row number `row`, counting all dimensions but the last. */
static void row_offsets(size_t row, uint32_t rank, const uint32_t *dims, uint32_t operands, const uint32_t *strides,
                        ptrdiff_t *at)
{
    for (uint32_t o = 0; o < operands; o++) at[o] = 0;
    for (uint32_t i = rank - 1; i-- > 0; row /= dims[i])
        for (uint32_t o = 0; o < operands; o++) at[o] += (ptrdiff_t)(row % dims[i]) * (int32_t)strides[o * rank + i];
}

/* ---- BINARY: function, rank, dims[], a_strides[], b_strides[] ---- */

static int is_float_function(uint32_t f) { return f < B_FLOATS && SGRU_HAS_BINARY(f); }
static int is_comparison(uint32_t f) { return f >= B_EQUAL && f <= B_GREATER_EQUAL; }
static int is_logic(uint32_t f) { return f >= B_AND && f <= B_XOR; }
static int is_integer_function(uint32_t f) { return is_float_function(f) && f != B_POW && f != B_PRELU; }

/* y may lie where x lies only if x is walked as y is. */
static SGRU_COLD int walks_apart(const sgru_tensor_rec *x, const sgru_tensor_rec *y, uint32_t rank,
                                 const uint32_t *dims, const uint32_t *strides)
{
    int64_t step = 1;
    if (x->kind != y->kind || x->offset != y->offset) return 1;
    for (uint32_t i = rank; i-- > 0; step *= dims[i])
        if (dims[i] > 1 && (int32_t)strides[i] != step) return 0;
    return 1;
}

static SGRU_COLD int binary_check(const sgru_model *m, const sgru_op *op, size_t *scratch)
{
    (void)scratch;
    uint32_t f = op->params[0], rank = op->params[1];
    const uint32_t *dims = op->params + 2;
    if (rank < 1 || rank > SGRU_MAX_RANK || op->n_params != 2 + 3 * rank || op->in[0] == SGRU_NONE) return 0;
    const sgru_tensor_rec *a = tensor_of(m, op->in[0]);
    int known = a->dtype == SGRU_F32   ? is_float_function(f) || is_comparison(f)
                : is_integer(a->dtype) ? is_integer_function(f) || is_comparison(f)
                                       : a->dtype == SGRU_BOOL && (is_logic(f) || f == B_EQUAL);
    uint32_t y_dtype = is_comparison(f) ? SGRU_BOOL : a->dtype;
    return known && is_plain(m, op->in[0], a->dtype) && is_plain(m, op->in[1], a->dtype) &&
           is_vector(m, op->out[0], y_dtype, sgru_product(rank, dims)) &&
           sgru_walk_fits(count_of(a), 0, rank, dims, dims + rank) &&
           sgru_walk_fits(count_of(tensor_of(m, op->in[1])), 0, rank, dims, dims + 2 * rank) &&
           walks_apart(a, tensor_of(m, op->out[0]), rank, dims, dims + rank) &&
           walks_apart(tensor_of(m, op->in[1]), tensor_of(m, op->out[0]), rank, dims, dims + 2 * rank);
}

enum { PIECE = 64 }; /* elements of a strided row that are brought together at once */

/* A row of floats through the kernels, whatever the strides. */
static void float_row(const sgru_kernels *k, uint32_t f, size_t n, const float *a, ptrdiff_t step_a, const float *b,
                      ptrdiff_t step_b, float *y)
{
    if (step_a >= 0 && step_a <= 1 && step_b >= 0 && step_b <= 1) {
        k->binary(f, n, a, (size_t)step_a, b, (size_t)step_b, y);
        return;
    }
    float row_a[PIECE], row_b[PIECE];
    for (size_t i = 0, m; i < n; i += m, a += (ptrdiff_t)m * step_a, b += (ptrdiff_t)m * step_b) {
        m = n - i < PIECE ? n - i : PIECE;
        for (size_t j = 0; j < m; j++) row_a[j] = a[(ptrdiff_t)j * step_a], row_b[j] = b[(ptrdiff_t)j * step_b];
        k->binary(f, m, row_a, 1, row_b, 1, y + i);
    }
}

#define COMPARE(f, a, b)                                                                                               \
    ((f) == B_EQUAL        ? (a) == (b)                                                                                \
     : (f) == B_LESS       ? (a) < (b)                                                                                 \
     : (f) == B_LESS_EQUAL ? (a) <= (b)                                                                                \
     : (f) == B_GREATER    ? (a) > (b)                                                                                 \
                           : (a) >= (b))

/* Wraps around on overflow; x / 0 and x mod 0 are 0; mod has the divisor's sign, fmod the dividend's. */
int64_t sgru_integer_function(uint32_t f, int64_t a, int64_t b)
{
    switch (f) {
    case B_ADD: return (int64_t)((uint64_t)a + (uint64_t)b);
    case B_SUB: return (int64_t)((uint64_t)a - (uint64_t)b);
    case B_MUL: return (int64_t)((uint64_t)a * (uint64_t)b);
    case B_DIV: return b == 0 ? 0 : b == -1 ? (int64_t)(0u - (uint64_t)a) : a / b;
    case B_MIN: return a < b ? a : b;
    case B_MAX: return a > b ? a : b;
    default:
        if (b == 0 || b == -1) return 0;
        return f == B_MOD && a % b != 0 && (a % b < 0) != (b < 0) ? a % b + b : a % b;
    }
}

static int logic(uint32_t f, int a, int b) { return f == B_AND ? a && b : f == B_OR ? a || b : !a != !b; }

/* One element of everything that is not float to float. */
static void plain_element(uint32_t f, uint32_t dtype, const unsigned char *a, const unsigned char *b, unsigned char *y,
                          size_t i)
{
    float fa, fb;
    int64_t ia = 0, ib = 0;
    int32_t sa, sb;
    switch (dtype) {
    case SGRU_F32:
        memcpy(&fa, a, 4), memcpy(&fb, b, 4);
        y[i] = COMPARE(f, fa, fb);
        return;
    case SGRU_BOOL: y[i] = (unsigned char)(f == B_EQUAL ? !*a == !*b : logic(f, *a, *b)); return;
    case SGRU_I64: memcpy(&ia, a, 8), memcpy(&ib, b, 8); break;
    default: memcpy(&sa, a, 4), memcpy(&sb, b, 4), ia = sa, ib = sb;
    }
    if (is_comparison(f)) {
        y[i] = COMPARE(f, ia, ib);
        return;
    }
    ia = sgru_integer_function(f, ia, ib);
    sa = (int32_t)(uint32_t)ia;
    if (dtype == SGRU_I64) memcpy(y + 8 * i, &ia, 8);
    else memcpy(y + 4 * i, &sa, 4);
}

static void binary_frame(const sgru_stream *s, const sgru_op *op, size_t frame)
{
    uint32_t f = op->params[0], rank = op->params[1], dtype = tensor_of(s->model, op->in[0])->dtype;
    const uint32_t *dims = op->params + 2;
    const unsigned char *a = operand(s, op->in[0], frame), *b = operand(s, op->in[1], frame);
    unsigned char *y = operand(s, op->out[0], frame);
    size_t n = dims[rank - 1], rows = (size_t)sgru_product(rank, dims) / n;
    ptrdiff_t size = (ptrdiff_t)dtype_size(dtype), at[2];
    ptrdiff_t step_a = (int32_t)dims[2 * rank - 1], step_b = (int32_t)dims[3 * rank - 1];
    for (size_t row = 0; row < rows; row++) {
        row_offsets(row, rank, dims, 2, dims + rank, at);
        if (dtype == SGRU_F32 && is_float_function(f)) {
            float_row(s->k, f, n, (const float *)a + at[0], step_a, (const float *)b + at[1], step_b,
                      (float *)y + row * n);
            continue;
        }
        for (size_t i = 0; i < n; i++)
            plain_element(f, dtype, a + (at[0] + (ptrdiff_t)i * step_a) * size,
                          b + (at[1] + (ptrdiff_t)i * step_b) * size, y, row * n + i);
    }
}

static int binary_run(const sgru_stream *s, const sgru_op *op, size_t first, size_t frames)
{
    FOR_EACH_FRAME (f, first, frames) binary_frame(s, op, f);
    return SGRU_OK;
}

/* n elements, in rows of the last of `dims`. */
static SGRU_COLD uint64_t rows_work(uint32_t rank, const uint32_t *dims, unsigned cost)
{
    uint64_t n = sgru_product(rank, dims);
    return n * cost + n / dims[rank - 1] * SGRU_CALL;
}

static SGRU_COLD uint64_t binary_work(const sgru_model *m, const sgru_op *op)
{
    uint32_t f = op->params[0], rank = op->params[1];
    const uint32_t *steps = op->params + 1 + 2 * rank; /* of the last dimension, a's and then b's */
    int is_plain_row =
        tensor_of(m, op->in[0])->dtype == SGRU_F32 && is_float_function(f) && steps[0] <= 1 && steps[rank] <= 1;
    return rows_work(rank, op->params + 2, (is_plain_row ? 0 : SGRU_STRANGE) + sgru_binary_cost(f));
}

const sgru_op_def sgru_op_binary = {2, 1, 2, binary_check, binary_run, SHARES_ELEMENTS, NULL, binary_work, 1, NULL};

/* ---- WHERE: rank, dims[], c_strides[], a_strides[], b_strides[] ---- */

static SGRU_COLD int where_check(const sgru_model *m, const sgru_op *op, size_t *scratch)
{
    (void)scratch;
    uint32_t rank = op->params[0];
    const uint32_t *dims = op->params + 1;
    if (rank < 1 || rank > SGRU_MAX_RANK || op->n_params != 1 + 4 * rank || op->in[1] == SGRU_NONE) return 0;
    uint32_t dtype = tensor_of(m, op->in[1])->dtype;
    if (!is_plain(m, op->in[0], SGRU_BOOL) || !is_plain(m, op->in[1], dtype) || !is_plain(m, op->in[2], dtype))
        return 0;
    for (uint32_t i = 0; i < 3; i++)
        if (!sgru_walk_fits(count_of(tensor_of(m, op->in[i])), 0, rank, dims, dims + (i + 1) * rank)) return 0;
    return is_vector(m, op->out[0], dtype, sgru_product(rank, dims));
}

static int where_run(const sgru_stream *s, const sgru_op *op, size_t first, size_t frames)
{
    uint32_t rank = op->params[0];
    const uint32_t *dims = op->params + 1;
    size_t n = dims[rank - 1], rows = (size_t)sgru_product(rank, dims) / n;
    ptrdiff_t size = (ptrdiff_t)dtype_size(tensor_of(s->model, op->in[1])->dtype), at[3], step[3];
    for (uint32_t i = 0; i < 3; i++) step[i] = (int32_t)dims[(i + 2) * rank - 1];
    FOR_EACH_FRAME (f, first, frames) {
        const unsigned char *c = operand(s, op->in[0], f), *a = operand(s, op->in[1], f), *b = operand(s, op->in[2], f);
        unsigned char *y = operand(s, op->out[0], f);
        for (size_t row = 0; row < rows; row++) {
            row_offsets(row, rank, dims, 3, dims + rank, at);
            for (ptrdiff_t i = 0; i < (ptrdiff_t)n; i++, y += size)
                memcpy(y, c[at[0] + i * step[0]] ? a + (at[1] + i * step[1]) * size : b + (at[2] + i * step[2]) * size,
                       (size_t)size);
        }
    }
    return SGRU_OK;
}

static SGRU_COLD uint64_t where_work(const sgru_model *m, const sgru_op *op)
{
    (void)m;
    return rows_work(op->params[0], op->params + 1, SGRU_STRANGE);
}

const sgru_op_def sgru_op_where = {3, 1, 1, where_check, where_run, SHARES_NOTHING, NULL, where_work, 1, NULL};
