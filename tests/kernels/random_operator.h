/* An image of one operator with random operands: of any kind and dtype, absent, the same one twice, values at the edges of their
 * range; numbers of it altered; and what it gives on one instruction set. Shared by hostile_operators.c and the fuzzers. */
#ifndef TEST_RANDOM_OPERATOR_H
#define TEST_RANDOM_OPERATOR_H

#include <time.h>

#include "trial.h"

enum { MOST_MEMORY = 1 << 22, MOST_IO = 8, N_OPERATORS = 24 };

static const uint16_t codes[N_OPERATORS] = {1,  2,  3,  4,  5,  6,  7,  16, 17, 18, 32, 33,
                                            48, 49, 50, 64, 65, 66, 67, 68, 69, 80, 81, 82};
static double longest;
static unsigned ran, ended[16];

/* ---- values ---- */

static inline float any_float(void)
{
    static const float edges[] = {
        0.0f,     -0.0f, 1.0f,   -1.0f,   0x1p-149f, 0x1p-126f, 0x1.fffffep127f, -0x1.fffffep127f,
        0x1p-64f, 88.8f, -87.4f, 0x1p24f, 0.5f,      2.5f,      1e30f,           -1e-30f};
    uint32_t choice = below(32);
    if (choice == 0) return below(2) ? INFINITY : -INFINITY;
    if (choice == 1) return NAN;
    return choice < 8 ? edges[below(16)] : uniform(3.0f);
}

/* Integers are mostly indices of small tensors. */
static inline int64_t any_integer(void)
{
    static const int64_t edges[] = {INT64_MIN, INT64_MAX, INT32_MIN, INT32_MAX, 0x100000000, -0x100000000, 1000, -1000};
    return below(24) == 0 ? edges[below(8)] : (int64_t)below(5) - 2;
}

static inline void fill(uint32_t dtype, size_t n, unsigned char *to)
{
    size_t size = dtype_size(dtype);
    for (size_t i = 0; i < n; i++) {
        float f = any_float();
        int64_t v = any_integer();
        if (dtype == SGRU_F32) memcpy(to + i * size, &f, size);
        else memcpy(to + i * size, &v, size);
        if (dtype == SGRU_BOOL && below(8)) to[i] &= 1;
    }
}

/* ---- operands ---- */

static inline uint32_t add_any(image *im, int dtype, int kind, uint32_t rank, const uint32_t *dims)
{
    if (kind == KIND_ARENA) im->arena += 64; /* a gap that nobody owns */
    uint32_t id = add_tensor(im, dtype, kind, LAYOUT_ROWS, rank, dims);
    const sgru_tensor_rec *t = &im->tensors[id];
    if (kind == KIND_STATE) add_to_list(im, 2, id);
    if (kind == KIND_CONST) {
        im->data = realloc(im->data, im->data_size);
        memset(im->data + t->offset, 0, im->data_size - t->offset);
        fill((uint32_t)dtype, count_of(t), im->data + t->offset);
    }
    return id;
}

static inline uint32_t reads(image *im, int dtype, uint32_t rank, const uint32_t *dims)
{
    uint32_t choice = below(8), id = add_any(im, dtype,
                                             choice < 2   ? KIND_CONST
                                             : choice < 3 ? KIND_STATE
                                                          : KIND_ARENA,
                                             rank, dims);
    if (choice > 2) add_to_list(im, 0, id);
    return id;
}

static inline uint32_t writes(image *im, int dtype, uint32_t rank, const uint32_t *dims)
{
    uint32_t id = add_any(im, dtype, below(4) ? KIND_ARENA : KIND_STATE, rank, dims);
    if (im->tensors[id].kind == KIND_ARENA) add_to_list(im, 1, id);
    return id;
}

static inline uint32_t vector(image *im, int dtype, uint32_t n) { return reads(im, dtype, 1, &n); }
static inline uint32_t optional(image *im, uint32_t n)
{
    return below(3) ? add_any(im, SGRU_F32, KIND_CONST, 1, &n) : SGRU_NONE;
}

static inline uint32_t weights(image *im, uint32_t rows, uint32_t columns)
{
    float *w = randoms((size_t)rows * columns, 1.0f);
    uint32_t id = add_packed_as(im, any_format(), rows, columns, w);
    free(w);
    return id;
}

