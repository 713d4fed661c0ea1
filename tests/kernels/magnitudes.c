/* How long a step takes with inputs and states of every magnitude, beside ordinary ones: where products and sums become subnormal, many
 * processors are slower. A GRU of 64 inputs and H = 64, with and without biases, its weights in each format. No test: it prints what
 * docs/c-api.md states.
 *
 *     magnitudes */
#define _GNU_SOURCE
#include <time.h>

#include "trial.h"

enum { I = 64, H = 64, STEPS = 50, ROUNDS = 40 };

static unsigned char *build(int format, int biased, size_t *size)
{
    image im = {0};
    uint32_t x_dims[] = {1, 1, I}, h_dims[] = {1, H};
    float *w = randoms(3 * H * (I + H), 0.2f), *bias = randoms(3 * H, 0.1f);
    uint32_t x = add_tensor(&im, SGRU_F32, KIND_ARENA, LAYOUT_ROWS, 3, x_dims),
             y = add_tensor(&im, SGRU_F32, KIND_ARENA, LAYOUT_ROWS, 2, h_dims),
             h = add_tensor(&im, SGRU_F32, KIND_STATE, LAYOUT_ROWS, 2, h_dims);
    uint32_t over_x = add_packed_as(&im, format, 3 * H, I, w),
             over_h = add_packed_as(&im, format, 3 * H, H, w + 3 * H * I);
    uint32_t bias_x = biased ? add_const(&im, SGRU_F32, 3 * H, bias) : SGRU_NONE;
    uint32_t bias_h = biased ? add_const(&im, SGRU_F32, H, bias) : SGRU_NONE;
    uint32_t in[] = {x, over_x, over_h, SGRU_NONE, bias_x, bias_h, SGRU_NONE, h}, out[] = {y, h};
    uint32_t p[] = {1, 1, I, H, 0, 0, I, I, 0, H, H, 0, H, 0, H, 0, 1, F_SIGMOID, 0, 0, F_TANH, 0, 0};
    add_op(&im, 48, 8, in, 2, out, 23, p);
    add_to_list(&im, 0, x), add_to_list(&im, 1, y), add_to_list(&im, 2, h);
    free(w), free(bias);
    return finish(&im, size);
}

static double nanoseconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

/* The least mean time of STEPS steps, the state beginning each time near `state`. */
static double step_time(sgru_stream *s, float input, float state)
{
    double best = INFINITY;
    for (int round = 0; round < ROUNDS; round++) {
        double began = nanoseconds();
        for (int i = 0; i < STEPS; i++) {
            float *x = sgru_input(s, 0), *h = (float *)s->state;
            for (int j = 0; j < I; j++) x[j] = input * (j % 2 ? 1.1f : -1.3f);
            for (int j = 0; j < H; j++) h[j] = state * (j % 3 ? 1.2f : -1.1f);
            (void)sgru_step_inplace(s);
        }
        double mean = (nanoseconds() - began) / STEPS;
        if (mean < best) best = mean;
    }
    return best;
}

static void measure(const char *isa, const char *name, int format, int biased)
{
    static const int exponents[] = {-20, -40, -50, -64, -80, -96, -110, -116, -120, -123, -126};
    size_t size;
    sgru_model m;
    rng = 5;
    unsigned char *bytes = build(format, biased, &size);
    if (use_isa(isa) || sgru_model_open(&m, bytes, size)) return;
    size_t need = sgru_stream_size(&m, 1);
    void *memory = aligned_alloc(64, need);
    sgru_stream *s = sgru_stream_init(memory, need, &m, 1, 0);
    double usual = step_time(s, 1, 0.5f);
    printf("%s %s %s: %.0f ns;", isa, name, biased ? "biases" : "no biases", usual);
    for (size_t e = 0; e < sizeof exponents / sizeof *exponents; e++) {
        float small = ldexpf(1, exponents[e]), state = exponents[e] < -63 ? 0x1p-63f : small;
        printf("  2^%d %.2f %.2f", exponents[e], step_time(s, small, 0.5f) / usual, step_time(s, small, state) / usual);
    }
    printf("\n");
    free(memory), free(bytes);
}

int main(void)
{
    static const struct {
        const char *name;
        int format;
    } formats[] = {{"f32", SGRU_F32}, {"f16", SGRU_F16}, {"i8", SGRU_I8}};
    printf(
        "the magnitude of the inputs, how many times longer a step takes, and that with states as small or of 2^-63\n");
    for (unsigned k = 0; isa_at(k) && strcmp(isa_at(k), "ref"); k++)
        for (int f = 0; f < 3; f++)
            for (int biased = 0; biased < 2; biased++) measure(isa_at(k), formats[f].name, formats[f].format, biased);
    return 0;
}
