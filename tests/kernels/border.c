/* What an image may not do, each alone: read bytes of the arena that nothing wrote in the same frame, take more operations than the
 * caller allows, have longer lists than there are tensors, leave something where the format says zero.
 *
 *     border */
#include <time.h>

#include "trial.h"

enum { N = 12, COPY = 1, FILL = 2, UNARY = 16, GRU = 48, RNN = 50, POOL = 82 };

static uint32_t floats(image *im, uint32_t n) { return add_tensor(im, SGRU_F32, KIND_ARENA, LAYOUT_ROWS, 1, &n); }

static uint32_t view(image *im, uint32_t of, uint32_t from, uint32_t n)
{
    uint32_t id = floats(im, n);
    im->tensors[id].offset = im->tensors[of].offset + 4 * from;
    return id;
}

static void negate(image *im, uint32_t x, uint32_t y)
{
    uint32_t p[] = {F_NEG, 0, 0};
    add_op(im, UNARY, 1, &x, 1, &y, 3, p);
}

/* The status of an image within `most` operations; what it takes to *ops. */
static int opened(image *im, uint64_t most, uint64_t *ops)
{
    size_t size;
    sgru_model m;
    unsigned char *bytes = finish(im, &size);
    int status = sgru_model_open_within(&m, bytes, size, most);
    if (!status && ops) *ops = sgru_model_ops(&m);
    free(bytes);
    return status;
}

static int status_of(image *im) { return opened(im, UINT64_MAX, NULL); }

/* ---- what is read was written ---- */

/* y = -z, where z is what an earlier frame left, in a pool somebody else's, but for `n` elements from `from` on, which are x's; and, with
 * `last`, for the last, which is filled. */
static int reads_part(uint32_t from, uint32_t n, int last)
{
    image im = {0};
    uint32_t x = floats(&im, N), z = floats(&im, N), y = floats(&im, N), rest = view(&im, z, N - 1, 1);
    uint32_t p[] = {1, 0, from, n, 1, 1}, zero[] = {0, 0};
    if (n) add_op(&im, COPY, 1, &x, 1, &z, 6, p);
    if (last) add_op(&im, FILL, 0, zero, 1, &rest, 2, zero);
    negate(&im, z, y);
    add_to_list(&im, 0, x), add_to_list(&im, 1, y);
    return status_of(&im);
}

/* z [3][4] by columns: `first` of them, then the others from `second` on; then read. */
static int by_columns(uint32_t first, uint32_t second)
{
    image im = {0};
    uint32_t x = floats(&im, N), z = floats(&im, N), y = floats(&im, N);
    uint32_t a[] = {2, 0, 0, 3, first, 4, 1, 4, 1}, b[] = {2, 0, second, 3, 4 - second, 4, 1, 4, 1};
    uint32_t back[] = {2, 0, 11, 3, 4 - second, 4, 1, (uint32_t)-4, (uint32_t)-1}; /* the same from its end */
    add_op(&im, COPY, 1, &x, 1, &z, 9, a);
    add_op(&im, COPY, 1, &x, 1, &z, 9, first & 1 ? back : b);
    negate(&im, z, y);
    add_to_list(&im, 0, x), add_to_list(&im, 1, y);
    return status_of(&im);
}

/* A COPY reads no more than its walk: columns 0 .. n of z, of which 0 .. 2 are there. */
static int reads_columns(uint32_t n)
{
    image im = {0};
    uint32_t x = floats(&im, N), z = floats(&im, N), y = floats(&im, 3 * n);
    uint32_t a[] = {2, 0, 0, 3, 2, 4, 1, 4, 1}, b[] = {2, 0, 0, 3, n, 4, 1, n, 1};
    add_op(&im, COPY, 1, &x, 1, &z, 9, a), add_op(&im, COPY, 1, &z, 1, &y, 9, b);
    add_to_list(&im, 0, x), add_to_list(&im, 1, y);
    return status_of(&im);
}

