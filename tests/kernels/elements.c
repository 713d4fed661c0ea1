/* Random operators that move, convert and combine elements or multiply matrices, each in every way that must give the same bits
 * (trial.h). What they give is held against plain loops, bit for bit where floats are rounded once or in one stated order, and
 * functions of one element against double precision.
 *
 *     elements [count [seed]]     count trials of each operator */
#include "packing.h"
#include "trial.h"

enum { MOST_DIMS = 5 };

/* ---- values ---- */

static int64_t any_integer(void)
{
    static const int64_t edges[] = {INT64_MIN, INT64_MAX, INT32_MIN, INT32_MAX, 0x100000000, -0x100000001, 0, -1};
    return below(8) ? (int64_t)below(9) - 4 : below(3) ? edges[below(8)] : (int64_t)(uniform(1) * 0x1p40f);
}

/* As an input of a stream has it: no subnormals, no -0, one NaN. */
static float any_float(void)
{
    static const float edges[] = {0.0f,      1.5f,     0x1p31f,         -0x1p31f,         0x1p63f, -0x1p63f,
                                  0x1p-126f, INFINITY, 0x1.fffffep127f, -0x1.fffffep127f, NAN,     -INFINITY};
    return below(8) ? (float)below(9) * 0.5f - 2.0f : below(2) ? edges[below(12)] : uniform(3e9f);
}

/* n elements of a dtype. */
static void *any_values(uint32_t dtype, size_t n)
{
    size_t size = dtype_size(dtype);
    unsigned char *v = malloc(n * size);
    for (size_t i = 0; i < n; i++) {
        int64_t wide = dtype == SGRU_BOOL ? below(2) : any_integer();
        float f = any_float();
        memcpy(v + i * size, &wide, size);
        if (dtype == SGRU_F32) memcpy(v + i * size, &f, size);
    }
    return v;
}

static int64_t integer_at(uint32_t dtype, const void *p, size_t i)
{
    return dtype == SGRU_I64   ? ((const int64_t *)p)[i]
           : dtype == SGRU_I32 ? ((const int32_t *)p)[i]
                               : ((const uint8_t *)p)[i];
}

/* An operand with values for all frames. */
static unsigned char *give_any(trial *t, uint32_t dtype, uint32_t rank, const uint32_t *dims)
{
    return give_input(t, (int)dtype, rank, dims, any_values(dtype, FRAMES * product(rank, dims)));
}

/* ---- strided walks ---- */

typedef struct walk {
    uint32_t rank, dims[MOST_DIMS], strides[MOST_DIMS], offset, count; /* count: elements that it reaches over */
} walk;

static void any_dims(walk *w, uint32_t least)
{
    w->rank = least + below(MOST_DIMS - least + 1);
    for (uint32_t i = 0; i < w->rank; i++) w->dims[i] = 1 + below(i + 1 == w->rank && below(4) == 0 ? 150 : 4);
}

/* Dimensions in any order, apart from each other or, where `repeats`, the same element many times; backwards where `turns`. */
static void any_strides(walk *w, int repeats, int turns)
{
    uint32_t order[MOST_DIMS], step = 1, shuffled = below(2);
    w->offset = turns ? below(4) : 0, w->count = w->offset + 1;
    for (uint32_t i = 0; i < w->rank; i++) order[i] = w->rank - 1 - i;
    for (uint32_t i = w->rank; shuffled && i-- > 1;) {
        uint32_t j = below(i + 1), other = order[j];
        order[j] = order[i], order[i] = other;
    }
    for (uint32_t i = 0; i < w->rank; i++) {
        uint32_t at = order[i], reach;
        step += below(6) == 0;
        w->strides[at] = repeats && below(3) == 0 ? 0 : step;
        reach = w->strides[at] * (w->dims[at] - 1);
        w->count += reach;
        if (turns && below(4) == 0) w->offset += reach, w->strides[at] = 0u - w->strides[at];
        if (w->strides[at]) step *= w->dims[at];
    }
    w->count += turns ? below(3) : 0;
}

