/* Counts the instructions that unicorn executes: called at the start of each block of straight code. In C, since a
 * call of Python at each block would make a run several times longer. */
#include <stdint.h>

typedef struct {
    const uint16_t *code; /* the flash */
    uint16_t *known;      /* for each halfword, the instructions of the block that starts there; 0 until it is met */
    uint64_t start;
    uint64_t halfwords;
    uint64_t instructions;
} ew_counter;

void ew_count(void *emulator, uint64_t address, uint32_t bytes, void *data);

void ew_count(void *emulator, uint64_t address, uint32_t bytes, void *data)
{
    ew_counter *const c = data;
    const uint64_t first = (address - c->start) / 2, end = first + bytes / 2;

    (void)emulator;
    if (end > c->halfwords)
        return;
    if (!c->known[first]) {
        for (uint64_t at = first; at < end; c->known[first]++)
            at += c->code[at] >> 11 >= 0x1d ? 2 : 1; /* 0b11101, 0b11110 and 0b11111 begin an instruction of 4 bytes */
    }
    c->instructions += c->known[first];
}
