/* A constant matrix of packed rows in one of its formats, and its product with columns: what AFFINE, GRU, LSTM and RNN do with
 * their weights, whatever these are made of. */
#ifndef SGRU_MATRIX_H
#define SGRU_MATRIX_H

#include "../internal.h"

typedef struct sgru_matrix {
    uint32_t dtype;
    size_t rows, columns;
    const void *data; /* packed rows; NULL where there is no matrix */
} sgru_matrix;

static inline sgru_matrix matrix_of(const sgru_stream *s, uint32_t id)
{
    if (id == SGRU_NONE) return (sgru_matrix){0};
    const sgru_tensor_rec *t = tensor_of(s->model, id);
    return (sgru_matrix){t->dtype, t->dims[0], t->dims[1], operand(s, id, 0)};
}

/* Blocks `first` .. `end` of its rows; `end` may be beyond the last. */
sgru_matrix sgru_rows(const sgru_matrix *w, size_t first, size_t end);

/* y[c][m] = w[m] · x[c] on from init[c][m], as `affine` in kernels.h; of 8 bits, q holds the columns quantised, and x is not read. */
void sgru_product_of(const sgru_kernels *k, const sgru_matrix *w, size_t columns, const float *init, size_t ld_init,
                     const float *x, size_t ld_x, const uint8_t *q, float *y, size_t ld_y);

/* A product of so many multiplications is worth sharing between workers. */
enum { SGRU_WORTH_SHARING = 65536 };

/* Bytes of working memory for products with the matrix `id`, a multiple of 64; it may be absent. */
size_t sgru_multiply_memory(const sgru_model *m, uint32_t id);

/* The same with the stream's kernels and workers; memory: sgru_multiply_memory() bytes. */
void sgru_multiply(const sgru_stream *s, const sgru_matrix *w, size_t columns, const float *init, size_t ld_init,
                   const float *x, size_t ld_x, float *y, size_t ld_y, void *memory);

#endif
