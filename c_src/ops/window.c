/* POOL: the maximum or the average of a window that moves over each channel. The elements of a window are joined in the order of its
 * rows and columns, for all outputs of a row at once, by the kernel `binary`. What lies outside of x is left out. */
#include <math.h>

#include "plane.h"

enum {
    P_FUNCTION,
    P_N,
    P_C,
    P_H,
    P_W,
    P_OH,
    P_OW,
    P_KH,
    P_KW,
    P_SH,
    P_SW,
    P_PH,
    P_PW,
    P_DH,
    P_DW,
    P_INCLUDE,
    P_END_H,
    P_END_W,
    P_COUNT
};
enum { MAX, AVERAGE };
enum { MOST_IN_WINDOW = 65536 }; /* there are no weights whose number would bound it */

static int plane_of(plane *p, const sgru_op *op)
{
    const uint32_t *o = op->params;
    axis h, w;
    return sgru_axis(&h, o[P_H], o[P_OH], o[P_KH], o[P_SH], o[P_PH], o[P_DH], 0) &&
           sgru_axis(&w, o[P_W], o[P_OW], o[P_KW], o[P_SW], o[P_PW], o[P_DW], 0) && sgru_plane(p, h, w);
}

static SGRU_COLD int pool_check(const sgru_model *m, const sgru_op *op, size_t *scratch)
{
    const uint32_t *p = op->params;
    const uint32_t x[] = {p[P_N], p[P_C], p[P_H], p[P_W]}, y[] = {p[P_N], p[P_C], p[P_OH], p[P_OW]};
    const uint32_t window[] = {p[P_KH], p[P_KW]};
    plane plane;
    if (p[P_FUNCTION] > AVERAGE || p[P_INCLUDE] > 1 || !sgru_product(4, x) || !sgru_product(4, y) ||
        !sgru_product(2, window) || sgru_product(2, window) > MOST_IN_WINDOW || p[P_END_H] > SGRU_MAX_ELEMENTS ||
        p[P_END_W] > SGRU_MAX_ELEMENTS)
        return 0;
    return is_vector(m, op->in[0], SGRU_F32, sgru_product(4, x)) &&
           is_vector(m, op->out[0], SGRU_F32, sgru_product(4, y)) && plane_of(&plane, op) &&
           need_scratch(scratch, sizeof(float) * (plane_memory(&plane, 1) + 2 * (uint64_t)p[P_OW]));
}

/* Elements of window number `at` that count: inside x, or inside x with `before` and `after` elements of padding. */
static float count_along(const axis *a, int64_t at, int64_t before, int64_t after)
{
    int64_t n = 0;
    for (int64_t k = 0; k < a->kernel; k++) {
        int64_t i = at * a->stride - a->pad + k * a->dilation;
        n += i >= -before && i < a->in + after;
    }
    return (float)n;
}

/* One row of outputs; x: the plane's row where its windows begin. */
static void pool_row(const sgru_kernels *k, unsigned join, const plane *p, const float *x, float *y)
{
    size_t n = (size_t)p->w.out;
    for (int64_t i = 0; i < p->h.kernel; i++)
        for (int64_t j = 0; j < p->w.kernel; j++) {
            const float *tap = x + offset_in(p, i * p->h.dilation, j * p->w.dilation);
            if (i == 0 && j == 0) memcpy(y, tap, n * sizeof(float));
            else k->binary(join, n, y, 1, tap, 1, y);
        }
}

/* Divides a row of sums: the count of an element is that of its row times that of its column, counts [OW]. A window that is
 * empty divides by one. */
static void divide(const sgru_kernels *k, size_t n, float rows, const float *columns, float *counts, float *y)
{
    const float one = 1.0f;
    k->binary(B_MUL, n, columns, 1, &rows, 0, counts);
    k->binary(B_MAX, n, counts, 1, &one, 0, counts);
    k->binary(B_DIV, n, y, 1, counts, 1, y);
}

static int pool_run(const sgru_stream *s, const sgru_op *op, size_t first, size_t frames)
{
    plane p;
    if (!plane_of(&p, op)) return SGRU_E_OPERATOR; /* the check has seen it */
    const int average = op->params[P_FUNCTION] == AVERAGE, include = op->params[P_INCLUDE] == 1;
    size_t channels = param(op, P_N) * param(op, P_C), OW = param(op, P_OW), area = param(op, P_H) * param(op, P_W);
    float *columns = (float *)s->scratch, *counts = columns + OW, *memory = counts + OW;
    for (size_t i = 0; average && i < OW; i++)
        columns[i] = count_along(&p.w, (int64_t)i, include ? p.w.pad : 0, include ? param_i(op, P_END_W) : 0);
    FOR_EACH_FRAME (f, first, frames) {
        const float *x = operand(s, op->in[0], f);
        float *y = operand(s, op->out[0], f);
        for (size_t c = 0; c < channels; c++, x += area) {
            const float *plane = sgru_planes(&p, 1, x, average ? 0.0f : -INFINITY, memory);
            for (int64_t row = 0; row < p.h.out; row++, y += OW, plane += p.row * (size_t)p.h.stride) {
                pool_row(s->k, average ? B_ADD : B_MAX, &p, plane, y);
                if (average)
                    divide(s->k, OW, count_along(&p.h, row, include ? p.h.pad : 0, include ? param_i(op, P_END_H) : 0),
                           columns, counts, y);
            }
        }
    }
    return SGRU_OK;
}

/* Every element of every window, a row of outputs at once; and the planes. */
static SGRU_COLD uint64_t pool_work(const sgru_model *m, const sgru_op *op)
{
    (void)m;
    plane plane;
    if (!plane_of(&plane, op)) return UINT64_MAX; /* the check has seen it */
    uint64_t channels = (uint64_t)op->params[P_N] * op->params[P_C];
    uint64_t rows = (uint64_t)(plane.h.out * plane.h.kernel * plane.w.kernel);
    uint64_t row = plus((uint64_t)plane.w.out, SGRU_CALL), counts = (uint64_t)(plane.w.out * plane.w.kernel);
    return plus(counts, times(channels, plus(times(rows, row), plane_memory(&plane, 1) * 2)));
}

const sgru_op_def sgru_op_pool = {1, 1, P_COUNT, pool_check, pool_run, SHARES_NOTHING, NULL, pool_work, 0, NULL};
