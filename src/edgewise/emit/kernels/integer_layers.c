/* A linear layer with ReLU on int8, as edgewise.capture.integer_layers and labelled_layer: every row of activations
 * stands for numbers of root mean square 1, every output has weights at a scale of their own. */
#include "numbers.h"
#include "pieces.h"
#include "products_i8.h"
#include "rows.h"

#define LEAST 1e-30f /* what zero is taken for where it divides */

static float rsqrt_of(float square)
{
    return 1.0f / ew_sqrtf(square > LEAST ? square : LEAST);
}

/* The largest magnitude in x. */
static float largest_of(const ew_tensor *x)
{
    float most = 0.0f;
    ROWS (w, 1, x) {
        const float *v = ew_floats(x, w.at[0]);
        for (int32_t i = 0; i < w.n; ++i, v += w.step[0])
            most = ew_absf(*v) > most ? ew_absf(*v) : most;
    }
    return most;
}

/* x at the scale where its largest element is 127; the scale. */
static float round_row(const ew_tensor *out, const ew_tensor *x)
{
    const float most = largest_of(x), scale = (most > LEAST ? most : LEAST) / 127.0f, inverse = 1.0f / scale;
    ROWS (w, 2, out, x) {
        const float *v = ew_floats(x, w.at[1]);
        int8_t *level = ew_bytes(out, w.at[0]);
        const int32_t n = w.n, level_step = w.step[0], step = w.step[1];
        for (int32_t i = 0; i < n; ++i, level += level_step, v += step)
            *level = ew_level_of(*v * inverse);
    }
    return scale;
}

void ew_round_rows(const ew_tensor *out, const ew_tensor *x)
{
    for (int32_t row = 0; row < x->size[0]; ++row) {
        const ew_tensor to = ew_select(out, 0, row, 1), from = ew_select(x, 0, row, sizeof(float));
        round_row(&to, &from);
    }
}

void ew_mean_squares(const ew_tensor *out, const ew_tensor *q)
{
    for (int32_t row = 0; row < q->size[0]; ++row) {
        const int8_t *const from = ew_bytes(q, row * q->stride[0]);
        const int64_t sum = ew_dot(from, q->stride[1], from, q->stride[1], q->size[1]);
        *ew_floats(out, row * out->stride[0]) = (float)sum / (float)q->size[1];
    }
}

void ew_add_squares(const ew_tensor *total, const ew_tensor *q)
{
    for (int32_t row = 0; row < q->size[0]; ++row) {
        const int8_t *const from = ew_bytes(q, row * q->stride[0]);
        *ew_words(total, row * total->stride[0]) += ew_dot(from, q->stride[1], from, q->stride[1], q->size[1]);
    }
}

void ew_mean_of_squares(const ew_tensor *out, const ew_tensor *total, int32_t count)
{
    for (int32_t row = 0; row < out->size[0]; ++row)
        *ew_floats(out, row * out->stride[0]) = (float)*ew_words(total, row * total->stride[0]) / (float)count;
}

/* A layer, and one of its outputs: its weights in int8, and their scale. */
typedef struct {
    const ew_tensor *q, *squares, *w, *b; /* b may be NULL */
    float step, scale, offset;
    int8_t *v;
} layer;

static void begin_output(layer *l, int32_t output)
{
    const ew_tensor from = ew_select(l->w, 0, output, sizeof(float));
    const ew_tensor to = {l->v, 1, {l->w->size[1]}, {1}};
    l->scale = round_row(&to, &from);
    l->offset = l->b == NULL ? 0.0f : *ew_floats(l->b, output * l->b->stride[0]) / l->step;
}

/* The next sums of products of the output, from row `row` of `rows` on: so many. */
static int32_t products(const layer *l, int32_t row, int32_t rows, int32_t *sums)
{
    const ew_products p = ew_row_products(l->w->size[1], 1, l->q->stride[1], l->q->stride[0]);
    return ew_products_next(&p, rows - row, l->v, ew_bytes(l->q, row * l->q->stride[0]), sums);
}

/* What a sum of products is in whole numbers of steps, after ReLU. */
static int8_t level_of(const layer *l, int32_t row, int32_t sum)
{
    const float factor = rsqrt_of(*ew_floats(l->squares, row * l->squares->stride[0])) / l->step;
    const float z = l->offset + (float)sum * factor * l->scale;
    return z > 0.0f ? ew_level_of(z) : 0;
}

