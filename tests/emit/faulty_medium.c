/* A medium in memory that loses its power: after `faulty_writes_left` more writes, the next one does not succeed.
 *
 * Of the writes since the last flush, each may then have been done, or not, or in part, or have left garbage in the
 * sectors that it touched: a card may write in any order what it has not been told to flush. `faulty_seed` decides.
 */
#include <stdint.h>
#include <string.h>

#include "medium.h"
#include "medium_memory.h"

enum { BYTES = 1 << 16, PENDING = 4096, SECTOR = 512 };

static uint8_t medium[BYTES]; /* what a read sees */

int32_t faulty_writes_left = -1;
uint32_t faulty_writes;
uint64_t faulty_seed;

static uint8_t durable[BYTES]; /* as of the last flush */
static struct {
    uint32_t offset, bytes, at;
} pending[PENDING];
static uint32_t pendings, kept;
static uint8_t queue[1 << 22];
static int dead;

void faulty_reset(void);

static uint32_t draw(uint32_t below)
{
    faulty_seed = faulty_seed * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(faulty_seed >> 33) % below;
}

static void garble(uint32_t offset, uint32_t bytes)
{
    const uint32_t last = (offset + bytes + SECTOR - 1) / SECTOR * SECTOR;

    for (uint32_t i = offset / SECTOR * SECTOR; i < last; i++)
        durable[i] = (uint8_t)draw(256);
}

/* What remains of the writes since the last flush. */
static void lose_power(void)
{
    for (uint32_t i = 0; i < pendings; i++) {
        const uint32_t fate = draw(4), bytes = pending[i].bytes;
        if (fate == 0)
            memcpy(durable + pending[i].offset, queue + pending[i].at, bytes);
        if (fate == 1 && bytes)
            memcpy(durable + pending[i].offset, queue + pending[i].at, draw(bytes + 1));
        if (fate == 2 && bytes)
            garble(pending[i].offset, bytes);
    }
    memcpy(medium, durable, BYTES);
    dead = 1;
}

/* The power is back; `medium` is as the test has left it. */
void faulty_reset(void)
{
    memcpy(durable, medium, BYTES);
    dead = 0;
    pendings = kept = faulty_writes = 0;
    faulty_writes_left = -1;
}

uint8_t *ew_medium_memory(uint32_t *bytes)
{
    *bytes = BYTES;
    return medium;
}

int ew_medium_open(uint32_t bytes)
{
    return dead || bytes > BYTES;
}

int ew_medium_read(uint32_t offset, void *to, uint32_t bytes)
{
    if (dead || offset > BYTES || bytes > BYTES - offset)
        return 1;
    memcpy(to, medium + offset, bytes);
    return 0;
}

int ew_medium_write(uint32_t offset, const void *from, uint32_t bytes)
{
    if (dead || offset > BYTES || bytes > BYTES - offset || pendings == PENDING || kept + bytes > sizeof queue)
        return 1;
    pending[pendings].offset = offset;
    pending[pendings].bytes = bytes;
    pending[pendings++].at = kept;
    memcpy(queue + kept, from, bytes);
    kept += bytes;
    memcpy(medium + offset, from, bytes);
    faulty_writes++;
    if (faulty_writes_left >= 0 && faulty_writes_left-- == 0) {
        lose_power();
        return 1;
    }
    return 0;
}

int ew_medium_flush(void)
{
    if (dead)
        return 1;
    memcpy(durable, medium, BYTES);
    pendings = kept = 0;
    return 0;
}
