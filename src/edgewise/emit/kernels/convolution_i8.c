/* Convolutions of int8 by int8. What an element of the result reads of the operand is gathered where many channels of
 * the result share it: rows of the weight by such columns are products of matrices. Otherwise, tiles of products are
 * summed where the operand lies, and at its edges single sums. */
#include "convolution_i8.h"

#include "windows_i8.h"

typedef struct {
    const ew_tensor *y, *x, *w;
    const ew_convolution_settings *s;
    ew_put_block *put;
    const void *to;
    int flat; /* a product of matrices: what is read lies as what is made */
} convolution;

/* -- gathered ------------------------------------------------------------------------------------------------------- */

static int32_t products_of(const ew_tensor *w)
{
    return w->size[1] * w->size[2] * w->size[3];
}

static int is_gathered(const convolution *c)
{
    const ew_tensor *const w = c->w;
    const int dense = (w->stride[3] == 1 || w->size[3] == 1) && (w->stride[2] == w->size[3] || w->size[2] == 1)
                      && (w->stride[1] == w->size[2] * w->size[3] || w->size[1] == 1);
    return EW_PAIRS && dense && products_of(w) <= EW_GATHERED && c->y->size[3] >= EW_WIDE
           && w->size[0] / c->s->groups >= EW_WIDE;
}

/* What element (i, j) of the result reads, zeros beside the operand; `x` is where channels begin. */
static void gather_window(const convolution *c, const int8_t *x, int32_t i, int32_t j, int8_t *column)
{
    const ew_tensor *const w = c->w;
    const int32_t height = w->size[2], width = w->size[3], channels = w->size[1], x_step = c->x->stride[1];
    const int32_t down = c->s->dilation[0] * c->x->stride[2], right = c->s->dilation[1] * c->x->stride[3];
    const int32_t top = i * c->s->stride[0] - c->s->padding[0], left = j * c->s->stride[1] - c->s->padding[1];
    int32_t rows[2], columns[2];
    ew_within(top, c->s->dilation[0], height, c->x->size[2], &rows[0], &rows[1]);
    ew_within(left, c->s->dilation[1], width, c->x->size[3], &columns[0], &columns[1]);
    if ((rows[1] - rows[0]) * (columns[1] - columns[0]) < height * width)
        __builtin_memset(column, 0, (size_t)products_of(w));
    x += top * c->x->stride[2] + rows[0] * down + left * c->x->stride[3] + columns[0] * right;
    column += rows[0] * width + columns[0];
    for (int32_t m = 0; m < channels; ++m, x += x_step, column += height * width) {
        const int8_t *from = x;
        int8_t *to = column;
        EW_ROLLED
        for (int32_t k = rows[0]; k < rows[1]; ++k, from += down, to += width) {
            const int8_t *next = from;
            EW_ROLLED
            for (int32_t l = 0; l < columns[1] - columns[0]; ++l, next += right)
                to[l] = *next;
        }
    }
}

/* Of each channel four elements that lie side by side. */
static void gather_four(const int8_t *x, int32_t x_step, int32_t channels, int8_t *columns)
{
    for (; channels > 0; --channels, x += x_step, ++columns) {
        const uint32_t four = ew_four_at(x);
        for (int32_t c = 0; c < EW_WIDE; ++c)
            columns[c * EW_GATHERED] = (int8_t)(four >> 8 * c);
    }
}

static EW_APART void gather(const convolution *c, const int8_t *x, int32_t i, int32_t j, int8_t *columns)
{
    if (c->flat && c->x->stride[3] == 1)
        gather_four(x + j, c->x->stride[1], c->w->size[1], columns);
    else
        for (int32_t k = 0; k < EW_WIDE; ++k)
            gather_window(c, x, i, j + k, columns + k * EW_GATHERED);
}

/* All channels of a group at four elements of a row; `block` knows the first channel and where that goes. */
static EW_APART void multiply(const convolution *c, const int8_t *columns, ew_block *block)
{
    const ew_products p = {{1, 1, products_of(c->w)}, {0, 0, 1}, {0, 0, 1}, c->w->stride[0], EW_GATHERED};
    const int32_t first = block->channel, channels = c->w->size[0] / c->s->groups, at = block->at;
    for (int32_t begin = 0; begin < channels; begin += EW_HIGH) {
        const int32_t o = ew_min(begin, channels - EW_HIGH); /* one may be made twice */
        ew_gathered_sum(&p, ew_bytes(c->w, (first + o) * c->w->stride[0]), columns, block->sums);
        block->channel = first + o, block->at = at + o * c->y->stride[1];
        c->put(c->to, block);
    }
    block->channel = first;
}