/* A strided walk of dims that lies in [0, count): its strides and offset. */
static inline uint32_t walk(uint32_t rank, const uint32_t *dims, uint32_t *strides, uint32_t *offset)
{
    int64_t low = 0, high = 0, step = 1;
    for (uint32_t i = rank; i-- > 0; step *= dims[i]) {
        int64_t stride = below(4) ? step : (int64_t)below(7) - 3;
        strides[i] = (uint32_t)(int32_t)stride;
        if (stride < 0) low += stride * (dims[i] - 1);
        else high += stride * (dims[i] - 1);
    }
    *offset = (uint32_t)-low;
    return (uint32_t)(high - low) + 1;
}

/* ---- one operator of each kind ---- */

typedef struct call {
    uint32_t in[8], out[3], p[40];
    uint16_t n_in, n_out, n;
} call;

static inline void put(call *c, uint32_t word) { c->p[c->n++] = word; }
static inline void put_all(call *c, uint32_t n, const uint32_t *words)
{
    for (uint32_t i = 0; i < n; i++) put(c, words[i]);
}

static inline void make_copy(image *im, call *c)
{
    uint32_t rank = below(5), dims[4] = {1}, s[4], d[4], src, dst, dtype = 1 + below(6);
    for (uint32_t i = 0; i < rank; i++) dims[i] = 1 + below(5);
    uint32_t n = walk(rank, dims, s, &src), m = walk(rank, dims, d, &dst), all = (uint32_t)sgru_product(rank, dims);
    if (m < all) m = all; /* where strides of dst meet */
    put(c, rank), put(c, src), put(c, dst), put_all(c, rank, dims), put_all(c, rank, s), put_all(c, rank, d);
    c->in[c->n_in++] = vector(im, (int)dtype, n);
    uint32_t to = c->out[c->n_out++] = writes(im, (int)dtype, 1, &m);
    if (im->tensors[to].kind == KIND_ARENA) add_to_list(im, 0, to); /* of which it writes a part */
}

static inline void make_index(image *im, call *c, uint16_t code)
{
    static const int kinds[] = {SGRU_F32, SGRU_F32, SGRU_I64, SGRU_I32, SGRU_BOOL, SGRU_F16, SGRU_I8};
    int dtype = kinds[below(code >= 6 ? 4 : 7)], index = below(2) ? SGRU_I64 : SGRU_I32;
    uint32_t dims[] = {1 + below(4), 2 + below(3), 1 + below(20)}, n = 1 + below(4), axis = below(3);
    if (code == 4) {
        uint32_t y[] = {dims[0], n, dims[2]};
        c->in[0] = reads(im, dtype, 3, dims), c->in[1] = vector(im, index, n), c->out[0] = writes(im, dtype, 3, y);
        put_all(c, 3, dims), put(c, n);
    } else if (code == 7) {
        uint32_t depth = 1 + below(3), list[] = {n, depth}, updates = n;
        for (uint32_t i = depth; i < 3; i++) updates *= dims[i];
        c->in[0] = reads(im, dtype, 3, dims), c->in[1] = reads(im, index, 2, list),
        c->in[2] = vector(im, dtype, updates);
        c->out[0] = writes(im, dtype, 3, dims);
        put(c, below(5));
    } else {
        uint32_t list[3];
        for (uint32_t i = 0; i < 3; i++) list[i] = 1 + below(dims[i]);
        c->in[0] = reads(im, dtype, 3, dims), c->in[1] = reads(im, index, 3, list);
        if (code == 6) c->in[2] = reads(im, dtype, 3, list);
        c->out[0] = writes(im, dtype, 3, code == 6 ? dims : list);
        put(c, axis), put(c, below(5));
    }
    c->n_in = code >= 6 ? 3 : 2, c->n_out = 1;
    if (code == 5) c->n = 1;
}

