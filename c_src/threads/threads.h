/* Workers made of POSIX threads, for whoever has no threads of his own to lend. Not a part of the core: leave the two files out where
 * there is no pthread.h. */
#ifndef STREAMGRU_THREADS_H
#define STREAMGRU_THREADS_H

#include "../streamgru.h"

#ifdef __cplusplus
extern "C" {
#endif

#define SGRU_MOST_THREADS 64

typedef struct sgru_threads sgru_threads;

/* Bytes of memory for n - 1 threads beside the caller's (2 <= n <= SGRU_MOST_THREADS); else 0. */
size_t sgru_threads_size(unsigned n);

/* Starts them in the caller's memory (64-byte aligned); NULL where that or the system refuses. They look out for work for some
 * microseconds after the last and then sleep, until the next wakes them; a step does not wait for a thread that has not begun:
 * the caller does its part, and all parts where another caller has the threads just then. The first work in a child of fork() starts them
 * anew there, as many as it gets. */
sgru_threads *sgru_threads_start(void *memory, size_t size, unsigned n);

/* For sgru_stream_use() and sgru_pool_use(). */
sgru_workers *sgru_threads_workers(sgru_threads *threads);

/* Ends them, each in the process that it is in; no stream may use them any more. */
void sgru_threads_stop(sgru_threads *threads);

#ifdef __cplusplus
}
#endif
#endif
