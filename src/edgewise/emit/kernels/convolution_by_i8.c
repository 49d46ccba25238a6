/* Convolutions in float32 whose weights are int8, as edgewise.capture.int8_weights. */
#include "convolution.h"

static const ew_weights bytes = {1, ew_tile_sums_i8};

void ew_convolution_by_i8(const ew_tensor *y, const ew_tensor *x, const ew_tensor *w, const ew_tensor *factor,
                          const ew_convolution_settings *s)
{
    ew_convolve(y, x, w, factor, NULL, s, &bytes);
}

void ew_convolution_input_gradient_by_i8(const ew_tensor *dx, const ew_tensor *dy, const ew_tensor *w,
                                         const ew_convolution_settings *s)
{
    ew_convolve_back(dx, dy, w, s, &bytes);
}
