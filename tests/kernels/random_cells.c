/* Random GRUs, LSTMs and RNNs, each in every way that must give the same bits (trial.h): every attribute, both layouts, lengths, states
 * that are operands or stay in the stream. The values are held against the equations in double precision.
 *
 *     random_cells [count [seed]]     count trials of each operator */
#include "trial.h"

typedef struct function {
    uint32_t f;
    float alpha, beta;
} function;

enum { GRU, LSTM, RNN };

typedef struct cell {
    int kind, w_format, r_format;
    uint32_t T, B, I, H, gates, reverse, stays, input_forget, lbr;
    float clip, *w, *r, *bias, *p; /* [G][I], [G][H], [G], [3H] or NULL; of a GRU p is bias_h, [H] or NULL */
    struct walk {
        uint32_t offset, t, b, count;
    } x_at, y_at, from, to; /* offset and strides over time and batch; elements of the tensor; a state has no time */
    uint32_t shift;         /* of an LSTM: elements that c lies behind h in one tensor; 0: in a tensor of its own */
    int tangled;            /* a state is not where it was, or rows of it share elements */
    int32_t *lens;          /* [FRAMES][B] or NULL */
    function f, g, h;
} cell;

static const uint32_t functions[] = {F_SIGMOID,      F_TANH,     F_RELU,     F_LEAKY_RELU,          F_ELU,
                                     F_HARD_SIGMOID, F_SOFTSIGN, F_SOFTPLUS, F_THRESHOLDED_RELU_EQ, F_SCALED_TANH,
                                     F_AFFINE};

static double apply(function f, double clip, double v)
{
    if (clip > 0) v = fmin(fmax(v, -clip), clip);
    switch (f.f) {
    case F_SIGMOID: return 1 / (1 + exp(-v));
    case F_TANH: return tanh(v);
    case F_RELU: return fmax(v, 0);
    case F_LEAKY_RELU: return v < 0 ? f.alpha * v : v;
    case F_ELU: return v < 0 ? f.alpha * expm1(v) : v;
    case F_HARD_SIGMOID: return fmin(fmax(f.alpha * v + f.beta, 0), 1);
    case F_SOFTSIGN: return v / (1 + fabs(v));
    case F_SOFTPLUS: return log1p(exp(v));
    case F_THRESHOLDED_RELU_EQ: return v >= f.alpha ? v : 0;
    case F_SCALED_TANH: return f.alpha * tanh(f.beta * v);
    default: return f.alpha * v + f.beta;
    }
}

static function random_function(uint32_t usual, int classic)
{
    return (function){classic ? usual : functions[below(11)], 0.3f + 0.1f * (float)below(2), 0.5f};
}

/* [T][B] rows of `width` elements, either dimension first, now and then with gaps, backwards. */
static struct walk any_walk(uint32_t T, uint32_t B, uint32_t width)
{
    uint32_t gap = below(3) ? 0 : below(4), batch_major = below(3) == 0;
    struct walk w = {.offset = below(3) ? 0 : below(5), .b = width + gap, .count = 0};
    w.t = w.b * B;
    if (batch_major) w.t = w.b, w.b *= T;
    else if (below(4) == 0) w.t += below(4);
    w.count = w.offset + (T - 1) * w.t + (B - 1) * w.b + width;
    if (B > 1 && below(6) == 0) w.offset += (B - 1) * w.b, w.b = 0u - w.b;
    return w;
}

