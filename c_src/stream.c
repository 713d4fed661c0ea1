/* A stream: the caller's memory, the state in it, and the calls that move it on by a frame or a block. No allocation, no lock,
 * no system call. After an error the state is what it was: every call begins by keeping a copy. */
#include "internal.h"

typedef struct sgru_io {
    const uint32_t *inputs, *outputs, *states;
} sgru_io;

static sgru_io io_of(const sgru_model *m)
{
    const sgru_header *h = header_of(m);
    const uint32_t *ids = words_of(m) + h->lists;
    sgru_io io = {ids, ids + h->n_inputs, ids + h->n_inputs + h->n_outputs};
    return io;
}

size_t sgru_stream_size(const sgru_model *m, size_t block)
{
    if (!m || block == 0) return 0;
    size_t scratch = block > 1 ? m->block_scratch_size : m->scratch_size;
    size_t rest = round_up(sizeof(sgru_stream), 64) + 2 * m->state_size + scratch; /* below SIZE_MAX, by model.c */
    if (rest > SIZE_MAX / 2) return 0;
    if (m->arena_size && block > (SIZE_MAX / 2 - rest) / m->arena_size) return 0;
    return rest + block * m->arena_size;
}

sgru_stream *sgru_stream_init(void *memory, size_t size, const sgru_model *m, size_t block, unsigned flags)
{
    size_t need = sgru_stream_size(m, block);
    if (!memory || (uintptr_t)memory % 64 != 0 || need == 0 || size < need) return NULL;
    sgru_stream *s = memory;
    unsigned char *p = (unsigned char *)memory + round_up(sizeof *s, 64);
    s->model = m;
    s->k = sgru_kernels_chosen();
    s->block = block;
    s->flags = flags;
    s->turn = 0;
    s->arena = p;
    s->state = s->arena + block * m->arena_size;
    s->backup = s->state + m->state_size;
    s->scratch = s->backup + m->state_size;
    memset(s->arena, 0, block * m->arena_size);
    sgru_reset(s);
    return s;
}

void sgru_reset(sgru_stream *s)
{
    const uint32_t *ids = io_of(s->model).states;
    if (s->model->state_size) memset(s->state, 0, s->model->state_size);
    for (uint32_t i = 0; i < s->model->n_states; i++) {
        const sgru_tensor_rec *t = tensor_of(s->model, ids[i]);
        if (t->reset != SGRU_NONE) memcpy(s->state + t->offset, operand(s, t->reset, 0), bytes_of(t));
    }
}

/* ---- frames in and out ---- */

/* Input i of a frame, from the caller's array or, where that is NULL, as it lies in the arena. */
static int take_input(sgru_stream *s, uint32_t id, size_t frame, const void *from)
{
    const sgru_tensor_rec *t = tensor_of(s->model, id);
    void *to = operand(s, id, frame);
    if (!from) from = to;
    if (t->dtype != SGRU_F32) {
        if (from != to) memcpy(to, from, bytes_of(t));
        return SGRU_OK;
    }
    if (!(s->flags & SGRU_PASS_NONFINITE) && !s->k->finite(count_of(t), from)) return SGRU_E_NONFINITE;
    s->k->tidy(count_of(t), from, to);
    return SGRU_OK;
}

/* A NaN's sign and payload are the machine's own: outputs are tidied on the way out. */
static void give_output(sgru_stream *s, uint32_t id, size_t frame, void *to)
{
    const sgru_tensor_rec *t = tensor_of(s->model, id);
    const void *from = operand(s, id, frame);
    if (t->dtype == SGRU_F32) s->k->tidy(count_of(t), from, to);
    else if (to != from) memcpy(to, from, bytes_of(t));
}

/* The states after a frame or a block: finite, or, where that is let through, with tidy NaNs. */
static int settle_states(sgru_stream *s)
{
    const uint32_t *ids = io_of(s->model).states;
    for (uint32_t i = 0; i < s->model->n_states; i++) {
        const sgru_tensor_rec *t = tensor_of(s->model, ids[i]);
        float *h = operand(s, ids[i], 0);
        if (t->dtype != SGRU_F32) continue;
        if (s->flags & SGRU_PASS_NONFINITE) s->k->tidy(count_of(t), h, h);
        else if (!s->k->finite(count_of(t), h)) return SGRU_E_NONFINITE;
    }
    return SGRU_OK;
}

/* ---- the program ---- */

static int run_ops(sgru_stream *s, size_t first, size_t frames)
{
    for (uint32_t i = 0; i < s->model->n_ops; i++) {
        sgru_op op = op_of(s->model, i);
        int status = sgru_find_op(op.code)->run(s, &op, first, frames);
        if (status) return status;
    }
    return SGRU_OK;
}

/* All operators over the `frames` frames that lie in the arenas. */
static int run_block(sgru_stream *s, size_t frames)
{
    if (!s->model->frame_by_frame) {
        int status = run_ops(s, 0, frames);
        return status ? status : settle_states(s);
    }
    for (size_t f = 0; f < frames; f++) {
        int status = run_ops(s, f, 1);
        if (status || (status = settle_states(s))) return status;
    }
    return SGRU_OK;
}

