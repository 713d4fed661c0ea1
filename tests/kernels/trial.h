/* One operator on trial: a random operand list is made an image, and the image runs on every instruction set, frame by frame and as
 * a block, which must give the same bits. Then its parameters are altered at random: the core must refuse the image or stay
 * inside its tensors (under the address sanitizer everything between them is poisoned). */
#ifndef TEST_TRIAL_H
#define TEST_TRIAL_H

#include <math.h>

#include "holds.h"
#include "image.h"
#include "random.h"

#if defined(__has_feature) && !defined(__SANITIZE_ADDRESS__)
#if __has_feature(address_sanitizer)
#define __SANITIZE_ADDRESS__
#endif
#endif
#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(p, n) ((void)(p), (void)(n))
#define ASAN_UNPOISON_MEMORY_REGION(p, n) ((void)(p), (void)(n))
#endif

#define EPS 0x1p-24 /* half an ulp of 1: the error of one rounding */

enum { FRAMES = 2, MOST_OPERANDS = 8, CANARY = 1024 };

static uint64_t digest;

/* n floats; one in sixteen is a whole number, so that equals and zeros occur. */
static inline float *randoms(size_t n, float scale)
{
    float *v = malloc((n ? n : 1) * sizeof *v);
    for (size_t i = 0; i < n; i++) v[i] = below(16) ? uniform(scale) : (float)below(3) - 1.0f;
    return v;
}

static inline size_t product(uint32_t rank, const uint32_t *dims)
{
    size_t n = 1;
    for (uint32_t i = 0; i < rank; i++) n *= dims[i];
    return n;
}

typedef struct trial {
    const char *name;
    image im;
    uint32_t in[MOST_OPERANDS], out[MOST_OPERANDS], n_in, n_out;
    void *feeds[MOST_OPERANDS], *got[MOST_OPERANDS]; /* [FRAMES][shape] of each input and output of the image */
    size_t frame[MOST_OPERANDS], out_frame[MOST_OPERANDS];
    uint32_t n_feeds;
} trial;

static inline uint32_t add_apart(trial *t, int dtype, int kind, uint32_t rank, const uint32_t *dims)
{
    t->im.arena += 64; /* a gap that nobody owns */
    return add_tensor(&t->im, dtype, kind, LAYOUT_ROWS, rank, dims);
}

/* The next operand: absent, a constant, an input of the image with values for all frames (owned by the trial), an output. */
static inline void give_none(trial *t) { t->in[t->n_in++] = SGRU_NONE; }
static inline void give_const(trial *t, int dtype, size_t n, const void *values)
{
    t->in[t->n_in++] = add_const(&t->im, dtype, (uint32_t)n, values);
}
static inline void *give_input(trial *t, int dtype, uint32_t rank, const uint32_t *dims, void *values)
{
    uint32_t id = t->in[t->n_in++] = add_apart(t, dtype, KIND_ARENA, rank, dims);
    add_to_list(&t->im, 0, id);
    t->frame[t->n_feeds] = bytes_of(&t->im.tensors[id]);
    t->feeds[t->n_feeds++] = values;
    return values;
}
static inline float *give_floats(trial *t, uint32_t rank, const uint32_t *dims, float scale)
{
    return give_input(t, SGRU_F32, rank, dims, randoms(FRAMES * product(rank, dims), scale));
}
static inline void take_output(trial *t, int dtype, uint32_t rank, const uint32_t *dims)
{
    uint32_t id = add_apart(t, dtype, KIND_ARENA, rank, dims);
    add_to_list(&t->im, 1, id);
    t->out_frame[t->n_out] = bytes_of(&t->im.tensors[id]);
    t->got[t->n_out] = calloc(FRAMES, t->out_frame[t->n_out]);
    t->out[t->n_out++] = id;
}

static inline void complain(const trial *t, const char *what)
{
    printf("%s: %s\n", t->name, what);
    failed++;
}

/* Makes the arena's bytes between the tensors untouchable. */
static inline void fence(const sgru_model *m, unsigned char *arena, size_t frames)
{
    ASAN_POISON_MEMORY_REGION(arena, frames * m->arena_size);
    for (size_t f = 0; f < frames; f++)
        for (uint32_t i = 0; i < m->n_tensors; i++)
            if (tensor_of(m, i)->kind == KIND_ARENA)
                ASAN_UNPOISON_MEMORY_REGION(arena + f * m->arena_size + tensor_of(m, i)->offset,
                                            bytes_of(tensor_of(m, i)));
}

/* Runs all frames on one instruction set, `block` at a time; the status. */
static inline int run_on(const trial *t, const sgru_model *m, const char *isa, size_t block, void *const *out,
                         unsigned flags)
{
    if (use_isa(isa)) return SGRU_E_ISA;
    size_t need = sgru_stream_size(m, block);
    if (need == 0 || need > 1u << 26) return SGRU_E_MEMORY;
    unsigned char *memory = aligned_alloc(64, round_up(need + CANARY, 64)), *end = memory + need;
    memset(end, 0xA5, CANARY);
    ASAN_POISON_MEMORY_REGION(end, CANARY);
    sgru_stream *s = sgru_stream_init(memory, need, m, block, flags);
    fence(m, s->arena, block);
    int status = sgru_run(s, FRAMES, (const void *const *)t->feeds, out);
    ASAN_UNPOISON_MEMORY_REGION(memory, need + CANARY);
    for (size_t i = 0; i < CANARY; i++)
        if (end[i] != 0xA5) {
            complain(t, "writes beyond the stream's memory");
            break;
        }
    free(memory);
    return status;
}

