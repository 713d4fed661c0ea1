/* Matrix products: AFFINE (packed constant weights, bias, activation) and MATMUL (two computed matrices). */
#include "matrix.h"
#include "ops.h"

/* ---- AFFINE: n, M, K, activation, alpha, beta ---- */

static SGRU_COLD int affine_check(const sgru_model *m, const sgru_op *op, size_t *scratch)
{
    uint64_t n = op->params[0], M = op->params[1], K = op->params[2];
    return is_packed(m, op->in[1], M, K) && is_vector(m, op->in[0], SGRU_F32, n * K) &&
           is_optional_weight(m, op->in[2], M) && is_vector(m, op->out[0], SGRU_F32, n * M) &&
           is_activation(op->params[3]) && need_scratch(scratch, sgru_multiply_memory(m, op->in[1]));
}

static int affine_run(const sgru_stream *s, const sgru_op *op, size_t first, size_t frames)
{
    size_t n = param(op, 0), M = param(op, 1), K = param(op, 2);
    const sgru_matrix w = matrix_of(s, op->in[1]);
    const float *bias = operand(s, op->in[2], 0);
    int together = n == 1 && tensor_of(s->model, op->out[0])->kind == KIND_ARENA;
    if (together) /* the frames of a block are the columns of one product */
        sgru_multiply(s, &w, frames, bias, 0, operand(s, op->in[0], first), frame_stride(s, op->in[0]),
                      operand(s, op->out[0], first), frame_stride(s, op->out[0]), s->scratch);
    FOR_EACH_FRAME (f, first, frames) {
        float *y = operand(s, op->out[0], f);
        if (!together) sgru_multiply(s, &w, n, bias, 0, operand(s, op->in[0], f), K, y, M, s->scratch);
        if (param(op, 3)) s->k->unary(op->params[3], param_f(op, 4), param_f(op, 5), n * M, y, y);
    }
    return SGRU_OK;
}

static SGRU_COLD uint64_t affine_work(const sgru_model *m, const sgru_op *op)
{
    (void)m;
    uint64_t n = op->params[0], M = whole_vectors(op->params[1]);
    return times(times(n, M), (uint64_t)op->params[2] + sgru_unary_cost(op->params[3]));
}

const sgru_op_def sgru_op_affine = {3, 1, 6, affine_check, affine_run, SHARES_NOTHING, NULL, affine_work, 0, NULL};

/* ---- MATMUL: rank, M, N, K, a_row, b_row, batch[], a_strides[], b_strides[] ---- */

/* The operand is [batch.., rows, columns] with these strides, the columns contiguous, inside its tensor. */
static SGRU_COLD int matrices_fit(const sgru_model *m, uint32_t id, uint32_t rank, const uint32_t *batch,
                                  const uint32_t *strides, uint32_t rows, uint32_t columns, uint32_t row_stride)
{
    uint32_t dims[SGRU_MAX_RANK + 2], steps[SGRU_MAX_RANK + 2];
    if (!is_plain(m, id, SGRU_F32) || row_stride > SGRU_MAX_ELEMENTS) return 0;
    for (uint32_t i = 0; i < rank; i++) dims[i] = batch[i], steps[i] = strides[i];
    dims[rank] = rows, steps[rank] = row_stride;
    dims[rank + 1] = columns, steps[rank + 1] = 1;
    return sgru_walk_fits(count_of(tensor_of(m, id)), 0, rank + 2, dims, steps);
}

static SGRU_COLD int matmul_check(const sgru_model *m, const sgru_op *op, size_t *scratch)
{
    (void)scratch;
    uint32_t rank = op->params[0], M = op->params[1], N = op->params[2], K = op->params[3];
    const uint32_t *batch = op->params + 6;
    if (rank > SGRU_MAX_RANK || op->n_params != 6 + 3 * rank) return 0;
    uint32_t out[] = {(uint32_t)sgru_product(rank, batch), M, N};
    return matrices_fit(m, op->in[0], rank, batch, batch + rank, M, K, op->params[4]) &&
           matrices_fit(m, op->in[1], rank, batch, batch + 2 * rank, K, N, op->params[5]) && sgru_product(3, out) &&
           is_vector(m, op->out[0], SGRU_F32, sgru_product(3, out));
}

static int matmul_run(const sgru_stream *s, const sgru_op *op, size_t first, size_t frames)
{
    uint32_t rank = op->params[0];
    size_t M = param(op, 1), N = param(op, 2), K = param(op, 3);
    const uint32_t *batch = op->params + 6;
    size_t products = (size_t)sgru_product(rank, batch);
    FOR_EACH_FRAME (f, first, frames) {
        const float *a = operand(s, op->in[0], f), *b = operand(s, op->in[1], f);
        float *y = operand(s, op->out[0], f);
        for (size_t p = 0; p < products; p++, y += M * N) {
            ptrdiff_t at_a = 0, at_b = 0;
            for (size_t i = rank, left = p; i-- > 0; left /= batch[i]) {
                at_a += (ptrdiff_t)(left % batch[i]) * (int32_t)batch[rank + i];
                at_b += (ptrdiff_t)(left % batch[i]) * (int32_t)batch[2 * rank + i];
            }
            s->k->matmul(M, N, K, a + at_a, param(op, 4), b + at_b, param(op, 5), y, N);
        }
    }
    return SGRU_OK;
}

static SGRU_COLD uint64_t matmul_work(const sgru_model *m, const sgru_op *op)
{
    (void)m;
    uint64_t products = sgru_product(op->params[0], op->params + 6), M = op->params[1], K = op->params[3];
    return times(times(products, M), plus(times(whole_vectors(op->params[2]), K), SGRU_CALL));
}

const sgru_op_def sgru_op_matmul = {2, 1, 6, matmul_check, matmul_run, SHARES_NOTHING, NULL, matmul_work, 1, NULL};
