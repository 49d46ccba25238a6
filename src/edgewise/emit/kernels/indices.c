/* Integers that count and index, and what they pick. */
#include "numbers.h"
#include "rows.h"

void ew_arange(const ew_tensor *out, int64_t start, int64_t step)
{
    for (int32_t i = 0; i < out->size[0]; ++i)
        ((int64_t *)out->data)[i * out->stride[0]] = start + i * step;
}

void ew_add_scalar_i64(const ew_tensor *out, const ew_tensor *x, int64_t s)
{
    ROWS (w, 2, out, x) {
        for (int32_t i = 0; i < w.n; ++i)
            ((int64_t *)out->data)[w.at[0] + i * w.step[0]] =
                ((const int64_t *)x->data)[w.at[1] + i * w.step[1]] + s;
    }
}

/* One element; what an index that is not there picks is not a number, or -1. */
static void pick(const ew_tensor *out, int32_t to, const ew_tensor *x, int32_t from, ew_type type, int there)
{
    if (type == EW_I64)
        ((int64_t *)out->data)[to] = there ? ((const int64_t *)x->data)[from] : -1;
    else
        *ew_floats(out, to) = there ? *ew_floats(x, from) : ew_float(0x7fc00000u);
}

void ew_gather(const ew_tensor *out, const ew_tensor *x, ew_type type, int32_t dim, const ew_tensor *index)
{
    const int32_t rows = x->size[dim], step = x->stride[dim];
    ew_tensor places = *x; /* of the elements with index 0 */
    places.stride[dim] = 0;
    ROWS (w, 3, out, index, &places) {
        for (int32_t i = 0; i < w.n; ++i) {
            const int64_t picked = ((const int64_t *)index->data)[w.at[1] + i * w.step[1]];
            const int there = picked >= 0 && picked < rows;
            const int32_t from = w.at[2] + i * w.step[2] + (there ? (int32_t)picked * step : 0);
            pick(out, w.at[0] + i * w.step[0], x, from, type, there);
        }
    }
}