static cell random_cell(int kind)
{
    static const uint32_t gates[] = {3, 4, 1};
    int classic = below(3) == 0, lstm = kind == LSTM;
    cell c = {.kind = kind,
              .gates = gates[kind],
              .T = 1 + below(6),
              .B = 1 + below(5),
              .I = 1 + below(40),
              .H = 1 + below(40)};
    if (below(2)) c.T = 1;
    if (below(16) == 0) c.T = 100 + below(100), c.H = 20 + below(20); /* more than one run of W·x */
    if (kind == GRU && below(4) == 0)
        c.H = 16 * (1 + below(4)), c.I = 40 + below(40), c.B = c.T = 1; /* W.x and R.h at once */
    if (below(24) ==
        0) { /* more than at once; with the many steps above as well, one trial would last longer than all others */
        c.H = 40, c.I = 1 + below(8), c.B = 16384 / 40 / c.gates + below(40);
        if (c.T > 6) c.T = 6;
    }
    uint32_t G = c.gates * c.H;
    float scale = 2.0f / (float)(c.H > c.I ? c.H : c.I);
    c.reverse = below(4) == 0, c.stays = below(2), c.input_forget = !classic && below(3) == 0;
    c.clip = classic || below(2) ? 0 : 0.7f;
    c.w = randoms((size_t)G * c.I, scale), c.r = randoms((size_t)G * c.H, scale);
    c.bias = below(4) ? randoms(G, 0.5f) : NULL, c.p = lstm && !classic && below(2) ? randoms(3 * c.H, 0.5f) : NULL;
    if (kind == GRU) c.lbr = below(2), c.p = c.lbr && below(4) ? randoms(c.H, 0.5f) : NULL;
    c.f = random_function(kind == RNN ? F_TANH : F_SIGMOID, classic);
    c.g = random_function(F_TANH, classic), c.h = random_function(F_TANH, classic);
    if (below(4) == 0) c.lens = malloc(FRAMES * c.B * sizeof *c.lens);
    for (uint32_t i = 0; c.lens && i < FRAMES * c.B; i++) c.lens[i] = (int32_t)below(c.T + 1);
    c.x_at = any_walk(c.T, c.B, c.I), c.y_at = any_walk(c.T, c.B, c.H);
    if (c.x_at.b >> 31) c.x_at.offset -= (c.B - 1) * (0 - c.x_at.b), c.x_at.b = 0 - c.x_at.b; /* x runs forwards */
    if (below(8) == 0) c.x_at.t = c.B + c.x_at.b; /* steps that share elements */
    uint32_t reach = c.x_at.offset + (c.T - 1) * c.x_at.t + (c.B - 1) * c.x_at.b + c.I;
    c.x_at.count = reach > c.T * c.B * c.I ? reach : c.T * c.B * c.I;
    c.from = any_walk(1, c.B, c.H), c.to = c.stays && below(8) ? c.from : any_walk(1, c.B, c.H);
    if (c.stays && below(8) == 0) c.from.offset = 0, c.from.b = below(c.H), c.to = c.from;
    c.tangled = c.stays && (c.to.offset != c.from.offset || c.to.b != c.from.b || (c.B > 1 && c.from.b < c.H));
    if (c.stays) c.from.count = c.to.count = c.from.count > c.to.count ? c.from.count : c.to.count;
    uint32_t span = (c.B - 1) * (c.from.b >> 31 ? 0 - c.from.b : c.from.b) + c.H;
    if (lstm && c.stays && below(3) == 0) c.shift = below(2) ? span : 1 + below(2 * span);
    c.tangled |= c.shift && c.shift < span, c.from.count += c.shift;
    c.w_format = any_format(), c.r_format = below(2) ? c.w_format : any_format();
    return c;
}

/* ---- the equations ---- */

/* One row over x, over h, or over both with the bias. */
static double over_x(const cell *c, uint32_t row, const float *x)
{
    double sum = c->bias ? c->bias[row] : 0;
    for (uint32_t i = 0; i < c->I; i++) sum += (double)c->w[(size_t)row * c->I + i] * x[i];
    return sum;
}

static double over_h(const cell *c, uint32_t row, const double *h)
{
    double sum = 0;
    for (uint32_t i = 0; i < c->H; i++) sum += (double)c->r[(size_t)row * c->H + i] * h[i];
    return sum;
}

static double gate(const cell *c, uint32_t row, const float *x, const double *h)
{
    return over_x(c, row, x) + over_h(c, row, h);
}

enum { MOST_H = 64 };
#define TOLERANCE 1e-5 /* sums of some hundred products of numbers below 2, a few hundred steps */

static void step_gru(const cell *c, const float *x, const double *h, double *next)
{
    double r[MOST_H], rh[MOST_H];
    uint32_t H = c->H;
    for (uint32_t j = 0; j < H; j++) r[j] = apply(c->f, c->clip, gate(c, H + j, x, h)), rh[j] = r[j] * h[j];
    for (uint32_t j = 0; j < H; j++) {
        double z = apply(c->f, c->clip, gate(c, j, x, h));
        double recurrent = c->lbr ? r[j] * (over_h(c, 2 * H + j, h) + (c->p ? c->p[j] : 0)) : over_h(c, 2 * H + j, rh);
        double n = apply(c->g, c->clip, over_x(c, 2 * H + j, x) + recurrent);
        next[j] = (1 - z) * n + z * h[j];
    }
}

