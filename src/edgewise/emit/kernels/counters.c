#include "ew.h"

/* Counters are few: one element after another, whatever the strides. */
void ew_add_scalar_i64(const ew_tensor *out, const ew_tensor *x, int64_t s)
{
    int32_t at[EW_DIMS] = {0};
    for (int32_t d = 0; d < out->dims; d++) {
        if (out->size[d] == 0) {
            return;
        }
    }
    for (;;) {
        int32_t there = 0, here = 0, d = out->dims - 1;
        for (int32_t k = 0; k < out->dims; k++) {
            there += at[k] * out->stride[k];
            here += at[k] * x->stride[k];
        }
        ((int64_t *)out->data)[there] = ((const int64_t *)x->data)[here] + s;
        while (d >= 0 && ++at[d] == out->size[d]) {
            at[d--] = 0;
        }
        if (d < 0) {
            return;
        }
    }
}
