/* Functions of floats that are too rare for vectors: sin, cos, pow and the two remainders. Plain double precision, one element at
 * a time, + - * / and integers only: no fma and no libm, so every machine gets the same bits. A double carries 29 bits more
 * than the result needs: sin, cos and pow are within 0.51 ulp, the remainders exact. */
#include <math.h>
#include <string.h>

#include "kernels.h"

static uint32_t bits_of(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

/* 2^n, -1022 <= n <= 1023. */
static double power_of_two(int n)
{
    uint64_t bits = (uint64_t)(n + 1023) << 52;
    double y;
    memcpy(&y, &bits, sizeof y);
    return y;
}

/* A finite float is significand · 2^exponent, less its sign. */
typedef struct parts {
    uint64_t significand;
    int exponent;
} parts;

static parts parts_of(float x)
{
    uint32_t bits = bits_of(x), e = bits >> 23 & 255, fraction = bits & 0x7FFFFF;
    return (parts){e ? fraction | 0x800000 : fraction, (int)(e ? e : 1) - 150};
}

static double polynomial(double x, const double *c, int degree)
{
    double y = c[degree];
    for (int i = degree - 1; i >= 0; i--) y = y * x + c[i];
    return y;
}

/* ---- sin and cos ---- */

/* x = quadrant · pi/2 + r, |r| <= pi/4, the quadrant modulo 4. Below 2^25 pi/2 is taken off in three parts, the products with
 * the first two exact. */
static double reduce_small(double x, unsigned *quadrant)
{
    int32_t n = (int32_t)(x * 0x1.45f306dc9c883p-1 + (x < 0 ? -0.5 : 0.5));
    *quadrant = (unsigned)n & 3;
    return ((x - n * 0x1.921fb54p0) - n * 0x1.10b4611p-30) - n * 0x1.4c4c6628b80dcp-59;
}

/* From 2^25 on the float is an integer m · 2^e. Multiplied by 2/pi, of which the bits above 2^(2-e) give multiples of 4 and those
 * more than 96 bits further down nothing that a float could show. */
static double reduce_large(float x, unsigned *quadrant)
{
    static const uint32_t two_over_pi[] = {0xA2F9836E, 0x4E441529, 0xFC2757D1, 0xF534DDC0,
                                           0xDB629599, 0x3C439041, 0xFE5163AB};
    parts p = parts_of(x);
    unsigned at = (unsigned)p.exponent - 2, word = at / 32, shift = at % 32;
    uint32_t w[3];
    for (unsigned i = 0; i < 3; i++)
        w[i] = (uint32_t)(((uint64_t)two_over_pi[word + i] << 32 | two_over_pi[word + i + 1]) >> (32 - shift));
    uint64_t turn = (p.significand * w[0] << 32) + p.significand * w[1] + (p.significand * w[2] >> 32);
    uint64_t n = (turn + ((uint64_t)1 << 61)) >> 62; /* the nearest quarter */
    int64_t rest = (int64_t)(turn - (n << 62));
    *quadrant = (unsigned)n & 3;
    double r = (double)rest * (0x1.921fb54442d18p0 * 0x1p-62);
    if (x >= 0) return r;
    *quadrant = (4 - *quadrant) & 3;
    return -r;
}

static double sin_small(double r)
{
    static const double c[] = {-1.0 / 6,        1.0 / 120,        -1.0 / 5040,         1.0 / 362880,
                               -1.0 / 39916800, 1.0 / 6227020800, -1.0 / 1307674368000};
    return r + r * (r * r) * polynomial(r * r, c, 6);
}

static double cos_small(double r)
{
    static const double c[] = {1.0,
                               -1.0 / 2,
                               1.0 / 24,
                               -1.0 / 720,
                               1.0 / 40320,
                               -1.0 / 3628800,
                               1.0 / 479001600,
                               -1.0 / 87178291200,
                               1.0 / 20922789888000};
    return polynomial(r * r, c, 8);
}

/* sin(x + quarters · pi/2) */
static float sine(float x, unsigned quarters)
{
    unsigned quadrant;
    uint32_t magnitude = bits_of(x) & 0x7FFFFFFF;
    if (magnitude >= 0x7F800000) return x - x; /* infinity, NaN */
    if (magnitude == 0 && !quarters) return x; /* keeps -0 */
    double r = magnitude < 0x4C000000 ? reduce_small(x, &quadrant) : reduce_large(x, &quadrant);
    quadrant += quarters;
    double y = quadrant & 1 ? cos_small(r) : sin_small(r);
    return (float)(quadrant & 2 ? -y : y);
}

void sgru_rare_unary(unsigned f, size_t n, const float *x, float *y)
{
    for (size_t i = 0; i < n; i++) y[i] = sine(x[i], f == F_COS);
}

/* ---- pow ---- */

/* log of 0 < x < infinity: x = 2^e · m, 1/sqrt(2) <= m < sqrt(2); with s = (m - 1) / (m + 1), 2 atanh(s). */
static double log_of(float x)
{
    static const double c[] = {2.0,      2.0 / 3,  2.0 / 5,  2.0 / 7,  2.0 / 9, 2.0 / 11,
                               2.0 / 13, 2.0 / 15, 2.0 / 17, 2.0 / 19, 2.0 / 21};
    double m = x;
    uint64_t bits;
    memcpy(&bits, &m, sizeof bits);
    int e = (int)(bits >> 52) - 1023;
    bits = (bits & 0xFFFFFFFFFFFFFu) | (uint64_t)1023 << 52;
    memcpy(&m, &bits, sizeof m);
    if (m >= 0x1.6a09e667f3bcdp0) m *= 0.5, e++;
    double s = (m - 1.0) / (m + 1.0);
    return e * 0x1.62e42fefa39efp-1 + s * polynomial(s * s, c, 10);
}

/* exp(x) for a result that becomes a float: 0 and infinity far outside. */
static double exp_of(double x)
{
    static const double c[] = {
        1.0,        1.0,         1.0 / 2,      1.0 / 6,       1.0 / 24,       1.0 / 120,       1.0 / 720,
        1.0 / 5040, 1.0 / 40320, 1.0 / 362880, 1.0 / 3628800, 1.0 / 39916800, 1.0 / 479001600, 1.0 / 6227020800};
    if (x > 90.0) return INFINITY;
    if (x < -105.0) return 0.0;
    int n = (int)(x * 0x1.71547652b82fep0 + (x < 0 ? -0.5 : 0.5));
    double r = (x - n * 0x1.62e42fefp-1) - n * 0x1.473de6af278edp-34;
    return polynomial(r, c, 13) * power_of_two(n);
}

static int is_integer(float y)
{
    float a = y < 0 ? -y : y;
    return a >= 0x1p23f || a == (float)(int32_t)a;
}

static int is_odd(float y)
{
    float a = y < 0 ? -y : y;
    return a < 0x1p24f && is_integer(y) && ((int32_t)a & 1);
}

/* |x|^y for y other than zero, no NaN. */
static double magnitude_power(float x, float y)
{
    int grows = (x > 1.0f) == (y > 0.0f), infinite = x - x != 0.0f || y - y != 0.0f;
    if (x == 1.0f) return 1.0;
    if (x == 0.0f || infinite) return grows ? INFINITY : 0.0;
    return exp_of((double)y * log_of(x));
}

/* IEEE 754's pow. Small powers as the kernels have them. */
static float power(float x, float y)
{
    float a = x < 0 ? -x : x;
    if (y == 0.0f || x == 1.0f) return 1.0f;
    if (x != x || y != y) return x + y;
    if (y == 2.0f) return x * x;
    if (y == 3.0f) return x * x * x;
    if (y == -1.0f) return 1.0f / x;
    if (x < 0 && a <= 0x1.fffffep127f && !is_integer(y)) return NAN;
    float result = (float)magnitude_power(a, y);
    return bits_of(x) >> 31 && is_odd(y) ? -result : result;
}

/* ---- remainders ---- */

/* The exact rest of x / y with the sign of x, as C's fmod: long division, 40 bits at a time. */
static float remainder_of(float x, float y)
{
    float a = x < 0 ? -x : x, b = y < 0 ? -y : y;
    if (!(a <= 0x1.fffffep127f) || !(b > 0)) return NAN;
    if (a < b) return x;
    parts p = parts_of(a), q = parts_of(b);
    uint64_t rest = p.significand % q.significand;
    for (int bits = p.exponent - q.exponent; bits > 0; bits -= 40)
        rest = (rest << (bits < 40 ? bits : 40)) % q.significand;
    float r = (float)((double)rest * power_of_two(q.exponent));
    return bits_of(x) >> 31 ? -r : r;
}

/* ... with the sign of y, as Python's %. */
static float modulo(float x, float y)
{
    float r = remainder_of(x, y);
    if (r != 0.0f) return (r < 0) == (y < 0) ? r : r + y;
    return y < 0 ? -0.0f : 0.0f;
}

void sgru_rare_binary(unsigned f, size_t n, const float *a, size_t step_a, const float *b, size_t step_b, float *y)
{
    for (size_t i = 0; i < n; i++, a += step_a, b += step_b)
        y[i] = f == B_POW ? power(*a, *b) : f == B_MOD ? modulo(*a, *b) : remainder_of(*a, *b);
}
