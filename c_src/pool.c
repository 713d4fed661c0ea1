/* A pool: the states of many streams of one model, in the caller's memory. A step moves any of them on by a frame, several side
 * by side as lanes of an engine (stream.c), so that one pass over the weights serves them all. No allocation, no lock, no
 * system call. A step writes the new states beside the old ones and takes them over at its end, all or none. */
#include "internal.h"

/* A slot's two states lie one after the other. */
typedef struct sgru_place {
    sgru_slot id;     /* 0: closed */
    uint32_t current; /* which of the two states holds */
    uint32_t step;    /* the last step that it took part in: no step takes a slot twice */
} sgru_place;

enum { MOST_ENGINES = 64 };

struct sgru_pool {
    sgru_stream *engines[MOST_ENGINES];
    sgru_workers *workers; /* or NULL */
    sgru_place *places;
    unsigned char *states; /* [capacity][2][state_size] */
    size_t capacity, open, next;
    unsigned n_engines;
    uint32_t tag, opened, step;
};

/* Ids: the pool's tag, the number of the opening, the place. No two are equal, whatever was closed and opened between. */
enum { PLACE_BITS = 24, OPENING_BITS = 24, TAG_BITS = 15 };

static size_t places_size(size_t capacity) { return round_up(capacity * sizeof(sgru_place), 64); }

/* Lanes take as much scratch memory as so many single frames. */
static size_t engine_size(const sgru_model *m, size_t lanes)
{
    if (m->scratch_size && lanes > SIZE_MAX / 8 / m->scratch_size) return 0;
    return round_up(sgru_engine_size(m, lanes, lanes, lanes * m->scratch_size), 64);
}

size_t sgru_pool_size(const sgru_model *m, size_t capacity, size_t lanes, unsigned engines)
{
    const size_t most = SIZE_MAX / 8 / MOST_ENGINES;
    if (!m || capacity == 0 || lanes == 0 || capacity > (size_t)1 << PLACE_BITS || engines - 1 >= MOST_ENGINES)
        return 0;
    size_t engine = engine_size(m, lanes), own = round_up(sizeof(sgru_pool), 64);
    if (engine == 0 || engine > most || (m->state_size && capacity > most / m->state_size)) return 0;
    return own + places_size(capacity) + 2 * capacity * m->state_size + engines * engine;
}

sgru_pool *sgru_pool_init(void *memory, size_t size, const sgru_model *m, size_t capacity, size_t lanes,
                          unsigned engines, uint32_t tag, unsigned flags)
{
    size_t need = sgru_pool_size(m, capacity, lanes, engines);
    if (!memory || (uintptr_t)memory % 64 != 0 || need == 0 || size < need || tag >> TAG_BITS) return NULL;
    unsigned char *p = (unsigned char *)memory + round_up(sizeof(sgru_pool), 64);
    sgru_pool *pool = memory;
    *pool = (sgru_pool){.places = (sgru_place *)p, .capacity = capacity, .n_engines = engines, .tag = tag};
    pool->states = p + places_size(capacity);
    p = pool->states + 2 * capacity * m->state_size;
    for (unsigned i = 0; i < engines; i++, p += engine_size(m, lanes))
        pool->engines[i] = sgru_engine_init(p, m, lanes, lanes, m->state_size, flags);
    memset(pool->places, 0, capacity * sizeof(sgru_place));
    return pool;
}

int sgru_pool_use(sgru_pool *pool, sgru_workers *workers)
{
    if (!pool || (workers && workers->n > pool->n_engines)) return SGRU_E_ARGUMENT;
    pool->workers = workers;
    return SGRU_OK;
}

static const sgru_model *model_of(const sgru_pool *pool) { return pool->engines[0]->model; }

static unsigned char *state_of(const sgru_pool *pool, const sgru_place *at, uint32_t which)
{
    return pool->states + (2 * (size_t)(at - pool->places) + which) * model_of(pool)->state_size;
}

/* The open place of an id, or NULL. */
static sgru_place *place_of(const sgru_pool *pool, sgru_slot id)
{
    size_t i = (size_t)(id & (((sgru_slot)1 << PLACE_BITS) - 1));
    return id > 0 && i < pool->capacity && pool->places[i].id == id ? pool->places + i : NULL;
}

sgru_slot sgru_pool_open(sgru_pool *pool)
{
    if (!pool || pool->open == pool->capacity) return 0;
    while (pool->places[pool->next].id) pool->next = (pool->next + 1) % pool->capacity;
    sgru_place *at = pool->places + pool->next;
    pool->opened = (pool->opened + 1) & ((1u << OPENING_BITS) - 1);
    if (pool->opened == 0) pool->opened = 1;
    at->id = (sgru_slot)pool->tag << (PLACE_BITS + OPENING_BITS) | (sgru_slot)pool->opened << PLACE_BITS |
             (sgru_slot)pool->next;
    at->current = 0;
    at->step = 0;
    pool->open++;
    sgru_reset_state(pool->engines[0], state_of(pool, at, 0));
    return at->id;
}

int sgru_pool_close(sgru_pool *pool, sgru_slot id)
{
    sgru_place *at = pool ? place_of(pool, id) : NULL;
    if (!at) return SGRU_E_SLOT;
    at->id = 0;
    pool->open--;
    return SGRU_OK;
}