/* A cell over T steps that writes every other row of y [2 T][H], then all of y read; both: two of them, one for each half. */
static int cells(uint16_t code, int both, int with_state)
{
    enum { T = 3, H = 4 };
    static const struct {
        uint16_t gates, n_in, h0, n_out, n_params;
        uint32_t params[14];
    } kinds[] = {{3, 8, 7, 2, 7, {1, F_SIGMOID, 0, 0, F_TANH}},
                 {4, 8, 6, 3, 14, {0, H, 0, H, 0, F_SIGMOID, 0, 0, F_TANH, 0, 0, F_TANH}},
                 {1, 6, 5, 2, 3, {F_TANH}}},
      *kind;
    image im = {0};
    kind = kinds + code - GRU;
    float w[4 * H * H] = {0};
    uint32_t x = floats(&im, T * H), y = floats(&im, 2 * T * H), h = floats(&im, H), c = floats(&im, H),
             z = floats(&im, 2 * T * H), w_id = add_packed(&im, kind->gates * H, H, w);
    for (uint32_t i = 0; i < 1 + (uint32_t)both; i++) {
        uint32_t p[30] = {T, 1, H, H, 0, 0, H, H, i * H, 2 * H, H, 0, H, 0, H, 0}, in[8] = {x, w_id, w_id},
                 out[] = {y, h, c};
        memcpy(p + 16, kind->params, sizeof kind->params);
        for (int j = 3; j < 8; j++) in[j] = SGRU_NONE;
        if (with_state) in[kind->h0] = h;
        add_op(&im, code, kind->n_in, in, kind->n_out, out, 16 + kind->n_params, p);
    }
    negate(&im, y, z);
    add_to_list(&im, 0, x), add_to_list(&im, 1, z);
    return status_of(&im);
}

/* A chain over so large an arena that several windows are needed, of tensors of `dtype`; the last reads what was not written. */
static int wide(int dtype, uint32_t n, int hole)
{
    image im = {0};
    uint32_t ids[6], zero[] = {0, 0}, all[] = {1, 0, 0, n, 1, 1};
    for (int i = 0; i < 6; i++) ids[i] = add_tensor(&im, dtype, KIND_ARENA, LAYOUT_ROWS, 1, &n);
    if (hole) all[3] = n - 1, all[2] = hole == 1;
    add_op(&im, FILL, 0, zero, 1, ids, 2, zero);
    for (int i = 1; i < 6; i++) add_op(&im, COPY, 1, ids + i - 1, 1, ids + i, 6, all);
    add_to_list(&im, 1, ids[5]);
    return status_of(&im);
}

/* One element negated over and over, beside tensors as large as there are that nobody reads: every operator is looked at for each
 * part of the arena. */
static int many(unsigned tensors)
{
    image im = {0};
    uint32_t x = floats(&im, 1), y = floats(&im, 1);
    while (tensors-- > 0) floats(&im, 0x7fffffff);
    for (int i = 0; i < MOST_OPS - 1; i++) negate(&im, i ? y : x, y);
    add_to_list(&im, 0, x), add_to_list(&im, 1, y);
    return status_of(&im);
}

/* Every other element of x [2 n], one after the other. */
static int strided(uint32_t n)
{
    image im = {0};
    uint32_t x = floats(&im, 2 * n), y = floats(&im, n), p[] = {1, 0, 0, n, 2, 1};
    add_op(&im, COPY, 1, &x, 1, &y, 6, p);
    add_to_list(&im, 0, x), add_to_list(&im, 1, y);
    return status_of(&im);
}

/* The elements that a walk with these dims and strides meets, from `at` on, marked; 0 where one was not marked yet. */
static int mark(unsigned char *seen, int32_t at, uint32_t rank, const uint32_t *dims, const uint32_t *strides)
{
    int all = 1;
    if (rank == 0) return all = seen[at], seen[at] = 1, all;
    for (uint32_t i = 0; i < *dims; i++)
        all &= mark(seen, at + (int32_t)(i * *strides), rank - 1, dims + 1, strides + 1);
    return all;
}

