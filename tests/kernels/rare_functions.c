/* pow, mod, fmod, sin and cos over random and special floats, in every way that must give the same bits (trial.h), the error in ulps
 * against double-precision libm.
 *
 *     rare_functions [count [seed]]     count trials of each function */
#include "trial.h"

static int is_close(const trial *t, size_t i, double want, float got, double ulps)
{
    int e;
    frexp(want, &e);
    if (fabs(want) >= 0x1.ffffffp127) want = copysign(INFINITY, want);
    if (fabs(want) < 0x1p-126 && got == 0) return 1; /* outputs are without subnormals */
    return is_near(t, i, want, got, isinf(want) || isnan(want) ? 0 : ulps * ldexp(1, (e < -125 ? -125 : e) - 24));
}

static const float special[] = {0.0f,
                                1,
                                -1,
                                2,
                                -2,
                                3,
                                0.5f,
                                -0.5f,
                                INFINITY,
                                -INFINITY,
                                NAN,
                                0x1p-126f,
                                0x1.fffffep127f,
                                -0x1.fffffep127f,
                                16777216,
                                16777215,
                                -0.0f,
                                0x1p-149f,
                                -0x1.8p-130f};
enum { SPECIALS = sizeof special / sizeof *special, SEEN_BY_OPERATORS = 16 };

/* Any float that an operator can see in an input: of usual size, of any size, or special. */
static float any_float(void)
{
    uint32_t kind = below(8), bits = below(1u << 16) << 16 | below(1u << 16);
    float f;
    memcpy(&f, &bits, 4);
    f = f != f ? NAN : fabsf(f) < 0x1p-126f ? 0 : f;
    return kind == 0   ? special[below(SEEN_BY_OPERATORS)]
           : kind == 1 ? f
           : kind == 2 ? (float)below(12) - 6
                       : uniform(kind < 6 ? 8 : 1);
}

static float *any_floats(size_t n)
{
    float *v = malloc(n * sizeof *v);
    for (size_t i = 0; i < n; i++) v[i] = any_float();
    return v;
}

static double modulo(double a, double b)
{
    double r = fmod(a, b);
    return r != 0 && (r < 0) != (b < 0) ? (float)r + (float)b : r;
}

/* A third with one b for all, and that an exponent with a way of its own. */
static void try_binary(const char *name, uint32_t f, double (*exact)(double, double), double ulps)
{
    static const float exponents[] = {2, 3, 0.5f, -1};
    trial t = {.name = name};
    uint32_t n = 1 + below(60), one = 1, broadcast = below(3), p[] = {f, 1, n, 1, !broadcast};
    const float *a = give_input(&t, SGRU_F32, 1, &n, any_floats(FRAMES * n));
    float *b = give_input(&t, SGRU_F32, 1, broadcast ? &one : &n, any_floats(FRAMES * n));
    if (broadcast == 2) b[0] = exponents[below(4)], b[1] = exponents[below(4)];
    take_output(&t, SGRU_F32, 1, &n);
    if (run_trial(&t, 17, 5, p))
        for (size_t e = 0; e < FRAMES * n; e++) {
            float v = b[broadcast ? e / n : e];
            is_close(&t, e, exact(a[e], v), ((float *)t.got[0])[e], v == 3 ? 1.5 : ulps); /* a cube is rounded twice */
        }
    drop(&t);
}

static void try_pow(void) { try_binary("pow", B_POW, pow, 0.51); }
static void try_mod(void) { try_binary("mod", B_MOD, modulo, 0.5); }
static void try_fmod(void) { try_binary("fmod", B_FMOD, fmod, 0); }

/* Every pair of special floats as the kernels get them: with -0 and subnormals, and the sign of a zero counts. */
static void try_specials(void)
{
    trial t = {.name = "special operands of pow, fmod"};
    for (size_t i = 0; i < SPECIALS * SPECIALS; i++) {
        float a = special[i / SPECIALS], b = special[i % SPECIALS], y, z, p = (float)pow(a, b), r = fmodf(a, b);
        for (size_t step = 0; step < 2; step++) {
            sgru_kernels_ref.binary(B_POW, 1, &a, step, &b, step, &y);
            sgru_kernels_ref.binary(B_FMOD, 1, &a, step, &b, step, &z);
            if (isnan(p) ? !isnan(y) : y != p || signbit(y) != signbit(p)) is_near(&t, i, p, y, -1);
            if (isnan(r) ? !isnan(z) : z != r || signbit(z) != signbit(r)) is_near(&t, i, r, z, -1);
        }
    }
}

/* The floats that are nearest to a multiple of pi / 2, of all of them and of those below 2^25: what is left of them is small. */
static const float near_zeros[] = {0x1.f37c8ap+95f, 0x1.47d0fep+34f, 0x1.f37c8ap+96f, 0x1.32ede2p+85f, 0x1.628d4cp+40f,
                                   0x1.b08c4ap111f, 0x1.9a48dep+15f, 0x1.4ac55cp+21f, 0x1.04ccbcp+18f, 0x1.e768f6p+24f};

static void try_sines(void)
{
    trial t = {.name = "sin, cos"};
    uint32_t n = 1 + below(60), f = below(2), p[] = {f ? F_SIN : F_COS, 0, 0};
    float *x = give_input(&t, SGRU_F32, 1, &n, any_floats(FRAMES * n));
    for (size_t i = 0; i < FRAMES * n; i++)
        if (below(4) == 0) x[i] = near_zeros[below(10)] * (below(2) ? 1 : -1);
    take_output(&t, SGRU_F32, 1, &n);
    if (run_trial(&t, 16, 3, p))
        for (size_t e = 0; e < FRAMES * n; e++)
            is_close(&t, e, f ? sin(x[e]) : cos(x[e]), ((float *)t.got[0])[e], 0.51);
    drop(&t);
}

int main(int argc, char **argv)
{
    static const entry entries[] = {
        {"pow", try_pow}, {"mod", try_mod}, {"fmod", try_fmod}, {"specials", try_specials}, {"sin, cos", try_sines},
    };
    return run_entries(entries, sizeof entries / sizeof *entries, argc, argv);
}
