/* What the program defines that links medium_memory.c. */
#ifndef EW_MEDIUM_MEMORY_H
#define EW_MEDIUM_MEMORY_H

#include <stdint.h>

uint8_t *ew_medium_memory(uint32_t *bytes); /* where it is, and how large */

#endif
