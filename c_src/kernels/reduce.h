/* Reductions of a row to one number in sixteen lanes, written once over the vector primitives. The order is a function of n
 * alone (kernels.h): lane j takes elements j, j + 16, ...; then the lanes are joined in halves. */

static INLINE V NAME(join)(unsigned f, V acc, V x)
{
    switch (f) {
    case R_MAX: return v_select(v_le(acc, acc), v_max(acc, x), acc);
    case R_MIN: return v_select(v_le(acc, acc), v_min(acc, x), acc);
    case R_PROD: return v_mul(acc, x);
    case R_L1: return v_add(acc, v_abs(x));
    case R_SQUARES: return v_fma(x, x, acc);
    default: return v_add(acc, x);
    }
}

/* The same of two lanes, where no vector is worth while. */
static INLINE float NAME(join_lanes)(unsigned f, float acc, float x)
{
    switch (f) {
    case R_MAX: return acc == acc && !(acc > x) ? x : acc;
    case R_MIN: return acc == acc && !(acc < x) ? x : acc;
    case R_PROD: return acc * x;
    default: return acc + x;
    }
}

static INLINE void NAME(sixteen)(unsigned f, V *acc, const float *x)
{
    UNROLL for (int v = 0; v < 16 / VL; v++) acc[v] = NAME(join)(f, acc[v], v_load(x + v * VL));
}

static INLINE float NAME(reduce_as)(const unsigned f, size_t n, const float *x)
{
    const float start = f == R_MAX ? -INFINITY : f == R_MIN ? INFINITY : f == R_PROD ? 1.0f : 0.0f;
    const unsigned halves = f == R_L1 || f == R_SQUARES ? R_SUM : f; /* what joins two lanes */
    V acc[16 / VL];
    float lanes[16], rest[16];
    UNROLL for (int v = 0; v < 16 / VL; v++) acc[v] = v_set1(start);
    size_t i = 0;
    for (; i + 16 <= n; i += 16) NAME(sixteen)(f, acc, x + i);
    if (i < n) {
        for (size_t j = 0; j < 16; j++) rest[j] = i + j < n ? x[i + j] : start;
        NAME(sixteen)(f, acc, rest);
    }
    UNROLL for (int v = 0; v < 16 / VL; v++) v_store(lanes + v * VL, acc[v]);
    for (int half = 8; half >= 1; half /= 2)
        for (int j = 0; j < half; j++) lanes[j] = NAME(join_lanes)(halves, lanes[j], lanes[j + half]);
    return lanes[0];
}

static float NAME(reduce)(unsigned f, size_t n, const float *x)
{
    switch (f) {
    case R_MAX: return NAME(reduce_as)(R_MAX, n, x);
    case R_MIN: return NAME(reduce_as)(R_MIN, n, x);
    case R_PROD: return NAME(reduce_as)(R_PROD, n, x);
    case R_L1: return NAME(reduce_as)(R_L1, n, x);
    case R_SQUARES: return NAME(reduce_as)(R_SQUARES, n, x);
    default: return NAME(reduce_as)(R_SUM, n, x);
    }
}
