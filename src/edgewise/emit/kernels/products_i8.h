/* Private to the kernels: sums of products of int8, in tiles that stay in registers. Sums are in int32 and exact, so that
 * their order is no matter. */
#ifndef EW_PRODUCTS_I8_H
#define EW_PRODUCTS_I8_H

#include "integers.h"

#define EW_WIDE 4 /* columns of a tile, or one */
#define EW_HIGH 2 /* rows of a tile, or one */

/* Before a loop whose number of turns is known: sums are in registers only if nothing counts them. And before one whose
 * number is not: some compilers repeat its body until they run out of registers. */
#ifdef __clang__
#define EW_UNROLLED _Pragma("clang loop unroll(full)")
#define EW_ROLLED _Pragma("clang loop unroll(disable)")
#else
#define EW_UNROLLED _Pragma("GCC unroll 8")
#define EW_ROLLED _Pragma("GCC unroll 1")
#endif

/* Sum (r, c) of a tile is that of w[r w_next + s w_step] x[c x_next + s x_step] over the steps s: three nested loops,
 * of which the last one runs fastest. */
typedef struct {
    int32_t n[3], w_step[3], x_step[3];
    int32_t w_next, x_next;
} ew_products;

/* sums[EW_WIDE r + c] of a tile. */
typedef void (*ew_products_sum)(const ew_products *p, const int8_t *w, const int8_t *x, int32_t *sums);

/* Defines a function that sums up tiles of COUNT sums `s`; ADD, the last loop, adds to them products of a and b. */
#define EW_PRODUCTS_SUM(NAME, COUNT, ADD)                                                    \
    static void NAME(const ew_products *p, const int8_t *w, const int8_t *x, int32_t *sums)  \
    {                                                                                        \
        int32_t s[COUNT] = {0};                                                              \
        for (int32_t i = 0; i < p->n[0]; ++i, w += p->w_step[0], x += p->x_step[0]) {        \
            const int8_t *a = w, *b = x;                                                     \
            EW_ROLLED                                                                        \
            for (int32_t j = 0; j < p->n[1]; ++j, a += p->w_step[1], b += p->x_step[1])      \
                ADD;                                                                         \
        }                                                                                    \
        EW_UNROLLED                                                                          \
        for (int32_t i = 0; i < COUNT; ++i)                                                  \
            sums[i] = s[i];                                                                  \
    }

#define EW_ALWAYS static inline __attribute__((always_inline))

/* One product for each of four columns; where `next` is known, loads need no addition. */
EW_ALWAYS void ew_add_columns(int32_t w, const int8_t *x, const int32_t next, int32_t *sums)
{
    EW_UNROLLED
    for (int32_t c = 0; c < EW_WIDE; ++c)
        sums[c] += w * x[c * next];
}

/* One row by columns: `n` products w[i w_step] x[c x_next + i x_step]. */
static inline ew_products ew_row_products(int32_t n, int32_t w_step, int32_t x_step, int32_t x_next)
{
    const ew_products p = {{1, 1, n}, {0, 0, w_step}, {0, 0, x_step}, 0, x_next};
    return p;
}

/* Who sums up tiles of one row and so many columns, if the last two loops have these steps, or the first two fewer. */
ew_products_sum ew_row_sum(const ew_products *p, int32_t columns);

/* The next sums of one row, of four columns or of one if no four are `left`: so many. */
int32_t ew_products_next(const ew_products *p, int32_t left, const int8_t *w, const int8_t *x, int32_t *sums);

#endif
