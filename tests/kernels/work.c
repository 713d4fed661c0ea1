/* How many operations a step takes: what sgru_model_ops() says of random operators, held against docs/format.md's table of them.
 *
 *     work [count [seed]]     count images of each operator */
#include "holds.h"
#include "ops/ops.h"
#include "random_operator.h"

enum { CALL = 64, LOOPED = 16 };

static uint64_t padded(uint64_t n) { return n % 16 ? n + 16 - n % 16 : n; }

static uint64_t of_function(uint32_t f)
{
    static const uint32_t cheap[] = {0, 3, 4, 6, 9, 11, 12, 17, 18, 21, 26, 30};
    for (size_t i = 0; i < sizeof cheap / sizeof *cheap; i++)
        if (cheap[i] == f) return 2;
    return f == 32 || f == 33 ? 128 : 16;
}

static uint64_t all_of(uint32_t rank, const uint32_t *dims)
{
    uint64_t n = 1;
    for (uint32_t i = 0; i < rank; i++) n *= dims[i];
    return n;
}

/* Rows of n elements, each with a call, side by side where there is an inner dimension of 1. */
static uint64_t of_rows(uint32_t outer, uint32_t n, uint32_t inner, uint64_t each)
{
    return (uint64_t)outer * n * inner * each + (uint64_t)outer * (inner == 1 ? 1 : n) * 2 * CALL;
}

static uint64_t of_binary(uint32_t dtype, const uint32_t *p)
{
    uint32_t f = p[0], rank = p[1], last = rank - 1;
    const uint32_t *dims = p + 2, *a = dims + rank, *b = a + rank;
    int in_vectors = dtype == SGRU_F32 && f < 10 && a[last] < 2 && b[last] < 2;
    uint64_t each = (f == 4 || f == 8 || f == 9 ? 128 : 2) + (in_vectors ? 0 : LOOPED);
    return all_of(rank, dims) * each + all_of(rank - 1, dims) * CALL;
}

static uint64_t of_copy(const uint32_t *p)
{
    uint32_t rank = p[0], last = rank - 1;
    const uint32_t *dims = p + 3, *from = dims + rank, *to = from + rank;
    if (rank == 0) return 1 + CALL;
    int is_row = from[last] == 1 && to[last] == 1;
    return all_of(rank, dims) * (is_row ? 1 : LOOPED) + (is_row ? all_of(rank - 1, dims) * CALL : 0);
}

static uint64_t of_topk(const uint32_t *p)
{
    unsigned halvings = 1;
    for (uint32_t k = p[3]; k > 1; k /= 2) halvings++;
    return (uint64_t)p[0] * p[1] * p[2] * (1 + halvings) * LOOPED;
}

/* Of a convolution; a transposed one computes each remainder of its outputs by itself. */
static uint64_t of_conv(const uint32_t *p, int transposed)
{
    uint64_t N = p[0], C = p[1], M = p[4], OH = p[5], OW = p[6], g = p[7], kh = p[8], kw = p[9], sh = p[10], sw = p[11];
    uint64_t parts = transposed && sw > 1 ? sw < OW ? sw : OW : 1;
    uint64_t taps = C / g * (transposed ? (kh + sh - 1) / sh * ((kw + sw - 1) / sw) : kh * kw);
    uint64_t row = M / g * padded((OW + parts - 1) / parts) * (taps + of_function(p[16]));
    return N * g * OH * parts * (row + CALL) + C / g * kh * kw * LOOPED;
}

static uint64_t of_pool(const uint32_t *p)
{
    uint64_t OW = p[6], taps = (uint64_t)p[7] * p[8];
    return (uint64_t)p[1] * p[2] * p[5] * taps * (OW + CALL) + OW * p[8];
}

/* Whether the windows lie inside of x and next to each other: then x is not copied. */
static int stays_inside(const uint32_t *p, int pool)
{
    const uint32_t *in = p + (pool ? 3 : 2), *out = p + 5, *k = p + (pool ? 7 : 8), *moves = k + 2;
    for (int i = 0; i < 2; i++)
        if (moves[2 + i] || (out[i] - 1) * moves[i] + (k[i] - 1) * moves[4 + i] >= in[i]) return 0;
    return moves[1] == 1;
}

static uint64_t elements_of(const sgru_model *m, uint32_t id)
{
    return id == SGRU_NONE ? 0 : count_of(tensor_of(m, id));
}

