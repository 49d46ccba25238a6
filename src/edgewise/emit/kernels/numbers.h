/* Private to the kernels: what they need of numbers beyond ew.h. */
#ifndef EW_NUMBERS_H
#define EW_NUMBERS_H

#include "walk.h"

float ew_log1pf(float x); /* of 1 + x, x > -1 */
float ew_expm1f(float x); /* e^x - 1 */
/* log(1 + f) for sqrt(1/2) - 1 <= f <= sqrt(2) - 1. */
float ew_log_near_one(float f);
/* The sine and cosine of `quarters` quarter turns and the angle r, |r| <= pi / 4. */
void ew_turn(int32_t quarters, float r, float *sine, float *cosine);
/* The square root without the instruction for it: what ew_sqrtf is where there is none. */
float ew_sqrtf_by_bits(float x);

static inline float ew_absf(float x)
{
    return ew_float(ew_bits(x) & 0x7fffffffu);
}

static inline float ew_with_sign(float x, float sign)
{
    return ew_float((ew_bits(x) & 0x7fffffffu) | (ew_bits(sign) & 0x80000000u));
}

#endif
