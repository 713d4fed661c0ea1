/* What GRU, LSTM and RNN have in common (recurrent.h); no cell's equations are here. */
#include "recurrent.h"

/* ---- check ---- */

/* Columns of W·x that are computed at once: enough to reuse the weights, few enough to stay in the cache. */
static size_t columns_at_once(size_t G) { return 16384 / G < 6 ? 6 : 16384 / G; }

static size_t steps_at_once(size_t B, size_t G) { return columns_at_once(G) / B ? columns_at_once(G) / B : 1; }

static SGRU_COLD int walk_fits(const sgru_model *m, uint32_t id, uint32_t offset, uint32_t rank, const uint32_t *dims,
                               const uint32_t *strides)
{
    return is_plain(m, id, SGRU_F32) &&
           sgru_walk_fits(count_of(tensor_of(m, id)), (int32_t)offset, rank, dims, strides);
}

/* x with as many elements as are read, so that its size bounds the time; y inside its tensor or absent. */
static SGRU_COLD int sequences_fit(const sgru_model *m, const sgru_op *op)
{
    const uint32_t *p = op->params;
    const uint32_t x_dims[] = {p[P_T], p[P_B], p[P_I]}, x_strides[] = {p[P_X_T], p[P_X_B], 1};
    const uint32_t y_dims[] = {p[P_T], p[P_B], p[P_H]}, y_strides[] = {p[P_Y_T], p[P_Y_B], 1};
    return walk_fits(m, op->in[X], p[P_X], 3, x_dims, x_strides) &&
           sgru_product(3, x_dims) <= count_of(tensor_of(m, op->in[X])) && p[P_X_T] <= SGRU_MAX_ELEMENTS &&
           p[P_X_B] <= SGRU_MAX_ELEMENTS && sgru_product(3, y_dims) &&
           (op->out[0] == SGRU_NONE || walk_fits(m, op->out[0], p[P_Y], 3, y_dims, y_strides));
}

/* The places where the states come from and go to, if any. */
static SGRU_COLD int states_fit(const sgru_model *m, const sgru_op *op, const recurrent_kind *kind)
{
    const uint32_t *p = op->params;
    for (uint32_t i = 0; i < kind->n_states; i++) {
        recurrent_state st = kind->states[i];
        const uint32_t from[] = {p[st.from + 1], 1}, to[] = {p[st.to + 1], 1}, dims[] = {p[P_B], p[P_H]};
        if (op->in[st.in] != SGRU_NONE && !walk_fits(m, op->in[st.in], p[st.from], 2, dims, from)) return 0;
        if (op->out[st.out] != SGRU_NONE && !walk_fits(m, op->out[st.out], p[st.to], 2, dims, to)) return 0;
    }
    return 1;
}

/* Bytes for the columns of products with any of the operator's matrices. */
static size_t q_bytes(const sgru_model *m, const sgru_op *op, const recurrent_kind *kind)
{
    size_t most = 0;
    for (uint32_t i = W; i < kind->bias; i++) {
        size_t bytes = sgru_multiply_memory(m, op->in[i]);
        if (bytes > most) most = bytes;
    }
    return most;
}

int sgru_recurrent_check(const sgru_model *m, const sgru_op *op, const recurrent_kind *kind, size_t *scratch)
{
    const uint32_t *p = op->params;
    const uint32_t sums[] = {p[P_B], kind->gates, p[P_H]};
    if (!sgru_product(3, sums) || p[P_REVERSE] > 1 || !is_at_least_zero(p[P_CLIP])) return 0;
    if (op->in[kind->lens] != SGRU_NONE && !is_vector(m, op->in[kind->lens], SGRU_I32, p[P_B])) return 0;
    uint64_t B = p[P_B], H = p[P_H], G = kind->gates * H, columns = columns_at_once((size_t)G);
    uint64_t q = q_bytes(m, op, kind), floats = B * H * (kind->n_states + kind->sums),
             all = p[P_T] * B; /* columns that one frame has */
    if (columns < B) columns = B;
    if (all > columns) all = columns;
    return is_packed(m, op->in[W], G, p[P_I]) && is_optional_weight(m, op->in[kind->bias], G) && sequences_fit(m, op) &&
           states_fit(m, op, kind) && need_scratch(scratch, q + sizeof(float) * (floats + G * all)) &&
           need_scratch(scratch + 1, q + sizeof(float) * (floats + G * columns));
}

