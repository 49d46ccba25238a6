/* Private to the kernels: convolutions of int8 by int8, whatever becomes of their sums. */
#ifndef EW_CONVOLUTION_I8_H
#define EW_CONVOLUTION_I8_H

#include "integers.h"

/* Makes of `count` sums of channel `output` the elements of a row of the result from number `at` on. */
typedef void ew_put_sums(const void *to, int32_t output, int32_t at, const int32_t *sums, int32_t count);

void ew_convolve_i8(const ew_tensor *y, const ew_tensor *x, const ew_tensor *w, const ew_convolution_settings *s,
                    ew_put_sums *put, const void *to);

#endif
