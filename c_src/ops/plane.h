/* The planes that convolutions and pools read. A window moves over one axis of x in strides; where it stays inside x and the outputs
 * read neighbours, x itself is the plane. Otherwise a channel is copied into one that has the padding in it, and whose columns
 * are sorted by their remainder modulo the stride: then neighbouring outputs always read neighbouring floats. */
#ifndef SGRU_PLANE_H
#define SGRU_PLANE_H

#include "ops.h"

/* One axis: `out` windows of `kernel` elements, `dilation` apart, every `stride`, the first at -pad. Transposed: an input
 * element i is what output i · stride - pad + k · dilation gets through k. */
typedef struct axis {
    int64_t in, out, kernel, stride, pad, dilation;
    int transposed;
    int64_t low, span; /* the elements of x that a plane has: low .. low + span, some of them outside of x */
    int64_t phases;    /* remainders that the plane's elements are sorted by */
    int64_t width;     /* elements of each */
} axis;

typedef struct plane {
    axis h, w;
    int copied;
    size_t row, size; /* elements from a row to the next, of a channel */
    size_t base;      /* of x itself: the first element */
} plane;

/* The axis of these parameters: n, out, kernel, stride, pad, dilation. 0 where they make no sense. */
int sgru_axis(axis *a, uint32_t in, uint32_t out, uint32_t kernel, uint32_t stride, uint32_t pad, uint32_t dilation,
              int transposed);

/* The plane of two axes. 0 where it would be beyond all proportion to what it is made from. */
int sgru_plane(plane *p, axis h, axis w);

/* Floats of working memory for the planes of some channels. */
static inline uint64_t plane_memory(const plane *p, uint64_t channels) { return p->copied ? channels * p->size : 0; }

/* The planes of some channels of x [channels][H][W], `outside` where there is no x: x itself, or a copy in `memory`. */
const float *sgru_planes(const plane *p, size_t channels, const float *x, float outside, float *memory);

/* Where the first output reads kernel element k, counted from `low`, in elements of the plane; outputs of a transposed axis
 * are those of number `phase` modulo the stride, and 0 means that they read no k. */
int sgru_place(const axis *a, int64_t phase, int64_t k, int64_t *at);

static inline size_t offset_in(const plane *p, int64_t h_at, int64_t w_at)
{
    return (size_t)h_at * p->row + (size_t)(w_at % p->w.phases * p->w.width + w_at / p->w.phases);
}

#endif
