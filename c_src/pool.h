/* A pool's memory and its slots' ids. For pool.c and its tests alone. */
#ifndef SGRU_POOL_H
#define SGRU_POOL_H

#include "internal.h"

enum { MOST_ENGINES = 64, MOST_PLACE_BITS = 24, TAG_BITS = 15, ID_BITS = 63, OPENING_BITS = 40 };

/* A slot's two states lie one after the other. */
typedef struct sgru_place {
    sgru_slot id;     /* 0: closed */
    uint32_t current; /* which of the two states holds */
    uint32_t step;    /* the last step that it took part in: no step takes a slot twice */
} sgru_place;

/* Ids: the number of the opening, then the place in as many bits as the capacity takes. The opening's number has the bits that are
 * left, and no fewer than 40: the largest pools' ids take all of 64 after 2^39 openings. Numbers begin at the tag, in their upper bits:
 * the ids of two pools are apart until one of them has made its 2^-15th of all openings, 2^25 in the largest pool. */
struct sgru_pool {
    sgru_stream *engines[MOST_ENGINES];
    sgru_workers *workers; /* or NULL */
    sgru_place *places;
    unsigned char *states; /* [capacity][2][state_size] */
    size_t capacity, open, next;
    uint64_t opened; /* the number of the last opening */
    unsigned n_engines, place_bits;
    uint32_t step;
    uint32_t taken; /* by the call that is in progress (claim.h) */
};

static inline unsigned place_bits_of(size_t capacity)
{
    unsigned bits = 0;
    while (capacity > (size_t)1 << bits) bits++;
    return bits;
}

static inline unsigned opening_bits_of(unsigned place_bits)
{
    return ID_BITS - place_bits < OPENING_BITS ? OPENING_BITS : ID_BITS - place_bits;
}

/* The number after an opening's: 0 is none, so that no id is 0. */
static inline uint64_t next_opening(uint64_t opened, unsigned place_bits)
{
    uint64_t next = (opened + 1) & (((uint64_t)1 << opening_bits_of(place_bits)) - 1);
    return next ? next : 1;
}

#endif
