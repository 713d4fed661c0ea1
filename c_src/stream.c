/* A stream: the caller's memory, the state in it, and the calls that move it on by a frame or a block. No allocation, no lock,
 * no system call. After an error the state is what it was: every call begins by keeping a copy. A second call at a time is refused
 * (claim.h). */
#include "internal.h"

static size_t ports_size(const sgru_model *m)
{
    return round_up(((size_t)m->n_inputs + m->n_outputs + m->n_states) * sizeof(sgru_port), 64);
}

/* ---- memory ---- */

size_t sgru_engine_size(const sgru_model *m, size_t frames, size_t states, size_t scratch)
{
    const size_t most = SIZE_MAX / 8, fixed = round_up(sizeof(sgru_stream), 64) + ports_size(m);
    if (m->arena_size && frames > most / m->arena_size) return 0;
    if (m->state_size && states > most / m->state_size) return 0;
    size_t size = fixed + frames * m->arena_size + states * m->state_size; /* below 3/8 of SIZE_MAX */
    return size > most || scratch > most ? 0 : size + scratch;
}

static const sgru_port *lay_ports(const sgru_stream *s, sgru_port *p, const uint32_t *ids, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        const sgru_tensor_rec *t = tensor_of(s->model, ids[i]);
        p[i] = (sgru_port){operand(s, ids[i], 0), frame_step(s, t), bytes_of(t), 0};
        if (t->dtype == SGRU_F32) p[i].floats = count_of(t);
    }
    return p;
}

sgru_stream *sgru_engine_init(void *memory, const sgru_model *m, size_t frames, size_t states, size_t lane_step,
                              unsigned flags)
{
    sgru_stream *s = memory;
    sgru_port *ports = (sgru_port *)((unsigned char *)memory + round_up(sizeof *s, 64));
    const uint32_t *ids = words_of(m) + header_of(m)->lists;
    *s = (sgru_stream){.model = m, .k = sgru_kernels_chosen(), .block = frames, .lane_step = lane_step, .flags = flags};
    s->arena = (unsigned char *)ports + ports_size(m);
    s->state = s->arena + frames * m->arena_size;
    s->backup = s->state + m->state_size;
    s->scratch = s->state + states * m->state_size;
    memset(s->arena, 0, frames * m->arena_size);
    s->inputs = lay_ports(s, ports, ids, m->n_inputs);
    s->outputs = lay_ports(s, ports + m->n_inputs, ids + m->n_inputs, m->n_outputs);
    s->states = lay_ports(s, ports + m->n_inputs + m->n_outputs, ids + m->n_inputs + m->n_outputs, m->n_states);
    return s;
}

size_t sgru_stream_size(const sgru_model *m, size_t block)
{
    return m && block ? sgru_engine_size(m, block, 2, block > 1 ? m->block_scratch_size : m->scratch_size) : 0;
}

sgru_stream *sgru_stream_init(void *memory, size_t size, const sgru_model *m, size_t block, unsigned flags)
{
    size_t need = sgru_stream_size(m, block);
    if (!memory || (uintptr_t)memory % 64 != 0 || need == 0 || size < need) return NULL;
    sgru_stream *s = sgru_engine_init(memory, m, block, 2, 0, flags);
    sgru_reset(s);
    return s;
}

/* ---- frames in and out ---- */

int sgru_take_frame(const sgru_stream *s, size_t frame, const void *const *inputs, size_t at)
{
    for (uint32_t i = 0; i < s->model->n_inputs; i++) {
        const sgru_port *p = s->inputs + i;
        unsigned char *to = p->at + frame * p->step;
        const void *from = inputs ? (const unsigned char *)inputs[i] + at * p->bytes : to;
        if (!p->floats) {
            if (from != to) memcpy(to, from, p->bytes);
            continue;
        }
        if (!(s->flags & SGRU_PASS_NONFINITE) && !s->k->finite(p->floats, from)) return SGRU_E_NONFINITE;
        s->k->tidy(p->floats, from, (float *)to);
    }
    return SGRU_OK;
}

