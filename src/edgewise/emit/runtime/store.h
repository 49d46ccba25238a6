/* What outlives a step: slots in a slower medium that are old or new after a loss of power, never a mixture.
 *
 * A step reads the old version of a slot and writes a new one; `ew_store_commit` makes all new versions the old
 * ones at once. Until then a restart finds everything as the last commit left it.
 */
#ifndef EW_STORE_H
#define EW_STORE_H

#include <stdint.h>

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

enum { EW_SECTOR_BYTES = 512 };

/* The layout of a store: two records of EW_STORE_RECORD_BYTES(count), the journal, the slots. */
typedef struct {
    const ew_slot *slots;
    uint32_t count;
    uint32_t journal_offset;
    uint32_t journal_bytes;
    uint32_t bytes; /* all of it */
} ew_store;

typedef enum { EW_OLD, EW_NEW } ew_version;

/* All return 0, or what went wrong. */
enum { EW_OK = 0, EW_MEDIUM_FAILED = 1, EW_STORE_CORRUPT = 2, EW_JOURNAL_FULL = 3 };

/* Find the last commit, and undo what an interrupted step wrote in journal slots. */
int ew_store_open(const ew_store *store);
/* `bytes` of slot `slot` from byte `first` on. A scratch or journal slot has one version. */
int ew_slot_read(uint32_t slot, ew_version version, uint32_t first, void *to, uint32_t bytes);
int ew_slot_write(uint32_t slot, uint32_t first, const void *from, uint32_t bytes);
int ew_store_commit(void);

#endif
