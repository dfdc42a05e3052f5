/* Ends the test with the line of a condition that does not hold. */
#ifndef JWT_ACCESS_CHECK_H
#define JWT_ACCESS_CHECK_H

#include <stdio.h>
#include <stdlib.h>

#define CHECK(condition)                                            \
    do {                                                            \
        if (!(condition)) {                                         \
            fprintf(stderr, "line %d: %s\n", __LINE__, #condition); \
            exit(EXIT_FAILURE);                                     \
        }                                                           \
    } while (0)

#endif