static inline void make_elementwise(image *im, call *c, uint16_t code)
{
    static const int kinds[] = {SGRU_F32, SGRU_F32, SGRU_F32, SGRU_I64, SGRU_I32, SGRU_BOOL};
    int dtype = kinds[below(6)];
    uint32_t rank = 1 + below(3), dims[3], strides[3][3], count[3], offset, n = 1 + below(70);
    if (code == 3) {
        c->in[0] = vector(im, 1 + (int)below(4), n), c->out[0] = writes(im, 1 + (int)below(4), 1, &n);
    } else if (code == 16) {
        c->in[0] = vector(im, dtype, n), c->out[0] = writes(im, dtype, 1, &n);
        put(c, dtype == SGRU_F32 ? below(F_NOT) : dtype == SGRU_BOOL ? F_NOT : below(2) ? F_NEG : F_ABS);
        put(c, bits_of(any_float())), put(c, bits_of(any_float()));
    }
    c->n_in = c->n_out = 1;
    if (code < 17) return;
    uint32_t function = dtype == SGRU_BOOL ? 24 + below(3) : below(3) ? below(10) : 16 + below(5);
    put(c, code == 17 ? function : rank);
    if (code == 17) put(c, rank);
    for (uint32_t i = 0; i < rank; i++) dims[i] = 1 + below(i + 1 == rank ? 40 : 4);
    put_all(c, rank, dims);
    c->n_in = code == 17 ? 2 : 3;
    for (uint32_t o = 0; o < c->n_in; o++) {
        do count[o] = walk(rank, dims, strides[o], &offset);
        while (offset);
        c->in[o] = vector(im, code == 18 && o == 0 ? SGRU_BOOL : dtype, count[o]);
        put_all(c, rank, strides[o]);
    }
    c->out[0] = writes(im, code == 17 && function >= 16 && function < 24 ? SGRU_BOOL : dtype, rank, dims);
}

static inline void make_dense(image *im, call *c, uint16_t code)
{
    uint32_t n = below(2) ? 1 : 1 + below(9), M = 1 + below(40), K = 1 + below(20), x[] = {n, K}, y[] = {n, M};
    c->n_out = 1;
    if (code == 32) {
        c->n_in = 3, c->in[0] = reads(im, SGRU_F32, 2, x), c->in[1] = weights(im, M, K), c->in[2] = optional(im, M);
        c->out[0] = writes(im, SGRU_F32, 2, y);
        put(c, n), put(c, M), put(c, K), put(c, below(4) ? below(12) : 0);
        put(c, bits_of(0.5f)), put(c, bits_of(any_float()));
        return;
    }
    uint32_t batch = 1 + below(3), a[] = {batch, n, K}, b[] = {batch, K, M}, m[] = {batch, n, M};
    c->n_in = 2, c->in[0] = reads(im, SGRU_F32, 3, a), c->in[1] = reads(im, SGRU_F32, 3, b);
    c->out[0] = writes(im, SGRU_F32, 3, m);
    uint32_t p[] = {1, n, M, K, K, M, batch, below(2) ? n * K : 0, below(2) ? K * M : 0};
    put_all(c, 9, p);
}

static inline uint32_t state_or_not(image *im, uint32_t n) { return below(3) ? vector(im, SGRU_F32, n) : SGRU_NONE; }

static inline void make_recurrent(image *im, call *c, uint16_t code)
{
    uint32_t T = below(2) ? 1 : 1 + below(4), B = 1 + below(3), I = 1 + below(20), H = 1 + below(20), lbr = below(2);
    uint32_t G = (code == 48   ? 3
                  : code == 49 ? 4
                               : 1) *
                 H,
             x[] = {T, B, I}, y[] = {T, B, H}, n_states = code == 49 ? 2 : 1;
    c->in[c->n_in++] = reads(im, SGRU_F32, 3, x), c->in[c->n_in++] = weights(im, G, I);
    c->in[c->n_in++] = weights(im, code == 48 && !lbr ? 2 * H : G, H);
    if (code == 48) c->in[c->n_in++] = lbr ? SGRU_NONE : weights(im, H, H);
    c->in[c->n_in++] = optional(im, G);
    if (code == 48) c->in[c->n_in++] = lbr ? optional(im, H) : SGRU_NONE;
    if (code == 49) c->in[c->n_in++] = optional(im, 3 * H);
    c->in[c->n_in++] = below(4) ? SGRU_NONE : vector(im, SGRU_I32, B);
    c->out[c->n_out++] = below(4) ? writes(im, SGRU_F32, 3, y) : SGRU_NONE;
    for (uint32_t i = 0; i < n_states; i++) {
        uint32_t in = c->in[c->n_in++] = state_or_not(im, B * H);
        int same = in != SGRU_NONE && im->tensors[in].kind == KIND_STATE && below(4);
        c->out[c->n_out++] = same ? in : below(2) ? writes(im, SGRU_F32, 2, y + 1) : SGRU_NONE;
    }
    uint32_t p[] = {T, B, I, H, below(2), 0, B * I, I, 0, B * H, H, 0, H, 0, H, below(3) ? 0 : bits_of(0.7f)};
    uint32_t states[] = {0, H, 0, H}, functions[] = {below(2) ? F_SIGMOID : below(12),
                                                     bits_of(0.5f),
                                                     bits_of(0.5f),
                                                     below(2) ? F_TANH : below(12),
                                                     bits_of(0.5f),
                                                     bits_of(0.5f),
                                                     F_TANH,
                                                     bits_of(0.5f),
                                                     bits_of(0.5f)};
    put_all(c, 16, p);
    if (code == 48) put(c, lbr), put_all(c, 6, functions);
    if (code == 49) put_all(c, 4, states), put(c, below(2)), put_all(c, 9, functions);
    if (code == 50) put_all(c, 3, functions);
}

