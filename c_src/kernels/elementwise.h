/* Kernels of one element at a time, written once over the vector primitives and included by each ISA's file and by ref.c. */

/* Runs `body` for whole vectors, then once for the n % VL elements left; LOAD and STORE know which. */
#define LOAD(p) (left ? v_load_n((p) + i, left) : v_load((p) + i))
#define STORE(p, v) (left ? v_store_n((p) + i, v, left) : v_store((p) + i, v))
#define EACH(n, body)                                                                                                  \
    do {                                                                                                               \
        size_t i = 0;                                                                                                  \
        for (; i + VL <= (n); i += VL) {                                                                               \
            const int left = 0;                                                                                        \
            body;                                                                                                      \
        }                                                                                                              \
        if (i < (n)) {                                                                                                 \
            const int left = (int)((n) - i);                                                                           \
            body;                                                                                                      \
        }                                                                                                              \
    } while (0)

/* A state that decays ends at zero before it gets subnormal. */
static INLINE V NAME(settle)(V y) { return v_select(v_lt(v_abs(y), v_set1(0x1p-64f)), v_set1(0.0f), y); }

static INLINE V NAME(blend)(V z, V candidate, V h)
{
    return NAME(settle)(v_fma(z, h, v_mul(v_sub(v_set1(1.0f), z), candidate)));
}

static void NAME(gru_gates)(size_t n, const float *z, const float *r, const float *nx, const float *nh, const float *h,
                            float *y)
{
    EACH(n, {
        V r_v = v_sigmoid(LOAD(r));
        V candidate = v_tanh(v_fma(r_v, LOAD(nh), LOAD(nx)));
        STORE(y, NAME(blend)(v_sigmoid(LOAD(z)), candidate, LOAD(h)));
    });
}

static void NAME(gru_blend)(size_t n, const float *z, const float *candidate, const float *h, float *y)
{
    EACH(n, STORE(y, NAME(blend)(LOAD(z), LOAD(candidate), LOAD(h))));
}

static void NAME(lstm_gates)(size_t n, const float *i_sum, const float *o, const float *f, const float *g, float *c,
                             float *h)
{
    EACH(n, {
        V in = v_mul(v_sigmoid(LOAD(i_sum)), v_tanh(LOAD(g)));
        V cell = NAME(settle)(v_fma(v_sigmoid(LOAD(f)), LOAD(c), in));
        STORE(c, cell);
        STORE(h, NAME(settle)(v_mul(v_sigmoid(LOAD(o)), v_tanh(cell))));
    });
}

static void NAME(muladd)(size_t n, const float *a, const float *b, const float *c, float *y)
{
    EACH(n, STORE(y, v_fma(LOAD(a), LOAD(b), LOAD(c))));
}

#define MAP(f, expression)                                                                                             \
    case f:                                                                                                            \
        if (SGRU_HAS_UNARY(f))                                                                                         \
            EACH(n, {                                                                                                  \
                V v = LOAD(x);                                                                                         \
                STORE(y, expression);                                                                                  \
            });                                                                                                        \
        break;

static void NAME(unary)(unsigned f, float alpha, float beta, size_t n, const float *x, float *y)
{
    const V a = v_set1(alpha), b = v_set1(beta), zero = v_set1(0.0f), one = v_set1(1.0f);
    switch (f) {
        MAP(F_IDENTITY, v)
        MAP(F_SIGMOID, v_sigmoid(v))
        MAP(F_TANH, v_tanh(v))
        MAP(F_RELU, v_max(zero, v))
        MAP(F_LEAKY_RELU, v_select(v_lt(v, zero), v_mul(a, v), v))
        MAP(F_ELU, v_elu(v, a))
        MAP(F_HARD_SIGMOID, v_clip(v_fma(a, v, b), zero, one))
        MAP(F_SOFTSIGN, v_div(v, v_add(one, v_abs(v))))
        MAP(F_SOFTPLUS, v_softplus(v))
        MAP(F_THRESHOLDED_RELU, v_select(v_le(v, a), zero, v))
        MAP(F_THRESHOLDED_RELU_EQ, v_select(v_lt(v, a), zero, v))
        MAP(F_SCALED_TANH, v_mul(a, v_tanh(v_mul(b, v))))
        MAP(F_AFFINE, v_fma(a, v, b))
        MAP(F_CLIP, v_clip(v, a, b))
        MAP(F_EXP, v_exp(v))
        MAP(F_LOG, v_log(v))
        MAP(F_SQRT, v_sqrt(v))
        MAP(F_RECIPROCAL, v_div(one, v))
        MAP(F_NEG, v_neg(v))
        MAP(F_ABS, v_abs(v))
        MAP(F_FLOOR, v_floor(v))
        MAP(F_CEIL, v_neg(v_floor(v_neg(v))))
        MAP(F_SIGN, v_sign(v))
        MAP(F_ERF, v_erf(v))
        MAP(F_SELU, v_mul(b, v_elu(v, a)))
        MAP(F_GELU, v_gelu(v))
        MAP(F_GELU_TANH, v_gelu_tanh(v))
        MAP(F_HARD_SWISH, v_mul(v, v_clip(v_fma(v_set1(1.0f / 6.0f), v, v_set1(0.5f)), zero, one)))
        MAP(F_SILU, v_mul(v, v_sigmoid(v)))
        MAP(F_ROUND, v_round(v))
        MAP(F_CELU, v_add(v_max(zero, v), v_min(zero, v_mul(a, v_expm1(v_div(v, a))))))
        MAP(F_MISH, v_mul(v, v_tanh(v_softplus(v))))
        MAP(F_SETTLE, NAME(settle)(v))
    case F_SIN:
    case F_COS:
        if (SGRU_HAS_UNARY(F_SIN) || SGRU_HAS_UNARY(F_COS)) sgru_rare_unary(f, n, x, y);
        break;
    }
}

