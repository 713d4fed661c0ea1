/* Random operators that reduce, order or index, each in every way that must give the same bits (trial.h),
 * its values held against a plain computation in double precision.
 *
 *     operators [count [seed]]     count trials of each operator */
#include "trial.h"

/* ---- one dimension of [outer, n, inner] ---- */

typedef struct cut {
    uint32_t outer, n, inner;
} cut;

static cut random_cut(void)
{
    cut c = {1 + below(4), 1 + below(90), below(2) ? 1 : 1 + below(40)};
    return c;
}

static double reduce_exactly(uint32_t f, uint32_t n, uint32_t inner, const float *x, double *tolerance)
{
    double y = f == 2 ? -INFINITY : f == 3 ? INFINITY : f == 4, sum = 0, magnitude = 0, top = -INFINITY;
    for (uint32_t i = 0; i < n; i++) top = fmax(top, x[i * inner]);
    for (uint32_t i = 0; i < n; i++) {
        double v = x[i * inner], square = v * v;
        sum += f <= 1 ? v : f == 5 ? fabs(v) : f == 8 ? exp(v - top) : square;
        magnitude += f <= 1 ? fabs(v) : f == 5 ? fabs(v) : f == 8 ? exp(v - top) : square;
        y = f == 2 ? fmax(y, v) : f == 3 ? fmin(y, v) : f == 4 ? y * v : y;
    }
    *tolerance = f == 2 || f == 3 ? 0 : f == 4 ? (n + 1) * EPS * fabs(y) : (n + 4) * EPS * magnitude;
    if (f == 1) *tolerance /= n;
    if (f == 6) *tolerance = (n + 4) * EPS * sqrt(sum);
    if (f == 8) *tolerance = (n + 8) * EPS * (1 + fabs(top) + log(n));
    return f == 0 || f == 5 || f == 7 ? sum : f == 1 ? sum / n : f == 6 ? sqrt(sum) : f == 8 ? top + log(sum) : y;
}

static void try_reduce(void)
{
    trial t = {.name = "REDUCE"};
    cut c = random_cut();
    uint32_t f = below(9), x_dims[] = {c.outer, c.n, c.inner}, y_dims[] = {c.outer, c.inner},
             p[] = {f, c.outer, c.n, c.inner};
    const float *x = give_floats(&t, 3, x_dims, f == 4 ? 1.5f : 3);
    double tolerance;
    take_output(&t, SGRU_F32, 2, y_dims);
    if (run_trial(&t, 64, 4, p))
        for (size_t e = 0, ok = 1; ok && e < FRAMES * product(2, y_dims); e++) {
            double want = reduce_exactly(f, c.n, c.inner, x + e / c.inner * c.n * c.inner + e % c.inner, &tolerance);
            ok = (size_t)is_near(&t, e, want, ((float *)t.got[0])[e], tolerance);
        }
    drop(&t);
}

static void try_reduce_integers(void)
{
    trial t = {.name = "REDUCE of integers"};
    cut c = random_cut();
    uint32_t f = below(5), x_dims[] = {c.outer, c.n, c.inner}, y_dims[] = {c.outer, c.inner},
             p[] = {f, c.outer, c.n, c.inner};
    int32_t *x = malloc(FRAMES * product(3, x_dims) * sizeof *x);
    for (size_t i = 0; i < FRAMES * product(3, x_dims); i++) x[i] = (int32_t)below(9) - 4;
    give_input(&t, SGRU_I32, 3, x_dims, x);
    take_output(&t, SGRU_I32, 2, y_dims);
    if (run_trial(&t, 64, 4, p))
        for (size_t e = 0, ok = 1; ok && e < FRAMES * product(2, y_dims); e++) {
            const int32_t *v = x + e / c.inner * c.n * c.inner + e % c.inner;
            uint64_t y = (uint64_t)(int64_t)*v;
            for (uint32_t i = 1; i < c.n; i++) {
                int64_t u = v[i * c.inner];
                y = f <= 1                         ? y + (uint64_t)u
                    : f == 4                       ? y * (uint64_t)u
                    : (f == 2) == (u > (int64_t)y) ? (uint64_t)u
                                                   : y;
            }
            if (f == 1) y = (uint64_t)((int64_t)y / c.n);
            ok = (size_t)is_near(&t, e, (int32_t)(uint32_t)y, ((int32_t *)t.got[0])[e], 0);
        }
    drop(&t);
}

