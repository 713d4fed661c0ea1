/* Whole models of several inputs, outputs, states and operators: what opening them says, how much memory they want, what their
 * frames, blocks and lanes give, and where errors leave them. Values are held against plain loops.
 *
 *     models */
#include <math.h>

#include "holds.h"
#include "random_gru.h"

enum { CANARY = 4096 };

/* Memory of which not a byte more than `size` may be written. */
static unsigned char *guarded(size_t size)
{
    unsigned char *p = aligned_alloc(64, round_up(size + CANARY, 64));
    memset(p, 0xA5, round_up(size + CANARY, 64));
    return p;
}

static void release(unsigned char *p, size_t size)
{
    for (size_t i = 0; i < CANARY; i++)
        if (p[size + i] != 0xA5) {
            printf("memory was written %zu bytes beyond its end\n", i), failed++;
            break;
        }
    free(p);
}

/* ---- sums: three inputs, three states that add them up, three outputs that show the states; and x gathered by an index ---- */

enum { A = 5, B = 20, C = 37, FRAMES = 7, X = 9 };
static float a_start[A], a[FRAMES][A], c[FRAMES][C], x[FRAMES][X], y[FRAMES][2];
static int32_t b_start[B], b[FRAMES][B];
static int64_t at[FRAMES][2];

static uint32_t of_type(image *im, int dtype, int kind, uint32_t n)
{
    return add_tensor(im, dtype, kind, LAYOUT_ROWS, 1, &n);
}

/* state += input; output = state. */
static void add_sum(image *im, int dtype, uint32_t n, const void *start, uint32_t *in, uint32_t *out, uint32_t *state)
{
    uint32_t add[] = {B_ADD, 1, n, 1, 1}, copy[] = {1, 0, 0, n, 1, 1}, both[2];
    *in = of_type(im, dtype, KIND_ARENA, n), *out = of_type(im, dtype, KIND_ARENA, n);
    *state = of_type(im, dtype, KIND_STATE, n);
    if (start) im->tensors[*state].reset = add_const(im, dtype, n, start);
    both[0] = *state, both[1] = *in;
    add_op(im, 17, 2, both, 1, state, 5, add), add_op(im, 1, 1, state, 1, out, 6, copy);
}

static unsigned char *build_sums(size_t *size)
{
    image im = {0};
    uint32_t in[5], out[4], state[3], gather[] = {1, X, 1, 2};
    add_sum(&im, SGRU_F32, A, a_start, &in[0], &out[0], &state[0]);
    add_sum(&im, SGRU_I32, B, b_start, &in[1], &out[1], &state[1]);
    add_sum(&im, SGRU_F32, C, NULL, &in[2], &out[2], &state[2]);
    in[3] = of_type(&im, SGRU_F32, KIND_ARENA, X), in[4] = of_type(&im, SGRU_I64, KIND_ARENA, 2);
    out[3] = of_type(&im, SGRU_F32, KIND_ARENA, 2);
    add_op(&im, 4, 2, in + 3, 1, out + 3, 4, gather);
    for (int i = 0; i < 5; i++) add_to_list(&im, 0, in[i]);
    for (int i = 0; i < 4; i++) add_to_list(&im, 1, out[i]);
    for (int i = 0; i < 3; i++) add_to_list(&im, 2, state[i]);
    return finish(&im, size);
}

static void fill_sums(void)
{
    for (int i = 0; i < A; i++) a_start[i] = uniform(1);
    for (int i = 0; i < B; i++) b_start[i] = (int32_t)below(1000);
    for (int f = 0; f < FRAMES; f++) {
        for (int i = 0; i < A; i++) a[f][i] = uniform(1);
        for (int i = 0; i < B; i++) b[f][i] = (int32_t)below(1000) - 500;
        for (int i = 0; i < C; i++) c[f][i] = uniform(1);
        for (int i = 0; i < X; i++) x[f][i] = uniform(1);
        for (int i = 0; i < 2; i++) at[f][i] = (int64_t)below(2 * X) - X;
    }
}

static float a_out[FRAMES][A], c_out[FRAMES][C];
static int32_t b_out[FRAMES][B];
static const void *inputs[] = {a, b, c, x, at};
static void *outputs[] = {a_out, b_out, c_out, y};

