/* Layers that training does not change, on int8, as edgewise.capture.requantized: sums in int32, rounded to int8. */
#include "integers.h"

#define COLUMNS 4 /* of a row of the output at once */

/* What one sum adds up: three nested loops, of which the last one runs fastest. */
typedef struct {
    int32_t n[3], x_step[3], w_step[3];
} taps;

typedef struct {
    const ew_tensor *y, *x, *w, *b, *factor;
    const ew_convolution_settings *s;
    int32_t least, most;
} layer;

static void put(const layer *l, int32_t output, int32_t at, int32_t sum)
{
    const float y = ew_rounded((float)(sum + *ew_words(l->b, output * l->b->stride[0]))
                               * *ew_floats(l->factor, output * l->factor->stride[0]));
    const float least = (float)l->least, most = (float)l->most;
    *ew_bytes(l->y, at) = (int8_t)(y < least ? least : y > most ? most : y);
}

#define LOOPS(...)                                                                      \
    for (int32_t i = 0; i < t->n[0]; ++i, w += t->w_step[0], x += t->x_step[0]) {       \
        const int8_t *w1 = w, *x1 = x;                                                  \
        for (int32_t j = 0; j < t->n[1]; ++j, w1 += t->w_step[1], x1 += t->x_step[1]) { \
            const int8_t *p = w1, *q = x1;                                              \
            for (int32_t k = t->n[2]; k > 0; --k, p += w_step, q += x_step) {           \
                __VA_ARGS__                                                             \
            }                                                                           \
        }                                                                               \
    }

static int32_t sum_of(const taps *t, const int8_t *w, const int8_t *x)
{
    const int32_t w_step = t->w_step[2], x_step = t->x_step[2];
    int32_t sum = 0;
    LOOPS(sum += *p * *q;)
    return sum;
}

/* `COLUMNS` sums whose elements of x are `next` apart; where that is known, loads need no addition. */
static inline __attribute__((always_inline)) void sums_apart(const taps *t, const int8_t *w, const int8_t *x,
                                                             int32_t *sums, const int32_t next)
{
    const int32_t w_step = t->w_step[2], x_step = t->x_step[2];
    int32_t a = 0, b = 0, c = 0, d = 0;
    LOOPS(const int32_t v = *p; a += v * q[0]; b += v * q[next]; c += v * q[2 * next]; d += v * q[3 * next];)
    sums[0] = a, sums[1] = b, sums[2] = c, sums[3] = d;
}

static void sums_of(const taps *t, const int8_t *w, const int8_t *x, int32_t *sums, int32_t next)
{
    if (next == 1)
        sums_apart(t, w, x, sums, 1);
    else if (next == 2)
        sums_apart(t, w, x, sums, 2);
    else
        sums_apart(t, w, x, sums, next);
}

/* The taps of `rows` and `columns` of the window; where there is one channel, the longest loop is over columns. */
static void set_taps(taps *t, const layer *l, int32_t rows, int32_t columns)
{
    const int32_t channels = l->w->size[1], row = channels == 1 ? 1 : 0;
    const int32_t column = row + 1, channel = channels == 1 ? 0 : 2;
    t->n[row] = rows, t->n[column] = columns, t->n[channel] = channels;
    t->x_step[row] = l->s->dilation[0] * l->x->stride[2], t->w_step[row] = l->w->stride[2];
    t->x_step[column] = l->s->dilation[1] * l->x->stride[3], t->w_step[column] = l->w->stride[3];
    t->x_step[channel] = l->x->stride[1], t->w_step[channel] = l->w->stride[1];
}

