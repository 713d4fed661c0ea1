/* The GRU operator: one direction of one ONNX GRU node, with every attribute.
 *
 *     z = f(Wz·x + Rz·h + bz)    r = f(Wr·x + Rr·h + br)
 *     linear_before_reset = 1:  n = g(Wn·x + bWn + r ⊙ (Rn·h + bRn))
 *     linear_before_reset = 0:  n = g(Wn·x + bn + Rn·(r ⊙ h))
 *     h' = (1 − z) ⊙ n + z ⊙ h
 *
 * recurrent.c runs it over time. */
#include "recurrent.h"

enum { R = W + 1, RN, BIAS_X, BIAS_H, LENS, H0, N_IN };
enum { Y, YH, N_OUT };
enum { P_LBR = P_CELL, P_F, P_G = P_F + 3, P_COUNT = P_G + 3 };

enum { SINGLE_PASS_FLOATS = 8192 };

typedef struct gru_cell {
    int plain;          /* sigmoid and tanh, no clip, linear before reset */
    sgru_matrix r, r_n; /* [3H, H], none; or [2H, H], [H, H] */
    const float *bias_h;
    activation f, g;
} gru_cell;

/* From the sums to h', where the reset is applied to nh = Rn·h + bRn. zr: [2H], z then r. */
static void finish(const recurrent *u, float *zr, float *nx, const float *nh, float *h)
{
    const gru_cell *cell = u->cell;
    size_t H = u->H;
    if (cell->plain) {
        u->k->gru_gates(H, zr, zr + H, nx, nh, h, h);
        return;
    }
    activate(u, cell->f, 2 * H, zr);
    u->k->muladd(H, zr + H, nh, nx, nx);
    activate(u, cell->g, H, nx);
    u->k->gru_blend(H, zr, nx, h, h);
}

/* r ⊙ (Rn·h + bRn) inside the candidate. */
static void step_linear_before_reset(const recurrent *u, float *gx)
{
    const gru_cell *cell = u->cell;
    size_t H = u->H, G = u->G;
    for (size_t b = 0; b < u->B; b++) {
        copy_floats(u->sums + b * G, gx + b * G, 2 * H);
        if (cell->bias_h) copy_floats(u->sums + b * G + 2 * H, cell->bias_h, H);
        else memset(u->sums + b * G + 2 * H, 0, H * sizeof(float));
    }
    sgru_multiply(u->k, &cell->r, u->B, u->sums, G, u->state[0], H, u->sums, G, u->q);
    for (size_t b = 0; b < u->B; b++) {
        float *zr = u->sums + b * G;
        finish(u, zr, gx + b * G + 2 * H, zr + 2 * H, u->state[0] + b * H);
    }
}

/* gru_sums of kernels.h with weights of 8 bits: z, r and nx to gx, nh to sums. A gate has both its products one after the other, so
 * that what one step read last the next reads first. */
static void sum_integers(const recurrent *u)
{
    const gru_cell *cell = u->cell;
    const sgru_kernels *k = u->k;
    size_t H = u->H, I = u->I, w_gate = H / 16 * sgru_block_step_i8(I), r_gate = H / 16 * sgru_block_step_i8(H);
    uint8_t *x = u->q, *h = x + sgru_q_step(I);
    k->quantise(I, 1, u->x, I, x);
    k->quantise(H, 1, u->state[0], H, h);
    for (size_t i = 0; i < 3; i++) {
        size_t gate = u->descending ? 2 - i : i;
        float *over_x = u->gx + gate * H, *over_h = gate < 2 ? over_x : u->sums;
        k->affine_i8(H, I, 1, (const int8_t *)u->w.data + gate * w_gate, u->bias ? u->bias + gate * H : NULL, 0, x,
                     over_x, 0);
        k->affine_i8(H, H, 1, (const int8_t *)cell->r.data + gate * r_gate, gate < 2 ? over_x : cell->bias_h, 0, h,
                     over_h, 0);
    }
}

