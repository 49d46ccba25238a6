/* The operators of an integer network: activations of 8 bits, weights of up to 16, accumulators of 32. */
#include "fixed_point.h"

static int32_t limited(int64_t x, const ew_requantize *s)
{
    return (int32_t)(x < s->low ? s->low : x > s->high ? s->high : x);
}

/* An accumulator as element `at` of y. */
static void finish(const ew_tensor *y, int32_t at, int64_t sum, const ew_requantize *s)
{
    if (s->factor.k == 0)
        *ew_words(y, at) = (int32_t)sum;
    else
        *ew_bytes(y, at) = (int8_t)limited(ew_times_factor(sum, &s->factor), s);
}

static int64_t offset_of(const ew_tensor *b, ew_type type, int32_t output, const ew_requantize *s)
{
    return b == NULL ? 0 : ew_times_factor(ew_weight(b, type, output), &s->bias);
}

void ew_quantize(const ew_tensor *out, const ew_tensor *x, float scale)
{
    const ew_tensor *const operands[] = {out, x};
    ew_walk w;
    for (ew_walk_begin(&w, 2, operands); w.n > 0; ew_walk_step(&w))
        *ew_bytes(out, ew_walk_at(&w, 0)) = ew_level_of(*ew_floats(x, ew_walk_at(&w, 1)) / scale);
}

void ew_integer_linear(const ew_tensor *y, const ew_tensor *x, const ew_tensor *w, ew_type type, const ew_tensor *b,
                       const ew_requantize *s)
{
    for (int32_t output = 0; output < w->size[0]; ++output) {
        const int64_t offset = offset_of(b, type, output, s);
        for (int32_t row = 0; row < x->size[0]; ++row) {
            const int8_t *const from = ew_bytes(x, row * x->stride[0]);
            finish(y, row * y->stride[0] + output * y->stride[1],
                   offset + ew_weighted(from, 1, w, type, output * w->stride[0], w->size[1]), s);
        }
    }
}

/* Along one axis: where the window begins, and which of its taps lie within the input. */
typedef struct {
    int32_t at, from, to;
} reach;

static reach reach_of(int32_t place, int32_t stride, int32_t padding, int32_t dilation, int32_t kernel, int32_t size)
{
    reach r = {place * stride - padding, 0, kernel};
    while (r.from < kernel && r.at + r.from * dilation < 0)
        ++r.from;
    while (r.to > r.from && r.at + (r.to - 1) * dilation >= size)
        --r.to;
    return r;
}

/* The sum of one window, over the channels of one group; `first` is where these begin in x. */
static int32_t window_sum(const ew_tensor *x, int32_t first, const ew_tensor *w, ew_type type, int32_t output,
                          const reach *rows, const reach *columns, const ew_convolution_settings *c)
{
    int32_t sum = 0;
    for (int32_t channel = 0; channel < w->size[1]; ++channel)
        for (int32_t k = rows->from; k < rows->to; ++k) {
            const int32_t there = first + channel * x->stride[1] + (rows->at + k * c->dilation[0]) * x->stride[2]
                                  + (columns->at + columns->from * c->dilation[1]) * x->stride[3];
            const int32_t tap = ((output * w->size[1] + channel) * w->size[2] + k) * w->size[3] + columns->from;
            sum += ew_weighted(ew_bytes(x, there), c->dilation[1] * x->stride[3], w, type, tap,
                               columns->to - columns->from);
        }
    return sum;
}

/* One plane of the result: of one sample and output. */
static void convolve_plane(const ew_tensor *y, int32_t at, const ew_tensor *x, int32_t first, const ew_tensor *w,
                           ew_type type, int32_t output, int64_t offset, const ew_requantize *s,
                           const ew_convolution_settings *c)
{
    for (int32_t i = 0; i < y->size[2]; ++i) {
        const reach rows = reach_of(i, c->stride[0], c->padding[0], c->dilation[0], w->size[2], x->size[2]);
        for (int32_t j = 0; j < y->size[3]; ++j, ++at) {
            const reach columns = reach_of(j, c->stride[1], c->padding[1], c->dilation[1], w->size[3], x->size[3]);
            finish(y, at, offset + window_sum(x, first, w, type, output, &rows, &columns, c), s);
        }
    }
}

void ew_integer_convolution(const ew_tensor *y, const ew_tensor *x, const ew_tensor *w, ew_type type,
                            const ew_tensor *b, const ew_requantize *s, const ew_convolution_settings *c)
{
    const int32_t outputs = y->size[1], per_group = outputs / c->groups;
    for (int32_t n = 0; n < y->size[0]; ++n)
        for (int32_t output = 0; output < outputs; ++output) {
            const int32_t first = n * x->stride[0] + output / per_group * w->size[1] * x->stride[1];
            const int64_t offset = offset_of(b, type, output, s);
            convolve_plane(y, n * y->stride[0] + output * y->stride[1], x, first, w, type, output, offset, s, c);
        }
}

