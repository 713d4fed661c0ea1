/* Random convolutions and pools, each in every way that must give the same bits (trial.h). A convolution is held against the chain
 * that docs/format.md states, bit for bit, and like a pool against a plain computation in double precision.
 *
 *     convolutions [count [seed]]     count trials of each operator */
#include "trial.h"

/* ---- convolution ---- */

typedef struct conv {
    uint32_t N, C, H, W, M, OH, OW, g, kh, kw, sh, sw, dh, dw, f;
    int ph, pw;
} conv;

/* The value of x under kernel element k for output o along one axis: its index, or -1 where it is zero, -2 where there is no tap. */
static int64_t source(int transposed, int64_t n, int64_t o, int64_t k, int64_t s, int64_t p, int64_t d)
{
    int64_t at = transposed ? o + p - k * d : o * s - p + k * d;
    if (transposed && at % s) return -2;
    if (transposed) at /= s;
    return at >= 0 && at < n ? at : -1;
}

/* One output: as the contract has it, in floats with fma, and in double with the sum of the magnitudes. */
static float chain(const conv *c, int transposed, const float *x, const float *w, float bias, uint32_t m, uint32_t oy,
                   uint32_t ox, double *exact, double *magnitude)
{
    uint32_t Cg = c->C / c->g, Mg = c->M / c->g, group = m / Mg;
    float acc = bias;
    *exact = bias, *magnitude = fabs(bias);
    for (uint32_t ch = 0; ch < Cg; ch++)
        for (uint32_t i = 0; i < c->kh; i++)
            for (uint32_t j = 0; j < c->kw; j++) {
                int64_t y_at = source(transposed, c->H, oy, i, c->sh, c->ph, c->dh);
                int64_t x_at = source(transposed, c->W, ox, j, c->sw, c->pw, c->dw);
                if (y_at == -2 || x_at == -2) continue;
                size_t row = transposed ? (size_t)(group * Cg + ch) * Mg + m % Mg : (size_t)m * Cg + ch;
                float v = w[row * c->kh * c->kw + i * c->kw + j], u = 0;
                if (y_at >= 0 && x_at >= 0)
                    u = x[((size_t)(group * Cg + ch) * c->H + (size_t)y_at) * c->W + (size_t)x_at];
                acc = fmaf(u, v, acc);
                *exact += (double)u * v, *magnitude += fabs((double)u * v);
            }
    return acc;
}

static void check_conv(trial *t, const conv *c, int transposed, const float *x, const float *w, const float *bias)
{
    size_t i = 0;
    const float *got = t->got[0];
    double exact, magnitude, terms = 2.0 + c->C / c->g * c->kh * c->kw;
    for (uint32_t n = 0; n < FRAMES * c->N; n++, x += (size_t)c->C * c->H * c->W)
        for (uint32_t m = 0; m < c->M; m++)
            for (uint32_t oy = 0; oy < c->OH; oy++)
                for (uint32_t ox = 0; ox < c->OW; ox++, i++) {
                    float acc = chain(c, transposed, x, w, bias ? bias[m] : 0, m, oy, ox, &exact, &magnitude);
                    if (c->f == F_RELU) acc = acc > 0 ? acc : 0, exact = exact > 0 ? exact : 0;
                    if (!is_near(t, i, exact, got[i], terms * EPS * magnitude)) return;
                    if (!is_near(t, i, acc, got[i], 0)) return; /* the chain itself */
                }
}