/* Alters one word of the operator to something extreme or near, many times; runs what is accepted. */
static inline void attack(const trial *t, unsigned char *bytes, size_t size)
{
    static const uint32_t extremes[] = {0, 1, 2, 0xFFFFFFFFu, 0x80000000u, 0x7FFFFFFFu, 0x40000000u, 65536, 0x10001u};
    sgru_header *h = (sgru_header *)bytes;
    uint32_t *words = (uint32_t *)(bytes + h->words);
    const sgru_op_rec *op = &t->im.ops[t->im.n_ops - 1];
    uint32_t n = op->n_params;
    void *out[MOST_OPERANDS];
    for (uint32_t i = 0; i < t->n_out; i++) out[i] = malloc(FRAMES * t->out_frame[i]);
    for (int i = 0; n && i < 12; i++) {
        uint32_t at = op->first + op->n_in + op->n_out + below(n), old = words[at];
        words[at] = below(2) ? extremes[below(9)] : old + below(5) - 2;
        h->checksum = sgru_checksum(bytes + 32, size - 32);
        sgru_model m;
        if (!sgru_model_open(&m, bytes, size)) run_on(t, &m, i < 6 ? "ref" : "", 1, out, 0);
        words[at] = old;
    }
    for (uint32_t i = 0; i < t->n_out; i++) free(out[i]);
}

/* Runs the trial's one operator in every way; t->got holds what `ref` gives. 0 where it was refused. */
static inline int run_trial(trial *t, uint16_t code, uint16_t n_params, const uint32_t *params)
{
    size_t size;
    void *out[MOST_OPERANDS];
    sgru_model m;
    int status;
    const uint32_t zeros[] = {0, 0};
    t->im.arena += 64;
    for (uint32_t i = 0; i < t->n_out; i++) /* some operators write parts of their outputs */
        if (t->out[i] != SGRU_NONE && t->im.tensors[t->out[i]].kind == KIND_ARENA)
            add_op(&t->im, 2, 0, zeros, 1, &t->out[i], 2, zeros);
    add_op(&t->im, code, (uint16_t)t->n_in, t->in, (uint16_t)t->n_out, t->out, n_params, params);
    unsigned char *bytes = finish(&t->im, &size);
    if ((status = sgru_model_open(&m, bytes, size)) ||
        (status = run_on(t, &m, "ref", 1, t->got, SGRU_PASS_NONFINITE))) {
        complain(t, sgru_strerror(status));
        return free(bytes), 0;
    }
    for (uint32_t i = 0; i < t->n_out; i++) {
        out[i] = malloc(FRAMES * t->out_frame[i]);
        digest = (digest ^ sgru_checksum(t->got[i], FRAMES * t->out_frame[i] / 8 * 8)) * 0x9E3779B97F4A7C15u;
    }
    for (unsigned k = 0; isa_at(k); k++)
        for (size_t block = 1; block <= FRAMES; block++) {
            if (run_on(t, &m, isa_at(k), block, out, SGRU_PASS_NONFINITE)) complain(t, "an error on one ISA");
            for (uint32_t i = 0; i < t->n_out; i++)
                if (t->got[i] && memcmp(out[i], t->got[i], FRAMES * t->out_frame[i])) complain(t, isa_at(k));
        }
    for (uint32_t i = 0; i < t->n_out; i++) free(out[i]);
    attack(t, bytes, size);
    free(bytes);
    return 1;
}

static inline void drop(trial *t)
{
    for (uint32_t i = 0; i < t->n_feeds; i++) free(t->feeds[i]);
    for (uint32_t i = 0; i < t->n_out; i++) free(t->got[i]);
}

/* The value number `i` is within `tolerance` of the exact one. */
static inline int is_near(const trial *t, size_t i, double want, double got, double tolerance)
{
    if (fabs(want - got) <= tolerance || (isnan(want) && isnan(got)) || (isinf(want) && want == got)) return 1;
    printf("%s: element %zu is %.9g, expected %.9g within %.2g\n", t->name, i, got, want, tolerance);
    failed++;
    return 0;
}

typedef struct entry {
    const char *name;
    void (*run)(void);
} entry;

/* The main program: `count` trials of each entry, from a seed. */
static inline int run_entries(const entry *entries, size_t n, int argc, char **argv)
{
    unsigned count = argc > 1 ? (unsigned)atoi(argv[1]) : 300;
    uint64_t seed = argc > 2 ? strtoull(argv[2], NULL, 0) : 1;
    rng = seed * 0x9E3779B97F4A7C15u + 1;
    for (size_t e = 0; e < n; e++)
        for (unsigned i = 0; i < count; i++) {
            unsigned before = failed;
            entries[e].run();
            passed += failed == before;
        }
    printf("seed %llu:", (unsigned long long)seed);
    for (unsigned k = 0; isa_at(k); k++) printf(" %s", isa_at(k));
    printf("; digest %016llx\n%u passed, %u failed\n", (unsigned long long)digest, passed, failed);
    return failed != 0;
}

#endif
