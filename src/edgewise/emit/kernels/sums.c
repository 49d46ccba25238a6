#include "sums.h"

#define SUM(TOTAL, TERM, N, ...)                                                                        \
    const ew_tensor *const operands[] = {__VA_ARGS__};                                                  \
    ew_walk w;                                                                                          \
    ew_total_begin(&TOTAL);                                                                             \
    for (ew_walk_begin_in_order(&w, N, operands); w.n > 0; ew_walk_next(&w)) {                          \
        const float *p = ew_floats(operands[0], w.at[0]), *q = ew_floats(operands[N - 1], w.at[N - 1]); \
        for (int32_t left = w.n; left > 0;) {                                                           \
            const int32_t n = ew_min(left, TOTAL.left);                                                 \
            float block = TOTAL.block;                                                                  \
            for (int32_t i = 0; i < n; ++i, p += w.step[0], q += w.step[N - 1])                         \
                block += (TERM);                                                                        \
            TOTAL.block = block;                                                                        \
            left -= n;                                                                                  \
            if ((TOTAL.left -= n) == 0)                                                                 \
                ew_total_flush(&TOTAL);                                                                 \
        }                                                                                               \
    }

float ew_sum_of(const ew_tensor *x)
{
    ew_total total;
    SUM(total, *p, 1, x)
    return ew_total_end(&total);
}

float ew_sum_of_squares(const ew_tensor *x, float mean)
{
    ew_total total;
    SUM(total, (*p - mean) * (*p - mean), 1, x)
    return ew_total_end(&total);
}

float ew_sum_of_products(const ew_tensor *a, const ew_tensor *b)
{
    ew_total total;
    SUM(total, *p * *q, 2, a, b)
    return ew_total_end(&total);
}

void ew_sums_of_gradient(float sums[2], const ew_tensor *dy, const ew_tensor *x, const ew_tensor *mean,
                         const ew_tensor *rstd)
{
    const ew_tensor *const operands[] = {dy, x, mean, rstd};
    ew_total plain, product;
    ew_walk w;
    ew_total_begin(&plain);
    ew_total_begin(&product);
    for (ew_walk_begin_in_order(&w, 4, operands); w.n > 0; ew_walk_next(&w)) {
        const float *p = ew_floats(dy, w.at[0]), *q = ew_floats(x, w.at[1]);
        const float *m = ew_floats(mean, w.at[2]), *r = ew_floats(rstd, w.at[3]);
        for (int32_t i = 0; i < w.n; ++i, p += w.step[0], q += w.step[1], m += w.step[2], r += w.step[3]) {
            ew_total_add(&plain, *p);
            ew_total_add(&product, *p * ((*q - *m) * *r));
        }
    }
    sums[0] = ew_total_end(&plain);
    sums[1] = ew_total_end(&product);
}

void ew_sums_of_weighted(float sums[2], const ew_tensor *dy, const ew_tensor *w, const ew_tensor *x,
                         float mean)
{
    const ew_tensor *const operands[] = {dy, w, x};
    ew_total plain, product;
    ew_walk k;
    ew_total_begin(&plain);
    ew_total_begin(&product);
    for (ew_walk_begin_in_order(&k, 3, operands); k.n > 0; ew_walk_next(&k)) {
        const float *p = ew_floats(dy, k.at[0]), *v = ew_floats(w, k.at[1]), *q = ew_floats(x, k.at[2]);
        for (int32_t i = 0; i < k.n; ++i, p += k.step[0], v += k.step[1], q += k.step[2]) {
            ew_total_add(&plain, *p * *v);
            ew_total_add(&product, *p * *v * (*q - mean));
        }
    }
    sums[0] = ew_total_end(&plain);
    sums[1] = ew_total_end(&product);
}

ew_tensor ew_constant(const float *value, const ew_tensor *x)
{
    ew_tensor t = *x;
    t.data = (void *)value;
    for (int32_t d = 0; d < t.dims; ++d)
        t.stride[d] = 0;
    return t;
}

int32_t ew_elements(const ew_tensor *x)
{
    int32_t n = 1;
    for (int32_t d = 0; d < x->dims; ++d)
        n *= x->size[d];
    return n;
}
