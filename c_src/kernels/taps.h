/* The `taps` kernel, a matrix product whose right-hand rows lie anywhere, written once over the vector primitives of an ISA and
 * included by its file. Lanes are neighbouring outputs n; a tile is C rows times R vectors with every accumulator in a
 * register. How the work is cut into tiles cannot change a bit. */

typedef struct NAME(sum_of_taps) {
    size_t T, ld_w, ld_y;
    const sgru_tap *tap;
    const float *w, *init, *x;
    float *y;
} NAME(sum_of_taps);

/* Rows m .. m + C, outputs n .. n + R · VL; with `left`, the last vector has only so many. */
static INLINE void NAME(taps_tile)(const NAME(sum_of_taps) * p, size_t m, size_t n, const int C, const int R, int left)
{
    V acc[16], x_v[4];
    const float *w = p->w + m * p->ld_w, *x = p->x + n;
    float *y = p->y + m * p->ld_y + n;
    const int last = (R - 1) * VL;
    UNROLL for (int c = 0; c < C; c++) UNROLL for (int r = 0; r < R; r++) acc[c * R + r] =
        p->init ? v_set1(p->init[m + (size_t)c]) : v_set1(0.0f);
    for (size_t t = 0; t < p->T; t++) {
        const float *x_t = x + p->tap[t].x, *w_t = w + p->tap[t].w;
        UNROLL for (int r = 0; r < R - 1; r++) x_v[r] = v_load(x_t + r * VL);
        x_v[R - 1] = left ? v_load_n(x_t + last, left) : v_load(x_t + last);
        UNROLL for (int c = 0; c < C; c++)
        {
            V w_v = v_set1(w_t[(size_t)c * p->ld_w]);
            UNROLL for (int r = 0; r < R; r++) acc[c * R + r] = v_fma(x_v[r], w_v, acc[c * R + r]);
        }
    }
    UNROLL for (int c = 0; c < C; c++, y += p->ld_y)
    {
        UNROLL for (int r = 0; r < R - 1; r++) v_store(y + r * VL, acc[c * R + r]);
        if (left) v_store_n(y + last, acc[c * R + R - 1], left);
        else v_store(y + last, acc[c * R + R - 1]);
    }
}

/* C rows for all n: as many vectors in flight as there are, in groups of equal size, `most` at a time. */
static INLINE void NAME(taps_rows)(const NAME(sum_of_taps) * p, size_t m, size_t N, const int C, const int most)
{
    size_t vectors = (N + VL - 1) / VL, groups = (vectors + (size_t)most - 1) / (size_t)most, n = 0;
    for (; groups; groups--) {
        size_t R = (vectors + groups - 1) / groups;
        int left = groups == 1 ? (int)(N % VL) : 0;
        switch (left ? R + 4 : R) {
        case 1: NAME(taps_tile)(p, m, n, C, 1, 0); break;
        case 2: NAME(taps_tile)(p, m, n, C, 2, 0); break;
        case 5: NAME(taps_tile)(p, m, n, C, 1, left); break;
        case 6: NAME(taps_tile)(p, m, n, C, 2, left); break;
        }
        if (most > 2) switch (left ? R + 4 : R) {
            case 3: NAME(taps_tile)(p, m, n, C, 3, 0); break;
            case 4: NAME(taps_tile)(p, m, n, C, 4, 0); break;
            case 7: NAME(taps_tile)(p, m, n, C, 3, left); break;
            case 8: NAME(taps_tile)(p, m, n, C, 4, left); break;
            }
        n += R * VL;
        vectors -= R;
    }
}

static void NAME(taps)(size_t M, size_t N, size_t T, const sgru_tap *tap, const float *w, size_t ld_w,
                       const float *init, const float *x, float *y, size_t ld_y)
{
    const int most = VL == 8 ? 2 : 4; /* for four rows: AVX2 has sixteen registers, the others thirty-two */
    NAME(sum_of_taps) p = {T, ld_w, ld_y, tap, w, init, x, y};
    size_t m = 0;
    for (; m + 4 <= M; m += 4) NAME(taps_rows)(&p, m, N, 4, most);
    if (M - m >= 2) {
        NAME(taps_rows)(&p, m, N, 2, 4);
        m += 2;
    }
    if (m < M) NAME(taps_rows)(&p, m, N, 1, 4);
}
