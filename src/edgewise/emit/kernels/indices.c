#include "ew.h"

/* Integers that count and index are few: one element after another, whatever the strides. */

static int is_empty(const ew_tensor *x)
{
    for (int32_t d = 0; d < x->dims; d++) {
        if (x->size[d] == 0) {
            return 1;
        }
    }
    return 0;
}

/* The next position in row-major order; 0 behind the last. */
static int advance(int32_t *at, const ew_tensor *x)
{
    int32_t d = x->dims - 1;
    while (d >= 0 && ++at[d] == x->size[d]) {
        at[d--] = 0;
    }
    return d >= 0;
}

static int32_t offset(const int32_t *at, const ew_tensor *x)
{
    int32_t sum = 0;
    for (int32_t d = 0; d < x->dims; d++) {
        sum += at[d] * x->stride[d];
    }
    return sum;
}

void ew_add_scalar_i64(const ew_tensor *out, const ew_tensor *x, int64_t s)
{
    int32_t at[EW_DIMS] = {0};
    if (is_empty(out)) {
        return;
    }
    do {
        ((int64_t *)out->data)[offset(at, out)] = ((const int64_t *)x->data)[offset(at, x)] + s;
    } while (advance(at, out));
}

void ew_gather(const ew_tensor *out, const ew_tensor *x, ew_type type, int32_t dim, const ew_tensor *index)
{
    int32_t at[EW_DIMS] = {0};
    if (is_empty(out)) {
        return;
    }
    do {
        const int32_t picked = (int32_t)((const int64_t *)index->data)[offset(at, index)];
        const int32_t from = offset(at, x) + (picked - at[dim]) * x->stride[dim], to = offset(at, out);
        if (type == EW_I64) {
            ((int64_t *)out->data)[to] = ((const int64_t *)x->data)[from];
        } else {
            ((float *)out->data)[to] = ((const float *)x->data)[from];
        }
    } while (advance(at, out));
}