static void clear(void)
{
    memset(a_out, 0, sizeof a_out), memset(b_out, 0, sizeof b_out), memset(c_out, 0, sizeof c_out);
}

/* Whether `frames` outputs are the sums of the inputs from the start on. */
static int are_sums(size_t frames)
{
    float a_sum[A], c_sum[C] = {0};
    int32_t b_sum[B], wrong = 0;
    memcpy(a_sum, a_start, sizeof a_sum), memcpy(b_sum, b_start, sizeof b_sum);
    for (size_t f = 0; f < frames; f++) {
        for (int i = 0; i < A; i++) wrong |= a_out[f][i] != (a_sum[i] += a[f][i]);
        for (int i = 0; i < B; i++) wrong |= b_out[f][i] != (b_sum[i] += b[f][i]);
        for (int i = 0; i < C; i++) wrong |= c_out[f][i] != (c_sum[i] += c[f][i]);
        for (int i = 0; i < 2; i++) wrong |= y[f][i] != x[f][at[f][i] < 0 ? at[f][i] + X : at[f][i]];
    }
    return !wrong;
}

static void try_ports(const sgru_model *m)
{
    static const uint32_t counts[] = {5, 4, 3}, dims[3][5] = {{A, B, C, X, 2}, {A, B, C, 2}, {A, B, C}};
    static const int dtypes[3][5] = {{1, 3, 1, 1, 2}, {1, 3, 1, 1}, {1, 3, 1}};
    sgru_tensor_info info;
    for (int kind = 0; kind < 3; kind++)
        for (uint32_t i = 0; i <= counts[kind]; i++) {
            int status = sgru_tensor(m, kind, i, &info);
            HOLDS(status == (i < counts[kind] ? SGRU_OK : SGRU_E_ARGUMENT));
            if (status) continue;
            HOLDS(info.rank == 1 && info.dtype == dtypes[kind][i] && info.shape[0] == dims[kind][i] && !*info.name);
            HOLDS(info.bytes == dims[kind][i] * dtype_size((uint32_t)info.dtype));
            for (int d = 1; d < 8; d++) HOLDS(info.shape[d] == 1);
        }
    HOLDS(m->frame_by_frame == 1 && m->n_inputs == 5 && m->n_outputs == 4 && m->n_states == 3);
}

static void try_blocks(const sgru_model *m)
{
    for (size_t block = 1; block <= FRAMES + 1; block++)
        for (size_t frames = 0; frames <= FRAMES; frames++) {
            size_t need = sgru_stream_size(m, block);
            unsigned char *memory = guarded(need);
            sgru_stream *s = sgru_stream_init(memory, need, m, block, 0);
            clear();
            HOLDS(sgru_run(s, frames, inputs, outputs) == SGRU_OK && are_sums(frames));
            sgru_reset(s), clear();
            HOLDS(sgru_run(s, frames, inputs, outputs) == SGRU_OK && are_sums(frames));
            for (uint32_t i = 0; i < 5; i++) HOLDS(sgru_input(s, i));
            for (uint32_t i = 0; i < 4; i++) HOLDS(sgru_output(s, i));
            HOLDS(!sgru_input(s, 5) && !sgru_output(s, 4));
            release(memory, need);
        }
}

/* What may come in place of a good frame, and what a call says of it. */
typedef struct fault {
    float *number;
    float value;
    int64_t *index, out;
    int status;
} fault;

static fault faults[] = {
    {.number = &a[0][A - 1], .value = INFINITY, .status = SGRU_E_NONFINITE},
    {.number = &c[0][0], .value = NAN, .status = SGRU_E_NONFINITE},
    {.number = &c[0][C - 1], .value = NAN, .status = SGRU_E_NONFINITE},
    {.number = &x[0][0], .value = -INFINITY, .status = SGRU_E_NONFINITE},
    {.index = &at[0][1], .out = X, .status = SGRU_E_INDEX},
    {.index = &at[0][0], .out = -X - 1, .status = SGRU_E_INDEX},
};
enum { FAULTS = sizeof faults / sizeof *faults };

