/* Integers that count and index, and what they pick. */
#include "numbers.h"
#include "rows.h"

void ew_arange(const ew_tensor *out, int64_t start, int64_t step)
{
    for (int32_t i = 0; i < out->size[0]; ++i)
        ((int64_t *)out->data)[i * out->stride[0]] = start + i * step;
}

void ew_ramp(const ew_tensor *out, float start, float step)
{
    for (int32_t i = 0; i < out->size[0]; ++i)
        *ew_floats(out, i * out->stride[0]) = start + (float)i * step;
}

void ew_add_scalar_i64(const ew_tensor *out, const ew_tensor *x, int64_t s)
{
    ROWS (w, 2, out, x) {
        for (int32_t i = 0; i < w.n; ++i)
            ((int64_t *)out->data)[w.at[0] + i * w.step[0]] =
                ((const int64_t *)x->data)[w.at[1] + i * w.step[1]] + s;
    }
}

/* One element, or what stands for one that is not there (`from` is below 0). */
static void pick(const ew_tensor *out, int32_t to, const ew_tensor *x, int32_t from, ew_type type)
{
    if (type == EW_I64)
        ((int64_t *)out->data)[to] = from < 0 ? -1 : ((const int64_t *)x->data)[from];
    else
        *ew_floats(out, to) = from < 0 ? ew_float(0x7fc00000u) : *ew_floats(x, from);
}

/* All of one or two indices, with the other tensor of their shape, and the elements of `table` that index 0
 * would point to. */
typedef struct {
    ew_walk w;
    const ew_tensor *table, *indices[2];
    int32_t count, dim;
} pointers;

static void begin(pointers *p, const ew_tensor *table, int32_t dim, const ew_tensor *index,
                  const ew_tensor *second, const ew_tensor *other)
{
    ew_tensor heads = *table;
    const ew_tensor *const operands[] = {index, other, &heads, second};
    p->table = table;
    p->indices[0] = index;
    p->indices[1] = second;
    p->count = second == NULL ? 1 : 2;
    p->dim = dim;
    for (int32_t i = 0; i < p->count; ++i)
        heads.stride[dim + i] = 0;
    ew_walk_begin_in_order(&p->w, 2 + p->count, operands);
}

/* Where the indices point to in the table, or -1. */
static int32_t target(const pointers *p)
{
    int32_t at = ew_walk_at(&p->w, 2);
    for (int32_t i = 0; i < p->count; ++i) {
        const int64_t index = ((const int64_t *)p->indices[i]->data)[ew_walk_at(&p->w, i == 0 ? 0 : 3)];
        if (index < 0 || index >= p->table->size[p->dim + i])
            return -1;
        at += (int32_t)index * p->table->stride[p->dim + i];
    }
    return at;
}

void ew_gather(const ew_tensor *out, const ew_tensor *x, ew_type type, int32_t dim, const ew_tensor *index,
               const ew_tensor *second)
{
    pointers p;
    for (begin(&p, x, dim, index, second, out); p.w.n > 0; ew_walk_step(&p.w))
        pick(out, ew_walk_at(&p.w, 1), x, target(&p), type);
}

void ew_scatter(const ew_tensor *out, int32_t dim, const ew_tensor *index, const ew_tensor *second,
                const ew_tensor *x, int add)
{
    pointers p;
    for (begin(&p, out, dim, index, second, x); p.w.n > 0; ew_walk_step(&p.w)) {
        const int32_t at = target(&p);
        const float v = *ew_floats(x, ew_walk_at(&p.w, 1));
        if (at >= 0)
            *ew_floats(out, at) = add ? *ew_floats(out, at) + v : v;
    }
}
