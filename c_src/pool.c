/* A pool: the states of many streams of one model, in the caller's memory. A step moves any of them on by a frame, several side
 * by side as lanes of an engine (stream.c), so that one pass over the weights serves them all. No allocation, no lock, no
 * system call. A step writes the new states beside the old ones and takes them over at its end, all or none. A second call at a time
 * is refused (claim.h). */
#include "pool.h"

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
    if (!m || capacity == 0 || lanes == 0 || capacity > (size_t)1 << MOST_PLACE_BITS || engines - 1 >= MOST_ENGINES)
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
    *pool = (sgru_pool){.places = (sgru_place *)p, .capacity = capacity, .n_engines = engines};
    pool->place_bits = place_bits_of(capacity);
    pool->opened = (uint64_t)tag << (opening_bits_of(pool->place_bits) - TAG_BITS);
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
    if (!sgru_claim(&pool->taken)) return SGRU_E_BUSY;
    pool->workers = workers;
    sgru_release(&pool->taken);
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
    size_t i = (size_t)(id & (((sgru_slot)1 << pool->place_bits) - 1));
    return id > 0 && i < pool->capacity && pool->places[i].id == id ? pool->places + i : NULL;
}

/* Takes the pool for a call about one slot. On an error it is not taken. */
static int enter(sgru_pool *pool, sgru_slot id, sgru_place **at)
{
    if (!pool) return SGRU_E_SLOT;
    if (!sgru_claim(&pool->taken)) return SGRU_E_BUSY;
    if ((*at = place_of(pool, id))) return SGRU_OK;
    sgru_release(&pool->taken);
    return SGRU_E_SLOT;
}

static int leave(sgru_pool *pool, int status)
{
    sgru_release(&pool->taken);
    return status;
}

static sgru_slot open_next(sgru_pool *pool)
{
    if (pool->open == pool->capacity) return 0;
    while (pool->places[pool->next].id) pool->next = (pool->next + 1) % pool->capacity;
    sgru_place *at = pool->places + pool->next;
    pool->opened = next_opening(pool->opened, pool->place_bits);
    at->id = pool->opened << pool->place_bits | (sgru_slot)pool->next;
    at->current = 0;
    at->step = 0;
    pool->open++;
    sgru_reset_state(pool->engines[0], state_of(pool, at, 0));
    return at->id;
}

sgru_slot sgru_pool_open(sgru_pool *pool)
{
    if (!pool || !sgru_claim(&pool->taken)) return 0;
    sgru_slot id = open_next(pool);
    sgru_release(&pool->taken);
    return id;
}

int sgru_pool_close(sgru_pool *pool, sgru_slot id)
{
    sgru_place *at;
    int status = enter(pool, id, &at);
    if (status) return status;
    at->id = 0;
    pool->open--;
    return leave(pool, SGRU_OK);
}

int sgru_pool_reset(sgru_pool *pool, sgru_slot id)
{
    sgru_place *at;
    int status = enter(pool, id, &at);
    if (status) return status;
    sgru_reset_state(pool->engines[0], state_of(pool, at, at->current));
    return leave(pool, SGRU_OK);
}

int sgru_pool_save(const sgru_pool *pool, sgru_slot id, void *blob, size_t size)
{
    sgru_place *at;
    sgru_pool *taken = (sgru_pool *)pool; /* all that a save writes */
    int status = enter(taken, id, &at);
    if (status) return status;
    return leave(taken, sgru_save_state(model_of(pool), state_of(pool, at, at->current), blob, size));
}

int sgru_pool_restore(sgru_pool *pool, sgru_slot id, const void *blob, size_t size)
{
    sgru_place *at;
    int status = enter(pool, id, &at);
    if (status) return status;
    status = sgru_load_state(pool->engines[0], state_of(pool, at, !at->current), blob, size);
    if (!status) at->current = !at->current;
    return leave(pool, status);
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

static int step(sgru_pool *pool, size_t n, const sgru_slot *ids, const void *const *inputs, void *const *outputs,
                size_t *bad)
{
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

int sgru_pool_step(sgru_pool *pool, size_t n, const sgru_slot *ids, const void *const *inputs, void *const *outputs,
                   size_t *bad)
{
    size_t ignored;
    if (!bad) bad = &ignored;
    *bad = n;
    if (!pool || !ids || (!inputs && model_of(pool)->n_inputs) || (!outputs && model_of(pool)->n_outputs))
        return SGRU_E_ARGUMENT;
    if (!sgru_claim(&pool->taken)) return SGRU_E_BUSY;
    return leave(pool, step(pool, n, ids, inputs, outputs, bad));
}