/* Where element number e of the walk is, in the order of its dimensions. */
static size_t reached(const walk *w, size_t e)
{
    int64_t at = w->offset;
    for (uint32_t i = w->rank; i-- > 0; e /= w->dims[i]) at += (int64_t)(e % w->dims[i]) * (int32_t)w->strides[i];
    return (size_t)at;
}

static size_t elements(const walk *w) { return product(w->rank, w->dims); }

static void put(uint32_t *p, uint16_t *n, uint32_t count, const uint32_t *words)
{
    memcpy(p + *n, words, count * 4u);
    *n = (uint16_t)(*n + count);
}

static void same_bytes(const trial *t, const void *want, const void *got, size_t size)
{
    if (memcmp(want, got, size)) complain(t, "not the expected bytes");
}

/* ---- moving ---- */

static void try_copy(void)
{
    trial t = {.name = "COPY"};
    uint32_t dtype = 1 + below(4), size = (uint32_t)dtype_size(dtype), p[3 + 3 * MOST_DIMS];
    uint16_t n = 0;
    walk from, to;
    any_dims(&from, 0), to = from;
    any_strides(&from, 1, 1), any_strides(&to, 0, 1);
    const unsigned char *x = give_any(&t, dtype, 1, &from.count);
    take_output(&t, (int)dtype, 1, &to.count);
    unsigned char *want = calloc(FRAMES * to.count, size);
    for (size_t f = 0; f < FRAMES; f++)
        for (size_t e = 0; e < elements(&from); e++)
            memcpy(want + (f * to.count + reached(&to, e)) * size, x + (f * from.count + reached(&from, e)) * size,
                   size);
    put(p, &n, 1, &from.rank), put(p, &n, 1, &from.offset), put(p, &n, 1, &to.offset);
    put(p, &n, from.rank, from.dims), put(p, &n, from.rank, from.strides), put(p, &n, from.rank, to.strides);
    if (run_trial(&t, 1, n, p)) same_bytes(&t, want, t.got[0], FRAMES * to.count * size);
    free(want), drop(&t);
}

/* A history of n elements: the state moves down by one row over itself, and the frame comes in at its end. */
static void try_history(void)
{
    trial t = {.name = "COPY within a state"};
    uint32_t dtype = 1 + below(3), size = (uint32_t)dtype_size(dtype), row = 1 + below(20), rows = 2 + below(4),
             n = row * rows, down[] = {1, row, 0, n - row, 1, 1}, in[] = {1, 0, n - row, row, 1, 1},
             all[] = {1, 0, 0, n, 1, 1};
    const unsigned char *x = give_any(&t, dtype, 1, &row);
    uint32_t frame = t.in[0], state = add_tensor(&t.im, (int)dtype, KIND_STATE, LAYOUT_ROWS, 1, &n);
    unsigned char *start = any_values(dtype, n), *want = malloc((size_t)FRAMES * n * size);
    t.im.tensors[state].reset = add_const(&t.im, (int)dtype, n, start);
    add_to_list(&t.im, 2, state);
    add_op(&t.im, 1, 1, &state, 1, &state, 6, down), add_op(&t.im, 1, 1, &frame, 1, &state, 6, in);
    t.in[0] = state;
    take_output(&t, (int)dtype, 1, &n);
    for (size_t f = 0; f < FRAMES; f++) {
        const unsigned char *before = f ? want + (f - 1) * n * size : start;
        memcpy(want + f * n * size, before + row * size, (n - row) * size);
        memcpy(want + (f * n + n - row) * size, x + f * row * size, row * size);
    }
    if (run_trial(&t, 1, 6, all)) same_bytes(&t, want, t.got[0], (size_t)FRAMES * n * size);
    free(want), free(start), drop(&t);
}