static size_t row_of(const fault *f)
{
    const char *p = f->number ? (const char *)f->number : (const char *)f->index;
    if (f->index) return sizeof at[0];
    return p >= (const char *)x && p < (const char *)(x + FRAMES)   ? sizeof x[0]
           : p >= (const char *)a && p < (const char *)(a + FRAMES) ? sizeof a[0]
                                                                    : sizeof c[0];
}

/* Puts the fault into frame number f, or takes it out again. */
static void swap_in(fault *f, size_t frame)
{
    size_t at_byte = frame * row_of(f);
    if (f->number) {
        float *p = (float *)(void *)((char *)f->number + at_byte), old = *p;
        *p = f->value, f->value = old;
        return;
    }
    int64_t *p = (int64_t *)(void *)((char *)f->index + at_byte), old = *p;
    *p = f->out, f->out = old;
}

/* An error takes the whole call back. */
static void try_faults(const sgru_model *m)
{
    size_t need = sgru_stream_size(m, 3), bytes = sgru_save_size(m);
    unsigned char *memory = guarded(need), *before = malloc(bytes + 1), *after = malloc(bytes + 1);
    for (size_t i = 0; i < FAULTS; i++)
        for (size_t frame = 0; frame < FRAMES; frame++) {
            sgru_stream *s = sgru_stream_init(memory, need, m, 3, 0);
            HOLDS(sgru_run(s, 2, inputs, outputs) == SGRU_OK && sgru_save(s, before, bytes + 1) == SGRU_OK);
            swap_in(&faults[i], frame);
            HOLDS(sgru_run(s, FRAMES, inputs, outputs) == faults[i].status);
            swap_in(&faults[i], frame);
            HOLDS(sgru_save(s, after, bytes) == SGRU_OK && !memcmp(before, after, bytes));
            sgru_reset(s);
            HOLDS(sgru_run(s, FRAMES, inputs, outputs) == SGRU_OK && are_sums(FRAMES));
        }
    const float large = c[3][C - 1]; /* a sum that overflows: a state that is not finite */
    sgru_stream *s = sgru_stream_init(memory, need, m, 3, 0);
    c[2][C - 1] = c[3][C - 1] = 0x1.8p127f;
    HOLDS(sgru_run(s, FRAMES, inputs, outputs) == SGRU_E_NONFINITE);
    c[2][C - 1] = uniform(1), c[3][C - 1] = large;
    HOLDS(sgru_run(s, FRAMES, inputs, outputs) == SGRU_OK && are_sums(FRAMES));
    release(memory, need), free(before), free(after);
}

/* ---- the same in a pool ---- */

enum { SLOTS = 5 };

