/* What the program defines that links medium_memory.c. */
#ifndef EW_MEDIUM_MEMORY_H
#define EW_MEDIUM_MEMORY_H

#include <stdint.h>

extern uint8_t *const ew_medium_memory;
extern const uint32_t ew_medium_memory_bytes;

#endif
