/* Sums of products of int8: of one row by one or four columns. */
#include "products_i8.h"

static inline void add_one(const ew_products *p, const int8_t *w, const int8_t *x, int32_t *sums)
{
    const int32_t w_step = p->w_step[2], x_step = p->x_step[2];
    for (int32_t n = p->n[2]; n > 0; --n, w += w_step, x += x_step)
        sums[0] += *w * *x;
}

/* A dense row by dense columns, four steps at once. */
static inline void add_dense(const ew_products *p, const int8_t *w, const int8_t *x, int32_t *sums)
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
    ew_add_row(w, 1, x, 1, next, n, sums);
}

EW_PRODUCTS_SUM(one, 1, add_one(p, a, b, s))
EW_PRODUCTS_SUM(row, EW_WIDE, ew_add_row(a, p->w_step[2], b, p->x_step[2], p->x_next, p->n[2], s))
EW_PRODUCTS_SUM(row_side_by_side, EW_WIDE, ew_add_row(a, p->w_step[2], b, p->x_step[2], 1, p->n[2], s))
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
