/* CONV and CONV_TRANSPOSE. Every output is one chain from its bias over c, i, j in this order:
 *
 *     CONV            x[c][oy·sh − ph + i·dh][ox·sw − pw + j·dw] · w[m][c][i][j]
 *     CONV_TRANSPOSE  x[c][(oy + ph − i·dh) / sh][(ox + pw − j·dw) / sw] · w[c][m][i][j]   where both divide exactly
 *
 * with zeros outside of x. Both are lists of taps over planes (plane.h) for the kernel `taps`, whose lanes are neighbouring outputs.
 * A transposed one is sh · sw convolutions of stride 1, one for each remainder of oy and ox, each with its share of the taps. */
#include "plane.h"

enum {
    P_N,
    P_C,
    P_H,
    P_W,
    P_M,
    P_OH,
    P_OW,
    P_GROUP,
    P_KH,
    P_KW,
    P_SH,
    P_SW,
    P_PH,
    P_PW,
    P_DH,
    P_DW,
    P_F,
    P_ALPHA,
    P_BETA,
    P_COUNT
};

typedef struct conv {
    plane p;
    int transposed;
    size_t N, groups, C, M;  /* C, M: of one group */
    size_t kernel;           /* kh · kw */
    size_t T;                /* taps of one group */
    size_t parts_h, parts_w; /* remainders of the outputs: 1, or the strides of a transposed one */
    size_t row, step;        /* of y: elements from an output to the next in one remainder */
    size_t area;             /* OH · OW */
    size_t strip;            /* outputs of one remainder in a row, if they do not lie side by side */
} conv;

static size_t smaller(int64_t a, int64_t b) { return (size_t)(a < b ? a : b); }

static int conv_of(conv *c, const sgru_op *op, int transposed)
{
    const uint32_t *p = op->params;
    axis h, w;
    if (!sgru_axis(&h, p[P_H], p[P_OH], p[P_KH], p[P_SH], p[P_PH], p[P_DH], transposed) ||
        !sgru_axis(&w, p[P_W], p[P_OW], p[P_KW], p[P_SW], p[P_PW], p[P_DW], transposed) || !p[P_GROUP] ||
        p[P_C] % p[P_GROUP] || p[P_M] % p[P_GROUP])
        return 0;
    *c = (conv){.transposed = transposed,
                .N = p[P_N],
                .groups = p[P_GROUP],
                .C = p[P_C] / p[P_GROUP],
                .M = p[P_M] / p[P_GROUP],
                .kernel = (size_t)(h.kernel * w.kernel),
                .area = (size_t)(h.out * w.out)};
    c->T = c->C * c->kernel;
    c->parts_h = transposed ? smaller(h.stride, h.out) : 1;
    c->parts_w = transposed ? smaller(w.stride, w.out) : 1;
    c->row = (transposed ? (size_t)h.stride : 1) * (size_t)w.out;
    c->step = transposed ? (size_t)w.stride : 1;
    c->strip = c->step > 1 ? ((size_t)w.out + c->step - 1) / c->step : 0;
    return sgru_plane(&c->p, h, w);
}

/* Working memory: taps [T], how many of them each part has [parts], planes of a group, strips [M][strip]. */
typedef struct memory {
    sgru_tap *taps;
    uint32_t *counts;
    float *planes, *strips;
} memory;

static uint64_t taps_bytes(const conv *c) { return sizeof(sgru_tap) * (uint64_t)c->T; }
static uint64_t counts_bytes(const conv *c) { return sizeof(uint32_t) * (uint64_t)c->parts_h * c->parts_w; }
static uint64_t planes_bytes(const conv *c) { return sizeof(float) * plane_memory(&c->p, c->C); }

static memory memory_of(const conv *c, unsigned char *scratch)
{
    unsigned char *counts = scratch + taps_bytes(c), *planes = counts + counts_bytes(c);
    unsigned char *strips = planes + planes_bytes(c);
    return (memory){(sgru_tap *)scratch, (uint32_t *)counts, (float *)planes, (float *)strips};
}