static inline void make_row(image *im, call *c, uint16_t code)
{
    static const int kinds[] = {SGRU_F32, SGRU_F32, SGRU_I64, SGRU_I32};
    int dtype = code == 65 || code == 66 ? SGRU_F32 : kinds[below(4)];
    uint32_t n = 1 + below(40), inner = code == 66 || below(2) ? 1 : 1 + below(20), outer = 1 + below(3),
             k = 1 + below(n);
    uint32_t x[] = {outer, n, inner}, y[] = {outer, inner}, kept[] = {outer, k, inner};
    c->in[0] = reads(im, dtype, 3, x), c->n_in = c->n_out = 1;
    if (code == 64 || code == 67) put(c, below(code == 67 ? 2 : dtype == SGRU_F32 ? 9 : 5));
    put_all(c, code == 66 ? 2 : 3, x);
    switch (code) {
    case 64: c->out[0] = writes(im, dtype, 2, y); break;
    case 65: put(c, below(2)), c->out[0] = writes(im, dtype, 3, x); break;
    case 66:
        c->in[1] = optional(im, n), c->in[2] = optional(im, n), c->n_in = 3;
        put(c, bits_of(1e-3f)), c->out[0] = writes(im, dtype, 3, x);
        break;
    case 67: put(c, below(2)), c->out[0] = writes(im, SGRU_I64, 2, y); break;
    case 68:
        put(c, k), put(c, below(2)), put(c, 1), c->n_out = 2;
        c->out[0] = below(4) ? writes(im, dtype, 3, kept) : SGRU_NONE;
        c->out[1] = below(4) ? writes(im, SGRU_I64, 3, kept) : SGRU_NONE;
        break;
    default: put(c, below(2)), put(c, below(2)), c->out[0] = writes(im, dtype, 3, x);
    }
}

static inline void make_plane(image *im, call *c, uint16_t code)
{
    uint32_t g = 1 + below(2), N = 1 + below(2), C = g * (1 + below(3)), M = g * (1 + below(3)), H = 1 + below(5),
             W = 1 + below(12), OH = 1 + below(4), OW = 1 + below(20), kh = 1 + below(3), kw = 1 + below(4);
    uint32_t x[] = {N, C, H, W}, y[] = {N, code == 82 ? C : M, OH, OW},
             w[] = {code == 81 ? C : M, (code == 81 ? M : C) / g, kh, kw};
    c->in[0] = reads(im, SGRU_F32, 4, x), c->n_in = c->n_out = 1;
    if (code == 82) put(c, below(2));
    put_all(c, 4, x);
    if (code != 82) put(c, M);
    put(c, OH), put(c, OW);
    if (code != 82) put(c, g);
    put(c, kh), put(c, kw), put(c, 1 + below(3)), put(c, 1 + below(3)), put(c, below(4) - 1), put(c, below(4) - 1);
    put(c, 1 + below(2)), put(c, 1 + below(2));
    if (code == 82) put(c, below(2)), put(c, below(3)), put(c, below(3));
    else put(c, below(12)), put(c, bits_of(0.5f)), put(c, bits_of(0.5f));
    if (code != 82) c->in[1] = reads(im, SGRU_F32, 4, w), c->in[2] = optional(im, M), c->n_in = 3;
    c->out[0] = writes(im, SGRU_F32, 4, y);
}

