/* Sums of products of int8: of windows of a convolution in place, and of columns that were gathered. */
#include "windows_i8.h"

/* Two steps of column c of two rows. */
EW_ALWAYS void add_pair(ew_pair column, ew_pair w, ew_pair v, int32_t c, int32_t *sums)
{
    sums[c] = ew_add_products(sums[c], column, w);
    sums[EW_WIDE + c] = ew_add_products(sums[EW_WIDE + c], column, v);
}

/* Two rows by columns side by side: pairs of steps are made of the bytes of two words. */
EW_ALWAYS void add_rows(const ew_products *p, const int8_t *w, const int8_t *x, int32_t *sums)
{
    const int32_t w_step = p->w_step[2], x_step = p->x_step[2];
    const int8_t *v = w + p->w_next;
    int32_t n = p->n[2];
    for (; EW_PAIRS && n >= 2; n -= 2, w += 2 * w_step, v += 2 * w_step, x += 2 * x_step) {
        const uint32_t one = ew_four_at(x), two = ew_four_at(x + x_step);
        const ew_pair a = ew_lower((uint32_t)w[0], (uint32_t)w[w_step]);
        const ew_pair b = ew_lower((uint32_t)v[0], (uint32_t)v[w_step]);
        const ew_pair even = ew_even(one), even2 = ew_even(two);
        add_pair(ew_lower(even, even2), a, b, 0, sums);
        add_pair(ew_upper(even, even2), a, b, 2, sums);
        const ew_pair odd = ew_odd(one), odd2 = ew_odd(two);
        add_pair(ew_lower(odd, odd2), a, b, 1, sums);
        add_pair(ew_upper(odd, odd2), a, b, 3, sums);
    }
    EW_ROLLED
    for (; n > 0; --n, w += w_step, v += w_step, x += x_step) {
        ew_add_columns(*w, x, 1, sums);
        ew_add_columns(*v, x, 1, sums + EW_WIDE);
    }
}

/* A row of a dense window of a known width: columns have loads in common. */
EW_ALWAYS void add_window(const int8_t *w, const int8_t *x, const int32_t next, const int32_t width, int32_t *sums)
{
    EW_UNROLLED
    for (int32_t k = 0; k < width; ++k)
        ew_add_columns(w[k], x + k, next, sums);
}

EW_PRODUCTS_SUM(rows, (EW_HIGH * EW_WIDE), add_rows(p, a, b, s))
EW_PRODUCTS_SUM(window_3, EW_WIDE, add_window(a, b, 1, 3, s))
EW_PRODUCTS_SUM(window_5, EW_WIDE, add_window(a, b, 1, 5, s))
EW_PRODUCTS_SUM(window_7, EW_WIDE, add_window(a, b, 1, 7, s))
EW_PRODUCTS_SUM(window_3_by_2, EW_WIDE, add_window(a, b, 2, 3, s))
EW_PRODUCTS_SUM(window_5_by_2, EW_WIDE, add_window(a, b, 2, 5, s))
EW_PRODUCTS_SUM(window_7_by_2, EW_WIDE, add_window(a, b, 2, 7, s))

ew_products_sum ew_window_sum(const ew_products *p, int32_t high)
{
    static const ew_products_sum windows[2][3] = {{window_3, window_5, window_7},
                                                  {window_3_by_2, window_5_by_2, window_7_by_2}};
    const int32_t n = p->n[2], next = p->x_next;
    if (high == EW_HIGH)
        return rows;
    if (p->w_step[2] == 1 && p->x_step[2] == 1 && (next == 1 || next == 2) && (n == 3 || n == 5 || n == 7))
        return windows[next - 1][n / 2 - 1];
    return ew_row_sum(p, EW_WIDE);
}

void ew_gathered_sum(const ew_products *p, const int8_t *w, const int8_t *x, int32_t *sums)
{
    const int8_t *const fours = w + (p->n[2] & ~3), *v = w + p->w_next;
    int32_t s[EW_HIGH * EW_WIDE] = {0};
    for (; w != fours; w += 4, v += 4, x += 4) {
        const uint32_t a = ew_four_at(w), b = ew_four_at(v);
        const ew_pair even = ew_even(a), even2 = ew_even(b), odd = ew_odd(a), odd2 = ew_odd(b);
        EW_UNROLLED
        for (int32_t c = 0; c < EW_WIDE; ++c) {
            const uint32_t four = ew_four_at(x + c * EW_GATHERED);
            const ew_pair low = ew_even(four), high = ew_odd(four);
            add_pair(low, even, even2, c, s);
            add_pair(high, odd, odd2, c, s);
        }
    }
    for (int32_t n = p->n[2] & 3; n > 0; --n, ++w, ++v, ++x) {
        ew_add_columns(*w, x, EW_GATHERED, s);
        ew_add_columns(*v, x, EW_GATHERED, s + EW_WIDE);
    }
    EW_UNROLLED
    for (int32_t i = 0; i < EW_HIGH * EW_WIDE; ++i)
        sums[i] = s[i];
}
