/* Sums of products of int8 in int32: exact, so that their order is no matter. */
#include "products_i8.h"

#include "pairs.h"

#define ALWAYS static inline __attribute__((always_inline))

/* The last loop, for tiles of a size: adds `n` products to each of `sums`. */
ALWAYS void add_1x1(const ew_products *p, const int8_t *w, const int8_t *x, int32_t *sums)
{
    const int32_t w_step = p->w_step[2], x_step = p->x_step[2];
    for (int32_t n = p->n[2]; n > 0; --n, w += w_step, x += x_step)
        sums[0] += *w * *x;
}

/* Where steps are known, loads need no addition, and columns have theirs in common. */
ALWAYS void add_1x4(const int8_t *w, const int32_t w_step, const int8_t *x, const int32_t x_step, const int32_t next,
                    const int32_t n, int32_t *sums)
{
    for (int32_t k = 0; k < n; ++k, w += w_step, x += x_step)
        for (int32_t c = 0; c < EW_WIDE; ++c)
            sums[c] += *w * x[c * next];
}

/* Two rows by four columns that lie side by side. */
ALWAYS void add_2x4(const ew_products *p, const int8_t *w, const int8_t *x, int32_t *sums)
{
    const int32_t w_step = p->w_step[2], x_step = p->x_step[2], row = p->w_next;
    for (int32_t n = p->n[2]; n > 0; --n, w += w_step, x += x_step)
        for (int32_t c = 0; c < EW_WIDE; ++c) {
            sums[c] += w[0] * x[c];
            sums[EW_WIDE + c] += w[row] * x[c];
        }
}

/* A dense row by four dense columns, four steps at once. */
ALWAYS void add_dense(const ew_products *p, const int8_t *w, const int8_t *x, int32_t *sums)
{
    const int32_t next = p->x_next;
    int32_t n = p->n[2];
    for (; n >= 4; n -= 4, w += 4, x += 4) {
        const uint32_t a = ew_four_at(w);
        const ew_pair even = ew_even(a), odd = ew_odd(a);
        for (int32_t c = 0; c < EW_WIDE; ++c) {
            const uint32_t b = ew_four_at(x + c * next);
            sums[c] = ew_add_products(ew_add_products(sums[c], ew_even(b), even), ew_odd(b), odd);
        }
    }
    add_1x4(w, 1, x, 1, next, n, sums);
}

/* Two dense rows by four gathered columns. */
ALWAYS void add_gathered(const ew_products *p, const int8_t *w, const int8_t *x, int32_t *sums)
{
    const int8_t *const fours = w + (p->n[2] & ~3), *v = w + p->w_next;
    for (; w != fours; w += 4, v += 4, x += 4) {
        const uint32_t a = ew_four_at(w), b = ew_four_at(v);
        const ew_pair even = ew_even(a), even2 = ew_even(b), odd = ew_odd(a), odd2 = ew_odd(b);
        for (int32_t c = 0; c < EW_WIDE; ++c) {
            const uint32_t four = ew_four_at(x + c * EW_GATHERED);
            const ew_pair low = ew_even(four), high = ew_odd(four);
            sums[c] = ew_add_products(sums[c], low, even);
            sums[EW_WIDE + c] = ew_add_products(sums[EW_WIDE + c], low, even2);
            sums[c] = ew_add_products(sums[c], high, odd);
            sums[EW_WIDE + c] = ew_add_products(sums[EW_WIDE + c], high, odd2);
        }
    }
    for (int32_t n = p->n[2] & 3; n > 0; --n, ++w, ++v, ++x)
        for (int32_t c = 0; c < EW_WIDE; ++c) {
            sums[c] += *w * x[c * EW_GATHERED];
            sums[EW_WIDE + c] += *v * x[c * EW_GATHERED];
        }
}

/* A function that sums up tiles of COUNT sums by the last loop ADD. */
#define SUMS(NAME, COUNT, ADD)                                                                        \
    static void NAME(const ew_products *p, const int8_t *w, const int8_t *x, int32_t *sums)           \
    {                                                                                                 \
        int32_t s[COUNT] = {0};                                                                       \
        for (int32_t i = 0; i < p->n[0]; ++i, w += p->w_step[0], x += p->x_step[0]) {                 \
            const int8_t *a = w, *b = x;                                                              \
            for (int32_t j = 0; j < p->n[1]; ++j, a += p->w_step[1], b += p->x_step[1])               \
                ADD;                                                                                  \
        }                                                                                             \
        for (int32_t i = 0; i < COUNT; ++i)                                                           \
            sums[i] = s[i];                                                                           \
    }

SUMS(one, 1, add_1x1(p, a, b, s))
SUMS(row, 4, add_1x4(a, p->w_step[2], b, p->x_step[2], p->x_next, p->n[2], s))
SUMS(row_dense, 4, add_dense(p, a, b, s))
SUMS(window_3, 4, add_1x4(a, 1, b, 1, 1, 3, s))
SUMS(window_5, 4, add_1x4(a, 1, b, 1, 1, 5, s))
SUMS(window_7, 4, add_1x4(a, 1, b, 1, 1, 7, s))
SUMS(window_3_by_2, 4, add_1x4(a, 1, b, 1, 2, 3, s))
SUMS(window_5_by_2, 4, add_1x4(a, 1, b, 1, 2, 5, s))
SUMS(window_7_by_2, 4, add_1x4(a, 1, b, 1, 2, 7, s))
SUMS(rows_side_by_side, 8, add_2x4(p, a, b, s))
/* With one loop alone. */
static void rows_gathered(const ew_products *p, const int8_t *w, const int8_t *x, int32_t *sums)
{
    int32_t s[EW_HIGH * EW_WIDE] = {0};
    add_gathered(p, w, x, s);
    for (int32_t i = 0; i < EW_HIGH * EW_WIDE; ++i)
        sums[i] = s[i];
}

ew_products_sum ew_products_by(const ew_products *p, int32_t high, int32_t wide)
{
    static const ew_products_sum windows[2][3] = {{window_3, window_5, window_7},
                                                  {window_3_by_2, window_5_by_2, window_7_by_2}};
    const int32_t n = p->n[2], next = p->x_next;
    const int dense = p->w_step[2] == 1 && p->x_step[2] == 1;
    if (wide == 1)
        return one;
    if (high == EW_HIGH && dense && next == EW_GATHERED && p->n[0] == 1 && p->n[1] == 1)
        return rows_gathered;
    if (high == EW_HIGH)
        return rows_side_by_side;
    if (dense && (next == 1 || next == 2) && (n == 3 || n == 5 || n == 7))
        return windows[next - 1][n / 2 - 1];
    return EW_PAIRS && dense && n >= 4 ? row_dense : row;
}