/* Row `i` of channel `o` of the output; `sample` is where the sample begins in x and y. */
static void make_row(const layer *l, const int32_t sample[2], int32_t o, int32_t i)
{
    const ew_tensor *const x = l->x, *const w = l->w, *const y = l->y;
    const int32_t stride = l->s->stride[1], width = y->size[3], apart = l->s->dilation[1];
    const int32_t top = i * l->s->stride[0] - l->s->padding[0], reach = x->size[3] - apart * (w->size[3] - 1);
    const int32_t channel = o / (y->size[1] / l->s->groups) * w->size[1];
    const int32_t to = sample[1] + o * y->stride[1] + i * y->stride[2];
    int32_t rows[2], inner[2], columns[2], sums[COLUMNS];
    taps t;
    ew_within(top, l->s->dilation[0], w->size[2], x->size[2], &rows[0], &rows[1]);
    ew_within(-l->s->padding[1], stride, width, reach, &inner[0], &inner[1]); /* whose whole window lies in x */
    const int8_t *const weights = ew_bytes(w, o * w->stride[0] + rows[0] * w->stride[2]);
    const int8_t *const from = ew_bytes(x, sample[0] + channel * x->stride[1]
                                               + (top + rows[0] * l->s->dilation[0]) * x->stride[2]);
    for (int32_t j = 0; j < width;) {
        if (j >= inner[0] && j < inner[1] && inner[1] - inner[0] >= COLUMNS) {
            j = ew_min(j, inner[1] - COLUMNS); /* the last ones may be made twice */
            set_taps(&t, l, rows[1] - rows[0], w->size[3]);
            sums_of(&t, weights, from + (j * stride - l->s->padding[1]) * x->stride[3], sums, stride * x->stride[3]);
            for (int32_t k = 0; k < COLUMNS; ++k, ++j)
                put(l, o, to + j * y->stride[3], sums[k]);
            continue;
        }
        const int32_t left = j * stride - l->s->padding[1];
        ew_within(left, apart, w->size[3], x->size[3], &columns[0], &columns[1]);
        set_taps(&t, l, rows[1] - rows[0], columns[1] - columns[0]);
        put(l, o, to + j++ * y->stride[3],
            sum_of(&t, weights + columns[0] * w->stride[3], from + (left + columns[0] * apart) * x->stride[3]));
    }
}

void ew_convolution_layer_i8(const ew_tensor *y, const ew_tensor *x, const ew_tensor *w, const ew_tensor *b,
                             const ew_tensor *factor, const ew_convolution_settings *s, int32_t least, int32_t most)
{
    const layer l = {y, x, w, b, factor, s, least, most};
    for (int32_t n = 0; n < y->size[0]; ++n) {
        const int32_t sample[] = {n * x->stride[0], n * y->stride[0]};
        for (int32_t o = 0; o < y->size[1]; ++o)
            for (int32_t i = 0; i < y->size[2]; ++i)
                make_row(&l, sample, o, i);
    }
}

void ew_linear_layer_i8(const ew_tensor *y, const ew_tensor *x, const ew_tensor *w, const ew_tensor *b,
                        const ew_tensor *factor, int32_t least, int32_t most)
{
    const layer l = {y, x, w, b, factor, NULL, least, most};
    for (int32_t i = 0; i < y->size[0]; ++i)
        for (int32_t o = 0; o < y->size[1]; ++o)
            put(&l, o, i * y->stride[0] + o * y->stride[1],
                ew_dot(ew_bytes(x, i * x->stride[0]), x->stride[1], ew_bytes(w, o * w->stride[0]), w->stride[1],
                       x->size[1]));
}

void ew_floats_of_i8(const ew_tensor *out, const ew_tensor *q, float scale)
{
    const ew_tensor *const operands[] = {out, q};
    ew_walk w;
    for (ew_walk_begin(&w, 2, operands); w.n > 0; ew_walk_step(&w))
        *ew_floats(out, ew_walk_at(&w, 0)) = (float)*ew_bytes(q, ew_walk_at(&w, 1)) * scale;
}

void ew_sum_of_i8(const ew_tensor *out, const ew_tensor *a, const ew_tensor *b, const ew_tensor *c, const ew_tensor *d,
                  const ew_tensor *scale, const ew_terms_i8 *s)
{
    const ew_tensor *const operands[] = {out, a, b, c, d};
    const float inverse = 1.0f / *ew_floats(scale, 0);
    ew_walk w;
    for (ew_walk_begin(&w, 1 + s->count, operands); w.n > 0; ew_walk_step(&w)) {
        float total = 0.0f;
        for (int32_t i = 0; i < s->count; ++i) {
            total += (float)*ew_bytes(operands[1 + i], ew_walk_at(&w, 1 + i)) * s->scale[i];
            total = total < s->low[i] ? s->low[i] : total > s->high[i] ? s->high[i] : total;
        }
        *ew_bytes(out, ew_walk_at(&w, 0)) = ew_level_of(total * inverse);
    }
}

void ew_map_i8(const ew_tensor *out, const ew_tensor *x, const ew_tensor *table)
{
    const ew_tensor *const operands[] = {out, x};
    ew_walk w;
    for (ew_walk_begin(&w, 2, operands); w.n > 0; ew_walk_step(&w))
        *ew_bytes(out, ew_walk_at(&w, 0)) = *ew_bytes(table, (uint8_t)*ew_bytes(x, ew_walk_at(&w, 1)) * table->stride[0]);
}
