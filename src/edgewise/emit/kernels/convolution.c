/* A convolution and the gradient of its input are the same sum, seen from an element of the result: over
 * channels and over the taps that meet an element of the operand. Only which taps these are differs, and
 * along each axis that is a `line`. Every element is summed in the order of channels, rows and columns of
 * taps, however the result is cut. */
#include "convolution.h"

/* A number for each channel; none if `at` is NULL. */
typedef struct {
    const float *at;
    int32_t step;
} vector;

/* Along one axis, element t of `count` lies at first + t step in the result. Its tap m of `taps` is number
 * tap + m tap_step of the weight, and meets element reach + t hop + m leap of `size` of the operand. */
typedef struct {
    int32_t count, first, step;
    int32_t taps, tap, tap_step;
    int32_t reach, hop, leap, size;
} line;

static int32_t divide_down(int32_t a, int32_t b)
{
    return a >= 0 ? a / b : -((b - 1 - a) / b);
}

static int32_t divide_up(int32_t a, int32_t b)
{
    return -divide_down(-a, b);
}

static int32_t clamp(int32_t x, int32_t low, int32_t high)
{
    return ew_min(ew_max(x, low), high);
}

/* The taps of element t that meet the operand: from *from to *to. */
static void meeting(const line *l, int32_t t, int32_t *from, int32_t *to)
{
    const int32_t at = l->reach + t * l->hop, last = l->size - 1;
    if (l->leap > 0) {
        *from = clamp(divide_up(-at, l->leap), 0, l->taps);
        *to = clamp(divide_down(last - at, l->leap) + 1, *from, l->taps);
    } else {
        *from = clamp(divide_up(at - last, -l->leap), 0, l->taps);
        *to = clamp(divide_down(at, -l->leap) + 1, *from, l->taps);
    }
}

/* The elements all of whose taps meet the operand: from *from to *to. */
static void inside(const line *l, int32_t *from, int32_t *to)
{
    const int32_t far = (l->taps - 1) * l->leap;
    *from = clamp(divide_up(-(l->reach + ew_min(far, 0)), l->hop), 0, l->count);
    *to = clamp(divide_down(l->size - 1 - l->reach - ew_max(far, 0), l->hop) + 1, *from, l->count);
}

/* What the result of one sample and group is made of: strides of the result, the operand and the weight, by
 * channel, row and column; the weight also by channel of the result. Sums are multiplied by the factor of their
 * channel, and get its bias. */
typedef struct {
    float *y;
    const float *x;
    const char *w;
    vector factor, bias;
    int32_t channels, summed; /* of the result; of the operand */
    int32_t y_step[3], x_step[3], w_step[3], w_next;
    const ew_weights *of;
    int32_t block; /* so many summed channels are one block of the sum */
    line rows, columns;
} plane;

/* Where a tile of the result is summed: its first row and column, in the weight, the operand and the
 * result. */
typedef struct {
    const char *w;
    const float *x;
    float *y;
} place;

/* With one tap the loop over channels is the inner one. */
static void turn(ew_tile *t)
{
    t->n[2] = t->n[0], t->n[0] = 1;
    t->w_step[2] = t->w_step[0], t->x_step[2] = t->x_step[0];
}

static void sum_blocks(const plane *p, const ew_tile *taps, const place *at, int32_t rows, int32_t columns,
                       float *sums)
{
    const int single = taps->n[1] == 1 && taps->n[2] == 1;
    ew_tile t = *taps;
    ew_tile_total total;
    ew_tile_total_begin(&total);
    for (int32_t c = 0; c < p->summed; c += p->block) {
        t.n[0] = ew_min(p->block, p->summed - c);
        if (single)
            turn(&t);
        ew_tile_total_add(&total, &t, rows, columns, at->w + c * p->w_step[0] * p->of->bytes,
                          at->x + c * p->x_step[0]);
    }
    ew_tile_total_end(&total);
    __builtin_memcpy(sums, total.sum, sizeof total.sum);
}

/* A tile of `rows` channels, of which `channel` is the first, and `columns` elements of a row. */
static void sum_tile(const plane *p, const ew_tile *t, const place *at, int32_t channel, int32_t rows,
                     int32_t columns)
{
    const int32_t y_step = p->columns.step * p->y_step[2];
    float sums[EW_TILE * EW_TILE], *y = at->y;
    if (p->summed == 1)
        t->sums(t, rows, columns, at->w, at->x, sums);
    else
        sum_blocks(p, t, at, rows, columns, sums);
    for (int32_t r = 0; r < rows; ++r, y += p->y_step[0]) {
        float *const row = sums + EW_TILE * r;
        if (p->factor.at != NULL)
            for (int32_t c = 0; c < columns; ++c)
                row[c] *= p->factor.at[(channel + r) * p->factor.step];
        const float *const bias = p->bias.at == NULL ? NULL : p->bias.at + (channel + r) * p->bias.step;
        for (int32_t c = 0; c < columns; ++c)
            y[c * y_step] = bias == NULL ? row[c] : row[c] + *bias;
    }
}