static void try_lanes(const sgru_model *m, size_t lanes)
{
    size_t need = sgru_pool_size(m, SLOTS, lanes, 1), bad;
    unsigned char *memory = guarded(need);
    sgru_pool *pool = sgru_pool_init(memory, need, m, SLOTS, lanes, 1, 7, 0);
    sgru_slot slots[SLOTS];
    HOLDS(pool);
    for (int i = 0; i < SLOTS; i++) slots[i] = sgru_pool_open(pool);
    HOLDS(sgru_pool_open(pool) == 0);
    /* every slot gets a frame of its own: it is a stream's first */
    HOLDS(sgru_pool_step(pool, SLOTS, slots, inputs, outputs, &bad) == SGRU_OK && bad == SLOTS);
    for (int f = 0; f < SLOTS; f++) {
        for (int i = 0; i < A; i++) HOLDS(a_out[f][i] == a_start[i] + a[f][i]);
        for (int i = 0; i < B; i++) HOLDS(b_out[f][i] == b_start[i] + b[f][i]);
        for (int i = 0; i < C; i++) HOLDS(c_out[f][i] == c[f][i]);
        for (int i = 0; i < 2; i++) HOLDS(y[f][i] == x[f][at[f][i] < 0 ? at[f][i] + X : at[f][i]]);
    }
    for (size_t i = 0; i < FAULTS; i++)
        for (size_t frame = 0; frame < SLOTS; frame++) { /* no slot has moved */
            swap_in(&faults[i], frame);
            HOLDS(sgru_pool_step(pool, SLOTS, slots, inputs, outputs, &bad) == faults[i].status && bad == frame);
            HOLDS(sgru_pool_step(pool, SLOTS, slots, inputs, outputs, NULL) == faults[i].status);
            swap_in(&faults[i], frame);
        }
    for (int i = 0; i < SLOTS; i++) { /* a slot whose state is as large as it can be, and more comes */
        c[i][2] = 0x1.8p127f;
        HOLDS(sgru_pool_reset(pool, slots[i]) == SGRU_OK);
        HOLDS(sgru_pool_step(pool, SLOTS, slots, inputs, outputs, &bad) == SGRU_OK);
        HOLDS(sgru_pool_step(pool, SLOTS, slots, inputs, outputs, &bad) == SGRU_E_NONFINITE && bad == (size_t)i);
        c[i][2] = uniform(1);
        HOLDS(sgru_pool_reset(pool, slots[i]) == SGRU_OK);
    }
    for (int i = 0; i < SLOTS; i++) HOLDS(sgru_pool_reset(pool, slots[i]) == SGRU_OK);
    for (int f = 0; f < SLOTS; f++) { /* one slot, frame after frame */
        const void *in[] = {a[f], b[f], c[f], x[f], at[f]};
        void *out[] = {a_out[f], b_out[f], c_out[f], y[f]};
        HOLDS(sgru_pool_step(pool, 1, slots + 2, in, out, &bad) == SGRU_OK && bad == 1);
    }
    HOLDS(are_sums(SLOTS));
    HOLDS(sgru_pool_step(pool, 0, slots, inputs, outputs, &bad) == SGRU_OK && bad == 0);
    HOLDS(sgru_pool_step(NULL, 1, slots, inputs, outputs, &bad) == SGRU_E_ARGUMENT);
    HOLDS(sgru_pool_step(pool, 1, NULL, inputs, outputs, &bad) == SGRU_E_ARGUMENT);
    HOLDS(sgru_pool_step(pool, 1, slots, NULL, outputs, &bad) == SGRU_E_ARGUMENT);
    HOLDS(sgru_pool_step(pool, 1, slots, inputs, NULL, &bad) == SGRU_E_ARGUMENT && bad == 1);
    release(memory, need);
}

/* No id comes twice, whatever is closed and opened. */
static void try_slots(const sgru_model *m)
{
    enum { OPENINGS = 40 };
    size_t need = sgru_pool_size(m, 3, 2, 1), bytes = sgru_save_size(m);
    unsigned char *memory = guarded(need), *blob = malloc(bytes), *other = malloc(bytes);
    sgru_pool *pool = sgru_pool_init(memory, need, m, 3, 2, 1, 0x7FFF, 0);
    sgru_slot ids[OPENINGS], first = sgru_pool_open(pool), second = sgru_pool_open(pool);
    for (int i = 0; i < OPENINGS; i++) {
        ids[i] = sgru_pool_open(pool);
        HOLDS(ids[i] > 0 && ids[i] != first && ids[i] != second && sgru_pool_open(pool) == 0);
        for (int j = 0; j < i; j++) HOLDS(ids[i] != ids[j] && sgru_pool_reset(pool, ids[j]) == SGRU_E_SLOT);
        HOLDS(sgru_pool_close(pool, ids[i]) == SGRU_OK && sgru_pool_close(pool, ids[i]) == SGRU_E_SLOT);
    }
    HOLDS(sgru_pool_close(pool, 0) == SGRU_E_SLOT && sgru_pool_close(pool, -1) == SGRU_E_SLOT);
    HOLDS(sgru_pool_close(pool, first + 3) == SGRU_E_SLOT && sgru_pool_close(NULL, first) == SGRU_E_SLOT);
    HOLDS(sgru_pool_open(NULL) == 0 && sgru_pool_reset(NULL, first) == SGRU_E_SLOT);
    HOLDS(sgru_pool_save(pool, first, blob, bytes) == SGRU_OK && sgru_pool_save(pool, 0, blob, bytes) == SGRU_E_SLOT);
    HOLDS(sgru_pool_save(NULL, first, blob, bytes) == SGRU_E_SLOT);
    HOLDS(sgru_pool_step(pool, 1, &second, inputs, outputs, NULL) == SGRU_OK);
    HOLDS(sgru_pool_save(pool, second, other, bytes) == SGRU_OK && memcmp(blob, other, bytes));
    HOLDS(sgru_pool_restore(pool, first, other, bytes) == SGRU_OK &&
          sgru_pool_save(pool, first, blob, bytes) == SGRU_OK);
    HOLDS(!memcmp(blob, other, bytes));
    blob[bytes - 1] ^= 1;
    HOLDS(sgru_pool_restore(pool, second, blob, bytes) == SGRU_E_STATE && sgru_pool_restore(pool, 0, other, bytes));
    HOLDS(sgru_pool_save(pool, second, blob, bytes) == SGRU_OK && !memcmp(blob, other, bytes));
    release(memory, need), free(blob), free(other);
}