/* A NaN's sign and payload are the machine's own: outputs are tidied on the way out. */
void sgru_give_frame(const sgru_stream *s, size_t frame, void *const *outputs, size_t at)
{
    for (uint32_t i = 0; i < s->model->n_outputs; i++) {
        const sgru_port *p = s->outputs + i;
        unsigned char *from = p->at + frame * p->step;
        unsigned char *to = outputs ? (unsigned char *)outputs[i] + at * p->bytes : from;
        if (p->floats) s->k->tidy(p->floats, (float *)from, (float *)to);
        else if (to != from) memcpy(to, from, p->bytes);
    }
}

/* The states after a frame or a block: finite, or, where that is let through, with tidy NaNs. */
int sgru_settle(const sgru_stream *s, unsigned char *state)
{
    for (uint32_t i = 0; i < s->model->n_states; i++) {
        const sgru_port *p = s->states + i;
        float *h = (float *)(state + (p->at - s->state));
        if (!p->floats) continue;
        if (s->k->finite(p->floats, h)) continue; /* untouched: the flag is to change no finite bit */
        if (!(s->flags & SGRU_PASS_NONFINITE)) return SGRU_E_NONFINITE;
        s->k->tidy(p->floats, h, h);
    }
    return SGRU_OK;
}

/* ---- the program ---- */

int sgru_run_ops(const sgru_stream *s, size_t first, size_t frames)
{
    for (uint32_t i = 0; i < s->model->n_ops; i++) {
        sgru_op op = op_of(s->model, i);
        int status = sgru_find_op(op.code)->run(s, &op, first, frames);
        if (status) return status;
    }
    return SGRU_OK;
}

/* All operators over the `frames` frames that lie in the arenas. */
static int run_block(const sgru_stream *s, size_t frames)
{
    if (!s->model->frame_by_frame) {
        int status = sgru_run_ops(s, 0, frames);
        return status ? status : sgru_settle(s, s->state);
    }
    for (size_t f = 0; f < frames; f++) {
        int status = sgru_run_ops(s, f, 1);
        if (status || (status = sgru_settle(s, s->state))) return status;
    }
    return SGRU_OK;
}

/* Frames `at` .. `at + frames` of the caller's arrays (NULL: in place), at most a block. */
static int pass(const sgru_stream *s, size_t at, size_t frames, const void *const *inputs, void *const *outputs)
{
    int status;
    for (size_t f = 0; f < frames; f++)
        if ((status = sgru_take_frame(s, f, inputs, at + f))) return status;
    if ((status = run_block(s, frames))) return status;
    for (size_t f = 0; f < frames; f++) sgru_give_frame(s, f, outputs, at + f);
    return SGRU_OK;
}

int sgru_run_part(sgru_stream *s, size_t at, size_t end, const void *const *inputs, void *const *outputs)
{
    int status = SGRU_OK;
    if (!sgru_claim(&s->taken)) return SGRU_E_BUSY;
    sgru_fpenv caller = sgru_fpenv_enter();
    if (at == 0) memcpy(s->backup, s->state, s->model->state_size);
    s->turn++;
    for (; at < end && !status; at += s->block)
        status = pass(s, at, end - at < s->block ? end - at : s->block, inputs, outputs);
    if (status) memcpy(s->state, s->backup, s->model->state_size);
    sgru_fpenv_leave(caller);
    sgru_release(&s->taken);
    return status;
}

void sgru_undo(sgru_stream *s) { memcpy(s->state, s->backup, s->model->state_size); }

int sgru_run(sgru_stream *s, size_t frames, const void *const *inputs, void *const *outputs)
{
    if (!s || (!inputs && s->model->n_inputs) || (!outputs && s->model->n_outputs)) return SGRU_E_ARGUMENT;
    return sgru_run_part(s, 0, frames, inputs, outputs);
}

