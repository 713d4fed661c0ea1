/* Products with constant matrices (matrix.h), and the check of those of 8 bits. */
#include "matrix.h"

/* Columns that are quantised at once: whole tiles of every ISA, few enough to stay in the L1 cache. */
enum { COLUMNS = 24 };

size_t sgru_multiply_memory(const sgru_model *m, uint32_t id)
{
    if (id == SGRU_NONE || tensor_of(m, id)->dtype != SGRU_I8) return 0;
    return COLUMNS * sgru_q_step(tensor_of(m, id)->dims[1]);
}

static void multiply_i8(const sgru_kernels *k, const sgru_matrix *w, size_t columns, const float *init, size_t ld_init,
                        const float *x, size_t ld_x, float *y, size_t ld_y, uint8_t *q)
{
    for (size_t c = 0; c < columns; c += COLUMNS) {
        size_t n = columns - c < COLUMNS ? columns - c : COLUMNS;
        k->quantise(w->columns, n, x + c * ld_x, ld_x, q);
        k->affine_i8(w->rows, w->columns, n, w->data, init ? init + c * ld_init : NULL, ld_init, q, y + c * ld_y, ld_y);
    }
}

void sgru_multiply(const sgru_kernels *k, const sgru_matrix *w, size_t columns, const float *init, size_t ld_init,
                   const float *x, size_t ld_x, float *y, size_t ld_y, void *memory)
{
    switch (w->dtype) {
    case SGRU_F32: k->affine(w->rows, w->columns, columns, w->data, init, ld_init, x, ld_x, y, ld_y); break;
    case SGRU_F16: k->affine_f16(w->rows, w->columns, columns, w->data, init, ld_init, x, ld_x, y, ld_y); break;
    default: multiply_i8(k, w, columns, init, ld_init, x, ld_x, y, ld_y, memory);
    }
}

/* One row of a block: its weights, zero from K on, and what stands for it in the lines of sums and scales. */
static int row_is_sound(const int8_t *block, size_t row, size_t K)
{
    size_t lines = sgru_lines_i8(K);
    int32_t sum = 0, given;
    float scale;
    for (size_t k = 0; k < lines * 4; k++) {
        int8_t w = block[k / 4 * 64 + row * 4 + k % 4];
        if (w == -128 || (k >= K && w)) return 0;
        sum += w;
    }
    memcpy(&given, block + lines * 64 + row * 4, sizeof given);
    memcpy(&scale, block + lines * 64 + 64 + row * 4, sizeof scale);
    return given == -128 * sum && scale - scale == 0.0f;
}

int sgru_integers_are_sound(const sgru_tensor_rec *t, const void *data)
{
    size_t M = t->dims[0], K = t->dims[1];
    if (K > SGRU_MAX_K_I8) return 0;
    for (size_t m = 0; m < (M + 15) / 16 * 16; m++)
        if (!row_is_sound((const int8_t *)data + m / 16 * sgru_block_step_i8(K), m % 16, K)) return 0;
    return 1;
}