static void try_conv(int transposed)
{
    trial t = {.name = transposed ? "CONV_TRANSPOSE" : "CONV"};
    uint32_t g = 1 + below(4), kind = below(5), Cg = kind == 0 ? 1 : 1 + below(5), Mg = kind == 0 ? 1 : 1 + below(9);
    conv c = {1 + below(2),
              g * Cg,
              1 + below(7),
              1 + below(40),
              g * Mg,
              1 + below(6),
              1 + below(70),
              g,
              1 + below(3),
              1 + below(5),
              1 + below(3),
              1 + below(3),
              1 + below(3),
              1 + below(3),
              below(2) ? F_RELU : F_IDENTITY,
              (int)below(4) - 1,
              (int)below(5) - 1};
    if (kind == 1) c.kh = c.kw = c.sh = c.sw = 1, c.ph = c.pw = 0, c.OH = c.H, c.OW = c.W; /* 1 x 1 */
    if (kind == 3) c.kw = c.sw = 1, c.pw = 0, c.OW = c.W; /* rows that are whole and next to each other */
    if (kind == 2) c.sh = c.sw = 1, c.OH = below(2) ? 1 : c.OH;
    uint32_t x_dims[] = {c.N, c.C, c.H, c.W}, y_dims[] = {c.N, c.M, c.OH, c.OW}, w_dims[] = {c.M, Cg, c.kh, c.kw};
    if (transposed) w_dims[0] = c.C, w_dims[1] = Mg;
    float *x = give_floats(&t, 4, x_dims, 1), *w = randoms(product(4, w_dims), 1),
          *bias = below(4) ? randoms(c.M, 1) : NULL;
    give_const(&t, SGRU_F32, product(4, w_dims), w);
    if (bias) give_const(&t, SGRU_F32, c.M, bias);
    else give_none(&t);
    take_output(&t, SGRU_F32, 4, y_dims);
    uint32_t p[] = {c.N,  c.C,  c.H, c.W, c.M, c.OH, c.OW, c.g, c.kh, c.kw, c.sh, c.sw, (uint32_t)c.ph, (uint32_t)c.pw,
                    c.dh, c.dw, c.f, 0,   0};
    if (run_trial(&t, transposed ? 81 : 80, 19, p)) check_conv(&t, &c, transposed, x, w, bias);
    free(w), free(bias), drop(&t);
}

static void try_forward(void) { try_conv(0); }
static void try_transposed(void) { try_conv(1); }

/* ---- pool ---- */

static void try_pool(void)
{
    trial t = {.name = "POOL"};
    uint32_t average = below(2), N = 1 + below(2), C = 1 + below(3), H = 1 + below(6), W = 1 + below(40),
             include = below(2);
    uint32_t kh = 1 + below(3), kw = 1 + below(4), sh = 1 + below(3), sw = 1 + below(3), dh = 1 + below(2),
             dw = 1 + below(2);
    uint32_t ph = below(kh), pw = below(kw), eh = below(kh), ew = below(kw), OH = 1 + below(4), OW = 1 + below(20);
    uint32_t x_dims[] = {N, C, H, W}, y_dims[] = {N, C, OH, OW};
    uint32_t p[] = {average, N, C, H, W, OH, OW, kh, kw, sh, sw, ph, pw, dh, dw, include, eh, ew};
    const float *x = give_floats(&t, 4, x_dims, 1);
    take_output(&t, SGRU_F32, 4, y_dims);
    if (!run_trial(&t, 82, 18, p)) return drop(&t);
    for (size_t e = 0, ok = 1; ok && e < FRAMES * product(4, y_dims); e++) {
        int64_t oy = (int64_t)(e / OW % OH), ox = (int64_t)(e % OW), n = 0;
        const float *plane = x + e / OW / OH * H * W;
        double want = average ? 0 : -INFINITY, magnitude = 0;
        for (int64_t k = 0; k < kh * kw; k++) {
            int64_t iy = oy * sh - ph + k / kw * dh, ix = ox * sw - pw + k % kw * dw;
            int inside = iy >= 0 && iy < H && ix >= 0 && ix < W;
            double v = inside ? plane[iy * W + ix] : average ? 0 : -INFINITY;
            n += inside || (include && iy < H + eh && ix < W + ew);
            want = average ? want + v : fmax(want, v), magnitude += fabs(v);
        }
        if (average) want /= n ? (double)n : 1;
        ok = (size_t)is_near(&t, e, want, ((float *)t.got[0])[e], average ? (kh * kw + 1) * EPS * magnitude : 0);
    }
    drop(&t);
}

int main(int argc, char **argv)
{
    static const entry entries[] = {{"CONV", try_forward}, {"CONV_TRANSPOSE", try_transposed}, {"POOL", try_pool}};
    return run_entries(entries, 3, argc, argv);
}
