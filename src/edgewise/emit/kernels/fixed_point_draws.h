/* Private to the kernels: the tables of edgewise.methods.fixed_point.draws; a test holds them against it. */
#ifndef EW_FIXED_POINT_DRAWS_H
#define EW_FIXED_POINT_DRAWS_H

#include <stdint.h>

/* Quantiles of the normal law in units of 3.5 / 127: the positive half. */
static const int8_t normal_levels[128] = {
    0, 1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4, 5, 5, 6, 6, 6, 7, 7, 7, 8, 8, 8, 9, 9, 10, 10, 10, 11, 11, 11, 12,
    12, 13, 13, 13, 14, 14, 14, 15, 15, 16, 16, 16, 17, 17, 18, 18, 18, 19, 19, 20, 20, 20, 21, 21, 22, 22, 23,
    23, 23, 24, 24, 25, 25, 26, 26, 27, 27, 28, 28, 28, 29, 29, 30, 30, 31, 31, 32, 33, 33, 34, 34, 35, 35, 36,
    36, 37, 38, 38, 39, 40, 40, 41, 42, 42, 43, 44, 44, 45, 46, 47, 48, 48, 49, 50, 51, 52, 53, 54, 55, 56, 58,
    59, 60, 62, 63, 65, 67, 69, 71, 74, 77, 80, 85, 92, 105,
};

#endif
