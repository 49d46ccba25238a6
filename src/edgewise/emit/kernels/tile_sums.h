/* Private to tile.c and tile_i8.c: the sums of a tile whose weights are of the type EW_WEIGHT. */
#include "tile.h"

#define NUMBER(W) ((float)(W))

#define LOOPS(...)                                                                      \
    for (int32_t i = 0; i < t->n[0]; ++i, w += t->w_step[0], x += t->x_step[0]) {       \
        const EW_WEIGHT *w1 = w;                                                        \
        const float *x1 = x;                                                            \
        for (int32_t j = 0; j < t->n[1]; ++j, w1 += t->w_step[1], x1 += t->x_step[1]) { \
            const EW_WEIGHT *p = w1;                                                    \
            const float *q = x1;                                                        \
            for (int32_t k = t->n[2]; k > 0; --k, p += w_step, q += x_step) {           \
                __VA_ARGS__                                                             \
            }                                                                           \
        }                                                                               \
    }

#define ROW_4(S, W) \
    v = NUMBER(W);  \
    S##0 += v * q0; \
    S##1 += v * q1; \
    S##2 += v * q2; \
    S##3 += v * q3;

#define ROW_2(S, W) \
    v = NUMBER(W);  \
    S##0 += v * q0; \
    S##1 += v * q1;

#define KEEP_4(S, R) \
    sums[4 * R] = S##0, sums[4 * R + 1] = S##1, sums[4 * R + 2] = S##2, sums[4 * R + 3] = S##3
#define KEEP_2(S, R) sums[4 * R] = S##0, sums[4 * R + 1] = S##1

#define ALWAYS static inline __attribute__((always_inline))

/* `next` is the step between columns; where it is known to be 1, loads need no addition. */
ALWAYS void sums_4x4(const ew_tile *t, const EW_WEIGHT *w, const float *x, float *sums, const int32_t next)
{
    const int32_t w_step = t->w_step[2], x_step = t->x_step[2], row = t->w_next;
    float a0 = 0, a1 = 0, a2 = 0, a3 = 0, b0 = 0, b1 = 0, b2 = 0, b3 = 0;
    float c0 = 0, c1 = 0, c2 = 0, c3 = 0, d0 = 0, d1 = 0, d2 = 0, d3 = 0;
    LOOPS(const float q0 = q[0], q1 = q[next], q2 = q[2 * next], q3 = q[3 * next]; float v;
          ROW_4(a, p[0]) ROW_4(b, p[row]) ROW_4(c, p[2 * row]) ROW_4(d, p[3 * row]))
    KEEP_4(a, 0), KEEP_4(b, 1), KEEP_4(c, 2), KEEP_4(d, 3);
}

ALWAYS void sums_4x2(const ew_tile *t, const EW_WEIGHT *w, const float *x, float *sums, const int32_t next)
{
    const int32_t w_step = t->w_step[2], x_step = t->x_step[2], row = t->w_next;
    float a0 = 0, a1 = 0, b0 = 0, b1 = 0, c0 = 0, c1 = 0, d0 = 0, d1 = 0;
    LOOPS(const float q0 = q[0], q1 = q[next]; float v;
          ROW_2(a, p[0]) ROW_2(b, p[row]) ROW_2(c, p[2 * row]) ROW_2(d, p[3 * row]))
    KEEP_2(a, 0), KEEP_2(b, 1), KEEP_2(c, 2), KEEP_2(d, 3);
}

ALWAYS void sums_1x4(const ew_tile *t, const EW_WEIGHT *w, const float *x, float *sums, const int32_t next)
{
    const int32_t w_step = t->w_step[2], x_step = t->x_step[2];
    float a0 = 0, a1 = 0, a2 = 0, a3 = 0;
    LOOPS(const float q0 = q[0], q1 = q[next], q2 = q[2 * next], q3 = q[3 * next]; float v; ROW_4(a, p[0]))
    KEEP_4(a, 0);
}

ALWAYS void sums_1x2(const ew_tile *t, const EW_WEIGHT *w, const float *x, float *sums, const int32_t next)
{
    const int32_t w_step = t->w_step[2], x_step = t->x_step[2];
    float a0 = 0, a1 = 0;
    LOOPS(const float q0 = q[0], q1 = q[next]; float v; ROW_2(a, p[0]))
    KEEP_2(a, 0);
}

static void sums_4x1(const ew_tile *t, const EW_WEIGHT *w, const float *x, float *sums)
{
    const int32_t w_step = t->w_step[2], x_step = t->x_step[2], row = t->w_next;
    float a = 0, b = 0, c = 0, d = 0;
    LOOPS(const float v = q[0]; a += v * NUMBER(p[0]); b += v * NUMBER(p[row]); c += v * NUMBER(p[2 * row]); d += v * NUMBER(p[3 * row]);)
    sums[0] = a, sums[4] = b, sums[8] = c, sums[12] = d;
}

static void sums_1x1(const ew_tile *t, const EW_WEIGHT *w, const float *x, float *sums)
{
    const int32_t w_step = t->w_step[2], x_step = t->x_step[2];
    float a = 0;
    LOOPS(a += NUMBER(p[0]) * q[0];)
    sums[0] = a;
}

static void sums_of(const ew_tile *t, int32_t rows, int32_t columns, const EW_WEIGHT *w, const float *x, float *sums)
{
    if (columns == 1)
        rows == 1 ? sums_1x1(t, w, x, sums) : sums_4x1(t, w, x, sums);
    else if (columns == 2 && rows == 1)
        sums_1x2(t, w, x, sums, t->x_next);
    else if (columns == 2)
        t->x_next == 1 ? sums_4x2(t, w, x, sums, 1) : sums_4x2(t, w, x, sums, t->x_next);
    else if (rows == 1)
        t->x_next == 1 ? sums_1x4(t, w, x, sums, 1) : sums_1x4(t, w, x, sums, t->x_next);
    else
        t->x_next == 1 ? sums_4x4(t, w, x, sums, 1) : sums_4x4(t, w, x, sums, t->x_next);
}
