/* Private to the kernels: convolutions, whatever their weights are stored as. */
#ifndef EW_CONVOLUTION_H
#define EW_CONVOLUTION_H

#include "tile.h"

/* Bytes of a weight, and who sums up products with such weights. */
typedef struct {
    int32_t bytes;
    void (*sums)(const ew_tile *t, int32_t rows, int32_t columns, const void *w, const float *x, float *sums);
} ew_weights;

/* Each channel of the result times its factor, plus its bias; both may be NULL. */
void ew_convolve(const ew_tensor *y, const ew_tensor *x, const ew_tensor *w, const ew_tensor *factor,
                 const ew_tensor *bias, const ew_convolution_settings *s, const ew_weights *of);
void ew_convolve_back(const ew_tensor *dx, const ew_tensor *dy, const ew_tensor *w,
                      const ew_convolution_settings *s, const ew_weights *of);

#endif
