/* Slices of a value in the store, as tensors in RAM; and the arithmetic of tiles. */
#ifndef EW_SLICES_H
#define EW_SLICES_H

#include "ew.h"
#include "store.h"

/* Move a slice between slot and RAM: element [i, j, ...] of `tile` is element first + i stride[0] + j stride[1] + ...
 * of the stored value, each of `item` bytes. Contiguous runs pass as one transfer. */
int ew_slice_read(uint32_t slot, ew_version version, uint32_t item, const ew_tensor *tile, const int32_t *stride,
                  int32_t first);
int ew_slice_write(uint32_t slot, uint32_t item, const ew_tensor *tile, const int32_t *stride, int32_t first);

/* The rows of a table [rows, width] of float in a slot that `index` (i64) names; out [..., width], dense. */
int ew_rows_read(const ew_tensor *out, uint32_t slot, ew_version version, const ew_tensor *index);

/* SGD of the rows of a table of float that `index` (i64) names, each once, in columns `first` to first + n of `width`:
 * dy [index dims, n]. The table is `table`, in RAM, or if that is NULL in a slot. `room` holds 2 n floats. */
typedef struct {
    float *table;
    uint32_t slot;
    int32_t width, first;
    int64_t padding_index;
    float *room;
} ew_rows;
int ew_rows_update(const ew_rows *rows, const ew_tensor *dy, const ew_tensor *index, const ew_sgd_settings *s);

static inline int32_t ew_least(int32_t a, int32_t b)
{
    return a < b ? a : b;
}

static inline int32_t ew_clip(int32_t x, int32_t high)
{
    return x < 0 ? 0 : x > high ? high : x;
}

/* Rounded down, also where a is negative; b > 0. */
static inline int32_t ew_floor_div(int32_t a, int32_t b)
{
    return a >= 0 ? a / b : -((b - 1 - a) / b);
}

#endif