static void try_softmax(void)
{
    trial t = {.name = "SOFTMAX"};
    cut c = random_cut();
    uint32_t log_too = below(2), dims[] = {c.outer, c.n, c.inner}, p[] = {c.outer, c.n, c.inner, log_too};
    const float *x = give_floats(&t, 3, dims, 5);
    take_output(&t, SGRU_F32, 3, dims);
    if (run_trial(&t, 65, 4, p))
        for (size_t e = 0, ok = 1; ok && e < FRAMES * product(3, dims); e++) {
            const float *v = x + e / c.inner / c.n * c.n * c.inner + e % c.inner;
            double sum = 0;
            for (uint32_t i = 0; i < c.n; i++) sum += exp((double)v[i * c.inner]);
            double want = log_too ? x[e] - log(sum) : exp((double)x[e]) / sum;
            ok = (size_t)is_near(&t, e, want, ((float *)t.got[0])[e], (c.n + 16) * EPS * (log_too ? 16 : want));
        }
    drop(&t);
}

static void try_normalize(void)
{
    trial t = {.name = "NORMALIZE"};
    uint32_t outer = 1 + below(5), n = 2 + below(90), dims[] = {outer, n};
    float epsilon = 1e-3f, *scale = below(2) ? randoms(n, 2) : NULL, *shift = below(2) ? randoms(n, 2) : NULL;
    const float *x = give_floats(&t, 2, dims, 3);
    uint32_t p[] = {outer, n, bits_of(epsilon)};
    if (scale) give_const(&t, SGRU_F32, n, scale);
    else give_none(&t);
    if (shift) give_const(&t, SGRU_F32, n, shift);
    else give_none(&t);
    take_output(&t, SGRU_F32, 2, dims);
    if (run_trial(&t, 66, 3, p))
        for (size_t e = 0, ok = 1; ok && e < FRAMES * product(2, dims); e++) {
            const float *v = x + e / n * n;
            double mean = 0, variance = 0;
            for (uint32_t i = 0; i < n; i++) mean += v[i] / (double)n;
            for (uint32_t i = 0; i < n; i++) variance += (v[i] - mean) * (v[i] - mean) / n;
            double y = (x[e] - mean) / sqrt(variance + epsilon);
            double want = y * (scale ? scale[e % n] : 1) + (shift ? shift[e % n] : 0);
            double size = 4 / sqrt(variance + epsilon); /* of the difference, which has the mean's error */
            ok = (size_t)is_near(&t, e, want, ((float *)t.got[0])[e], (n + 8) * EPS * (size + fabs(y)) * 4);
        }
    free(scale), free(shift), drop(&t);
}

static void try_cumsum(void)
{
    trial t = {.name = "CUMSUM"};
    cut c = random_cut();
    uint32_t exclusive = below(2), reverse = below(2), dims[] = {c.outer, c.n, c.inner};
    uint32_t p[] = {c.outer, c.n, c.inner, exclusive, reverse};
    const float *x = give_floats(&t, 3, dims, 3);
    take_output(&t, SGRU_F32, 3, dims);
    if (run_trial(&t, 69, 5, p))
        for (size_t e = 0, ok = 1; ok && e < FRAMES * product(3, dims); e++) {
            const float *v = x + e / c.inner / c.n * c.n * c.inner + e % c.inner;
            uint32_t at = (uint32_t)(e / c.inner % c.n);
            double want = 0, magnitude = 0;
            for (uint32_t i = 0; i < c.n; i++)
                if ((reverse ? i > at : i < at) || (i == at && !exclusive))
                    want += v[i * c.inner], magnitude += fabs((double)v[i * c.inner]);
            ok = (size_t)is_near(&t, e, want, ((float *)t.got[0])[e], c.n * EPS * magnitude);
        }
    drop(&t);
}

static void try_cumsum_integers(void)
{
    trial t = {.name = "CUMSUM of integers"};
    cut c = random_cut();
    uint32_t exclusive = below(2), reverse = below(2), wide = below(2), dims[] = {c.outer, c.n, c.inner};
    uint32_t p[] = {c.outer, c.n, c.inner, exclusive, reverse};
    size_t size = wide ? 8 : 4, count = FRAMES * product(3, dims);
    unsigned char *x = malloc(count * size);
    for (size_t i = 0; i < count; i++) {
        int64_t v = (int64_t)below(1u << 30) * (wide ? 1 << 20 : 1) - 7;
        memcpy(x + i * size, &v, size);
    }
    give_input(&t, wide ? SGRU_I64 : SGRU_I32, 3, dims, x);
    take_output(&t, wide ? SGRU_I64 : SGRU_I32, 3, dims);
    if (run_trial(&t, 69, 5, p))
        for (size_t e = 0; e < count; e++) {
            size_t start = e / c.inner / c.n * c.n * c.inner + e % c.inner, at = e / c.inner % c.n;
            uint64_t want = 0, v;
            for (size_t i = 0; i < c.n; i++) {
                v = 0, memcpy(&v, x + (start + i * c.inner) * size, size);
                if ((reverse ? i > at : i < at) || (i == at && !exclusive)) want += v;
            }
            if (memcmp(&want, (char *)t.got[0] + e * size, size)) complain(&t, "another integer");
        }
    drop(&t);
}

