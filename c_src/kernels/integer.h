/* Products of 8-bit weights and 8-bit columns, written once over the vector primitives of an ISA and included by its file, once for
 * each of the integer products that its processors have. kernels.h states what is computed; integers are exact, and the floats around
 * them have one order, so neither the tiles nor the instructions can change a bit.
 *
 * The including file says, in macros: I8(x), the name of a function; I8_DOT(acc, w, x), the product of VL rows with four bytes of
 * a column; I8_FLIP, 0x80 where that takes the column as q + 128, whose surplus the block's line of sums takes away, else 0;
 * I8_ROWS1, blocks in flight for one column; I8_ROWS x I8_COLUMNS, the tile for many. */

typedef struct I8(product) {
    size_t lines, step_block, step_q, ld_init, ld_y;
    const uint8_t *q;
    const int8_t *w;
} I8(product);

/* ---- a column to 8 bits ---- */

static INLINE uint32_t I8(largest_bits)(size_t K, const float *x)
{
    VI most = vi_set1(0);
    size_t k = 0;
    for (; k + VL <= K; k += VL) most = vi_max(most, v_bits(v_abs(v_load(x + k))));
    if (k < K) most = vi_max(most, v_bits(v_abs(v_load_n(x + k, (int)(K - k)))));
    return (uint32_t)vi_max_all(most);
}

/* 1.5 · 2^23 added: the low byte is the nearest integer. */
static INLINE void I8(round_bytes)(V x, V inverse, uint8_t *q)
{
    VI rounded = v_bits(v_add(v_mul(x, inverse), v_set1(12582912.0f)));
    vi_store_bytes(q, I8_FLIP ? vi_xor(rounded, vi_set1(I8_FLIP)) : rounded);
}

static INLINE void I8(quantise_column)(size_t K, const float *x, uint8_t *q)
{
    const uint32_t infinite = 0x7F800000u, smallest = 0x0F800000u, nan = 0x7FC00000u; /* the middle one is 2^-96 */
    uint32_t bits = I8(largest_bits)(K, x), scale = bits < smallest ? 0 : nan;
    size_t k = 0;
    uint8_t *to = q + SGRU_Q_HEAD;
    if (bits >= smallest && bits < infinite) {
        float largest, s;
        memcpy(&largest, &bits, sizeof largest);
        s = largest / 127.0f;
        memcpy(&scale, &s, sizeof scale);
        V inverse = v_set1(127.0f / largest);
        for (; k + VL <= K; k += VL) I8(round_bytes)(v_load(x + k), inverse, to + k);
        if (k < K) I8(round_bytes)(v_load_n(x + k, (int)(K - k)), inverse, to + k), k += VL;
    }
    for (; k < (K + 15) / 16 * 16; k++) to[k] = I8_FLIP;
    memcpy(q, &scale, sizeof scale);
}

void I8(sgru_quantise)(size_t K, size_t columns, const float *x, size_t ld_x, uint8_t *q)
{
    for (size_t c = 0; c < columns; c++) I8(quantise_column)(K, x + c * ld_x, q + c * sgru_q_step(K));
}

/* ---- the product ---- */

/* R blocks from w on, C columns from q on. */
static INLINE void I8(tile)(const I8(product) * p, const int8_t *w, const uint8_t *q, const float *init, float *y,
                            const int R, const int C)
{
    VI acc[I8_ROWS1 * NV > I8_ROWS * NV * I8_COLUMNS ? I8_ROWS1 * NV : I8_ROWS * NV * I8_COLUMNS];
    UNROLL for (int v = 0; v < R * NV; v++)
    {
        const int8_t *sums = w + (size_t)(v / NV) * p->step_block + p->lines * 64 + v % NV * VL * 4;
        UNROLL for (int c = 0; c < C; c++) acc[c * R * NV + v] = I8_FLIP ? vi_load(sums) : vi_set1(0);
    }
    q += SGRU_Q_HEAD;
    for (size_t k = 0; k < p->lines; k++, w += 64, q += 4) {
        VI w_v[I8_ROWS * NV];
        if (C > 1)
            UNROLL for (int v = 0; v < R * NV; v++) w_v[v] =
                vi_load(w + (size_t)(v / NV) * p->step_block + v % NV * VL * 4);
        UNROLL for (int c = 0; c < C; c++)
        {
            VI x_k = vi_set1_bytes(q + (size_t)c * p->step_q);
            UNROLL for (int v = 0; v < R * NV; v++)
            {
                VI w_k = C > 1 ? w_v[v] : vi_load(w + (size_t)(v / NV) * p->step_block + v % NV * VL * 4);
                acc[c * R * NV + v] = I8_DOT(acc[c * R * NV + v], w_k, x_k);
            }
        }
    }
    q -= SGRU_Q_HEAD + 4 * p->lines;
    UNROLL for (int c = 0; c < C; c++)
    {
        float s;
        memcpy(&s, q + (size_t)c * p->step_q, sizeof s);
        UNROLL for (int v = 0; v < R * NV; v++)
        {
            const int8_t *scales = w + (size_t)(v / NV) * p->step_block + 64 + v % NV * VL * 4;
            V scale = v_mul(v_float(vi_load(scales)), v_set1(s));
            V start = init ? v_load(init + (size_t)c * p->ld_init + v * VL) : v_set1(0.0f);
            v_store(y + (size_t)c * p->ld_y + v * VL, v_fma(vi_to_float(acc[c * R * NV + v]), scale, start));
        }
    }
}