static void step_rnn(const cell *c, const float *x, const double *h, double *next)
{
    for (uint32_t j = 0; j < c->H; j++) next[j] = apply(c->f, c->clip, gate(c, j, x, h));
}

/* s: the cell's state. */
static void step_lstm(const cell *c, const float *x, const double *h, double *s, double *next)
{
    const float *p = c->p;
    uint32_t H = c->H;
    for (uint32_t j = 0; j < H; j++) {
        double i = apply(c->f, c->clip, gate(c, j, x, h) + (p ? p[j] * s[j] : 0)), f = 1 - i;
        if (!c->input_forget) f = apply(c->f, c->clip, gate(c, 2 * H + j, x, h) + (p ? p[2 * H + j] * s[j] : 0));
        s[j] = f * s[j] + i * apply(c->g, c->clip, gate(c, 3 * H + j, x, h));
        next[j] = apply(c->f, c->clip, gate(c, H + j, x, h) + (p ? p[H + j] * s[j] : 0)) * apply(c->h, 0, s[j]);
    }
}

/* One step of one sequence: h and s move on. */
static void step(const cell *c, const float *x, double *h, double *s)
{
    double next[MOST_H];
    if (c->kind == GRU) step_gru(c, x, h, next);
    else if (c->kind == LSTM) step_lstm(c, x, h, s, next);
    else step_rnn(c, x, h, next);
    memcpy(h, next, c->H * sizeof *h);
}

/* ---- one trial ---- */

/* A state as an operand: a slot of the stream that starts as `start`, or an input with values for each frame. */
static float *give_state(trial *t, const cell *c)
{
    const uint32_t *n = &c->from.count;
    if (!c->stays) return give_floats(t, 1, n, 1);
    float *start = randoms(*n, 1);
    uint32_t id = t->in[t->n_in++] = add_tensor(&t->im, SGRU_F32, KIND_STATE, LAYOUT_ROWS, 1, n);
    t->im.tensors[id].reset = add_const(&t->im, SGRU_F32, *n, start);
    add_to_list(&t->im, 2, id);
    return start;
}

/* Unbounded functions can send a cell to infinity, its rounding errors with it. */
static int diverges(const cell *c, const double *h, const double *s)
{
    for (uint32_t j = 0; j < c->H; j++)
        if (!(fabs(h[j]) < 4 && fabs(s[j]) < 4)) return 1;
    return 0;
}

/* Step t of sequence b in frame number `frame`. */
static size_t row_at(struct walk w, uint32_t frame, uint32_t t, uint32_t b)
{
    return (size_t)frame * w.count + w.offset + (size_t)t * w.t + (size_t)((ptrdiff_t)b * (int32_t)w.b);
}

/* All frames by the equations; h0 and c0: those of each frame, or of the first where the states stay. A relu that must decide about a
 * rounding error could differ by its threshold; with these seeds none does. */
static void check_values(const trial *t, const cell *c, const float *x, const float *h0, const float *c0)
{
    for (uint32_t b = 0; b < c->B; b++) {
        double h[MOST_H], s[MOST_H];
        for (uint32_t frame = 0; frame < FRAMES; frame++) {
            const float *y = t->got[0];
            size_t start = row_at(c->from, c->stays ? 0 : frame, 0, b), end = row_at(c->to, frame, 0, b);
            for (uint32_t j = 0; j < c->H && (frame == 0 || !c->stays); j++)
                h[j] = h0[start + j], s[j] = c->kind == LSTM ? c0[start + j] : 0;
            uint32_t length = c->lens ? (uint32_t)c->lens[frame * c->B + b] : c->T;
            for (uint32_t i = 0; i < c->T; i++) {
                uint32_t at = c->reverse && i < length ? length - 1 - i : i;
                if (i < length) step(c, x + row_at(c->x_at, frame, at, b), h, s);
                if (diverges(c, h, s)) return;
                for (uint32_t j = 0; j < c->H; j++) {
                    size_t e = row_at(c->y_at, frame, at, b) + j;
                    if (!is_near(t, e, i < length ? h[j] : 0, y[e], TOLERANCE * (1 + fabs(h[j])))) return;
                }
            }
            for (uint32_t j = 0; !c->stays && j < c->H; j++) {
                is_near(t, j, h[j], ((float *)t->got[1])[end + j], TOLERANCE * (1 + fabs(h[j])));
                if (c->kind == LSTM) is_near(t, j, s[j], ((float *)t->got[2])[end + j], TOLERANCE * (1 + fabs(s[j])));
            }
        }
    }
}