/* A COPY's params with a walk of its own over z, and beside it a row. *at: where the walk begins. */
static uint32_t random_walk(uint32_t z_size, uint32_t *p, int side, int32_t *at)
{
    uint32_t rank = 1 + below(4), n = 1;
    int32_t low = 0, high = 0;
    p[0] = rank, p[1] = p[2] = 0;
    for (uint32_t i = rank; i-- > 0; n *= p[3 + i]) {
        int32_t stride = (int32_t)below(15) - 7;
        p[3 + i] = 1 + below(3);
        p[3 + (1 + side) * rank + i] = (uint32_t)stride, p[3 + (2 - side) * rank + i] = n;
        *(stride < 0 ? &low : &high) += (int32_t)(p[3 + i] - 1) * stride;
    }
    *at = (int32_t)below(z_size - (uint32_t)(high - low)) - low;
    p[1 + side] = (uint32_t)*at;
    return n;
}

/* Whatever the strides: z is written by some walks, then read by one. */
static int walks(void)
{
    enum { Z = 96, MOST = 256 };
    image im = {0};
    unsigned char seen[Z] = {0};
    uint32_t x = floats(&im, MOST), z = floats(&im, Z), y = floats(&im, MOST), p[3 + 3 * 4], n = below(12);
    int32_t at;
    for (uint32_t i = 0; i <= n; i++) {
        random_walk(Z, p, 1, &at);
        add_op(&im, COPY, 1, &x, 1, &z, (uint16_t)(3 + 3 * p[0]), p);
        (void)mark(seen, at, p[0], p + 3, p + 3 + 2 * p[0]);
    }
    n = random_walk(Z, p, 0, &at);
    add_op(&im, COPY, 1, &z, 1, &y, (uint16_t)(3 + 3 * p[0]), p);
    int all = mark(seen, at, p[0], p + 3, p + 3 + p[0]);
    uint32_t read = view(&im, y, 0, n);
    add_to_list(&im, 0, x), add_to_list(&im, 1, read);
    return status_of(&im) == (all ? SGRU_OK : SGRU_E_OPERATOR) ? all : -1;
}

static void try_walks(void)
{
    uint32_t whole = 0, some = 0, wrong = 0;
    for (rng = 1; whole + wrong + some < 3000;) {
        int all = walks();
        whole += all == 1, some += all == 0, wrong += all == -1;
    }
    HOLDS(wrong == 0 && whole > 300 && some > 300);
}

/* Large tensors, transposed again and again, as whole sequences are: the order of a walk costs nothing. */
static int transposed(uint32_t hole)
{
    enum { ROWS = 64, COLUMNS = 1 << 16, N_OPS = 30 };
    image im = {0};
    uint32_t ids[2] = {floats(&im, ROWS * COLUMNS), floats(&im, ROWS * COLUMNS)}, zero[] = {0, 0};
    uint32_t p[] = {2, 0, 0, ROWS, COLUMNS, COLUMNS, 1, 1, ROWS};
    add_op(&im, FILL, 0, zero, 1, ids, 2, zero);
    p[4] -= hole; /* a column: the last of the second tensor's rows */
    for (int i = 0; i < N_OPS; i++) add_op(&im, COPY, 1, ids + i % 2, 1, ids + (i + 1) % 2, 9, p);
    p[4] = COLUMNS, add_op(&im, COPY, 1, ids + 1, 1, ids, 9, p);
    add_to_list(&im, 1, ids[0]);
    return status_of(&im);
}

