/* What model.c, stream.c and the operators share: the image's records, a stream's memory, the operators' table.
 * Not installed, not for users. The image is described in docs/format.md. */
#ifndef SGRU_INTERNAL_H
#define SGRU_INTERNAL_H

#include <string.h>

#include "claim.h"
#include "kernels/kernels.h"
#include "streamgru.h"

#if defined(__FAST_MATH__)
#error "streamgru promises the same bits everywhere: build without -ffast-math"
#endif
#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "images are little-endian and used in place: big-endian machines are not supported"
#endif
#if defined(__FLT_EVAL_METHOD__) && __FLT_EVAL_METHOD__ != 0
#error "floats must be evaluated as floats: on 32-bit x86 build with -msse2 -mfpmath=sse"
#endif

/* Not on a step's way: small rather than fast. */
#ifdef __GNUC__
#define SGRU_COLD __attribute__((cold))
#else
#define SGRU_COLD
#endif

#define SGRU_NONE 0xFFFFFFFFu /* an absent operand */
#define SGRU_MAX_RANK 8
#define SGRU_MAX_ELEMENTS 0x7FFFFFFFu

enum { SGRU_F16 = 5, SGRU_I8 = 6 };
enum { KIND_CONST, KIND_ARENA, KIND_STATE };
enum { LAYOUT_ROWS, LAYOUT_PACKED };

typedef struct sgru_header {
    unsigned char magic[8];
    uint32_t version, flags;
    uint64_t file_size, checksum;
    uint32_t n_tensors, n_ops, n_words, n_inputs, n_outputs, n_states, lists, strings_size;
    uint64_t tensors, ops, words, strings, json, json_size, data, data_size;
} sgru_header;

typedef struct sgru_tensor_rec {
    uint8_t dtype, kind, rank, layout;
    uint32_t name;
    uint64_t offset;
    uint32_t dims[SGRU_MAX_RANK];
    uint32_t reset; /* of a state: the constant it is reset to */
    uint32_t zero[3];
} sgru_tensor_rec;

typedef struct sgru_op_rec {
    uint16_t code, n_in, n_out, n_params;
    uint32_t first, name;
    uint32_t zero[4];
} sgru_op_rec;

/* An operator of the image with its operands looked up. */
typedef struct sgru_op {
    const uint32_t *in, *out;
    const uint32_t *params;
    uint32_t n_in, n_out, n_params, code;
} sgru_op;

/* An input, an output or a state as every call meets it. */
typedef struct sgru_port {
    unsigned char *at; /* in frame 0 */
    size_t step;       /* bytes to the next frame's */
    size_t bytes;
    size_t floats; /* elements to look at; 0 where they are no floats */
} sgru_port;

/* A stream's memory: this struct, the ports (inputs, outputs, states), then the arenas, the state, its backup and the scratch,
 * each on 64 bytes. The frames of a block follow each other in time and have one state; the frames of a pool are lanes, streams
 * side by side, and have a state each. */
struct sgru_stream {
    const sgru_model *model;
    const sgru_kernels *k;
    sgru_workers *workers; /* or NULL */
    const sgru_port *inputs, *outputs, *states;
    unsigned char *arena; /* [block][arena_size] */
    unsigned char *state;
    unsigned char *backup; /* the state as it was when the call began */
    unsigned char *scratch;
    size_t block;
    size_t lane_step; /* bytes from a lane's state to the next; 0: the frames are a block */
    size_t turn;      /* calls so far: operators may walk their weights forwards and backwards in turn */
    unsigned flags;
    uint32_t taken; /* by the call that is in progress (claim.h) */
};

/* Elements of a tensor: every offset + Σ i_k · strides[k] with i_k < dims[k]. */
typedef struct sgru_walk {
    int32_t offset;
    uint32_t rank;
    const uint32_t *dims, *strides;
    uint32_t words[2 * 3]; /* for lists that stand nowhere else */
} sgru_walk;

/* One row of the table of operators. `check` looks at everything `run` will rely on: it is the only thing between a hostile
 * image and memory. It also states the scratch bytes that a run needs: scratch[0] of one frame and, where a block needs more,
 * scratch[1]. `run` handles frame `first` .. `first + frames`. */
