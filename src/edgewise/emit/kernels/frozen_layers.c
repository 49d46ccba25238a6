/* Layers that training does not change, on int8, as edgewise.capture.requantized: sums in int32, rounded to int8. */
#include "convolution_i8.h"

/* Where results, biases and factors lie, and how far apart: of two channels, and two elements of a row. */
typedef struct {
    int8_t *y;
    const int32_t *b;
    const float *factor;
    int32_t y_next, y_step, b_next, factor_next;
    int32_t least, most; /* as ew_level_between has them */
} layer;

static layer layer_of(const ew_tensor *y, const ew_tensor *b, const ew_tensor *factor, int32_t least, int32_t most)
{
    const layer l = {.y = ew_bytes(y, 0),
                     .b = ew_words(b, 0),
                     .factor = ew_floats(factor, 0),
                     .y_next = y->stride[1],
                     .y_step = y->stride[y->dims - 1],
                     .b_next = b->stride[0],
                     .factor_next = factor->stride[0],
                     .least = EW_ZERO + least,
                     .most = EW_ZERO + most};
    return l;
}

/* Where the number of sums is known, there is no loop. */
EW_ALWAYS void put_row(const layer *l, int32_t channel, int8_t *y, const int32_t *sums, const int32_t columns)
{
    const int32_t bias = l->b[channel * l->b_next], step = l->y_step, least = l->least, most = l->most;
    const float factor = l->factor[channel * l->factor_next];
    for (int32_t c = 0; c < columns; ++c, y += step)
        *y = ew_level_between((float)(sums[c] + bias) * factor, least, most);
}

static void put(const void *to, const ew_block *block)
{
    const layer *const l = to;
    for (int32_t r = 0; r < block->channels; ++r) {
        const int32_t *const sums = block->sums + EW_WIDE * r;
        int8_t *const y = l->y + block->at + r * l->y_next;
        if (block->columns == EW_WIDE)
            put_row(l, block->channel + r, y, sums, EW_WIDE);
        else
            put_row(l, block->channel + r, y, sums, block->columns);
    }
}

void ew_convolution_layer_i8(const ew_tensor *y, const ew_tensor *x, const ew_tensor *w, const ew_tensor *b,
                             const ew_tensor *factor, const ew_convolution_settings *s, int32_t least, int32_t most)
{
    const layer l = layer_of(y, b, factor, least, most);
    ew_convolve_i8(y, x, w, s, put, &l);
}

void ew_linear_layer_i8(const ew_tensor *y, const ew_tensor *x, const ew_tensor *w, const ew_tensor *b,
                        const ew_tensor *factor, int32_t least, int32_t most)
{
    const layer l = layer_of(y, b, factor, least, most);
    const ew_products p = ew_row_products(x->size[1], x->stride[1], w->stride[1], w->stride[0]);
    int32_t sums[EW_WIDE], columns;
    for (int32_t i = 0; i < y->size[0]; ++i)
        for (int32_t o = 0; o < y->size[1]; o += columns) {
            columns = ew_products_next(&p, y->size[1] - o, ew_bytes(x, i * x->stride[0]),
                                       ew_bytes(w, o * w->stride[0]), sums);
            for (int32_t c = 0; c < columns; ++c)
                put_row(&l, o + c, ew_bytes(y, i * y->stride[0] + (o + c) * y->stride[1]), sums + c, 1);
        }
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