/* The last block, of `rows` < 16 rows, one column. */
static void I8(last_rows)(const I8(product) * p, const int8_t *w, const uint8_t *q, const float *init, float *y,
                          size_t rows)
{
    float padded[16] = {0}, result[16];
    for (size_t m = 0; init && m < rows; m++) padded[m] = init[m];
    I8(tile)(p, w, q, padded, result, 1, 1);
    for (size_t m = 0; m < rows; m++) y[m] = result[m];
}

/* One column: as many blocks in flight as there are, in groups of equal size. */
static void I8(one_column)(const I8(product) * p, size_t blocks, const float *init, float *y)
{
    const int8_t *w = p->w;
    for (size_t groups = (blocks + I8_ROWS1 - 1) / I8_ROWS1; groups; groups--) {
        size_t rows = (blocks + groups - 1) / groups;
        switch (rows) {
        case 1: I8(tile)(p, w, p->q, init, y, 1, 1); break;
        case 2: I8(tile)(p, w, p->q, init, y, 2, 1); break;
        case 3: I8(tile)(p, w, p->q, init, y, 3, 1); break;
        case 4: I8(tile)(p, w, p->q, init, y, 4, 1); break;
#if I8_ROWS1 > 4
        case 5: I8(tile)(p, w, p->q, init, y, 5, 1); break;
        case 6: I8(tile)(p, w, p->q, init, y, 6, 1); break;
#endif
        }
        w += rows * p->step_block, y += rows * 16, blocks -= rows;
        if (init) init += rows * 16;
    }
}

/* R blocks of all columns. */
static INLINE void I8(many_columns)(const I8(product) * p, const int8_t *w, size_t columns, const float *init, float *y,
                                    const int R)
{
    for (size_t c = 0; c < columns; c += I8_COLUMNS) {
        const uint8_t *q = p->q + c * p->step_q;
        const float *init_c = init ? init + c * p->ld_init : NULL;
        float *y_c = y + c * p->ld_y;
        switch (columns - c) {
        case 1: I8(tile)(p, w, q, init_c, y_c, R, 1); break;
        case 2: I8(tile)(p, w, q, init_c, y_c, R, 2); break;
        case 3: I8(tile)(p, w, q, init_c, y_c, R, 3); break;
#if I8_COLUMNS > 4
        case 4: I8(tile)(p, w, q, init_c, y_c, R, 4); break;
        case 5: I8(tile)(p, w, q, init_c, y_c, R, 5); break;
#endif
        default: I8(tile)(p, w, q, init_c, y_c, R, I8_COLUMNS); break;
        }
    }
}

/* The weights of I8_ROWS blocks stay in the L1 cache while all columns pass over them. */
void I8(sgru_affine)(size_t M, size_t K, size_t columns, const int8_t *w, const float *init, size_t ld_init,
                     const uint8_t *q, float *y, size_t ld_y)
{
    const I8(product) p = {sgru_lines_i8(K), sgru_block_step_i8(K), sgru_q_step(K), ld_init, ld_y, q, w};
    size_t blocks = M / 16, b = 0;
    if (columns == 1) {
        I8(one_column)(&p, blocks, init, y);
    } else {
        for (; b + I8_ROWS <= blocks; b += I8_ROWS)
            I8(many_columns)(&p, w + b * p.step_block, columns, init ? init + b * 16 : NULL, y + b * 16, I8_ROWS);
        for (; b < blocks; b++)
            I8(many_columns)(&p, w + b * p.step_block, columns, init ? init + b * 16 : NULL, y + b * 16, 1);
    }
    for (size_t c = 0; M % 16 && c < columns; c++)
        I8(last_rows)(&p, w + blocks * p.step_block, q + c * p.step_q, init ? init + c * ld_init + blocks * 16 : NULL,
                      y + c * ld_y + blocks * 16, M % 16);
}

#undef I8
#undef I8_DOT
#undef I8_FLIP
#undef I8_ROWS1
#undef I8_ROWS
#undef I8_COLUMNS