static void try_fill(void)
{
    trial t = {.name = "FILL"};
    uint32_t dtype = 1 + below(4), n = 1 + below(40), p[] = {below(1u << 31), below(1u << 31)};
    if (dtype == SGRU_F32) p[0] = bits_of(uniform(9));
    size_t size = dtype_size(dtype);
    uint64_t word = p[0] | (uint64_t)p[1] << 32;
    take_output(&t, (int)dtype, 1, &n);
    if (run_trial(&t, 2, 2, p))
        for (size_t i = 0; i < FRAMES * n; i++)
            if (memcmp((char *)t.got[0] + i * size, &word, size)) complain(&t, "another element");
    drop(&t);
}

/* Towards zero, saturating; NaN is 0; true is what is not 0. */
static void try_cast(void)
{
    trial t = {.name = "CAST"};
    uint32_t from = 1 + below(4), to = 1 + below(4), n = 1 + below(40), none = 0;
    const unsigned char *x = give_any(&t, from, 1, &n);
    take_output(&t, (int)to, 1, &n);
    if (!run_trial(&t, 3, 0, &none)) return drop(&t);
    for (size_t i = 0; i < FRAMES * n; i++) {
        float f = from == SGRU_F32 ? ((const float *)(const void *)x)[i] : 0, y;
        int64_t v = from == SGRU_F32 ? 0 : integer_at(from, x, i), most = to == SGRU_I32 ? INT32_MAX : INT64_MAX;
        if (from == SGRU_F32) v = isnan(f) ? 0 : f >= 0x1p63f ? INT64_MAX : f <= -0x1p63f ? INT64_MIN : (int64_t)f;
        else f = (float)v;
        if (to == SGRU_F32) {
            memcpy(&y, (char *)t.got[0] + 4 * i, 4);
            if (isnan(f) ? !isnan(y) : y != f || signbit(y) != signbit(f)) complain(&t, "another float");
            continue;
        }
        v = to == SGRU_BOOL ? (from == SGRU_F32 ? f != 0 : v != 0) : v > most ? most : v < -most - 1 ? -most - 1 : v;
        if (v != integer_at(to, t.got[0], i)) complain(&t, "another integer");
    }
    drop(&t);
}

static void try_gather(void)
{
    trial t = {.name = "GATHER"};
    uint32_t dtype = 1 + below(4), type = below(2) ? SGRU_I64 : SGRU_I32, outer = 1 + below(4), dim = 1 + below(9),
             inner = below(2) ? 1 : 1 + below(9), n = 1 + below(9), dims[] = {outer, dim, inner},
             out[] = {outer, n, inner}, p[] = {outer, dim, inner, n};
    size_t size = dtype_size(dtype), index_size = dtype_size(type);
    const unsigned char *x = give_any(&t, dtype, 3, dims);
    unsigned char *indices = malloc(FRAMES * n * index_size);
    for (size_t i = 0; i < FRAMES * n; i++) {
        int64_t index = (int64_t)below(2 * dim) - dim;
        memcpy(indices + i * index_size, &index, index_size);
    }
    give_input(&t, (int)type, 1, &n, indices);
    take_output(&t, (int)dtype, 3, out);
    if (run_trial(&t, 4, 4, p))
        for (size_t e = 0; e < FRAMES * product(3, out); e++) {
            size_t frame = e / inner / n / outer, i = e / inner % n;
            int64_t index = integer_at(type, indices, frame * n + i);
            size_t at = (size_t)(index < 0 ? index + dim : index);
            at = ((e / inner / n) * dim + at) * inner + e % inner;
            if (memcmp((char *)t.got[0] + e * size, x + at * size, size)) complain(&t, "another element");
        }
    drop(&t);
}

/* ---- elementwise ---- */

static double sigmoid(double v) { return 1 / (1 + exp(-v)); }
static double softplus(double v) { return v > 40 ? v : log1p(exp(v)); }
static double clip(double v, double low, double high) { return fmin(fmax(v, low), high); }
static double elu(double v, double alpha) { return v < 0 ? alpha * expm1(v) : v; }