/* One element, some of whose taps meet nothing; `at` is the row's beginning. */
static EW_APART void sum_at_edge(const plane *p, ew_tile *t, const place *at, int32_t channel, int32_t rows,
                                 int32_t column)
{
    const line *const h = &p->columns;
    int32_t from, to;
    meeting(h, column, &from, &to);
    const place here = {at->w + (h->tap + from * h->tap_step) * p->w_step[2] * p->of->bytes,
                        at->x + (h->reach + column * h->hop + from * h->leap) * p->x_step[2],
                        at->y + (h->first + column * h->step) * p->y_step[2]};
    t->n[2] = to - from;
    sum_tile(p, t, &here, channel, rows, 1);
}

/* The elements of a row from `inner` to `end`, which meet all taps along it; `at` is the row's beginning. */
static EW_APART void sum_inside(const plane *p, ew_tile *t, const place *at, int32_t channel, int32_t rows,
                                int32_t inner, int32_t end)
{
    const line *const h = &p->columns;
    const int32_t x_step = h->hop * p->x_step[2], y_step = h->step * p->y_step[2];
    place here = {at->w + h->tap * p->w_step[2] * p->of->bytes, at->x + h->reach * p->x_step[2] + inner * x_step,
                  at->y + h->first * p->y_step[2] + inner * y_step};
    int32_t columns;
    t->n[2] = h->taps;
    for (int32_t column = inner; column < end; column += columns) {
        columns = ew_tile_columns(end - column);
        sum_tile(p, t, &here, channel, rows, columns);
        here.x += columns * x_step;
        here.y += columns * y_step;
    }
}

/* A row of `rows` channels of the result. */
static void sum_row(const plane *p, int32_t channel, int32_t rows, int32_t row, int32_t inner, int32_t end)
{
    const line *const v = &p->rows, *const h = &p->columns;
    int32_t from, to;
    meeting(v, row, &from, &to);
    const place at = {p->w + (channel * p->w_next + (v->tap + from * v->tap_step) * p->w_step[1]) * p->of->bytes,
                      p->x + (v->reach + row * v->hop + from * v->leap) * p->x_step[1],
                      p->y + channel * p->y_step[0] + (v->first + row * v->step) * p->y_step[1]};
    ew_tile t = {.sums = p->of->sums,
                 .n = {1, to - from, 0},
                 .w_step = {p->w_step[0], v->tap_step * p->w_step[1], h->tap_step * p->w_step[2]},
                 .x_step = {p->x_step[0], v->leap * p->x_step[1], h->leap * p->x_step[2]},
                 .w_next = p->w_next,
                 .x_next = h->hop * p->x_step[2]};
    for (int32_t column = 0; column < inner; ++column)
        sum_at_edge(p, &t, &at, channel, rows, column);
    sum_inside(p, &t, &at, channel, rows, inner, end);
    for (int32_t column = end; column < h->count; ++column)
        sum_at_edge(p, &t, &at, channel, rows, column);
}

static void sum_plane(const plane *p)
{
    int32_t inner, end, rows;
    inside(&p->columns, &inner, &end);
    for (int32_t channel = 0; channel < p->channels; channel += rows) {
        rows = ew_tile_rows(p->channels - channel);
        for (int32_t row = 0; row < p->rows.count; ++row)
            sum_row(p, channel, rows, row, inner, end);
    }
}

static vector vector_of(const ew_tensor *t)
{
    const vector v = {t == NULL ? NULL : ew_floats(t, 0), t == NULL ? 0 : t->stride[0]};
    return v;
}

static vector behind(vector v, int32_t channels)
{
    const vector rest = {v.at == NULL ? NULL : v.at + channels * v.step, v.step};
    return rest;
}

/* All samples and groups of a result `y`; x is the operand. */
static void sum_planes(plane *p, const ew_tensor *y, const ew_tensor *x, const ew_tensor *w, int32_t groups)
{
    const int32_t per_group = w->stride[0] * (w->size[0] / groups);
    p->channels = y->size[1] / groups;
    p->summed = x->size[1] / groups;
    p->block = ew_max(1, EW_PRODUCTS / (w->size[2] * w->size[3]));
    const vector factor = p->factor, bias = p->bias;
    for (int32_t n = 0; n < y->size[0]; ++n)
        for (int32_t g = 0; g < groups; ++g) {
            p->y = ew_floats(y, n * y->stride[0] + g * p->channels * y->stride[1]);
            p->x = ew_floats(x, n * x->stride[0] + g * p->summed * x->stride[1]);
            p->w = (const char *)w->data + g * per_group * p->of->bytes;
            p->factor = behind(factor, g * p->channels);
            p->bias = behind(bias, g * p->channels);
            sum_plane(p);
        }
    p->factor = factor;
    p->bias = bias;
}

