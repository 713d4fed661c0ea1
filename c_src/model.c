/* Opens an image: checks every number in it before anything relies on it, and copies nothing. This is the security border:
 * after sgru_model_open() a step can read and write only what its shapes say. docs/format.md describes the image. */
#include "internal.h"

#define HEADER_SIZE 128
#define MAX_TENSORS (1u << 20)       /* and operators; lists are no longer: sizes of all tables fit 32 bits */
#define MAX_AREA ((uint64_t)1 << 40) /* bytes of arena or state: offsets can be added without care */

static const unsigned char magic[8] = {'S', 'G', 'R', 'U', '\r', '\n', 0x1A, '\n'};

uint64_t sgru_checksum(const void *data, size_t size)
{
    const unsigned char *p = data;
    uint64_t sum = 0x53475255u, word;
    for (size_t i = 0; i + 8 <= size; i += 8) {
        memcpy(&word, p + i, 8);
        sum = (sum ^ word) * 0x9E3779B97F4A7C15u;
        sum ^= sum >> 32;
    }
    return sum;
}

uint64_t sgru_product(uint32_t rank, const uint32_t *dims)
{
    uint64_t n = 1;
    for (uint32_t i = 0; i < rank; i++) {
        n *= dims[i];
        if (n == 0 || n > SGRU_MAX_ELEMENTS) return 0;
    }
    return n;
}

int sgru_walk_fits(uint64_t count, int64_t offset, uint32_t rank, const uint32_t *dims, const uint32_t *strides)
{
    int64_t low = offset, high = offset;
    if (!sgru_product(rank, dims)) return 0;
    for (uint32_t i = 0; i < rank; i++) {
        int64_t reach = (int64_t)(dims[i] - 1) * (int32_t)strides[i];
        if (reach < 0) low += reach;
        else high += reach;
    }
    return low >= 0 && high < (int64_t)count;
}

static SGRU_COLD int section_fits(const sgru_header *h, uint64_t offset, uint64_t size)
{
    return offset % 64 == 0 && offset >= HEADER_SIZE && offset <= h->file_size && size <= h->file_size - offset;
}

static SGRU_COLD int check_header(const sgru_header *h, size_t size)
{
    if (size < HEADER_SIZE || memcmp(h->magic, magic, 8) != 0) return SGRU_E_FORMAT;
    if (h->version != 1) return SGRU_E_VERSION;
    if (h->flags != 0 || h->file_size != size || size % 64 != 0) return SGRU_E_FORMAT;
    if (sgru_checksum((const unsigned char *)h + 32, size - 32) != h->checksum) return SGRU_E_CHECKSUM;
    if (h->n_tensors > MAX_TENSORS || h->n_ops > MAX_TENSORS || h->strings_size == 0) return SGRU_E_FORMAT;
    if (!section_fits(h, h->tensors, (uint64_t)h->n_tensors * sizeof(sgru_tensor_rec)) ||
        !section_fits(h, h->ops, (uint64_t)h->n_ops * sizeof(sgru_op_rec)) ||
        !section_fits(h, h->words, (uint64_t)h->n_words * 4) || !section_fits(h, h->strings, h->strings_size) ||
        !section_fits(h, h->json, h->json_size) || !section_fits(h, h->data, h->data_size))
        return SGRU_E_FORMAT;
    if (h->n_inputs > h->n_tensors || h->n_outputs > h->n_tensors || h->n_states > h->n_tensors) return SGRU_E_FORMAT;
    const char *strings = (const char *)h + h->strings;
    return strings[0] == 0 && strings[h->strings_size - 1] == 0 ? SGRU_OK : SGRU_E_FORMAT;
}

static int is_weight_dtype(uint32_t dtype) { return dtype == SGRU_F32 || dtype == SGRU_F16 || dtype == SGRU_I8; }

/* What an image leaves free today may mean something in another version. */
static SGRU_COLD int is_blank(const uint32_t *words, uint32_t n)
{
    while (n && !words[n - 1]) n--;
    return n == 0;
}

