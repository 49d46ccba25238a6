/* Private to the kernels: long sums over whole tensors, in the order of the indices. */
#ifndef EW_SUMS_H
#define EW_SUMS_H

#include "walk.h"

float ew_sum_of(const ew_tensor *x);
float ew_sum_of_squares(const ew_tensor *x, float mean); /* of x - mean */
float ew_sum_of_products(const ew_tensor *a, const ew_tensor *b);
/* The sums of dy and of dy (x - mean) rstd, all of one shape (mean and rstd with strides 0, mostly). */
void ew_sums_of_gradient(float sums[2], const ew_tensor *dy, const ew_tensor *x, const ew_tensor *mean,
                         const ew_tensor *rstd);
/* The sums of dy w and of dy w (x - mean). */
void ew_sums_of_weighted(float sums[2], const ew_tensor *dy, const ew_tensor *w, const ew_tensor *x,
                         float mean);

/* `value`, seen as a tensor of the shape of x; to be read only. */
ew_tensor ew_constant(const float *value, const ew_tensor *x);

int32_t ew_elements(const ew_tensor *x);

#endif
