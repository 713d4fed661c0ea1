/* Operators that move data and compute nothing: COPY, FILL, CAST. */
#include "ops.h"

/* ---- COPY: rank, src_offset, dst_offset, dims[], src_strides[], dst_strides[] ---- */

static SGRU_COLD int copy_check(const sgru_model *m, const sgru_op *op, size_t *scratch)
{
    (void)scratch;
    uint32_t rank = op->params[0];
    if (rank > SGRU_MAX_RANK || op->n_params != 3 + 3 * rank || op->in[0] == SGRU_NONE || op->out[0] == SGRU_NONE)
        return 0;
    const sgru_tensor_rec *src = tensor_of(m, op->in[0]), *dst = tensor_of(m, op->out[0]);
    const uint32_t *dims = op->params + 3;
    /* No more elements than dst holds: strides of 0 would make much work of a small file. */
    return src->dtype == dst->dtype && src->layout == LAYOUT_ROWS && sgru_product(rank, dims) <= count_of(dst) &&
           sgru_walk_fits(count_of(src), param_i(op, 1), rank, dims, dims + rank) &&
           sgru_walk_fits(count_of(dst), param_i(op, 2), rank, dims, dims + 2 * rank);
}

/* One row of elements. Overlapping rows (a state shifted within itself) are moved whole. Elements of four bytes, which most
 * are, have a size that the compiler knows. */
static void copy_row(unsigned char *dst, ptrdiff_t dst_step, const unsigned char *src, ptrdiff_t src_step, size_t n,
                     size_t size)
{
    if (dst_step == 1 && src_step == 1) {
        memmove(dst, src, n * size);
        return;
    }
    dst_step *= (ptrdiff_t)size, src_step *= (ptrdiff_t)size;
    if (size == 4)
        for (; n; n--, dst += dst_step, src += src_step) memcpy(dst, src, 4);
    for (; n; n--, dst += dst_step, src += src_step) memcpy(dst, src, size);
}

/* The rows below one dimension; depth is bounded by SGRU_MAX_RANK. */
static void copy_walk(unsigned char *dst, const unsigned char *src, uint32_t rank, const uint32_t *dims,
                      const uint32_t *src_strides, const uint32_t *dst_strides, size_t size)
{
    const int is_list = rank && *dims > 1; /* of one element the stride may be any number */
    ptrdiff_t src_step = is_list ? (int32_t)*src_strides : 1, dst_step = is_list ? (int32_t)*dst_strides : 1;
    if (rank <= 1) {
        copy_row(dst, dst_step, src, src_step, rank ? *dims : 1, size);
        return;
    }
    for (uint32_t i = 0; i < *dims; i++)
        copy_walk(dst + (ptrdiff_t)i * dst_step * (ptrdiff_t)size, src + (ptrdiff_t)i * src_step * (ptrdiff_t)size,
                  rank - 1, dims + 1, src_strides + 1, dst_strides + 1, size);
}

static int copy_run(const sgru_stream *s, const sgru_op *op, size_t first, size_t frames)
{
    uint32_t rank = op->params[0];
    const uint32_t *dims = op->params + 3;
    size_t size = dtype_size(tensor_of(s->model, op->in[0])->dtype);
    FOR_EACH_FRAME (f, first, frames) {
        const unsigned char *src = (const unsigned char *)operand(s, op->in[0], f) + param_i(op, 1) * (ptrdiff_t)size;
        unsigned char *dst = (unsigned char *)operand(s, op->out[0], f) + param_i(op, 2) * (ptrdiff_t)size;
        copy_walk(dst, src, rank, dims, dims + rank, dims + 2 * rank, size);
    }
    return SGRU_OK;
}

static SGRU_COLD uint64_t copy_work(const sgru_model *m, const sgru_op *op)
{
    (void)m;
    uint32_t rank = op->params[0], last = 2 + rank; /* of dims */
    uint64_t n = sgru_product(rank, op->params + 3);
    int is_row = rank == 0 || (op->params[last + rank] == 1 && op->params[last + 2 * rank] == 1);
    return is_row ? n + n / (rank ? op->params[last] : 1) * SGRU_CALL : n * SGRU_STRANGE;
}

static SGRU_COLD int copy_part(const sgru_op *op, uint32_t i, sgru_walk *walk)
{
    uint32_t rank = op->params[0];
    const uint32_t *dims = op->params + 3;
    *walk = (sgru_walk){(int32_t)op->params[1 + i], rank, dims, dims + (1 + i) * rank, {0}};
    return 1;
}