static inline void add_random(image *im, uint16_t code)
{
    call c = {0};
    if (code == 1) make_copy(im, &c);
    else if (code == 2) {
        uint32_t n = 1 + below(20);
        c.out[c.n_out++] = writes(im, 1 + (int)below(6), 1, &n);
        put(&c, below(1u << 31)), put(&c, below(2));
    } else if (code >= 4 && code <= 7) make_index(im, &c, code);
    else if (code <= 18) make_elementwise(im, &c, code);
    else if (code <= 33) make_dense(im, &c, code);
    else if (code <= 50) make_recurrent(im, &c, code);
    else if (code <= 69) make_row(im, &c, code);
    else make_plane(im, &c, code);
    im->arena += 64;
    add_op(im, code, c.n_in, c.in, c.n_out, c.out, c.n, c.p);
}

static inline unsigned char *make(uint16_t code, size_t *size)
{
    image im = {0};
    add_random(&im, code);
    return finish(&im, size);
}

/* ---- alterations ---- */

static inline uint32_t altered(uint32_t word)
{
    static const uint32_t extremes[] = {
        0, 1, 2, 3, 7, 16, 64, 0xFFFFFFFF, 0xFFFFFFFE, 0x80000000, 0x7FFFFFFF, 65536, 0x10001, 0x40000001, 0x20000000};
    switch (below(4)) {
    case 0: return extremes[below(15)];
    case 1: return word + below(5) - 2;
    case 2: return word * (1 + below(4));
    default: return word ^ 1u << below(32);
    }
}

static inline void alter(unsigned char *bytes)
{
    const sgru_header *h = (const sgru_header *)bytes;
    sgru_tensor_rec *t = (sgru_tensor_rec *)(bytes + h->tensors) + below(h->n_tensors);
    sgru_op_rec *op = (sgru_op_rec *)(bytes + h->ops);
    uint32_t *words = (uint32_t *)(bytes + h->words), ids = (uint32_t)op->n_in + op->n_out;
    switch (below(13)) {
    case 12:
        if (t->kind == KIND_CONST && t->dtype == SGRU_I8 && h->data_size && (uint32_t)bytes_of(t))
            bytes[h->data + (t->offset + below((uint32_t)bytes_of(t))) % h->data_size] ^=
                (unsigned char)(1u << below(8));
        break;
    case 0: t->dtype = (uint8_t)(1 + below(6)); break;
    case 1: t->kind = (uint8_t)below(3); break;
    case 2: t->dims[below(4)] = altered(t->dims[below(4)]); break;
    case 3: t->offset = below(2) ? below(512) / 4 * 4 : altered((uint32_t)t->offset); break;
    case 4: t->rank = (uint8_t)below(5); break;
    case 5: words[below(ids)] = below(3) ? below(h->n_tensors) : SGRU_NONE; break;
    case 6: words[below(h->n_words)] = altered(words[below(h->n_words)]); break;
    default:
        if (op->n_params) {
            uint32_t at = ids + below(op->n_params);
            words[at] = altered(words[at]);
        }
    }
}

/* ---- a run ---- */

/* Outputs in bytes that other operands have: APART; element for element, which the core allows, so that the arena carries what an
 * earlier frame left; or TANGLED, where the order within an operator shows. A COPY leaves parts of the arena as they were. */
enum { APART, IN_PLACE, TANGLED };

static inline int sharing(const sgru_model *m)
{
    sgru_op op = op_of(m, 0);
    int is_cell = op.code >= 48 && op.code <= 50, found = op.code == 1 ? IN_PLACE : APART;
    for (uint32_t i = op.n_in; i < op.n_in + op.n_out; i++)
        for (uint32_t j = 0; j < op.n_in + op.n_out; j++) {
            if (i == j || op.in[i] == SGRU_NONE || op.in[j] == SGRU_NONE) continue;
            const sgru_tensor_rec *a = tensor_of(m, op.in[i]), *b = tensor_of(m, op.in[j]);
            if (a->kind != b->kind || a->offset >= b->offset + bytes_of(b) || b->offset >= a->offset + bytes_of(a))
                continue;
            if (is_cell && op.in[i] == op.in[j] && j < op.n_in && a->kind == KIND_STATE) continue;
            if (op.code != 16 && op.code != 17) return TANGLED;
            found = IN_PLACE;
        }
    return found;
}

/* A point in the row of random numbers, to go back to. */
typedef struct choice {
    uint64_t rng;
    const uint8_t *bytes;
} choice;