int sgru_pool_reset(sgru_pool *pool, sgru_slot id)
{
    sgru_place *at = pool ? place_of(pool, id) : NULL;
    if (!at) return SGRU_E_SLOT;
    sgru_reset_state(pool->engines[0], state_of(pool, at, at->current));
    return SGRU_OK;
}

int sgru_pool_save(const sgru_pool *pool, sgru_slot id, void *blob, size_t size)
{
    const sgru_place *at = pool ? place_of(pool, id) : NULL;
    return at ? sgru_save_state(model_of(pool), state_of(pool, at, at->current), blob, size) : SGRU_E_SLOT;
}

int sgru_pool_restore(sgru_pool *pool, sgru_slot id, const void *blob, size_t size)
{
    sgru_place *at = pool ? place_of(pool, id) : NULL;
    if (!at) return SGRU_E_SLOT;
    int status = sgru_load_state(pool->engines[0], state_of(pool, at, !at->current), blob, size);
    if (!status) at->current = !at->current;
    return status;
}

/* ---- a step ---- */

/* Every id is open and stands once. */
static int check_slots(sgru_pool *pool, size_t n, const sgru_slot *ids, size_t *bad)
{
    if (++pool->step == 0) { /* once in 2^32 steps */
        for (size_t i = 0; i < pool->capacity; i++) pool->places[i].step = 0;
        pool->step = 1;
    }
    for (size_t i = 0; i < n; i++) {
        sgru_place *at = place_of(pool, ids[i]);
        *bad = i;
        if (!at || at->step == pool->step) return SGRU_E_SLOT;
        at->step = pool->step;
    }
    return SGRU_OK;
}

/* What a step is given. */
typedef struct sgru_moves {
    const sgru_pool *pool;
    const sgru_slot *ids;
    const void *const *inputs;
    void *const *outputs;
    size_t n;
    unsigned parts;
    int status[MOST_ENGINES]; /* of each part; and the slot that its error is about */
    size_t bad[MOST_ENGINES];
} sgru_moves;

/* Slots number `from` .. as lanes 0 .. n - 1, from their states to the states beside them. *bad: the lane that failed, or n. */
static int step_lanes(const sgru_moves *m, sgru_stream *s, size_t from, size_t n, size_t *bad)
{
    size_t bytes = s->model->state_size;
    int status;
    for (*bad = 0; *bad < n; ++*bad) {
        const sgru_place *at = place_of(m->pool, m->ids[from + *bad]);
        if ((status = sgru_take_frame(s, *bad, m->inputs, from + *bad))) return status;
        memcpy(s->state + *bad * bytes, state_of(m->pool, at, at->current), bytes);
    }
    if ((status = sgru_run_ops(s, 0, n))) return status;
    for (*bad = 0; *bad < n; ++*bad)
        if ((status = sgru_settle(s, s->state + *bad * bytes))) return status;
    for (size_t i = 0; i < n; i++) {
        const sgru_place *at = place_of(m->pool, m->ids[from + i]);
        memcpy(state_of(m->pool, at, !at->current), s->state + i * bytes, bytes);
        sgru_give_frame(s, i, m->outputs, from + i);
    }
    return SGRU_OK;
}

/* The first of the lanes that an operator fails for: those before it do not. */
static size_t find_bad(const sgru_moves *m, sgru_stream *s, size_t from, size_t n)
{
    size_t lane = 0, ignored;
    while (lane < n && !step_lanes(m, s, from + lane, 1, &ignored)) lane++;
    return lane;
}

/* One worker's part of the slots, a row of lanes after the other. */
static void step_part(void *work, unsigned i)
{
    sgru_moves *m = work;
    sgru_stream *s = m->pool->engines[i];
    sgru_fpenv caller = sgru_fpenv_enter();
    size_t end = m->n * (i + 1) / m->parts, lane;
    m->status[i] = SGRU_OK;
    for (size_t from = m->n * i / m->parts, lanes; from < end; from += lanes) {
        lanes = end - from < s->block ? end - from : s->block;
        m->status[i] = step_lanes(m, s, from, lanes, &lane);
        if (!m->status[i]) continue;
        m->bad[i] = from + (lane < lanes ? lane : find_bad(m, s, from, lanes));
        break;
    }
    sgru_fpenv_leave(caller);
}

int sgru_pool_step(sgru_pool *pool, size_t n, const sgru_slot *ids, const void *const *inputs, void *const *outputs,
                   size_t *bad)
{
    size_t ignored;
    if (!bad) bad = &ignored;
    *bad = n;
    if (!pool || !ids || (!inputs && model_of(pool)->n_inputs) || (!outputs && model_of(pool)->n_outputs))
        return SGRU_E_ARGUMENT;
    int status = check_slots(pool, n, ids, bad);
    if (status) return status;
    sgru_moves moves;
    moves.pool = pool, moves.ids = ids, moves.inputs = inputs, moves.outputs = outputs, moves.n = n;
    moves.parts = pool->workers && n >= 2 * pool->workers->n ? pool->workers->n : 1;
    if (moves.parts > 1) pool->workers->run(pool->workers, step_part, &moves);
    else step_part(&moves, 0);
    for (unsigned i = 0; i < moves.parts; i++)
        if (moves.status[i]) return *bad = moves.bad[i], moves.status[i];
    for (size_t i = 0; i < n; i++) place_of(pool, ids[i])->current ^= 1;
    *bad = n;
    return SGRU_OK;
}
