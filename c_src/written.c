/* Whether every byte of the arena that is read was written before in the same frame: by an input, or by an operator before. An image
 * that reads what an earlier frame left there would pass it on, in a pool to somebody else's slot.
 *
 * A map of bits holds one window of the arena, and the operators are gone through in order once for each window. Nothing is allocated;
 * the time is bounded by MOST_STEPS, beyond which an image is refused. */
#include "internal.h"

enum { WORDS = sizeof(size_t) > 4 ? 1024 : 128 };
enum { MOST_STEPS = 1 << 28, A_RUN = 4, AN_OPERAND = 8 }; /* a step is a word of the map: some tenths of a second */

/* Units are bytes, or floats where no tensor of the arena has smaller elements. */
typedef struct written_map {
    const sgru_model *m;
    uint64_t bits[WORDS];
    int64_t low, high; /* units of the window */
    size_t unit;
    uint32_t steps;
    int writes; /* else the units are looked at */
} written_map;

/* A walk in units: strides above 0, the longest first, the innermost elements as one run. */
typedef struct written_walk {
    uint32_t rank;
    int64_t n[SGRU_MAX_RANK], stride[SGRU_MAX_RANK], run;
    int64_t reach[SGRU_MAX_RANK + 1]; /* from the first unit to beyond the last, of the dimensions from here on */
} written_walk;

static SGRU_COLD int take_steps(written_map *map, uint32_t n) { return (map->steps += n) <= MOST_STEPS; }

/* Units at .. at + n, as far as they are in the window: 0 where one that is looked at is not there. */
static int touch(written_map *map, int64_t at, int64_t n)
{
    int64_t low = at < map->low ? map->low : at, high = at + n > map->high ? map->high : at + n;
    if (low >= high) return 1;
    uint64_t from = (uint64_t)(low - map->low), last = (uint64_t)(high - map->low) - 1, missing = 0;
    if (!take_steps(map, 1 + (uint32_t)(last - from) / 64)) return 0;
    for (uint64_t word = from / 64; word <= last / 64; word++) {
        uint64_t mask = UINT64_MAX;
        if (word == from / 64) mask &= UINT64_MAX << from % 64;
        if (word == last / 64) mask &= UINT64_MAX >> (63 - last % 64);
        if (map->writes) map->bits[word] |= mask;
        else missing |= mask & ~map->bits[word];
    }
    return !missing;
}

/* The dimensions from number i on, beginning at unit `at`, as far as they meet the window. */
static SGRU_COLD int touch_all(written_map *map, const written_walk *w, uint32_t i, int64_t at)
{
    if (!take_steps(map, A_RUN)) return 0;
    if (i == w->rank) return touch(map, at, w->run);
    int64_t step = w->stride[i], first = map->low - at - w->reach[i + 1], last = map->high - 1 - at;
    first = first < 0 ? 0 : first / step + 1;
    if (last < 0) return 1;
    last = last / step < w->n[i] - 1 ? last / step : w->n[i] - 1;
    for (int64_t k = first; k <= last; k++)
        if (!touch_all(map, w, i + 1, at + k * step)) return 0;
    return 1;
}

/* One dimension more, at its place among those there are: longer strides before shorter ones. */
static SGRU_COLD void add_dimension(written_walk *w, int64_t n, int64_t stride)
{
    uint32_t i = w->rank++;
    for (; i && w->stride[i - 1] < stride; i--) w->n[i] = w->n[i - 1], w->stride[i] = w->stride[i - 1];
    w->n[i] = n, w->stride[i] = stride;
}

