/* The gradients of a convolution's weight and bias: each tap is a sum over samples and over the rows and
 * columns of the output whose element of the input exists. */
#include "tile.h"

/* What one tap of the weight sums: `n` samples, rows and columns of dy (w of the tile) and x. */
typedef struct {
    float *dw;
    const float *dy, *x;
    int32_t n[3], dy_step[3], x_step[3], dw_step[2], dy_next, x_next;
} tap;

/* The blocks of the sum hold at most EW_PRODUCTS products: a part of a row, rows, or samples. */
static EW_APART void sum_tap(const tap *p, int32_t rows, int32_t columns)
{
    const int32_t wide = ew_max(1, ew_min(EW_PRODUCTS, p->n[2])),
                  high = ew_max(1, ew_min(EW_PRODUCTS / wide, p->n[1]));
    const int32_t deep = high < p->n[1] ? 1 : ew_max(1, EW_PRODUCTS / (wide * high));
    ew_tile t = {.sums = ew_tile_sums,
                 .w_step = {p->dy_step[0], p->dy_step[1], p->dy_step[2]},
                 .x_step = {p->x_step[0], p->x_step[1], p->x_step[2]},
                 .w_next = p->dy_next,
                 .x_next = p->x_next};
    ew_tile_total total;
    ew_tile_total_begin(&total);
    for (int32_t i = 0; i < p->n[0]; i += deep)
        for (int32_t j = 0; j < p->n[1]; j += high)
            for (int32_t k = 0; k < p->n[2]; k += wide) {
                t.n[0] = ew_min(deep, p->n[0] - i);
                t.n[1] = ew_min(high, p->n[1] - j);
                t.n[2] = ew_min(wide, p->n[2] - k);
                ew_tile_total_add(&total, &t, rows, columns,
                                  p->dy + i * p->dy_step[0] + j * p->dy_step[1] + k * p->dy_step[2],
                                  p->x + i * p->x_step[0] + j * p->x_step[1] + k * p->x_step[2]);
            }
    ew_tile_total_end(&total);
    for (int32_t i = 0; i < rows; ++i)
        for (int32_t j = 0; j < columns; ++j)
            p->dw[i * p->dw_step[0] + j * p->dw_step[1]] = total.sum[EW_TILE * i + j];
}

/* All taps of a tile of output channels (from o on) and input channels (from c of the group on). */
static void sum_taps(const ew_tensor *dw, tap *p, const ew_convolution_settings *s, const ew_tensor *dy,
                     const ew_tensor *x, const int32_t o[2], const int32_t c[2], int32_t group)
{
    for (int32_t kh = 0; kh < dw->size[2]; ++kh)
        for (int32_t kw = 0; kw < dw->size[3]; ++kw) {
            const int32_t down = s->dilation[0] * kh - s->padding[0],
                          right = s->dilation[1] * kw - s->padding[1];
            int32_t row[2], column[2];
            ew_within(down, s->stride[0], dy->size[2], x->size[2], &row[0], &row[1]);
            ew_within(right, s->stride[1], dy->size[3], x->size[3], &column[0], &column[1]);
            p->n[1] = row[1] - row[0];
            p->n[2] = column[1] - column[0];
            p->dy = ew_floats(dy, o[0] * dy->stride[1] + row[0] * dy->stride[2] + column[0] * dy->stride[3]);
            p->x = ew_floats(x, (group * dw->size[1] + c[0]) * x->stride[1]
                                    + (s->stride[0] * row[0] + down) * x->stride[2]
                                    + (s->stride[1] * column[0] + right) * x->stride[3]);
            p->dw = ew_floats(dw, o[0] * dw->stride[0] + c[0] * dw->stride[1] + kh * dw->stride[2]
                                      + kw * dw->stride[3]);
            sum_tap(p, o[1], c[1]);
        }
}

void ew_convolution_weight_gradient(const ew_tensor *dw, const ew_tensor *dy, const ew_tensor *x,
                                    const ew_convolution_settings *s)
{
    const int32_t each = dw->size[0] / s->groups;
    tap p = {.n = {dy->size[0], 0, 0},
             .dy_step = {dy->stride[0], dy->stride[2], dy->stride[3]},
             .x_step = {x->stride[0], s->stride[0] * x->stride[2], s->stride[1] * x->stride[3]},
             .dw_step = {dw->stride[0], dw->stride[1]},
             .dy_next = dy->stride[1],
             .x_next = x->stride[1]};
    int32_t o[2], c[2];
    for (int32_t g = 0; g < s->groups; ++g)
        for (o[0] = g * each; o[0] < (g + 1) * each; o[0] += o[1]) {
            o[1] = ew_tile_rows((g + 1) * each - o[0]);
            for (c[0] = 0; c[0] < dw->size[1]; c[0] += c[1]) {
                c[1] = ew_tile_columns(dw->size[1] - c[0]);
                sum_taps(dw, &p, s, dy, x, o, c, g);
            }
        }
}

void ew_convolution_bias_gradient(const ew_tensor *db, const ew_tensor *dy)
{
    for (int32_t c = 0; c < dy->size[1]; ++c) {
        const ew_tensor channel = ew_select(dy, 1, c, sizeof(float));
        const ew_tensor *const tensors[] = {&channel};
        ew_total total;
        ew_walk w;
        ew_total_begin(&total);
        for (ew_walk_begin_in_order(&w, 1, tensors); w.n > 0; ew_walk_next(&w))
            for (int32_t i = 0; i < w.n; ++i)
                ew_total_add(&total, *ew_floats(&channel, w.at[0] + i * w.step[0]));
        *ew_floats(db, c * db->stride[0]) = ew_total_end(&total);
    }
}
