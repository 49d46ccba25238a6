/* The store: what a commit means, and what a restart finds.
 *
 * A record names the copy of each double slot that is current. A commit writes the next record over the older one of
 * the two, so the newer one is intact whatever becomes of that write, and everything that the record speaks of has
 * reached the medium before.
 *
 * The journal holds the former content of the sectors that a step has overwritten in journal slots. An entry counts
 * if its checksum is right and it bears the number of the last commit: the next commit makes the whole journal void
 * by being written. After an undo a commit is written too, lest entries of a later try join those of the first.
 */
#include "store.h"

#include <string.h>

#include "medium.h"

#define RECORD_MAGIC 0x31525745u /* "EWR1" */
#define ENTRY_MAGIC 0x314a5745u  /* "EWJ1" */
#define NOWHERE UINT32_MAX

typedef struct {
    uint32_t magic;
    uint32_t sequence;
    uint32_t layout; /* checksum of the slots: the record of another model's store is none of ours */
    uint8_t second[EW_RECORD_SLOTS / 8]; /* bit i: the second copy of slot i is the current one */
    uint32_t check;
} record;

/* Alone in a sector; the former content of whole sectors of a slot follows. */
typedef struct {
    uint32_t magic;
    uint32_t sequence; /* of the commit before */
    uint32_t previous; /* entry, in bytes from the start of the journal, or NOWHERE */
    uint32_t slot;
    uint32_t first;
    uint32_t bytes;
    uint32_t check; /* of the above, and the content */
} entry;

static const ew_store *layout;
static uint32_t sequence;     /* of the last commit */
static uint32_t journal_end;  /* bytes used since then */
static uint32_t journal_last; /* the last entry */
static uint8_t second[EW_STORE_SLOTS / 8];
static uint8_t written[EW_STORE_SLOTS / 8]; /* bit i: double slot i has a new version */

static union {
    uint8_t bytes[EW_SECTOR_BYTES];
    record record;
    entry entry;
} sector;

ew_traffic ew_store_traffic;

/* -- small parts ------------------------------------------------------------------------------------------------- */

/* CRC-32 as in zip, four bits at a time. */
static uint32_t checksum(uint32_t sum, const void *data, uint32_t bytes)
{
    static const uint32_t of_nibble[16] = {
        0x00000000u, 0x1db71064u, 0x3b6e20c8u, 0x26d930acu, 0x76dc4190u, 0x6b6b51f4u, 0x4db26158u, 0x5005713cu,
        0xedb88320u, 0xf00f9344u, 0xd6d6a3e8u, 0xcb61b38cu, 0x9b64c2b0u, 0x86d3d2d4u, 0xa00ae278u, 0xbdbdf21cu};
    const uint8_t *at = data;

    sum = ~sum;
    while (bytes-- > 0) {
        sum ^= *at++;
        sum = (sum >> 4) ^ of_nibble[sum & 15u];
        sum = (sum >> 4) ^ of_nibble[sum & 15u];
    }
    return ~sum;
}

static uint32_t layout_checksum(void)
{
    uint32_t sum = checksum(0, &layout->journal_offset, sizeof layout->journal_offset);

    sum = checksum(sum, &layout->journal_bytes, sizeof layout->journal_bytes);
    for (uint32_t i = 0; i < layout->count; i++) {
        const uint32_t words[3] = {layout->slots[i].offset, layout->slots[i].bytes, (uint32_t)layout->slots[i].kind};
        sum = checksum(sum, words, sizeof words);
    }
    return sum;
}

static int bit(const uint8_t *bits, uint32_t i)
{
    return bits[i / 8] >> (i % 8) & 1;
}

static uint32_t whole_sectors(uint32_t bytes)
{
    return (bytes + EW_SECTOR_BYTES - 1) / EW_SECTOR_BYTES * EW_SECTOR_BYTES;
}

static int read_medium(uint32_t offset, void *to, uint32_t bytes)
{
    ew_store_traffic.read += bytes;
    return ew_medium_read(offset, to, bytes) ? EW_MEDIUM_FAILED : EW_OK;
}