/* An id of the place behind the last one, which stands in the first state, where such a place would be. */
static void try_forged(const sgru_model *m)
{
    size_t need = sgru_pool_size(m, 4, 1, 1), bytes = sgru_save_size(m);
    unsigned char *memory = guarded(need), *blob = malloc(bytes), *state = blob + bytes - m->state_size;
    sgru_pool *pool = sgru_pool_init(memory, need, m, 4, 1, 1, 0, 0);
    sgru_slot first = sgru_pool_open(pool), forged = (sgru_slot)1 << 24 | 4;
    HOLDS(sgru_pool_save(pool, first, blob, bytes) == SGRU_OK);
    memcpy(state, &forged, sizeof forged);
    uint64_t sum = sgru_checksum(state, m->state_size);
    memcpy(blob + 16, &sum, sizeof sum);
    for (int i = 0; i < 2; i++)
        HOLDS(sgru_pool_restore(pool, first, blob, bytes) == SGRU_OK); /* into both its states */
    HOLDS(sgru_pool_reset(pool, forged) == SGRU_E_SLOT && sgru_pool_close(pool, forged) == SGRU_E_SLOT);
    release(memory, need), free(blob);
}

static void try_sizes(const sgru_model *m)
{
    size_t need = sgru_pool_size(m, 3, 2, 64);
    unsigned char *memory = guarded(need);
    sgru_workers workers = {.n = 64};
    HOLDS(need && !sgru_pool_size(m, 3, 2, 65) && !sgru_pool_size(m, 3, 2, 0) && !sgru_pool_size(NULL, 3, 2, 1));
    HOLDS(!sgru_pool_size(m, 0, 2, 1) && !sgru_pool_size(m, 3, 0, 1) && !sgru_pool_size(m, 3, SIZE_MAX, 1));
    HOLDS(sgru_pool_size(m, 1 << 24, 2, 1) && !sgru_pool_size(m, (1 << 24) + 1, 2, 1));
    HOLDS(!sgru_pool_init(memory, need - 1, m, 3, 2, 64, 0, 0) && !sgru_pool_init(NULL, need, m, 3, 2, 64, 0, 0));
    HOLDS(!sgru_pool_init(memory + 4, need, m, 3, 2, 64, 0, 0) &&
          !sgru_pool_init(memory, need, m, 3, 2, 64, 0x8000, 0));
    HOLDS(!sgru_pool_init(memory, need, m, 3, 2, 65, 0, 0));
    sgru_pool *pool = sgru_pool_init(memory, need, m, 3, 2, 64, 0, 0);
    HOLDS(pool && sgru_pool_use(pool, &workers) == SGRU_OK && sgru_pool_use(pool, NULL) == SGRU_OK);
    workers.n = 65;
    HOLDS(sgru_pool_use(pool, &workers) == SGRU_E_ARGUMENT && sgru_pool_use(NULL, NULL) == SGRU_E_ARGUMENT);
    release(memory, need);
    /* sizes that no memory has: states of 2^40 bytes */
    const sgru_model large = {.state_size = (size_t)1 << 40}, none = {0};
    const size_t most = SIZE_MAX / 8;
    HOLDS(sgru_pool_size(&large, 32767, 1, 1) > (size_t)32767 << 41 && !sgru_pool_size(&large, 32768, 1, 1));
    HOLDS(sgru_engine_size(&none, 1, 1, most) > most && !sgru_engine_size(&none, 1, 1, most + 1));
    HOLDS(sgru_engine_size(&large, 1, 2, 64) == sgru_engine_size(&large, 1, 1, 64) + ((size_t)1 << 40));
    HOLDS(!sgru_engine_size(&large, 1, (most >> 40) + 1, 0));
}

