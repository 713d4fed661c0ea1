/* The planes that convolutions and pools read (plane.h): their geometry and the copy. */
#include "plane.h"

#define MOST SGRU_MAX_ELEMENTS /* of every parameter: products of two, and sums of those, stay in 64 bits */

static int64_t floor_div(int64_t a, int64_t b) { return a >= 0 ? a / b : -((b - 1 - a) / b); }

int sgru_axis(axis *a, uint32_t in, uint32_t out, uint32_t kernel, uint32_t stride, uint32_t pad, uint32_t dilation,
              int transposed)
{
    *a = (axis){in, out, kernel, stride, (int32_t)pad, dilation, transposed, 0, 0, 1, 0};
    if (!in || !out || !kernel || !stride || !dilation) return 0;
    if (in > MOST || out > MOST || kernel > MOST || stride > MOST || dilation > MOST) return 0;
    if (out == 1 && !transposed) a->stride = 1;
    int64_t reach = (a->kernel - 1) * a->dilation;
    a->low = transposed ? floor_div(a->pad - reach, a->stride) : -a->pad;
    a->span =
        transposed ? floor_div(a->out - 1 + a->pad, a->stride) - a->low + 1 : (a->out - 1) * a->stride + reach + 1;
    return 1;
}

static int is_inside(const axis *a) { return a->low >= 0 && a->low + a->span <= a->in; }

int sgru_plane(plane *p, axis h, axis w)
{
    *p = (plane){.h = h, .w = w};
    p->copied = !is_inside(&h) || !is_inside(&w) || (!w.transposed && w.stride > 1);
    p->w.phases = p->copied && !w.transposed ? w.stride : 1;
    p->w.width = (w.span + p->w.phases - 1) / p->w.phases;
    if (!p->copied) {
        p->row = (size_t)w.in;
        p->size = (size_t)(h.in * w.in);
        p->base = (size_t)(h.low * w.in + w.low);
        return 1;
    }
    const uint32_t x[] = {(uint32_t)h.in, (uint32_t)w.in};
    const uint32_t sums[] = {(uint32_t)h.out, (uint32_t)w.out, (uint32_t)h.kernel, (uint32_t)w.kernel};
    int64_t row = p->w.width * p->w.phases, most = 65536 + 4 * (int64_t)(sgru_product(2, x) + sgru_product(4, sums));
    if (row > MOST || h.span > MOST || h.span * row > most || h.span * row > MOST) return 0;
    p->row = (size_t)row;
    p->size = (size_t)(h.span * row);
    return 1;
}

/* Rows from one that is read to the next: a single window leaves those out that its dilation skips. */
static int64_t rows_apart(const axis *a) { return a->out == 1 && a->stride == 1 ? a->dilation : 1; }

/* The elements of one remainder: y[i] = x[at + i · phases]; x: a row of the axis, NULL where all is outside. */
static void copy_phase(const axis *a, int64_t at, const float *x, float outside, float *y)
{
    int64_t first = at >= 0 ? 0 : (-at + a->phases - 1) / a->phases;
    int64_t end = at >= a->in ? 0 : (a->in - at + a->phases - 1) / a->phases, i = 0;
    if (!x || first > a->width) first = a->width;
    if (end > a->width) end = a->width;
    for (; i < first; i++) y[i] = outside;
    if (a->phases == 1 && i < end) {
        memcpy(y + i, x + (at + i), (size_t)(end - i) * sizeof(float));
        i = end;
    }
    for (; i < end; i++) y[i] = x[at + i * a->phases];
    for (; i < a->width; i++) y[i] = outside;
}

const float *sgru_planes(const plane *p, size_t channels, const float *x, float outside, float *memory)
{
    if (!p->copied) return x + p->base;
    for (int64_t r = 0; r < p->h.span; r += rows_apart(&p->h)) {
        int64_t from = p->h.low + r;
        for (size_t c = 0; c < channels; c++) {
            const float *row = from < 0 || from >= p->h.in ? NULL : x + ((int64_t)c * p->h.in + from) * p->w.in;
            float *y = memory + c * p->size + (size_t)r * p->row;
            for (int64_t phase = 0; phase < p->w.phases; phase++)
                copy_phase(&p->w, p->w.low + phase, row, outside, y + phase * p->w.width);
        }
    }
    return memory;
}

int sgru_place(const axis *a, int64_t phase, int64_t k, int64_t *at)
{
    int64_t from = a->transposed ? phase + a->pad - k * a->dilation : k * a->dilation;
    if (!a->transposed) *at = from;
    else *at = floor_div(from, a->stride) - a->low;
    return !a->transposed || floor_div(from, a->stride) * a->stride == from;
}
