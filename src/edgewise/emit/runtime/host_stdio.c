/* The same sources on a computer: its own files. */
#include "host.h"

#include <stdio.h>
#include <stdlib.h>

enum { FILES = 8 };
static FILE *files[FILES];

int ew_host_open(const char *name, ew_host_mode mode)
{
    static const char *const fopen_mode[] = {"rb", "wb", "r+b"};

    for (int i = 0; i < FILES; i++) {
        if (!files[i]) {
            files[i] = fopen(name, fopen_mode[mode]);
            return files[i] ? i : -1;
        }
    }
    return -1;
}

int ew_host_read(int file, uint32_t offset, void *to, uint32_t bytes)
{
    return fseek(files[file], (long)offset, SEEK_SET) || fread(to, 1, bytes, files[file]) != bytes ? -1 : 0;
}

int ew_host_write(int file, uint32_t offset, const void *from, uint32_t bytes)
{
    return fseek(files[file], (long)offset, SEEK_SET) || fwrite(from, 1, bytes, files[file]) != bytes ? -1 : 0;
}

int32_t ew_host_bytes(int file)
{
    return fseek(files[file], 0, SEEK_END) ? -1 : (int32_t)ftell(files[file]);
}

void ew_host_exit(int code)
{
    exit(code);
}
