/* Private to the kernels: convolutions of int8 by int8, whatever becomes of their sums. */
#ifndef EW_CONVOLUTION_I8_H
#define EW_CONVOLUTION_I8_H

#include "products_i8.h"

/* Sums of `channels` channels from number `channel` on, each of `columns` elements of a row of the result; the first one
 * goes to element `at`. Sum (r, c) is sums[EW_WIDE r + c]. */
typedef struct {
    int32_t channel, channels, at, columns;
    int32_t sums[EW_HIGH * EW_WIDE];
} ew_block;

typedef void ew_put_block(const void *to, const ew_block *block);

void ew_convolve_i8(const ew_tensor *y, const ew_tensor *x, const ew_tensor *w, const ew_convolution_settings *s,
                    ew_put_block *put, const void *to);

#endif