/* ---- order ---- */

/* Values of f32, i64 or i32 to be ranked, many of them equal; floats with NaN, infinities and, in a constant, zeros of both signs. */
typedef struct ranked {
    uint32_t dtype;
    size_t size, repeats; /* bytes of one; elements from frame to frame, 0 in a constant */
    unsigned char *values;
} ranked;

static ranked give_ranked(trial *t, uint32_t rank, const uint32_t *dims)
{
    static const uint32_t dtypes[] = {SGRU_F32, SGRU_F32, SGRU_I64, SGRU_I32};
    uint32_t dtype = dtypes[below(4)], few = below(2), constant = below(3) == 0;
    size_t count = product(rank, dims), n = constant ? count : FRAMES * count;
    ranked r = {dtype, dtype_size(dtype), constant ? 0 : count, malloc(n * dtype_size(dtype))};
    for (size_t i = 0; i < n; i++) {
        int64_t wide = few ? (int64_t)below(5) - 2 : (int64_t)(uniform(1) * 0x1p60f);
        float f = few ? (float)below(5) - 2 : below(8) ? uniform(1) : below(3) ? NAN : below(2) ? INFINITY : -INFINITY;
        if (constant && f == 0 && below(2)) f = -0.0f;
        memcpy(r.values + i * r.size, &wide, r.size);
        if (dtype == SGRU_F32) memcpy(r.values + i * r.size, &f, 4);
    }
    if (!constant) return give_input(t, (int)dtype, rank, dims, r.values), r;
    give_const(t, (int)dtype, n, r.values);
    return r;
}

/* 1 where value i is above value j, -1 below, 0 equal; NaN is above every number. */
static int compare_ranked(const ranked *r, size_t i, size_t j)
{
    if (r->dtype == SGRU_F32) {
        float a, b;
        memcpy(&a, r->values + 4 * i, 4), memcpy(&b, r->values + 4 * j, 4);
        return isnan(a) || isnan(b) ? !!isnan(a) - !!isnan(b) : (a > b) - (a < b);
    }
    int64_t a = r->dtype == SGRU_I64 ? ((int64_t *)(void *)r->values)[i] : ((int32_t *)(void *)r->values)[i],
            b = r->dtype == SGRU_I64 ? ((int64_t *)(void *)r->values)[j] : ((int32_t *)(void *)r->values)[j];
    return (a > b) - (a < b);
}

static void drop_ranked(const ranked *r, trial *t)
{
    if (!r->repeats) free(r->values);
    drop(t);
}

static void try_arg(void)
{
    trial t = {.name = "ARG"};
    cut c = random_cut();
    uint32_t smallest = below(2), last = below(2), x_dims[] = {c.outer, c.n, c.inner}, y_dims[] = {c.outer, c.inner};
    uint32_t p[] = {smallest, c.outer, c.n, c.inner, last};
    ranked r = give_ranked(&t, 3, x_dims);
    size_t rows = product(2, y_dims);
    take_output(&t, SGRU_I64, 2, y_dims);
    if (run_trial(&t, 67, 5, p))
        for (size_t e = 0, ok = 1; ok && e < FRAMES * rows; e++) {
            size_t start = e / rows * r.repeats + e % rows / c.inner * c.n * c.inner + e % c.inner;
            uint32_t best = 0;
            for (uint32_t i = 1; i < c.n; i++) {
                int above = compare_ranked(&r, start + i * c.inner, start + best * c.inner) * (smallest ? -1 : 1);
                if (above > 0 || (last && above == 0)) best = i;
            }
            ok = (size_t)is_near(&t, e, best, (double)((int64_t *)t.got[0])[e], 0);
        }
    drop_ranked(&r, &t);
}

