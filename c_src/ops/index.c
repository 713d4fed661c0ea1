/* Operators whose addresses come from data: GATHER, GATHER_ELEMENTS, SCATTER_ELEMENTS, SCATTER_ND. Indices are i64 or i32 and
 * negative ones count from the end. Each is looked at when it is used: one out of range ends the call with SGRU_E_INDEX. */
#include "ops.h"

static int is_index_list(const sgru_model *m, uint32_t id)
{
    return is_plain(m, id, SGRU_I64) || is_plain(m, id, SGRU_I32);
}

static int is_any(const sgru_model *m, uint32_t id)
{
    return id != SGRU_NONE && is_plain(m, id, tensor_of(m, id)->dtype);
}

/* Index number i of a list, made to count from the beginning; 0 where it is outside of `dim`. */
static int take_index(uint32_t dtype, const unsigned char *indices, size_t i, size_t dim, size_t *at)
{
    int64_t index = load_integer(dtype, indices + i * dtype_size(dtype));
    if (index < 0) index += (int64_t)dim;
    *at = (size_t)index;
    return index >= 0 && index < (int64_t)dim;
}

/* ---- GATHER: outer, dim, inner, n ---- */

static SGRU_COLD int gather_check(const sgru_model *m, const sgru_op *op, size_t *scratch)
{
    (void)scratch;
    if (!is_any(m, op->in[0]) || !is_index_list(m, op->in[1]) || op->out[0] == SGRU_NONE) return 0;
    const sgru_tensor_rec *x = tensor_of(m, op->in[0]);
    uint32_t in_dims[] = {op->params[0], op->params[1], op->params[2]};
    uint32_t out_dims[] = {op->params[0], op->params[3], op->params[2]};
    return count_of(x) == sgru_product(3, in_dims) && is_vector(m, op->out[0], x->dtype, sgru_product(3, out_dims)) &&
           count_of(tensor_of(m, op->in[1])) == out_dims[1];
}

static int gather_run(const sgru_stream *s, const sgru_op *op, size_t first, size_t frames)
{
    size_t outer = param(op, 0), dim = param(op, 1), n = param(op, 3), at;
    size_t row = param(op, 2) * dtype_size(tensor_of(s->model, op->in[0])->dtype);
    uint32_t dtype = tensor_of(s->model, op->in[1])->dtype;
    FOR_EACH_FRAME (f, first, frames) {
        const unsigned char *data = operand(s, op->in[0], f), *indices = operand(s, op->in[1], f);
        unsigned char *out = operand(s, op->out[0], f);
        for (size_t i = 0; i < n; i++) {
            if (!take_index(dtype, indices, i, dim, &at)) return SGRU_E_INDEX;
            for (size_t o = 0; o < outer; o++) memcpy(out + (o * n + i) * row, data + (o * dim + at) * row, row);
        }
    }
    return SGRU_OK;
}

static SGRU_COLD uint64_t gather_work(const sgru_model *m, const sgru_op *op)
{
    uint64_t rows = (uint64_t)op->params[0] * op->params[3];
    return plus(count_of(tensor_of(m, op->out[0])), rows * SGRU_CALL);
}

const sgru_op_def sgru_op_gather = {2, 1, 4, gather_check, gather_run, SHARES_NOTHING, NULL, gather_work, 0, NULL};

/* ---- what a scatter does to an element ---- */

enum { REPLACE, ADD, MUL, MAX, MIN, REDUCTIONS };

static int is_reduction(uint32_t reduction, uint32_t dtype)
{
    return reduction == REPLACE || (reduction < REDUCTIONS && (dtype == SGRU_F32 || is_integer(dtype)));
}

/* to[i] = to[i] (reduction) from[i] for n elements. */
static void combine(const sgru_kernels *k, uint32_t reduction, uint32_t dtype, size_t n, unsigned char *to,
                    const unsigned char *from)
{
    static const uint8_t functions[] = {0, B_ADD, B_MUL, B_MAX, B_MIN};
    size_t size = dtype_size(dtype);
    if (reduction == REPLACE) memmove(to, from, n * size);
    else if (dtype == SGRU_F32)
        k->binary(functions[reduction], n, (const float *)to, 1, (const float *)from, 1, (float *)to);
    else
        for (size_t i = 0; i < n * size; i += size)
            store_integer(dtype, to + i,
                          sgru_integer_function(functions[reduction], load_integer(dtype, to + i),
                                                load_integer(dtype, from + i)));
}

