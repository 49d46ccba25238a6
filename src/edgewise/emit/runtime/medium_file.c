/* A file of the host, store.bin: by semihosting from a board. */
#include "host.h"
#include "medium.h"

static int file = -1;

int ew_medium_open(uint32_t bytes)
{
    if (file < 0)
        file = ew_host_open("store.bin", EW_HOST_UPDATE);
    return file < 0 || ew_host_bytes(file) < (int32_t)bytes;
}

int ew_medium_read(uint32_t offset, void *to, uint32_t bytes)
{
    return ew_host_read(file, offset, to, bytes);
}

int ew_medium_write(uint32_t offset, const void *from, uint32_t bytes)
{
    return ew_host_write(file, offset, from, bytes);
}

int ew_medium_flush(void)
{
    return 0; /* the host does not lose power */
}