/* What the table says; *room: what the copy of a plane may add to it. */
static uint64_t expected(const sgru_model *m, const sgru_op *op, uint64_t *room)
{
    const uint32_t *p = op->params;
    uint64_t out = elements_of(m, op->out[0]), in = op->n_in ? elements_of(m, op->in[0]) : 0;
    int is_plane = op->code >= 80, pool = op->code == 82;
    *room = is_plane && (op->code == 81 || !stays_inside(p, pool)) ? (uint64_t)1 << 20 : 0;
    switch (op->code) {
    case 1: return of_copy(p);
    case 2: return out * LOOPED;
    case 3: return out * LOOPED;
    case 4: return out + (uint64_t)p[0] * p[3] * CALL;
    case 5: return out + elements_of(m, op->in[1]) * CALL;
    case 6: return out + elements_of(m, op->in[2]) * CALL;
    case 7: return out + elements_of(m, op->in[2]) * LOOPED + elements_of(m, op->in[1]) * CALL;
    case 16: return in * of_function(p[0]);
    case 17: return of_binary(tensor_of(m, op->in[0])->dtype, p);
    case 18: return all_of(p[0], p + 1) * LOOPED + all_of(p[0] - 1, p + 1) * CALL;
    case 32: return p[0] * padded(p[1]) * (p[2] + of_function(p[3]));
    case 33: return all_of(p[0], p + 6) * p[1] * (padded(p[2]) * p[3] + CALL);
    case 48: return (uint64_t)p[0] * p[1] * padded(3ull * p[3]) * (p[2] + p[3] + CALL);
    case 49: return (uint64_t)p[0] * p[1] * padded(4ull * p[3]) * (p[2] + p[3] + CALL);
    case 50: return (uint64_t)p[0] * p[1] * padded(p[3]) * (p[2] + p[3] + CALL);
    case 64: return of_rows(p[1], p[2], p[3], p[0] == 8 ? 32 : LOOPED);
    case 65: return of_rows(p[0], p[1], p[2], p[3] ? 96 : 32);
    case 66: return of_rows(p[0], p[1], 1, LOOPED);
    case 67: return in * LOOPED;
    case 68: return of_topk(p);
    case 69: return (uint64_t)p[0] * p[1] * (p[2] * LOOPED + CALL);
    case 82: return of_pool(p);
    default: return of_conv(p, op->code == 81);
    }
}

static void try_operator(uint16_t code)
{
    size_t size;
    sgru_model m;
    unsigned char *bytes = make(code, &size);
    if (sgru_model_open(&m, bytes, size) == SGRU_OK) {
        sgru_op op = op_of(&m, 0);
        uint64_t room, least = expected(&m, &op, &room), ops = sgru_model_ops(&m);
        HOLDS(least <= ops && ops <= least + room);
        if (failed) printf("operator %u: %llu, not %llu\n", code, (unsigned long long)ops, (unsigned long long)least);
        HOLDS(sgru_model_open_within(&m, bytes, size, ops) == SGRU_OK);
        HOLDS(sgru_model_open_within(&m, bytes, size, ops - 1) == SGRU_E_WORK);
    }
    free(bytes);
}

/* Numbers that no model of this machine reaches, but another's may. */
static void try_limits(void)
{
    const uint64_t most = UINT64_MAX, most_scratch = sizeof(size_t) > 4 ? (uint64_t)1 << 40 : SIZE_MAX / 8;
    size_t scratch = 0;
    HOLDS(plus(most, 0) == most && plus(most - 5, 5) == most && plus(most - 5, 6) == most && plus(3, 4) == 7);
    HOLDS(times(most, 1) == most && times(0, most) == 0 && times(most, 0) == 0 && times(3, 4) == 12);
    HOLDS(times((uint64_t)1 << 32, (uint64_t)1 << 32) == most && times(most / 3, 3) == most / 3 * 3);
    HOLDS(times(most / 3 + 1, 3) == most);
    HOLDS(need_scratch(&scratch, 0) && scratch == 0 && need_scratch(&scratch, 12345) && scratch == 12345);
    HOLDS(need_scratch(&scratch, most_scratch) && !need_scratch(&scratch, most_scratch + 1));
    HOLDS(!need_scratch(&scratch, most));
}

int main(int argc, char **argv)
{
    unsigned count = argc > 1 ? (unsigned)atoi(argv[1]) : 200, seed = argc > 2 ? (unsigned)atoi(argv[2]) : 1;
    rng = 0x9E3779B97F4A7C15u * (seed + 1);
    for (unsigned i = 0; i < count && !failed; i++)
        for (unsigned c = 0; c < N_OPERATORS && !failed; c++) try_operator(codes[c]);
    try_limits();
    HOLDS(passed > count * N_OPERATORS);
    printf("seed %u: %u passed, %u failed\n", seed, passed, failed);
    return failed != 0;
}