void ew_linear_relu_i8(const ew_tensor *y, const ew_tensor *q, const ew_tensor *squares, const ew_tensor *w,
                       const ew_tensor *b, float step, void *room)
{
    layer l = {q, squares, w, b, step, 0.0f, 0.0f, room};
    int32_t sums[EW_WIDE], n;
    for (int32_t output = 0; output < w->size[0]; ++output) {
        begin_output(&l, output);
        for (int32_t row = 0; row < q->size[0]; row += n) {
            n = products(&l, row, q->size[0], sums);
            for (int32_t i = 0; i < n; ++i)
                *ew_bytes(y, (row + i) * y->stride[0] + output * y->stride[1]) = level_of(&l, row + i, sums[i]);
        }
    }
}

/* Sample `row` without a label, as int8 at `out`; the mean square that it has with one. What a label stands as. */
static int8_t round_sample(const ew_tensor *out, const ew_tensor *x, float *square, int32_t classes, float height)
{
    const ew_tensor *const operands[] = {x};
    float most = height, level, total = 0.0f;
    int32_t column = 0;
    ew_walk w;
    for (ew_walk_begin_in_order(&w, 1, operands); w.n > 0; ew_walk_step(&w), ++column) {
        const float v = ew_absf(*ew_floats(x, ew_walk_at(&w, 0)));
        most = column >= classes && v > most ? v : most;
    }
    level = ew_rounded(height * 127.0f / most);
    column = 0;
    for (ew_walk_begin_in_order(&w, 1, operands); w.n > 0; ew_walk_step(&w), ++column) {
        const float v = column < classes ? 0.0f : ew_rounded(*ew_floats(x, ew_walk_at(&w, 0)) * (127.0f / most));
        *ew_bytes(out, column * out->stride[0]) = (int8_t)v;
        total += v * v;
    }
    *square = (level * level + total) / (float)column;
    return (int8_t)level;
}

static int64_t label_of(const ew_tensor *labels, int32_t k, int32_t sample)
{
    return ((const int64_t *)labels->data)[k * labels->stride[0] + sample * labels->stride[1]];
}

/* Sample `sample` in row `row`, with label `label`. */
static void put_sample(const ew_tensor *q, const ew_tensor *squares, int32_t row, const ew_tensor *x, int32_t sample,
                       int64_t label, int32_t classes, float height)
{
    const ew_tensor to = ew_select(q, 0, row, 1), from = ew_select(x, 0, sample, sizeof(float));
    const int8_t level = round_sample(&to, &from, ew_floats(squares, row * squares->stride[0]), classes, height);
    *ew_bytes(&to, (int32_t)label * to.stride[0]) = level;
}

void ew_labelled_rows(const ew_tensor *q, const ew_tensor *squares, const ew_tensor *x, const ew_tensor *labels,
                      int32_t classes, float height)
{
    const int32_t samples = x->size[0];
    for (int32_t row = 0; row < q->size[0]; ++row)
        put_sample(q, squares, row, x, row % samples, label_of(labels, row / samples, row % samples), classes, height);
}

/* The sum of products of sample `sample`, which has the right label, with label k instead. */
static int32_t with_label(const layer *l, const ew_tensor *labels, int32_t sample, int32_t k, int32_t sum)
{
    const int64_t right = label_of(labels, 0, sample), other = label_of(labels, k, sample);
    const int32_t level = *ew_bytes(l->q, sample * l->q->stride[0] + (int32_t)right * l->q->stride[1]);
    return sum + level * (l->v[other] - l->v[right]);
}

/* Adds the square of what the output makes of a sample with each wrong label, given its sum with the right one. */
static void judge_sample(const layer *l, const ew_tensor *labels, int32_t sample, int32_t sum, int32_t *goodness)
{
    for (int32_t k = 1; k < labels->size[0]; ++k, goodness += labels->size[1]) {
        const int32_t z = level_of(l, sample, with_label(l, labels, sample, k, sum));
        goodness[sample] += z * z;
    }
}

/* Adds squares of what the layer makes of each sample with each wrong label, [labels - 1, samples]. */
static void judge(layer *l, const ew_tensor *labels, int32_t *goodness)
{
    const int32_t samples = labels->size[1];
    int32_t sums[EW_WIDE], n;
    for (int32_t output = 0; output < l->w->size[0]; ++output) {
        begin_output(l, output);
        for (int32_t sample = 0; sample < samples; sample += n) {
            n = products(l, sample, samples, sums);
            for (int32_t i = 0; i < n; ++i)
                judge_sample(l, labels, sample + i, sums[i], goodness);
        }
    }
}