/* What an operator touches of tensor t from unit *at on, in whatever order: of a transposed tensor one run. */
static SGRU_COLD void lay_walk(const written_map *map, const sgru_tensor_rec *t, const sgru_walk *from, written_walk *w,
                               int64_t *at)
{
    int64_t units = (int64_t)(dtype_size(t->dtype) / map->unit), n, stride;
    *at += from->offset * units;
    w->rank = 0, w->run = units;
    for (uint32_t i = 0; i < from->rank; i++) {
        n = from->dims[i], stride = (int32_t)from->strides[i] * units;
        if (stride < 0) *at += (n - 1) * stride, stride = -stride;
        if (n > 1 && stride) add_dimension(w, n, stride);
    }
    for (; w->rank && w->stride[w->rank - 1] <= w->run; w->rank--)
        w->run += (w->n[w->rank - 1] - 1) * w->stride[w->rank - 1];
    w->reach[w->rank] = w->run;
    for (uint32_t i = w->rank; i-- > 0;) w->reach[i] = w->reach[i + 1] + (w->n[i] - 1) * w->stride[i];
}

/* Operand i of an operator, or with op NULL the whole tensor `id`. */
static SGRU_COLD int touch_operand(written_map *map, uint32_t id, const sgru_op *op, uint32_t i)
{
    if (!take_steps(map, AN_OPERAND)) return 0;
    if (id == SGRU_NONE || tensor_of(map->m, id)->kind != KIND_ARENA) return 1;
    const sgru_tensor_rec *t = tensor_of(map->m, id);
    int64_t at = (int64_t)(t->offset / map->unit), n = (int64_t)(bytes_of(t) / map->unit);
    if (at >= map->high || at + n <= map->low) return 1;
    const sgru_op_def *def = op ? sgru_find_op(op->code) : NULL;
    sgru_walk part;
    written_walk w;
    if (!def || !def->part || !def->part(op, i, &part)) return touch(map, at, n);
    lay_walk(map, t, &part, &w, &at);
    return touch_all(map, &w, 0, at);
}

static SGRU_COLD int touch_list(written_map *map, const uint32_t *ids, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        if (!touch_operand(map, ids[i], NULL, 0)) return 0;
    return 1;
}

/* The window: inputs, operators in order, outputs. */
static SGRU_COLD int window_is_sound(written_map *map)
{
    const sgru_model *m = map->m;
    const uint32_t *ids = words_of(m) + header_of(m)->lists;
    if (!take_steps(map, WORDS / 8 + 4 * m->n_tensors)) return 0;
    memset(map->bits, 0, sizeof map->bits);
    map->writes = 1;
    if (!touch_list(map, ids, m->n_inputs)) return 0;
    for (uint32_t o = 0; o < m->n_ops; o++) {
        sgru_op op = op_of(m, o);
        for (uint32_t i = 0; i < op.n_in + op.n_out; i++) {
            map->writes = i >= op.n_in;
            if (!touch_operand(map, op.in[i], &op, i)) return 0;
        }
    }
    map->writes = 0;
    return touch_list(map, ids + m->n_inputs, m->n_outputs);
}

static SGRU_COLD size_t smallest_unit(const sgru_model *m)
{
    for (uint32_t i = 0; i < m->n_tensors; i++)
        if (tensor_of(m, i)->kind == KIND_ARENA && dtype_size(tensor_of(m, i)->dtype) < 4) return 1;
    return 4;
}

/* The first unit from map->high on that a tensor has; `all` where none does. */
static SGRU_COLD int64_t next_unit(const written_map *map, int64_t all)
{
    int64_t next = all;
    for (uint32_t i = 0; i < map->m->n_tensors; i++) {
        const sgru_tensor_rec *t = tensor_of(map->m, i);
        int64_t at = (int64_t)(t->offset / map->unit), end = at + (int64_t)(bytes_of(t) / map->unit);
        if (t->kind != KIND_ARENA || end <= map->high) continue;
        if (at <= map->high) return map->high;
        if (at < next) next = at;
    }
    return next;
}

int sgru_check_written(const sgru_model *m)
{
    written_map map = {.m = m, .unit = smallest_unit(m)};
    const int64_t all = (int64_t)(m->arena_size / map.unit);
    while ((map.low = next_unit(&map, all)) < all) {
        map.high = map.low + 64 * WORDS;
        if (!window_is_sound(&map)) return map.steps > MOST_STEPS ? SGRU_E_WORK : SGRU_E_OPERATOR;
    }
    return SGRU_OK;
}