const sgru_op_def sgru_op_copy = {1, 1, 3, copy_check, copy_run, SHARES_ANYTHING, NULL, copy_work, 1, copy_part};

/* ---- FILL: the bits of one element ---- */

static SGRU_COLD int fill_check(const sgru_model *m, const sgru_op *op, size_t *scratch)
{
    (void)m, (void)scratch;
    return op->out[0] != SGRU_NONE;
}

static int fill_run(const sgru_stream *s, const sgru_op *op, size_t first, size_t frames)
{
    const sgru_tensor_rec *t = tensor_of(s->model, op->out[0]);
    size_t size = dtype_size(t->dtype), n = count_of(t);
    FOR_EACH_FRAME (f, first, frames) {
        unsigned char *dst = operand(s, op->out[0], f);
        if (size == 4)
            for (size_t i = 0; i < n; i++) memcpy(dst + 4 * i, op->params, 4);
        else
            for (size_t i = 0; i < n; i++) memcpy(dst + i * size, op->params, size);
    }
    return SGRU_OK;
}

static SGRU_COLD uint64_t fill_work(const sgru_model *m, const sgru_op *op)
{
    return times(count_of(tensor_of(m, op->out[0])), SGRU_STRANGE);
}

const sgru_op_def sgru_op_fill = {0, 1, 2, fill_check, fill_run, SHARES_NOTHING, NULL, fill_work, 0, NULL};

/* ---- CAST between f32, i64, i32 and bool: truncation towards zero, saturating; NaN gives 0; bool is x != 0 ---- */

static int is_castable(const sgru_tensor_rec *t) { return t->dtype <= SGRU_BOOL && t->layout == LAYOUT_ROWS; }

static SGRU_COLD int cast_check(const sgru_model *m, const sgru_op *op, size_t *scratch)
{
    (void)scratch;
    if (op->in[0] == SGRU_NONE || op->out[0] == SGRU_NONE) return 0;
    const sgru_tensor_rec *x = tensor_of(m, op->in[0]), *y = tensor_of(m, op->out[0]);
    return is_castable(x) && is_castable(y) && count_of(x) == count_of(y);
}

typedef struct number {
    float f;
    int64_t i;
} number; /* one value, as a float and as an integer */

static number number_from(uint32_t dtype, const unsigned char *p)
{
    number v = {0};
    int32_t i32;
    switch (dtype) {
    case SGRU_F32:
        memcpy(&v.f, p, 4);
        if (v.f >= 0x1p63f) v.i = INT64_MAX;
        else if (v.f < -0x1p63f) v.i = INT64_MIN;
        else if (v.f == v.f) v.i = (int64_t)v.f;
        return v;
    case SGRU_I64: memcpy(&v.i, p, 8); break;
    case SGRU_I32: memcpy(&i32, p, 4), v.i = i32; break;
    default: v.i = *p != 0;
    }
    v.f = (float)v.i;
    return v;
}

static void number_to(uint32_t dtype, unsigned char *p, number v)
{
    int32_t i32 = v.i > INT32_MAX ? INT32_MAX : v.i < INT32_MIN ? INT32_MIN : (int32_t)v.i;
    switch (dtype) {
    case SGRU_F32: memcpy(p, &v.f, 4); break;
    case SGRU_I64: memcpy(p, &v.i, 8); break;
    case SGRU_I32: memcpy(p, &i32, 4); break;
    default: *p = v.f != 0.0f;
    }
}

static int cast_run(const sgru_stream *s, const sgru_op *op, size_t first, size_t frames)
{
    const sgru_tensor_rec *from = tensor_of(s->model, op->in[0]), *to = tensor_of(s->model, op->out[0]);
    size_t n = count_of(from), from_size = dtype_size(from->dtype), to_size = dtype_size(to->dtype);
    FOR_EACH_FRAME (f, first, frames) {
        const unsigned char *x = operand(s, op->in[0], f);
        unsigned char *y = operand(s, op->out[0], f);
        for (size_t i = 0; i < n; i++)
            number_to(to->dtype, y + i * to_size, number_from(from->dtype, x + i * from_size));
    }
    return SGRU_OK;
}

const sgru_op_def sgru_op_cast = {1, 1, 0, cast_check, cast_run, SHARES_NOTHING, NULL, fill_work, 0, NULL};