void ew_judge_labels(const ew_tensor *goodness, const ew_tensor *q, const ew_tensor *squares, const ew_tensor *labels,
                     const ew_tensor *w, const ew_tensor *b, float step, void *room)
{
    layer l = {q, squares, w, b, step, 0.0f, 0.0f, room};
    judge(&l, labels, ew_words(goodness, 0));
}

static int32_t best_of(const int32_t *goodness, int32_t wrong, int32_t samples, int32_t sample)
{
    int32_t best = 0;
    for (int32_t k = 1; k < wrong; ++k)
        if (goodness[k * samples + sample] > goodness[best * samples + sample])
            best = k;
    return best;
}

void ew_best_rows(const ew_tensor *q, const ew_tensor *squares, const ew_tensor *x, const ew_tensor *labels,
                  const ew_tensor *goodness, int32_t classes, float height)
{
    const int32_t samples = x->size[0], wrong = labels->size[0] - 1;
    for (int32_t i = 0; i < samples; ++i) {
        const int32_t best = best_of(ew_words(goodness, 0), wrong, samples, i);
        put_sample(q, squares, i, x, i, label_of(labels, 1 + best, i), classes, height);
    }
}

/* -- backward --------------------------------------------------------------------------------------------------- */

/* What the gradient of a row is made of: c y + p where y is positive and the row is in the first half. */
typedef struct {
    const ew_tensor *y, *slope, *p, *squares; /* p may be NULL */
    float rise; /* of c in the slope */
} relu;

static float slope_of(const relu *r, int32_t row)
{
    return *ew_floats(r->slope, row * r->slope->stride[0]) * r->rise;
}

static float factor_of(const relu *r, int32_t row)
{
    return rsqrt_of(*ew_floats(r->squares, row * r->squares->stride[0]));
}

/* No gradient is larger than the result. */
static float bound_of(const relu *r)
{
    const float offset = r->p == NULL ? 0.0f : largest_of(r->p);
    float most = 0.0f;
    for (int32_t row = 0; row < r->y->size[0]; ++row) {
        int32_t level = 0;
        for (int32_t i = 0; i < r->y->size[1]; ++i)
            level = ew_max(level, *ew_bytes(r->y, row * r->y->stride[0] + i * r->y->stride[1]));
        const float bound = (ew_absf(slope_of(r, row)) * (float)level + offset) * factor_of(r, row);
        most = bound > most ? bound : most;
    }
    return most;
}

/* One row: in int8 with the factor of the row, and added to the sums without it. */
static void gradient_row(const relu *r, int32_t row, float factor, const ew_tensor *g, const ew_tensor *total,
                         const ew_key *key)
{
    const int shifted = r->p != NULL && row < r->y->size[0] / 2;
    const float slope = slope_of(r, row) * factor, inverse = 1.0f / factor;
    ew_dither d;
    if (key != NULL)
        ew_dither_begin(&d, r->y->size[0], row, key);
    for (int32_t i = 0; i < r->y->size[1]; ++i) {
        const int8_t y = *ew_bytes(r->y, row * r->y->stride[0] + i * r->y->stride[1]);
        float v = (float)y * slope;
        if (shifted && y > 0)
            v += *ew_floats(r->p, i * r->p->stride[0]) * factor;
        *ew_floats(total, i * total->stride[0]) += v * inverse;
        v = key == NULL ? v : ew_rounded_down(v + ew_dither_next(&d));
        *ew_bytes(g, row * g->stride[0] + i * g->stride[1]) = ew_level_of(v);
    }
}

void ew_relu_gradient_i8(const ew_tensor *g, const ew_tensor *scale, const ew_tensor *total, const ew_tensor *y,
                         const ew_tensor *slope, const ew_tensor *p, const ew_tensor *squares, float unit,
                         const ew_key *key)
{
    const relu r = {y, slope, p, squares, 2.0f / (unit * (float)y->size[1])};
    const float bound = bound_of(&r), one = bound > 0.0f ? bound / 127.0f : 1.0f;
    const float above = one * 1.000003814697265625f; /* 1 + 2^-18, so that no rounding leads beyond 127 */
    *ew_floats(scale, 0) = one;
    ew_fill(total, 0.0f);
    for (int32_t row = 0; row < y->size[0]; ++row)
        gradient_row(&r, row, factor_of(&r, row) / above, g, total, key);
}

