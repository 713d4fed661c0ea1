/* Random LSTMs and RNNs, each in every way that must give the same bits (trial.h): every attribute, both layouts, lengths, states
 * that are operands or stay in the stream. The values are held against the equations in double precision.
 *
 *     random_cells [count [seed]]     count trials of each operator */
#include "trial.h"

typedef struct function {
    uint32_t f;
    float alpha, beta;
} function;

typedef struct cell {
    int lstm, w_format, r_format;
    uint32_t T, B, I, H, reverse, batch_major, stays, input_forget;
    float clip, *w, *r, *bias, *p; /* [G][I], [G][H], [G], [3H] or NULL */
    int32_t *lens;                 /* [FRAMES][B] or NULL */
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

static cell random_cell(int lstm)
{
    int classic = below(3) == 0;
    cell c = {.lstm = lstm, .T = 1 + below(6), .B = 1 + below(5), .I = 1 + below(40), .H = 1 + below(40)};
    if (below(2)) c.T = 1;
    if (below(16) == 0) c.T = 100 + below(100), c.H = 20 + below(20); /* more than one run of W·x */
    uint32_t G = lstm ? 4 * c.H : c.H;
    float scale = 2.0f / (float)(c.H > c.I ? c.H : c.I);
    c.reverse = below(4) == 0, c.batch_major = below(3) == 0, c.stays = below(2),
    c.input_forget = !classic && below(3) == 0;
    c.clip = classic || below(2) ? 0 : 0.7f;
    c.w = randoms((size_t)G * c.I, scale), c.r = randoms((size_t)G * c.H, scale);
    c.bias = below(4) ? randoms(G, 0.5f) : NULL, c.p = lstm && !classic && below(2) ? randoms(3 * c.H, 0.5f) : NULL;
    c.f = random_function(lstm ? F_SIGMOID : F_TANH, classic);
    c.g = random_function(F_TANH, classic), c.h = random_function(F_TANH, classic);
    if (below(4) == 0) c.lens = malloc(FRAMES * c.B * sizeof *c.lens);
    for (uint32_t i = 0; c.lens && i < FRAMES * c.B; i++) c.lens[i] = (int32_t)below(c.T + 1);
    c.w_format = any_format(), c.r_format = below(2) ? c.w_format : any_format();
    return c;
}

/* ---- the equations ---- */

static double gate(const cell *c, uint32_t row, const float *x, const double *h)
{
    double sum = c->bias ? c->bias[row] : 0;
    for (uint32_t i = 0; i < c->I; i++) sum += (double)c->w[(size_t)row * c->I + i] * x[i];
    for (uint32_t i = 0; i < c->H; i++) sum += (double)c->r[(size_t)row * c->H + i] * h[i];
    return sum;
}

/* One step of one sequence: h and s, the cell's state, move on. */
static void step(const cell *c, const float *x, double *h, double *s)
{
    double next[64];
    uint32_t H = c->H;
    for (uint32_t j = 0; j < H; j++) {
        const float *p = c->p;
        next[j] = apply(c->f, c->clip, gate(c, j, x, h) + (p ? p[j] * s[j] : 0));
        if (!c->lstm) continue;
        double in = next[j], o = gate(c, H + j, x, h), f = gate(c, 2 * H + j, x, h), g = gate(c, 3 * H + j, x, h);
        f = c->input_forget ? 1 - in : apply(c->f, c->clip, f + (p ? p[2 * H + j] * s[j] : 0));
        s[j] = f * s[j] + in * apply(c->g, c->clip, g);
        next[j] = apply(c->f, c->clip, o + (p ? p[H + j] * s[j] : 0)) * apply(c->h, 0, s[j]);
    }
    memcpy(h, next, H * sizeof *h);
}

/* ---- one trial ---- */

/* A state as an operand: a slot of the stream that starts as `start`, or an input with values for each frame. */
static float *give_state(trial *t, const cell *c)
{
    uint32_t dims[] = {c->B, c->H};
    if (!c->stays) return give_floats(t, 2, dims, 1);
    float *start = randoms((size_t)c->B * c->H, 1);
    uint32_t id = t->in[t->n_in++] = add_tensor(&t->im, SGRU_F32, KIND_STATE, LAYOUT_ROWS, 2, dims);
    t->im.tensors[id].reset = add_const(&t->im, SGRU_F32, c->B * c->H, start);
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

/* All frames by the equations; h0 and c0: [FRAMES][B][H], or [B][H] where the states stay. A relu that must decide about a rounding
 * error could differ by its threshold; with these seeds none does. */
static void check_values(const trial *t, const cell *c, const float *x, const float *h0, const float *c0)
{
    size_t x_t = c->batch_major ? c->I : c->B * c->I, x_b = c->batch_major ? c->T * c->I : c->I,
           BH = (size_t)c->B * c->H;
    size_t y_t = x_t / c->I * c->H, y_b = x_b / c->I * c->H;
    for (uint32_t b = 0; b < c->B; b++) {
        double h[64], s[64];
        for (uint32_t frame = 0; frame < FRAMES; frame++) {
            const float *y = (const float *)t->got[0] + (size_t)frame * c->T * BH;
            for (uint32_t j = 0; j < c->H && (frame == 0 || !c->stays); j++) {
                h[j] = h0[(c->stays ? 0 : frame * BH) + b * c->H + j];
                s[j] = c->lstm ? c0[(c->stays ? 0 : frame * BH) + b * c->H + j] : 0;
            }
            uint32_t length = c->lens ? (uint32_t)c->lens[frame * c->B + b] : c->T;
            for (uint32_t i = 0; i < c->T; i++) {
                uint32_t at = c->reverse && i < length ? length - 1 - i : i;
                if (i < length) step(c, x + frame * c->T * c->B * c->I + at * x_t + b * x_b, h, s);
                if (diverges(c, h, s)) return;
                for (uint32_t j = 0; j < c->H; j++) {
                    size_t e = at * y_t + b * y_b + j;
                    if (!is_near(t, e, i < length ? h[j] : 0, y[e], 1e-4 * (1 + fabs(h[j])))) return;
                }
            }
            for (uint32_t j = 0; !c->stays && j < c->H; j++) {
                is_near(t, j, h[j], ((float *)t->got[1])[frame * BH + b * c->H + j], 1e-4 * (1 + fabs(h[j])));
                if (c->lstm)
                    is_near(t, j, s[j], ((float *)t->got[2])[frame * BH + b * c->H + j], 1e-4 * (1 + fabs(s[j])));
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

static void try_cell(int lstm)
{
    trial t = {.name = lstm ? "LSTM" : "RNN"};
    cell c = random_cell(lstm);
    uint32_t T = c.T, B = c.B, I = c.I, H = c.H, G = lstm ? 4 * H : H, x_dims[] = {T, B, I}, y_dims[] = {T, B, H};
    const float *x = give_floats(&t, 3, x_dims, 2);
    give_packed(&t, c.w_format, G, I, c.w), give_packed(&t, c.r_format, G, H, c.r), give_optional(&t, G, c.bias);
    if (lstm) give_optional(&t, 3 * H, c.p);
    if (c.lens) give_input(&t, SGRU_I32, 1, &B, c.lens);
    else give_none(&t);
    float *h0 = give_state(&t, &c), *c0 = lstm ? give_state(&t, &c) : NULL;
    take_output(&t, SGRU_F32, 3, y_dims);
    for (int i = 0; i <= lstm; i++)
        if (c.stays) t.out[t.n_out++] = t.in[t.n_in - 1 - (uint32_t)(lstm - i)];
        else take_output(&t, SGRU_F32, 2, y_dims + 1);
    uint32_t x_t = c.batch_major ? I : B * I, x_b = c.batch_major ? T * I : I;
    uint32_t common[] = {T, B, I, H, c.reverse, 0, x_t, x_b, 0, x_t / I * H, x_b / I * H, 0, H, 0, H, bits_of(c.clip)};
    uint32_t own[] = {0,
                      H,
                      0,
                      H,
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
    if (lstm) memcpy(p + 16, own, sizeof own);
    else memcpy(p + 16, own + 5, 3 * sizeof *own);
    uint32_t outputs = t.n_out;
    int exact = c.w_format != SGRU_I8 && c.r_format != SGRU_I8; /* 8 bits have their oracle in Python */
    if (run_trial(&t, lstm ? 49 : 50, lstm ? 30 : 19, p) && exact) check_values(&t, &c, x, h0, c0);
    t.n_out = outputs;
    if (c.stays) free(h0), free(c0);
    free(c.w), free(c.r), free(c.bias), free(c.p), drop(&t);
}

static void try_lstm(void) { try_cell(1); }
static void try_rnn(void) { try_cell(0); }

int main(int argc, char **argv)
{
    static const entry entries[] = {{"LSTM", try_lstm}, {"RNN", try_rnn}};
    return run_entries(entries, 2, argc, argv);
}
