/* Private to the kernels: tiles of sums of products, kept in registers. */
#ifndef EW_TILE_H
#define EW_TILE_H

#include "walk.h"

#define EW_TILE 4
#define EW_PRODUCTS 128 /* so many products are summed before their rounding error is looked after */

/* Sum (r, c) of a tile is that of w[r w_next + s w_step] x[c x_next + s x_step] over the steps s: three
 * nested loops, of which the last one runs fastest. `sums` knows of what type w is. */
typedef struct ew_tile {
    int32_t n[3], w_step[3], x_step[3];
    int32_t w_next, x_next;
    void (*sums)(const struct ew_tile *t, int32_t rows, int32_t columns, const void *w, const float *x, float *sums);
} ew_tile;

/* The widest tile that fits what is left: 4 rows or 1; 4, 2 or 1 columns. */
static inline int32_t ew_tile_rows(int32_t left)
{
    return left >= EW_TILE ? EW_TILE : 1;
}

static inline int32_t ew_tile_columns(int32_t left)
{
    return left >= EW_TILE ? EW_TILE : left >= 2 ? 2 : 1;
}

/* sums[4 r + c] for a tile of such a size: of w in float32, and in int8. */
void ew_tile_sums(const ew_tile *t, int32_t rows, int32_t columns, const void *w, const float *x, float *sums);
void ew_tile_sums_i8(const ew_tile *t, int32_t rows, int32_t columns, const void *w, const float *x, float *sums);

/* Sums of many blocks of products. */
typedef struct {
    float sum[EW_TILE * EW_TILE], rest[EW_TILE * EW_TILE];
    int32_t blocks;
} ew_tile_total;

static inline void ew_tile_total_begin(ew_tile_total *total)
{
    total->blocks = 0;
}

void ew_tile_total_add(ew_tile_total *total, const ew_tile *t, int32_t rows, int32_t columns, const void *w,
                       const float *x);
/* Puts sum + rest in the place of sum. */
void ew_tile_total_end(ew_tile_total *total);

#endif