/* A group of a sample, which begins at `x` and at `at` in the result. */
static EW_APART void multiply_gathered(const convolution *c, int32_t channel, const int8_t *x, int32_t at)
{
    const ew_tensor *const y = c->y;
    int8_t columns[EW_WIDE * EW_GATHERED];
    ew_block block = {.channel = channel, .channels = EW_HIGH, .columns = EW_WIDE};
    for (int32_t i = 0; i < y->size[2]; ++i)
        for (int32_t begin = 0; begin < y->size[3]; begin += EW_WIDE) {
            const int32_t j = ew_min(begin, y->size[3] - EW_WIDE); /* and some of these */
            gather(c, x, i, j, columns);
            block.at = at + i * y->stride[2] + j * y->stride[3];
            multiply(c, columns, &block);
        }
}

/* -- in place ------------------------------------------------------------------------------------------------------- */

/* What all rows have in common. */
typedef struct {
    const convolution *c;
    ew_products window;
    int32_t row, column; /* which loops of the window go over its rows and columns */
    int32_t inner[2];    /* columns of y whose whole window lies in x */
    int32_t high;        /* channels at once */
    ew_products_sum one, inside[EW_HIGH];
} nest;

/* Where a row of one or two channels is: its first weight and element of x. */
typedef struct {
    const int8_t *w, *x;
    ew_block block;
} place;

static void set_loop(nest *t, int32_t loop, int32_t n, int32_t w_step, int32_t x_step)
{
    t->window.n[loop] = n, t->window.w_step[loop] = w_step, t->window.x_step[loop] = x_step;
}

/* The longest loop is the last one: over channels, unless these are few. */
static void set_window(nest *t)
{
    const ew_tensor *const w = t->c->w, *const x = t->c->x;
    const ew_convolution_settings *const s = t->c->s;
    const int32_t width = t->c->y->size[3], reach = x->size[3] - s->dilation[1] * (w->size[3] - 1);
    const int by_channels = w->size[1] >= 4 || w->size[3] == 1;
    t->row = by_channels ? 0 : 1, t->column = t->row + 1;
    set_loop(t, t->row, w->size[2], w->stride[2], s->dilation[0] * x->stride[2]);
    set_loop(t, t->column, w->size[3], w->stride[3], s->dilation[1] * x->stride[3]);
    set_loop(t, by_channels ? 2 : 0, w->size[1], w->stride[1], x->stride[1]);
    t->window.w_next = w->stride[0], t->window.x_next = s->stride[1] * x->stride[3];
    t->high = by_channels && t->window.x_next == 1 ? EW_HIGH : 1;
    t->one = ew_row_sum(&t->window, 1);
    for (int32_t high = 1; high <= t->high; ++high)
        t->inside[high - 1] = ew_window_sum(&t->window, high);
    ew_within(-s->padding[1], s->stride[1], width, reach, &t->inner[0], &t->inner[1]);
    if (t->inner[1] - t->inner[0] < EW_WIDE)
        t->inner[0] = t->inner[1] = width;
}

/* Columns one by one, each with those taps that meet x. */
static EW_APART void make_edge(nest *t, const place *p, int32_t from, int32_t to)
{
    const convolution *const c = t->c;
    const int32_t stride = c->s->stride[1], dilation = c->s->dilation[1];
    ew_block block = p->block;
    block.columns = 1;
    for (int32_t j = from; j < to; ++j) {
        const int32_t left = j * stride - c->s->padding[1];
        int32_t taps[2];
        ew_within(left, dilation, c->w->size[3], c->x->size[3], &taps[0], &taps[1]);
        t->window.n[t->column] = taps[1] - taps[0];
        for (int32_t r = 0; r < block.channels; ++r)
            t->one(&t->window, p->w + r * c->w->stride[0] + taps[0] * c->w->stride[3],
                   p->x + (left + taps[0] * dilation) * c->x->stride[3], block.sums + EW_WIDE * r);
        block.at = p->block.at + j * c->y->stride[3];
        c->put(c->to, &block);
    }
}

