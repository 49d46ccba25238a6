#define EW_WEIGHT float
#include "tile_sums.h"

void ew_tile_sums(const ew_tile *t, int32_t rows, int32_t columns, const void *w, const float *x, float *sums)
{
    sums_of(t, rows, columns, w, x, sums);
}

void ew_tile_total_add(ew_tile_total *total, const ew_tile *t, int32_t rows, int32_t columns, const void *w,
                       const float *x)
{
    float sums[EW_TILE * EW_TILE];
    if (total->blocks++ == 0) {
        t->sums(t, rows, columns, w, x, total->sum);
        return;
    }
    if (total->blocks == 2)
        for (int32_t i = 0; i < EW_TILE * EW_TILE; ++i)
            total->rest[i] = 0.0f;
    t->sums(t, rows, columns, w, x, sums);
    for (int32_t r = 0; r < rows; ++r)
        for (int32_t c = 0; c < columns; ++c) {
            const int32_t i = EW_TILE * r + c;
            ew_add_exactly(&total->sum[i], &total->rest[i], sums[i]);
        }
}

void ew_tile_total_end(ew_tile_total *total)
{
    if (total->blocks == 0)
        for (int32_t i = 0; i < EW_TILE * EW_TILE; ++i)
            total->sum[i] = 0.0f;
    if (total->blocks < 2)
        return;
    for (int32_t i = 0; i < EW_TILE * EW_TILE; ++i)
        total->sum[i] = ew_join(total->sum[i], total->rest[i]);
}
