/* Private to the kernels: a row of layer norm, or a group of group norm. All tensors have the shape of the
 * row. */
#ifndef EW_ROW_NORM_H
#define EW_ROW_NORM_H

#include "sums.h"

/* y = (x - mean) rstd w + b; statistics become mean and rstd. */
void ew_norm_row(const ew_tensor *y, const ew_tensor *x, const ew_tensor *w, const ew_tensor *b, float eps,
                 float statistics[2]);
void ew_norm_row_backward(const ew_tensor *dx, const ew_tensor *dy, const ew_tensor *x, const ew_tensor *w,
                          float mean, float rstd);

#endif
