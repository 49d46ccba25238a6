/* Private to the kernels: sums of products of int8, of windows of a convolution and of columns that were gathered. */
#ifndef EW_WINDOWS_I8_H
#define EW_WINDOWS_I8_H

#include "products_i8.h"

#define EW_GATHERED 80 /* Columns that are gathered lie so far apart. */

/* As ew_row_sum, for four columns. With two rows, columns are side by side. */
ew_products_sum ew_window_sum(const ew_products *p, int32_t rows);
/* Of two dense rows by four gathered columns. */
void ew_gathered_sum(const ew_products *p, const int8_t *w, const int8_t *x, int32_t *sums);

#endif
