/* Which kernels this machine can run, which are chosen, and the floating-point environment they need. */
#include <string.h>

#include "kernels/kernels.h"
#include "streamgru.h"

typedef struct table {
    const sgru_kernels *kernels;
    unsigned needs; /* all of these features */
} table;

#if defined(__x86_64__) && !defined(SGRU_NO_SIMD)
#include <cpuid.h>

#include "x86.h"

static uint64_t saved_registers(void)
{
    uint32_t low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (uint64_t)high << 32 | low;
}

static unsigned features(void)
{
    uint32_t a, b, c, d;
    x86 p = {0, 0, 0, 0, 0};
    if (__get_cpuid(1, &a, &b, &c, &d)) p.leaf1_c = c;
    if (__get_cpuid_count(7, 0, &a, &b, &c, &d)) p.leaf7_b = b, p.leaf7_c = c;
    if (__get_cpuid_count(7, 1, &a, &b, &c, &d)) p.leaf7_1_a = a;
    if (has_osxsave(&p)) p.saved = saved_registers();
    return x86_sets(&p);
}

/* The tables with the integer products that came later have the names of those without. */
static const table tables[] = {
    {&sgru_kernels_avx512_vnni, X86_AVX512_VNNI},
    {&sgru_kernels_avx512, X86_AVX512},
    {&sgru_kernels_avx2_vnni, X86_AVX2_VNNI},
    {&sgru_kernels_avx2, X86_AVX2},
};
#elif defined(__aarch64__) && !defined(SGRU_NO_SIMD)
enum { ARM_DOT = 1 };

#if defined(__ARM_FEATURE_DOTPROD)
static unsigned features(void) { return ARM_DOT; }
#elif defined(__linux__)
/* Of the C library, where there is one. 16 is AT_HWCAP, bit 20 of it HWCAP_ASIMDDP. */
extern unsigned long getauxval(unsigned long) __attribute__((weak));
static unsigned features(void) { return getauxval && getauxval(16) >> 20 & 1 ? ARM_DOT : 0; }
#else
static unsigned features(void) { return 0; }
#endif

static const table tables[] = {
    {&sgru_kernels_neon_dot, ARM_DOT},
    {&sgru_kernels_neon, 0},
};
#else
static unsigned features(void) { return 0; }
static const table tables[1];
#endif

const sgru_kernels *sgru_kernels_available(unsigned i)
{
    const unsigned here = features();
    for (size_t t = 0; t < sizeof tables / sizeof *tables; t++)
        if (tables[t].kernels && (tables[t].needs & ~here) == 0 && i-- == 0) return tables[t].kernels;
    return i == 0 ? &sgru_kernels_ref : NULL;
}

/* The only global. Asking the processor takes microseconds on a virtual machine, so the answer is kept; two threads that
 * ask at once write the same one. */
#if __STDC_VERSION__ >= 201112L && !defined(__STDC_NO_ATOMICS__)
static _Atomic(const sgru_kernels *) chosen;
#else /* C99: every machine writes a pointer in one piece */
static const sgru_kernels *volatile chosen;
#endif

const sgru_kernels *sgru_kernels_chosen(void)
{
    if (!chosen) chosen = sgru_kernels_available(0);
    return chosen;
}

const char *sgru_isa(void) { return sgru_kernels_chosen()->name; }

static int same_name(const char *a, const char *b)
{
    while (*a && *a == *b) a++, b++;
    return *a == *b;
}

/* Each name once. */
const char *sgru_available_isa(unsigned i)
{
    const sgru_kernels *k, *last = NULL;
    for (unsigned j = 0; (k = sgru_kernels_available(j)); last = k, j++)
        if ((!last || !same_name(k->name, last->name)) && i-- == 0) return k->name;
    return NULL;
}

int sgru_set_isa(const char *name)
{
    const sgru_kernels *k;
    for (unsigned i = 0; (k = sgru_kernels_available(i)); i++)
        if (!name || !*name || same_name(k->name, name)) {
            chosen = k;
            return SGRU_OK;
        }
    return SGRU_E_ISA;
}

/* Round to nearest, subnormals kept, no traps; leave() restores the caller's modes and exception flags. */
#if defined(__SSE2__)
#include <xmmintrin.h>

/* Writing the register costs more than reading it, and it holds what is wanted already but for a caller with other modes. */
enum { MXCSR_DEFAULT = 0x1F80, MXCSR_FLAGS = 0x3F };

sgru_fpenv sgru_fpenv_enter(void)
{
    sgru_fpenv saved = {_mm_getcsr(), 0};
    if ((saved.control & ~(uint64_t)MXCSR_FLAGS) != MXCSR_DEFAULT) _mm_setcsr(MXCSR_DEFAULT);
    return saved;
}

void sgru_fpenv_leave(sgru_fpenv saved)
{
    if (_mm_getcsr() != saved.control) _mm_setcsr((unsigned)saved.control);
}

#elif defined(__aarch64__)
sgru_fpenv sgru_fpenv_enter(void)
{
    sgru_fpenv saved;
    __asm__ volatile("mrs %0, fpcr\n\tmrs %1, fpsr" : "=r"(saved.control), "=r"(saved.status));
    if (saved.control) __asm__ volatile("msr fpcr, %0" : : "r"((uint64_t)0));
    return saved;
}

void sgru_fpenv_leave(sgru_fpenv saved)
{
    if (saved.control) __asm__ volatile("msr fpcr, %0" : : "r"(saved.control));
    __asm__ volatile("msr fpsr, %0" : : "r"(saved.status));
}

#elif defined(__arm__) && defined(__ARM_FP)
enum { FPSCR_LTPSIZE = 7 << 16 }; /* Armv8.1-M: how loops end, no mode of floats; zero elsewhere */

sgru_fpenv sgru_fpenv_enter(void)
{
    uint32_t fpscr;
    __asm__ volatile("vmrs %0, fpscr" : "=r"(fpscr));
    __asm__ volatile("vmsr fpscr, %0" : : "r"(fpscr & FPSCR_LTPSIZE));
    return (sgru_fpenv){fpscr, 0};
}

void sgru_fpenv_leave(sgru_fpenv saved) { __asm__ volatile("vmsr fpscr, %0" : : "r"((uint32_t)saved.control)); }

#elif defined(__riscv_flen) || defined(__riscv_zfinx)
sgru_fpenv sgru_fpenv_enter(void)
{
    unsigned long fcsr;
    __asm__ volatile("csrrw %0, fcsr, zero" : "=r"(fcsr));
    return (sgru_fpenv){fcsr, 0};
}

void sgru_fpenv_leave(sgru_fpenv saved) { __asm__ volatile("csrw fcsr, %0" : : "r"((unsigned long)saved.control)); }

/* Floats in software, and WebAssembly's, have no modes. Of any other processor nothing is assumed: whoever builds for one says
 * SGRU_PLAIN_FLOATS, a promise that it rounds to nearest, keeps subnormals and traps nothing whenever the library is called.
 * What becomes of the exception flags is then open. */
#elif defined(SGRU_PLAIN_FLOATS) || defined(__wasm__) || defined(__arm__) || defined(__riscv) ||                       \
    defined(__mips_soft_float) || defined(_SOFT_FLOAT) || defined(__loongarch_soft_float)
sgru_fpenv sgru_fpenv_enter(void) { return (sgru_fpenv){0, 0}; }
void sgru_fpenv_leave(sgru_fpenv saved) { (void)saved; }

#else
#error "the floating-point modes of this processor are not known: see SGRU_PLAIN_FLOATS in cpu.c"
#endif