static SGRU_COLD int check(const sgru_model *m, const sgru_op *op, size_t *scratch, int transposed)
{
    const uint32_t *p = op->params;
    uint32_t x[] = {p[P_N], p[P_C], p[P_H], p[P_W]}, y[] = {p[P_N], p[P_M], p[P_OH], p[P_OW]};
    if (!p[P_GROUP] || !is_activation(p[P_F])) return 0;
    uint32_t w[] = {transposed ? p[P_C] : p[P_M], (transposed ? p[P_M] : p[P_C]) / p[P_GROUP], p[P_KH], p[P_KW]};
    if (!sgru_product(4, x) || !sgru_product(4, y) || !sgru_product(4, w)) return 0;
    conv c;
    if (!is_vector(m, op->in[0], SGRU_F32, sgru_product(4, x)) ||
        !is_vector(m, op->in[1], SGRU_F32, sgru_product(4, w)) || !is_optional(m, op->in[2], p[P_M]) ||
        !is_vector(m, op->out[0], SGRU_F32, sgru_product(4, y)) || !conv_of(&c, op, transposed) ||
        plane_memory(&c.p, c.C) > SGRU_MAX_ELEMENTS)
        return 0;
    return need_scratch(scratch,
                        taps_bytes(&c) + counts_bytes(&c) + planes_bytes(&c) + sizeof(float) * (uint64_t)c.M * c.strip);
}

/* The taps of the outputs with these remainders, in the order of c, i, j; returns how many. */
static uint32_t list_taps(const conv *c, int64_t part_h, int64_t part_w, sgru_tap *taps)
{
    const axis *h = &c->p.h, *w = &c->p.w;
    size_t w_channel = c->transposed ? c->M * c->kernel : c->kernel, n = 0;
    int64_t at_h, at_w;
    for (int64_t i = 0; i < h->kernel; i++) {
        if (!sgru_place(h, part_h, i, &at_h)) continue;
        for (int64_t j = 0; j < w->kernel; j++)
            if (sgru_place(w, part_w, j, &at_w))
                taps[n++] = (sgru_tap){(uint32_t)(i * w->kernel + j), (uint32_t)offset_in(&c->p, at_h, at_w)};
    }
    for (size_t t = n; t < c->C * n; t++) /* the other channels as the one before */
        taps[t] = (sgru_tap){taps[t - n].w + (uint32_t)w_channel, taps[t - n].x + (uint32_t)c->p.size};
    return (uint32_t)(c->C * n);
}

static void list_all_taps(const conv *c, memory *mem)
{
    sgru_tap *taps = mem->taps;
    uint32_t *count = mem->counts;
    for (size_t h = 0; h < c->parts_h; h++)
        for (size_t w = 0; w < c->parts_w; w++) taps += *count++ = list_taps(c, (int64_t)h, (int64_t)w, taps);
}

/* What a part of the outputs of one group is computed from. */
typedef struct part {
    const sgru_tap *taps;
    size_t n_taps;
    const float *w, *bias, *x;
    float *y;
} part;

/* One part: `rows` rows of `columns` outputs, M channels of them. */
static void run_part(const conv *c, const sgru_kernels *k, const part *p, size_t rows, size_t columns, float *strips)
{
    size_t ld_w = c->transposed ? c->kernel : c->T, x_row = c->p.row * (c->transposed ? 1 : (size_t)c->p.h.stride);
    if (c->step == 1 && x_row == columns && c->row == columns) columns *= rows, rows = 1; /* one long row */
    for (size_t r = 0; r < rows; r++) {
        const float *x = p->x + r * x_row;
        float *y = p->y + r * c->row;
        if (c->step == 1) {
            k->taps(c->M, columns, p->n_taps, p->taps, p->w, ld_w, p->bias, x, y, c->area);
            continue;
        }
        k->taps(c->M, columns, p->n_taps, p->taps, p->w, ld_w, p->bias, x, strips, c->strip);
        for (size_t m = 0; m < c->M; m++)
            for (size_t i = 0; i < columns; i++) y[m * c->area + i * c->step] = strips[m * c->strip + i];
    }
}

