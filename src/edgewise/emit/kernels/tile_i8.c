#define EW_WEIGHT int8_t
#include "tile_sums.h"

void ew_tile_sums_i8(const ew_tile *t, int32_t rows, int32_t columns, const void *w, const float *x, float *sums)
{
    sums_of(t, rows, columns, w, x, sums);
}