typedef struct result {
    int status;
    size_t size;
    unsigned char *bytes; /* the outputs, then the state */
} result;

static inline result run_once(const sgru_model *m, const char *isa, size_t block, unsigned flags, choice feed)
{
    result r = {SGRU_E_MEMORY, 0, NULL};
    void *in[MOST_IO], *out[MOST_IO];
    size_t need = sgru_stream_size(m, block), bytes[2][MOST_IO], total = 0;
    sgru_tensor_info info;
    if (need == 0 || need > MOST_MEMORY || m->n_inputs > MOST_IO || m->n_outputs > MOST_IO) return r;
    choice before = {rng, choices};
    rng = feed.rng, choices = feed.bytes;
    for (uint32_t i = 0; i < m->n_inputs; i++) {
        sgru_tensor(m, SGRU_INPUT, i, &info);
        in[i] = malloc(FRAMES * info.bytes);
        if (info.dtype <= 6) fill((uint32_t)info.dtype, FRAMES * info.bytes / dtype_size((uint32_t)info.dtype), in[i]);
    }
    rng = before.rng, choices = before.bytes;
    for (uint32_t i = 0; i < m->n_outputs; i++) {
        sgru_tensor(m, SGRU_OUTPUT, i, &info);
        total += bytes[1][i] = FRAMES * info.bytes;
        out[i] = calloc(1, bytes[1][i]);
    }
    use_isa(isa);
    unsigned char *memory = aligned_alloc(64, need);
    sgru_stream *s = sgru_stream_init(memory, need, m, block, flags);
    unsigned char *start = malloc(m->state_size + 1);
    memcpy(start, s->state, m->state_size);
    fence(m, s->arena, block);
    clock_t began = clock();
    r.status = sgru_run(s, FRAMES, (const void *const *)in, out);
    double seconds = (double)(clock() - began) / CLOCKS_PER_SEC;
    if (seconds > longest) longest = seconds;
    ASAN_UNPOISON_MEMORY_REGION(memory, need);
    if (r.status && memcmp(start, s->state, m->state_size)) printf("an error changed the state\n"), failed++;
    r.bytes = malloc(total + m->state_size + 1);
    for (uint32_t i = 0; i < m->n_outputs; r.size += bytes[1][i++]) memcpy(r.bytes + r.size, out[i], bytes[1][i]);
    memcpy(r.bytes + r.size, s->state, m->state_size);
    r.size += m->state_size;
    if (r.status) r.size = 0;
    for (uint32_t i = 0; i < m->n_inputs; i++) free(in[i]);
    for (uint32_t i = 0; i < m->n_outputs; i++) free(out[i]);
    free(memory), free(start);
    return r;
}

static unsigned kept; /* runs without an infinity or a NaN */

/* To let infinities and NaNs through changes no bit where there are none. */
static inline void keeps_bits(uint16_t code, const sgru_model *m, result want, choice feed)
{
    result got = run_once(m, "ref", 1, SGRU_PASS_NONFINITE, feed);
    kept++;
    if (got.status || got.size != want.size || memcmp(got.bytes, want.bytes, got.size)) {
        printf("operator %u: other bits with SGRU_PASS_NONFINITE\n", code);
        failed++;
    }
    free(got.bytes);
}

/* Every instruction set against `ref`. */
static inline void judge(uint16_t code, const sgru_model *m)
{
    choice feed = {rng, choices};
    unsigned flags = below(2) ? SGRU_PASS_NONFINITE : 0;
    int shared = sharing(m);
    result want = run_once(m, "ref", 1, flags, feed);
    if (want.status == SGRU_E_MEMORY) return;
    ran++, ended[want.status & 15]++;
    for (unsigned k = 0; isa_at(k); k++) {
        size_t block = shared == IN_PLACE ? 1 : 1 + below(FRAMES);
        result got = run_once(m, isa_at(k), block, flags, feed);
        int other = got.status != want.status || got.size != want.size || memcmp(got.bytes, want.bytes, got.size);
        if (shared != TANGLED && other && got.status != SGRU_E_MEMORY && !(got.status && want.status)) {
            printf("operator %u: %s in blocks of %zu: status %d, ref %d, or other bits\n", code, isa_at(k), block,
                   got.status, want.status);
            failed++;
        }
        free(got.bytes);
    }
    if (!flags && !want.status) keeps_bits(code, m, want, feed);
    free(want.bytes);
}

#endif
