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

/* ---- opening, and every other call ---- */

/* Images whose floats are signalling NaNs where the checks look: a clip, an epsilon, a scale of 8-bit weights; in constants and
 * parameters that no check looks at; and the sound one of each. */
enum { NOWHERE, CLIP, EPSILON, SCALE, ELSEWHERE, PLACES };

static unsigned char *build_odd(int place, size_t *size)
{
    enum { H = 16 };
    const uint32_t odd = 0x7F800001, h_dims[] = {1, H}, n = H;
    float w[H * H], bias[H];
    image im = {0};
    for (int i = 0; i < H * H; i++) w[i] = uniform(1.0f);
    memcpy(bias, w, sizeof bias);
    if (place == ELSEWHERE) memcpy(bias, &odd, sizeof odd);
    uint32_t x = add_tensor(&im, SGRU_F32, KIND_ARENA, LAYOUT_ROWS, 1, &n),
             y = add_tensor(&im, SGRU_F32, KIND_ARENA, LAYOUT_ROWS, 1, &n),
             h = add_tensor(&im, SGRU_F32, KIND_STATE, LAYOUT_ROWS, 2, h_dims),
             w_id = add_packed_as(&im, SGRU_I8, H, H, w), bias_id = add_const(&im, SGRU_F32, H, bias);
    if (place == SCALE) memcpy(im.data + im.tensors[w_id].offset + sgru_lines_i8(H) * 64 + 64, &odd, sizeof odd);
    uint32_t in[] = {x, w_id, add_packed_as(&im, SGRU_F32, H, H, w), bias_id, SGRU_NONE, h}, out[] = {y, h};
    uint32_t p[] = {1, 1, H, H, 0, 0, H, H, 0, H, H, 0, H, 0, H, place == CLIP ? odd : 0, F_TANH, odd, odd};
    add_op(&im, 50, 6, in, 2, out, 19, p);
    uint32_t norm[] = {y, SGRU_NONE, SGRU_NONE}, sizes[] = {1, H, place == EPSILON ? odd : 0};
    uint32_t z = add_tensor(&im, SGRU_F32, KIND_ARENA, LAYOUT_ROWS, 1, &n);
    add_op(&im, 66, 3, norm, 1, &z, 3, sizes);
    im.tensors[h].reset = add_const(&im, SGRU_F32, H, place == ELSEWHERE ? bias : w);
    add_to_list(&im, 0, x), add_to_list(&im, 1, z), add_to_list(&im, 2, h);
    return finish(&im, size);
}

/* The mode that everything below is called in; each call's status, or whether it gave something, against what is wanted. */
static unsigned wrong;
static control within, held; /* held: what the processor makes of it */
#define LEAVES_ALONE(call, want)                                                                                       \
    (write_control(within), held = read_control(), wrong += checked(held, (call), (want), #call))

static uint64_t no_clock(void) { return 0; }

static void try_calls(const sgru_model *m, unsigned flags)
{
    size_t need = sgru_stream_size(m, 2), pool_need = sgru_pool_size(m, 2, 2, 1), blob_size = sgru_save_size(m);
    void *memory = aligned_alloc(64, need), *pool_memory = aligned_alloc(64, pool_need), *blob = malloc(blob_size);
    float x[2][16] = {{0}}, y[2][16], infinite[2][16] = {{INFINITY}};
    const void *in[] = {x}, *bad_in[] = {infinite};
    void *out[] = {y};
    uint64_t ticks[8];
    sgru_stream *s = NULL;
    sgru_pool *pool = NULL;
    sgru_slot slots[2] = {0};
    sgru_tensor_info info;
    LEAVES_ALONE((s = sgru_stream_init(memory, need, m, 2, flags)) != NULL, 1);
    LEAVES_ALONE(sgru_stream_init(memory, 1, m, 2, flags) != NULL, 0);
    LEAVES_ALONE(sgru_tensor(m, SGRU_STATE, 0, &info) + sgru_tensor(m, 9, 0, &info), SGRU_E_ARGUMENT);
    LEAVES_ALONE(sgru_model_ops(m) > 0, 1);
    LEAVES_ALONE((sgru_step(s, in, out), 0), 0);
    LEAVES_ALONE((sgru_run(s, 2, in, out), 0), 0);
    LEAVES_ALONE(sgru_run(s, 2, bad_in, out) == SGRU_OK && !flags, 0);
    LEAVES_ALONE((sgru_step_inplace(s), 0), 0);
    LEAVES_ALONE(sgru_run(s, 1, NULL, out), SGRU_E_ARGUMENT);
    LEAVES_ALONE((sgru_reset(s), 0), 0);
    LEAVES_ALONE(sgru_save(s, blob, blob_size), SGRU_OK);
    LEAVES_ALONE(sgru_save(s, blob, 1), SGRU_E_ARGUMENT);
    LEAVES_ALONE((sgru_restore(s, blob, blob_size), 0), 0);
    LEAVES_ALONE(sgru_restore(s, blob, 1), SGRU_E_STATE);
    LEAVES_ALONE(sgru_profile(s, no_clock, ticks), SGRU_OK);
    LEAVES_ALONE((pool = sgru_pool_init(pool_memory, pool_need, m, 2, 2, 1, 0, flags)) != NULL, 1);
    LEAVES_ALONE((slots[0] = sgru_pool_open(pool)) && (slots[1] = sgru_pool_open(pool)), 1);
    LEAVES_ALONE((sgru_pool_step(pool, 2, slots, in, out, NULL), 0), 0);
    LEAVES_ALONE(sgru_pool_step(pool, 2, slots, bad_in, out, NULL) == SGRU_OK && !flags, 0);
    LEAVES_ALONE(sgru_pool_reset(pool, slots[0]), SGRU_OK);
    LEAVES_ALONE(sgru_pool_save(pool, slots[0], blob, blob_size), SGRU_OK);
    LEAVES_ALONE((sgru_pool_restore(pool, slots[0], blob, blob_size), 0), 0);
    LEAVES_ALONE(sgru_pool_close(pool, slots[0]), SGRU_OK);
    LEAVES_ALONE(sgru_pool_restore(pool, slots[0], blob, blob_size), SGRU_E_SLOT);
    write_control(mode(0));
    free(memory), free(pool_memory), free(blob);
}

/* Each odd image in one mode: refused where the checks look, and no call changes the mode or springs a trap. */
static unsigned try_odd(unsigned i, unsigned flags)
{
    wrong = 0, within = mode(i);
    for (int place = 0; place < PLACES; place++) {
        size_t size;
        sgru_model m;
        rng = 88172645463325252u;
        unsigned char *bytes = build_odd(place, &size);
        int want = place == SCALE ? SGRU_E_FORMAT : place == CLIP || place == EPSILON ? SGRU_E_OPERATOR : SGRU_OK;
        LEAVES_ALONE(sgru_model_open(&m, bytes, size), want);
        if (want == SGRU_OK) try_calls(&m, flags);
        free(bytes);
    }
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
            unsigned flags = i / MODES ? SGRU_PASS_NONFINITE : 0;
            unsigned bad = try_mode(&m, memory, i % MODES, flags, want) + try_odd(i % MODES, flags);
            passed += !bad, failed += bad;
        }
    free(memory), free(bytes);
    printf("%u passed, %u failed\n", passed, failed);
    return failed != 0;
}