/* The same for one step of one sequence whose weights do not stay in the L1 cache: W·x and R·h in one pass. */
static int step_single(const recurrent *u)
{
    const gru_cell *cell = u->cell;
    if (cell->r_n.data || u->H % 16 != 0 || u->G * (u->I + u->H) < SINGLE_PASS_FLOATS) return 0;
    if (u->w.dtype == SGRU_I8 && cell->r.dtype == SGRU_I8) sum_integers(u);
    else if (u->w.dtype != SGRU_F32 || cell->r.dtype != SGRU_F32) return 0;
    else
        u->k->gru_sums(u->H, u->I, u->w.data, cell->r.data, u->bias, cell->bias_h, u->x, u->state[0], u->gx, u->sums,
                       u->descending);
    finish(u, u->gx, u->gx + 2 * u->H, u->sums, u->state[0]);
    return 1;
}

/* Rn·(r ⊙ h) inside the candidate. */
static void step_reset_first(const recurrent *u, float *gx)
{
    const gru_cell *cell = u->cell;
    size_t H = u->H, G = u->G;
    float *n = gx + 2 * H;
    sgru_multiply(u->k, &cell->r, u->B, gx, G, u->state[0], H, u->sums, G, u->q);
    for (size_t b = 0; b < u->B; b++) {
        float *z = u->sums + b * G, *r = z + H, *rh = z + 2 * H;
        activate(u, cell->f, 2 * H, z);
        u->k->binary(B_MUL, H, r, 1, u->state[0] + b * H, 1, rh);
    }
    sgru_multiply(u->k, &cell->r_n, u->B, n, G, u->sums + 2 * H, G, n, G, u->q);
    for (size_t b = 0; b < u->B; b++) {
        float *h = u->state[0] + b * H;
        activate(u, cell->g, H, n + b * G);
        u->k->gru_blend(H, u->sums + b * G, n + b * G, h, h);
    }
}

static void gru_step(const recurrent *u, float *gx)
{
    if (((const gru_cell *)u->cell)->r_n.data) step_reset_first(u, gx);
    else step_linear_before_reset(u, gx);
}

static const recurrent_kind gru = {3, 3, BIAS_X, LENS, 1, {{H0, YH, P_H0, P_YH}}, gru_step, step_single};

static int gru_check(const sgru_model *m, const sgru_op *op, size_t *scratch)
{
    uint64_t H = op->params[P_H];
    int lbr = op->params[P_LBR] == 1;
    if (!is_activation(op->params[P_F]) || !is_activation(op->params[P_G]) || op->params[P_LBR] > 1) return 0;
    if (!is_packed(m, op->in[R], (lbr ? 3 : 2) * H, H)) return 0;
    if (lbr ? op->in[RN] != SGRU_NONE : !is_packed(m, op->in[RN], H, H)) return 0;
    return (lbr ? is_optional_weight(m, op->in[BIAS_H], H) : op->in[BIAS_H] == SGRU_NONE) &&
           sgru_recurrent_check(m, op, &gru, scratch);
}

static int gru_run(const sgru_stream *s, const sgru_op *op, size_t first, size_t frames)
{
    gru_cell cell = {
        .r = matrix_of(s, op->in[R]),
        .r_n = matrix_of(s, op->in[RN]),
        .bias_h = operand(s, op->in[BIAS_H], 0),
        .f = activation_at(op, P_F),
        .g = activation_at(op, P_G),
    };
    cell.plain = !cell.r_n.data && cell.f.f == F_SIGMOID && cell.g.f == F_TANH && !(param_f(op, P_CLIP) > 0.0f);
    return sgru_recurrent_run(s, op, &gru, &cell, first, frames);
}

static int gru_carries(const sgru_model *m, const sgru_op *op) { return sgru_recurrent_carries(m, op, &gru); }

const sgru_op_def sgru_op_gru = {N_IN, N_OUT, P_COUNT, gru_check, gru_run, SHARES_ANYTHING, gru_carries};