uint64_t sgru_recurrent_work(const sgru_op *op, const recurrent_kind *kind)
{
    const uint32_t *p = op->params;
    uint64_t G = whole_vectors((uint64_t)kind->gates * p[P_H]);
    return times((uint64_t)p[P_T] * p[P_B], times(G, (uint64_t)p[P_I] + p[P_H] + SGRU_CALL));
}

/* [T][B][n] elements from parameter `at` on, [B][n] where T is 0. */
static SGRU_COLD int walk_at(const uint32_t *p, uint32_t at, uint32_t T, uint32_t n, sgru_walk *walk)
{
    uint32_t rank = T ? 3 : 2, first = 3 - rank;
    const uint32_t words[] = {T, p[P_B], n, T ? p[at + 1] : 0, T ? p[at + 2] : p[at + 1], 1};
    *walk = (sgru_walk){(int32_t)p[at], rank, walk->words + first, walk->words + 3 + first, {0}};
    memcpy(walk->words, words, sizeof words);
    return 1;
}

int sgru_recurrent_part(const sgru_op *op, uint32_t i, const recurrent_kind *kind, sgru_walk *walk)
{
    const uint32_t *p = op->params;
    if (i == X) return walk_at(p, P_X, p[P_T], p[P_I], walk);
    if (i == op->n_in) return walk_at(p, P_Y, p[P_T], p[P_H], walk);
    for (uint32_t s = 0; s < kind->n_states; s++) {
        if (i == kind->states[s].in) return walk_at(p, kind->states[s].from, 0, p[P_H], walk);
        if (i == op->n_in + kind->states[s].out) return walk_at(p, kind->states[s].to, 0, p[P_H], walk);
    }
    return 0;
}

/* ---- run ---- */

/* W·x + bias for the times from `t` on, `steps` of them. */
static void sum_inputs(const recurrent *u, size_t t, size_t steps)
{
    size_t G = u->G;
    const float *x = u->x + (ptrdiff_t)t * u->x_t;
    if (u->B == 1 || u->x_t == (ptrdiff_t)u->B * u->x_b) {
        sgru_multiply(u->s, &u->w, steps * u->B, u->bias, 0, x, (size_t)(u->B == 1 ? u->x_t : u->x_b), u->gx, G, u->q);
        return;
    }
    for (size_t s = 0; s < steps; s++)
        sgru_multiply(u->s, &u->w, u->B, u->bias, 0, x + (ptrdiff_t)s * u->x_t, (size_t)u->x_b, u->gx + s * u->B * G, G,
                      u->q);
}

/* h, or zeros where it is NULL, to y[t][b]. */
static void give(const recurrent *u, size_t t, size_t b, const float *h)
{
    float *y = u->y ? u->y + (ptrdiff_t)t * u->y_t + (ptrdiff_t)b * u->y_b : NULL;
    if (!y) return;
    if (h) copy_floats(y, h, u->H);
    else memset(y, 0, u->H * sizeof(float));
}

/* Every sequence of full length: whole runs of steps at once. */
static int run_full(const recurrent *u)
{
    size_t most = steps_at_once(u->B, u->G);
    if (u->T == 1 && u->B == 1 && u->kind->single && u->kind->single(u)) {
        give(u, 0, 0, u->state[0]);
        return SGRU_OK;
    }
    for (size_t done = 0; done < u->T; done += most) {
        size_t steps = u->T - done < most ? u->T - done : most;
        size_t low = u->reverse ? u->T - done - steps : done;
        sum_inputs(u, low, steps);
        for (size_t s = 0; s < steps; s++) {
            size_t at = u->reverse ? steps - 1 - s : s;
            u->kind->step(u, u->gx + at * u->B * u->G);
            for (uint32_t i = 0; u->refuse && i < u->kind->n_states; i++)
                if (!u->k->finite(u->B * u->H, u->state[i])) return SGRU_E_NONFINITE;
            for (size_t b = 0; b < u->B; b++) give(u, low + at, b, u->state[0] + b * u->H);
        }
    }
    return SGRU_OK;
}

