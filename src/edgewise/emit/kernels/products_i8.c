/* Sums of products of int8 in int32: exact, so that their order is no matter. */
#include "products_i8.h"

#include "pairs.h"

#define ALWAYS static inline __attribute__((always_inline))

/* The last loop, for tiles of a size: adds `n` products to each of `sums`. */
ALWAYS void add_1x1(const ew_products *p, const int8_t *w, const int8_t *x, int32_t n, int32_t *sums)
{
    const int32_t w_step = p->w_step[2], x_step = p->x_step[2];
    for (; n > 0; --n, w += w_step, x += x_step)
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

ALWAYS void add_2x4(const ew_products *p, const int8_t *w, const int8_t *x, const int32_t next, int32_t n,
                    int32_t *sums)
{
    const int32_t w_step = p->w_step[2], x_step = p->x_step[2], row = p->w_next;
    for (; n > 0; --n, w += w_step, x += x_step)
        for (int32_t c = 0; c < EW_WIDE; ++c) {
            const int32_t v = x[c * next];
            sums[c] += w[0] * v;
            sums[EW_WIDE + c] += w[row] * v;
        }
}

/* One dense row by four dense columns, four steps at once. */
ALWAYS void add_dense(const ew_products *p, const int8_t *w, const int8_t *x, int32_t n, int32_t *sums)
{
    const int32_t next = p->x_next;
    for (; n >= 4; n -= 4, w += 4, x += 4) {
        const uint32_t v = ew_four_at(w);
        const ew_pair even = ew_even(v), odd = ew_odd(v);
        for (int32_t c = 0; c < EW_WIDE; ++c) {
            const uint32_t u = ew_four_at(x + c * next);
            sums[c] = ew_add_products(ew_add_products(sums[c], ew_even(u), even), ew_odd(u), odd);
        }
    }
    add_1x4(w, 1, x, 1, next, n, sums);
}

/* Two rows by four columns that lie side by side: pairs of steps are made of the bytes of two words. */
ALWAYS void add_pairs(const ew_products *p, const int8_t *w, const int8_t *x, int32_t n, int32_t *sums)
{
    const int32_t x_step = p->x_step[2], row = p->w_next;
    for (; n >= 4; n -= 4, w += 4, x += 4 * x_step) {
        const uint32_t a = ew_four_at(w), b = ew_four_at(w + row);
        for (int32_t half = 0; half < 2; ++half) {
            const ew_pair v = half ? ew_odd(a) : ew_even(a), u = half ? ew_odd(b) : ew_even(b);
            const uint32_t one = ew_four_at(x + half * x_step), two = ew_four_at(x + (half + 2) * x_step);
            const ew_pair even = ew_even(one), odd = ew_odd(one), even2 = ew_even(two), odd2 = ew_odd(two);
            const ew_pair columns[] = {ew_lower(even, even2), ew_lower(odd, odd2), ew_upper(even, even2),
                                       ew_upper(odd, odd2)};
            for (int32_t c = 0; c < EW_WIDE; ++c) {
                sums[c] = ew_add_products(sums[c], columns[c], v);
                sums[EW_WIDE + c] = ew_add_products(sums[EW_WIDE + c], columns[c], u);
            }
        }
    }
    add_2x4(p, w, x, 1, n, sums);
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

SUMS(one, 1, add_1x1(p, a, b, p->n[2], s))
SUMS(row, 4, add_1x4(a, p->w_step[2], b, p->x_step[2], p->x_next, p->n[2], s))
SUMS(row_dense, 4, add_dense(p, a, b, p->n[2], s))
SUMS(window_3, 4, add_1x4(a, 1, b, 1, 1, 3, s))
SUMS(window_5, 4, add_1x4(a, 1, b, 1, 1, 5, s))
SUMS(window_7, 4, add_1x4(a, 1, b, 1, 1, 7, s))
SUMS(window_3_by_2, 4, add_1x4(a, 1, b, 1, 2, 3, s))
SUMS(window_5_by_2, 4, add_1x4(a, 1, b, 1, 2, 5, s))
SUMS(window_7_by_2, 4, add_1x4(a, 1, b, 1, 2, 7, s))
SUMS(rows, 8, add_2x4(p, a, b, p->x_next, p->n[2], s))
SUMS(rows_side_by_side, 8, add_2x4(p, a, b, 1, p->n[2], s))
SUMS(rows_by_pairs, 8, add_pairs(p, a, b, p->n[2], s))

ew_products_sum *ew_products_by(const ew_products *p, int32_t rows_, int32_t columns)
{
    static ew_products_sum *const windows[2][3] = {{window_3, window_5, window_7},
                                                   {window_3_by_2, window_5_by_2, window_7_by_2}};
    const int32_t n = p->n[2], next = p->x_next;
    const int dense = p->w_step[2] == 1 && p->x_step[2] == 1;
    if (columns == 1)
        return one;
    if (rows_ == EW_HIGH && next == 1)
        return EW_PAIRS && p->w_step[2] == 1 && n >= 4 ? rows_by_pairs : rows_side_by_side;
    if (rows_ == EW_HIGH)
        return rows;
    if (dense && (next == 1 || next == 2) && (n == 3 || n == 5 || n == 7))
        return windows[next - 1][n / 2 - 1];
    return EW_PAIRS && dense && n >= 4 ? row_dense : row;
}
