/* A team of threads that spins for work and sleeps when there is none (threads.h). A part is claimed before it is done, so that
 * nobody waits for a thread that the system has put aside, and a caller who finds the team with another does all parts himself.
 *
 * Threads are not in a child of fork(). A team knows the process that it was made in; the first work in another process makes it anew
 * there, and its end there joins nobody. */
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
    unsigned home;        /* the process that its threads are in */
    unsigned n_members;   /* that are there, the caller included: fewer than workers.n where a child got fewer */
    atomic_uint holder;   /* the process whose caller has the team, 0 for nobody: another than this one is gone */
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

/* ---- processes ---- */

static atomic_uint process = 1; /* another number after each fork(), in the child */
static pthread_once_t once = PTHREAD_ONCE_INIT;
static int counts_forks;

static void count_fork(void) { atomic_fetch_add(&process, 1); }
static void begin_to_count(void) { counts_forks = pthread_atfork(NULL, NULL, count_fork) == 0; }

/* The team for one caller of this process; 0 where another has it. */
static int hold(sgru_threads *t, unsigned here)
{
    unsigned holder = atomic_load_explicit(&t->holder, memory_order_relaxed);
    return holder != here && atomic_compare_exchange_strong(&t->holder, &holder, here);
}

/* ---- work ---- */

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

/* Threads and all that they look at, for this process: how many members there are. A round that another process began is over. */
static unsigned muster(sgru_threads *t, unsigned here)
{
    uint64_t round = atomic_load_explicit(&t->round, memory_order_relaxed);
    t->home = here;
    t->n_members = 1;
    atomic_init(&t->done, 0);
    atomic_init(&t->asleep, 0);
    atomic_init(&t->stop, 0);
    for (unsigned i = 0; i < t->workers.n; i++) {
        t->members[i].team = t;
        t->members[i].index = i;
        atomic_init(&t->members[i].claimed, round);
    }
    if (pthread_mutex_init(&t->lock, NULL) || pthread_cond_init(&t->wake, NULL)) return 1;
    for (; t->n_members < t->workers.n; t->n_members++) {
        member *m = &t->members[t->n_members];
        if (pthread_create(&m->thread, NULL, look_for_work, m)) break;
    }
    return t->n_members;
}

static void run_together(sgru_threads *t, void (*part)(void *work, unsigned index), void *work)
{
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
    for (unsigned i = 0; i < t->workers.n; i++) try_part(t, i, round);
    while (atomic_load_explicit(&t->done, memory_order_acquire) != t->workers.n) pause_a_little();
}

static void run(sgru_workers *workers, void (*part)(void *work, unsigned index), void *work)
{
    sgru_threads *t = (sgru_threads *)workers;
    unsigned here = atomic_load_explicit(&process, memory_order_relaxed);
    if (!hold(t, here)) {
        for (unsigned i = 0; i < workers->n; i++) part(work, i);
        return;
    }
    if (t->home != here) muster(t, here);
    run_together(t, part, work);
    atomic_store_explicit(&t->holder, 0, memory_order_release);
}

size_t sgru_threads_size(unsigned n)
{
    return n >= 2 && n <= SGRU_MOST_THREADS ? sizeof(sgru_threads) + n * sizeof(member) : 0;
}

sgru_threads *sgru_threads_start(void *memory, size_t size, unsigned n)
{
    size_t need = sgru_threads_size(n);
    if (!memory || (uintptr_t)memory % 64 != 0 || need == 0 || size < need) return NULL;
    if (pthread_once(&once, begin_to_count) || !counts_forks) return NULL;
    sgru_threads *t = memory;
    t->workers = (sgru_workers){n, run};
    atomic_init(&t->holder, 0);
    atomic_init(&t->round, 0);
    if (muster(t, atomic_load(&process)) == n) return t;
    sgru_threads_stop(t);
    return NULL;
}

sgru_workers *sgru_threads_workers(sgru_threads *t) { return &t->workers; }

void sgru_threads_stop(sgru_threads *t)
{
    unsigned here = atomic_load(&process);
    if (t->home != here || t->n_members < 2) return;
    while (!hold(t, here)) pause_a_little(); /* a caller in the middle of his work, which is short */
    pthread_mutex_lock(&t->lock);
    atomic_store(&t->stop, 1);
    pthread_cond_broadcast(&t->wake);
    pthread_mutex_unlock(&t->lock);
    for (unsigned i = 1; i < t->n_members; i++) pthread_join(t->members[i].thread, NULL);
    pthread_cond_destroy(&t->wake);
    pthread_mutex_destroy(&t->lock);
}
