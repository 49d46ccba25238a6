/* The slower medium itself: bytes at offsets. One of medium_*.c is linked. */
#ifndef EW_MEDIUM_H
#define EW_MEDIUM_H

#include <stdint.h>

/* All return 0, or what the medium said. */
int ew_medium_open(uint32_t bytes);
int ew_medium_read(uint32_t offset, void *to, uint32_t bytes);
int ew_medium_write(uint32_t offset, const void *from, uint32_t bytes);
int ew_medium_flush(void); /* all writes before are on the medium before any write after */

#endif
