/* Products with constant matrices (matrix.h), and the check of those of 8 bits. */
#include "matrix.h"

/* Columns that are quantised at once: whole tiles of every ISA, few enough to stay in the L1 cache. */
enum { COLUMNS = 24 };

size_t sgru_multiply_memory(const sgru_model *m, uint32_t id)
{
    if (id == SGRU_NONE || tensor_of(m, id)->dtype != SGRU_I8) return 0;
    return COLUMNS * sgru_q_step(tensor_of(m, id)->dims[1]);
}

sgru_matrix sgru_rows(const sgru_matrix *w, size_t first, size_t end)
{
    static const uint8_t bytes[] = {[SGRU_F32] = 4, [SGRU_F16] = 2};
    size_t step = w->dtype == SGRU_I8 ? sgru_block_step_i8(w->columns) : sgru_block_step(w->columns) * bytes[w->dtype];
    size_t rows = (end * 16 < w->rows ? end * 16 : w->rows) - first * 16;
    return (sgru_matrix){w->dtype, rows, w->columns, (const unsigned char *)w->data + first * step};
}

void sgru_product_of(const sgru_kernels *k, const sgru_matrix *w, size_t columns, const float *init, size_t ld_init,
                     const float *x, size_t ld_x, const uint8_t *q, float *y, size_t ld_y)
{
    size_t M = w->rows, K = w->columns;
    switch (w->dtype) {
    case SGRU_F32: k->affine(M, K, columns, w->data, init, ld_init, x, ld_x, y, ld_y); break;
    case SGRU_F16: k->affine_f16(M, K, columns, w->data, init, ld_init, x, ld_x, y, ld_y); break;
    default: k->affine_i8(M, K, columns, w->data, init, ld_init, q, y, ld_y);
    }
}

/* What workers share. */
typedef struct product {
    const sgru_kernels *k;
    const sgru_matrix *w;
    const float *init, *x;
    const uint8_t *q;
    float *y;
    size_t columns, ld_init, ld_x, ld_y;
    unsigned parts;
} product;

static void multiply(const product *p, const sgru_matrix *w, size_t row)
{
    sgru_product_of(p->k, w, p->columns, p->init ? p->init + row : NULL, p->ld_init, p->x, p->ld_x, p->q, p->y + row,
                    p->ld_y);
}

static void multiply_part(void *work, unsigned i)
{
    const product *p = work;
    size_t blocks = (p->w->rows + 15) / 16, first = blocks * i / p->parts, end = blocks * (i + 1) / p->parts;
    sgru_matrix rows = sgru_rows(p->w, first, end);
    if (first == end) return;
    sgru_fpenv caller = sgru_fpenv_enter();
    multiply(p, &rows, first * 16);
    sgru_fpenv_leave(caller);
}

static void share(sgru_workers *workers, product *p)
{
    if (!workers || p->w->rows * p->w->columns * p->columns < SGRU_WORTH_SHARING) {
        multiply(p, p->w, 0);
        return;
    }
    p->parts = workers->n;
    workers->run(workers, multiply_part, p);
}

void sgru_multiply(const sgru_stream *s, const sgru_matrix *w, size_t columns, const float *init, size_t ld_init,
                   const float *x, size_t ld_x, float *y, size_t ld_y, void *memory)
{
    product p = {s->k, w, init, x, memory, y, columns, ld_init, ld_x, ld_y, 1};
    if (w->dtype != SGRU_I8) {
        share(s->workers, &p);
        return;
    }
    for (size_t c = 0; c < columns; c += COLUMNS) {
        p.columns = columns - c < COLUMNS ? columns - c : COLUMNS;
        s->k->quantise(w->columns, p.columns, x + c * ld_x, ld_x, memory);
        share(s->workers, &p);
        if (init) p.init += COLUMNS * ld_init;
        p.y += COLUMNS * ld_y;
    }
}

/* One row of a block: its weights, zero from K on, and what stands for it in the lines of sums and scales. */
static int row_is_sound(const int8_t *block, size_t row, size_t K)
{
    size_t lines = sgru_lines_i8(K);
    int32_t sum = 0, given;
    uint32_t scale;
    for (size_t k = 0; k < lines * 4; k++) {
        int8_t w = block[k / 4 * 64 + row * 4 + k % 4];
        if (w == -128 || (k >= K && w)) return 0;
        sum += w;
    }
    memcpy(&given, block + lines * 64 + row * 4, sizeof given);
    memcpy(&scale, block + lines * 64 + 64 + row * 4, sizeof scale);
    return given == -128 * sum && is_finite_float(scale);
}

int sgru_integers_are_sound(const sgru_tensor_rec *t, const void *data)
{
    size_t M = t->dims[0], K = t->dims[1];
    if (K > SGRU_MAX_K_I8) return 0;
    for (size_t m = 0; m < (M + 15) / 16 * 16; m++)
        if (!row_is_sound((const int8_t *)data + m / 16 * sgru_block_step_i8(K), m % 16, K)) return 0;
    return 1;
}
