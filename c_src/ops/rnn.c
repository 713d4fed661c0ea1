/* The RNN operator: one direction of one ONNX RNN node, with every attribute: h' = f(W·x + R·h + b). recurrent.c runs it over
 * time. */
#include "recurrent.h"

enum { R = W + 1, BIAS, LENS, H0, N_IN };
enum { Y, YH, N_OUT };
enum { P_F = P_CELL, P_COUNT = P_F + 3 };

typedef struct rnn_cell {
    sgru_matrix r; /* [H, H] */
    activation f;
} rnn_cell;

static void rnn_step(const recurrent *u, float *gx)
{
    const rnn_cell *cell = u->cell;
    size_t H = u->H;
    sgru_multiply(u->s, &cell->r, u->B, gx, H, u->state[0], H, gx, H, u->q);
    activate(u, cell->f, u->B * H, gx);
    u->k->unary(F_SETTLE, 0, 0, u->B * H, gx, u->state[0]);
}

static const recurrent_kind rnn = {1, 0, BIAS, LENS, 1, {{H0, YH, P_H0, P_YH}}, rnn_step, NULL};

static SGRU_COLD int rnn_check(const sgru_model *m, const sgru_op *op, size_t *scratch)
{
    return is_activation(op->params[P_F]) && is_packed(m, op->in[R], op->params[P_H], op->params[P_H]) &&
           sgru_recurrent_check(m, op, &rnn, scratch);
}

static int rnn_run(const sgru_stream *s, const sgru_op *op, size_t first, size_t frames)
{
    rnn_cell cell = {matrix_of(s, op->in[R]), activation_at(op, P_F)};
    return sgru_recurrent_run(s, op, &rnn, &cell, first, frames);
}

static int rnn_carries(const sgru_model *m, const sgru_op *op) { return sgru_recurrent_carries(m, op, &rnn); }

static SGRU_COLD uint64_t rnn_work(const sgru_model *m, const sgru_op *op)
{
    (void)m;
    return sgru_recurrent_work(op, &rnn);
}

static SGRU_COLD int rnn_part(const sgru_op *op, uint32_t i, sgru_walk *walk)
{
    return sgru_recurrent_part(op, i, &rnn, walk);
}

const sgru_op_def sgru_op_rnn = {N_IN,        N_OUT,    P_COUNT, rnn_check, rnn_run, SHARES_ANYTHING,
                                 rnn_carries, rnn_work, 0,       rnn_part};