/* ---- what opening an image says of its states ---- */

static int opened(image *im, uint32_t *frame_by_frame)
{
    size_t size;
    sgru_model m;
    unsigned char *bytes = finish(im, &size);
    int status = sgru_model_open(&m, bytes, size);
    if (!status && frame_by_frame) *frame_by_frame = m.frame_by_frame;
    free(bytes);
    return status;
}

/* Five states, and a tensor of `n` elements of this dtype `at_byte` bytes into the state. */
static int with_view(int dtype, uint64_t at_byte, uint32_t n, int list)
{
    static const int dtypes[] = {SGRU_F32, SGRU_I32, SGRU_F32, SGRU_I64, SGRU_F32};
    image im = {0};
    for (int i = 0; i < 5; i++) {
        uint32_t id = of_type(&im, dtypes[i], KIND_STATE, 30); /* 128 bytes apart, that of i64 256 */
        if (list) add_to_list(&im, 2, id);
    }
    uint64_t end = im.state;
    uint32_t view = of_type(&im, dtype, KIND_STATE, n);
    im.tensors[view].offset = at_byte, im.state = end;
    return opened(&im, NULL);
}

static void try_views(void)
{
    static const struct {
        int dtype;
        uint64_t start;
    } states[] = {{SGRU_F32, 0}, {SGRU_I32, 128}, {SGRU_F32, 256}, {SGRU_I64, 384}, {SGRU_F32, 640}};
    HOLDS(with_view(SGRU_F32, 0, 1, 0) == SGRU_E_FORMAT);
    for (int i = 0; i < 5; i++) {
        uint64_t size = dtype_size((uint32_t)states[i].dtype), start = states[i].start;
        int other = states[i].dtype == SGRU_I32 ? SGRU_F32 : SGRU_I32;
        HOLDS(with_view(states[i].dtype, start, 30, 1) == SGRU_OK);
        HOLDS(with_view(states[i].dtype, start, 31, 1) == SGRU_E_FORMAT);
        HOLDS(with_view(states[i].dtype, start + size, 29, 1) == SGRU_OK);
        HOLDS(with_view(states[i].dtype, start + 7 * size, 24, 1) == SGRU_E_FORMAT);
        HOLDS(with_view(states[i].dtype, start + 29 * size, 1, 1) == SGRU_OK);
        HOLDS(with_view(states[i].dtype, start + 30 * size, 1, 1) == SGRU_E_FORMAT);
        HOLDS(with_view(other, start, 1, 1) == SGRU_E_FORMAT && with_view(other, start + 8, 1, 1) == SGRU_E_FORMAT);
    }
}

/* The states' list out of order, with a gap, twice the same. */
static void try_lists(void)
{
    for (int what = 0; what < 4; what++) {
        image im = {0};
        uint32_t one = of_type(&im, SGRU_F32, KIND_STATE, 10), two;
        if (what == 1) im.state += 64;
        two = of_type(&im, SGRU_F32, KIND_STATE, 10);
        add_to_list(&im, 2, what == 2 ? two : one), add_to_list(&im, 2, what == 2 ? one : what == 3 ? one : two);
        HOLDS(opened(&im, NULL) == (what ? SGRU_E_FORMAT : SGRU_OK));
    }
}

/* A reset value must be a constant of the state's dtype and number of elements. */
static void try_resets(void)
{
    float values[16] = {0};
    for (int what = 0; what < 5; what++) {
        image im = {0};
        uint32_t state = of_type(&im, SGRU_F32, KIND_STATE, 8), dims[] = {8, 1};
        add_to_list(&im, 2, state);
        im.tensors[state].reset = what == 1   ? add_const(&im, SGRU_I32, 8, values)
                                  : what == 2 ? add_const(&im, SGRU_F32, 7, values)
                                  : what == 3 ? of_type(&im, SGRU_F32, KIND_ARENA, 8)
                                  : what == 4 ? add_packed(&im, dims[0], dims[1], values)
                                              : add_const(&im, SGRU_F32, 8, values);
        HOLDS(opened(&im, NULL) == (what ? SGRU_E_FORMAT : SGRU_OK));
    }
}