typedef struct sgru_op_def {
    uint16_t n_in, n_out;
    uint16_t n_params; /* and, where it has lists of dimensions, their words, which check() counts */
    int (*check)(const sgru_model *m, const sgru_op *op, size_t *scratch);
    int (*run)(const sgru_stream *s, const sgru_op *op, size_t first, size_t frames);
    int shares; /* which bytes an output may have in common with another operand */
    int (*carries)(const sgru_model *m,
                   const sgru_op *op); /* takes its states from frame to frame itself; NULL: never */
    uint64_t (*work)(const sgru_model *m, const sgru_op *op); /* operations of one frame, as sgru_model_ops counts */
    int has_lists;
    int (*part)(const sgru_op *op, uint32_t i, sgru_walk *walk); /* where it reads or writes no more of operand i than
                                                                    this; NULL, or 0: all of it */
} sgru_op_def;

/* None, or the order of an operator's work would show; all of it, element for element; or any. */
enum { SHARES_NOTHING, SHARES_ELEMENTS, SHARES_ANYTHING };

/* The row of an operator code, or NULL (ops/table.c). */
const sgru_op_def *sgru_find_op(uint32_t code);

/* ---- the image ---- */

static inline const sgru_header *header_of(const sgru_model *m) { return (const sgru_header *)m->image; }

static inline const sgru_tensor_rec *tensor_of(const sgru_model *m, uint32_t id)
{
    return (const sgru_tensor_rec *)(m->image + header_of(m)->tensors) + id;
}

static inline const uint32_t *words_of(const sgru_model *m)
{
    return (const uint32_t *)(m->image + header_of(m)->words);
}

static inline sgru_op op_of(const sgru_model *m, uint32_t index)
{
    const sgru_op_rec *rec = (const sgru_op_rec *)(m->image + header_of(m)->ops) + index;
    const uint32_t *words = words_of(m) + rec->first;
    sgru_op op = {words,         words + rec->n_in, words + rec->n_in + rec->n_out, rec->n_in, rec->n_out,
                  rec->n_params, rec->code};
    return op;
}

static inline size_t dtype_size(uint32_t dtype)
{
    static const uint8_t bytes[] = {0, 4, 8, 4, 1, 2, 1};
    return dtype < sizeof bytes ? bytes[dtype] : 0;
}

/* Elements of packed rows; those of 8 bits count their sums and scales as bytes too. */
static inline uint64_t packed_elements(const sgru_tensor_rec *t)
{
    return t->dtype == SGRU_I8 ? sgru_packed_bytes_i8(t->dims[0], t->dims[1])
                               : sgru_packed_count(t->dims[0], t->dims[1]);
}

/* Elements that a tensor stores; model.c has checked that they number at most SGRU_MAX_ELEMENTS. */
static inline size_t count_of(const sgru_tensor_rec *t)
{
    size_t n = 1;
    if (t->layout == LAYOUT_PACKED) return (size_t)packed_elements(t);
    for (uint32_t i = 0; i < t->rank; i++) n *= t->dims[i];
    return n;
}

static inline size_t bytes_of(const sgru_tensor_rec *t) { return count_of(t) * dtype_size(t->dtype); }

static inline size_t round_up(size_t n, size_t to) { return (n + to - 1) / to * to; }

/* memcpy of floats without the call: rows of a small state are a few numbers long. */
static inline void copy_floats(float *to, const float *from, size_t n)
{
    size_t i = 0;
    for (; i + 4 <= n; i += 4) memcpy(to + i, from + i, 4 * sizeof *to);
    for (; i < n; i++) to[i] = from[i];
}

/* ---- parameters ---- */

static inline size_t param(const sgru_op *op, uint32_t i) { return op->params[i]; }
static inline ptrdiff_t param_i(const sgru_op *op, uint32_t i) { return (int32_t)op->params[i]; }
static inline float param_f(const sgru_op *op, uint32_t i)
{
    float f;
    memcpy(&f, &op->params[i], sizeof f);
    return f;
}

/* ---- checks ---- */

/* The operand is there, of this dtype, row-major. */
static inline int is_plain(const sgru_model *m, uint32_t id, uint32_t dtype)
{
    return id != SGRU_NONE && tensor_of(m, id)->dtype == dtype && tensor_of(m, id)->layout == LAYOUT_ROWS;
}

/* ... and stores exactly `count` elements. */
static inline int is_vector(const sgru_model *m, uint32_t id, uint32_t dtype, uint64_t count)
{
    return is_plain(m, id, dtype) && count_of(tensor_of(m, id)) == count;
}

/* The operand is absent or a vector of `count` floats. */
static inline int is_optional(const sgru_model *m, uint32_t id, uint64_t count)
{
    return id == SGRU_NONE || is_vector(m, id, SGRU_F32, count);
}

/* ... a constant: weights, which an operator looks up once for all frames. */
static inline int is_optional_weight(const sgru_model *m, uint32_t id, uint64_t count)
{
    return id == SGRU_NONE || (is_vector(m, id, SGRU_F32, count) && tensor_of(m, id)->kind == KIND_CONST);
}

