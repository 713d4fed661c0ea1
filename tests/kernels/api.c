/* The public functions at the edges of their arguments: every status that the header lists, for every way to it.
 *
 *     api */
#include "holds.h"
#include "random_gru.h"

/* An image with one number altered; what opening it says. */
static int with(const unsigned char *original, size_t size, size_t at, uint32_t word, int right_checksum)
{
    unsigned char *bytes = aligned_alloc(64, size);
    sgru_model m;
    memcpy(bytes, original, size), memcpy(bytes + at, &word, 4);
    uint64_t sum = sgru_checksum(bytes + 32, size - 32);
    if (right_checksum) memcpy(bytes + 24, &sum, 8);
    int status = sgru_model_open(&m, bytes, size);
    free(bytes);
    return status;
}

static void try_open(const unsigned char *bytes, size_t size)
{
    sgru_model m;
    const sgru_header *h = (const sgru_header *)bytes;
    HOLDS(sgru_model_open(NULL, bytes, size) == SGRU_E_ARGUMENT);
    HOLDS(sgru_model_open(&m, NULL, size) == SGRU_E_ARGUMENT);
    HOLDS(sgru_model_open(&m, bytes + 4, size - 64) == SGRU_E_ARGUMENT);
    for (size_t n = 0; n < size; n += n < 192 ? 1 : 64) HOLDS(sgru_model_open(&m, bytes, n) == SGRU_E_FORMAT);
    HOLDS(with(bytes, size, 0, 0, 1) == SGRU_E_FORMAT);
    HOLDS(with(bytes, size, 8, 2, 1) == SGRU_E_VERSION);
    HOLDS(with(bytes, size, 12, 1, 1) == SGRU_E_FORMAT);
    HOLDS(with(bytes, size, 16, (uint32_t)size + 64, 1) == SGRU_E_FORMAT);
    HOLDS(with(bytes, size, h->data, 12345, 0) == SGRU_E_CHECKSUM);
    for (size_t at = 32; at < 64; at += 4) { /* the counts and sizes */
        uint32_t far[] = {0xFFFFFFFFu, 1u << 20, (1u << 20) + 1};
        for (int i = 0; i < 3; i++) HOLDS(with(bytes, size, at, far[i], 1) != SGRU_OK);
    }
    HOLDS(with(bytes, size, 60, 0, 1) == SGRU_E_FORMAT);
    for (size_t at = 64; at < 128; at += 8) { /* the offsets and sizes: low and high word */
        HOLDS(with(bytes, size, at + 4, 1, 1) == SGRU_E_FORMAT);
        if (at != 104 && at != 120) HOLDS(with(bytes, size, at, 1, 1) == SGRU_E_FORMAT);
        if (at != 104 && at != 120) HOLDS(with(bytes, size, at, 64, 1) == SGRU_E_FORMAT);
    }
    HOLDS(with(bytes, size, h->strings, 0x41, 1) == SGRU_E_FORMAT);
}

static void try_records(const unsigned char *bytes, size_t size)
{
    const sgru_header *h = (const sgru_header *)bytes;
    for (uint32_t t = 0; t < h->n_tensors; t++) {
        size_t at = h->tensors + 64 * t;
        const sgru_tensor_rec *rec = (const sgru_tensor_rec *)(bytes + at);
        uint32_t head;
        memcpy(&head, rec, 4);
        HOLDS(with(bytes, size, at, head & 0xFFFFFF00u, 1) != SGRU_OK);            /* dtype 0 */
        HOLDS(with(bytes, size, at, head | 0xFFu, 1) != SGRU_OK);                  /* dtype 255 */
        HOLDS(with(bytes, size, at, head | 0xFF00u, 1) != SGRU_OK);                /* kind */
        HOLDS(with(bytes, size, at, head | 0xFF0000u, 1) != SGRU_OK);              /* rank */
        HOLDS(with(bytes, size, at, head | 0xFF000000u, 1) != SGRU_OK);            /* layout */
        HOLDS(with(bytes, size, at + 4, 0x7FFFFFFF, 1) == SGRU_E_FORMAT);          /* name */
        HOLDS(with(bytes, size, at + 8, (uint32_t)rec->offset + 1, 1) != SGRU_OK); /* misaligned */
        HOLDS(with(bytes, size, at + 12, 0xFFFFFFFF, 1) == SGRU_E_FORMAT);         /* far away */
        HOLDS(with(bytes, size, at + 16, 0, 1) != SGRU_OK);                        /* no elements */
        HOLDS(with(bytes, size, at + 16, 0xFFFFFFFF, 1) != SGRU_OK);               /* too many */
        if (rec->kind != KIND_STATE) continue;
        for (uint32_t other = 0; other < h->n_tensors + 1; other++)
            if (other != rec->reset) HOLDS(with(bytes, size, at + 48, other, 1) == SGRU_E_FORMAT);
    }
    size_t op = h->ops, words = h->words, lists = h->words + 4 * h->lists;
    HOLDS(with(bytes, size, op, 0xFFFF, 1) == SGRU_E_OPERATOR);
    HOLDS(with(bytes, size, op + 8, 0xFFFFFFF0u, 1) == SGRU_E_FORMAT);
    HOLDS(with(bytes, size, op + 12, 0xFFFFFFF0u, 1) == SGRU_E_FORMAT);
    HOLDS(with(bytes, size, words, h->n_tensors, 1) == SGRU_E_FORMAT);
    HOLDS(with(bytes, size, words, SGRU_NONE, 1) == SGRU_E_OPERATOR);
    HOLDS(with(bytes, size, words + 4 * 8, 3, 1) != SGRU_OK); /* a constant as output */
    for (uint32_t i = 0; i < 3; i++) {
        HOLDS(with(bytes, size, lists + 4 * i, h->n_tensors, 1) == SGRU_E_FORMAT);
        HOLDS(with(bytes, size, lists + 4 * i, 3, 1) == SGRU_E_FORMAT);
    }
}

