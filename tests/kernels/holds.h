/* What is counted, and a condition that is counted with its line. */
#ifndef TEST_HOLDS_H
#define TEST_HOLDS_H

#include <stdio.h>

static unsigned passed, failed;

#define HOLDS(condition)                                                                                               \
    do {                                                                                                               \
        if (condition) passed++;                                                                                       \
        else printf("line %d: %s does not hold\n", __LINE__, #condition), failed++;                                    \
    } while (0)

#endif
