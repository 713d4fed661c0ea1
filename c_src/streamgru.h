/* streamgru: streaming inference of GRU models, one frame at a time.
 *
 *     sgru_model model;                                      // shared by all streams, never written again
 *     int status = sgru_model_open(&model, image, size);     // image: a .sgru file in memory, 64-byte aligned
 *
 *     size_t need = sgru_stream_size(&model, 1);             // bytes for one stream, blocks of one frame
 *     void *memory = aligned_alloc(64, need);                // yours, anywhere: heap, stack, static
 *     sgru_stream *stream = sgru_stream_init(memory, need, &model, 1, 0);
 *
 *     const void *in[] = {x};                                // one pointer for each input, one frame each
 *     void *out[] = {y};                                     // and one for each output
 *     while (next_frame(x))
 *         status = sgru_step(stream, in, out);               // no allocation, no lock, no system call
 *
 * The library allocates nothing, prints nothing, keeps no globals but the chosen kernels, and gives the same float
 * bits on every machine. It is no training library and it does not read ONNX: `streamgru compile` makes images.
 *
 * Threads: a model may be shared by any number of threads; a stream or pool belongs to one thread at a time. A call that
 * finds another in progress on it returns SGRU_E_BUSY and has done nothing. After fork() the child goes on with copies of its own of
 * what no thread was in.
 *
 * NaN and infinity. A frame that holds one is refused with SGRU_E_NONFINITE before anything is computed. Finite
 * frames can still overflow (weights of 1e38): where that leaves a non-finite number in a state the call fails with the
 * same code. In both cases the state is as it was before the call. With SGRU_PASS_NONFINITE both are let through:
 * sigmoid(-inf, +inf, NaN) = 0, 1, NaN; tanh = -1, 1, NaN; relu and clip keep NaN; sums follow IEEE 754, but those of
 * 8-bit weights are NaN where an input of theirs is not finite; every NaN that reaches an output or a state is written as
 * 0x7FC00000. Subnormal inputs count as zero, and what a GRU, LSTM or RNN keeps below 2^-64 becomes zero. The caller's
 * rounding mode, flush modes and exception flags neither matter nor change. */
#ifndef STREAMGRU_H
#define STREAMGRU_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif
#ifdef SGRU_SHARED /* a shared library, compiled with -fvisibility=hidden, exports what follows */
#pragma GCC visibility push(default)
#endif

#define SGRU_OK 0
#define SGRU_E_ARGUMENT 1  /* a null or misaligned pointer, an index or size out of range */
#define SGRU_E_FORMAT 2    /* not an image, truncated, or contradicting itself */
#define SGRU_E_VERSION 3   /* an image of another version: compile the model again */
#define SGRU_E_CHECKSUM 4  /* the image was altered */
#define SGRU_E_OPERATOR 5  /* an operator this library does not have, or its operands do not fit together */
#define SGRU_E_MEMORY 6    /* the memory given is smaller than sgru_stream_size() */
#define SGRU_E_NONFINITE 7 /* NaN or infinity in a frame or arising in a state; the state is as it was */
#define SGRU_E_INDEX 8     /* an index in the data (an id, a length) is out of range; the state is as it was */
#define SGRU_E_STATE 9     /* a saved state of another model, truncated or altered; the state is as it was */
#define SGRU_E_ISA 10      /* this machine does not have that instruction set */
#define SGRU_E_SLOT 11     /* no open slot of this pool, or one that stands twice in a step; no slot has moved */
#define SGRU_E_BUSY 12     /* another call is in progress on this stream or pool; nothing was done */
#define SGRU_E_WORK 13     /* a step takes more operations than the caller allows, or than can be checked */

#define SGRU_PASS_NONFINITE 1u /* stream flag: let NaN and infinity through; no finite bit changes */

#define SGRU_INPUT 0
#define SGRU_OUTPUT 1
#define SGRU_STATE 2