static SGRU_COLD int check_tensor(sgru_model *m, const sgru_tensor_rec *t)
{
    const sgru_header *h = header_of(m);
    if (!dtype_size(t->dtype) || t->kind > KIND_STATE || t->rank > SGRU_MAX_RANK || t->layout > LAYOUT_PACKED) return 0;
    if (t->layout == LAYOUT_PACKED && (t->rank != 2 || t->kind != KIND_CONST || !is_weight_dtype(t->dtype))) return 0;
    uint64_t count = t->layout == LAYOUT_PACKED ? packed_elements(t) : sgru_product(t->rank, t->dims);
    if (t->name >= h->strings_size || !sgru_product(t->rank, t->dims) || count > SGRU_MAX_ELEMENTS) return 0;
    if (t->offset > MAX_AREA || t->offset % dtype_size(t->dtype) != 0 || !is_blank(t->zero, 3)) return 0;
    for (uint32_t i = t->rank; i < SGRU_MAX_RANK; i++)
        if (t->dims[i] != 1) return 0;
    uint64_t end = t->offset + count * dtype_size(t->dtype); /* where size_t has 32 bits, bytes_of() relies on this */
    if (t->kind == KIND_CONST) return t->offset % 64 == 0 && end <= h->data_size;
    size_t *area = t->kind == KIND_ARENA ? &m->arena_size : &m->state_size;
    if (end > MAX_AREA || end > SIZE_MAX / 4) return 0;
    if (*area < round_up((size_t)end, 64)) *area = round_up((size_t)end, 64);
    return 1;
}

/* Matrices of 8 bits are read as a whole, so they lie in the order of their records and apart: all of it is one pass over the data. */
static SGRU_COLD int check_integers(const sgru_model *m)
{
    uint64_t end = 0;
    for (uint32_t i = 0; i < m->n_tensors; i++) {
        const sgru_tensor_rec *t = tensor_of(m, i);
        if (t->layout != LAYOUT_PACKED || t->dtype != SGRU_I8) continue;
        if (t->offset < end || !sgru_integers_are_sound(t, m->image + header_of(m)->data + t->offset)) return 0;
        end = t->offset + bytes_of(t);
    }
    return 1;
}

/* A state's reset value: a constant of the same dtype and count. */
static SGRU_COLD int check_reset(const sgru_model *m, const sgru_tensor_rec *t)
{
    if (t->reset == SGRU_NONE) return 1;
    if (t->kind != KIND_STATE || t->reset >= m->n_tensors) return 0;
    const sgru_tensor_rec *value = tensor_of(m, t->reset);
    return value->kind == KIND_CONST && value->dtype == t->dtype && value->layout == t->layout &&
           count_of(value) == count_of(t);
}

static SGRU_COLD int check_list(const sgru_model *m, const uint32_t *ids, uint32_t n, int kind)
{
    for (uint32_t i = 0; i < n; i++)
        if (ids[i] >= m->n_tensors || tensor_of(m, ids[i])->kind != kind) return 0;
    return 1;
}

/* The listed states lie one after the other, and every other state tensor inside of one, of its dtype: what a call looks at and takes
 * back is all of the state. */
static SGRU_COLD int check_states(const sgru_model *m, const uint32_t *ids, uint32_t n)
{
    size_t end = 0;
    for (uint32_t i = 0; i < n; i++) {
        const sgru_tensor_rec *t = tensor_of(m, ids[i]);
        if (t->offset != end) return 0;
        end = round_up(end + bytes_of(t), 64);
    }
    for (uint32_t i = 0; i < m->n_tensors; i++) {
        const sgru_tensor_rec *t = tensor_of(m, i), *in;
        uint32_t low = 0, high = n; /* the last listed state that begins at or before t is low */
        if (t->kind != KIND_STATE) continue;
        if (n == 0) return 0;
        while (high - low > 1) {
            uint32_t middle = low + (high - low) / 2;
            if (tensor_of(m, ids[middle])->offset <= t->offset) low = middle;
            else high = middle;
        }
        in = tensor_of(m, ids[low]);
        if (t->dtype != in->dtype || t->offset + bytes_of(t) > in->offset + bytes_of(in)) return 0;
    }
    return 1;
}

/* Ids are known, or absent (the operator's own check decides whether it may be); outputs can be written. */
static SGRU_COLD int check_ids(const sgru_model *m, const sgru_op *op)
{
    for (uint32_t i = 0; i < op->n_in + op->n_out; i++) {
        if (op->in[i] == SGRU_NONE) continue;
        if (op->in[i] >= m->n_tensors) return 0;
        if (i >= op->n_in && tensor_of(m, op->in[i])->kind == KIND_CONST) return 0;
    }
    return 1;
}

static SGRU_COLD int overlap(const sgru_tensor_rec *a, const sgru_tensor_rec *b)
{
    return a->kind == b->kind && a->offset < b->offset + bytes_of(b) && b->offset < a->offset + bytes_of(a);
}

