/* Matrix products, written once over the vector primitives of an ISA and included by its file: for float weights, and once more
 * with HALF defined for weights of half precision (WEIGHT, w_load, w_load_n, another NAME).
 *
 * A tile is R blocks of 16 rows times C columns with every accumulator in a register. For one column TILE_ROWS1 = 6 blocks are
 * in flight; for many the including file chooses TILE_ROWS x TILE_COLUMNS. kernels.h states what is computed; how the work is cut
 * into tiles cannot change a bit of it. */

#ifndef HALF
#define NV (16 / VL) /* vectors in a block of 16 rows */
#define TILE_ROWS1 6
#define TAIL_ROWS 4 /* blocks that a partial one may accompany */
#define WEIGHT float
#define w_load v_load
#define w_load_n v_load_n
#endif

typedef struct NAME(product) {
    size_t K, step_k, step_block; /* w: elements from k to k + 1, from a block to the next */
    const WEIGHT *w;
    const float *init, *x;
    float *y;
    size_t ld_init, ld_x, ld_y;
} NAME(product);

static INLINE void NAME(tile)(const NAME(product) * p, const WEIGHT *w, size_t row, size_t column, const int R,
                              const int C)
{
    V acc[TILE_MAX];
    const float *x = p->x + column * p->ld_x;
    const float *init = p->init ? p->init + column * p->ld_init + row : NULL;
    float *y = p->y + column * p->ld_y + row;
    UNROLL for (int c = 0; c < C; c++) UNROLL for (int v = 0; v < R * NV; v++) acc[c * R * NV + v] =
        init ? v_load(init + (size_t)c * p->ld_init + v * VL) : v_set1(0.0f);
    for (size_t k = 0; k < p->K; k++, w += p->step_k) {
        V w_v[NV * TILE_ROWS1];
        if (C > 1)
            UNROLL for (int v = 0; v < R * NV; v++) w_v[v] = w_load(w + (size_t)(v / NV) * p->step_block + v % NV * VL);
        UNROLL for (int c = 0; c < C; c++)
        {
            V x_k = v_set1(x[(size_t)c * p->ld_x + k]);
            UNROLL for (int v = 0; v < R * NV; v++)
            {
                V w_k = C > 1 ? w_v[v] : w_load(w + (size_t)(v / NV) * p->step_block + v % NV * VL);
                acc[c * R * NV + v] = v_fma(x_k, w_k, acc[c * R * NV + v]);
            }
        }
    }
    UNROLL for (int c = 0; c < C; c++) UNROLL for (int v = 0; v < R * NV; v++)
        v_store(y + (size_t)c * p->ld_y + v * VL, acc[c * R * NV + v]);
}

/* The last block, of fewer than 16 rows: n_v vectors, the last of which has w_last weights and y_last rows. */
static INLINE void NAME(tail)(const NAME(product) * p, const WEIGHT *w, size_t row, size_t column, int w_last,
                              int y_last, const int n_v, const int C)
{
    V acc[NV * TILE_COLUMNS];
    const float *x = p->x + column * p->ld_x;
    const float *init = p->init ? p->init + column * p->ld_init + row : NULL;
    float *y = p->y + column * p->ld_y + row;
    const int full = n_v - 1, last = (n_v - 1) * VL;
    UNROLL for (int c = 0; c < C; c++)
    {
        UNROLL for (int v = 0; v < full; v++) acc[c * n_v + v] =
            init ? v_load(init + (size_t)c * p->ld_init + v * VL) : v_set1(0.0f);
        acc[c * n_v + full] = init ? v_load_n(init + (size_t)c * p->ld_init + last, y_last) : v_set1(0.0f);
    }
    for (size_t k = 0; k < p->K; k++, w += p->step_k) {
        V w_v[NV];
        UNROLL for (int v = 0; v < full; v++) w_v[v] = w_load(w + v * VL);
        w_v[full] = w_load_n(w + last, w_last);
        UNROLL for (int c = 0; c < C; c++)
        {
            V x_k = v_set1(x[(size_t)c * p->ld_x + k]);
            UNROLL for (int v = 0; v < n_v; v++) acc[c * n_v + v] = v_fma(x_k, w_v[v], acc[c * n_v + v]);
        }
    }
    UNROLL for (int c = 0; c < C; c++)
    {
        UNROLL for (int v = 0; v < full; v++) v_store(y + (size_t)c * p->ld_y + v * VL, acc[c * n_v + v]);
        v_store_n(y + (size_t)c * p->ld_y + last, acc[c * n_v + full], y_last);
    }
}

