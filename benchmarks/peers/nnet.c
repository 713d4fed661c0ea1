/* The GRU of xiph's nnet.c (RNNoise; the same code as in Opus and LPCNet), with -DINT8 its int8 weights.
 *
 * The form of linear_before_reset=1, the gates in the order z r n. Float weights are [input][3H], int8 ones
 * [3H/8][input/4][8][4], each row with a scale; an input becomes 127 x, so it must lie within -1 .. 1. */
#include <math.h>
#include <stdlib.h>

#include "nnet.h"
#include "peer.h"

typedef struct gru {
    LinearLayer input, recurrent;
    float *state;
} gru;

static LinearLayer linear(const float *w /* [rows][inputs] */, const float *bias, int rows, int inputs)
{
    LinearLayer layer = {.nb_inputs = inputs, .nb_outputs = rows};
#ifdef INT8
    opus_int8 *q = malloc((size_t)rows * inputs);
    float *scale = malloc(rows * sizeof *scale), *shifted = malloc(rows * sizeof *shifted);
    for (int m = 0; m < rows; m++) {
        float most = 1e-9f;
        int sum = 0;
        for (int k = 0; k < inputs; k++) most = fmaxf(most, fabsf(w[m * inputs + k]));
        for (int k = 0; k < inputs; k++) {
            int v = (int)lrintf(w[m * inputs + k] * 127 / most);
            q[((m / 8 * (inputs / 4) + k / 4) * 8 + m % 8) * 4 + k % 4] = (opus_int8)v;
            sum += v;
        }
        scale[m] = most / (127 * 127);
        shifted[m] = bias[m] - 127 * scale[m] * (float)sum; /* unsigned inputs are 127 + 127 x */
    }
    layer.weights = q, layer.scale = scale, layer.bias = bias, layer.subias = shifted;
#else
    float *t = malloc((size_t)rows * inputs * sizeof *t);
    for (int m = 0; m < rows; m++)
        for (int k = 0; k < inputs; k++) t[k * rows + m] = w[m * inputs + k];
    layer.float_weights = t, layer.bias = bias;
#endif
    return layer;
}

void *peer_open(int input, int hidden, const float *w, const float *r, const float *bias_w, const float *bias_r)
{
    if (hidden > 1024 || hidden % 8 || input % 4) return NULL; /* its scratch memory, its blocks */
    gru *g = malloc(sizeof *g);
    g->input = linear(w, bias_w, 3 * hidden, input), g->recurrent = linear(r, bias_r, 3 * hidden, hidden);
    g->state = calloc((size_t)hidden, sizeof *g->state);
    return g;
}

void peer_step(void *peer, const float *x, float *y)
{
    gru *g = peer;
    compute_generic_gru(&g->input, &g->recurrent, g->state, x, 0);
    for (int i = 0; i < g->recurrent.nb_inputs; i++) y[i] = g->state[i];
}
