/* Operators that rank the elements of one dimension of [outer, n, inner]: ARG and TOPK, over f32, i64 and i32. Elements are
 * compared by integer keys in the same order: -0 equals +0, and NaN is above every number. */
#include "ops.h"

static int is_ranked(uint32_t dtype) { return dtype == SGRU_F32 || is_integer(dtype); }

static int64_t key_of(uint32_t dtype, const unsigned char *p)
{
    float f;
    int32_t bits;
    if (dtype != SGRU_F32) return load_integer(dtype, p);
    memcpy(&f, p, sizeof f);
    if (f != f) return INT32_MAX;
    f += 0.0f; /* -0 becomes +0 */
    memcpy(&bits, &f, sizeof bits);
    return bits < 0 ? (int64_t)INT32_MIN - bits : bits;
}

/* ---- ARG: 0 max / 1 min, outer, n, inner, select_last ---- */

static SGRU_COLD int arg_check(const sgru_model *m, const sgru_op *op, size_t *scratch)
{
    (void)scratch;
    uint64_t count = sgru_product(3, op->params + 1);
    uint32_t dtype = op->in[0] == SGRU_NONE ? 0 : tensor_of(m, op->in[0])->dtype;
    return count && is_ranked(dtype) && op->params[0] <= 1 && op->params[4] <= 1 &&
           is_vector(m, op->in[0], dtype, count) && is_vector(m, op->out[0], SGRU_I64, count / op->params[2]);
}

/* The index of the greatest (smallest) of n elements that lie `step` bytes apart. */
static int64_t arg_of(uint32_t dtype, int smallest, int last, size_t n, const unsigned char *x, size_t step)
{
    size_t best = 0;
    int64_t best_key = 0;
    for (size_t i = 0; i < n; i++, x += step) {
        int64_t key = key_of(dtype, x);
        if (smallest) key = ~key; /* turns the order around */
        if (i && (key < best_key || (key == best_key && !last))) continue;
        best = i;
        best_key = key;
    }
    return (int64_t)best;
}

static int arg_run(const sgru_stream *s, const sgru_op *op, size_t first, size_t frames)
{
    uint32_t dtype = tensor_of(s->model, op->in[0])->dtype;
    size_t outer = param(op, 1), n = param(op, 2), inner = param(op, 3), size = dtype_size(dtype);
    FOR_EACH_FRAME (f, first, frames) {
        const unsigned char *x = operand(s, op->in[0], f);
        int64_t *y = operand(s, op->out[0], f);
        for (size_t o = 0; o < outer; o++, x += n * inner * size)
            for (size_t i = 0; i < inner; i++)
                *y++ = arg_of(dtype, op->params[0] == 1, op->params[4] == 1, n, x + i * size, inner * size);
    }
    return SGRU_OK;
}

static SGRU_COLD uint64_t arg_work(const sgru_model *m, const sgru_op *op)
{
    return times(count_of(tensor_of(m, op->in[0])), SGRU_STRANGE);
}

const sgru_op_def sgru_op_arg = {1, 1, 5, arg_check, arg_run, SHARES_NOTHING, NULL, arg_work, 0, NULL};

/* ---- TOPK: outer, n, inner, k, largest, sorted (they always are) ---- */

typedef struct ranked {
    int64_t key, index;
} ranked;

static SGRU_COLD int topk_check(const sgru_model *m, const sgru_op *op, size_t *scratch)
{
    const uint32_t *p = op->params, out[] = {p[0], p[3], p[2]};
    uint64_t count = sgru_product(3, p), kept = sgru_product(3, out);
    uint32_t dtype = op->in[0] == SGRU_NONE ? 0 : tensor_of(m, op->in[0])->dtype;
    return count && kept && p[3] <= p[1] && p[4] <= 1 && p[5] <= 1 && is_ranked(dtype) &&
           is_vector(m, op->in[0], dtype, count) &&
           (op->out[0] == SGRU_NONE || is_vector(m, op->out[0], dtype, kept)) &&
           (op->out[1] == SGRU_NONE || is_vector(m, op->out[1], SGRU_I64, kept)) &&
           need_scratch(scratch, sizeof(ranked) * (uint64_t)p[3]);
}

/* Whether a comes after b in the result; of equals the lower index comes first. */
static int is_after(ranked a, ranked b) { return a.key != b.key ? a.key < b.key : a.index > b.index; }

/* heap[at] sinks to its place; the root of the heap comes after all others. */
static void sink(ranked *heap, size_t n, size_t at, ranked value)
{
    for (size_t child; (child = 2 * at + 1) < n; at = child) {
        if (child + 1 < n && is_after(heap[child + 1], heap[child])) child++;
        if (!is_after(heap[child], value)) break;
        heap[at] = heap[child];
    }
    heap[at] = value;
}

/* The first k of n elements that lie `step` bytes apart, in order. */
static void select_top(uint32_t dtype, int smallest, size_t n, const unsigned char *x, size_t step, size_t k,
                       ranked *heap)
{
    for (size_t i = 0; i < n; i++, x += step) {
        ranked value = {key_of(dtype, x), (int64_t)i};
        if (smallest) value.key = ~value.key;
        if (i < k) heap[i] = value;
        if (i + 1 == k)
            for (size_t at = k; at-- > 0;) sink(heap, k, at, heap[at]);
        if (i >= k && is_after(heap[0], value)) sink(heap, k, 0, value);
    }
    for (size_t last = k; last-- > 1;) {
        ranked value = heap[last];
        heap[last] = heap[0];
        sink(heap, last, 0, value);
    }
}

static int topk_run(const sgru_stream *s, const sgru_op *op, size_t first, size_t frames)
{
    uint32_t dtype = tensor_of(s->model, op->in[0])->dtype;
    size_t outer = param(op, 0), n = param(op, 1), inner = param(op, 2), k = param(op, 3), size = dtype_size(dtype);
    ranked *heap = (ranked *)s->scratch;
    FOR_EACH_FRAME (f, first, frames) {
        const unsigned char *x = operand(s, op->in[0], f);
        unsigned char *values = operand(s, op->out[0], f);
        int64_t *indices = operand(s, op->out[1], f);
        for (size_t column = 0; column < outer * inner; column++) {
            size_t from = column / inner * n * inner + column % inner, to = column / inner * k * inner + column % inner;
            select_top(dtype, op->params[4] == 0, n, x + from * size, inner * size, k, heap);
            for (size_t i = 0; i < k; i++) {
                if (values)
                    memcpy(values + (to + i * inner) * size, x + (from + (size_t)heap[i].index * inner) * size, size);
                if (indices) indices[to + i * inner] = heap[i].index;
            }
        }
    }
    return SGRU_OK;
}

/* Each element may sink through all levels of the heap. */
static SGRU_COLD uint64_t topk_work(const sgru_model *m, const sgru_op *op)
{
    unsigned levels = 1;
    while (op->params[3] >> levels) levels++;
    return times(count_of(tensor_of(m, op->in[0])), (uint64_t)(1 + levels) * SGRU_STRANGE);
}

const sgru_op_def sgru_op_topk = {1, 2, 6, topk_check, topk_run, SHARES_NOTHING, NULL, topk_work, 0, NULL};
