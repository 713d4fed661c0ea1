/* A team of threads that spins for work and sleeps when there is none (threads.h). A part is claimed before it is done, so that
 * nobody waits for a thread that the system has put aside. */
#define _POSIX_C_SOURCE 200809L
#include "threads.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>

enum { SPINS = 20000 }; /* some tens of microseconds */

typedef struct member {
    _Alignas(64) _Atomic uint64_t claimed; /* the last round whose part of this number somebody took */
    struct sgru_threads *team;
    unsigned index;
    pthread_t thread;
} member;

struct sgru_threads {
    sgru_workers workers; /* first: run() gets its address */
    void (*part)(void *work, unsigned index);
    void *work;
    _Alignas(64) _Atomic uint64_t round; /* of work, from 1 on */
    _Alignas(64) atomic_uint done;
    _Alignas(64) atomic_uint asleep;
    atomic_int stop;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    member members[]; /* number 0 is the caller */
};

static void pause_a_little(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

/* Part i of a round, where nobody has taken it. */
static int try_part(sgru_threads *t, unsigned i, uint64_t round)
{
    uint64_t before = atomic_load_explicit(&t->members[i].claimed, memory_order_relaxed);
    if (before >= round || !atomic_compare_exchange_strong(&t->members[i].claimed, &before, round)) return 0;
    t->part(t->work, i);
    atomic_fetch_add_explicit(&t->done, 1, memory_order_release);
    return 1;
}

/* The next round after `seen`: looked for, then slept for. */
static uint64_t next_round(sgru_threads *t, uint64_t seen)
{
    uint64_t round;
    for (int i = 0; i < SPINS; i++) {
        round = atomic_load_explicit(&t->round, memory_order_acquire);
        if (round != seen || atomic_load_explicit(&t->stop, memory_order_relaxed)) return round;
        pause_a_little();
    }
    pthread_mutex_lock(&t->lock);
    atomic_fetch_add(&t->asleep, 1);
    while ((round = atomic_load(&t->round)) == seen && !atomic_load(&t->stop)) pthread_cond_wait(&t->wake, &t->lock);
    atomic_fetch_sub(&t->asleep, 1);
    pthread_mutex_unlock(&t->lock);
    return round;
}

static void *look_for_work(void *argument)
{
    member *self = argument;
    sgru_threads *t = self->team;
    uint64_t seen = 0;
    while (!atomic_load_explicit(&t->stop, memory_order_relaxed)) {
        uint64_t round = next_round(t, seen);
        if (round != seen) try_part(t, self->index, round);
        seen = round;
    }
    return NULL;
}

static void run(sgru_workers *workers, void (*part)(void *work, unsigned index), void *work)
{
    sgru_threads *t = (sgru_threads *)workers;
    uint64_t round = atomic_load_explicit(&t->round, memory_order_relaxed) + 1;
    t->part = part;
    t->work = work;
    atomic_store_explicit(&t->done, 0, memory_order_relaxed);
    atomic_store(&t->round, round);
    if (atomic_load(&t->asleep)) {
        pthread_mutex_lock(&t->lock);
        pthread_cond_broadcast(&t->wake);
        pthread_mutex_unlock(&t->lock);
    }
    for (unsigned i = 0; i < workers->n; i++) try_part(t, i, round);
    while (atomic_load_explicit(&t->done, memory_order_acquire) != workers->n) pause_a_little();
}

size_t sgru_threads_size(unsigned n)
{
    return n >= 2 && n <= SGRU_MOST_THREADS ? sizeof(sgru_threads) + n * sizeof(member) : 0;
}

sgru_threads *sgru_threads_start(void *memory, size_t size, unsigned n)
{
    size_t need = sgru_threads_size(n);
    if (!memory || (uintptr_t)memory % 64 != 0 || need == 0 || size < need) return NULL;
    sgru_threads *t = memory;
    t->workers = (sgru_workers){1, run};
    atomic_init(&t->round, 0);
    atomic_init(&t->done, 0);
    atomic_init(&t->asleep, 0);
    atomic_init(&t->stop, 0);
    if (pthread_mutex_init(&t->lock, NULL)) return NULL;
    if (pthread_cond_init(&t->wake, NULL)) return NULL;
    for (unsigned i = 0; i < n; i++) {
        t->members[i].team = t;
        t->members[i].index = i;
        atomic_init(&t->members[i].claimed, 0);
    }
    for (; t->workers.n < n; t->workers.n++) {
        member *m = &t->members[t->workers.n];
        if (pthread_create(&m->thread, NULL, look_for_work, m) == 0) continue;
        sgru_threads_stop(t);
        return NULL;
    }
    return t;
}

sgru_workers *sgru_threads_workers(sgru_threads *t) { return &t->workers; }

void sgru_threads_stop(sgru_threads *t)
{
    pthread_mutex_lock(&t->lock);
    atomic_store(&t->stop, 1);
    pthread_cond_broadcast(&t->wake);
    pthread_mutex_unlock(&t->lock);
    for (unsigned i = 1; i < t->workers.n; i++) pthread_join(t->members[i].thread, NULL);
    pthread_cond_destroy(&t->wake);
    pthread_mutex_destroy(&t->lock);
}