static double exactly(uint32_t f, double a, double b, double v)
{
    switch (f) {
    case F_SIGMOID: return sigmoid(v);
    case F_TANH: return tanh(v);
    case F_RELU: return fmax(v, 0);
    case F_LEAKY_RELU: return v < 0 ? a * v : v;
    case F_ELU: return elu(v, a);
    case F_HARD_SIGMOID: return clip(a * v + b, 0, 1);
    case F_SOFTSIGN: return v / (1 + fabs(v));
    case F_SOFTPLUS: return softplus(v);
    case F_THRESHOLDED_RELU: return v > a ? v : 0;
    case F_THRESHOLDED_RELU_EQ: return v >= a ? v : 0;
    case F_SCALED_TANH: return a * tanh(b * v);
    case F_AFFINE: return a * v + b;
    case F_CLIP: return clip(v, a, b);
    case F_EXP: return exp(v);
    case F_LOG: return log(v);
    case F_SQRT: return sqrt(v);
    case F_RECIPROCAL: return 1 / v;
    case F_NEG: return -v;
    case F_ABS: return fabs(v);
    case F_FLOOR: return floor(v);
    case F_CEIL: return ceil(v);
    case F_SIGN: return v > 0 ? 1 : v < 0 ? -1 : v;
    case F_ERF: return erf(v);
    case F_SELU: return b * elu(v, a);
    case F_GELU: return v / 2 * erfc(-v / sqrt(2));
    case F_GELU_TANH: return v * sigmoid(2 * sqrt(2 / M_PI) * (v + 0.044715 * v * v * v));
    case F_HARD_SWISH: return v * clip(v / 6 + 0.5, 0, 1);
    case F_SILU: return v * sigmoid(v);
    case F_ROUND: return rint(v);
    case F_CELU: return fmax(v, 0) + fmin(0, a * expm1(v / a));
    case F_MISH: return v * tanh(softplus(v));
    case F_SIN: return sin(v);
    case F_COS: return cos(v);
    case F_SETTLE: return fabs(v) < 0x1p-64 ? 0 : v;
    default: return v;
    }
}

/* Near the functions' edges. */
static void try_unary(void)
{
    static const float edges[] = {0,  88,  0x1p-64f, 0x1.fffffep-65f, -0x1p-64f, 0.25f, -0.25f, 3,
                                  -3, 100, -100,     0x1p24f};
    trial t = {.name = "UNARY"};
    uint32_t f = below(F_COUNT - 1), n = 1 + below(40);
    f += f >= F_NOT;
    float a = below(3) ? 0.25f : 1.5f, b = below(3) ? 0.75f : 2.0f, *x = randoms(FRAMES * n, below(2) ? 4 : 0.5f);
    for (size_t i = 0; i < FRAMES * n; i++) x[i] = below(4) ? x[i] : edges[below(12)];
    uint32_t p[] = {f, bits_of(a), bits_of(b)};
    give_input(&t, SGRU_F32, 1, &n, x);
    take_output(&t, SGRU_F32, 1, &n);
    /* 5 ulp of the result, and of the sum of what is added in it */
    if (run_trial(&t, 16, 3, p))
        for (size_t i = 0; i < FRAMES * n; i++) {
            double want = exactly(f, a, b, x[i]), got = ((float *)t.got[0])[i];
            double terms = f == F_AFFINE || f == F_HARD_SIGMOID ? 2 + fabs(a * x[i])
                           : f == F_HARD_SWISH                  ? fabs(x[i])
                                                                : f == F_GELU || f == F_GELU_TANH;
            if (isinf(want) || fabs(want) > 0x1.fffffep127) want = copysign(INFINITY, want);
            if (fabs(want) < 0x1p-125 && got == 0) continue;
            is_near(&t, i, want, got, isfinite(want) ? 10 * EPS * (fabs(want) + terms) : 0);
            if (want == 0 && got == 0 && (f == F_NEG || f == F_ABS || f == F_SIGN || f == F_IDENTITY) &&
                signbit(want) != signbit(got))
                complain(&t, "another zero");
        }
    drop(&t);
}