/* No output has bytes of another operand, but as far as the operator's kind allows it. */
static SGRU_COLD int check_shares(const sgru_model *m, const sgru_op *op, int shares)
{
    for (uint32_t o = op->n_in; o < op->n_in + op->n_out && shares != SHARES_ANYTHING; o++)
        for (uint32_t i = 0; i < o; i++) {
            if (op->in[o] == SGRU_NONE || op->in[i] == SGRU_NONE) continue;
            const sgru_tensor_rec *y = tensor_of(m, op->in[o]), *x = tensor_of(m, op->in[i]);
            if (!overlap(x, y)) continue;
            if (shares == SHARES_NOTHING || x->offset != y->offset || bytes_of(x) != bytes_of(y)) return 0;
        }
    return 1;
}

static SGRU_COLD int check_op(sgru_model *m, uint32_t index)
{
    const sgru_header *h = header_of(m);
    const sgru_op_rec *rec = (const sgru_op_rec *)(m->image + h->ops) + index;
    uint64_t words = (uint64_t)rec->n_in + rec->n_out + rec->n_params;
    if (rec->first > h->n_words || words > h->n_words - rec->first || rec->name >= h->strings_size ||
        !is_blank(rec->zero, 4))
        return SGRU_E_FORMAT;
    sgru_op op = op_of(m, index);
    const sgru_op_def *def = sgru_find_op(rec->code);
    if (!def || rec->n_in != def->n_in || rec->n_out != def->n_out || rec->n_params < def->n_params ||
        (rec->n_params > def->n_params && !def->has_lists))
        return SGRU_E_OPERATOR;
    if (!check_ids(m, &op)) return SGRU_E_FORMAT;
    size_t scratch[2] = {0, 0};
    if (!def->check(m, &op, scratch) || !check_shares(m, &op, def->shares)) return SGRU_E_OPERATOR;
    if (scratch[1] < scratch[0]) scratch[1] = scratch[0];
    if (m->scratch_size < round_up(scratch[0], 64)) m->scratch_size = round_up(scratch[0], 64);
    if (m->block_scratch_size < round_up(scratch[1], 64)) m->block_scratch_size = round_up(scratch[1], 64);
    return SGRU_OK;
}

/* Whether an operator writes a state that must be looked at after each frame. Then a block cannot run operator by operator. */
static SGRU_COLD int moves_state(const sgru_model *m, const sgru_op *op)
{
    const sgru_op_def *def = sgru_find_op(op->code);
    if (def->carries && def->carries(m, op)) return 0;
    for (uint32_t i = 0; i < op->n_out; i++)
        if (op->out[i] != SGRU_NONE && tensor_of(m, op->out[i])->kind == KIND_STATE) return 1;
    return 0;
}

/* ... or whether two different operators touch the same bytes of state. */
static SGRU_COLD int states_are_shared(const sgru_model *m)
{
    enum { MOST = 64 };
    struct {
        const sgru_tensor_rec *tensor;
        uint32_t op;
    } seen[MOST];
    uint32_t n = 0;
    for (uint32_t i = 0; i < m->n_ops; i++) {
        sgru_op op = op_of(m, i);
        if (moves_state(m, &op)) return 1;
        for (uint32_t j = 0; j < op.n_in + op.n_out; j++) {
            if (op.in[j] == SGRU_NONE || tensor_of(m, op.in[j])->kind != KIND_STATE) continue;
            for (uint32_t s = 0; s < n; s++)
                if (seen[s].op != i && overlap(seen[s].tensor, tensor_of(m, op.in[j]))) return 1;
            if (n == MOST) return 1;
            seen[n].tensor = tensor_of(m, op.in[j]);
            seen[n++].op = i;
        }
    }
    return 0;
}

static SGRU_COLD uint64_t work_of(const sgru_model *m, uint32_t index)
{
    sgru_op op = op_of(m, index);
    return sgru_find_op(op.code)->work(m, &op);
}

/* The operators, which are not to take more than `left` operations. */
static SGRU_COLD int check_ops(sgru_model *m, uint64_t left)
{
    for (uint32_t i = 0; i < m->n_ops; i++) {
        int status = check_op(m, i);
        if (status) return status;
        uint64_t work = work_of(m, i);
        if (work > left) return SGRU_E_WORK;
        left -= work;
    }
    return sgru_check_written(m);
}

