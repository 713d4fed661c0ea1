/* The functions of one element, written once over the vector primitives of an ISA (avx2.c lists them).
 *
 * Each is a fixed sequence of IEEE operations: the same bits in every lane of every ISA. No estimates (rcp, rsqrt), no
 * libm. Minimum and maximum mean `a < b ? a : b` and `a > b ? a : b`, so a NaN in b passes. A NaN of any
 * payload passes every function as a NaN. The polynomials are minimax fits; the errors stated were measured over
 * every float (tests/kernels/function_errors.c). */

static INLINE V v_polynomial(V x, const float *c, int degree)
{
    V p = v_set1(c[degree]);
    UNROLL for (int i = degree - 1; i >= 0; i--) p = v_fma(p, x, v_set1(c[i]));
    return p;
}

/* x = n ln 2 + r with |r| <= ln 2 / 2; returns r and n · 2^23 as an integer. |x| < 2^22 ln 2. */
static INLINE V v_reduce(V x, VI *shifted_n, V *n)
{
    const V magic = v_set1(12582912.0f); /* 1.5 · 2^23: adding it rounds to an integer in the low bits */
    V t = v_fma(x, v_set1(0x1.715476p0f), magic);
    *shifted_n = vi_shl23(v_bits(t));
    *n = v_sub(t, magic);
    V r = v_fma(*n, v_set1(-0x1.62e4p-1f), x);
    return v_fma(*n, v_set1(-0x1.7f7d1cp-20f), r);
}

/* exp(r) - 1 for |r| <= ln 2 / 2. */
static INLINE V v_expm1_small(V r)
{
    static const float c[] = {0.5f, 0x1.5554dcp-3f, 0x1.5554b8p-5f, 0x1.120b72p-7f, 0x1.6d7550p-10f};
    return v_fma(v_mul(r, r), v_polynomial(r, c, 4), r);
}

/* exp(x) for -87.33 <= x <= 88.72; any number elsewhere, and not always a NaN for a NaN. */
static INLINE V v_exp_inside(V x)
{
    VI shifted_n;
    V n, r = v_reduce(x, &shifted_n, &n);
    V p = v_add(v_expm1_small(r), v_set1(1.0f));
    return v_float(vi_add(v_bits(p), shifted_n));
}

/* exp(x): 0 below -87.33 (where the result would be subnormal), +inf above 88.7228. */
static INLINE V v_exp(V x)
{
    const V zero = v_set1(0.0f), low = v_set1(-87.33f), high = v_set1(88.7228317f);
    V y = v_select(v_le(low, x), v_exp_inside(x), v_max(zero, x)); /* max: 0, or the NaN */
    return v_select(v_lt(high, x), v_set1(INFINITY), y);
}

/* exp(x) - 1 for x <= 0; 0 above. */
static INLINE V v_expm1(V x)
{
    VI shifted_n;
    V n, r = v_reduce(v_max(v_set1(-20.0f), v_min(v_set1(0.0f), x)), &shifted_n, &n);
    V scale = v_float(vi_add(v_bits(v_set1(1.0f)), shifted_n));
    return v_fma(scale, v_expm1_small(r), v_sub(scale, v_set1(1.0f)));
}

/* With e = exp(-|x|) and q = e / (1 + e): 1 - q, or e - e·q = q for x < 0, where that is the more exact way to it. e is 0 where
 * it would be subnormal, and so is the result. */
static INLINE V v_sigmoid(V x)
{
    const V zero = v_set1(0.0f), one = v_set1(1.0f), low = v_set1(-87.3f);
    V a = v_sub(zero, v_abs(x));
    V e = v_select(v_le(low, a), v_exp_inside(a), v_max(zero, a)); /* max: 0, or the NaN */
    V q = v_div(e, v_add(one, e));
    V whole = v_select(v_lt(x, zero), e, one);
    return v_fma(v_sub(zero, q), whole, whole);
}

/* Below 0.6 an odd polynomial; above, with t = exp(2|x|) - 1, t / (t + 2) and the sign of x. */
static INLINE V v_tanh(V x)
{
    static const float c[] = {-0x1.555554p-2f, 0x1.110ef8p-3f, -0x1.b95ad4p-5f, 0x1.5a0ddp-6f, -0x1.9bce78p-8f};
    VI shifted_n;
    V n, z = v_mul(x, x), y = v_min(v_set1(20.0f), v_abs(x));
    V small = v_fma(v_mul(x, z), v_polynomial(z, c, 4), x);
    V r = v_reduce(v_add(y, y), &shifted_n, &n);
    V scale = v_float(vi_add(v_bits(v_set1(1.0f)), shifted_n));
    V t = v_fma(scale, v_expm1_small(r), v_sub(scale, v_set1(1.0f)));
    V large = v_copysign(v_div(t, v_add(t, v_set1(2.0f))), x);
    return v_select(v_lt(y, v_set1(0.6f)), small, large);
}

