/* Arm semihosting: the debugger or emulator does what r0 says with the words that r1 points to, at `bkpt 0xab`. */
#include "host.h"

enum {
    SYS_OPEN = 0x01,
    SYS_WRITE = 0x05,
    SYS_READ = 0x06,
    SYS_SEEK = 0x0a,
    SYS_FLEN = 0x0c,
    SYS_EXIT_EXTENDED = 0x20,
    STOPPED_APPLICATION_EXIT = 0x20026
};

static int32_t call(uint32_t operation, const uintptr_t *words)
{
    register uint32_t r0 __asm__("r0") = operation;
    register const uintptr_t *r1 __asm__("r1") = words;

    __asm__ volatile("bkpt 0xab" : "+r"(r0) : "r"(r1) : "memory");
    return (int32_t)r0;
}

int ew_host_open(const char *name, ew_host_mode mode)
{
    static const uintptr_t fopen_mode[] = {1 /* rb */, 5 /* wb */, 3 /* r+b */};
    uintptr_t length = 0;

    while (name[length])
        length++;
    const uintptr_t words[3] = {(uintptr_t)name, fopen_mode[mode], length};
    return call(SYS_OPEN, words);
}

/* Reading and writing return how many bytes they have not done. */
static int transfer(uint32_t operation, int file, uint32_t offset, const void *memory, uint32_t bytes)
{
    const uintptr_t seek[2] = {(uintptr_t)file, offset};
    const uintptr_t words[3] = {(uintptr_t)file, (uintptr_t)memory, bytes};

    return call(SYS_SEEK, seek) || (bytes && call(operation, words)) ? -1 : 0;
}

int ew_host_read(int file, uint32_t offset, void *to, uint32_t bytes)
{
    return transfer(SYS_READ, file, offset, to, bytes);
}

int ew_host_write(int file, uint32_t offset, const void *from, uint32_t bytes)
{
    return transfer(SYS_WRITE, file, offset, from, bytes);
}

int32_t ew_host_bytes(int file)
{
    const uintptr_t words[1] = {(uintptr_t)file};

    return call(SYS_FLEN, words);
}

void ew_host_exit(int code)
{
    const uintptr_t words[2] = {STOPPED_APPLICATION_EXIT, (uintptr_t)code};

    for (;;)
        call(SYS_EXIT_EXTENDED, words);
}