static void try_reads(void)
{
    HOLDS(reads_part(0, N, 0) == SGRU_OK && reads_part(0, 0, 0) == SGRU_E_OPERATOR);
    HOLDS(reads_part(0, N - 1, 1) == SGRU_OK && reads_part(0, N - 2, 1) == SGRU_E_OPERATOR);
    for (uint32_t n = 1; n < N; n++)
        HOLDS(reads_part(0, n, 0) == SGRU_E_OPERATOR && reads_part(N - n, n, 0) == SGRU_E_OPERATOR);
    for (uint32_t first = 1; first < 4; first++)
        for (uint32_t second = 1; second < 4; second++)
            HOLDS(by_columns(first, second) == (second <= first ? SGRU_OK : SGRU_E_OPERATOR));
    HOLDS(reads_columns(1) == SGRU_OK && reads_columns(2) == SGRU_OK && reads_columns(3) == SGRU_E_OPERATOR);
    for (uint16_t code = GRU; code <= RNN; code++) {
        HOLDS(cells(code, 1, 0) == SGRU_OK && cells(code, 0, 0) == SGRU_E_OPERATOR);
        HOLDS(cells(code, 1, 1) == SGRU_E_OPERATOR);
    }
    for (uint32_t n = 1; n < 1 << 17; n = 3 * n + 1)
        for (int dtype = 1; dtype <= 4; dtype++) {
            HOLDS(wide(dtype, n, 0) == SGRU_OK);
            HOLDS(n == 1 || (wide(dtype, n, 1) == SGRU_E_OPERATOR && wide(dtype, n, 2) == SGRU_E_OPERATOR));
        }
    if (sizeof(size_t) > 4)
        HOLDS(wide(SGRU_F32, 0x7fffffff, 0) == SGRU_E_WORK && wide(SGRU_F32, 0x1fffffff, 0) == SGRU_OK);
    if (sizeof(size_t) > 4) HOLDS(strided(1 << 27) == SGRU_E_WORK && strided(1 << 20) == SGRU_OK);
    if (sizeof(size_t) > 4) HOLDS(many(12) == SGRU_E_WORK && many(1) == SGRU_OK);
}

/* Outputs are read too, and inputs written; an operator reads before it writes. */
static void try_ports(void)
{
    image im = {0};
    uint32_t x = floats(&im, N), y = floats(&im, N);
    add_to_list(&im, 0, x), add_to_list(&im, 1, y);
    HOLDS(status_of(&im) == SGRU_E_OPERATOR);
    im = (image){0};
    x = floats(&im, N), add_to_list(&im, 0, x), add_to_list(&im, 1, x);
    HOLDS(status_of(&im) == SGRU_OK);
    im = (image){0};
    x = floats(&im, N), negate(&im, x, x), add_to_list(&im, 1, x);
    HOLDS(status_of(&im) == SGRU_E_OPERATOR);
    im = (image){0};
    x = floats(&im, N), y = floats(&im, N), negate(&im, y, x), negate(&im, x, y), add_to_list(&im, 1, y);
    HOLDS(status_of(&im) == SGRU_E_OPERATOR);
}

/* However the numbers are chosen, an image of some kilobytes opens, or is refused, in a moment. */
static void try_time(void)
{
    image im = {0};
    uint32_t n = 0x7FFFFFFF, zero[] = {0, 0}, one = add_tensor(&im, SGRU_BOOL, KIND_ARENA, LAYOUT_ROWS, 1, &n);
    for (int i = 0; i < MOST_OPS; i++) add_op(&im, FILL, 0, zero, 1, &one, 2, zero);
    clock_t began = clock();
    HOLDS(status_of(&im) != SGRU_OK); /* on a 32-bit machine for its size */
    im = (image){0};
    one = add_tensor(&im, SGRU_F32, KIND_ARENA, LAYOUT_ROWS, 1, &n);
    uint32_t p[] = {2, 0, 0, 1 << 15, 1 << 15, 0, 0, 1, 1 << 16};
    add_op(&im, FILL, 0, zero, 1, &one, 2, zero);
    for (int i = 1; i < MOST_OPS; i++) add_op(&im, COPY, 1, &one, 1, &one, 9, p);
    (void)status_of(&im);
    HOLDS(transposed(0) == SGRU_OK && transposed(1) == SGRU_E_OPERATOR);
    double seconds = (double)(clock() - began) / CLOCKS_PER_SEC;
    if (seconds > 10) printf("%.1f s to open four images\n", seconds), failed++;
}

/* ---- operations ---- */

