/* One call at a time: the word that a call takes before it touches a stream or a pool, and gives back at its end. Whoever finds it
 * taken goes away at once: nobody waits. */
#ifndef SGRU_CLAIM_H
#define SGRU_CLAIM_H

#include <stdint.h>

/* One exchange, and no function of the compiler's library in its place, as aarch64 has it where nothing is said; inlined, it would be
 * as if nothing were. A processor without such an instruction has one core, and there the word is a plain one. */
#if defined(__aarch64__)
#define SGRU_CLAIMS __attribute__((target("no-outline-atomics"), noinline, unused)) static
#else
#define SGRU_CLAIMS static inline
#endif

SGRU_CLAIMS int sgru_claim(uint32_t *taken)
{
#ifdef __GCC_HAVE_SYNC_COMPARE_AND_SWAP_4
    return __atomic_exchange_n(taken, 1u, __ATOMIC_ACQUIRE) == 0;
#else
    uint32_t before = *(volatile uint32_t *)taken;
    *(volatile uint32_t *)taken = 1;
    return before == 0;
#endif
}

static inline void sgru_release(uint32_t *taken)
{
#ifdef __GCC_HAVE_SYNC_COMPARE_AND_SWAP_4
    __atomic_store_n(taken, 0u, __ATOMIC_RELEASE);
#else
    *(volatile uint32_t *)taken = 0;
#endif
}

#endif
