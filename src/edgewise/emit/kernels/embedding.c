#include "walk.h"

/* Row `index` of a table, or NULL if there is none. */
static float *row_of(const ew_tensor *w, int64_t index)
{
    return index < 0 || index >= w->size[0] ? NULL : ew_floats(w, (int32_t)index * w->stride[0]);
}

/* All indices with the first elements of what they stand for: `rows` without its last dim. */
static void begin(ew_walk *k, const ew_tensor *index, const ew_tensor *rows)
{
    ew_tensor heads = *rows;
    const ew_tensor *const operands[] = {index, &heads};
    --heads.dims;
    ew_walk_begin_in_order(k, 2, operands);
}

static int64_t index_at(const ew_walk *k, const ew_tensor *index)
{
    return ((const int64_t *)index->data)[ew_walk_at(k, 0)];
}

void ew_embedding(const ew_tensor *out, const ew_tensor *w, const ew_tensor *index)
{
    const int32_t width = w->size[1], step = out->stride[out->dims - 1];
    ew_walk k;
    for (begin(&k, index, out); k.n > 0; ew_walk_step(&k)) {
        const float *const row = row_of(w, index_at(&k, index));
        float *const o = ew_floats(out, ew_walk_at(&k, 1));
        for (int32_t i = 0; i < width; ++i)
            o[i * step] = row == NULL ? ew_float(0x7fc00000u) : row[i * w->stride[1]];
    }
}

/* Positions are taken in the order of `index`, so that a band of rows has the bits of the whole table. */
void ew_embedding_backward_rows(const ew_tensor *dw, const ew_tensor *dy, const ew_tensor *index,
                                int64_t padding_index, int64_t first)
{
    const int32_t width = dw->size[1], step = dy->stride[dy->dims - 1];
    ew_walk k;
    ew_fill(dw, 0.0f);
    for (begin(&k, index, dy); k.n > 0; ew_walk_step(&k)) {
        const int64_t at = index_at(&k, index);
        float *const row = at == padding_index ? NULL : row_of(dw, at - first);
        const float *const p = ew_floats(dy, ew_walk_at(&k, 1));
        for (int32_t i = 0; i < width && row != NULL; ++i)
            row[i * dw->stride[1]] += p[i * step];
    }
}

void ew_embedding_backward(const ew_tensor *dw, const ew_tensor *dy, const ew_tensor *index,
                           int64_t padding_index)
{
    ew_embedding_backward_rows(dw, dy, index, padding_index, 0);
}