/* With sequence_lens, one sequence after the other: y is zero past a length, reverse runs over the valid part. */
static int run_lengths(const recurrent *u)
{
    recurrent one = *u;
    one.B = 1;
    for (size_t b = 0; b < u->B; b++) {
        int32_t length = u->lens[b];
        if (length < 0 || (size_t)length > u->T) return SGRU_E_INDEX;
        one.T = (size_t)length;
        one.x = u->x + (ptrdiff_t)b * u->x_b;
        one.y = u->y ? u->y + (ptrdiff_t)b * u->y_b : NULL;
        for (uint32_t i = 0; i < u->kind->n_states; i++) one.state[i] = u->state[i] + b * u->H;
        (void)run_full(&one); /* one frame: nothing is refused before its end */
        for (size_t t = one.T; t < u->T; t++) give(u, t, b, NULL);
    }
    return SGRU_OK;
}

static void take_states(const recurrent *u)
{
    for (uint32_t i = 0; i < u->kind->n_states; i++) {
        if (u->state[i] == u->from[i]) continue;
        if (!u->from[i]) memset(u->state[i], 0, u->B * u->H * sizeof(float));
        for (size_t b = 0; u->from[i] && b < u->B; b++)
            copy_floats(u->state[i] + b * u->H, u->from[i] + (ptrdiff_t)b * u->from_b[i], u->H);
    }
}

static void give_states(const recurrent *u)
{
    for (uint32_t i = 0; i < u->kind->n_states; i++)
        for (size_t b = 0; u->to[i] && u->to[i] != u->state[i] && b < u->B; b++)
            copy_floats(u->to[i] + (ptrdiff_t)b * u->to_b[i], u->state[i] + b * u->H, u->H);
}

/* Where the operands of a frame are. */
static void place(recurrent *u, const sgru_stream *s, const sgru_op *op, size_t frame)
{
    float *y = operand(s, op->out[0], frame);
    u->x = (const float *)operand(s, op->in[X], frame) + param_i(op, P_X);
    u->y = y ? y + param_i(op, P_Y) : NULL;
    u->lens = operand(s, op->in[u->kind->lens], frame);
    for (uint32_t i = 0; i < u->kind->n_states; i++) {
        recurrent_state st = u->kind->states[i];
        const float *from = operand(s, op->in[st.in], frame);
        float *to = operand(s, op->out[st.out], frame);
        u->from[i] = from ? from + param_i(op, st.from) : NULL;
        u->to[i] = to ? to + param_i(op, st.to) : NULL;
    }
}

static int run_frame(const recurrent *u)
{
    take_states(u);
    int status = u->lens ? run_lengths(u) : run_full(u);
    give_states(u);
    return status;
}

/* The elements of state number i from `low` to below `high`, apart from each other: 0 where they are not. */
static int span_of(const sgru_op *op, recurrent_state st, ptrdiff_t *low, ptrdiff_t *high)
{
    ptrdiff_t B = (ptrdiff_t)param(op, P_B), H = (ptrdiff_t)param(op, P_H), step = param_i(op, st.from + 1);
    *low = param_i(op, st.from) + (step < 0 ? (B - 1) * step : 0);
    *high = *low + (B - 1) * (step < 0 ? -step : step) + H;
    return B == 1 || step >= H || step <= -H;
}

/* The states have nothing in common, as they have nothing in the working memory. */
static SGRU_COLD int are_apart(const sgru_model *m, const sgru_op *op, const recurrent_kind *kind)
{
    ptrdiff_t low[MOST_STATES], high[MOST_STATES];
    for (uint32_t i = 0; i < kind->n_states; i++) {
        if (!span_of(op, kind->states[i], &low[i], &high[i])) return 0;
        ptrdiff_t start = (ptrdiff_t)(tensor_of(m, op->in[kind->states[i].in])->offset / sizeof(float));
        low[i] += start, high[i] += start;
        for (uint32_t j = 0; j < i; j++)
            if (low[i] < high[j] && low[j] < high[i]) return 0;
    }
    return 1;
}

/* Every state goes from frame to frame inside the operator, and x is not one of them: a block of frames is a sequence of steps. */
int sgru_recurrent_carries(const sgru_model *m, const sgru_op *op, const recurrent_kind *kind)
{
    if (op->params[P_T] != 1) return 0;
    for (uint32_t i = 0; i < kind->n_states; i++) {
        recurrent_state st = kind->states[i];
        uint32_t id = op->in[st.in];
        if (id == SGRU_NONE || id != op->out[st.out] || tensor_of(m, id)->kind != KIND_STATE ||
            op->params[st.from] != op->params[st.to] || op->params[st.from + 1] != op->params[st.to + 1])
            return 0;
    }
    return op->in[kind->lens] == SGRU_NONE && tensor_of(m, op->in[X])->kind != KIND_STATE &&
           (op->out[0] == SGRU_NONE || tensor_of(m, op->out[0])->kind != KIND_STATE) && are_apart(m, op, kind);
}

