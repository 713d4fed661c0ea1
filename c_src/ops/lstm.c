/* The LSTM operator: one direction of one ONNX LSTM node, with every attribute.
 *
 *     i = f(Wi·x + Ri·h + pi ⊙ c + bi)
 *     f = f(Wf·x + Rf·h + pf ⊙ c + bf)    or, with input_forget,  f = 1 − i
 *     g = g(Wc·x + Rc·h + bc)
 *     c' = f ⊙ c + i ⊙ g
 *     o = f(Wo·x + Ro·h + po ⊙ c' + bo)
 *     h' = o ⊙ h(c')
 *
 * clip bounds what f and g get. It does not bound c' before h: the text of ONNX can be read either way, onnxruntime does not.
 * recurrent.c runs it over time. */
#include "recurrent.h"

enum { R = W + 1, BIAS, PEEPHOLES, LENS, H0, C0, N_IN };
enum { Y, YH, YC, N_OUT };
enum {
    P_C0 = P_CELL,
    P_C0_B,
    P_YC,
    P_YC_B,
    P_INPUT_FORGET,
    P_F,
    P_G = P_F + 3,
    P_H_FUNCTION = P_G + 3,
    P_COUNT = P_H_FUNCTION + 3
};

typedef struct lstm_cell {
    int plain; /* sigmoid, tanh, tanh, and nothing more */
    int input_forget;
    sgru_matrix r;          /* [4H, H] */
    const float *peepholes; /* [3H] for i, o, f, or NULL */
    activation f, g, h;
} lstm_cell;

/* Any LSTM; gates [4H]: the sums for i, o, f, g. */
static void move_on(const recurrent *u, float *gates, float *c, float *h)
{
    const lstm_cell *cell = u->cell;
    const sgru_kernels *k = u->k;
    size_t H = u->H;
    const float *p = cell->peepholes;
    float *i = gates, *o = i + H, *f = o + H, *g = f + H;
    if (p) k->muladd(H, p, c, i, i);
    if (p) k->muladd(H, p + 2 * H, c, f, f);
    activate(u, cell->f, H, i);
    if (cell->input_forget) k->unary(F_AFFINE, -1.0f, 1.0f, H, i, f);
    else activate(u, cell->f, H, f);
    activate(u, cell->g, H, g);
    k->binary(B_MUL, H, i, 1, g, 1, g);
    k->muladd(H, f, c, g, c);
    k->unary(F_SETTLE, 0, 0, H, c, c);
    if (p) k->muladd(H, p + H, c, o, o);
    activate(u, cell->f, H, o);
    k->unary(cell->h.f, cell->h.alpha, cell->h.beta, H, c, h);
    k->binary(B_MUL, H, o, 1, h, 1, h);
    k->unary(F_SETTLE, 0, 0, H, h, h);
}

static void lstm_step(const recurrent *u, float *gx)
{
    const lstm_cell *cell = u->cell;
    size_t H = u->H, G = u->G;
    sgru_multiply(u->s, &cell->r, u->B, gx, G, u->state[0], H, gx, G, u->q);
    for (size_t b = 0; b < u->B; b++) {
        float *i = gx + b * G, *h = u->state[0] + b * H, *c = u->state[1] + b * H;
        if (cell->plain) u->k->lstm_gates(H, i, i + H, i + 2 * H, i + 3 * H, c, h);
        else move_on(u, i, c, h);
    }
}

static const recurrent_kind lstm = {4, 0, BIAS, LENS, 2, {{H0, YH, P_H0, P_YH}, {C0, YC, P_C0, P_YC}}, lstm_step, NULL};

static SGRU_COLD int lstm_check(const sgru_model *m, const sgru_op *op, size_t *scratch)
{
    const uint32_t *p = op->params;
    uint64_t H = p[P_H];
    return is_activation(p[P_F]) && is_activation(p[P_G]) && is_activation(p[P_H_FUNCTION]) && p[P_INPUT_FORGET] <= 1 &&
           is_packed(m, op->in[R], 4 * H, H) && is_optional_weight(m, op->in[PEEPHOLES], 3 * H) &&
           sgru_recurrent_check(m, op, &lstm, scratch);
}

static int lstm_run(const sgru_stream *s, const sgru_op *op, size_t first, size_t frames)
{
    lstm_cell cell = {
        .input_forget = op->params[P_INPUT_FORGET] == 1,
        .r = matrix_of(s, op->in[R]),
        .peepholes = operand(s, op->in[PEEPHOLES], 0),
        .f = activation_at(op, P_F),
        .g = activation_at(op, P_G),
        .h = activation_at(op, P_H_FUNCTION),
    };
    cell.plain = cell.f.f == F_SIGMOID && cell.g.f == F_TANH && cell.h.f == F_TANH && !cell.peepholes &&
                 !cell.input_forget && !(param_f(op, P_CLIP) > 0.0f);
    return sgru_recurrent_run(s, op, &lstm, &cell, first, frames);
}

static int lstm_carries(const sgru_model *m, const sgru_op *op) { return sgru_recurrent_carries(m, op, &lstm); }

static SGRU_COLD uint64_t lstm_work(const sgru_model *m, const sgru_op *op)
{
    (void)m;
    return sgru_recurrent_work(op, &lstm);
}

static SGRU_COLD int lstm_part(const sgru_op *op, uint32_t i, sgru_walk *walk)
{
    return sgru_recurrent_part(op, i, &lstm, walk);
}

const sgru_op_def sgru_op_lstm = {N_IN,         N_OUT,     P_COUNT, lstm_check, lstm_run, SHARES_ANYTHING,
                                  lstm_carries, lstm_work, 0,       lstm_part};
