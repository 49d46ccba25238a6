/* Private to the kernels: what they need of whole numbers. */
#ifndef EW_INTEGERS_H
#define EW_INTEGERS_H

#include "pairs.h"
#include "walk.h"

#define EW_LEVELS 127

static inline int8_t *ew_bytes(const ew_tensor *t, int32_t at)
{
    return (int8_t *)t->data + at;
}

static inline int32_t *ew_words(const ew_tensor *t, int32_t at)
{
    return (int32_t *)t->data + at;
}

/* To the nearest whole number, half to even; of any float. Adding 1.5 2^23 leaves no bits behind the point. */
static inline float ew_rounded(float x)
{
    const float shift = x < 0.0f ? -8388608.0f : 8388608.0f;
    return x > -8388608.0f && x < 8388608.0f ? (x + shift) - shift : x;
}

static inline float ew_rounded_down(float x)
{
    const float nearest = ew_rounded(x);
    return nearest > x ? nearest - 1.0f : nearest;
}

/* The nearest whole number, half to even, in the bits of a float: plus 1.5 2^23 it has none behind the point, and floats are
 * in the order of their bits. What is far beyond a limit is rounded wrongly, but not to the other side of it. */
#define EW_SHIFT 12582912.0f
#define EW_ZERO 0x4b400000 /* the bits of 0 + EW_SHIFT, and of n + EW_SHIFT less n */

/* Between limits that are given as EW_ZERO + level. */
static inline int8_t ew_level_between(float x, int32_t least, int32_t most)
{
    return (int8_t)ew_max(least, ew_min(most, (int32_t)ew_bits(x + EW_SHIFT)));
}

static inline int8_t ew_level_of(float x)
{
    return ew_level_between(x, EW_ZERO - EW_LEVELS, EW_ZERO + EW_LEVELS);
}

/* The u of one row after another, column by column: multiples of 2^-23 in [0, 1). */
typedef struct {
    uint32_t words[4];
    uint32_t row, next;
    const ew_key *key;
} ew_dither;
void ew_dither_begin(ew_dither *d, int32_t rows, int32_t row, const ew_key *key);
float ew_dither_next(ew_dither *d);

/* The sum of n products of int8, each so many elements apart. */
static inline int32_t ew_dot(const int8_t *a, int32_t a_step, const int8_t *b, int32_t b_step, int32_t n)
{
    int32_t sum = 0;
    if (EW_PAIRS && a_step == 1 && b_step == 1)
        for (; n >= 4; n -= 4, a += 4, b += 4) {
            const uint32_t u = ew_four_at(a), v = ew_four_at(b);
            sum = ew_add_products(ew_add_products(sum, ew_even(u), ew_even(v)), ew_odd(u), ew_odd(v));
        }
    for (int32_t i = 0; i < n; ++i)
        sum += a[i * a_step] * b[i * b_step];
    return sum;
}

#endif
