#include "walk.h"

/* A window of the input along one axis: elements from + i step, i < count, of which all are there;
 * `padded` is how many elements it has with the padding around. */
typedef struct {
    int32_t from, step, count, padded;
} window;

static window window_of(const ew_pool_settings *s, int32_t axis, int32_t o, int32_t size)
{
    const int32_t step = s->dilation[axis], start = o * s->stride[axis] - s->padding[axis];
    const int32_t skipped = start < 0 ? (-start + step - 1) / step : 0;
    const int32_t first = start + skipped * step;
    const int32_t end = ew_min(start + s->kernel[axis] * step, size);
    const int32_t edge = ew_min(start + s->kernel[axis], size + s->padding[axis]);
    window w = {first, step, ew_max(0, (end - first + step - 1) / step), edge - start};
    return w;
}

static window adaptive_window(int32_t o, int32_t count, int32_t size)
{
    const int32_t from = (int32_t)((int64_t)o * size / count);
    const int32_t to = (int32_t)(((int64_t)(o + 1) * size + count - 1) / count);
    const window w = {from, 1, to - from, to - from};
    return w;
}

static int32_t offset(const ew_tensor *t, int32_t n, int32_t c, int32_t h, int32_t w)
{
    return n * t->stride[0] + c * t->stride[1] + h * t->stride[2] + w * t->stride[3];
}

#define EACH_OF(T)                                     \
    for (int32_t n = 0; n < (T)->size[0]; ++n)         \
        for (int32_t c = 0; c < (T)->size[1]; ++c)     \
            for (int32_t h = 0; h < (T)->size[2]; ++h) \
                for (int32_t w = 0; w < (T)->size[3]; ++w)

/* -- maximum --------------------------------------------------------------------------------------------- */

/* The greatest of a window, the first of equals, and its place among h * w; what is not a number is the
 * greatest. */
static float greatest(const float *plane, const ew_tensor *x, const window *v, const window *u,
                      int64_t *index)
{
    float most = ew_float(0xff800000u);
    int32_t at = v->from * x->size[3] + u->from;
    for (int32_t i = 0; i < v->count; ++i)
        for (int32_t j = 0; j < u->count; ++j) {
            const int32_t row = v->from + i * v->step, column = u->from + j * u->step;
            const float value = plane[row * x->stride[2] + column * x->stride[3]];
            if (value > most || value != value) {
                most = value;
                at = row * x->size[3] + column;
            }
        }
    *index = at;
    return most;
}

void ew_max_pool(const ew_tensor *y, const ew_tensor *index, const ew_tensor *x, const ew_pool_settings *s)
{
    EACH_OF (y) {
        const window v = window_of(s, 0, h, x->size[2]), u = window_of(s, 1, w, x->size[3]);
        int64_t at;
        *ew_floats(y, offset(y, n, c, h, w)) = greatest(ew_floats(x, offset(x, n, c, 0, 0)), x, &v, &u, &at);
        if (index != NULL)
            ((int64_t *)index->data)[offset(index, n, c, h, w)] = at;
    }
}

void ew_adaptive_max_pool(const ew_tensor *y, const ew_tensor *index, const ew_tensor *x)
{
    EACH_OF (y) {
        const window v = adaptive_window(h, y->size[2], x->size[2]),
                     u = adaptive_window(w, y->size[3], x->size[3]);
        *ew_floats(y, offset(y, n, c, h, w)) = greatest(ew_floats(x, offset(x, n, c, 0, 0)), x, &v, &u,
                                                        (int64_t *)index->data + offset(index, n, c, h, w));
    }
}

void ew_max_pool_backward(const ew_tensor *dx, const ew_tensor *dy, const ew_tensor *index)
{
    ew_fill(dx, 0.0f);
    EACH_OF (dy) {
        const int32_t at = (int32_t)((const int64_t *)index->data)[offset(index, n, c, h, w)];
        if (at >= 0 && at < dx->size[2] * dx->size[3])
            *ew_floats(dx, offset(dx, n, c, at / dx->size[3], at % dx->size[3])) +=
                *ew_floats(dy, offset(dy, n, c, h, w));
    }
}

/* -- average --------------------------------------------------------------------------------------------- */

static float sum(const float *plane, const ew_tensor *x, const window *v, const window *u)
{
    ew_total total;
    ew_total_begin(&total);
    for (int32_t i = 0; i < v->count; ++i)
        for (int32_t j = 0; j < u->count; ++j)
            ew_total_add(&total, plane[(v->from + i) * x->stride[2] + (u->from + j) * x->stride[3]]);
    return ew_total_end(&total);
}

static void add(float *plane, const ew_tensor *x, const window *v, const window *u, float value)
{
    for (int32_t i = 0; i < v->count; ++i)
        for (int32_t j = 0; j < u->count; ++j)
            plane[(v->from + i) * x->stride[2] + (u->from + j) * x->stride[3]] += value;
}

static float divisor_of(const window *v, const window *u, int count_padding, int32_t divisor)
{
    if (divisor != 0)
        return (float)divisor;
    return count_padding ? (float)(v->padded * u->padded) : (float)(v->count * u->count);
}

void ew_average_pool(const ew_tensor *y, const ew_tensor *x, const ew_pool_settings *s, int count_padding,
                     int32_t divisor)
{
    EACH_OF (y) {
        const window v = window_of(s, 0, h, x->size[2]), u = window_of(s, 1, w, x->size[3]);
        const float all = sum(ew_floats(x, offset(x, n, c, 0, 0)), x, &v, &u);
        *ew_floats(y, offset(y, n, c, h, w)) = all / divisor_of(&v, &u, count_padding, divisor);
    }
}

void ew_average_pool_backward(const ew_tensor *dx, const ew_tensor *dy, const ew_pool_settings *s,
                              int count_padding, int32_t divisor)
{
    ew_fill(dx, 0.0f);
    EACH_OF (dy) {
        const window v = window_of(s, 0, h, dx->size[2]), u = window_of(s, 1, w, dx->size[3]);
        const float part =
            *ew_floats(dy, offset(dy, n, c, h, w)) / divisor_of(&v, &u, count_padding, divisor);
        add(ew_floats(dx, offset(dx, n, c, 0, 0)), dx, &v, &u, part);
    }
}

void ew_adaptive_average_pool(const ew_tensor *y, const ew_tensor *x)
{
    EACH_OF (y) {
        const window v = adaptive_window(h, y->size[2], x->size[2]),
                     u = adaptive_window(w, y->size[3], x->size[3]);
        const float all = sum(ew_floats(x, offset(x, n, c, 0, 0)), x, &v, &u);
        *ew_floats(y, offset(y, n, c, h, w)) = all / (float)(v.count * u.count);
    }
}

void ew_adaptive_average_pool_backward(const ew_tensor *dx, const ew_tensor *dy)
{
    ew_fill(dx, 0.0f);
    EACH_OF (dy) {
        const window v = adaptive_window(h, dy->size[2], dx->size[2]),
                     u = adaptive_window(w, dy->size[3], dx->size[3]);
        const float part = *ew_floats(dy, offset(dy, n, c, h, w)) / (float)(v.count * u.count);
        add(ew_floats(dx, offset(dx, n, c, 0, 0)), dx, &v, &u, part);
    }
}
