/* Where a step's time goes, operator by operator. Not for real-time use, and nothing here is on a step's way. */
#include "internal.h"

int sgru_profile(sgru_stream *s, uint64_t (*clock)(void), uint64_t *ticks)
{
    if (!s || !clock || !ticks) return SGRU_E_ARGUMENT;
    uint32_t n = s->model->n_ops;
    int status = SGRU_OK;
    if (!sgru_claim(&s->taken)) return SGRU_E_BUSY;
    sgru_fpenv caller = sgru_fpenv_enter();
    s->turn++;
    uint64_t before = clock(), start = clock();
    ticks[n] = start - before;
    for (uint32_t i = 0; i < n && !status; i++) {
        sgru_op op = op_of(s->model, i);
        status = sgru_find_op(op.code)->run(s, &op, 0, 1);
        uint64_t now = clock();
        ticks[i] = now - start;
        start = now;
    }
    sgru_fpenv_leave(caller);
    sgru_release(&s->taken);
    return status;
}
