/* The caller's floating-point environment: whatever its rounding, its traps, its flushing of subnormals and its flags, every call gives
 * the same bits and leaves all of it as it was, also where a frame or a saved state is refused.
 *
 *     environment */
#define _GNU_SOURCE
#include <fenv.h>

#include "trial.h"

#if defined(__SSE2__)
#include <xmmintrin.h>
enum { MODES = 128 };
typedef unsigned control;
static control read_control(void) { return _mm_getcsr(); }
static void write_control(control c) { _mm_setcsr(c); }
/* Two bits of rounding, FTZ, DAZ, all traps, all flags; a trap whose flag is up would go off at once. */
static control mode(unsigned i)
{
    int traps = i & 16, flags = (i & 32) && !traps;
    return (i & 3) << 13 | (i & 4 ? 0x8000u : 0) | (i & 8 ? 0x40u : 0) | (traps ? 0 : 0x1F80u) | (flags ? 0x3Fu : 0);
}
#else
enum { MODES = 4 };
typedef fenv_t control;
static control read_control(void)
{
    control c;
    fegetenv(&c);
    return c;
}
static void write_control(control c) { fesetenv(&c); }
static control mode(unsigned i)
{
    static const int rounding[] = {FE_TONEAREST, FE_UPWARD, FE_DOWNWARD, FE_TOWARDZERO};
    control before = read_control(), c;
    fesetround(rounding[i & 3]), feraiseexcept(FE_INEXACT);
    c = read_control();
    write_control(before);
    return c;
}
#endif

enum { N = 33, STEPS = 3 };

/* y = exp(h' ), h' = h · x + x: a state that only a few operators touch. */
static unsigned char *build(size_t *size)
{
    image im = {0};
    uint32_t n = N, x = add_tensor(&im, SGRU_F32, KIND_ARENA, LAYOUT_ROWS, 1, &n),
             y = add_tensor(&im, SGRU_F32, KIND_ARENA, LAYOUT_ROWS, 1, &n),
             h = add_tensor(&im, SGRU_F32, KIND_STATE, LAYOUT_ROWS, 1, &n);
    uint32_t hx[] = {h, x}, yx[] = {y, x}, mul[] = {B_MUL, 1, N, 1, 1}, add[] = {B_ADD, 1, N, 1, 1},
             e[] = {F_EXP, 0, 0};
    add_op(&im, 17, 2, hx, 1, &y, 5, mul), add_op(&im, 17, 2, yx, 1, &h, 5, add), add_op(&im, 16, 1, &h, 1, &y, 3, e);
    add_to_list(&im, 0, x), add_to_list(&im, 1, y), add_to_list(&im, 2, h);
    return finish(&im, size);
}

static unsigned checked(control before, int status, int want, const char *what)
{
    control after = read_control();
    write_control(mode(0));
    if (status == want && memcmp(&before, &after, sizeof before) == 0) return 0;
    printf("%s: status %d for %d, or another environment\n", what, status, want);
    return 1;
}

/* One mode, one kernel table: 0 where all is well. `want` is filled by the first mode. */
static unsigned try_mode(const sgru_model *m, void *memory, unsigned i, unsigned flags, float *want)
{
    float x[STEPS * N], y[STEPS * N];
    size_t size = sgru_save_size(m);
    unsigned char *blob = malloc(size);
    const void *in[] = {x};
    void *out[] = {y};
    uint64_t sum;
    unsigned wrong = 0;
    rng = 88172645463325252u;
    for (unsigned j = 0; j < STEPS * N; j++) x[j] = uniform(3.0f) * (j % 3 ? 1.0f : 0x1p-100f);
    write_control(mode(0));
    control c = mode(i);
    sgru_stream *s = sgru_stream_init(memory, sgru_stream_size(m, 2), m, 2, flags);
    write_control(c);
    wrong += checked(c, sgru_run(s, STEPS, in, out), SGRU_OK, "run");
    if (i == 0) memcpy(want, y, sizeof y);
    else if (memcmp(want, y, sizeof y)) printf("mode %u: other bits\n", i), wrong++;
    sgru_save(s, blob, size);
    const uint32_t edges[] = {0x7F800001, 0x7F800000, 0x00000001}; /* a signalling NaN, infinity, a subnormal */
    memcpy(blob + size - sizeof edges - 64, edges, sizeof edges);
    sum = sgru_checksum(blob + size - m->state_size, m->state_size), memcpy(blob + 16, &sum, 8);
    write_control(c);
    wrong += checked(c, sgru_restore(s, blob, size), flags ? SGRU_OK : SGRU_E_STATE, "restore");
    memcpy(x + 5, edges, sizeof edges);
    write_control(c);
    wrong += checked(c, sgru_run(s, STEPS, in, out), flags ? SGRU_OK : SGRU_E_NONFINITE, "run with NaN");
    free(blob);
    return wrong;
}

int main(void)
{
    size_t size;
    sgru_model m;
    float want[STEPS * N];
    unsigned char *bytes = build(&size);
    if (sgru_model_open(&m, bytes, size)) return 1;
    void *memory = aligned_alloc(64, sgru_stream_size(&m, 2));
    for (unsigned k = 0; sgru_available_isa(k); k++)
        for (unsigned i = 0; i < 2 * MODES; i++) {
            sgru_set_isa(sgru_available_isa(k));
            unsigned wrong = try_mode(&m, memory, i % MODES, i / MODES ? SGRU_PASS_NONFINITE : 0, want);
            passed += !wrong, failed += wrong;
        }
    free(memory), free(bytes);
    printf("%u passed, %u failed\n", passed, failed);
    return failed != 0;
}