#define SGRU_F32 1
#define SGRU_I64 2
#define SGRU_I32 3
#define SGRU_BOOL 4

/* An opened image. The members are for reading; the image must outlive the model. */
typedef struct sgru_model {
    const unsigned char *image;
    size_t image_size;
    uint32_t n_inputs, n_outputs, n_states, n_tensors, n_ops;
    uint32_t frame_by_frame;   /* 1: a state is shared by several operators, so blocks run one frame at a time */
    size_t arena_size;         /* bytes of intermediate values for one frame */
    size_t state_size;         /* bytes of recurrent state */
    size_t scratch_size;       /* bytes of working memory inside an operator */
    size_t block_scratch_size; /* ... in streams for blocks of more than one frame */
} sgru_model;

typedef struct sgru_stream sgru_stream;

typedef struct sgru_tensor_info {
    const char *name;
    int32_t dtype; /* SGRU_F32 ... */
    uint32_t rank;
    uint32_t shape[8]; /* of one frame */
    size_t bytes;
} sgru_tensor_info;

/* Checks a whole image and fills *model; the image is used in place. SGRU_OK, _E_ARGUMENT, _E_FORMAT, _E_VERSION,
 * _E_CHECKSUM, _E_OPERATOR, _E_WORK. */
int sgru_model_open(sgru_model *model, const void *image, size_t size);

/* The same, and SGRU_E_WORK where a step would take more than max_ops operations. sgru_model_ops: how many it takes, counted from the
 * shapes alone: multiply-adds and what is computed for each element, whole vectors and calls of kernels included, rather too many
 * than too few. 10^9 take about a second at most, on one core with plain C kernels. */
int sgru_model_open_within(sgru_model *model, const void *image, size_t size, uint64_t max_ops);
uint64_t sgru_model_ops(const sgru_model *model);

/* Describes input, output or state number `index`. SGRU_OK, _E_ARGUMENT. */
int sgru_tensor(const sgru_model *model, int kind, uint32_t index, sgru_tensor_info *info);

/* Bytes of memory for a stream that can run blocks of up to `block` frames (1 or more); 0 if that cannot be addressed. */
size_t sgru_stream_size(const sgru_model *model, size_t block);

/* Makes a stream in the caller's memory (64-byte aligned) with the state at its reset value, on the kernels chosen now.
 * NULL where the memory is misaligned or too small. Nothing to close: forget the memory when done. */
sgru_stream *sgru_stream_init(void *memory, size_t size, const sgru_model *model, size_t block, unsigned flags);

/* One frame: inputs[i] and outputs[i] are contiguous arrays of the tensor's shape. SGRU_OK, _E_NONFINITE, _E_INDEX,
 * _E_BUSY; on an error the state is as it was and the outputs are undefined. */
int sgru_step(sgru_stream *stream, const void *const *inputs, void *const *outputs);

/* `frames` frames, [frames][shape] each: the same bits as so many steps. Errors as sgru_step; the whole run is undone. */
int sgru_run(sgru_stream *stream, size_t frames, const void *const *inputs, void *const *outputs);

/* Zero copy: write the frame to sgru_input(), call sgru_step_inplace(), read sgru_output(). The pointers hold for the
 * stream's life. Subnormals in the input buffer become zero. */
int sgru_step_inplace(sgru_stream *stream);
void *sgru_input(sgru_stream *stream, uint32_t index);  /* NULL where there is no such input */
void *sgru_output(sgru_stream *stream, uint32_t index); /* NULL where there is no such output */

/* Where the time goes: computes one frame from what lies in sgru_input() and writes to ticks[n_ops + 1] what each operator
 * took by the caller's clock, last what a reading of the clock takes, which is part of every other. The state moves on
 * unchecked: a stream to be measured is of no other use. SGRU_OK, _E_ARGUMENT, _E_INDEX, _E_BUSY. */
int sgru_profile(sgru_stream *stream, uint64_t (*clock)(void), uint64_t *ticks);

