/* Whole numbers that count steps and samples: few, so in 64 bits, and one after another. */
#include "walk.h"

static int64_t *longs(const ew_tensor *t, const ew_walk *w, int32_t operand)
{
    return (int64_t *)t->data + ew_walk_at(w, operand);
}

static int64_t floor_divide(int64_t x, int64_t s)
{
    const int64_t quotient = x / s;
    return quotient - ((x % s != 0 && (x < 0) != (s < 0)) ? 1 : 0);
}

void ew_add_i64(const ew_tensor *out, const ew_tensor *a, const ew_tensor *b, int64_t alpha)
{
    const ew_tensor *const operands[] = {out, a, b};
    ew_walk w;
    for (ew_walk_begin(&w, 3, operands); w.n > 0; ew_walk_step(&w))
        *longs(out, &w, 0) = *longs(a, &w, 1) + alpha * *longs(b, &w, 2);
}

void ew_floor_divide_i64(const ew_tensor *out, const ew_tensor *x, int64_t s)
{
    const ew_tensor *const operands[] = {out, x};
    ew_walk w;
    for (ew_walk_begin(&w, 2, operands); w.n > 0; ew_walk_step(&w))
        *longs(out, &w, 0) = floor_divide(*longs(x, &w, 1), s);
}

void ew_remainder_i64(const ew_tensor *out, const ew_tensor *x, int64_t s)
{
    const ew_tensor *const operands[] = {out, x};
    ew_walk w;
    for (ew_walk_begin(&w, 2, operands); w.n > 0; ew_walk_step(&w)) {
        const int64_t v = *longs(x, &w, 1);
        *longs(out, &w, 0) = v - s * floor_divide(v, s);
    }
}

void ew_where_i64(const ew_tensor *out, const ew_tensor *condition, const ew_tensor *a, const ew_tensor *b)
{
    const ew_tensor *const operands[] = {out, condition, a, b};
    ew_walk w;
    for (ew_walk_begin(&w, 4, operands); w.n > 0; ew_walk_step(&w)) {
        const uint8_t chosen = ((const uint8_t *)condition->data)[ew_walk_at(&w, 1)];
        *longs(out, &w, 0) = chosen != 0 ? *longs(a, &w, 2) : *longs(b, &w, 3);
    }
}

void ew_clamp_i64(const ew_tensor *out, const ew_tensor *x, int64_t low, int64_t high)
{
    const ew_tensor *const operands[] = {out, x};
    ew_walk w;
    for (ew_walk_begin(&w, 2, operands); w.n > 0; ew_walk_step(&w)) {
        const int64_t v = *longs(x, &w, 1), raised = v < low ? low : v;
        *longs(out, &w, 0) = raised > high ? high : raised;
    }
}

void ew_sum_i8(const ew_tensor *out, const ew_tensor *x)
{
    ew_tensor sums = *out;
    const ew_tensor *const operands[] = {x, &sums};
    ew_walk w;
    ew_fill_bytes(out, EW_I64, 0);
    for (int32_t d = 0; d < x->dims; ++d) {
        sums.stride[d] = out->size[d] == x->size[d] ? out->stride[d] : 0;
        sums.size[d] = x->size[d];
    }
    for (ew_walk_begin(&w, 2, operands); w.n > 0; ew_walk_step(&w))
        *longs(&sums, &w, 1) += ((const int8_t *)x->data)[ew_walk_at(&w, 0)];
}

void ew_wrong_labels(const ew_tensor *out, const ew_tensor *targets, int32_t classes, const ew_key *key)
{
    const int32_t count = out->size[0], others = classes - 1;
    uint32_t words[4] = {0, 0, 0, 0};
    for (int32_t i = 0; i < out->size[1]; ++i) {
        const int64_t target = ((const int64_t *)targets->data)[i * targets->stride[0]];
        if (i % 4 == 0)
            ew_philox(words, (uint32_t)i / 4, key);
        const int32_t drawn = (int32_t)((float)(words[i % 4] >> 8) * 5.9604644775390625e-8f * (float)others);
        for (int32_t k = 0; k < count; ++k) {
            const int32_t shift = (int32_t)((int64_t)k * others / count);
            ((int64_t *)out->data)[k * out->stride[0] + i * out->stride[1]] =
                (target + 1 + (drawn + shift) % others) % classes;
        }
    }
}
