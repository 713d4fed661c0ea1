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
    sgru_multiply(u->s, &cell->r, u->B, u->sums, G, u->state[0], H, u->sums, G, u->q);
    for (size_t b = 0; b < u->B; b++) {
        float *zr = u->sums + b * G;
        finish(u, zr, gx + b * G + 2 * H, zr + 2 * H, u->state[0] + b * H);
    }
}

/* One step of one sequence, its rows shared out: a part has the same rows of each gate. */
typedef struct shared_sums {
    const recurrent *u;
    unsigned parts;
} shared_sums;

/* gru_sums of kernels.h for one part: z, r and nx to gx, nh to sums. A gate has both its products one after the other, so that what one
 * step read last the next reads first. */
static void sum_part(void *work, unsigned i)
{
    const shared_sums *shared = work;
    const recurrent *u = shared->u;
    const gru_cell *cell = u->cell;
    size_t H = u->H, blocks = H / 16, first = blocks * i / shared->parts, end = blocks * (i + 1) / shared->parts;
    const uint8_t *q_x = u->q, *q_h = q_x + sgru_q_step(u->I);
    if (first == end) return;
    sgru_fpenv caller = sgru_fpenv_enter();
    for (size_t g = 0; g < 3; g++) {
        size_t gate = u->descending ? 2 - g : g, row = gate * H + first * 16;
        sgru_matrix w = sgru_rows(&u->w, gate * blocks + first, gate * blocks + end);
        sgru_matrix r = sgru_rows(&cell->r, gate * blocks + first, gate * blocks + end);
        float *over_x = u->gx + row, *over_h = gate < 2 ? over_x : u->sums + first * 16;
        const float *bias_h = cell->bias_h ? cell->bias_h + first * 16 : NULL;
        sgru_product_of(u->k, &w, 1, u->bias ? u->bias + row : NULL, 0, u->x, 0, q_x, over_x, 0);
        sgru_product_of(u->k, &r, 1, gate < 2 ? over_x : bias_h, 0, u->state[0], 0, q_h, over_h, 0);
    }
    sgru_fpenv_leave(caller);
}

/* The same for one step of one sequence whose weights do not stay in the L1 cache: W·x and R·h in one pass. */
static int step_single(const recurrent *u)
{
    const gru_cell *cell = u->cell;
    size_t multiplications = u->G * (u->I + u->H);
    sgru_workers *workers = multiplications < SGRU_WORTH_SHARING ? NULL : u->s->workers;
    if (cell->r_n.data || u->H % 16 != 0 || multiplications < SINGLE_PASS_FLOATS || u->w.dtype != cell->r.dtype)
        return 0;
    if (u->w.dtype == SGRU_I8) {
        u->k->quantise(u->I, 1, u->x, u->I, u->q);
        u->k->quantise(u->H, 1, u->state[0], u->H, (uint8_t *)u->q + sgru_q_step(u->I));
    }
    shared_sums shared = {u, workers ? workers->n : 1};
    if (workers) workers->run(workers, sum_part, &shared);
    else if (u->w.dtype != SGRU_F32) sum_part(&shared, 0);
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
    sgru_multiply(u->s, &cell->r, u->B, gx, G, u->state[0], H, u->sums, G, u->q);
    for (size_t b = 0; b < u->B; b++) {
        float *z = u->sums + b * G, *r = z + H, *rh = z + 2 * H;
        activate(u, cell->f, 2 * H, z);
        u->k->binary(B_MUL, H, r, 1, u->state[0] + b * H, 1, rh);
    }
    sgru_multiply(u->s, &cell->r_n, u->B, n, G, u->sums + 2 * H, G, n, G, u->q);
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

static SGRU_COLD int gru_check(const sgru_model *m, const sgru_op *op, size_t *scratch)
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

static SGRU_COLD uint64_t gru_work(const sgru_model *m, const sgru_op *op)
{
    (void)m;
    return sgru_recurrent_work(op, &gru);
}

static SGRU_COLD int gru_part(const sgru_op *op, uint32_t i, sgru_walk *walk)
{
    return sgru_recurrent_part(op, i, &gru, walk);
}

const sgru_op_def sgru_op_gru = {N_IN,        N_OUT,    P_COUNT, gru_check, gru_run, SHARES_ANYTHING,
                                 gru_carries, gru_work, 0,       gru_part};
