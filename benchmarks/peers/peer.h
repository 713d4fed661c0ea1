/* One GRU layer of somebody else's library, as benchmarks/peers/sources.py compiles and calls it. */
#ifndef PEER_H
#define PEER_H
#ifdef __cplusplus
extern "C" {
#endif

/* With linear_before_reset=1 and the gates in ONNX's order, z r n; the state is zero. w: [3H][I], r: [3H][H], bias_w, bias_r: [3H].
 * NULL where the library has none of that size. It is never closed: the process ends after the run. */
void *peer_open(int input, int hidden, const float *w, const float *r, const float *bias_w, const float *bias_r);
void peer_step(void *peer, const float *x, float *y); /* x: [I], y: [H] */

#ifdef __cplusplus
}
#endif
#endif
