/* Layer norm (arXiv 1607.06450): rows of the last dims, each with its own statistics. */
#include "row_norm.h"

static const float ONE = 1.0f, ZERO = 0.0f;

/* The row of t that begins at `at`, as a tensor of the normalized dims. */
static ew_tensor row_of(const ew_tensor *t, int32_t normalized, int32_t at)
{
    ew_tensor row = *t;
    const int32_t outer = t->dims - normalized;
    row.data = ew_floats(t, at);
    row.dims = normalized;
    for (int32_t d = 0; d < normalized; ++d) {
        row.size[d] = t->size[outer + d];
        row.stride[d] = t->stride[outer + d];
    }
    return row;
}

/* The elements of all rows that have the place of `at`, as a tensor of the other dims. */
static ew_tensor column_of(const ew_tensor *t, int32_t normalized, int32_t at)
{
    ew_tensor column = *t;
    column.data = ew_floats(t, at);
    column.dims -= normalized;
    return column;
}

/* Over the beginnings of all rows. */
static EW_APART void begin(ew_walk *k, int32_t normalized, int32_t count, const ew_tensor *const *tensors)
{
    ew_tensor columns[EW_OPERANDS];
    const ew_tensor *operands[EW_OPERANDS];
    for (int32_t i = 0; i < count; ++i) {
        columns[i] = column_of(tensors[i], normalized, 0);
        operands[i] = &columns[i];
    }
    ew_walk_begin(k, count, operands);
}

static EW_APART void norm_row(const ew_tensor *y, const ew_tensor *x, const ew_tensor *w, const ew_tensor *b,
                              int32_t normalized, float eps, const ew_walk *k, float statistics[2])
{
    const ew_tensor to = row_of(y, normalized, ew_walk_at(k, 0)),
                    from = row_of(x, normalized, ew_walk_at(k, 1));
    const ew_tensor scale = w != NULL ? *w : ew_constant(&ONE, &from);
    const ew_tensor shift = b != NULL ? *b : ew_constant(&ZERO, &from);
    ew_norm_row(&to, &from, &scale, &shift, eps, statistics);
}

void ew_layer_norm(const ew_tensor *y, const ew_tensor *mean, const ew_tensor *rstd, const ew_tensor *x,
                   const ew_tensor *w, const ew_tensor *b, int32_t normalized, float eps)
{
    const ew_tensor *const tensors[] = {y, x, mean != NULL ? mean : x, rstd != NULL ? rstd : x};
    float statistics[2];
    ew_walk k;
    for (begin(&k, normalized, 4, tensors); k.n > 0; ew_walk_step(&k)) {
        norm_row(y, x, w, b, normalized, eps, &k, statistics);
        if (mean != NULL)
            *ew_floats(mean, ew_walk_at(&k, 2)) = statistics[0];
        if (rstd != NULL)
            *ew_floats(rstd, ew_walk_at(&k, 3)) = statistics[1];
    }
}

static EW_APART void norm_row_backward(const ew_tensor *dx, const ew_tensor *dy, const ew_tensor *x,
                                       const ew_tensor *w, int32_t normalized, const ew_walk *k, float mean,
                                       float rstd)
{
    const ew_tensor to = row_of(dx, normalized, ew_walk_at(k, 0)),
                    given = row_of(dy, normalized, ew_walk_at(k, 1));
    const ew_tensor from = row_of(x, normalized, ew_walk_at(k, 2));
    const ew_tensor scale = w != NULL ? *w : ew_constant(&ONE, &from);
    ew_norm_row_backward(&to, &given, &from, &scale, mean, rstd);
}

static EW_APART void input_gradient(const ew_tensor *dx, const ew_tensor *dy, const ew_tensor *x,
                                    const ew_tensor *mean, const ew_tensor *rstd, const ew_tensor *w,
                                    int32_t normalized)
{
    const ew_tensor *const tensors[] = {dx, dy, x, mean, rstd};
    ew_walk k;
    for (begin(&k, normalized, 5, tensors); k.n > 0; ew_walk_step(&k))
        norm_row_backward(dx, dy, x, w, normalized, &k, *ew_floats(mean, ew_walk_at(&k, 3)),
                          *ew_floats(rstd, ew_walk_at(&k, 4)));
}

/* The sums over all rows for the place of a row that k has come to. */
static EW_APART void sum_columns(float sums[2], const ew_tensor *dy, const ew_tensor *x,
                                 const ew_tensor *mean, const ew_tensor *rstd, int32_t normalized,
                                 const ew_walk *k)
{
    const ew_tensor given = column_of(dy, normalized, ew_walk_at(k, 0));
    const ew_tensor from = column_of(x, normalized, ew_walk_at(k, 1));
    const ew_tensor means = column_of(mean, normalized, 0), scales = column_of(rstd, normalized, 0);
    ew_sums_of_gradient(sums, &given, &from, &means, &scales);
}

static EW_APART void begin_columns(ew_walk *k, int32_t normalized, const ew_tensor *const *tensors)
{
    const ew_tensor dy = row_of(tensors[0], normalized, 0), x = row_of(tensors[1], normalized, 0);
    const ew_tensor *const operands[] = {&dy, &x, tensors[2] != NULL ? tensors[2] : &dy,
                                         tensors[3] != NULL ? tensors[3] : &dy};
    ew_walk_begin(k, 4, operands);
}

void ew_layer_norm_backward(const ew_tensor *dx, const ew_tensor *dw, const ew_tensor *db,
                            const ew_tensor *dy, const ew_tensor *x, const ew_tensor *mean,
                            const ew_tensor *rstd, const ew_tensor *w, int32_t normalized)
{
    const ew_tensor *const tensors[] = {dy, x, dw, db};
    float sums[2];
    ew_walk k;
    if (dx != NULL)
        input_gradient(dx, dy, x, mean, rstd, w, normalized);
    if (dw == NULL && db == NULL)
        return;
    for (begin_columns(&k, normalized, tensors); k.n > 0; ew_walk_step(&k)) {
        sum_columns(sums, dy, x, mean, rstd, normalized, &k);
        if (dw != NULL)
            *ew_floats(dw, ew_walk_at(&k, 2)) = sums[1];
        if (db != NULL)
            *ew_floats(db, ew_walk_at(&k, 3)) = sums[0];
    }
}