static void try_unary_integers(void)
{
    static const uint32_t functions[][2] = {
        {SGRU_BOOL, F_NOT}, {SGRU_I64, F_NEG}, {SGRU_I64, F_ABS}, {SGRU_I32, F_NEG}, {SGRU_I32, F_ABS}};
    trial t = {.name = "UNARY of integers"};
    uint32_t which = below(5), dtype = functions[which][0], n = 1 + below(40), p[] = {functions[which][1], 0, 0};
    const unsigned char *x = give_any(&t, dtype, 1, &n);
    take_output(&t, (int)dtype, 1, &n);
    if (run_trial(&t, 16, 3, p))
        for (size_t i = 0; i < FRAMES * n; i++) {
            int64_t v = integer_at(dtype, x, i);
            uint64_t y = p[0] == F_NOT ? !v : p[0] == F_NEG || v < 0 ? 0 - (uint64_t)v : (uint64_t)v;
            if (dtype == SGRU_I32) y = (uint64_t)(int64_t)(int32_t)(uint32_t)y;
            if ((int64_t)y != integer_at(dtype, t.got[0], i)) complain(&t, "another integer");
        }
    drop(&t);
}

static int compared(uint32_t f, double a, double b)
{
    return f == B_EQUAL ? a == b : f == B_LESS ? a < b : f == B_LESS_EQUAL ? a <= b : f == B_GREATER ? a > b : a >= b;
}

static float combined(uint32_t f, float a, float b)
{
    if (f == B_MIN || f == B_MAX) return isnan(a) ? a : isnan(b) ? b : (f == B_MIN ? a < b : a > b) ? a : b;
    return f == B_ADD ? a + b : f == B_SUB ? a - b : f == B_MUL ? a * b : f == B_DIV ? a / b : a < 0 ? a * b : a;
}

/* Outputs have no subnormals. */
static float flushed(float y) { return fabsf(y) < 0x1p-126f ? 0 : y; }

/* Wraps around; by zero it is 0. */
static int64_t combined_integers(uint32_t f, int64_t a, int64_t b)
{
    uint64_t u = (uint64_t)a, v = (uint64_t)b;
    if (f <= B_MUL) return (int64_t)(f == B_ADD ? u + v : f == B_SUB ? u - v : u * v);
    if (f == B_MIN || f == B_MAX) return (f == B_MIN) == (a < b) ? a : b;
    if (b == 0 || b == -1) return f == B_DIV && b ? (int64_t)(0 - u) : 0;
    int64_t rest = a % b;
    return f == B_DIV ? a / b : f == B_MOD && rest && (rest < 0) != (b < 0) ? rest + b : rest;
}

static void try_binary(void)
{
    static const uint32_t exact[] = {B_ADD, B_SUB, B_MUL, B_DIV, B_MIN, B_MAX, B_PRELU, B_MOD, B_FMOD};
    static const uint32_t dtypes[] = {SGRU_F32, SGRU_F32, SGRU_I64, SGRU_I32, SGRU_BOOL};
    trial t = {.name = "BINARY"};
    uint32_t dtype = dtypes[below(5)], f = B_EQUAL + below(5), p[2 + 3 * MOST_DIMS];
    uint16_t n = 2;
    if (dtype == SGRU_BOOL) f = below(4) ? B_AND + below(3) : B_EQUAL;
    else if (below(3)) f = exact[below(dtype == SGRU_F32 ? 7 : 9)];
    if (f == B_PRELU && dtype != SGRU_F32) f = B_FMOD;
    walk w[2];
    any_dims(&w[0], 1), w[1] = w[0];
    any_strides(&w[0], 1, 0), any_strides(&w[1], 1, 0);
    const unsigned char *a = give_any(&t, dtype, 1, &w[0].count), *b = give_any(&t, dtype, 1, &w[1].count);
    uint32_t y_dtype = f >= B_EQUAL && f <= B_GREATER_EQUAL ? SGRU_BOOL : dtype;
    take_output(&t, (int)y_dtype, w[0].rank, w[0].dims);
    p[0] = f, p[1] = w[0].rank;
    put(p, &n, w[0].rank, w[0].dims), put(p, &n, w[0].rank, w[0].strides), put(p, &n, w[0].rank, w[1].strides);
    if (!run_trial(&t, 17, n, p)) return drop(&t);
    for (size_t e = 0, all = elements(&w[0]); e < FRAMES * all; e++) {
        size_t at_a = e / all * w[0].count + reached(&w[0], e % all),
               at_b = e / all * w[1].count + reached(&w[1], e % all);
        if (dtype == SGRU_F32) {
            float u = ((const float *)(const void *)a)[at_a], v = ((const float *)(const void *)b)[at_b];
            if (y_dtype == SGRU_F32) is_near(&t, e, flushed(combined(f, u, v)), ((float *)t.got[0])[e], 0);
            else if (compared(f, u, v) != ((uint8_t *)t.got[0])[e]) complain(&t, "a wrong comparison of floats");
            continue;
        }
        int64_t u = integer_at(dtype, a, at_a), v = integer_at(dtype, b, at_b), want;
        if (f >= B_AND) want = f == B_AND ? u & v : f == B_OR ? u | v : u ^ v;
        else if (y_dtype == SGRU_BOOL)
            want = f == B_EQUAL        ? u == v
                   : f == B_LESS       ? u < v
                   : f == B_LESS_EQUAL ? u <= v
                   : f == B_GREATER    ? u > v
                                       : u >= v;
        else want = combined_integers(f, u, v);
        if (dtype == SGRU_I32 && y_dtype == SGRU_I32) want = (int32_t)(uint32_t)(uint64_t)want;
        if (want != integer_at(y_dtype, t.got[0], e)) complain(&t, "another integer");
    }
    drop(&t);
}