/* C columns from `column` on, for all rows up to the tail. */
#define ROWS_TIMES(C)                                                                                                  \
    static void NAME(rows_times_##C)(const NAME(product) * p, size_t first, size_t blocks, size_t column)              \
    {                                                                                                                  \
        size_t b = first, end = first + blocks;                                                                        \
        for (; b + TILE_ROWS <= end; b += TILE_ROWS)                                                                   \
            NAME(tile)(p, p->w + b * p->step_block, b * 16, column, TILE_ROWS, C);                                     \
        for (; b < end; b++) NAME(tile)(p, p->w + b * p->step_block, b * 16, column, 1, C);                            \
    }
ROWS_TIMES(2)
ROWS_TIMES(3)
ROWS_TIMES(4)
ROWS_TIMES(5)
ROWS_TIMES(6)

/* One column: as many blocks in flight as there are, in groups of equal size. */
static void NAME(rows_times_1)(const NAME(product) * p, size_t first, size_t blocks, size_t column)
{
    size_t groups = (blocks + TILE_ROWS1 - 1) / TILE_ROWS1, b = first;
    for (; groups; groups--) {
        size_t rows = (blocks + groups - 1) / groups;
        const WEIGHT *w = p->w + b * p->step_block;
        switch (rows) {
        case 1: NAME(tile)(p, w, b * 16, column, 1, 1); break;
        case 2: NAME(tile)(p, w, b * 16, column, 2, 1); break;
        case 3: NAME(tile)(p, w, b * 16, column, 3, 1); break;
        case 4: NAME(tile)(p, w, b * 16, column, 4, 1); break;
        case 5: NAME(tile)(p, w, b * 16, column, 5, 1); break;
        default: NAME(tile)(p, w, b * 16, column, 6, 1); break;
        }
        b += rows;
        blocks -= rows;
    }
}

static void NAME(rows_times)(const NAME(product) * p, size_t first, size_t blocks, size_t column, size_t columns)
{
    switch (columns) {
    case 1: NAME(rows_times_1)(p, first, blocks, column); break;
    case 2: NAME(rows_times_2)(p, first, blocks, column); break;
    case 3: NAME(rows_times_3)(p, first, blocks, column); break;
    case 4: NAME(rows_times_4)(p, first, blocks, column); break;
    case 5: NAME(rows_times_5)(p, first, blocks, column); break;
    case 6: NAME(rows_times_6)(p, first, blocks, column); break;
    }
}

#define TAIL(n_v)                                                                                                      \
    do {                                                                                                               \
        for (; column + 4 <= columns; column += 4) NAME(tail)(p, w, row, column, w_last, y_last, n_v, 4);              \
        for (; column < columns; column++) NAME(tail)(p, w, row, column, w_last, y_last, n_v, 1);                      \
    } while (0)

static void NAME(tail_rows)(const NAME(product) * p, const WEIGHT *w, size_t row, int rows, int lanes, size_t columns)
{
    int n_v = (lanes + VL - 1) / VL, w_last = lanes - (n_v - 1) * VL, y_last = rows - (n_v - 1) * VL;
    size_t column = 0;
    if (n_v == 1) TAIL(1);
#if NV >= 2
    else if (n_v == 2) TAIL(2);
#endif
#if NV >= 4
    else if (n_v == 3) TAIL(3);
    else TAIL(4);
#endif
}

#if NV <= 2 && !defined(HALF)
static INLINE int NAME(part)(int n, int v) { return n <= v * VL ? 0 : n - v * VL < VL ? n - v * VL : VL; }

/* One column: R blocks and the partial one behind them at once. Alone, each would wait for its own chain. */
static INLINE void NAME(tile_and_tail)(const NAME(product) * p, const float *w_tail, int lanes, int rows, const int R)
{
    V acc[TAIL_ROWS * NV + NV];
    const float *w = p->w, *init = p->init;
    float *y = p->y;
    UNROLL for (int v = 0; v < R * NV; v++) acc[v] = init ? v_load(init + v * VL) : v_set1(0.0f);
    UNROLL for (int v = 0; v < NV; v++) acc[R * NV + v] =
        init ? v_load_n(init + R * 16 + v * VL, NAME(part)(rows, v)) : v_set1(0.0f);
    for (size_t k = 0; k < p->K; k++, w += p->step_k, w_tail += lanes) {
        V x_k = v_set1(p->x[k]);
        UNROLL for (int v = 0; v < R * NV; v++) acc[v] =
            v_fma(x_k, v_load(w + (size_t)(v / NV) * p->step_block + v % NV * VL), acc[v]);
        UNROLL for (int v = 0; v < NV; v++) acc[R * NV + v] =
            v_fma(x_k, v_load_n(w_tail + v * VL, NAME(part)(lanes, v)), acc[R * NV + v]);
    }
    UNROLL for (int v = 0; v < R * NV; v++) v_store(y + v * VL, acc[v]);
    UNROLL for (int v = 0; v < NV; v++) v_store_n(y + R * 16 + v * VL, acc[R * NV + v], NAME(part)(rows, v));
}

static void NAME(rows_and_tail)(const NAME(product) * p, size_t blocks, const float *w_tail, int lanes, int rows)
{
    switch (blocks) {
    case 1: NAME(tile_and_tail)(p, w_tail, lanes, rows, 1); break;
    case 2: NAME(tile_and_tail)(p, w_tail, lanes, rows, 2); break;
    case 3: NAME(tile_and_tail)(p, w_tail, lanes, rows, 3); break;
    default: NAME(tile_and_tail)(p, w_tail, lanes, rows, 4); break;
    }
}
#endif

/* All rows of all columns. `lanes`: weights that the last, partial block has for each k. The weights of TILE_ROWS blocks
 * stay in the L1 cache while all columns pass over them. */
static void NAME(product_all)(const NAME(product) * p, size_t M, size_t columns, int lanes, const WEIGHT *w_tail)
{
    size_t blocks = M / 16;
    if (columns == 1) {
        NAME(rows_times_1)(p, 0, blocks, 0);
    } else {
        for (size_t b = 0; b < blocks; b += TILE_ROWS) {
            size_t n = blocks - b < TILE_ROWS ? blocks - b : TILE_ROWS;
            for (size_t c = 0; c < columns; c += TILE_COLUMNS)
                NAME(rows_times)(p, b, n, c, columns - c < TILE_COLUMNS ? columns - c : TILE_COLUMNS);
        }
    }
    if (M % 16) NAME(tail_rows)(p, w_tail, blocks * 16, (int)(M % 16), lanes, columns);
}

static void NAME(affine)(size_t M, size_t K, size_t columns, const WEIGHT *w, const float *init, size_t ld_init,
                         const float *x, size_t ld_x, float *y, size_t ld_y)
{
    int lanes = (int)((M % 16 + 3) / 4 * 4);
    NAME(product) p = {K, 16, sgru_block_step(K), w, init, x, y, ld_init, ld_x, ld_y};
#if NV <= 2 && !defined(HALF)
    if (columns == 1 && M > 16 && M < 16 * (TAIL_ROWS + 1) && M % 16) {
        NAME(rows_and_tail)(&p, M / 16, w + M / 16 * sgru_block_step(K), lanes, (int)(M % 16));
        return;
    }
#endif
    if (M >= 16) NAME(product_all)(&p, M / 16 * 16, columns, 0, NULL);
    if (M % 16) {
        p.step_k = (size_t)lanes;
        NAME(tail_rows)(&p, w + M / 16 * sgru_block_step(K), M / 16 * 16, (int)(M % 16), lanes, columns);
    }
}

#ifndef HALF
static void NAME(matmul)(size_t M, size_t N, size_t K, const float *a, size_t ld_a, const float *b, size_t ld_b,
                         float *y, size_t ld_y)
{
    NAME(product) p = {K, ld_b, 16, b, NULL, a, y, 0, ld_a, ld_y};
    NAME(product_all)(&p, N, M, (int)(N % 16), b + N / 16 * 16);
}

/* ---- the sums of a GRU step ---- */

/* One column over two products, one after the other in each row's chain: R blocks from `block` on. */
static INLINE void NAME(chain)(const NAME(product) * p, const NAME(product) * then, size_t block, const int R)
{
    V acc[TILE_ROWS1 * NV];
    UNROLL for (int v = 0; v < R * NV; v++) acc[v] = p->init ? v_load(p->init + block * 16 + v * VL) : v_set1(0.0f);
    float *y = p->y + block * 16;
    for (; p; p = then, then = NULL) {
        const WEIGHT *w = p->w + block * p->step_block;
        for (size_t k = 0; k < p->K; k++, w += 16) {
            V x_k = v_set1(p->x[k]);
            UNROLL for (int v = 0; v < R * NV; v++) acc[v] =
                v_fma(x_k, w_load(w + (size_t)(v / NV) * p->step_block + v % NV * VL), acc[v]);
        }
    }
    UNROLL for (int v = 0; v < R * NV; v++) v_store(y + v * VL, acc[v]);
}

static void NAME(chains)(const NAME(product) * p, const NAME(product) * then, size_t block, size_t rows)
{
    switch (rows) {
    case 1: NAME(chain)(p, then, block, 1); break;
    case 2: NAME(chain)(p, then, block, 2); break;
    case 3: NAME(chain)(p, then, block, 3); break;
    case 4: NAME(chain)(p, then, block, 4); break;
    case 5: NAME(chain)(p, then, block, 5); break;
    default: NAME(chain)(p, then, block, 6); break;
    }
}

static void NAME(gru_sums)(size_t H, size_t I, const float *w, const float *r, const float *bias_x, const float *bias_h,
                           const float *x, const float *h, float *sums, float *nh, int descending)
{
    size_t gates = H / 8, blocks = 3 * H / 16; /* z and r have blocks 0 .. gates, n has the rest */
    const NAME(product) over_x = {.K = I, .step_block = sgru_block_step(I), .w = w, .init = bias_x, .x = x, .y = sums};
    const NAME(product) over_h = {.K = H, .step_block = sgru_block_step(H), .w = r, .x = h, .y = sums};
    NAME(product) candidate = over_h;
    candidate.w += gates * over_h.step_block, candidate.init = bias_h, candidate.y = nh;
    size_t first_groups = (gates + TILE_ROWS1 - 1) / TILE_ROWS1;
    size_t groups = first_groups + (blocks - gates + TILE_ROWS1 - 1) / TILE_ROWS1;
    for (size_t i = 0; i < groups; i++) {
        size_t g = descending ? groups - 1 - i : i;
        if (g < first_groups) { /* groups of nearly equal size */
            size_t from = gates * g / first_groups, to = gates * (g + 1) / first_groups;
            NAME(chains)(&over_x, &over_h, from, to - from);
        } else {
            size_t n = blocks - gates, j = g - first_groups, last_groups = groups - first_groups;
            size_t from = n * j / last_groups, to = n * (j + 1) / last_groups;
            NAME(chains)(&over_x, NULL, gates + from, to - from);
            NAME(chains)(&candidate, NULL, from, to - from);
        }
    }
}
#endif

#undef WEIGHT
#undef w_load
#undef w_load_n