/* Columns that meet all taps, so many at once; the last ones may be made twice. */
static void make_inside(nest *t, place *p)
{
    const convolution *const c = t->c;
    const ew_products_sum sum = t->inside[p->block.channels - 1];
    const int32_t next = t->window.x_next, y_next = c->y->stride[3], at = p->block.at;
    const int8_t *const x = p->x - c->s->padding[1] * c->x->stride[3];
    t->window.n[t->column] = c->w->size[3];
    for (int32_t begin = t->inner[0]; begin < t->inner[1]; begin += EW_WIDE) {
        const int32_t j = ew_min(begin, t->inner[1] - EW_WIDE);
        sum(&t->window, p->w, x + j * next, p->block.sums);
        p->block.at = at + j * y_next;
        c->put(c->to, &p->block);
    }
    p->block.at = at;
}

static void make_row(nest *t, place p, int32_t i)
{
    const convolution *const c = t->c;
    const int32_t top = i * c->s->stride[0] - c->s->padding[0], dilation = c->s->dilation[0];
    int32_t taps[2];
    ew_within(top, dilation, c->w->size[2], c->x->size[2], &taps[0], &taps[1]);
    t->window.n[t->row] = taps[1] - taps[0];
    p.w += taps[0] * c->w->stride[2];
    p.x += (top + taps[0] * dilation) * c->x->stride[2];
    p.block.at += i * c->y->stride[2];
    make_edge(t, &p, 0, t->inner[0]);
    make_inside(t, &p);
    make_edge(t, &p, t->inner[1], c->y->size[3]);
}

static void multiply_in_place(const convolution *c, nest *t, int32_t channel, const int8_t *x, int32_t at)
{
    const int32_t channels = c->w->size[0] / c->s->groups;
    for (int32_t o = 0; o < channels; o += t->high) {
        const int32_t high = ew_min(t->high, channels - o);
        const place p = {ew_bytes(c->w, (channel + o) * c->w->stride[0]), x,
                         {channel + o, high, at + o * c->y->stride[1], EW_WIDE, {0}}};
        for (int32_t i = 0; i < c->y->size[2]; ++i)
            make_row(t, p, i);
    }
}

/* -- both ----------------------------------------------------------------------------------------------------------- */

static void make_groups(const convolution *c)
{
    const ew_tensor *const y = c->y, *const x = c->x;
    const int32_t channels = c->w->size[0] / c->s->groups;
    const int gathered = is_gathered(c);
    nest t = {.c = c};
    if (!gathered)
        set_window(&t);
    for (int32_t n = 0; n < y->size[0]; ++n)
        for (int32_t g = 0; g < c->s->groups; ++g) {
            const int8_t *const from = ew_bytes(x, n * x->stride[0] + g * c->w->size[1] * x->stride[1]);
            const int32_t at = n * y->stride[0] + g * channels * y->stride[1];
            if (gathered)
                multiply_gathered(c, g * channels, from, at);
            else
                multiply_in_place(c, &t, g * channels, from, at);
        }
}

/* Whether rows lie one behind the other, so that all are one long row. */
static int is_flat(const ew_tensor *t)
{
    return t->size[2] == 1 || t->stride[2] == t->size[3] * t->stride[3];
}

static ew_tensor flattened(const ew_tensor *t)
{
    ew_tensor flat = *t;
    flat.size[3] *= flat.size[2];
    flat.size[2] = 1;
    return flat;
}

void ew_convolve_i8(const ew_tensor *y, const ew_tensor *x, const ew_tensor *w, const ew_convolution_settings *s,
                    ew_put_block *put, const void *to)
{
    const ew_tensor flat_y = flattened(y), flat_x = flattened(x);
    const int pointwise = w->size[2] == 1 && w->size[3] == 1 && s->stride[0] == 1 && s->stride[1] == 1
                          && s->padding[0] == 0 && s->padding[1] == 0;
    const int flat = pointwise && is_flat(x) && is_flat(y);
    const convolution c = {flat ? &flat_y : y, flat ? &flat_x : x, w, s, put, to, flat};
    make_groups(&c);
}