#define MAP2(f, expression)                                                                                            \
    case f:                                                                                                            \
        if (SGRU_HAS_BINARY(f))                                                                                        \
            EACH(n, {                                                                                                  \
                V p = step_a ? LOAD(a) : a_all;                                                                        \
                V q = step_b ? LOAD(b) : b_all;                                                                        \
                STORE(y, expression);                                                                                  \
            });                                                                                                        \
        break;

/* x^2, x^3, sqrt(x) and 1 / x, which is what most powers are; the root as IEEE 754 has pow: +0 of -0, +inf of -inf. */
static void NAME(power)(size_t n, const float *a, size_t step_a, const float *b, size_t step_b, float *y)
{
    const V a_all = v_set1(*a), lowest = v_set1(-0x1.fffffep127f), infinity = v_set1(INFINITY);
    const float exponent = step_b ? 0.0f : *b;
#define POWER(expression)                                                                                              \
    EACH(n, {                                                                                                          \
        V v = step_a ? LOAD(a) : a_all;                                                                                \
        STORE(y, expression);                                                                                          \
    })
    if (exponent == 2.0f) POWER(v_mul(v, v));
    else if (exponent == 3.0f) POWER(v_mul(v_mul(v, v), v));
    else if (exponent == -1.0f) POWER(v_div(v_set1(1.0f), v));
    else if (exponent == 0.5f) POWER(v_select(v_lt(v, lowest), infinity, v_sqrt(v_add(v, v_set1(0.0f)))));
    else if (SGRU_HAS_BINARY(B_POW)) sgru_rare_binary(B_POW, n, a, step_a, b, step_b, y);
#undef POWER
}

static void NAME(binary)(unsigned f, size_t n, const float *a, size_t step_a, const float *b, size_t step_b, float *y)
{
    const V a_all = v_set1(*a), b_all = v_set1(*b), zero = v_set1(0.0f);
    switch (f) {
        MAP2(B_ADD, v_add(p, q))
        MAP2(B_SUB, v_sub(p, q))
        MAP2(B_MUL, v_mul(p, q))
        MAP2(B_DIV, v_div(p, q))
        MAP2(B_MIN, v_select(v_le(p, p), v_min(p, q), p))
        MAP2(B_MAX, v_select(v_le(p, p), v_max(p, q), p))
        MAP2(B_PRELU, v_select(v_lt(p, zero), v_mul(p, q), p))
    case B_POW:
        if (SGRU_HAS_BINARY(B_POW)) NAME(power)(n, a, step_a, b, step_b, y);
        break;
    case B_MOD:
    case B_FMOD:
        if (SGRU_HAS_BINARY(B_MOD) || SGRU_HAS_BINARY(B_FMOD)) sgru_rare_binary(f, n, a, step_a, b, step_b, y);
        break;
    }
}

static int NAME(finite)(size_t n, const float *x)
{
    V sum = v_set1(0.0f);
    EACH(n, sum = v_fma(LOAD(x), v_set1(0.0f), sum)); /* NaN once a NaN or an infinity came by */
    return v_all_zero(sum);
}

static void NAME(tidy)(size_t n, const float *x, float *y)
{
    EACH(n, {
        V v = LOAD(x);
        v = v_select(v_lt(v_abs(v), v_set1(0x1p-126f)), v_set1(0.0f), v);
        STORE(y, v_select(v_le(v, v), v, v_set1(NAN)));
    });
}