/* ---- GATHER_ELEMENTS: axis; SCATTER_ELEMENTS: axis, reduction ---- */

/* The indices have data's rank and, beside the axis, lie within its dimensions. */
static SGRU_COLD int indices_fit(const sgru_model *m, uint32_t data_id, uint32_t indices_id, uint32_t axis)
{
    if (!is_any(m, data_id) || !is_index_list(m, indices_id)) return 0;
    const sgru_tensor_rec *data = tensor_of(m, data_id), *indices = tensor_of(m, indices_id);
    if (data->rank != indices->rank || axis >= data->rank) return 0;
    for (uint32_t i = 0; i < data->rank; i++)
        if (i != axis && indices->dims[i] > data->dims[i]) return 0;
    return 1;
}

/* A walk over all indices: the position in them, and in data apart from the axis. */
typedef struct index_walk {
    const sgru_tensor_rec *indices;
    uint32_t axis, dim, dtype, at[SGRU_MAX_RANK];
    size_t strides[SGRU_MAX_RANK], beside_axis;
} index_walk;

static index_walk walk_of(const sgru_model *m, uint32_t data_id, uint32_t indices_id, uint32_t axis)
{
    const sgru_tensor_rec *data = tensor_of(m, data_id);
    index_walk w = {.indices = tensor_of(m, indices_id), .axis = axis, .dim = data->dims[axis]};
    w.dtype = w.indices->dtype;
    size_t stride = 1;
    for (uint32_t i = data->rank; i-- > 0; stride *= data->dims[i]) w.strides[i] = stride;
    return w;
}

static void next(index_walk *w)
{
    for (uint32_t i = w->indices->rank; i-- > 0; w->at[i] = 0) {
        size_t stride = i == w->axis ? 0 : w->strides[i];
        w->beside_axis += stride;
        if (++w->at[i] < w->indices->dims[i]) return;
        w->beside_axis -= stride * w->indices->dims[i];
    }
}

/* The element of data that index number i means. */
static int locate(const index_walk *w, const unsigned char *indices, size_t i, size_t *element)
{
    size_t at;
    if (!take_index(w->dtype, indices, i, w->dim, &at)) return 0;
    *element = w->beside_axis + at * w->strides[w->axis];
    return 1;
}

static SGRU_COLD int gather_elements_check(const sgru_model *m, const sgru_op *op, size_t *scratch)
{
    (void)scratch;
    return indices_fit(m, op->in[0], op->in[1], op->params[0]) &&
           is_vector(m, op->out[0], tensor_of(m, op->in[0])->dtype, count_of(tensor_of(m, op->in[1])));
}

static int gather_elements_run(const sgru_stream *s, const sgru_op *op, size_t first, size_t frames)
{
    size_t n = count_of(tensor_of(s->model, op->in[1])), size = dtype_size(tensor_of(s->model, op->in[0])->dtype), at;
    FOR_EACH_FRAME (f, first, frames) {
        index_walk w = walk_of(s->model, op->in[0], op->in[1], op->params[0]);
        const unsigned char *data = operand(s, op->in[0], f), *indices = operand(s, op->in[1], f);
        unsigned char *out = operand(s, op->out[0], f);
        for (size_t i = 0; i < n; i++, next(&w)) {
            if (!locate(&w, indices, i, &at)) return SGRU_E_INDEX;
            memcpy(out + i * size, data + at * size, size);
        }
    }
    return SGRU_OK;
}

/* Each element that an index or an update names takes a call. */
static SGRU_COLD uint64_t elements_work(const sgru_model *m, const sgru_op *op)
{
    uint32_t last = op->in[op->n_in - 1];
    return plus(count_of(tensor_of(m, op->out[0])), times(count_of(tensor_of(m, last)), SGRU_CALL));
}

const sgru_op_def sgru_op_gather_elements = {
    2, 1, 1, gather_elements_check, gather_elements_run, SHARES_NOTHING, NULL, elements_work, 0, NULL};

static SGRU_COLD int scatter_elements_check(const sgru_model *m, const sgru_op *op, size_t *scratch)
{
    (void)scratch;
    if (!indices_fit(m, op->in[0], op->in[1], op->params[0])) return 0;
    const sgru_tensor_rec *data = tensor_of(m, op->in[0]);
    return is_reduction(op->params[1], data->dtype) && is_vector(m, op->out[0], data->dtype, count_of(data)) &&
           is_vector(m, op->in[2], data->dtype, count_of(tensor_of(m, op->in[1])));
}

