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

/* Of one output, `COLUMNS` sums whose elements of x are `next` apart; of two, whose weights are `other` apart. */
static void sums_of_one(const taps *t, const int8_t *w, const int8_t *x, int32_t next, int32_t *sums)
{
    const int32_t w_step = t->w_step[2], x_step = t->x_step[2];
    int32_t a0 = 0, a1 = 0, a2 = 0, a3 = 0;
    LOOPS(const int32_t v = *p; a0 += v * q[0]; a1 += v * q[next]; a2 += v * q[2 * next]; a3 += v * q[3 * next];)
    sums[0] = a0, sums[1] = a1, sums[2] = a2, sums[3] = a3;
}

static void sums_of_two(const taps *t, const int8_t *w, int32_t other, const int8_t *x, int32_t next, int32_t *sums)
{
    const int32_t w_step = t->w_step[2], x_step = t->x_step[2];
    int32_t a0 = 0, a1 = 0, a2 = 0, a3 = 0, b0 = 0, b1 = 0, b2 = 0, b3 = 0;
    LOOPS(const int32_t u = p[0], v = p[other], q0 = q[0], q1 = q[next], q2 = q[2 * next], q3 = q[3 * next];
          a0 += u * q0; a1 += u * q1; a2 += u * q2; a3 += u * q3;
          b0 += v * q0; b1 += v * q1; b2 += v * q2; b3 += v * q3;)
    sums[0] = a0, sums[1] = a1, sums[2] = a2, sums[3] = a3;
    sums[4] = b0, sums[5] = b1, sums[6] = b2, sums[7] = b3;
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

/* Row `i` of `outputs` channels (1 or 2) of the output from `o` on; `sample` is where the sample begins in x and y. */
static void make_row(const layer *l, const int32_t sample[2], int32_t o, int32_t outputs, int32_t i)
{
    const ew_tensor *const x = l->x, *const w = l->w, *const y = l->y;
    const int32_t stride = l->s->stride[1], width = y->size[3], apart = l->s->dilation[1];
    const int32_t top = i * l->s->stride[0] - l->s->padding[0], reach = x->size[3] - apart * (w->size[3] - 1);
    const int32_t channel = o / (y->size[1] / l->s->groups) * w->size[1];
    const int32_t to = sample[1] + o * y->stride[1] + i * y->stride[2];
    int32_t rows[2], inner[2], columns[2], sums[2 * COLUMNS];
    taps t;
    ew_within(top, l->s->dilation[0], w->size[2], x->size[2], &rows[0], &rows[1]);
    ew_within(-l->s->padding[1], stride, width, reach, &inner[0], &inner[1]); /* whose whole window lies in x */
    const int8_t *const weights = ew_bytes(w, o * w->stride[0] + rows[0] * w->stride[2]);
    const int8_t *const from = ew_bytes(x, sample[0] + channel * x->stride[1]
                                               + (top + rows[0] * l->s->dilation[0]) * x->stride[2]);
    for (int32_t j = 0; j < width;) {
        const int32_t left = j * stride - l->s->padding[1];
        if (j >= inner[0] && j + COLUMNS <= inner[1]) {
            const int8_t *const there = from + left * x->stride[3];
            set_taps(&t, l, rows[1] - rows[0], w->size[3]);
            if (outputs == 2)
                sums_of_two(&t, weights, w->stride[0], there, stride * x->stride[3], sums);
            else
                sums_of_one(&t, weights, there, stride * x->stride[3], sums);
            for (int32_t k = 0; k < outputs * COLUMNS; ++k)
                put(l, o + k / COLUMNS, to + k / COLUMNS * y->stride[1] + (j + k % COLUMNS) * y->stride[3], sums[k]);
            j += COLUMNS;
            continue;
        }
        ew_within(left, apart, w->size[3], x->size[3], &columns[0], &columns[1]);
        set_taps(&t, l, rows[1] - rows[0], columns[1] - columns[0]);
        for (int32_t k = 0; k < outputs; ++k)
            put(l, o + k, to + k * y->stride[1] + j * y->stride[3],
                sum_of(&t, weights + k * w->stride[0] + columns[0] * w->stride[3],
                       from + (left + columns[0] * apart) * x->stride[3]));
        ++j;
    }
}

void ew_convolution_layer_i8(const ew_tensor *y, const ew_tensor *x, const ew_tensor *w, const ew_tensor *b,
                             const ew_tensor *factor, const ew_convolution_settings *s, int32_t least, int32_t most)
{
    const layer l = {y, x, w, b, factor, s, least, most};
    const int32_t each = y->size[1] / s->groups;
    for (int32_t n = 0; n < y->size[0]; ++n) {
        const int32_t sample[] = {n * x->stride[0], n * y->stride[0]};
        for (int32_t o = 0, outputs; o < y->size[1]; o += outputs) {
            outputs = o % each + 1 < each ? 2 : 1;
            for (int32_t i = 0; i < y->size[2]; ++i)
                make_row(&l, sample, o, outputs, i);
        }
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
