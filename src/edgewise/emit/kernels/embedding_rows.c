#include "ew.h"

/* The gradient of a band of a table. Positions are taken in the order of `index`, as for the whole table, so that
 * a band has the bits of the whole. */
void ew_embedding_backward_rows(const ew_tensor *dw, const ew_tensor *dy, const ew_tensor *index,
                                int64_t padding_index, int64_t first)
{
    const int32_t width = dw->size[1], dims = index->dims;
    int32_t at[EW_DIMS] = {0};
    ew_fill(dw, 0.0f);
    for (int32_t d = 0; d < dims; d++) {
        if (index->size[d] == 0) {
            return;
        }
    }
    for (;;) {
        int32_t from = 0, here = 0, d = dims - 1;
        for (int32_t k = 0; k < dims; k++) {
            from += at[k] * dy->stride[k];
            here += at[k] * index->stride[k];
        }
        const int64_t number = ((const int64_t *)index->data)[here], row = number - first;
        if (number != padding_index && row >= 0 && row < dw->size[0]) {
            float *to = (float *)dw->data + (int32_t)row * dw->stride[0];
            const float *read = (const float *)dy->data + from;
            for (int32_t i = 0; i < width; i++) {
                to[i * dw->stride[1]] += read[i * dy->stride[dims]];
            }
        }
        while (d >= 0 && ++at[d] == index->size[d]) {
            at[d--] = 0;
        }
        if (d < 0) {
            return;
        }
    }
}