/* The operand is a constant [rows, columns] matrix of packed rows, in any of their formats. */
static inline int is_packed(const sgru_model *m, uint32_t id, uint64_t rows, uint64_t columns)
{
    if (id == SGRU_NONE) return 0;
    const sgru_tensor_rec *t = tensor_of(m, id);
    return t->kind == KIND_CONST && t->layout == LAYOUT_PACKED && t->dims[0] == rows && t->dims[1] == columns;
}

/* Whether a matrix of 8 bits is what its kernels rely on: weights, sums and scales (ops/matrix.c). */
int sgru_integers_are_sound(const sgru_tensor_rec *t, const void *data);

/* A strided walk of `dims` from `offset` stays inside `count` elements. */
int sgru_walk_fits(uint64_t count, int64_t offset, uint32_t rank, const uint32_t *dims, const uint32_t *strides);

/* The product of dims, or 0 where one is 0 or it exceeds SGRU_MAX_ELEMENTS. */
uint64_t sgru_product(uint32_t rank, const uint32_t *dims);

/* SGRU_OK where every byte of the arena that an operator or the caller reads was written before in the same frame (written.c): then
 * nothing passes through it from frame to frame, or from slot to slot. Else _E_OPERATOR, or _E_WORK where that takes too long to tell. */
int sgru_check_written(const sgru_model *m);

/* A float by its bits, for the checks: the caller may have unmasked traps, which a signalling NaN springs. */
static inline int is_finite_float(uint32_t bits) { return (bits & 0x7F800000u) != 0x7F800000u; }
static inline int is_at_least_zero(uint32_t bits) { return bits <= 0x7F800000u || bits == 0x80000000u; }

/* ---- operands at run time ---- */

/* Bytes, and elements, between one frame of a tensor and the next. */
static inline size_t frame_step(const sgru_stream *s, const sgru_tensor_rec *t)
{
    return t->kind == KIND_ARENA ? s->model->arena_size : t->kind == KIND_STATE ? s->lane_step : 0;
}

static inline size_t frame_stride(const sgru_stream *s, uint32_t id)
{
    const sgru_tensor_rec *t = tensor_of(s->model, id);
    return frame_step(s, t) / dtype_size(t->dtype);
}

static inline void *operand(const sgru_stream *s, uint32_t id, size_t frame)
{
    if (id == SGRU_NONE) return NULL;
    const sgru_tensor_rec *t = tensor_of(s->model, id);
    switch (t->kind) {
    case KIND_ARENA: return s->arena + frame * s->model->arena_size + t->offset;
    case KIND_STATE: return s->state + frame * s->lane_step + t->offset;
    default: return (unsigned char *)s->model->image + header_of(s->model)->data + t->offset;
    }
}

/* ---- a run in parts, for whoever has to look up from a long one ---- */

/* Frames `at` .. `end` of the caller's arrays. The part that begins at 0 begins the run: an error of any part, and sgru_undo(), take
 * the state back to what it was there. sgru_run() is a run of one part. */
int sgru_run_part(sgru_stream *s, size_t at, size_t end, const void *const *inputs, void *const *outputs);
void sgru_undo(sgru_stream *s);

/* ---- what stream.c does for pool.c ---- */

/* A stream of `frames` arenas, `states` states and so much scratch memory: its bytes, 0 where they cannot be addressed, and its layout
 * in memory. lane_step as above. */
size_t sgru_engine_size(const sgru_model *m, size_t frames, size_t states, size_t scratch);
sgru_stream *sgru_engine_init(void *memory, const sgru_model *m, size_t frames, size_t states, size_t lane_step,
                              unsigned flags);

/* The parts of a call: frame number `at` of the caller's arrays (NULL: where it lies) into an arena; all operators; the states after
 * them; the outputs of an arena to the caller's. SGRU_OK, _E_NONFINITE, _E_INDEX. */
int sgru_take_frame(const sgru_stream *s, size_t frame, const void *const *inputs, size_t at);
int sgru_run_ops(const sgru_stream *s, size_t first, size_t frames);
int sgru_settle(const sgru_stream *s, unsigned char *state);
void sgru_give_frame(const sgru_stream *s, size_t frame, void *const *outputs, size_t at);

/* One whole state: to its reset value; into a blob; out of a blob into `to`, checked (what was there is lost on an error). */
void sgru_reset_state(const sgru_stream *s, unsigned char *state);
int sgru_save_state(const sgru_model *m, const unsigned char *state, void *blob, size_t size);
int sgru_load_state(const sgru_stream *s, unsigned char *to, const void *blob, size_t size);

#endif