/* The largest of a window of the plane that begins at x, or the sum of all. */
static int32_t pooled(const int8_t *x, const ew_tensor *like, const reach *rows, const reach *columns,
                      const ew_pool_settings *p, int largest)
{
    int32_t most = -128, sum = 0;
    for (int32_t k = rows->from; k < rows->to; ++k)
        for (int32_t l = columns->from; l < columns->to; ++l) {
            const int32_t v = x[(rows->at + k * p->dilation[0]) * like->stride[2]
                                + (columns->at + l * p->dilation[1]) * like->stride[3]];
            most = ew_max(most, v);
            sum += v;
        }
    return largest ? most : sum;
}

/* All windows of all planes; with `s` their means, without it the largest of each. */
static void pool(const ew_tensor *y, const ew_tensor *x, const ew_requantize *s, const ew_pool_settings *p)
{
    for (int32_t plane = 0; plane < y->size[0] * y->size[1]; ++plane) {
        const int32_t sample = plane / y->size[1], channel = plane % y->size[1];
        const int8_t *const from = ew_bytes(x, sample * x->stride[0] + channel * x->stride[1]);
        const int32_t to = sample * y->stride[0] + channel * y->stride[1];
        for (int32_t i = 0; i < y->size[2]; ++i)
            for (int32_t j = 0; j < y->size[3]; ++j) {
                const int32_t at = to + i * y->stride[2] + j * y->stride[3];
                const reach rows = reach_of(i, p->stride[0], p->padding[0], p->dilation[0], p->kernel[0], x->size[2]);
                const reach columns =
                    reach_of(j, p->stride[1], p->padding[1], p->dilation[1], p->kernel[1], x->size[3]);
                const int32_t found = pooled(from, x, &rows, &columns, p, s == NULL);
                if (s == NULL)
                    *ew_bytes(y, at) = (int8_t)found;
                else
                    finish(y, at, found, s);
            }
    }
}

void ew_integer_max_pool(const ew_tensor *y, const ew_tensor *x, const ew_pool_settings *p)
{
    pool(y, x, NULL, p);
}

void ew_integer_mean_pool(const ew_tensor *y, const ew_tensor *x, const ew_requantize *s, const ew_pool_settings *p)
{
    pool(y, x, s, p);
}

void ew_integer_sum(const ew_tensor *out, const ew_tensor *a, const ew_tensor *b, int64_t of_a, int64_t of_b,
                    const ew_requantize *s)
{
    const ew_tensor *const operands[] = {out, a, b};
    ew_walk w;
    for (ew_walk_begin(&w, 3, operands); w.n > 0; ew_walk_step(&w)) {
        const int64_t sum = of_a * *ew_bytes(a, ew_walk_at(&w, 1)) + of_b * *ew_bytes(b, ew_walk_at(&w, 2));
        *ew_bytes(out, ew_walk_at(&w, 0)) = (int8_t)limited(ew_times_factor(sum, &s->factor), s);
    }
}

void ew_integer_product(const ew_tensor *out, const ew_tensor *a, const ew_tensor *b, const ew_requantize *s)
{
    const ew_tensor *const operands[] = {out, a, b};
    ew_walk w;
    for (ew_walk_begin(&w, 3, operands); w.n > 0; ew_walk_step(&w))
        finish(out, ew_walk_at(&w, 0), *ew_bytes(a, ew_walk_at(&w, 1)) * *ew_bytes(b, ew_walk_at(&w, 2)), s);
}

void ew_integer_scale(const ew_tensor *out, const ew_tensor *x, const ew_requantize *s)
{
    const ew_tensor *const operands[] = {out, x};
    ew_walk w;
    for (ew_walk_begin(&w, 2, operands); w.n > 0; ew_walk_step(&w))
        finish(out, ew_walk_at(&w, 0), *ew_bytes(x, ew_walk_at(&w, 1)), s);
}

void ew_lookup(const ew_tensor *out, const ew_tensor *x, const int8_t table[])
{
    const ew_tensor *const operands[] = {out, x};
    ew_walk w;
    for (ew_walk_begin(&w, 2, operands); w.n > 0; ew_walk_step(&w))
        *ew_bytes(out, ew_walk_at(&w, 0)) = table[*ew_bytes(x, ew_walk_at(&w, 1)) + EW_LEVELS];
}