/* What stays the same for every frame. */
static void prepare(recurrent *u, const sgru_stream *s, const sgru_op *op, const recurrent_kind *kind, const void *cell)
{
    *u = (recurrent){
        .s = s,
        .k = s->k,
        .kind = kind,
        .cell = cell,
        .T = param(op, P_T),
        .B = param(op, P_B),
        .I = param(op, P_I),
        .H = param(op, P_H),
        .G = kind->gates * param(op, P_H),
        .reverse = op->params[P_REVERSE] == 1,
        .descending = s->turn & 1,
        .clip = param_f(op, P_CLIP),
        .w = matrix_of(s, op->in[W]),
        .q = s->scratch,
        .bias = operand(s, op->in[kind->bias], 0),
        .x_t = param_i(op, P_X_T),
        .x_b = param_i(op, P_X_B),
        .y_t = param_i(op, P_Y_T),
        .y_b = param_i(op, P_Y_B),
    };
    for (uint32_t i = 0; i < kind->n_states; i++) {
        u->from_b[i] = param_i(op, kind->states[i].from + 1);
        u->to_b[i] = param_i(op, kind->states[i].to + 1);
    }
}

/* The working memory; B is known by now. */
static void use_scratch(recurrent *u, const sgru_op *op)
{
    float *memory = (float *)(void *)(u->s->scratch + q_bytes(u->s->model, op, u->kind));
    for (uint32_t i = 0; i < u->kind->n_states; i++, memory += u->B * u->H) u->state[i] = memory;
    u->sums = memory;
    u->gx = memory + u->kind->sums * u->B * u->H;
}

/* The frames are streams side by side, each of one step of one sequence: they are the batch. */
static void take_lanes(recurrent *u, const sgru_stream *s, const sgru_op *op, size_t lanes)
{
    u->B = lanes;
    u->x_b = (ptrdiff_t)frame_stride(s, op->in[X]);
    u->y_b = op->out[0] == SGRU_NONE ? 0 : (ptrdiff_t)frame_stride(s, op->out[0]);
    for (uint32_t i = 0; i < u->kind->n_states; i++) {
        recurrent_state st = u->kind->states[i];
        u->from_b[i] = op->in[st.in] == SGRU_NONE ? 0 : (ptrdiff_t)frame_stride(s, op->in[st.in]);
        u->to_b[i] = op->out[st.out] == SGRU_NONE ? 0 : (ptrdiff_t)frame_stride(s, op->out[st.out]);
    }
}

/* The states stay where they are kept: they are [B][H] there, and nothing else is read or written between. */
static void stay_in_place(recurrent *u)
{
    for (uint32_t i = 0; i < u->kind->n_states; i++)
        if (u->B == 1 || u->to_b[i] == (ptrdiff_t)u->H) u->state[i] = u->to[i];
}

int sgru_recurrent_run(const sgru_stream *s, const sgru_op *op, const recurrent_kind *kind, const void *cell,
                       size_t first, size_t frames)
{
    recurrent u;
    prepare(&u, s, op, kind, cell);
    if (s->lane_step && frames > 1 && u.T == 1 && u.B == 1 && op->in[kind->lens] == SGRU_NONE) {
        take_lanes(&u, s, op, frames);
        use_scratch(&u, op);
        place(&u, s, op, first);
        return run_frame(&u);
    }
    use_scratch(&u, op);
    if (!s->lane_step && sgru_recurrent_carries(s->model, op, kind)) {
        place(&u, s, op, first);
        stay_in_place(&u);
        u.T = frames;
        u.x_t = (ptrdiff_t)frame_stride(s, op->in[X]);
        u.y_t = op->out[0] == SGRU_NONE ? 0 : (ptrdiff_t)frame_stride(s, op->out[0]);
        u.reverse = 0;
        u.refuse = frames > 1 && !(s->flags & SGRU_PASS_NONFINITE);
        return run_frame(&u);
    }
    FOR_EACH_FRAME (f, first, frames) {
        place(&u, s, op, f);
        int status = run_frame(&u);
        if (status) return status;
    }
    return SGRU_OK;
}