/* What a reset puts into a state is what a restore puts there: no subnormal, no NaN but one. */
static void try_untidy_reset(void)
{
    const uint32_t untidy[] = {0xFFC01234, 0x7F800001, 0x00000001, 0x807FFFFF, 0x80000000, 0xFF800000, 0x00800000, 0},
                   tidy[] = {0x7FC00000, 0x7FC00000, 0, 0, 0, 0xFF800000, 0x00800000, 0};
    size_t size;
    sgru_model m;
    float values[8];
    unsigned char saved[32 + 64], other[32 + 64];
    image im = {0};
    memcpy(values, untidy, sizeof values);
    uint32_t state = of_type(&im, SGRU_F32, KIND_STATE, 8);
    im.tensors[state].reset = add_const(&im, SGRU_F32, 8, values);
    add_to_list(&im, 2, state);
    unsigned char *bytes = finish(&im, &size);
    HOLDS(sgru_model_open(&m, bytes, size) == SGRU_OK && sgru_save_size(&m) == sizeof saved);
    size_t need = sgru_stream_size(&m, 1), pool_need = sgru_pool_size(&m, 2, 1, 1);
    unsigned char *memory = guarded(need), *pool_memory = guarded(pool_need);
    sgru_stream *s = sgru_stream_init(memory, need, &m, 1, SGRU_PASS_NONFINITE);
    sgru_pool *pool = sgru_pool_init(pool_memory, pool_need, &m, 2, 1, 1, 1, SGRU_PASS_NONFINITE);
    sgru_slot slot = sgru_pool_open(pool);
    HOLDS(sgru_save(s, saved, sizeof saved) == SGRU_OK && memcmp(saved + 32, tidy, sizeof tidy) == 0);
    HOLDS(sgru_restore(s, saved, sizeof saved) == SGRU_OK && sgru_save(s, other, sizeof other) == SGRU_OK);
    HOLDS(memcmp(saved, other, sizeof saved) == 0);
    HOLDS(sgru_pool_save(pool, slot, other, sizeof other) == SGRU_OK && memcmp(saved, other, sizeof saved) == 0);
    release(memory, need), release(pool_memory, pool_need), free(bytes);
}

/* n RNNs side by side, of which the last has the state of number `same`; its own where that is n - 1. */
static uint32_t by_frames(uint32_t n, uint32_t same, int copies)
{
    image im = {0};
    float w[16] = {0};
    uint32_t dim[] = {1, 1, 4}, x = add_tensor(&im, SGRU_F32, KIND_ARENA, LAYOUT_ROWS, 3, dim), frames = 2, h[40];
    uint32_t w_id = add_packed(&im, 4, 4, w), p[] = {1, 1, 4, 4, 0, 0, 4, 4, 0, 4, 4, 0, 4, 0, 4, 0, F_TANH, 0, 0};
    add_to_list(&im, 0, x);
    for (uint32_t i = 0; i < n; i++) {
        int shared = i + 1 == n && same < i;
        h[i] = shared ? h[same] : of_type(&im, SGRU_F32, KIND_STATE, 4);
        if (!shared) add_to_list(&im, 2, h[i]);
        uint32_t in[] = {x, w_id, w_id, SGRU_NONE, SGRU_NONE, h[i]}, out[] = {SGRU_NONE, h[i]};
        add_op(&im, 50, 6, in, 2, out, 19, p);
    }
    uint32_t copy[] = {1, 0, 0, 4, 1, 1};
    if (copies) add_op(&im, 1, 1, &x, 1, &h[0], 6, copy);
    return opened(&im, &frames) == SGRU_OK ? frames : 3;
}

/* A block runs operator by operator only where each has states of its own. */
static void try_shared_states(void)
{
    HOLDS(by_frames(1, 0, 0) == 0 && by_frames(2, 1, 0) == 0 && by_frames(2, 0, 0) == 1 && by_frames(1, 0, 1) == 1);
    HOLDS(by_frames(5, 4, 0) == 0 && by_frames(5, 0, 0) == 1 && by_frames(5, 3, 0) == 1);
    HOLDS(by_frames(32, 31, 0) == 0 && by_frames(33, 32, 0) == 1); /* so many operands are looked at, no more */
}

/* ---- the largest numbers ---- */

