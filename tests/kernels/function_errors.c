/* The error of every function of one element against double-precision libm, over the floats, in units in the last place of the
 * exact result. A result below 2^-125 may come out as zero. Exit status 1 where a stated bound is passed.
 *
 *     function_errors [stride [isa]]     every stride-th float; 1 is all of them */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/kernels.h"
#include "streamgru.h"

static double sigmoid(double x) { return 1 / (1 + exp(-x)); }
static double softplus(double x) { return x > 40 ? x : log1p(exp(x)); }
static double gelu(double x) { return x / 2 * erfc(-x / sqrt(2)); }
static double gelu_tanh(double x) { return x * sigmoid(2 * sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)); }
static double elu(double x) { return x < 0 ? expm1(x) : x; }
static double softsign(double x) { return x / (1 + fabs(x)); }
static double silu(double x) { return x * sigmoid(x); }
static double mish(double x) { return x * tanh(softplus(x)); }
static double reciprocal(double x) { return 1 / x; }
static double sign(double x) { return x > 0 ? 1 : x < 0 ? -1 : x; }
static double negative(double x) { return -x; }
static double itself(double x) { return x; }
static double relu(double x) { return x < 0 ? 0 : x; }
static double hard_swish(double x) { return x * fmin(fmax(x / 6 + 0.5, 0), 1); }

/* `ulp`: the bound. `floor`: errors are counted in ulps of at least this magnitude: functions that cross zero by cancellation
 * (gelu, silu, mish far left) are held to an absolute error there. */
static const struct {
    const char *name;
    unsigned f;
    double (*exact)(double);
    double ulp, floor;
} functions[] = {
    {"sigmoid", F_SIGMOID, sigmoid, 1.7, 0},
    {"tanh", F_TANH, tanh, 1.6, 0},
    {"exp", F_EXP, exp, 1.1, 0},
    {"log", F_LOG, log, 1.95, 0},
    {"elu", F_ELU, elu, 1.1, 0},
    {"softplus", F_SOFTPLUS, softplus, 2.8, 0},
    {"softsign", F_SOFTSIGN, softsign, 1.5, 0},
    {"sqrt", F_SQRT, sqrt, 0.5, 0},
    {"erf", F_ERF, erf, 1.3, 0},
    {"gelu", F_GELU, gelu, 1.2, 1.0},
    {"gelu_tanh", F_GELU_TANH, gelu_tanh, 1.8, 1.0},
    {"silu", F_SILU, silu, 2.8, 0x1p-95},
    {"mish", F_MISH, mish, 4.4, 0x1p-95},
    {"floor", F_FLOOR, floor, 0, 0},
    {"ceil", F_CEIL, ceil, 0, 0},
    {"round", F_ROUND, rint, 0, 0},
    {"reciprocal", F_RECIPROCAL, reciprocal, 0.5, 0},
    {"sign", F_SIGN, sign, 0, 0},
    {"neg", F_NEG, negative, 0, 0},
    {"abs", F_ABS, fabs, 0, 0},
    {"identity", F_IDENTITY, itself, 0, 0},
    {"relu", F_RELU, relu, 0, 0},
    {"hard_swish", F_HARD_SWISH, hard_swish, 1.3, 1.0},
};

static double ulp_of(double magnitude)
{
    int e;
    frexp(magnitude < 0x1p-126 ? 0x1p-126 : magnitude, &e);
    return ldexp(1.0, e - 24);
}

/* The error of y against the exact value in ulps; infinite where one is finite or NaN and the other is not, or
 * where a zero has the wrong sign: in functions that are rounded once it counts. */
static double error_of(float y, double exact, double floor, int signed_zeros)
{
    if (signed_zeros && exact == 0 && y == 0.0f && !signbit(exact) != !signbit(y)) return INFINITY;
    if (isnan(exact) || isnan(y)) return isnan(exact) && isnan(y) ? 0 : INFINITY;
    if (fabs(exact) < 0x1p-125 && y == 0.0f) return 0;
    if (isinf(y) || fabs(exact) > 0x1.ffffffp127)
        return isinf(y) && fabs(exact) >= 0x1.fffffep127 && (y > 0) == (exact > 0) ? 0 : INFINITY;
    double scale = ulp_of(fabs(exact) > floor ? fabs(exact) : floor);
    return fabs((double)y - exact) / scale;
}

/* Where a definition changes, whatever the stride. */
static const float edges[] = {
    0.0f,     -0.0f,     0x1p-126f, -0x1p-126f, 1.0f,  -1.0f,   0x1.fffffep127f, -0x1.fffffep127f,
    INFINITY, -INFINITY, 88.72f,    88.73f,     88.8f, -87.33f, 20.0f,           -20.0f,
    0.6f,     -0.6f,     4.0f,      -4.0f};

enum { N = 4096 };
static double worst;
static float at;

/* Function i over x[n]: the worst error so far, and where. */
static void measure(const sgru_kernels *k, int i, size_t n, const float *x)
{
    static float y[N];
    k->unary(functions[i].f, 1.0f, 1.0f, n, x, y);
    for (size_t j = 0; j < n; j++) {
        double e = error_of(y[j], functions[i].exact(x[j]), functions[i].floor, functions[i].ulp <= 0.5);
        if (e > worst) worst = e, at = x[j];
    }
}

int main(int argc, char **argv)
{
    static float x[N];
    uint64_t stride = argc > 1 ? strtoull(argv[1], NULL, 0) : 97;
    if (sgru_set_isa(argc > 2 ? argv[2] : "")) return 2;
    const sgru_kernels *k = sgru_kernels_chosen();
    int failures = 0, count = (int)(sizeof functions / sizeof *functions);
    for (int i = 0; i < count; i++) {
        worst = 0, at = 0;
        for (size_t n = 0; n < sizeof edges / sizeof *edges; n += 2) measure(k, i, 2, edges + n);
        for (uint64_t bits = 0; bits < (uint64_t)1 << 32;) {
            size_t n = 0;
            for (; n < N && bits < (uint64_t)1 << 32; bits += stride) {
                uint32_t u = (uint32_t)bits;
                memcpy(&x[n], &u, 4);
                if (x[n] == x[n] && !(fabsf(x[n]) < 0x1p-126f && x[n] != 0)) n++; /* no NaN, no subnormal */
            }
            measure(k, i, n, x);
        }
        int bad = !(worst <= functions[i].ulp);
        printf("%-12s %8.3f ulp (bound %.1f) at %a%s\n", functions[i].name, worst, functions[i].ulp, (double)at,
               bad ? "  FAILED" : "");
        failures += bad;
    }
    printf("%s: %d passed, %d failed\n", k->name, count - failures, failures);
    return failures != 0;
}
