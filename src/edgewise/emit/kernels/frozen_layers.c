/* Layers that training does not change, on int8, as edgewise.capture.requantized: sums in int32, rounded to int8. */
#include "convolution_i8.h"
#include "products_i8.h"

typedef struct {
    const ew_tensor *y, *b, *factor;
    float least, most;
} layer;

/* The nearest whole number, half to even, after y is limited to bytes: behind the point of y + 1.5 2^23 are no bits. */
static inline int8_t level_of(float y, float least, float most)
{
    y = y < least ? least : y > most ? most : y;
    return (int8_t)ew_bits(y + 12582912.0f);
}

static void put(const void *to, int32_t output, int32_t at, const int32_t *sums, int32_t count)
{
    const layer *const l = to;
    const int32_t bias = *ew_words(l->b, output * l->b->stride[0]), step = l->y->stride[3];
    const float factor = *ew_floats(l->factor, output * l->factor->stride[0]), least = l->least, most = l->most;
    int8_t *y = ew_bytes(l->y, at);
    for (; count > 0; --count, y += step)
        *y = level_of((float)(*sums++ + bias) * factor, least, most);
}

void ew_convolution_layer_i8(const ew_tensor *y, const ew_tensor *x, const ew_tensor *w, const ew_tensor *b,
                             const ew_tensor *factor, const ew_convolution_settings *s, int32_t least, int32_t most)
{
    const layer l = {y, b, factor, (float)least, (float)most};
    ew_convolve_i8(y, x, w, s, put, &l);
}

void ew_linear_layer_i8(const ew_tensor *y, const ew_tensor *x, const ew_tensor *w, const ew_tensor *b,
                        const ew_tensor *factor, int32_t least, int32_t most)
{
    const layer l = {y, b, factor, (float)least, (float)most};
    for (int32_t i = 0; i < y->size[0]; ++i)
        for (int32_t o = 0; o < y->size[1]; ++o) {
            const int32_t sum = ew_dot(ew_bytes(x, i * x->stride[0]), x->stride[1], ew_bytes(w, o * w->stride[0]),
                                       w->stride[1], x->size[1]);
            put(&l, o, i * y->stride[0] + o * y->stride[1], &sum, 1);
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