static int write_medium(uint32_t offset, const void *from, uint32_t bytes)
{
    ew_store_traffic.written += bytes;
    return ew_medium_write(offset, from, bytes) ? EW_MEDIUM_FAILED : EW_OK;
}

static int flush_medium(void)
{
    return ew_medium_flush() ? EW_MEDIUM_FAILED : EW_OK;
}

/* -- records ----------------------------------------------------------------------------------------------------- */

/* Takes over the record at `index` if it is one, and newer than what has been found. */
static int read_record(uint32_t index, int *found)
{
    if (read_medium(index * EW_SECTOR_BYTES, &sector, EW_SECTOR_BYTES))
        return EW_MEDIUM_FAILED;
    const record *const r = &sector.record;
    if (r->magic != RECORD_MAGIC || r->layout != layout_checksum() ||
        r->check != checksum(0, r, EW_SECTOR_BYTES - sizeof r->check))
        return EW_OK;
    if (*found && (r->sequence - sequence) > UINT32_MAX / 2) /* the sequence may have passed its end */
        return EW_OK;
    *found = 1;
    sequence = r->sequence;
    memcpy(second, r->second, sizeof second);
    return EW_OK;
}

/* The step so far becomes the last commit. */
static int write_record(void)
{
    record *const r = &sector.record;

    if (flush_medium())
        return EW_MEDIUM_FAILED;
    memset(&sector, 0, sizeof sector);
    r->magic = RECORD_MAGIC;
    r->sequence = sequence + 1;
    r->layout = layout_checksum();
    for (uint32_t i = 0; i < sizeof second; i++)
        r->second[i] = second[i] ^ written[i];
    r->check = checksum(0, r, EW_SECTOR_BYTES - sizeof r->check);
    if (write_medium(r->sequence % 2 * EW_SECTOR_BYTES, &sector, EW_SECTOR_BYTES) || flush_medium())
        return EW_MEDIUM_FAILED;

    sequence++;
    for (uint32_t i = 0; i < sizeof second; i++)
        second[i] ^= written[i];
    memset(written, 0, sizeof written);
    journal_end = 0;
    journal_last = NOWHERE;
    return EW_OK;
}

/* -- journal ----------------------------------------------------------------------------------------------------- */

/* Copies whole sectors within the medium, and goes on with their checksum. */
static int copy_sectors(uint32_t to, uint32_t from, uint32_t bytes, uint32_t *check)
{
    for (uint32_t at = 0; at < bytes; at += EW_SECTOR_BYTES) {
        if (read_medium(from + at, &sector, EW_SECTOR_BYTES))
            return EW_MEDIUM_FAILED;
        *check = checksum(*check, &sector, EW_SECTOR_BYTES);
        if (to != NOWHERE && write_medium(to + at, &sector, EW_SECTOR_BYTES))
            return EW_MEDIUM_FAILED;
    }
    return EW_OK;
}

static int read_entry(uint32_t at, entry *e)
{
    if (read_medium(layout->journal_offset + at, &sector, EW_SECTOR_BYTES))
        return EW_MEDIUM_FAILED;
    *e = sector.entry;
    return EW_OK;
}

/* Whether `e`, found at `at`, is an entry of the step that follows the last commit. */
static int check_entry(uint32_t at, const entry *e, int *valid)
{
    uint32_t check = checksum(0, e, sizeof *e - sizeof e->check);

    *valid = 0;
    if (e->magic != ENTRY_MAGIC || e->sequence != sequence || e->previous != journal_last ||
        e->bytes % EW_SECTOR_BYTES || e->bytes > layout->journal_bytes - at - EW_SECTOR_BYTES)
        return EW_OK;
    if (copy_sectors(NOWHERE, layout->journal_offset + at + EW_SECTOR_BYTES, e->bytes, &check))
        return EW_MEDIUM_FAILED;
    *valid = check == e->check;
    return EW_OK;
}

