/* Batch norm (arXiv 1502.03167), channel by channel, with the batch's statistics or frozen ones. */
#include "numbers.h"
#include "sums.h"

static ew_tensor channel_of(const ew_tensor *x, int32_t c)
{
    return ew_select(x, 1, c, sizeof(float));
}

static float at(const ew_tensor *t, int32_t c, float otherwise)
{
    return t == NULL ? otherwise : *ew_floats(t, c * t->stride[0]);
}

static void put(const ew_tensor *t, int32_t c, float value)
{
    if (t != NULL)
        *ew_floats(t, c * t->stride[0]) = value;
}

/* (x - mean) scale + shift */
static void normalize(const ew_tensor *y, const ew_tensor *x, float mean, float scale, float shift)
{
    const ew_tensor *const operands[] = {y, x};
    ew_walk w;
    for (ew_walk_begin(&w, 2, operands); w.n > 0; ew_walk_next(&w)) {
        float *o = ew_floats(y, w.at[0]);
        const float *p = ew_floats(x, w.at[1]);
        for (int32_t i = 0; i < w.n; ++i, o += w.step[0], p += w.step[1])
            *o = (*p - mean) * scale + shift;
    }
}

void ew_batch_norm(const ew_tensor *y, const ew_tensor *mean, const ew_tensor *rstd, const ew_tensor *x,
                   const ew_tensor *w, const ew_tensor *b, const ew_tensor *running_mean,
                   const ew_tensor *running_var, float momentum, float eps)
{
    for (int32_t c = 0; c < x->size[1]; ++c) {
        const ew_tensor from = channel_of(x, c), to = channel_of(y, c);
        const float count = (float)ew_elements(&from), m = ew_sum_of(&from) / count;
        const float squares = ew_sum_of_squares(&from, m), r = 1.0f / ew_sqrtf(squares / count + eps);
        put(mean, c, m);
        put(rstd, c, r);
        put(running_mean, c, momentum * m + (1.0f - momentum) * at(running_mean, c, 0.0f));
        put(running_var, c,
            momentum * (squares / (count - 1.0f)) + (1.0f - momentum) * at(running_var, c, 0.0f));
        normalize(&to, &from, m, r * at(w, c, 1.0f), at(b, c, 0.0f));
    }
}

/* dx = (dy - average - (x - mean) slope) scale */
static EW_APART void spread(const ew_tensor *dx, const ew_tensor *dy, const ew_tensor *x, const float average,
                            float mean, float slope, float scale)
{
    const ew_tensor *const operands[] = {dx, dy, x};
    ew_walk w;
    for (ew_walk_begin(&w, 3, operands); w.n > 0; ew_walk_next(&w)) {
        float *o = ew_floats(dx, w.at[0]);
        const float *p = ew_floats(dy, w.at[1]), *q = ew_floats(x, w.at[2]);
        for (int32_t i = 0; i < w.n; ++i, o += w.step[0], p += w.step[1], q += w.step[2])
            *o = (*p - average - (*q - mean) * slope) * scale;
    }
}

/* Puts the gradients of the weight and the bias of channel c, and leaves them in sums: the bias's, then
 * the weight's. */
static EW_APART void sum_channel(const ew_tensor *dw, const ew_tensor *db, const ew_tensor *dy,
                                 const ew_tensor *x, int32_t c, float mean, float rstd, float sums[2])
{
    const ew_tensor from = channel_of(x, c), given = channel_of(dy, c);
    const ew_tensor means = ew_constant(&mean, &from), scales = ew_constant(&rstd, &from);
    ew_sums_of_gradient(sums, &given, &from, &means, &scales);
    put(db, c, sums[0]);
    put(dw, c, sums[1]);
}

void ew_batch_norm_backward(const ew_tensor *dx, const ew_tensor *dw, const ew_tensor *db,
                            const ew_tensor *dy, const ew_tensor *x, const ew_tensor *w,
                            const ew_tensor *mean, const ew_tensor *rstd)
{
    for (int32_t c = 0; c < x->size[1]; ++c) {
        const float m = at(mean, c, 0.0f), r = at(rstd, c, 1.0f);
        float sums[2];
        sum_channel(dw, db, dy, x, c, m, r, sums);
        if (dx != NULL) {
            const ew_tensor to = channel_of(dx, c), from = channel_of(x, c), given = channel_of(dy, c);
            const float count = (float)ew_elements(&from);
            spread(&to, &given, &from, sums[0] / count, m, r * sums[1] / count, r * at(w, c, 1.0f));
        }
    }
}

void ew_batch_norm_frozen(const ew_tensor *y, const ew_tensor *x, const ew_tensor *w, const ew_tensor *b,
                          const ew_tensor *running_mean, const ew_tensor *running_var, float eps)
{
    for (int32_t c = 0; c < x->size[1]; ++c) {
        const ew_tensor from = channel_of(x, c), to = channel_of(y, c);
        const float r = 1.0f / ew_sqrtf(at(running_var, c, 1.0f) + eps);
        normalize(&to, &from, at(running_mean, c, 0.0f), r * at(w, c, 1.0f), at(b, c, 0.0f));
    }
}

void ew_batch_norm_frozen_backward(const ew_tensor *dx, const ew_tensor *dw, const ew_tensor *db,
                                   const ew_tensor *dy, const ew_tensor *x, const ew_tensor *w,
                                   const ew_tensor *running_mean, const ew_tensor *running_var, float eps)
{
    for (int32_t c = 0; c < dy->size[1]; ++c) {
        const float m = at(running_mean, c, 0.0f), r = 1.0f / ew_sqrtf(at(running_var, c, 1.0f) + eps);
        float sums[2];
        if (dw != NULL || db != NULL)
            sum_channel(dw, db, dy, x, c, m, r, sums);
        if (dx != NULL) {
            const ew_tensor to = channel_of(dx, c), given = channel_of(dy, c);
            normalize(&to, &given, 0.0f, r * at(w, c, 1.0f), 0.0f);
        }
    }
}
