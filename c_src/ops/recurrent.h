/* What GRU, LSTM and RNN have in common: one direction of one ONNX node over [T, B, I]. Here are the operands every cell has, their
 * checks, the sums over x, the order of the steps, sequence_lens, and the state on its way from frame to frame. A cell adds
 * its own weights and its step.
 *
 * W·x is computed for a run of steps at once; it is the beginning of each row's chain, so the bits are those of single steps.
 * The frames of a block are steps too, where the state is carried from one to the next. */
#ifndef SGRU_RECURRENT_H
#define SGRU_RECURRENT_H

#include "matrix.h"
#include "ops.h"

/* Parameters of every cell; its own begin at P_CELL. An offset is followed by its strides. */
enum {
    P_T,
    P_B,
    P_I,
    P_H,
    P_REVERSE,
    P_X,
    P_X_T,
    P_X_B,
    P_Y,
    P_Y_T,
    P_Y_B,
    P_H0,
    P_H0_B,
    P_YH,
    P_YH_B,
    P_CLIP,
    P_CELL
};

enum { X, W }; /* the first inputs of every cell; output 0 is Y */
enum { MOST_STATES = 2 };

typedef struct recurrent recurrent;

/* A state [B, H]: the input it comes from and the output it goes to, each with the parameter of its offset. */
typedef struct recurrent_state {
    uint32_t in, out, from, to;
} recurrent_state;

typedef struct recurrent_kind {
    uint32_t gates;      /* rows of W, in units of H */
    uint32_t sums;       /* working memory, in units of [B][H] floats */
    uint32_t bias, lens; /* which inputs these are; all from W to below bias are matrices */
    uint32_t n_states;   /* h comes first */
    recurrent_state states[MOST_STATES];
    void (*step)(const recurrent *u, float *gx); /* gx: this step's [B][G], W·x + bias; moves the states on */
    int (*single)(const recurrent *u);           /* one step of one sequence, W·x included; 0: it has no better way */
} recurrent_kind;

/* Where everything is while the operator runs. */
struct recurrent {
    const sgru_stream *s;
    const sgru_kernels *k;
    const recurrent_kind *kind;
    const void *cell;        /* what `step` adds */
    size_t T, B, I, H, G;    /* G = gates · H */
    int reverse, descending; /* time runs backwards; the weights are to be walked backwards */
    int refuse;              /* every step ends a frame: end with an error where a state is not finite */
    float clip;
    sgru_matrix w;     /* [G, I] */
    const float *bias; /* [G] */
    void *q;           /* the working memory of products */
    const int32_t *lens;
    const float *x; /* [T][B][I] with strides x_t, x_b */
    float *y;       /* [T][B][H] with strides y_t, y_b, or NULL */
    ptrdiff_t x_t, x_b, y_t, y_b;
    const float
        *from[MOST_STATES]; /* the states where they come from, zeros where NULL, and where they go to, or NULL */
    float *to[MOST_STATES];
    ptrdiff_t from_b[MOST_STATES], to_b[MOST_STATES];
    float *state[MOST_STATES]; /* [B][H] while the steps run */
    float *sums;               /* [kind.sums][B][H] */
    float *gx;                 /* [steps][B][G] */
};

/* A function of one element with its parameters, three words from parameter `at` on. */
typedef struct activation {
    unsigned f;
    float alpha, beta;
} activation;

static inline activation activation_at(const sgru_op *op, uint32_t at)
{
    return (activation){op->params[at], param_f(op, at + 1), param_f(op, at + 2)};
}

/* v = f(v), v bounded by clip before. */
static inline void activate(const recurrent *u, activation a, size_t n, float *v)
{
    if (u->clip > 0.0f) u->k->unary(F_CLIP, -u->clip, u->clip, n, v, v);
    u->k->unary(a.f, a.alpha, a.beta, n, v, v);
}

/* Everything but the cell's own weights and parameters. */
int sgru_recurrent_check(const sgru_model *m, const sgru_op *op, const recurrent_kind *kind, size_t *scratch);

int sgru_recurrent_carries(const sgru_model *m, const sgru_op *op, const recurrent_kind *kind);

/* Operations of T steps, and the parts of x, y and the states that they read and write. */
uint64_t sgru_recurrent_work(const sgru_op *op, const recurrent_kind *kind);
int sgru_recurrent_part(const sgru_op *op, uint32_t i, const recurrent_kind *kind, sgru_walk *walk);

int sgru_recurrent_run(const sgru_stream *s, const sgru_op *op, const recurrent_kind *kind, const void *cell,
                       size_t first, size_t frames);

#endif