static void try_where(void)
{
    trial t = {.name = "WHERE"};
    uint32_t dtype = 1 + below(4), p[1 + 4 * MOST_DIMS];
    size_t size = dtype_size(dtype);
    uint16_t n = 1;
    walk w[3];
    const unsigned char *from[3];
    any_dims(&w[0], 1), w[2] = w[1] = w[0];
    p[0] = w[0].rank, put(p, &n, w[0].rank, w[0].dims);
    for (int i = 0; i < 3; i++) {
        any_strides(&w[i], 1, 0), put(p, &n, w[i].rank, w[i].strides);
        from[i] = give_any(&t, i ? dtype : SGRU_BOOL, 1, &w[i].count);
    }
    take_output(&t, (int)dtype, w[0].rank, w[0].dims);
    if (run_trial(&t, 18, n, p))
        for (size_t e = 0, all = elements(&w[0]); e < FRAMES * all; e++) {
            int i = from[0][e / all * w[0].count + reached(&w[0], e % all)] ? 1 : 2;
            size_t at = e / all * w[i].count + reached(&w[i], e % all);
            if (memcmp((char *)t.got[0] + e * size, from[i] + at * size, size)) complain(&t, "another element");
        }
    drop(&t);
}

/* ---- products ---- */

/* The column x as 8-bit weights meet it: whole numbers and their scale. */
static float quantised(uint32_t K, const float *x, int32_t *q)
{
    float most = 0;
    for (uint32_t k = 0; k < K; k++) most = fmaxf(most, fabsf(x[k]));
    for (uint32_t k = 0; k < K; k++) q[k] = most > 0 ? (int32_t)rintf(x[k] * (127 / most)) : 0;
    return most / 127;
}