static const void *frame_in(const sgru_stream *s, const void *const *arrays, uint32_t i, size_t frame)
{
    if (!arrays) return NULL;
    return (const unsigned char *)arrays[i] + frame * bytes_of(tensor_of(s->model, io_of(s->model).inputs[i]));
}

/* Frames `at` .. `at + frames` of the caller's arrays (NULL: in place), at most a block. */
static int pass(sgru_stream *s, size_t at, size_t frames, const void *const *inputs, void *const *outputs)
{
    sgru_io io = io_of(s->model);
    int status;
    for (size_t f = 0; f < frames; f++)
        for (uint32_t i = 0; i < s->model->n_inputs; i++)
            if ((status = take_input(s, io.inputs[i], f, frame_in(s, inputs, i, at + f)))) return status;
    if ((status = run_block(s, frames))) return status;
    for (size_t f = 0; f < frames; f++)
        for (uint32_t i = 0; i < s->model->n_outputs; i++) {
            unsigned char *to = operand(s, io.outputs[i], f);
            if (outputs) to = (unsigned char *)outputs[i] + (at + f) * bytes_of(tensor_of(s->model, io.outputs[i]));
            give_output(s, io.outputs[i], f, to);
        }
    return SGRU_OK;
}

static int run(sgru_stream *s, size_t frames, const void *const *inputs, void *const *outputs)
{
    int status = SGRU_OK;
    sgru_fpenv caller = sgru_fpenv_enter();
    memcpy(s->backup, s->state, s->model->state_size);
    s->turn++;
    for (size_t at = 0; at < frames && !status; at += s->block)
        status = pass(s, at, frames - at < s->block ? frames - at : s->block, inputs, outputs);
    if (status) memcpy(s->state, s->backup, s->model->state_size);
    sgru_fpenv_leave(caller);
    return status;
}

int sgru_run(sgru_stream *s, size_t frames, const void *const *inputs, void *const *outputs)
{
    if (!s || (!inputs && s->model->n_inputs) || (!outputs && s->model->n_outputs)) return SGRU_E_ARGUMENT;
    return run(s, frames, inputs, outputs);
}

int sgru_step(sgru_stream *s, const void *const *inputs, void *const *outputs)
{
    return sgru_run(s, 1, inputs, outputs);
}

int sgru_step_inplace(sgru_stream *s) { return s ? run(s, 1, NULL, NULL) : SGRU_E_ARGUMENT; }

void *sgru_input(sgru_stream *s, uint32_t i)
{
    return i < s->model->n_inputs ? operand(s, io_of(s->model).inputs[i], 0) : NULL;
}

void *sgru_output(sgru_stream *s, uint32_t i)
{
    return i < s->model->n_outputs ? operand(s, io_of(s->model).outputs[i], 0) : NULL;
}

const char *sgru_stream_isa(const sgru_stream *s) { return s->k->name; }

/* ---- saved states ---- */

typedef struct sgru_blob {
    unsigned char magic[8];
    uint64_t model;    /* the image's checksum */
    uint64_t checksum; /* of the state's bytes, which follow */
    uint64_t size;
} sgru_blob;

static const unsigned char blob_magic[8] = {'S', 'G', 'R', 'U', 'S', 'T', '0', '1'};

static sgru_blob blob_of(const sgru_model *m, const void *state)
{
    sgru_blob b = {
        .model = header_of(m)->checksum, .checksum = sgru_checksum(state, m->state_size), .size = m->state_size};
    memcpy(b.magic, blob_magic, 8);
    return b;
}

size_t sgru_save_size(const sgru_model *m) { return sizeof(sgru_blob) + m->state_size; }

int sgru_save(const sgru_stream *s, void *blob, size_t size)
{
    if (!s || !blob || size < sgru_save_size(s->model)) return SGRU_E_ARGUMENT;
    sgru_blob b = blob_of(s->model, s->state);
    memcpy(blob, &b, sizeof b);
    memcpy((unsigned char *)blob + sizeof b, s->state, s->model->state_size);
    return SGRU_OK;
}

int sgru_restore(sgru_stream *s, const void *blob, size_t size)
{
    if (!s || !blob || size != sgru_save_size(s->model)) return SGRU_E_STATE;
    const unsigned char *state = (const unsigned char *)blob + sizeof(sgru_blob);
    sgru_blob want = blob_of(s->model, state);
    if (memcmp(blob, &want, sizeof want) != 0) return SGRU_E_STATE;
    memcpy(s->backup, s->state, s->model->state_size);
    memcpy(s->state, state, s->model->state_size);
    sgru_fpenv caller = sgru_fpenv_enter();
    int status = settle_states(s);
    sgru_fpenv_leave(caller);
    if (!status) return SGRU_OK;
    memcpy(s->state, s->backup, s->model->state_size);
    return SGRU_E_STATE;
}
