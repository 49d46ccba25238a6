/* Softmax and its logarithm along one dim, row by row; what a row loses by subtracting its maximum is
 * nothing. */
#include "numbers.h"
#include "sums.h"

/* All rows along a dim of a few tensors of one shape: `heads` walks over the places of their first
 * elements. */
typedef struct {
    ew_walk heads;
    int32_t n, step[3];
} rows;

static EW_APART void begin(rows *r, int32_t count, const ew_tensor *const *tensors, int32_t dim)
{
    ew_tensor heads[3];
    const ew_tensor *operands[3];
    for (int32_t i = 0; i < count; ++i) {
        heads[i] = ew_narrow(tensors[i], dim, 0, ew_min(tensors[i]->size[dim], 1), sizeof(float));
        operands[i] = &heads[i];
        r->step[i] = tensors[i]->stride[dim];
    }
    r->n = tensors[0]->size[dim];
    ew_walk_begin(&r->heads, count, operands);
}

static float *row_of(const rows *r, const ew_tensor *t, int32_t operand)
{
    return ew_floats(t, ew_walk_at(&r->heads, operand));
}

static float maximum(const float *p, int32_t step, int32_t n)
{
    float most = *p;
    for (int32_t i = 1; i < n; ++i)
        most = p[i * step] > most || p[i * step] != p[i * step] ? p[i * step] : most;
    return most;
}

void ew_softmax(const ew_tensor *y, const ew_tensor *x, int32_t dim)
{
    const ew_tensor *const tensors[] = {y, x};
    rows r;
    for (begin(&r, 2, tensors, dim); r.heads.n > 0; ew_walk_step(&r.heads)) {
        float *const o = row_of(&r, y, 0);
        const float *const p = row_of(&r, x, 1), most = maximum(p, r.step[1], r.n);
        ew_total total;
        ew_total_begin(&total);
        for (int32_t i = 0; i < r.n; ++i) {
            const float e = most < -3.4028235e38f ? 0.0f : ew_expf(p[i * r.step[1]] - most);
            o[i * r.step[0]] = e;
            ew_total_add(&total, e);
        }
        const float sum = ew_total_end(&total), scale = sum == 0.0f ? 0.0f : 1.0f / sum;
        for (int32_t i = 0; i < r.n; ++i)
            o[i * r.step[0]] *= scale;
    }
}

void ew_log_softmax(const ew_tensor *y, const ew_tensor *x, int32_t dim)
{
    const ew_tensor *const tensors[] = {y, x};
    rows r;
    for (begin(&r, 2, tensors, dim); r.heads.n > 0; ew_walk_step(&r.heads)) {
        float *const o = row_of(&r, y, 0);
        const float *const p = row_of(&r, x, 1), most = maximum(p, r.step[1], r.n);
        ew_total total;
        ew_total_begin(&total);
        for (int32_t i = 0; i < r.n; ++i)
            ew_total_add(&total, ew_expf(p[i * r.step[1]] - most));
        const float log = ew_logf(ew_total_end(&total));
        for (int32_t i = 0; i < r.n; ++i)
            o[i * r.step[0]] = p[i * r.step[1]] - most - log;
    }
}

void ew_softmax_backward(const ew_tensor *dx, const ew_tensor *dy, const ew_tensor *y, int32_t dim)
{
    const ew_tensor *const tensors[] = {dx, dy, y};
    rows r;
    for (begin(&r, 3, tensors, dim); r.heads.n > 0; ew_walk_step(&r.heads)) {
        float *const o = row_of(&r, dx, 0);
        const float *const p = row_of(&r, dy, 1), *const q = row_of(&r, y, 2);
        ew_total total;
        ew_total_begin(&total);
        for (int32_t i = 0; i < r.n; ++i)
            ew_total_add(&total, p[i * r.step[1]] * q[i * r.step[2]]);
        const float sum = ew_total_end(&total);
        for (int32_t i = 0; i < r.n; ++i)
            o[i * r.step[0]] = (p[i * r.step[1]] - sum) * q[i * r.step[2]];
    }
}

void ew_log_softmax_backward(const ew_tensor *dx, const ew_tensor *dy, const ew_tensor *y, int32_t dim)
{
    const ew_tensor *const tensors[] = {dx, dy, y};
    rows r;
    for (begin(&r, 3, tensors, dim); r.heads.n > 0; ew_walk_step(&r.heads)) {
        float *const o = row_of(&r, dx, 0);
        const float *const p = row_of(&r, dy, 1), *const q = row_of(&r, y, 2);
        ew_total total;
        ew_total_begin(&total);
        for (int32_t i = 0; i < r.n; ++i)
            ew_total_add(&total, p[i * r.step[1]]);
        const float sum = ew_total_end(&total);
        for (int32_t i = 0; i < r.n; ++i)
            o[i * r.step[0]] = p[i * r.step[1]] - ew_expf(q[i * r.step[2]]) * sum;
    }
}