/* The gradient of the weight, scale g^T q, element by element. */
typedef struct {
    const ew_tensor *g, *q, *scale;
} outer;

/* `n` elements of a row from `column` on. */
static void make_outer_row(const outer *o, int32_t row, int32_t column, int32_t n, float *out)
{
    const ew_products p = ew_row_products(o->q->size[0], o->g->stride[0], o->q->stride[0], o->q->stride[1]);
    const int8_t *const g = ew_bytes(o->g, row * o->g->stride[1]);
    const float scale = *ew_floats(o->scale, 0);
    int32_t sums[EW_WIDE], columns;
    for (; n > 0; n -= columns, column += columns, out += columns) {
        columns = ew_products_next(&p, n, g, ew_bytes(o->q, column * o->q->stride[1]), sums);
        for (int32_t c = 0; c < columns; ++c)
            out[c] = (float)sums[c] * scale;
    }
}

static void make_outer(float *piece, int32_t n, uint32_t first, const float *w, const void *source)
{
    const outer *const o = source;
    const int32_t inputs = o->q->size[1];
    int32_t row = (int32_t)first / inputs, column = (int32_t)first % inputs, length;
    (void)w;
    for (; n > 0; n -= length, piece += length, column = 0, ++row) {
        length = ew_min(n, inputs - column);
        make_outer_row(o, row, column, length, piece);
    }
}

void ew_weight_gradient_i8(const ew_tensor *out, const ew_tensor *g, const ew_tensor *q, const ew_tensor *scale)
{
    const outer o = {g, q, scale};
    make_outer(ew_floats(out, 0), out->size[0], 0, NULL, &o);
}

void ew_sgd_i8(const ew_tensor *parameter, const ew_tensor *g, const ew_tensor *q, const ew_tensor *scale,
               const ew_tensor *momentum, const ew_sgd_settings *s)
{
    const outer o = {g, q, scale};
    const ew_pieces pieces = {make_outer, &o};
    ew_sgd_pieces(parameter, &pieces, momentum, s);
}

void ew_adamw_i8(const ew_tensor *parameter, const ew_tensor *g, const ew_tensor *q, const ew_tensor *scale,
                 const ew_tensor *first, const ew_tensor *second, const ew_adamw_settings *s, uint64_t step)
{
    const outer o = {g, q, scale};
    const ew_pieces pieces = {make_outer, &o};
    ew_adamw_pieces(parameter, &pieces, first, second, s, step);
}

/* -- right labels from wrong ones ----------------------------------------------------------------------------------- */

/* log(1 + exp(x)), and its slope. */
static float softplus(float x, float *sigmoid)
{
    const float e = ew_expf(x > 0.0f ? -x : x);
    *sigmoid = (x > 0.0f ? 1.0f : e) / (1.0f + e);
    if (x > 20.0f)
        return x;
    return (x > 0.0f ? x : 0.0f) + ew_log1pf(e);
}

void ew_contrast(const ew_tensor *loss, const ew_tensor *slope, const ew_tensor *goodness, float sharpness,
                 float threshold, int pairs)
{
    const int32_t half = goodness->size[0] / 2, g = goodness->stride[0], s = slope->stride[0];
    const float *const right = ew_floats(goodness, 0), *const wrong = ew_floats(goodness, half * g);
    float *const slope_right = ew_floats(slope, 0), *const slope_wrong = ew_floats(slope, half * s);
    const float rate = sharpness / (float)half;
    ew_total total;
    ew_total_begin(&total);
    for (int32_t i = 0; i < half; ++i) {
        float of_right, of_wrong;
        if (pairs) {
            ew_total_add(&total, softplus((wrong[i * g] - right[i * g]) * sharpness, &of_wrong));
            of_right = -of_wrong;
        } else {
            const float below = (right[i * g] - threshold) * sharpness;
            ew_total_add(&total, softplus((wrong[i * g] - threshold) * sharpness, &of_wrong));
            ew_total_add(&total, softplus(-below, &of_right));
            of_right = -of_right;
        }
        slope_right[i * s] = of_right * rate;
        slope_wrong[i * s] = of_wrong * rate;
    }
    *ew_floats(loss, 0) = ew_total_end(&total) / (float)half;
}