static void try_stream(const unsigned char *bytes, size_t size)
{
    sgru_model m;
    sgru_tensor_info info;
    HOLDS(sgru_model_open(&m, bytes, size) == SGRU_OK);
    HOLDS(sgru_tensor(NULL, SGRU_INPUT, 0, &info) == SGRU_E_ARGUMENT);
    HOLDS(sgru_tensor(&m, SGRU_INPUT, 0, NULL) == SGRU_E_ARGUMENT);
    HOLDS(sgru_tensor(&m, -1, 0, &info) == SGRU_E_ARGUMENT && sgru_tensor(&m, 3, 0, &info) == SGRU_E_ARGUMENT);
    for (int kind = 0; kind < 3; kind++)
        HOLDS(!sgru_tensor(&m, kind, 0, &info) && sgru_tensor(&m, kind, 1, &info) == SGRU_E_ARGUMENT);
    HOLDS(sgru_stream_size(NULL, 1) == 0 && sgru_stream_size(&m, 0) == 0 && sgru_stream_size(&m, SIZE_MAX) == 0);
    HOLDS(m.block_scratch_size > m.scratch_size); /* frame by frame takes no more than a frame needs */
    HOLDS(sgru_stream_size(&m, 1) == sgru_engine_size(&m, 1, 2, m.scratch_size));
    HOLDS(sgru_stream_size(&m, 2) == sgru_engine_size(&m, 2, 2, m.block_scratch_size));
    size_t need = sgru_stream_size(&m, 2), blob_size = sgru_save_size(&m);
    unsigned char *memory = aligned_alloc(64, need + 64), *blob = malloc(blob_size), *other = malloc(blob_size);
    HOLDS(!sgru_stream_init(NULL, need, &m, 2, 0) && !sgru_stream_init(memory + 4, need, &m, 2, 0));
    HOLDS(!sgru_stream_init(memory, need - 1, &m, 2, 0) && !sgru_stream_init(memory, need, &m, 0, 0));
    sgru_stream *s = sgru_stream_init(memory, need, &m, 2, 0);
    HOLDS(s && sgru_input(s, 0) && !sgru_input(s, 1) && sgru_output(s, 0) && !sgru_output(s, 1));
    float *x = sgru_input(s, 0);
    HOLDS(sgru_step_inplace(s) == SGRU_OK && sgru_step_inplace(NULL) == SGRU_E_ARGUMENT);
    const void *in[] = {x};
    void *out[] = {sgru_output(s, 0)};
    HOLDS(sgru_step(NULL, in, out) == SGRU_E_ARGUMENT && sgru_step(s, NULL, out) == SGRU_E_ARGUMENT);
    HOLDS(sgru_step(s, in, NULL) == SGRU_E_ARGUMENT && sgru_run(s, 0, in, out) == SGRU_OK);
    HOLDS(sgru_save(NULL, blob, blob_size) == SGRU_E_ARGUMENT && sgru_save(s, NULL, blob_size) == SGRU_E_ARGUMENT);
    HOLDS(sgru_save(s, blob, blob_size - 1) == SGRU_E_ARGUMENT && sgru_save(s, blob, blob_size) == SGRU_OK);
    HOLDS(sgru_restore(NULL, blob, blob_size) == SGRU_E_STATE && sgru_restore(s, NULL, blob_size) == SGRU_E_STATE);
    for (size_t at = 0; at < blob_size; at++) {
        blob[at] ^= 1;
        HOLDS(sgru_restore(s, blob, blob_size) == SGRU_E_STATE);
        blob[at] ^= 1;
    }
    HOLDS(sgru_restore(s, blob, blob_size - 1) == SGRU_E_STATE && sgru_restore(s, blob, blob_size) == SGRU_OK);
    x[0] = 0.0f / 0.0f * 0.0f + (float)(1e300 * 1e300);
    HOLDS(sgru_step_inplace(s) == SGRU_E_NONFINITE && !sgru_save(s, other, blob_size));
    HOLDS(memcmp(blob, other, blob_size) == 0);
    sgru_reset(s);
    HOLDS(sgru_restore(s, other, blob_size) == SGRU_OK);
    HOLDS(!strcmp(sgru_stream_isa(s), sgru_isa()));
    free(memory), free(blob), free(other);
}