/* log(1 + f) for 1/sqrt(2) <= 1 + f <= 2: with s = f / (2 + f), 2 atanh(s). */
static INLINE V v_log1p_unit(V f)
{
    static const float c[] = {0x1.555556p-1f, 0x1.9998cep-2f, 0x1.24ca7cp-2f, 0x1.bc65cep-3f, 0x1.dc55ecp-3f};
    V s = v_div(f, v_add(f, v_set1(2.0f)));
    V z = v_mul(s, s);
    return v_fma(s, v_mul(z, v_polynomial(z, c, 4)), v_add(s, s));
}

/* log(x): subnormals count as zero (-inf), NaN below zero. */
static INLINE V v_log(V x)
{
    const V smallest = v_set1(0x1p-126f), infinity = v_set1(INFINITY);
    VI e = vi_sra23(vi_sub(v_bits(x), v_bits(v_set1(0x1.6a09e6p-1f))));
    V m = v_float(vi_sub(v_bits(x), vi_shl23(e)));
    V n = vi_to_float(e), f = v_sub(m, v_set1(1.0f));
    V y = v_fma(n, v_set1(0x1.62e4p-1f), v_fma(n, v_set1(0x1.7f7d1cp-20f), v_log1p_unit(f)));
    y = v_select(v_lt(x, smallest), v_sub(v_set1(0.0f), infinity), y);
    y = v_select(v_le(x, v_sub(v_set1(0.0f), smallest)), v_set1(NAN), y);
    return v_select(v_lt(x, infinity), y, v_mul(x, x)); /* +inf and NaN stay */
}

/* log(1 + exp(x)) = max(x, 0) + log1p(exp(-|x|)). */
static INLINE V v_softplus(V x)
{
    V e = v_exp(v_sub(v_set1(0.0f), v_abs(x)));
    return v_add(v_max(v_set1(0.0f), x), v_log1p_unit(e));
}

/* Below 1 a polynomial in x^2; above, 1 - exp(q(|x|)) with q fitted to log(erfc). */
static INLINE V v_erf(V x)
{
    static const float small[] = {0x1.06eba8p-3f, -0x1.81273ep-2f,  0x1.ce2d20p-4f, -0x1.b7fbb4p-6f,
                                  0x1.5419f6p-8f, -0x1.a485f0p-11f, 0x1.4ae4d8p-14f};
    static const float large[] = {0x1.8a574ap-13f, -0x1.212c0cp0f,  -0x1.443566p-1f, -0x1.bc1516p-4f,
                                  0x1.9d0304p-6f,  -0x1.138cbcp-8f, 0x1.cec5fep-12f, -0x1.6bd7dep-16f};
    V a = v_abs(x), z = v_mul(x, x);
    V near = v_fma(x, v_polynomial(z, small, 6), x);
    V far = v_sub(v_set1(1.0f), v_exp(v_polynomial(v_min(v_set1(4.0f), a), large, 7)));
    return v_select(v_lt(a, v_set1(1.0f)), near, v_copysign(far, x));
}

/* The nearest integer, halves to even; beyond 2^23 every float is one. */
static INLINE V v_round(V x)
{
    const V big = v_set1(8388608.0f);
    V a = v_abs(x);
    return v_select(v_lt(a, big), v_copysign(v_sub(v_add(a, big), big), x), x);
}

static INLINE V v_floor(V x)
{
    V r = v_round(x);
    return v_copysign(v_select(v_lt(x, r), v_sub(r, v_set1(1.0f)), r), x);
}

static INLINE V v_neg(V x) { return v_float(vi_xor(v_bits(x), v_bits(v_set1(-0.0f)))); }

static INLINE V v_elu(V x, V alpha) { return v_select(v_lt(x, v_set1(0.0f)), v_mul(alpha, v_expm1(x)), x); }

static INLINE V v_clip(V x, V low, V high) { return v_min(high, v_max(low, x)); }

/* x / 2 · (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))) */
static INLINE V v_gelu_tanh(V x)
{
    V inner = v_mul(x, v_fma(v_mul(x, x), v_set1(0.044715f * 0.7978845608f), v_set1(0.7978845608f)));
    V half = v_mul(v_set1(0.5f), x);
    return v_fma(half, v_tanh(inner), half);
}

static INLINE V v_gelu(V x)
{
    V half = v_mul(v_set1(0.5f), x);
    return v_fma(half, v_erf(v_mul(x, v_set1(0.70710678f))), half);
}

static INLINE V v_sign(V x)
{
    V one = v_copysign(v_set1(1.0f), x);
    return v_select(v_lt(v_set1(0.0f), v_abs(x)), one, v_mul(x, v_set1(0.0f)));
}
