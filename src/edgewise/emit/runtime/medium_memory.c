/* Memory at an address: PSRAM or a battery-backed SRAM on a bus, or an array of the program. */
#include "medium_memory.h"

#include <string.h>

#include "medium.h"

static uint8_t *memory;

int ew_medium_open(uint32_t bytes)
{
    uint32_t there;

    memory = ew_medium_memory(&there);
    return bytes > there;
}

int ew_medium_read(uint32_t offset, void *to, uint32_t bytes)
{
    memcpy(to, memory + offset, bytes);
    return 0;
}

int ew_medium_write(uint32_t offset, const void *from, uint32_t bytes)
{
    memcpy(memory + offset, from, bytes);
    return 0;
}

int ew_medium_flush(void)
{
    return 0; /* the compiler keeps the order, as these are calls; a cache before the memory would need cleaning here */
}
