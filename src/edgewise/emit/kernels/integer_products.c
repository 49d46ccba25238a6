/* Products of int8 with int8, summed in int32: exact, so that their order is no matter. */
#include "convolution_i8.h"

void ew_matmul_i8(const ew_tensor *out, const ew_tensor *a, const ew_tensor *b)
{
    const ew_products p = ew_row_products(a->size[1], a->stride[1], b->stride[0], b->stride[1]);
    int32_t sums[EW_WIDE], columns;
    for (int32_t i = 0; i < out->size[0]; ++i)
        for (int32_t j = 0; j < out->size[1]; j += columns) {
            columns = ew_products_next(&p, out->size[1] - j, ew_bytes(a, i * a->stride[0]),
                                       ew_bytes(b, j * b->stride[1]), sums);
            for (int32_t c = 0; c < columns; ++c)
                *ew_words(out, i * out->stride[0] + (j + c) * out->stride[1]) = sums[c];
        }
}

static void put_words(const void *to, const ew_block *block)
{
    const ew_tensor *const y = to;
    for (int32_t r = 0; r < block->channels; ++r)
        for (int32_t c = 0; c < block->columns; ++c)
            *ew_words(y, block->at + r * y->stride[1] + c * y->stride[3]) = block->sums[EW_WIDE * r + c];
}

void ew_convolution_i8(const ew_tensor *y, const ew_tensor *x, const ew_tensor *w, const ew_convolution_settings *s)
{
    ew_convolve_i8(y, x, w, s, put_words, y);
}

/* One element of the weight's gradient: over all samples and places. */
static int32_t tap_sum(const ew_tensor *dy, const ew_tensor *x, const ew_convolution_settings *s, int32_t output,
                       int32_t channel, int32_t shift_row, int32_t shift_column)
{
    int32_t rows[2], columns[2], sum = 0;
    ew_within(shift_row, s->stride[0], dy->size[2], x->size[2], &rows[0], &rows[1]);
    ew_within(shift_column, s->stride[1], dy->size[3], x->size[3], &columns[0], &columns[1]);
    for (int32_t n = 0; n < dy->size[0]; ++n)
        for (int32_t i = rows[0]; i < rows[1]; ++i) {
            const int32_t from = n * dy->stride[0] + output * dy->stride[1] + i * dy->stride[2] + columns[0] * dy->stride[3];
            const int32_t there = n * x->stride[0] + channel * x->stride[1] + (i * s->stride[0] + shift_row) * x->stride[2]
                                  + (columns[0] * s->stride[1] + shift_column) * x->stride[3];
            sum += ew_dot(ew_bytes(dy, from), dy->stride[3], ew_bytes(x, there), s->stride[1] * x->stride[3],
                          columns[1] - columns[0]);
        }
    return sum;
}

void ew_convolution_weight_gradient_i8(const ew_tensor *dw, const ew_tensor *dy, const ew_tensor *x,
                                       const ew_convolution_settings *s)
{
    const int32_t outputs = dw->size[0] / s->groups;
    for (int32_t o = 0; o < dw->size[0]; ++o)
        for (int32_t c = 0; c < dw->size[1]; ++c)
            for (int32_t k = 0; k < dw->size[2]; ++k)
                for (int32_t l = 0; l < dw->size[3]; ++l)
                    *ew_words(dw, o * dw->stride[0] + c * dw->stride[1] + k * dw->stride[2] + l * dw->stride[3]) =
                        tap_sum(dy, x, s, o, o / outputs * dw->size[1] + c, k * s->dilation[0] - s->padding[0],
                                l * s->dilation[1] - s->padding[1]);
}

/* One element of the input's gradient: of the places whose window holds it, `first` is the first output's. */
static int32_t source_sum(const ew_tensor *dy, const ew_tensor *w, const ew_convolution_settings *s, int32_t sample,
                          int32_t group, int32_t channel, int32_t row, int32_t column)
{
    const int32_t outputs = w->size[0] / s->groups;
    int32_t sum = 0;
    for (int32_t k = 0; k < w->size[2]; ++k) {
        const int32_t above = row + s->padding[0] - k * s->dilation[0], i = above / s->stride[0];
        if (above < 0 || above % s->stride[0] != 0 || i >= dy->size[2])
            continue;
        for (int32_t l = 0; l < w->size[3]; ++l) {
            const int32_t before = column + s->padding[1] - l * s->dilation[1], j = before / s->stride[1];
            if (before < 0 || before % s->stride[1] != 0 || j >= dy->size[3])
                continue;
            sum += ew_dot(ew_bytes(dy, sample * dy->stride[0] + group * outputs * dy->stride[1] + i * dy->stride[2]
                                           + j * dy->stride[3]),
                          dy->stride[1],
                          ew_bytes(w, group * outputs * w->stride[0] + channel * w->stride[1] + k * w->stride[2]
                                          + l * w->stride[3]),
                          w->stride[0], outputs);
        }
    }
    return sum;
}

void ew_convolution_input_gradient_i8(const ew_tensor *dx, const ew_tensor *dy, const ew_tensor *w,
                                      const ew_convolution_settings *s)
{
    for (int32_t n = 0; n < dx->size[0]; ++n)
        for (int32_t c = 0; c < dx->size[1]; ++c)
            for (int32_t i = 0; i < dx->size[2]; ++i)
                for (int32_t j = 0; j < dx->size[3]; ++j)
                    *ew_words(dx, n * dx->stride[0] + c * dx->stride[1] + i * dx->stride[2] + j * dx->stride[3]) =
                        source_sum(dy, w, s, n, c / w->size[1], c % w->size[1], i, j);
}