int sgru_step(sgru_stream *s, const void *const *inputs, void *const *outputs)
{
    return sgru_run(s, 1, inputs, outputs);
}

int sgru_step_inplace(sgru_stream *s) { return s ? sgru_run_part(s, 0, 1, NULL, NULL) : SGRU_E_ARGUMENT; }

void *sgru_input(sgru_stream *s, uint32_t i) { return i < s->model->n_inputs ? s->inputs[i].at : NULL; }

void *sgru_output(sgru_stream *s, uint32_t i) { return i < s->model->n_outputs ? s->outputs[i].at : NULL; }

void sgru_stream_use(sgru_stream *s, sgru_workers *workers) { s->workers = workers; }

const char *sgru_stream_isa(const sgru_stream *s) { return s->k->name; }

/* ---- the state ---- */

void sgru_reset_state(const sgru_stream *s, unsigned char *state)
{
    const sgru_model *m = s->model;
    const uint32_t *ids = words_of(m) + header_of(m)->lists + m->n_inputs + m->n_outputs;
    sgru_fpenv caller = sgru_fpenv_enter();
    if (m->state_size) memset(state, 0, m->state_size);
    for (uint32_t i = 0; i < m->n_states; i++) {
        const sgru_tensor_rec *t = tensor_of(m, ids[i]);
        const sgru_port *p = s->states + i;
        if (t->reset == SGRU_NONE) continue;
        const unsigned char *from = m->image + header_of(m)->data + tensor_of(m, t->reset)->offset;
        if (p->floats) s->k->tidy(p->floats, (const float *)from, (float *)(state + t->offset));
        else memcpy(state + t->offset, from, p->bytes);
    }
    sgru_fpenv_leave(caller);
}

int sgru_reset(sgru_stream *s)
{
    if (!s) return SGRU_E_ARGUMENT;
    if (!sgru_claim(&s->taken)) return SGRU_E_BUSY;
    sgru_reset_state(s, s->state);
    sgru_release(&s->taken);
    return SGRU_OK;
}

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

int sgru_save_state(const sgru_model *m, const unsigned char *state, void *blob, size_t size)
{
    if (!blob || size < sgru_save_size(m)) return SGRU_E_ARGUMENT;
    sgru_blob b = blob_of(m, state);
    memcpy(blob, &b, sizeof b);
    memcpy((unsigned char *)blob + sizeof b, state, m->state_size);
    return SGRU_OK;
}

int sgru_load_state(const sgru_stream *s, unsigned char *to, const void *blob, size_t size)
{
    if (!blob || size != sgru_save_size(s->model)) return SGRU_E_STATE;
    const unsigned char *from = (const unsigned char *)blob + sizeof(sgru_blob);
    sgru_blob want = blob_of(s->model, from);
    if (memcmp(blob, &want, sizeof want) != 0) return SGRU_E_STATE;
    memcpy(to, from, s->model->state_size);
    sgru_fpenv caller = sgru_fpenv_enter();
    int status = sgru_settle(s, to);
    sgru_fpenv_leave(caller);
    return status ? SGRU_E_STATE : SGRU_OK;
}

int sgru_save(const sgru_stream *s, void *blob, size_t size)
{
    if (!s) return SGRU_E_ARGUMENT;
    uint32_t *taken = (uint32_t *)&s->taken; /* all that a save writes */
    if (!sgru_claim(taken)) return SGRU_E_BUSY;
    int status = sgru_save_state(s->model, s->state, blob, size);
    sgru_release(taken);
    return status;
}

int sgru_restore(sgru_stream *s, const void *blob, size_t size)
{
    if (!s) return SGRU_E_STATE;
    if (!sgru_claim(&s->taken)) return SGRU_E_BUSY;
    int status = sgru_load_state(s, s->backup, blob, size);
    if (!status) memcpy(s->state, s->backup, s->model->state_size);
    sgru_release(&s->taken);
    return status;
}