/* Two operators within `most` operations. */
static int twice(uint64_t most, uint64_t *ops)
{
    image im = {0};
    uint32_t x = floats(&im, N);
    negate(&im, x, x), negate(&im, x, x), add_to_list(&im, 0, x), add_to_list(&im, 1, x);
    return opened(&im, most, ops);
}

static void try_work(void)
{
    uint64_t ops = 0;
    uint32_t n[] = {1, 1, 600, 600}, p[] = {0, 1, 1, 600, 600, 600, 600, 255, 255, 1, 1, 127, 127, 1, 1, 0, 0, 0};
    for (int i = 0; i < 3; i++) {
        image im = {0};
        uint32_t x = add_tensor(&im, SGRU_F32, KIND_ARENA, LAYOUT_ROWS, 4, n),
                 y = add_tensor(&im, SGRU_F32, KIND_ARENA, LAYOUT_ROWS, 4, n);
        add_op(&im, POOL, 1, &x, 1, &y, 18, p);
        add_to_list(&im, 0, x), add_to_list(&im, 1, y);
        if (i == 0) HOLDS(opened(&im, UINT64_MAX, &ops) == SGRU_OK);
        else HOLDS(opened(&im, ops - (i == 2), NULL) == (i == 2 ? SGRU_E_WORK : SGRU_OK));
    }
    HOLDS(ops >= (uint64_t)600 * 600 * 255 * 255);
    HOLDS(twice(UINT64_MAX, &ops) == SGRU_OK && ops >= 2 * N && sgru_model_ops(NULL) == 0);
    HOLDS(twice(ops, NULL) == SGRU_OK && twice(ops - 1, NULL) == SGRU_E_WORK);
}

/* ---- the header and the records ---- */

/* An image with one number altered; `at`: a 32-bit word of the header, of the first tensor's or the first operator's record. */
static int with_word(int record, uint32_t at, uint32_t value)
{
    size_t size;
    sgru_model m;
    image im = {0};
    uint32_t x = floats(&im, N), y = floats(&im, N);
    negate(&im, x, y), add_to_list(&im, 0, x), add_to_list(&im, 1, y);
    unsigned char *bytes = finish(&im, &size);
    sgru_header *h = (sgru_header *)bytes;
    memcpy(bytes + (record == 0 ? 0 : record == 1 ? h->tensors : h->ops) + at, &value, sizeof value);
    h->checksum = sgru_checksum(bytes + 32, size - 32);
    int status = sgru_model_open(&m, bytes, size);
    free(bytes);
    return status;
}

/* A list of one input, over and over: a stream's table of ports is longer than the image. */
static int with_list(int list, uint32_t n)
{
    image im = {0};
    uint32_t x = floats(&im, N), more = floats(&im, N);
    add_to_list(&im, 0, x), add_to_list(&im, 0, more);
    for (uint32_t i = list == 0 ? 2 : 0; i < n; i++) add_to_list(&im, list, x);
    return status_of(&im);
}

static void try_records(void)
{
    HOLDS(with_list(0, 2) == SGRU_OK && with_list(0, 3) == SGRU_E_FORMAT);
    HOLDS(with_list(1, 2) == SGRU_OK && with_list(1, 3) == SGRU_E_FORMAT);
    HOLDS(with_word(0, 52, 3) == SGRU_E_FORMAT && with_word(0, 52, 0x40000000) == SGRU_E_FORMAT);
    HOLDS(with_word(1, 8, 0) == SGRU_OK && with_word(1, 20, 1) == SGRU_OK);
    for (uint32_t at = 20; at < 64; at += 4) HOLDS(with_word(1, at, 2) == SGRU_E_FORMAT);
    for (uint32_t at = 16; at < 32; at += 4) HOLDS(with_word(2, at, 1) == SGRU_E_FORMAT);
    HOLDS(with_word(2, 6, 3) == SGRU_OK && with_word(2, 6, 4) == SGRU_E_OPERATOR);
}

int main(void)
{
    try_reads(), try_walks(), try_ports(), try_time(), try_work(), try_records();
    printf("%u passed, %u failed\n", passed, failed);
    return failed != 0;
}
