#include "walk.h"

/* Dims of more than one element; n is 0 if there are no elements at all. */
static void gather(ew_walk *w, int32_t operands, const ew_tensor *const *tensors)
{
    const ew_tensor *const first = tensors[0];
    w->n = 1;
    w->i = 0;
    w->dims = 0;
    w->operands = operands;
    for (int32_t i = 0; i < operands; ++i)
        w->at[i] = w->step[i] = 0;
    for (int32_t d = 0; d < first->dims; ++d) {
        if (first->size[d] <= 0)
            w->n = 0;
        if (first->size[d] <= 1)
            continue;
        w->size[w->dims] = first->size[d];
        for (int32_t i = 0; i < operands; ++i)
            w->stride[w->dims][i] = tensors[i]->stride[d];
        ++w->dims;
    }
}

static void swap(ew_walk *w, int32_t d)
{
    const int32_t size = w->size[d];
    w->size[d] = w->size[d + 1];
    w->size[d + 1] = size;
    for (int32_t i = 0; i < w->operands; ++i) {
        const int32_t stride = w->stride[d][i];
        w->stride[d][i] = w->stride[d + 1][i];
        w->stride[d + 1][i] = stride;
    }
}

/* The dim with the smallest step in the first operand goes last. */
static void sort(ew_walk *w)
{
    for (int32_t end = 1; end < w->dims; ++end)
        for (int32_t d = end - 1; d >= 0 && w->stride[d][0] < w->stride[d + 1][0]; --d)
            swap(w, d);
}

/* Whether dim d continues dim `before` in all operands. */
static int mergeable(const ew_walk *w, int32_t before, int32_t d)
{
    for (int32_t i = 0; i < w->operands; ++i)
        if (w->stride[before][i] != w->stride[d][i] * w->size[d])
            return 0;
    return 1;
}

/* Neighbouring dims that are one in all operands become one. */
static void merge(ew_walk *w)
{
    int32_t last = 0;
    for (int32_t d = 1; d < w->dims; ++d) {
        const int one = mergeable(w, last, d);
        last += !one;
        w->size[last] = one ? w->size[last] * w->size[d] : w->size[d];
        if (last < d)
            __builtin_memcpy(w->stride[last], w->stride[d], sizeof w->stride[d]);
    }
    w->dims = ew_min(w->dims, last + 1);
}

/* The last dim becomes the row. */
static void start(ew_walk *w)
{
    merge(w);
    if (w->dims > 0 && w->n > 0) {
        --w->dims;
        w->n = w->size[w->dims];
        __builtin_memcpy(w->step, w->stride[w->dims], sizeof w->step);
    }
    for (int32_t d = 0; d < w->dims; ++d)
        w->count[d] = 0;
}

void ew_walk_begin(ew_walk *w, int32_t operands, const ew_tensor *const *tensors)
{
    gather(w, operands, tensors);
    sort(w);
    start(w);
}

void ew_walk_begin_in_order(ew_walk *w, int32_t operands, const ew_tensor *const *tensors)
{
    gather(w, operands, tensors);
    start(w);
}

void ew_walk_next(ew_walk *w)
{
    for (int32_t d = w->dims - 1; d >= 0; --d) {
        const int more = ++w->count[d] < w->size[d];
        const int32_t steps = more ? 1 : 1 - w->size[d];
        for (int32_t i = 0; i < w->operands; ++i)
            w->at[i] += steps * w->stride[d][i];
        if (more)
            return;
        w->count[d] = 0;
    }
    w->n = 0;
}

ew_tensor ew_narrow(const ew_tensor *t, int32_t dim, int32_t start, int32_t length, size_t item)
{
    ew_tensor part = *t;
    part.data = (char *)t->data + (ptrdiff_t)item * start * t->stride[dim];
    part.size[dim] = length;
    return part;
}

ew_tensor ew_select(const ew_tensor *t, int32_t dim, int32_t index, size_t item)
{
    ew_tensor part = ew_narrow(t, dim, index, 1, item);
    --part.dims;
    for (int32_t d = dim; d < part.dims; ++d) {
        part.size[d] = t->size[d + 1];
        part.stride[d] = t->stride[d + 1];
    }
    return part;
}
