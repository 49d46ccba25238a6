/* Private to the kernels: how tensors of one shape are gone through together, and how long sums are taken. */
#ifndef EW_WALK_H
#define EW_WALK_H

#include "ew.h"

#define EW_OPERANDS 5

/* A function whose frame is not to become part of its caller's. */
#define EW_APART __attribute__((noinline))

/* The elements of a few tensors of one shape, as rows of `n`; n is 0 at the end. Row by row, `at` says
 * where the row begins in each operand and `step` how far apart neighbours are, in elements. */
typedef struct {
    int32_t n;
    int32_t i; /* the element of the row where ew_walk_step is */
    int32_t at[EW_OPERANDS];
    int32_t step[EW_OPERANDS];
    int32_t operands, dims;
    int32_t count[EW_DIMS];
    int32_t size[EW_DIMS];
    int32_t stride[EW_DIMS][EW_OPERANDS];
} ew_walk;

/* In the order in which the first tensor lies in memory: for what may be done in any order. */
void ew_walk_begin(ew_walk *w, int32_t operands, const ew_tensor *const *tensors);
/* In the order of the indices, the last one fastest: the same order, whatever the strides. */
void ew_walk_begin_in_order(ew_walk *w, int32_t operands, const ew_tensor *const *tensors);
void ew_walk_next(ew_walk *w);

/* Element by element instead: where the element lies in an operand, and on to the next one. */
static inline int32_t ew_walk_at(const ew_walk *w, int32_t operand)
{
    return w->at[operand] + w->i * w->step[operand];
}

static inline void ew_walk_step(ew_walk *w)
{
    if (++w->i < w->n)
        return;
    w->i = 0;
    ew_walk_next(w);
}

/* Tensors that look at a part of `t`: without one dim, at `index` of it; or some of a dim. */
ew_tensor ew_select(const ew_tensor *t, int32_t dim, int32_t index, size_t item);
ew_tensor ew_narrow(const ew_tensor *t, int32_t dim, int32_t start, int32_t length, size_t item);

static inline float *ew_floats(const ew_tensor *t, int32_t at)
{
    return (float *)t->data + at;
}

static inline int32_t ew_min(int32_t a, int32_t b)
{
    return a < b ? a : b;
}

static inline int32_t ew_max(int32_t a, int32_t b)
{
    return a > b ? a : b;
}

/* Of `count` positions, `step` apart from `at` on, those that lie in a row of `size`: taps of a window, or windows. */
static inline void ew_within(int32_t at, int32_t step, int32_t count, int32_t size, int32_t *from, int32_t *to)
{
    *from = at < 0 ? ew_min((-at + step - 1) / step, count) : 0;
    *to = at >= size ? 0 : ew_min((size - 1 - at) / step + 1, count);
    *to = ew_max(*to, *from);
}

static inline uint32_t ew_bits(float x)
{
    uint32_t bits;
    __builtin_memcpy(&bits, &x, sizeof bits);
    return bits;
}

static inline float ew_float(uint32_t bits)
{
    float x;
    __builtin_memcpy(&x, &bits, sizeof x);
    return x;
}

/* A long sum: blocks of EW_BLOCK terms one after another, and the blocks' sums with their rounding errors
 * kept (Neumaier, ZAMM 54, 1974), so that the error does not grow with the number of terms. */
#define EW_BLOCK 64

typedef struct {
    float sum, rest, block;
    int32_t left; /* terms until the block is full */
} ew_total;

static inline void ew_total_begin(ew_total *t)
{
    t->sum = t->rest = t->block = 0.0f;
    t->left = EW_BLOCK;
}

/* sum + rest becomes sum + rest + x. */
static inline void ew_add_exactly(float *sum, float *rest, float x)
{
    const float s = *sum + x, a = s - x;
    *rest += (*sum - a) + (x - (s - a));
    *sum = s;
}

/* What an infinite sum lost is not a number, and does not count. */
static inline float ew_join(float sum, float rest)
{
    return rest == rest ? sum + rest : sum;
}

static inline void ew_total_flush(ew_total *t)
{
    ew_add_exactly(&t->sum, &t->rest, t->block);
    t->block = 0.0f;
    t->left = EW_BLOCK;
}

static inline float ew_total_end(ew_total *t)
{
    ew_total_flush(t);
    return ew_join(t->sum, t->rest);
}

static inline void ew_total_add(ew_total *t, float term)
{
    t->block += term;
    if (--t->left == 0)
        ew_total_flush(t);
}

#endif