static int scatter_elements_run(const sgru_stream *s, const sgru_op *op, size_t first, size_t frames)
{
    const sgru_tensor_rec *data = tensor_of(s->model, op->in[0]);
    size_t n = count_of(tensor_of(s->model, op->in[1])), size = dtype_size(data->dtype), at;
    FOR_EACH_FRAME (f, first, frames) {
        index_walk w = walk_of(s->model, op->in[0], op->in[1], op->params[0]);
        const unsigned char *indices = operand(s, op->in[1], f), *updates = operand(s, op->in[2], f);
        unsigned char *out = operand(s, op->out[0], f);
        memmove(out, operand(s, op->in[0], f), bytes_of(data));
        for (size_t i = 0; i < n; i++, next(&w)) {
            if (!locate(&w, indices, i, &at)) return SGRU_E_INDEX;
            combine(s->k, op->params[1], data->dtype, 1, out + at * size, updates + i * size);
        }
    }
    return SGRU_OK;
}

const sgru_op_def sgru_op_scatter_elements = {
    3, 1, 2, scatter_elements_check, scatter_elements_run, SHARES_NOTHING, NULL, elements_work, 0, NULL};

/* ---- SCATTER_ND: reduction. indices [n.., depth]; each row is the place of a slice of data ---- */

typedef struct nd_shape {
    size_t n, depth, slice;
} nd_shape; /* slice: elements */

static nd_shape nd_shape_of(const sgru_tensor_rec *data, const sgru_tensor_rec *indices)
{
    nd_shape shape = {.depth = indices->dims[indices->rank - 1], .slice = 1};
    shape.n = count_of(indices) / shape.depth;
    for (size_t i = shape.depth; i < data->rank; i++) shape.slice *= data->dims[i];
    return shape;
}

static SGRU_COLD int scatter_nd_check(const sgru_model *m, const sgru_op *op, size_t *scratch)
{
    (void)scratch;
    if (!is_any(m, op->in[0]) || !is_index_list(m, op->in[1])) return 0;
    const sgru_tensor_rec *data = tensor_of(m, op->in[0]), *indices = tensor_of(m, op->in[1]);
    if (indices->rank < 1 || indices->dims[indices->rank - 1] > data->rank) return 0;
    nd_shape shape = nd_shape_of(data, indices);
    return is_reduction(op->params[0], data->dtype) && is_vector(m, op->out[0], data->dtype, count_of(data)) &&
           is_vector(m, op->in[2], data->dtype, (uint64_t)shape.n * shape.slice);
}

static int scatter_nd_run(const sgru_stream *s, const sgru_op *op, size_t first, size_t frames)
{
    const sgru_tensor_rec *data = tensor_of(s->model, op->in[0]), *list = tensor_of(s->model, op->in[1]);
    nd_shape shape = nd_shape_of(data, list);
    size_t bytes = shape.slice * dtype_size(data->dtype), at;
    FOR_EACH_FRAME (f, first, frames) {
        const unsigned char *indices = operand(s, op->in[1], f), *updates = operand(s, op->in[2], f);
        unsigned char *out = operand(s, op->out[0], f);
        memmove(out, operand(s, op->in[0], f), bytes_of(data));
        for (size_t i = 0; i < shape.n; i++) {
            size_t slice = 0;
            for (size_t d = 0; d < shape.depth; d++) {
                if (!take_index(list->dtype, indices, i * shape.depth + d, data->dims[d], &at)) return SGRU_E_INDEX;
                slice = slice * data->dims[d] + at;
            }
            combine(s->k, op->params[0], data->dtype, shape.slice, out + slice * bytes, updates + i * bytes);
        }
    }
    return SGRU_OK;
}

static SGRU_COLD uint64_t scatter_nd_work(const sgru_model *m, const sgru_op *op)
{
    uint64_t all = count_of(tensor_of(m, op->out[0])), updates = count_of(tensor_of(m, op->in[2]));
    return all + updates * SGRU_STRANGE + (uint64_t)count_of(tensor_of(m, op->in[1])) * SGRU_CALL;
}

const sgru_op_def sgru_op_scatter_nd = {
    3, 1, 1, scatter_nd_check, scatter_nd_run, SHARES_NOTHING, NULL, scatter_nd_work, 0, NULL};
