/* The memory on the bus of a board, as the linker script names it, for a store on medium_memory.c. */
#include "medium_memory.h"

extern uint8_t ew_medium_start[], ew_medium_end[];

uint8_t *ew_medium_memory(uint32_t *bytes)
{
    *bytes = (uint32_t)(ew_medium_end - ew_medium_start);
    return ew_medium_start;
}
