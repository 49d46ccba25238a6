/* The machine that looks on: files in its current folder, and a way to end. Semihosting on a board, stdio elsewhere. */
#ifndef EW_HOST_H
#define EW_HOST_H

#include <stdint.h>

typedef enum { EW_HOST_READ, EW_HOST_CREATE, EW_HOST_UPDATE } ew_host_mode;

int ew_host_open(const char *name, ew_host_mode mode); /* a file, or -1 */
/* All `bytes` from `offset` on: 0, or -1. */
int ew_host_read(int file, uint32_t offset, void *to, uint32_t bytes);
int ew_host_write(int file, uint32_t offset, const void *from, uint32_t bytes);
int32_t ew_host_bytes(int file); /* the length of a file, or -1 */
void ew_host_exit(int code);

#endif