static uint64_t no_time(void) { return 0; }

/* An index out of range ends a profile as it ends a step, though the next operator is content. */
static void try_failing_profile(void)
{
    image im = {0};
    size_t size;
    sgru_model m;
    uint64_t ticks[3];
    uint32_t one = 1, p[] = {1, 1, 1, 1}, neg[] = {F_NEG, 0, 0};
    uint32_t x = add_tensor(&im, SGRU_F32, KIND_ARENA, LAYOUT_ROWS, 1, &one),
             i = add_tensor(&im, SGRU_I64, KIND_ARENA, LAYOUT_ROWS, 1, &one),
             y = add_tensor(&im, SGRU_F32, KIND_ARENA, LAYOUT_ROWS, 1, &one), in[] = {x, i};
    add_op(&im, 4, 2, in, 1, &y, 4, p), add_op(&im, 16, 1, &x, 1, &x, 3, neg); /* GATHER, UNARY */
    add_to_list(&im, 0, x), add_to_list(&im, 0, i), add_to_list(&im, 1, y), add_to_list(&im, 1, x);
    unsigned char *bytes = finish(&im, &size);
    HOLDS(sgru_model_open(&m, bytes, size) == SGRU_OK);
    size_t need = sgru_stream_size(&m, 1);
    unsigned char *memory = aligned_alloc(64, round_up(need, 64));
    sgru_stream *s = sgru_stream_init(memory, need, &m, 1, 0);
    for (int64_t at = -2; at < 3; at++) {
        memcpy(sgru_input(s, 1), &at, sizeof at);
        HOLDS(sgru_profile(s, no_time, ticks) == (at == 0 || at == -1 ? SGRU_OK : SGRU_E_INDEX));
    }
    free(memory), free(bytes);
}

/* A state that is infinite after the first frame of a block and finite after the second: relu(-1 · infinity) = 0. The block is refused as
 * the step is, and the state is as it was. */
static void try_passing_infinity(void)
{
    image im = {0};
    size_t size;
    sgru_model m;
    const float w = 3e38f, r = -1, frames[] = {10, 0};
    float results[2];
    uint32_t n = 1, p[] = {1, 1, 1, 1, 0, 0, 1, 1, 0, 1, 1, 0, 1, 0, 1, 0, F_RELU, 0, 0};
    uint32_t x = add_tensor(&im, SGRU_F32, KIND_ARENA, LAYOUT_ROWS, 1, &n),
             y = add_tensor(&im, SGRU_F32, KIND_ARENA, LAYOUT_ROWS, 1, &n),
             s_id = add_tensor(&im, SGRU_F32, KIND_STATE, LAYOUT_ROWS, 1, &n), w_id = add_packed(&im, 1, 1, &w),
             r_id = add_packed(&im, 1, 1, &r), in[] = {x, w_id, r_id, SGRU_NONE, SGRU_NONE, s_id}, out[] = {y, s_id};
    add_op(&im, 50, 6, in, 2, out, 19, p); /* RNN */
    add_to_list(&im, 0, x), add_to_list(&im, 1, y), add_to_list(&im, 2, s_id);
    unsigned char *bytes = finish(&im, &size);
    HOLDS(sgru_model_open(&m, bytes, size) == SGRU_OK);
    const void *inputs[] = {frames}, *second[] = {frames + 1};
    void *outputs[] = {results};
    for (size_t block = 1; block <= 2; block++)
        for (unsigned flags = 0; flags <= SGRU_PASS_NONFINITE; flags += SGRU_PASS_NONFINITE) {
            size_t need = sgru_stream_size(&m, block), blob_size = sgru_save_size(&m);
            unsigned char *memory = aligned_alloc(64, round_up(need, 64)), *before = malloc(blob_size),
                          *after = malloc(blob_size);
            sgru_stream *s = sgru_stream_init(memory, need, &m, block, flags);
            int status = flags ? SGRU_OK : SGRU_E_NONFINITE;
            HOLDS(sgru_save(s, before, blob_size) == SGRU_OK && sgru_run(s, 2, inputs, outputs) == status);
            HOLDS(sgru_save(s, after, blob_size) == SGRU_OK && memcmp(before, after, blob_size) == 0);
            HOLDS(sgru_step(s, inputs, outputs) == status && sgru_step(s, second, outputs) == SGRU_OK);
            free(memory), free(before), free(after);
        }
    free(bytes);
}