/* Each input has its rank; values or indices may be absent. */
static void try_topk(void)
{
    trial t = {.name = "TOPK"};
    cut c = random_cut();
    uint32_t k = 1 + below(c.n), largest = below(2), x_dims[] = {c.outer, c.n, c.inner},
             y_dims[] = {c.outer, k, c.inner};
    uint32_t p[] = {c.outer, c.n, c.inner, k, largest, 1};
    ranked r = give_ranked(&t, 3, x_dims);
    size_t count = product(3, x_dims), kept = product(3, y_dims);
    take_output(&t, (int)r.dtype, 3, y_dims);
    take_output(&t, SGRU_I64, 3, y_dims);
    if (run_trial(&t, 68, 6, p))
        for (size_t e = 0, ok = 1; ok && e < FRAMES * count; e++) {
            size_t frame = e / count, own = frame * r.repeats + e % count, row = e % count / c.inner / c.n;
            size_t start = frame * r.repeats + row * c.n * c.inner + e % c.inner;
            uint32_t at = (uint32_t)(e / c.inner % c.n), rank = 0;
            for (uint32_t i = 0; i < c.n; i++) {
                int above = compare_ranked(&r, start + i * c.inner, own) * (largest ? 1 : -1);
                rank += above > 0 || (above == 0 && i < at);
            }
            if (rank >= k) continue;
            size_t y = frame * kept + (row * k + rank) * c.inner + e % c.inner;
            ok = (size_t)is_near(&t, y, at, (double)((int64_t *)t.got[1])[y], 0);
            float zero = 0;
            const void *want = r.values + own * r.size, *got = (char *)t.got[0] + y * r.size;
            if (r.dtype == SGRU_F32 && *(const float *)want == 0) want = &zero; /* outputs are tidy */
            if (memcmp(want, got, r.size)) complain(&t, "another value");
        }
    drop_ranked(&r, &t);
}

/* ---- index ---- */

/* n indices into a dimension, the negative ones counting from its end. */
static int64_t *random_indices(size_t n, uint32_t dim)
{
    int64_t *v = malloc(n * sizeof *v);
    for (size_t i = 0; i < n; i++) v[i] = (int64_t)below(2 * dim) - dim;
    return v;
}

typedef struct index_case {
    uint32_t rank, axis, data[4], indices[4];
} index_case;

static index_case random_index_case(void)
{
    index_case c = {.rank = 1 + below(4)};
    c.axis = below(c.rank);
    for (uint32_t i = 0; i < c.rank; i++) {
        c.data[i] = 1 + below(6);
        c.indices[i] = i == c.axis ? 1 + below(7) : 1 + below(c.data[i]);
    }
    return c;
}

/* Where in data the index number e of the case points. */
static size_t target(const index_case *c, size_t e, int64_t index)
{
    size_t at = 0, stride = 1;
    for (uint32_t i = c->rank; i-- > 0; e /= c->indices[i], stride *= c->data[i])
        at += stride * (i == c->axis ? (size_t)(index < 0 ? index + c->data[i] : index) : e % c->indices[i]);
    return at;
}

static void try_gather_elements(void)
{
    trial t = {.name = "GATHER_ELEMENTS"};
    index_case c = random_index_case();
    size_t n = product(c.rank, c.indices), count = product(c.rank, c.data);
    const float *data = give_floats(&t, c.rank, c.data, 1);
    const int64_t *indices = give_input(&t, SGRU_I64, c.rank, c.indices, random_indices(FRAMES * n, c.data[c.axis]));
    take_output(&t, SGRU_F32, c.rank, c.indices);
    if (run_trial(&t, 5, 1, &c.axis))
        for (size_t e = 0; e < FRAMES * n; e++)
            is_near(&t, e, data[e / n * count + target(&c, e % n, indices[e])], ((float *)t.got[0])[e], 0);
    drop(&t);
}

static float combined(uint32_t reduction, float a, float b)
{
    const float all[] = {b, a + b, a * b, a > b ? a : b, a < b ? a : b};
    return all[reduction];
}

static void try_scatter_elements(void)
{
    trial t = {.name = "SCATTER_ELEMENTS"};
    index_case c = random_index_case();
    size_t n = product(c.rank, c.indices), count = product(c.rank, c.data);
    uint32_t p[] = {c.axis, below(5)};
    float *want = malloc(FRAMES * count * sizeof *want);
    memcpy(want, give_floats(&t, c.rank, c.data, 1), FRAMES * count * sizeof *want);
    const int64_t *indices = give_input(&t, SGRU_I64, c.rank, c.indices, random_indices(FRAMES * n, c.data[c.axis]));
    const float *updates = give_floats(&t, c.rank, c.indices, 1);
    take_output(&t, SGRU_F32, c.rank, c.data);
    for (size_t e = 0; e < FRAMES * n; e++) {
        float *to = want + e / n * count + target(&c, e % n, indices[e]);
        *to = combined(p[1], *to, updates[e]);
    }
    if (run_trial(&t, 6, 2, p))
        for (size_t e = 0; e < FRAMES * count; e++) is_near(&t, e, want[e], ((float *)t.got[0])[e], 0);
    free(want), drop(&t);
}