/* Puts back what the journal holds, the last first. */
static int undo(void)
{
    entry e;
    int valid = 1;
    uint32_t check = 0;

    while (valid && journal_end + EW_SECTOR_BYTES <= layout->journal_bytes) {
        if (read_entry(journal_end, &e) || check_entry(journal_end, &e, &valid))
            return EW_MEDIUM_FAILED;
        if (valid) {
            journal_last = journal_end;
            journal_end += EW_SECTOR_BYTES + e.bytes;
        }
    }
    if (journal_last == NOWHERE)
        return EW_OK;
    for (uint32_t at = journal_last; at != NOWHERE; at = e.previous) {
        if (read_entry(at, &e) || copy_sectors(layout->slots[e.slot].offset + e.first,
                                               layout->journal_offset + at + EW_SECTOR_BYTES, e.bytes, &check))
            return EW_MEDIUM_FAILED;
    }
    return write_record();
}

/* Keeps the sectors of a journal slot that are about to be written. */
static int remember(uint32_t slot, uint32_t first, uint32_t bytes)
{
    const uint32_t from = first / EW_SECTOR_BYTES * EW_SECTOR_BYTES;
    const uint32_t at = layout->journal_offset + journal_end;
    entry e = {ENTRY_MAGIC, sequence, journal_last, slot, from, whole_sectors(first + bytes) - from, 0};

    if (e.bytes + EW_SECTOR_BYTES > layout->journal_bytes - journal_end)
        return EW_JOURNAL_FULL;
    e.check = checksum(0, &e, sizeof e - sizeof e.check);
    if (copy_sectors(at + EW_SECTOR_BYTES, layout->slots[slot].offset + from, e.bytes, &e.check))
        return EW_MEDIUM_FAILED;
    memset(&sector, 0, sizeof sector);
    sector.entry = e;
    if (write_medium(at, &sector, EW_SECTOR_BYTES) || flush_medium())
        return EW_MEDIUM_FAILED;
    journal_last = journal_end;
    journal_end += EW_SECTOR_BYTES + e.bytes;
    return EW_OK;
}

/* -- the interface ----------------------------------------------------------------------------------------------- */

int ew_store_open(const ew_store *store)
{
    int found = 0;

    layout = store;
    journal_end = 0;
    journal_last = NOWHERE;
    memset(written, 0, sizeof written);
    for (uint32_t i = EW_STORE_SLOTS; i < store->count; i++)
        if (store->slots[i].kind == EW_DOUBLE)
            return EW_STORE_MISUSED;
    if (ew_medium_open(store->bytes) || read_record(0, &found) || read_record(1, &found))
        return EW_MEDIUM_FAILED;
    return found ? undo() : EW_STORE_CORRUPT;
}

static int outside(uint32_t slot, uint32_t first, uint32_t bytes)
{
    return slot >= layout->count || first > layout->slots[slot].bytes || bytes > layout->slots[slot].bytes - first;
}

static uint32_t offset_of(uint32_t slot, int copy)
{
    return layout->slots[slot].offset + (copy ? whole_sectors(layout->slots[slot].bytes) : 0);
}

int ew_slot_read(uint32_t slot, ew_version version, uint32_t first, void *to, uint32_t bytes)
{
    if (outside(slot, first, bytes))
        return EW_STORE_MISUSED;
    const int is_double = layout->slots[slot].kind == EW_DOUBLE;
    const int copy = is_double && bit(second, slot) != (version == EW_NEW);
    return read_medium(offset_of(slot, copy) + first, to, bytes);
}

int ew_slot_write(uint32_t slot, uint32_t first, const void *from, uint32_t bytes)
{
    if (outside(slot, first, bytes))
        return EW_STORE_MISUSED;
    const ew_slot_kind kind = layout->slots[slot].kind;
    if (kind == EW_DOUBLE)
        written[slot / 8] |= (uint8_t)(1u << slot % 8);
    if (kind == EW_JOURNAL) {
        const int failed = remember(slot, first, bytes);
        if (failed)
            return failed;
    }
    return write_medium(offset_of(slot, kind == EW_DOUBLE && !bit(second, slot)) + first, from, bytes);
}

int ew_store_commit(void)
{
    uint32_t changed = journal_end;

    for (uint32_t i = 0; i < sizeof written; i++)
        changed |= written[i];
    return changed ? write_record() : EW_OK; /* a record is a write to flash that wears */
}