/* One group of one image: w, bias and y are the group's. */
static void run_group(const conv *c, const sgru_kernels *k, const memory *mem, const float *x, const float *w,
                      const float *bias, float *y)
{
    part p = {.taps = mem->taps, .w = w, .bias = bias, .x = sgru_planes(&c->p, c->C, x, 0.0f, mem->planes)};
    const uint32_t *count = mem->counts;
    size_t OH = (size_t)c->p.h.out, OW = (size_t)c->p.w.out;
    for (size_t part_h = 0; part_h < c->parts_h; part_h++)
        for (size_t part_w = 0; part_w < c->parts_w; part_w++, p.taps += *count++) {
            p.n_taps = *count;
            p.y = y + part_h * OW + part_w;
            run_part(c, k, &p, (OH - part_h + c->parts_h - 1) / c->parts_h, (OW - part_w + c->parts_w - 1) / c->parts_w,
                     mem->strips);
        }
}

static int run(const sgru_stream *s, const sgru_op *op, size_t first, size_t frames, int transposed)
{
    conv c;
    if (!conv_of(&c, op, transposed)) return SGRU_E_OPERATOR; /* the check has seen it */
    memory mem = memory_of(&c, s->scratch);
    size_t x_group = c.C * param(op, P_H) * param(op, P_W), y_group = c.M * c.area, w_group = c.T * c.M;
    list_all_taps(&c, &mem);
    FOR_EACH_FRAME (f, first, frames) {
        const float *x = operand(s, op->in[0], f), *w = operand(s, op->in[1], f), *bias = operand(s, op->in[2], f);
        float *y = operand(s, op->out[0], f);
        for (size_t i = 0; i < c.N * c.groups; i++) {
            size_t g = i % c.groups;
            run_group(&c, s->k, &mem, x + i * x_group, w + g * w_group, bias ? bias + g * c.M : NULL, y + i * y_group);
        }
        if (op->params[P_F])
            s->k->unary(op->params[P_F], param_f(op, P_ALPHA), param_f(op, P_BETA), c.N * c.groups * y_group, y, y);
    }
    return SGRU_OK;
}

/* Elements of a kernel's axis that an output meets, at most. */
static SGRU_COLD uint64_t met(const axis *a)
{
    return (uint64_t)(a->transposed ? (a->kernel + a->stride - 1) / a->stride : a->kernel);
}

/* Every tap of every output, in whole vectors of those that lie in one row; the functions after it; the planes and the taps. */
static SGRU_COLD uint64_t work(const sgru_op *op, int transposed)
{
    conv c;
    if (!conv_of(&c, op, transposed)) return UINT64_MAX; /* the check has seen it */
    uint64_t columns = ((uint64_t)c.p.w.out + c.parts_w - 1) / c.parts_w, rows = (uint64_t)c.p.h.out * c.parts_w;
    uint64_t taps = c.C * met(&c.p.h) * met(&c.p.w), images = (uint64_t)c.N * c.groups;
    uint64_t row = times(c.M, times(whole_vectors(columns), taps + sgru_unary_cost(op->params[P_F])));
    uint64_t planes = times(images, plane_memory(&c.p, c.C) * 2);
    return plus(times(times(images, rows), plus(row, SGRU_CALL)), plus(planes, (uint64_t)c.T * SGRU_STRANGE));
}

static SGRU_COLD uint64_t conv_work(const sgru_model *m, const sgru_op *op)
{
    (void)m;
    return work(op, 0);
}

static SGRU_COLD uint64_t transpose_work(const sgru_model *m, const sgru_op *op)
{
    (void)m;
    return work(op, 1);
}

static SGRU_COLD int conv_check(const sgru_model *m, const sgru_op *op, size_t *scratch)
{
    return check(m, op, scratch, 0);
}

static int conv_run(const sgru_stream *s, const sgru_op *op, size_t first, size_t frames)
{
    return run(s, op, first, frames, 0);
}

const sgru_op_def sgru_op_conv = {3, 1, P_COUNT, conv_check, conv_run, SHARES_NOTHING, NULL, conv_work, 0, NULL};

static SGRU_COLD int transpose_check(const sgru_model *m, const sgru_op *op, size_t *scratch)
{
    return check(m, op, scratch, 1);
}

static int transpose_run(const sgru_stream *s, const sgru_op *op, size_t first, size_t frames)
{
    return run(s, op, first, frames, 1);
}

const sgru_op_def sgru_op_conv_transpose = {
    3, 1, P_COUNT, transpose_check, transpose_run, SHARES_NOTHING, NULL, transpose_work, 0, NULL};
