/* For a compiler that comes without a C library: the two functions of it that are used, which every compiler brings. */
#ifndef EW_STRING_H
#define EW_STRING_H

#include <stddef.h>

void *memcpy(void *restrict to, const void *restrict from, size_t bytes);
void *memset(void *to, int value, size_t bytes);

#endif
