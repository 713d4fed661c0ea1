/* Ten thousand steps under seccomp's strict mode, where any system call but read, write and exit kills the process: a step that
 * allocated from the system, took a contended lock or asked for the time would not survive. Every ISA, both GRU forms, odd and
 * whole sizes; ordinary, huge, silent and subnormal frames. */
#define _GNU_SOURCE
#include <linux/seccomp.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "random_gru.h"

enum { STREAMS = 24, STEPS = 10000 };

static void say(const char *text) { (void)!write(1, text, strlen(text)); }

int main(void)
{
    static sgru_model models[STREAMS];
    static sgru_stream *streams[STREAMS];
    static float x[4][256];
    unsigned n = 0;
    rng = 20261120;
    for (int i = 0; i < 256; i++) x[0][i] = uniform(1.0f), x[1][i] = 1e30f * x[0][i], x[3][i] = 1e-40f;
    for (unsigned k = 0; sgru_available_isa(k); k++)
        for (uint32_t form = 0; form < 8; form++) {
            gru c = random_gru();
            size_t size;
            c.lbr = form & 1;
            unsigned char *bytes = build(&c, 1, 0, 1, 0, &size);
            if (n == STREAMS || sgru_model_open(&models[n], bytes, size) || sgru_set_isa(sgru_available_isa(k)))
                return 1;
            size_t need = sgru_stream_size(&models[n], 1);
            streams[n] = sgru_stream_init(aligned_alloc(64, need), need, &models[n], 1, SGRU_PASS_NONFINITE);
            if (!streams[n++]) return 1;
            drop(&c);
        }
    if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT)) return 1;
    int failed = 0;
    for (unsigned s = 0; s < n; s++)
        for (int step = 0; step < STEPS / 24; step++) {
            static float y[256];
            const void *in[] = {x[step / 100 % 4]};
            void *out[] = {y};
            failed |= sgru_step(streams[s], in, out);
        }
    say(failed ? "0 passed, 1 failed\n" : "1 passed, 0 failed\n");
    syscall(SYS_exit, failed);
}
