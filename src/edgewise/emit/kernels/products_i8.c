/* Sums of products of int8: of one row by one or four columns. */
#include "products_i8.h"

EW_ALWAYS void add_one(const ew_products *p, const int8_t *w, const int8_t *x, int32_t *sums)
{
    const int32_t w_step = p->w_step[2], x_step = p->x_step[2];
    for (int32_t n = p->n[2]; n > 0; --n, w += w_step, x += x_step)
        sums[0] += *w * *x;
}

EW_ALWAYS void add_columns(const ew_products *p, const int8_t *w, const int8_t *x, const int32_t next, int32_t *sums)
{
    const int32_t w_step = p->w_step[2], x_step = p->x_step[2];
    EW_ROLLED
    for (int32_t n = p->n[2]; n > 0; --n, w += w_step, x += x_step)
        ew_add_columns(*w, x, next, sums);
}

/* A dense row by dense columns, four steps at once. */
EW_ALWAYS void add_dense(const ew_products *p, const int8_t *w, const int8_t *x, int32_t *sums)
{
    const int32_t next = p->x_next;
    int32_t n = p->n[2];
    for (; n >= 4; n -= 4, w += 4, x += 4) {
        const uint32_t a = ew_four_at(w);
        const ew_pair even = ew_even(a), odd = ew_odd(a);
        EW_UNROLLED
        for (int32_t c = 0; c < EW_WIDE; ++c) {
            const uint32_t b = ew_four_at(x + c * next);
            sums[c] = ew_add_products(ew_add_products(sums[c], ew_even(b), even), ew_odd(b), odd);
        }
    }
    for (; n > 0; --n, ++w, ++x)
        ew_add_columns(*w, x, next, sums);
}

EW_PRODUCTS_SUM(one, 1, add_one(p, a, b, s))
EW_PRODUCTS_SUM(row, EW_WIDE, add_columns(p, a, b, p->x_next, s))
EW_PRODUCTS_SUM(row_side_by_side, EW_WIDE, add_columns(p, a, b, 1, s))
EW_PRODUCTS_SUM(row_dense, EW_WIDE, add_dense(p, a, b, s))

ew_products_sum ew_row_sum(const ew_products *p, int32_t columns)
{
    if (columns == 1)
        return one;
    if (EW_PAIRS && p->w_step[2] == 1 && p->x_step[2] == 1 && p->n[2] >= 4)
        return row_dense;
    return p->x_next == 1 ? row_side_by_side : row;
}

int32_t ew_products_next(const ew_products *p, int32_t left, const int8_t *w, const int8_t *x, int32_t *sums)
{
    const int32_t columns = left >= EW_WIDE ? EW_WIDE : 1;
    ew_row_sum(p, columns)(p, w, x, sums);
    return columns;
}
