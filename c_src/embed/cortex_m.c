/* Start of a program on a bare Cortex-M, and its words to the outside by semihosting: a debugger, or qemu, carries them out.
 * For the replay alone: a product has its own. */
#include <stdint.h>
#include <stdio.h>
#include <string.h>

extern uint32_t image_of_data[], data_start[], data_end[], bss_start[], bss_end[], stack_end[]; /* cortex_m.ld */
int main(void);
void start(void);

enum { SYS_WRITE0 = 0x04, SYS_EXIT_EXTENDED = 0x20, APPLICATION_EXIT = 0x20026 };

static void semihosting(uint32_t operation, const void *argument)
{
    register uint32_t r0 __asm__("r0") = operation;
    register const void *r1 __asm__("r1") = argument;
    __asm__ volatile("bkpt 0xAB" : "+r"(r0) : "r"(r1) : "memory");
}

int puts(const char *line)
{
    semihosting(SYS_WRITE0, line);
    semihosting(SYS_WRITE0, "\n");
    return 0;
}

static void end(int code)
{
    const uint32_t block[] = {APPLICATION_EXIT, (uint32_t)code};
    for (;;) semihosting(SYS_EXIT_EXTENDED, block);
}

void start(void)
{
    volatile uint32_t *coprocessors = (volatile uint32_t *)0xE000ED88; /* CPACR */
    *coprocessors |= 0xFu << 20;                                       /* the floating-point unit on, if any */
    __asm__ volatile("dsb\n\tisb");
    memcpy(data_start, image_of_data, (uintptr_t)data_end - (uintptr_t)data_start);
    memset(bss_start, 0, (uintptr_t)bss_end - (uintptr_t)bss_start);
    end(main());
}

static void fault(void)
{
    puts("a processor exception\nFAIL");
    end(1);
}

/* Where the processor finds the stack's end, the start, and what to do in a fault. */
__attribute__((section(".vectors"), used)) static const struct {
    uint32_t *stack;
    void (*handlers[15])(void);
} vectors = {stack_end, {start, fault, fault, fault, fault, fault, fault}};