static int with_tensor(int kind, uint64_t offset, uint32_t n, uint32_t rank)
{
    image im = {0};
    uint32_t dims[8] = {1, 1, 1, 1, 1, 1, 1, 1};
    dims[rank ? rank - 1 : 0] = n;
    uint32_t id = add_tensor(&im, SGRU_BOOL, kind, LAYOUT_ROWS, rank, dims);
    im.tensors[id].offset = offset, im.data_size = 0;
    return opened(&im, NULL);
}

/* FILL of one element, over and over; the words of the first begin at `first`, of three words. */
static int with_counts(uint32_t tensors, uint32_t ops, uint32_t first)
{
    size_t at_ops = 128 + round_up((size_t)tensors * sizeof(sgru_tensor_rec), 64),
           words = at_ops + round_up((size_t)ops * sizeof(sgru_op_rec), 64), size = words + 256;
    unsigned char *bytes = aligned_alloc(64, size);
    memset(bytes, 0, size);
    sgru_header h = {.magic = {'S', 'G', 'R', 'U', '\r', '\n', 0x1A, '\n'}, .version = 1, .file_size = size};
    h.n_tensors = tensors, h.n_ops = ops, h.n_words = 3, h.lists = 3, h.strings_size = 1;
    h.tensors = 128, h.ops = at_ops, h.words = words, h.strings = words + 64, h.json = words + 128, h.data = size;
    for (uint32_t i = 0; i < tensors; i++)
        ((sgru_tensor_rec *)(bytes + 128))[i] = (sgru_tensor_rec){
            .dtype = SGRU_BOOL, .kind = KIND_ARENA, .dims = {1, 1, 1, 1, 1, 1, 1, 1}, .reset = SGRU_NONE};
    for (uint32_t i = 0; i < ops; i++)
        ((sgru_op_rec *)(bytes + at_ops))[i] =
            (sgru_op_rec){.code = 2, .n_out = 1, .n_params = 2, .first = i ? 0 : first};
    memcpy(bytes, &h, sizeof h);
    h.checksum = sgru_checksum(bytes + 32, size - 32);
    memcpy(bytes, &h, sizeof h);
    sgru_model m;
    int status = sgru_model_open(&m, bytes, size);
    free(bytes);
    return status;
}

static void try_largest(void)
{
    const uint64_t area = (uint64_t)1 << 40;
    HOLDS(with_tensor(KIND_ARENA, 0, 0x7FFFFFFF, 1) == SGRU_OK && with_tensor(KIND_ARENA, 0, 0x80000000, 1));
    HOLDS(with_tensor(KIND_ARENA, 0, 5, 8) == SGRU_OK && with_tensor(KIND_ARENA, 0, 5, 1) == SGRU_OK);
    HOLDS(with_tensor(KIND_ARENA, area - 64, 64, 1) == SGRU_OK && with_tensor(KIND_ARENA, area - 63, 64, 1));
    HOLDS(with_tensor(KIND_ARENA, area + 1, 1, 1) == SGRU_E_FORMAT && with_tensor(3, 0, 1, 1) == SGRU_E_FORMAT);
    HOLDS(with_tensor(KIND_CONST, 0, 1, 1) == SGRU_E_FORMAT);
    HOLDS(with_counts(1 << 20, 1 << 20, 0) == SGRU_OK && with_counts((1 << 20) + 1, 1, 0) == SGRU_E_FORMAT);
    HOLDS(with_counts(1, (1 << 20) + 1, 0) == SGRU_E_FORMAT);
    for (uint32_t first = 1; first < 5; first++) HOLDS(with_counts(1, 1, first) == SGRU_E_FORMAT);
}

int main(void)
{
    size_t size;
    sgru_model m;
    rng = 7;
    fill_sums();
    unsigned char *bytes = build_sums(&size);
    HOLDS(sgru_model_open(&m, bytes, size) == SGRU_OK);
    try_ports(&m), try_blocks(&m), try_faults(&m);
    for (size_t lanes = 1; lanes <= SLOTS + 1; lanes++) try_lanes(&m, lanes);
    try_slots(&m), try_forged(&m), try_sizes(&m);
    free(bytes);
    try_views(), try_lists(), try_resets(), try_untidy_reset(), try_shared_states(), try_largest();
    printf("%u passed, %u failed\n", passed, failed);
    return failed != 0;
}