static void set_steps(plane *p, const ew_tensor *y, const ew_tensor *x, const ew_tensor *w)
{
    for (int32_t d = 1; d < 4; ++d) {
        p->y_step[d - 1] = y->stride[d];
        p->x_step[d - 1] = x->stride[d];
        p->w_step[d - 1] = w->stride[d];
    }
}

static line forward_line(const ew_convolution_settings *s, int32_t axis, const ew_tensor *y,
                         const ew_tensor *x, const ew_tensor *w)
{
    const line l = {.count = y->size[2 + axis],
                    .step = 1,
                    .taps = w->size[2 + axis],
                    .tap_step = 1,
                    .reach = -s->padding[axis],
                    .hop = s->stride[axis],
                    .leap = s->dilation[axis],
                    .size = x->size[2 + axis]};
    return l;
}

/* A product of matrices, where rows lie one behind the other: one long row. */
static void flatten(plane *p)
{
    line *const v = &p->rows, *const h = &p->columns;
    const int pointwise = v->taps == 1 && h->taps == 1 && v->reach == 0 && h->reach == 0;
    const int same = v->count == v->size && h->count == h->size && v->hop == v->step && h->hop == h->step;
    if (!pointwise || !same || v->step != 1 || h->step != 1 || p->y_step[1] != h->count * p->y_step[2]
        || p->x_step[1] != h->count * p->x_step[2])
        return;
    h->count = h->size = v->count * h->count;
    v->count = v->size = 1;
}

void ew_convolve(const ew_tensor *y, const ew_tensor *x, const ew_tensor *w, const ew_tensor *factor,
                 const ew_tensor *bias, const ew_convolution_settings *s, const ew_weights *of)
{
    plane p;
    p.of = of;
    set_steps(&p, y, x, w);
    p.w_next = w->stride[0];
    p.factor = vector_of(factor);
    p.bias = vector_of(bias);
    p.rows = forward_line(s, 0, y, x, w);
    p.columns = forward_line(s, 1, y, x, w);
    flatten(&p);
    sum_planes(&p, y, x, w, s->groups);
}

static int32_t common_divisor(int32_t a, int32_t b)
{
    while (b != 0) {
        const int32_t rest = a % b;
        a = b;
        b = rest;
    }
    return a;
}

/* Every stride-th element of the input's gradient, from `phase` on, meets the same taps: those m for which
 * phase + padding - dilation m is a multiple of the stride. */
static line backward_line(const ew_convolution_settings *s, int32_t axis, int32_t phase, const ew_tensor *dx,
                          const ew_tensor *dy, const ew_tensor *w)
{
    const int32_t stride = s->stride[axis], dilation = s->dilation[axis], kernel = w->size[2 + axis];
    const int32_t every = stride / common_divisor(stride, dilation), at = phase + s->padding[axis];
    line l = {.count = divide_up(dx->size[2 + axis] - phase, stride),
              .first = phase,
              .step = stride,
              .tap_step = every,
              .hop = 1,
              .leap = -(dilation * every / stride),
              .size = dy->size[2 + axis]};
    int32_t tap = 0;
    while (tap < ew_min(kernel, every) && (at - dilation * tap) % stride != 0)
        ++tap;
    if (tap < ew_min(kernel, every)) {
        l.tap = tap;
        l.taps = divide_up(kernel - tap, every);
        l.reach = (at - dilation * tap) / stride;
    }
    return l;
}

void ew_convolve_back(const ew_tensor *dx, const ew_tensor *dy, const ew_tensor *w,
                      const ew_convolution_settings *s, const ew_weights *of)
{
    plane p;
    p.of = of;
    set_steps(&p, dx, dy, w);
    p.w_next = w->stride[1];
    p.w_step[0] = w->stride[0];
    p.factor = p.bias = vector_of(NULL);
    for (int32_t i = 0; i < s->stride[0]; ++i)
        for (int32_t j = 0; j < s->stride[1]; ++j) {
            p.rows = backward_line(s, 0, i, dx, dy, w);
            p.columns = backward_line(s, 1, j, dx, dy, w);
            flatten(&p);
            sum_planes(&p, dx, dy, w, s->groups);
        }
}

static const ew_weights floats = {sizeof(float), ew_tile_sums};

void ew_convolution(const ew_tensor *y, const ew_tensor *x, const ew_tensor *w, const ew_tensor *bias,
                    const ew_convolution_settings *s)
{
    ew_convolve(y, x, w, NULL, bias, s, &floats);
}

void ew_convolution_input_gradient(const ew_tensor *dx, const ew_tensor *dy, const ew_tensor *w,
                                   const ew_convolution_settings *s)
{
    ew_convolve_back(dx, dy, w, s, &floats);
}
