#include "row_norm.h"

void ew_norm_row(const ew_tensor *y, const ew_tensor *x, const ew_tensor *w, const ew_tensor *b, float eps,
                 float statistics[2])
{
    const ew_tensor *const operands[] = {y, x, w, b};
    const float count = (float)ew_elements(x), mean = ew_sum_of(x) / count;
    const float rstd = 1.0f / ew_sqrtf(ew_sum_of_squares(x, mean) / count + eps);
    ew_walk k;
    for (ew_walk_begin(&k, 4, operands); k.n > 0; ew_walk_next(&k)) {
        float *o = ew_floats(y, k.at[0]);
        const float *p = ew_floats(x, k.at[1]), *v = ew_floats(w, k.at[2]), *u = ew_floats(b, k.at[3]);
        for (int32_t i = 0; i < k.n; ++i, o += k.step[0], p += k.step[1], v += k.step[2], u += k.step[3])
            *o = (*p - mean) * rstd * *v + *u;
    }
    statistics[0] = mean;
    statistics[1] = rstd;
}

void ew_norm_row_backward(const ew_tensor *dx, const ew_tensor *dy, const ew_tensor *x, const ew_tensor *w,
                          float mean, float rstd)
{
    const ew_tensor *const operands[] = {dx, dy, x, w};
    const float count = (float)ew_elements(x);
    float sums[2];
    ew_walk k;
    ew_sums_of_weighted(sums, dy, w, x, mean);
    const float average = sums[0] / count, slope = sums[1] / count * rstd * rstd;
    for (ew_walk_begin(&k, 4, operands); k.n > 0; ew_walk_next(&k)) {
        float *o = ew_floats(dx, k.at[0]);
        const float *p = ew_floats(dy, k.at[1]), *q = ew_floats(x, k.at[2]), *v = ew_floats(w, k.at[3]);
        for (int32_t i = 0; i < k.n; ++i, o += k.step[0], p += k.step[1], q += k.step[2], v += k.step[3])
            *o = (*p * *v - average - (*q - mean) * slope) * rstd;
    }
}