/* w becomes what its format holds of it. */
static void give_packed(trial *t, int format, uint32_t rows, uint32_t columns, float *w)
{
    t->in[t->n_in++] = add_weights(&t->im, format, rows, columns, w, w);
}

static void give_optional(trial *t, uint32_t n, const float *v)
{
    if (v) give_const(t, SGRU_F32, n, v);
    else give_none(t);
}

static void try_cell(int kind)
{
    static const char *const names[] = {"GRU", "LSTM", "RNN"};
    trial t = {.name = names[kind]};
    cell c = random_cell(kind);
    int lstm = kind == LSTM;
    uint32_t T = c.T, B = c.B, I = c.I, H = c.H, G = c.gates * H;
    const float *x = give_floats(&t, 1, &c.x_at.count, 2);
    give_packed(&t, c.w_format, G, I, c.w);
    give_packed(&t, c.r_format, kind == GRU && !c.lbr ? 2 * H : G, H, c.r);
    if (kind == GRU && !c.lbr) give_packed(&t, c.r_format, H, H, c.r + (size_t)2 * H * H);
    else if (kind == GRU) give_none(&t);
    give_optional(&t, G, c.bias);
    if (kind == GRU) give_optional(&t, H, c.p);
    if (lstm) give_optional(&t, 3 * H, c.p);
    if (c.lens) give_input(&t, SGRU_I32, 1, &B, c.lens);
    else give_none(&t);
    float *h0 = give_state(&t, &c), *c0 = c.shift ? h0 + c.shift : lstm ? give_state(&t, &c) : NULL;
    if (c.shift) t.in[t.n_in] = t.in[t.n_in - 1], t.n_in++;
    take_output(&t, SGRU_F32, 1, &c.y_at.count);
    for (int i = 0; i <= lstm; i++)
        if (c.stays) t.out[t.n_out++] = t.in[t.n_in - 1 - (uint32_t)(lstm - i)];
        else take_output(&t, SGRU_F32, 1, &c.to.count);
    uint32_t common[] = {T,
                         B,
                         I,
                         H,
                         c.reverse,
                         c.x_at.offset,
                         c.x_at.t,
                         c.x_at.b,
                         c.y_at.offset,
                         c.y_at.t,
                         c.y_at.b,
                         c.from.offset,
                         c.from.b,
                         c.to.offset,
                         c.to.b,
                         bits_of(c.clip)};
    uint32_t own[] = {c.from.offset + c.shift,
                      c.from.b,
                      c.to.offset + c.shift,
                      c.to.b,
                      c.input_forget,
                      c.f.f,
                      bits_of(c.f.alpha),
                      bits_of(c.f.beta),
                      c.g.f,
                      bits_of(c.g.alpha),
                      bits_of(c.g.beta),
                      c.h.f,
                      bits_of(c.h.alpha),
                      bits_of(c.h.beta)};
    uint32_t p[30];
    memcpy(p, common, sizeof common);
    if (kind == GRU) p[16] = c.lbr, memcpy(p + 17, own + 5, 6 * sizeof *own);
    else if (lstm) memcpy(p + 16, own, sizeof own);
    else memcpy(p + 16, own + 5, 3 * sizeof *own);
    uint32_t outputs = t.n_out;
    int exact = c.w_format != SGRU_I8 && c.r_format != SGRU_I8; /* 8 bits have their oracle in Python */
    static const uint16_t n_params[] = {23, 30, 19};
    if (run_trial(&t, (uint16_t)(48 + kind), n_params[kind], p) && exact && !c.tangled) check_values(&t, &c, x, h0, c0);
    t.n_out = outputs;
    if (c.stays) free(h0);
    if (c.stays && !c.shift) free(c0);
    free(c.w), free(c.r), free(c.bias), free(c.p), drop(&t);
}

static void try_gru(void) { try_cell(GRU); }
static void try_lstm(void) { try_cell(LSTM); }
static void try_rnn(void) { try_cell(RNN); }

int main(int argc, char **argv)
{
    static const entry entries[] = {{"GRU", try_gru}, {"LSTM", try_lstm}, {"RNN", try_rnn}};
    return run_entries(entries, 3, argc, argv);
}
