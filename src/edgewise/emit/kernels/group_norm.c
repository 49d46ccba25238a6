/* Group norm (arXiv 1803.08494): the channels of a group of one sample share their statistics. */
#include "row_norm.h"

static const float ONE = 1.0f, ZERO = 0.0f;

/* Group g of sample n: [channels of the group, ...]. */
static ew_tensor group_of(const ew_tensor *x, int32_t n, int32_t g, int32_t groups)
{
    const int32_t channels = x->size[1] / groups;
    const ew_tensor sample = ew_select(x, 0, n, sizeof(float));
    return ew_narrow(&sample, 0, g * channels, channels, sizeof(float));
}

/* A factor by channel, seen as a tensor of the shape of the group. */
static ew_tensor spread(const ew_tensor *t, const float *otherwise, int32_t g, const ew_tensor *group)
{
    if (t == NULL)
        return ew_constant(otherwise, group);
    ew_tensor wide = ew_constant(ew_floats(t, g * group->size[0] * t->stride[0]), group);
    wide.stride[0] = t->stride[0];
    return wide;
}

static float *statistic(const ew_tensor *t, int32_t n, int32_t g)
{
    return ew_floats(t, n * t->stride[0] + g * t->stride[1]);
}

static EW_APART void norm_group(const ew_tensor *y, const ew_tensor *x, const ew_tensor *w,
                                const ew_tensor *b, int32_t n, int32_t g, int32_t groups, float eps,
                                float statistics[2])
{
    const ew_tensor from = group_of(x, n, g, groups), to = group_of(y, n, g, groups);
    const ew_tensor scale = spread(w, &ONE, g, &from), shift = spread(b, &ZERO, g, &from);
    ew_norm_row(&to, &from, &scale, &shift, eps, statistics);
}

void ew_group_norm(const ew_tensor *y, const ew_tensor *mean, const ew_tensor *rstd, const ew_tensor *x,
                   const ew_tensor *w, const ew_tensor *b, int32_t groups, float eps)
{
    for (int32_t n = 0; n < x->size[0]; ++n)
        for (int32_t g = 0; g < groups; ++g) {
            float statistics[2];
            norm_group(y, x, w, b, n, g, groups, eps, statistics);
            if (mean != NULL)
                *statistic(mean, n, g) = statistics[0];
            if (rstd != NULL)
                *statistic(rstd, n, g) = statistics[1];
        }
}

static EW_APART void input_gradient(const ew_tensor *dx, const ew_tensor *dy, const ew_tensor *x,
                                    const ew_tensor *mean, const ew_tensor *rstd, const ew_tensor *w,
                                    int32_t groups)
{
    for (int32_t n = 0; n < x->size[0]; ++n)
        for (int32_t g = 0; g < groups; ++g) {
            const ew_tensor from = group_of(x, n, g, groups), to = group_of(dx, n, g, groups);
            const ew_tensor given = group_of(dy, n, g, groups), scale = spread(w, &ONE, g, &from);
            ew_norm_row_backward(&to, &given, &from, &scale, *statistic(mean, n, g), *statistic(rstd, n, g));
        }
}

/* The sums of channel c over all samples. */
static EW_APART void sum_channel(float sums[2], const ew_tensor *dy, const ew_tensor *x,
                                 const ew_tensor *mean, const ew_tensor *rstd, int32_t c, int32_t g)
{
    const ew_tensor given = ew_select(dy, 1, c, sizeof(float)), from = ew_select(x, 1, c, sizeof(float));
    ew_tensor means = ew_constant(statistic(mean, 0, g), &from),
              scales = ew_constant(statistic(rstd, 0, g), &from);
    means.stride[0] = mean->stride[0];
    scales.stride[0] = rstd->stride[0];
    ew_sums_of_gradient(sums, &given, &from, &means, &scales);
}

void ew_group_norm_backward(const ew_tensor *dx, const ew_tensor *dw, const ew_tensor *db,
                            const ew_tensor *dy, const ew_tensor *x, const ew_tensor *mean,
                            const ew_tensor *rstd, const ew_tensor *w, int32_t groups)
{
    const int32_t channels = x->size[1];
    if (dx != NULL)
        input_gradient(dx, dy, x, mean, rstd, w, groups);
    for (int32_t c = 0; c < channels && (dw != NULL || db != NULL); ++c) {
        float sums[2];
        sum_channel(sums, dy, x, mean, rstd, c, c / (channels / groups));
        if (dw != NULL)
            *ew_floats(dw, c * dw->stride[0]) = sums[1];
        if (db != NULL)
            *ew_floats(db, c * db->stride[0]) = sums[0];
    }
}