uint64_t sgru_model_ops(const sgru_model *m)
{
    uint64_t all = 0;
    for (uint32_t i = 0; m && i < m->n_ops; i++) {
        uint64_t work = work_of(m, i);
        all = work > UINT64_MAX - all ? UINT64_MAX : all + work;
    }
    return all;
}

static SGRU_COLD int check_contents(sgru_model *m, uint64_t max_ops)
{
    const sgru_header *h = header_of(m);
    for (uint32_t i = 0; i < m->n_tensors; i++)
        if (!check_tensor(m, tensor_of(m, i))) return SGRU_E_FORMAT;
    if (!check_integers(m)) return SGRU_E_FORMAT;
    for (uint32_t i = 0; i < m->n_tensors; i++)
        if (!check_reset(m, tensor_of(m, i))) return SGRU_E_FORMAT;
    uint64_t listed = (uint64_t)h->n_inputs + h->n_outputs + h->n_states;
    if (h->lists > h->n_words || listed > h->n_words - h->lists) return SGRU_E_FORMAT;
    const uint32_t *ids = words_of(m) + h->lists;
    if (!check_list(m, ids, h->n_inputs, KIND_ARENA) || !check_list(m, ids + h->n_inputs, h->n_outputs, KIND_ARENA) ||
        !check_list(m, ids + h->n_inputs + h->n_outputs, h->n_states, KIND_STATE) ||
        !check_states(m, ids + h->n_inputs + h->n_outputs, h->n_states))
        return SGRU_E_FORMAT;
    return check_ops(m, max_ops);
}

int sgru_model_open(sgru_model *model, const void *image, size_t size)
{
    return sgru_model_open_within(model, image, size, UINT64_MAX);
}

int sgru_model_open_within(sgru_model *model, const void *image, size_t size, uint64_t max_ops)
{
    if (!model || !image || (uintptr_t)image % 64 != 0) return SGRU_E_ARGUMENT;
    int status = check_header(image, size);
    if (status) return status;
    const sgru_header *h = image;
    sgru_model m = {.image = image,
                    .image_size = size,
                    .n_inputs = h->n_inputs,
                    .n_outputs = h->n_outputs,
                    .n_states = h->n_states,
                    .n_tensors = h->n_tensors,
                    .n_ops = h->n_ops};
    status = check_contents(&m, max_ops);
    if (status) return status;
    m.frame_by_frame = (uint32_t)states_are_shared(&m);
    *model = m;
    return SGRU_OK;
}

int sgru_tensor(const sgru_model *m, int kind, uint32_t index, sgru_tensor_info *info)
{
    if (!m || !info || kind < SGRU_INPUT || kind > SGRU_STATE) return SGRU_E_ARGUMENT;
    const sgru_header *h = header_of(m);
    const uint32_t counts[] = {h->n_inputs, h->n_outputs, h->n_states};
    const uint32_t starts[] = {0, h->n_inputs, h->n_inputs + h->n_outputs};
    if (index >= counts[kind]) return SGRU_E_ARGUMENT;
    const sgru_tensor_rec *t = tensor_of(m, words_of(m)[h->lists + starts[kind] + index]);
    info->name = (const char *)m->image + h->strings + t->name;
    info->dtype = t->dtype;
    info->rank = t->rank;
    for (int i = 0; i < SGRU_MAX_RANK; i++) info->shape[i] = t->dims[i];
    info->bytes = bytes_of(t);
    return SGRU_OK;
}

const char *sgru_strerror(int status)
{
    static const char *const texts[] = {
        "ok",
        "a null or misaligned pointer, or an index or size out of range",
        "not a .sgru image, truncated, or contradicting itself",
        "an image of another version: compile the model again with this release",
        "the image was altered: its checksum does not match",
        "an operator this library does not have, or its operands do not fit together",
        "the memory given is smaller than sgru_stream_size()",
        "NaN or infinity in a frame, or arising in a state; the state is as it was",
        "an index in the data is out of range; the state is as it was",
        "a saved state of another model, truncated or altered; the state is as it was",
        "this machine does not have that instruction set",
        "no open slot of this pool, or one that stands twice in a step; no slot has moved",
        "another call is in progress on this stream or pool: one thread at a time",
        "a step takes more operations than the caller allows, or reads and writes too much to be checked",
    };
    return status >= 0 && (size_t)status < sizeof texts / sizeof *texts ? texts[status] : "unknown status";
}