/* The state: back to its reset value; into a blob; out of a blob saved by any machine from the same image.
 * save: SGRU_OK, _E_ARGUMENT where size is too small. restore: SGRU_OK, _E_STATE. All: _E_BUSY. */
int sgru_reset(sgru_stream *stream);
size_t sgru_save_size(const sgru_model *model);
int sgru_save(const sgru_stream *stream, void *blob, size_t size);
int sgru_restore(sgru_stream *stream, const void *blob, size_t size);

/* Workers, which share the work of a step: each keeps its part of the weights in its own core's cache. The library makes none;
 * threads/threads.h does. run() calls part(work, i) once for each i below n, all at once where it can, and returns when all are done. The
 * bits do not depend on them. sgru_stream_use: NULL for none, which is the default; from one call to the next. */
typedef struct sgru_workers {
    unsigned n;
    void (*run)(struct sgru_workers *workers, void (*part)(void *work, unsigned index), void *work);
} sgru_workers;

void sgru_stream_use(sgru_stream *stream, sgru_workers *workers);

/* A pool: up to `capacity` streams of one model, each in a slot, moved on together. One pass over the weights serves `lanes` of them
 * at a time; the bits are those of single streams, whatever the company. One thread at a time. sgru_pool_size is 0 where the
 * memory cannot be addressed or capacity exceeds 2^24. It has `engines` places where lanes run, for so many workers at most; its tag
 * (below 2^15) makes its slots known from another's. Every call but sgru_pool_open: also SGRU_E_BUSY. */
typedef struct sgru_pool sgru_pool;
typedef uint64_t sgru_slot; /* never 0; below 2^63 in a pool of up to 2^23; none comes back before 2^40 - 1 others */

size_t sgru_pool_size(const sgru_model *model, size_t capacity, size_t lanes, unsigned engines);
sgru_pool *sgru_pool_init(void *memory, size_t size, const sgru_model *model, size_t capacity, size_t lanes,
                          unsigned engines, uint32_t tag, unsigned flags);
int sgru_pool_use(sgru_pool *pool, sgru_workers *workers); /* SGRU_OK, _E_ARGUMENT where they are more than engines */

sgru_slot sgru_pool_open(sgru_pool *pool); /* in the reset state; 0 where the pool is full or busy */
int sgru_pool_close(sgru_pool *pool, sgru_slot slot);

/* One frame for each of n slots, in any order: inputs[i] and outputs[i] are [n][shape]. SGRU_OK, _E_SLOT, _E_NONFINITE, _E_INDEX;
 * on an error no slot has moved, the outputs are undefined, and *bad (may be NULL) is the index of the slot it is about. */
int sgru_pool_step(sgru_pool *pool, size_t n, const sgru_slot *slots, const void *const *inputs, void *const *outputs,
                   size_t *bad);

/* As for a stream; blobs of streams and slots are the same. Also SGRU_E_SLOT. */
int sgru_pool_reset(sgru_pool *pool, sgru_slot slot);
int sgru_pool_save(const sgru_pool *pool, sgru_slot slot, void *blob, size_t size);
int sgru_pool_restore(sgru_pool *pool, sgru_slot slot, const void *blob, size_t size);

/* Instruction sets: the one in use, the i-th that this machine can use (best first, NULL after the last), and a choice by
 * name for streams made from now on (NULL or "": the best). Set it before other threads make streams. SGRU_OK, _E_ISA. */
const char *sgru_isa(void);
const char *sgru_available_isa(unsigned i);
int sgru_set_isa(const char *name);

const char *sgru_stream_isa(const sgru_stream *stream); /* the one this stream was made with */
const char *sgru_strerror(int status);                  /* never NULL */
uint64_t sgru_checksum(const void *data, size_t size);  /* of docs/format.md; size a multiple of 8 */

#ifdef SGRU_SHARED
#pragma GCC visibility pop
#endif
#ifdef __cplusplus
}
#endif
#endif
