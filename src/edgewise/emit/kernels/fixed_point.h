/* Private to the kernels: what those of fixed point share. */
#ifndef EW_FIXED_POINT_H
#define EW_FIXED_POINT_H

#include "integers.h"

#define EW_DRAWN 16 /* z that are drawn at once */

/* What z of a parameter are drawn from. */
typedef struct {
    const ew_integer_directions *d;
    const uint8_t *kept; /* or NULL */
    const int8_t *last;  /* or NULL: of the slice */
    uint32_t first;      /* element of the parameter with which the slice begins */
} ew_drawn;
ew_drawn ew_drawn_of(const ew_integer_directions *d, const ew_tensor *kept, const ew_tensor *last, int32_t first);
/* z of elements of the slice from `begin` on; n is at most EW_DRAWN. */
void ew_draw(int8_t *z, int32_t n, uint32_t begin, int32_t direction, const ew_drawn *d);

/* x m / 2^k, rounded to the nearest. */
static inline int64_t ew_times_factor(int64_t x, const ew_factor *f)
{
    return (x * f->m + ((int64_t)1 << (f->k - 1))) >> f->k;
}

/* What z moves a weight by: away from zero alike on both sides. */
static inline int32_t ew_move_of(int8_t z, const ew_factor *rate)
{
    return (int32_t)(z < 0 ? -ew_times_factor(-z, rate) : ew_times_factor(z, rate));
}

static inline int32_t ew_weight(const ew_tensor *w, ew_type type, int32_t at)
{
    return type == EW_I8 ? ((const int8_t *)w->data)[at] : ((const int16_t *)w->data)[at];
}

static inline void ew_set_weight(const ew_tensor *w, ew_type type, int32_t at, int32_t value)
{
    if (type == EW_I8)
        ((int8_t *)w->data)[at] = (int8_t)value;
    else
        ((int16_t *)w->data)[at] = (int16_t)value;
}

/* The sum of n products of activations with weights, which lie side by side. */
static inline int32_t ew_weighted(const int8_t *x, int32_t step, const ew_tensor *w, ew_type type, int32_t at, int32_t n)
{
    int32_t sum = 0;
    if (type == EW_I8)
        return ew_dot(x, step, (const int8_t *)w->data + at, 1, n);
    for (int32_t i = 0; i < n; ++i)
        sum += x[i * step] * ((const int16_t *)w->data)[at + i];
    return sum;
}

int32_t ew_elements_of(const ew_tensor *t);
/* Of logits of one sample, in units of 2^-20 bits. */
int64_t ew_entropy(const int32_t *logits, int32_t classes, int64_t target, const ew_factor *f);

#endif
