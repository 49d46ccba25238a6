#include "sums.h"

/* All elements of out, each with the part of x that it is made of. */
typedef struct {
    ew_walk w;
    ew_tensor part;
} parts;

static void begin(parts *p, const ew_tensor *out, const ew_tensor *x)
{
    ew_tensor places = *x;
    const ew_tensor *const operands[] = {out, &places};
    p->part = *x;
    for (int32_t d = 0; d < x->dims; ++d) {
        places.size[d] = out->size[d];
        if (out->size[d] > 1 || x->size[d] == 0)
            p->part.size[d] = ew_min(x->size[d], 1);
    }
    ew_walk_begin(&p->w, 2, operands);
}

static int32_t place(parts *p, const ew_tensor *x)
{
    p->part.data = ew_floats(x, ew_walk_at(&p->w, 1));
    return ew_walk_at(&p->w, 0);
}

void ew_sum(const ew_tensor *out, const ew_tensor *x)
{
    parts p;
    for (begin(&p, out, x); p.w.n > 0; ew_walk_step(&p.w)) {
        const int32_t at = place(&p, x);
        *ew_floats(out, at) = ew_sum_of(&p.part);
    }
}

void ew_mean(const ew_tensor *out, const ew_tensor *x)
{
    parts p;
    for (begin(&p, out, x); p.w.n > 0; ew_walk_step(&p.w)) {
        const int32_t at = place(&p, x);
        *ew_floats(out, at) = ew_sum_of(&p.part) / (float)ew_elements(&p.part);
    }
}

void ew_norm(const ew_tensor *out, const ew_tensor *x)
{
    parts p;
    for (begin(&p, out, x); p.w.n > 0; ew_walk_step(&p.w)) {
        const int32_t at = place(&p, x);
        *ew_floats(out, at) = ew_sqrtf(ew_sum_of_squares(&p.part, 0.0f));
    }
}

void ew_variance(const ew_tensor *out, const ew_tensor *x, float correction)
{
    parts p;
    for (begin(&p, out, x); p.w.n > 0; ew_walk_step(&p.w)) {
        const int32_t at = place(&p, x);
        const float n = (float)ew_elements(&p.part), mean = ew_sum_of(&p.part) / n;
        *ew_floats(out, at) = ew_sum_of_squares(&p.part, mean) / (n > correction ? n - correction : 0.0f);
    }
}

/* The element that is greatest when multiplied by `sign`, 1 or -1: the first of equals; what is not a number is. */
static EW_APART float extreme(const ew_tensor *x, float sign, int32_t *index)
{
    const ew_tensor *const operands[] = {x};
    float most = sign * *ew_floats(x, 0);
    int32_t at = 0;
    ew_walk w;
    *index = 0;
    for (ew_walk_begin_in_order(&w, 1, operands); w.n > 0; ew_walk_next(&w))
        for (int32_t i = 0; i < w.n; ++i, ++at) {
            const float v = sign * *ew_floats(x, w.at[0] + i * w.step[0]);
            if (most == most && (v > most || v != v)) {
                most = v;
                *index = at;
            }
        }
    return sign * most;
}

/* `values` or `places` may be NULL. */
static void extremes(const ew_tensor *values, const ew_tensor *places, const ew_tensor *x, float sign)
{
    const ew_tensor *const out = values != NULL ? values : places;
    int32_t index;
    parts p;
    for (begin(&p, out, x); p.w.n > 0; ew_walk_step(&p.w)) {
        const int32_t at = place(&p, x);
        const float most = extreme(&p.part, sign, &index);
        if (values != NULL)
            *ew_floats(values, at) = most;
        else
            ((int64_t *)places->data)[at] = index;
    }
}

void ew_amax(const ew_tensor *out, const ew_tensor *x)
{
    extremes(out, NULL, x, 1.0f);
}

void ew_amin(const ew_tensor *out, const ew_tensor *x)
{
    extremes(out, NULL, x, -1.0f);
}

void ew_argmax(const ew_tensor *out, const ew_tensor *x)
{
    extremes(NULL, out, x, 1.0f);
}

void ew_argmin(const ew_tensor *out, const ew_tensor *x)
{
    extremes(NULL, out, x, -1.0f);
}

/* The sum of e^(x - most). */
static EW_APART float sum_of_powers(const ew_tensor *x, float most)
{
    const ew_tensor *const operands[] = {x};
    ew_total total;
    ew_walk w;
    ew_total_begin(&total);
    for (ew_walk_begin_in_order(&w, 1, operands); w.n > 0; ew_walk_step(&w))
        ew_total_add(&total, ew_expf(*ew_floats(x, ew_walk_at(&w, 0)) - most));
    return ew_total_end(&total);
}

void ew_log_sum_exp(const ew_tensor *out, const ew_tensor *x)
{
    int32_t index;
    parts p;
    for (begin(&p, out, x); p.w.n > 0; ew_walk_step(&p.w)) {
        const int32_t at = place(&p, x);
        const float most = extreme(&p.part, 1.0f, &index);
        const float base = most - most == 0.0f ? most : 0.0f; /* of infinities the sum has no need for it */
        *ew_floats(out, at) = base + ew_logf(sum_of_powers(&p.part, base));
    }
}

static void sum_up(float *o, const float *p, int32_t n, int32_t o_step, int32_t p_step)
{
    float sum = 0.0f, rest = 0.0f;
    for (int32_t i = 0; i < n; ++i) {
        ew_add_exactly(&sum, &rest, p[i * p_step]);
        o[i * o_step] = ew_join(sum, rest);
    }
}

static void count_up(int64_t *o, const int64_t *p, int32_t n, int32_t o_step, int32_t p_step)
{
    int64_t sum = 0;
    for (int32_t i = 0; i < n; ++i)
        o[i * o_step] = sum += p[i * p_step];
}

void ew_cumsum(const ew_tensor *out, const ew_tensor *x, ew_type type, int32_t dim)
{
    const int32_t n = x->size[dim], o_step = out->stride[dim], p_step = x->stride[dim];
    ew_tensor heads = *out, from = *x;
    const ew_tensor *const operands[] = {&heads, &from};
    ew_walk w;
    heads.size[dim] = ew_min(n, 1);
    for (ew_walk_begin(&w, 2, operands); w.n > 0; ew_walk_step(&w)) {
        const int32_t to = ew_walk_at(&w, 0), at = ew_walk_at(&w, 1);
        if (type == EW_I64)
            count_up((int64_t *)out->data + to, (const int64_t *)x->data + at, n, o_step, p_step);
        else
            sum_up(ew_floats(out, to), ew_floats(x, at), n, o_step, p_step);
    }
}
