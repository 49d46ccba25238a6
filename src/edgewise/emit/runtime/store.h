/* What outlives a step: slots in a slower medium that are old or new after a loss of power, never a mixture.
 *
 * A step reads the old version of a slot and writes a new one; `ew_store_commit` makes all new versions the old
 * ones at once. Until then a restart finds everything as the last commit left it. What a write that was cut short
 * leaves in the sectors it touches may be anything.
 *
 * The store, little-endian, whole sectors: two commit records of one sector each, written in turn; the journal;
 * the slots. `emit/image.py` writes and reads the same.
 */
#ifndef EW_STORE_H
#define EW_STORE_H

#include <stdint.h>

#ifndef EW_STORE_SLOTS
#define EW_STORE_SLOTS 1024 /* double slots are among the first so many: a quarter of a byte of RAM each */
#endif

enum {
    EW_SECTOR_BYTES = 512,
    EW_RECORD_SLOTS = 3968 /* bits in a record */
};

typedef enum {
    EW_SCRATCH, /* one copy, whose content need not outlive the step */
    EW_DOUBLE,  /* two copies: a step that writes any of it writes all of it */
    EW_JOURNAL  /* one copy, parts of which a step writes: what was there before is kept in the journal */
} ew_slot_kind;

/* `offset` in the medium, a multiple of EW_SECTOR_BYTES; the second copy of a double slot follows the first, at the
 * next multiple. */
typedef struct {
    uint32_t offset;
    uint32_t bytes;
    ew_slot_kind kind;
} ew_slot;

/* Each write to a journal slot takes one sector of the journal, and as many as it touches of the slot, until the
 * next commit. */
typedef struct {
    const ew_slot *slots;
    uint32_t count;
    uint32_t journal_offset;
    uint32_t journal_bytes;
    uint32_t bytes; /* all of it */
} ew_store;

typedef enum { EW_OLD, EW_NEW } ew_version;

/* All return 0, or what went wrong; then only `ew_store_open` may follow, which goes back to the last commit. */
enum {
    EW_OK = 0,
    EW_MEDIUM_FAILED = 1,
    EW_STORE_CORRUPT = 2, /* no commit record, or that of a store with other slots */
    EW_JOURNAL_FULL = 3,
    EW_STORE_MISUSED = 4 /* no such slot, or bytes outside of it, or a double one behind EW_STORE_SLOTS */
};

/* Find the last commit, and undo what an interrupted step wrote in journal slots. */
int ew_store_open(const ew_store *store);
/* `bytes` of slot `slot` from byte `first` on. A scratch or journal slot has one version. */
int ew_slot_read(uint32_t slot, ew_version version, uint32_t first, void *to, uint32_t bytes);
int ew_slot_write(uint32_t slot, uint32_t first, const void *from, uint32_t bytes);
int ew_store_commit(void);

/* Bytes that the store has read from the medium, and written to it, since the start; records and journal too. */
typedef struct {
    uint64_t read;
    uint64_t written;
} ew_traffic;
extern ew_traffic ew_store_traffic;

#endif
