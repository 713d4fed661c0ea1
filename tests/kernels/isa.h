/* The instruction sets of this machine, asked for once: on a virtual machine the processor's answer takes microseconds, and a test
 * that changes them ten times a trial would do little else. */
#ifndef TEST_ISA_H
#define TEST_ISA_H

#include <string.h>

#include "streamgru.h"

enum { MOST_ISAS = 8 };

/* sgru_available_isa */
static inline const char *isa_at(unsigned k)
{
    static const char *names[MOST_ISAS + 1];
    if (!names[0])
        for (unsigned i = 0; i < MOST_ISAS; i++) names[i] = sgru_available_isa(i);
    return k < MOST_ISAS ? names[k] : NULL;
}

/* sgru_set_isa */
static inline int use_isa(const char *name)
{
    return strcmp(*name ? name : isa_at(0), sgru_isa()) ? sgru_set_isa(name) : SGRU_OK;
}

#endif