static void try_affine(void)
{
    trial t = {.name = "AFFINE"};
    uint32_t rows = below(3) ? 1 : 1 + below(30), M = 1 + below(below(4) ? 40 : 150), K = 1 + below(50),
             x_dims[] = {rows, K}, y_dims[] = {rows, M}, relu = below(2);
    int format = any_format();
    float *w = randoms((size_t)M * K, 1), *stored = malloc((size_t)M * K * 4u), *bias = below(4) ? randoms(M, 1) : NULL,
          *scale = malloc(M * 4u);
    int8_t *q_w = malloc((size_t)M * K);
    int32_t *q_x = malloc(K * sizeof *q_x);
    const float *x = give_floats(&t, 2, x_dims, 2);
    t.in[t.n_in++] = add_weights(&t.im, format, M, K, w, stored);
    if (bias) give_const(&t, SGRU_F32, M, bias);
    else give_none(&t);
    take_output(&t, SGRU_F32, 2, y_dims);
    quantise_rows(M, K, w, q_w, scale);
    uint32_t p[] = {rows, M, K, relu ? F_AFFINE : 0, bits_of(0.5f), bits_of(0.25f)};
    if (run_trial(&t, 32, 6, p))
        for (size_t r = 0; r < FRAMES * rows; r++) {
            float s = quantised(K, x + r * K, q_x);
            for (uint32_t m = 0; m < M; m++) {
                float y = bias ? bias[m] : 0;
                int32_t sum = 0;
                for (uint32_t k = 0; k < K; k++) {
                    sum += q_w[(size_t)m * K + k] * q_x[k];
                    if (format != SGRU_I8) y = fmaf(stored[(size_t)m * K + k], x[r * K + k], y);
                }
                if (format == SGRU_I8) y = fmaf((float)sum, scale[m] * s, y);
                if (relu) y = fmaf(0.5f, y, 0.25f);
                is_near(&t, r * M + m, y, ((float *)t.got[0])[r * M + m], 0);
            }
        }
    free(w), free(stored), free(bias), free(scale), free(q_w), free(q_x), drop(&t);
}

/* A batch of any strides, rows at any distance. */
static void try_matmul(void)
{
    trial t = {.name = "MATMUL"};
    uint32_t M = 1 + below(9), N = 1 + below(40), K = 1 + below(20), rank = below(4), batch[3], p[6 + 3 * 3],
             row[] = {below(4) ? K + below(3) : 0, below(4) ? N + below(3) : 0}, y_dims[] = {1, M, N};
    walk w[2] = {{.rank = rank}, {.rank = rank}};
    uint16_t n = 6;
    for (uint32_t i = 0; i < rank; i++) batch[i] = 1 + below(3), w[0].dims[i] = w[1].dims[i] = batch[i];
    any_strides(&w[0], 1, 0), any_strides(&w[1], 1, 0);
    for (uint32_t i = 0; i < rank; i++) w[0].strides[i] *= M, w[1].strides[i] *= 5;
    uint32_t count[] = {(w[0].count - 1) * M + (M - 1) * row[0] + K, (w[1].count - 1) * 5 + (K - 1) * row[1] + N};
    const float *a = give_floats(&t, 1, &count[0], 1), *b = give_floats(&t, 1, &count[1], 1);
    y_dims[0] = (uint32_t)product(rank, batch);
    take_output(&t, SGRU_F32, 3, y_dims);
    const uint32_t head[] = {rank, M, N, K, row[0], row[1]};
    memcpy(p, head, sizeof head);
    put(p, &n, rank, batch), put(p, &n, rank, w[0].strides), put(p, &n, rank, w[1].strides);
    if (run_trial(&t, 33, n, p))
        for (size_t e = 0; e < FRAMES * product(3, y_dims); e++) {
            size_t f = e / product(3, y_dims), i = e / N / M % y_dims[0], m = e / N % M;
            const float *a_m = a + f * count[0] + reached(&w[0], i) + m * row[0],
                        *b_n = b + f * count[1] + reached(&w[1], i) + e % N;
            float y = 0;
            for (uint32_t k = 0; k < K; k++) y = fmaf(a_m[k], b_n[k * row[1]], y);
            is_near(&t, e, y, ((float *)t.got[0])[e], 0);
        }
    drop(&t);
}

int main(int argc, char **argv)
{
    static const entry entries[] = {
        {"COPY", try_copy},
        {"COPY within a state", try_history},
        {"FILL", try_fill},
        {"CAST", try_cast},
        {"GATHER", try_gather},
        {"UNARY", try_unary},
        {"UNARY of integers", try_unary_integers},
        {"BINARY", try_binary},
        {"WHERE", try_where},
        {"AFFINE", try_affine},
        {"MATMUL", try_matmul},
    };
    return run_entries(entries, sizeof entries / sizeof *entries, argc, argv);
}
