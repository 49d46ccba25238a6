/* Private to the kernels: functions that do the same to every element. `v` (and `u`) are the operands'
 * elements in EXPRESSION; dense rows have a loop of their own, since a compiler can do more with it. */
#ifndef EW_ROWS_H
#define EW_ROWS_H

#include "walk.h"

/* for (all rows of N tensors) */
#define ROWS(W, N, ...)                                                                                      \
    const ew_tensor *const operands[] = {__VA_ARGS__};                                                       \
    ew_walk W;                                                                                               \
    for (ew_walk_begin(&W, N, operands); W.n > 0; ew_walk_next(&W))

/* out = EXPRESSION(v of x) */
#define UNARY(NAME, PARAMETERS, EXPRESSION)                                                                  \
    void NAME PARAMETERS                                                                                     \
    {                                                                                                        \
        const ew_tensor *const operands[] = {out, x};                                                        \
        ew_walk w;                                                                                           \
        for (ew_walk_begin(&w, 2, operands); w.n > 0; ew_walk_next(&w)) {                                    \
            float *const o = ew_floats(out, w.at[0]);                                                        \
            const float *const p = ew_floats(x, w.at[1]);                                                    \
            const int32_t os = w.step[0], ps = w.step[1];                                                    \
            if (os == 1 && ps == 1)                                                                          \
                for (int32_t i = 0; i < w.n; ++i) {                                                          \
                    const float v = p[i];                                                                    \
                    o[i] = (EXPRESSION);                                                                     \
                }                                                                                            \
            else                                                                                             \
                for (int32_t i = 0; i < w.n; ++i) {                                                          \
                    const float v = p[i * ps];                                                               \
                    o[i * os] = (EXPRESSION);                                                                \
                }                                                                                            \
        }                                                                                                    \
    }

/* out = EXPRESSION(u of a, v of b) */
#define BINARY(NAME, PARAMETERS, EXPRESSION)                                                                 \
    void NAME PARAMETERS                                                                                     \
    {                                                                                                        \
        const ew_tensor *const operands[] = {out, a, b};                                                     \
        ew_walk w;                                                                                           \
        for (ew_walk_begin(&w, 3, operands); w.n > 0; ew_walk_next(&w)) {                                    \
            float *const o = ew_floats(out, w.at[0]);                                                        \
            const float *const p = ew_floats(a, w.at[1]), *const q = ew_floats(b, w.at[2]);                  \
            const int32_t os = w.step[0], ps = w.step[1], qs = w.step[2];                                    \
            if (os == 1 && ps == 1 && qs == 1)                                                               \
                for (int32_t i = 0; i < w.n; ++i) {                                                          \
                    const float u = p[i], v = q[i];                                                          \
                    o[i] = (EXPRESSION);                                                                     \
                }                                                                                            \
            else                                                                                             \
                for (int32_t i = 0; i < w.n; ++i) {                                                          \
                    const float u = p[i * ps], v = q[i * qs];                                                \
                    o[i * os] = (EXPRESSION);                                                                \
                }                                                                                            \
        }                                                                                                    \
    }

#endif