/* int32 data and indices: rows of `depth` indices, each the place of a slice. */
static void try_scatter_nd(void)
{
    trial t = {.name = "SCATTER_ND"};
    uint32_t rank = 1 + below(4), depth = 1 + below(rank), n = 1 + below(5), reduction = below(5), dims[4], least = 9;
    for (uint32_t i = 0; i < rank; i++) dims[i] = 1 + below(5);
    for (uint32_t i = 0; i < depth; i++) least = dims[i] < least ? dims[i] : least;
    uint32_t slice = (uint32_t)product(rank - depth, dims + depth), count = (uint32_t)product(rank, dims);
    uint32_t list[] = {n, depth}, updates_dims[] = {n, slice};
    int32_t *data = malloc(FRAMES * count * 4u), *updates = malloc(FRAMES * n * slice * 4u),
            *want = malloc(FRAMES * count * 4u);
    int32_t *indices = malloc(FRAMES * n * depth * 4u);
    for (size_t i = 0; i < FRAMES * count; i++) data[i] = want[i] = (int32_t)below(9) - 4;
    for (size_t i = 0; i < FRAMES * n * slice; i++) updates[i] = (int32_t)below(9) - 4;
    for (size_t i = 0; i < FRAMES * n * depth; i++) indices[i] = (int32_t)below(2 * least) - (int32_t)least;
    give_input(&t, SGRU_I32, rank, dims, data);
    give_input(&t, SGRU_I32, 2, list, indices);
    give_input(&t, SGRU_I32, 2, updates_dims, updates);
    take_output(&t, SGRU_I32, rank, dims);
    for (size_t e = 0; e < FRAMES * n * slice; e++) {
        size_t row = e / slice, at = 0;
        for (uint32_t d = 0; d < depth; d++) {
            int32_t index = indices[row * depth + d];
            at = at * dims[d] + (size_t)(index < 0 ? index + (int32_t)dims[d] : index);
        }
        int32_t *to = want + row / n * count + at * slice + e % slice;
        *to = (int32_t)combined(reduction, (float)*to, (float)updates[e]);
    }
    if (run_trial(&t, 7, 1, &reduction))
        for (size_t e = 0; e < FRAMES * count; e++) is_near(&t, e, want[e], ((int32_t *)t.got[0])[e], 0);
    free(want), drop(&t);
}

/* One index just outside of the dimension ends the call. */
static void try_bad_index(void)
{
    trial t = {.name = "an index out of range"};
    uint32_t dims[] = {1 + below(9), 1 + below(9)}, axis = below(2), n = dims[0] * dims[1];
    int64_t *indices = calloc(FRAMES * n, sizeof *indices);
    indices[below(n)] = below(2) ? dims[axis] : -1 - (int64_t)dims[axis];
    give_floats(&t, 2, dims, 1);
    give_input(&t, SGRU_I64, 2, dims, indices);
    take_output(&t, SGRU_F32, 2, dims);
    size_t size;
    sgru_model m;
    add_op(&t.im, 5, 2, t.in, 1, t.out, 1, &axis);
    unsigned char *bytes = finish(&t.im, &size);
    if (sgru_model_open(&m, bytes, size) || run_on(&t, &m, "", 1, t.got, 0) != SGRU_E_INDEX)
        complain(&t, "let through");
    free(bytes), drop(&t);
}

int main(int argc, char **argv)
{
    static const entry entries[] = {
        {"REDUCE", try_reduce},
        {"REDUCE of integers", try_reduce_integers},
        {"SOFTMAX", try_softmax},
        {"NORMALIZE", try_normalize},
        {"CUMSUM", try_cumsum},
        {"CUMSUM of integers", try_cumsum_integers},
        {"ARG", try_arg},
        {"TOPK", try_topk},
        {"GATHER_ELEMENTS", try_gather_elements},
        {"SCATTER_ELEMENTS", try_scatter_elements},
        {"SCATTER_ND", try_scatter_nd},
        {"bad indices", try_bad_index},
    };
    return run_entries(entries, sizeof entries / sizeof *entries, argc, argv);
}
