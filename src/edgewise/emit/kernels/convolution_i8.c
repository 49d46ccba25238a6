/* Convolutions of int8 by int8: tiles of products, and at the edges of the operand single sums. */
#include "convolution_i8.h"

#include "products_i8.h"

/* What all rows of a convolution have in common. */
typedef struct {
    const ew_tensor *y, *x, *w;
    const ew_convolution_settings *s;
    ew_put_sums *put;
    const void *to;
    ew_products window;
    int32_t row, column; /* which loops of the window go over its rows and columns */
    int32_t inner[2];    /* columns of y whose whole window lies in x */
    int32_t high;        /* channels at once */
    ew_products_sum *one, *inside[EW_HIGH];
} nest;

/* Where a row of one or two channels is: its first weight, element of x and element of y; and its channel. */
typedef struct {
    const int8_t *w, *x;
    int32_t y, output, high;
} place;

static void set_loop(nest *t, int32_t loop, int32_t n, int32_t w_step, int32_t x_step)
{
    t->window.n[loop] = n, t->window.w_step[loop] = w_step, t->window.x_step[loop] = x_step;
}

/* The longest loop is the last one: over channels, unless these are few. */
static void set_window(nest *t)
{
    const ew_tensor *const w = t->w, *const x = t->x;
    const int by_channels = w->size[1] >= 4 || w->size[3] == 1;
    t->row = by_channels ? 0 : 1, t->column = t->row + 1, t->high = by_channels ? EW_HIGH : 1;
    set_loop(t, t->row, w->size[2], w->stride[2], t->s->dilation[0] * x->stride[2]);
    set_loop(t, t->column, w->size[3], w->stride[3], t->s->dilation[1] * x->stride[3]);
    set_loop(t, by_channels ? 2 : 0, w->size[1], w->stride[1], x->stride[1]);
    t->window.w_next = w->stride[0], t->window.x_next = t->s->stride[1] * x->stride[3];
    t->one = ew_products_by(&t->window, 1, 1);
    for (int32_t high = 1; high <= EW_HIGH; ++high)
        t->inside[high - 1] = ew_products_by(&t->window, high, EW_WIDE);
    const int32_t reach = x->size[3] - t->s->dilation[1] * (w->size[3] - 1);
    ew_within(-t->s->padding[1], t->s->stride[1], t->y->size[3], reach, &t->inner[0], &t->inner[1]);
    if (t->inner[1] - t->inner[0] < EW_WIDE)
        t->inner[0] = t->inner[1] = t->y->size[3];
}

/* Columns one by one, each with those taps that meet x. */
static EW_APART void make_edge(nest *t, const place *p, int32_t from, int32_t to)
{
    const int32_t stride = t->s->stride[1], dilation = t->s->dilation[1];
    for (int32_t j = from; j < to; ++j) {
        const int32_t left = j * stride - t->s->padding[1];
        int32_t taps[2], sum;
        ew_within(left, dilation, t->w->size[3], t->x->size[3], &taps[0], &taps[1]);
        t->window.n[t->column] = taps[1] - taps[0];
        const int8_t *const x = p->x + (left + taps[0] * dilation) * t->x->stride[3];
        for (int32_t r = 0; r < p->high; ++r) {
            t->one(&t->window, p->w + r * t->w->stride[0] + taps[0] * t->w->stride[3], x, &sum);
            t->put(t->to, p->output + r, p->y + r * t->y->stride[1] + j * t->y->stride[3], &sum, 1);
        }
    }
}

/* Columns that meet all taps, so many at once; the last ones may be made twice. */
static void make_inside(nest *t, const place *p)
{
    ew_products_sum *const sum = t->inside[p->high - 1];
    const int32_t next = t->window.x_next, y_next = t->y->stride[3];
    const int8_t *const x = p->x - t->s->padding[1] * t->x->stride[3];
    int32_t sums[EW_HIGH * EW_WIDE];
    t->window.n[t->column] = t->w->size[3];
    for (int32_t begin = t->inner[0]; begin < t->inner[1]; begin += EW_WIDE) {
        const int32_t j = ew_min(begin, t->inner[1] - EW_WIDE);
        sum(&t->window, p->w, x + j * next, sums);
        for (int32_t r = 0; r < p->high; ++r)
            t->put(t->to, p->output + r, p->y + r * t->y->stride[1] + j * y_next, sums + EW_WIDE * r, EW_WIDE);
    }
}

static void make_row(nest *t, place p, int32_t i)
{
    const int32_t top = i * t->s->stride[0] - t->s->padding[0], dilation = t->s->dilation[0];
    int32_t taps[2];
    ew_within(top, dilation, t->w->size[2], t->x->size[2], &taps[0], &taps[1]);
    t->window.n[t->row] = taps[1] - taps[0];
    p.w += taps[0] * t->w->stride[2];
    p.x += (top + taps[0] * dilation) * t->x->stride[2];
    p.y += i * t->y->stride[2];
    make_edge(t, &p, 0, t->inner[0]);
    make_inside(t, &p);
    make_edge(t, &p, t->inner[1], t->y->size[3]);
}

/* All samples; channels of one group by twos. */
static void make_planes(nest *t)
{
    const ew_tensor *const y = t->y, *const x = t->x, *const w = t->w;
    const int32_t per_group = y->size[1] / t->s->groups;
    int32_t high;
    for (int32_t n = 0; n < y->size[0]; ++n)
        for (int32_t o = 0; o < y->size[1]; o += high) {
            high = ew_min(t->high, per_group - o % per_group);
            const place at = {ew_bytes(w, o * w->stride[0]),
                              ew_bytes(x, n * x->stride[0] + o / per_group * w->size[1] * x->stride[1]),
                              n * y->stride[0] + o * y->stride[1], o, high};
            for (int32_t i = 0; i < y->size[2]; ++i)
                make_row(t, at, i);
        }
}

/* Whether rows lie one behind the other, so that all are one long row. */
static int is_flat(const ew_tensor *t)
{
    return t->stride[2] == t->size[3] * t->stride[3];
}

static ew_tensor flattened(const ew_tensor *t)
{
    ew_tensor flat = *t;
    flat.size[3] *= flat.size[2];
    flat.size[2] = 1;
    return flat;
}

void ew_convolve_i8(const ew_tensor *y, const ew_tensor *x, const ew_tensor *w, const ew_convolution_settings *s,
                    ew_put_sums *put, const void *to)
{
    const ew_tensor flat_y = flattened(y), flat_x = flattened(x);
    const int pointwise = w->size[2] == 1 && w->size[3] == 1 && s->stride[0] == 1 && s->stride[1] == 1
                          && s->padding[0] == 0 && s->padding[1] == 0;
    const int flat = pointwise && is_flat(x) && is_flat(y);
    nest t = {.y = flat ? &flat_y : y, .x = flat ? &flat_x : x, .w = w, .s = s, .put = put, .to = to};
    set_window(&t);
    make_planes(&t);
}
