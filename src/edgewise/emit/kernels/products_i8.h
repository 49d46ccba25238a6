/* Private to the kernels: sums of products of int8, in tiles that stay in registers. */
#ifndef EW_PRODUCTS_I8_H
#define EW_PRODUCTS_I8_H

#include "integers.h"

#define EW_WIDE 4 /* columns of a tile, or one */
#define EW_HIGH 2 /* rows of a tile, or one */

/* Sum (r, c) of a tile is that of w[r w_next + s w_step] x[c x_next + s x_step] over the steps s: three nested loops,
 * of which the last one runs fastest. */
typedef struct {
    int32_t n[3], w_step[3], x_step[3];
    int32_t w_next, x_next;
} ew_products;

/* sums[EW_WIDE r + c] of a tile. */
typedef void (*ew_products_sum)(const ew_products *p, const int8_t *w, const int8_t *x, int32_t *sums);

/* Columns that are gathered lie so far apart. */
#define EW_GATHERED 112

/* Who sums up tiles of so many rows and columns, if the last two loops have these steps, or the first two fewer. Two rows
 * only of columns side by side, or of a single loop over what is dense in the rows and in columns that are gathered. */
ew_products_sum ew_products_by(const ew_products *p, int32_t rows, int32_t columns);

#endif
