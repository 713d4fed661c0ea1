/* Random GRUs and the images that hold them, from a seed: shared by the C tests. */
#ifndef TEST_RANDOM_GRU_H
#define TEST_RANDOM_GRU_H

#include "image.h"
#include "random.h"

static inline float *randoms(size_t n, float scale)
{
    float *v = malloc((n ? n : 1) * sizeof *v);
    for (size_t i = 0; i < n; i++) v[i] = uniform(scale);
    return v;
}

typedef struct gru {
    int w_format, r_format;
    uint32_t T, B, I, H, lbr, reverse, has_lens, has_bias, f, g;
    float f_alpha, f_beta, g_alpha, g_beta, clip;
    float *w, *r, *bias_x, *bias_h, *h0, *x; /* [3H][I], [3H][H], [3H], [H], [B][H], [T][B][I] */
    int32_t lens[16];
} gru;

/* One in three the classic cell; otherwise any of the eleven activations, which stay tame by their parameters. */
static inline gru random_gru(void)
{
    static const uint32_t functions[] = {F_SIGMOID,      F_TANH,     F_RELU,     F_LEAKY_RELU,          F_ELU,
                                         F_HARD_SIGMOID, F_SOFTSIGN, F_SOFTPLUS, F_THRESHOLDED_RELU_EQ, F_SCALED_TANH,
                                         F_AFFINE};
    gru c = {.T = 1 + below(7), .B = 1 + below(9), .I = 1 + below(130), .H = 1 + below(130)};
    if (below(3) == 0) c.B = 1, c.H = 16 * (1 + below(8)); /* one sequence, whole blocks of rows: a path of its own */
    int classic = below(3) == 0;
    c.lbr = below(2), c.reverse = below(4) == 0, c.has_lens = below(4) == 0, c.has_bias = below(8) != 0;
    c.f = classic ? F_SIGMOID : functions[below(11)], c.g = classic ? F_TANH : functions[below(11)];
    c.f_alpha = 0.3f, c.f_beta = 0.5f, c.g_alpha = 0.4f, c.g_beta = 0.6f;
    c.clip = classic || below(2) ? 0.0f : 0.7f;
    float scale = 1.7320508f / (float)(c.H > c.I ? c.H : c.I);
    c.w = randoms((size_t)3 * c.H * c.I, scale * 2), c.r = randoms((size_t)3 * c.H * c.H, scale * 2);
    c.bias_x = randoms(3 * c.H, 0.5f), c.bias_h = randoms(c.H, 0.5f);
    c.h0 = randoms((size_t)c.B * c.H, 1.0f), c.x = randoms((size_t)c.T * c.B * c.I, 2.0f);
    for (uint32_t b = 0; b < c.B; b++) c.lens[b] = (int32_t)below(c.T + 1);
    c.w_format = any_format(), c.r_format = below(2) ? c.w_format : any_format();
    return c;
}

static inline void drop(gru *c) { free(c->w), free(c->r), free(c->bias_x), free(c->bias_h), free(c->h0), free(c->x); }

/* The cell as an image of T steps and B sequences from `first` on, the state in a slot reset to h0. */
static inline unsigned char *build(const gru *c, uint32_t T, uint32_t first, uint32_t B, int with_lens, size_t *size)
{
    image im = {0};
    uint32_t I = c->I, H = c->H, x_dims[] = {T, B, I}, y_dims[] = {T, B, H}, h_dims[] = {B, H};
    uint32_t x = add_tensor(&im, SGRU_F32, KIND_ARENA, LAYOUT_ROWS, 3, x_dims);
    uint32_t y = add_tensor(&im, SGRU_F32, KIND_ARENA, LAYOUT_ROWS, 3, y_dims);
    uint32_t h = add_tensor(&im, SGRU_F32, KIND_STATE, LAYOUT_ROWS, 2, h_dims);
    im.tensors[h].reset = add_const(&im, SGRU_F32, B * H, c->h0 + (size_t)first * H);
    uint32_t in[] = {
        x, add_packed_as(&im, c->w_format, 3 * H, I, c->w), SGRU_NONE, SGRU_NONE, SGRU_NONE, SGRU_NONE, SGRU_NONE, h};
    uint32_t out[] = {y, h};
    in[2] = add_packed_as(&im, c->r_format, c->lbr ? 3 * H : 2 * H, H, c->r);
    if (!c->lbr) in[3] = add_packed_as(&im, c->r_format, H, H, c->r + (size_t)2 * H * H);
    if (c->has_bias) in[4] = add_const(&im, SGRU_F32, 3 * H, c->bias_x);
    if (c->has_bias && c->lbr) in[5] = add_const(&im, SGRU_F32, H, c->bias_h);
    if (with_lens) in[6] = add_const(&im, SGRU_I32, B, c->lens + first);
    uint32_t params[] = {T,
                         B,
                         I,
                         H,
                         c->reverse,
                         0,
                         B * I,
                         I,
                         0,
                         B * H,
                         H,
                         0,
                         H,
                         0,
                         H,
                         bits_of(c->clip),
                         c->lbr,
                         c->f,
                         bits_of(c->f_alpha),
                         bits_of(c->f_beta),
                         c->g,
                         bits_of(c->g_alpha),
                         bits_of(c->g_beta)};
    add_op(&im, 48, 8, in, 2, out, 23, params);
    add_to_list(&im, 0, x), add_to_list(&im, 1, y), add_to_list(&im, 2, h);
    return finish(&im, size);
}

#endif