static uint64_t ticks_so_far;
static uint64_t tick(void) { return ticks_so_far += 7; }

/* The measured frame is the frame of a step, each operator one reading of the clock. */
static void try_profile(const unsigned char *bytes, size_t size)
{
    sgru_model m;
    uint64_t ticks[MOST_OPS + 1] = {0};
    HOLDS(sgru_model_open(&m, bytes, size) == SGRU_OK);
    size_t need = sgru_stream_size(&m, 1), blob_size = sgru_save_size(&m);
    unsigned char *memory[2], *blobs[2];
    sgru_stream *s[2];
    for (int i = 0; i < 2; i++) {
        memory[i] = aligned_alloc(64, need), blobs[i] = malloc(blob_size);
        s[i] = sgru_stream_init(memory[i], need, &m, 1, 0);
    }
    HOLDS(sgru_profile(NULL, tick, ticks) == SGRU_E_ARGUMENT && sgru_profile(s[0], NULL, ticks) == SGRU_E_ARGUMENT);
    HOLDS(sgru_profile(s[0], tick, NULL) == SGRU_E_ARGUMENT);
    HOLDS(sgru_profile(s[0], tick, ticks) == SGRU_OK && sgru_step_inplace(s[1]) == SGRU_OK);
    for (uint32_t i = 0; i < m.n_ops + 1; i++) HOLDS(ticks[i] == 7);
    HOLDS(sgru_save(s[0], blobs[0], blob_size) == SGRU_OK && memcmp(blobs[0], "SGRUST01", 8) == 0);
    HOLDS(ticks[m.n_ops + 1] == 0);
    for (int i = 0; i < 2; i++) HOLDS(sgru_save(s[i], blobs[i], blob_size) == SGRU_OK);
    HOLDS(memcmp(blobs[0], blobs[1], blob_size) == 0);
    for (int i = 0; i < 2; i++) free(memory[i]), free(blobs[i]);
}

static void try_names(void)
{
    HOLDS(sgru_set_isa("none") == SGRU_E_ISA && sgru_set_isa("re") == SGRU_E_ISA && sgru_set_isa("refs") == SGRU_E_ISA);
    HOLDS(sgru_set_isa("ref") == SGRU_OK && !strcmp(sgru_isa(), "ref"));
    HOLDS(sgru_set_isa(NULL) == SGRU_OK && !strcmp(sgru_isa(), sgru_available_isa(0)));
    HOLDS(sgru_set_isa("") == SGRU_OK && !sgru_available_isa(100));
    for (int i = 0; i <= SGRU_E_WORK; i++)
        for (int j = 0; j < i; j++) HOLDS(strcmp(sgru_strerror(i), sgru_strerror(j)) != 0);
    HOLDS(!strcmp(sgru_strerror(-1), sgru_strerror(SGRU_E_WORK + 1)));
}

int main(void)
{
    size_t size;
    rng = 1;
    gru c = random_gru();
    while (!c.has_bias || !c.lbr || c.B != 2) drop(&c), c = random_gru();
    unsigned char *bytes = build(&c, 2, 0, c.B, 0, &size);
    try_open(bytes, size), try_records(bytes, size), try_stream(bytes, size), try_profile(bytes, size),
        try_failing_profile(), try_passing_infinity();
    try_names();
    drop(&c), free(bytes);
    printf("%u passed, %u failed\n", passed, failed);
    return failed != 0;
}
