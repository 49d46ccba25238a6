#include "integers.h"
#include "numbers.h"
#include "rows.h"

/* -- filling, copying and casting ------------------------------------------------------------------------ */

static size_t item(ew_type type)
{
    return type == EW_I64 ? 8 : type == EW_F32 || type == EW_I32 ? 4 : 1;
}

void ew_fill(const ew_tensor *out, float value)
{
    ROWS (w, 1, out) {
        float *o = ew_floats(out, w.at[0]);
        for (int32_t i = 0; i < w.n; ++i, o += w.step[0])
            *o = value;
    }
}

/* An integer as it is stored in a type. */
static void put(void *to, ew_type type, int64_t value)
{
    const float real = (float)value;
    const int32_t word = (int32_t)value;
    const uint8_t byte = (uint8_t)value;
    if (type == EW_I64)
        __builtin_memcpy(to, &value, 8);
    else if (type == EW_F32)
        __builtin_memcpy(to, &real, 4);
    else if (type == EW_I32)
        __builtin_memcpy(to, &word, 4);
    else
        __builtin_memcpy(to, &byte, 1);
}

static int64_t get(const void *from, ew_type type)
{
    int64_t value;
    int32_t word;
    if (type == EW_I64) {
        __builtin_memcpy(&value, from, 8);
        return value;
    }
    if (type == EW_I32) {
        __builtin_memcpy(&word, from, 4);
        return word;
    }
    return type == EW_I8 ? *(const int8_t *)from : *(const uint8_t *)from;
}

void ew_fill_bytes(const ew_tensor *out, ew_type type, int64_t value)
{
    const size_t size = item(type);
    ROWS (w, 1, out) {
        char *o = (char *)out->data + (ptrdiff_t)size * w.at[0];
        for (int32_t i = 0; i < w.n; ++i, o += (ptrdiff_t)size * w.step[0])
            put(o, type, value);
    }
}

#define COPY_ROW(BYTES)                                                                                      \
    for (int32_t i = 0; i < n; ++i, o += (BYTES) * o_step, p += (BYTES) * p_step)                            \
        __builtin_memcpy(o, p, BYTES);

static void copy_row(char *o, const char *p, int32_t n, ptrdiff_t o_step, ptrdiff_t p_step, size_t size)
{
    if (o_step == 1 && p_step == 1)
        __builtin_memcpy(o, p, (size_t)n * size);
    else if (size == 4)
        COPY_ROW(4)
    else if (size == 8)
        COPY_ROW(8)
    else
        COPY_ROW(1)
}

void ew_copy(const ew_tensor *out, const ew_tensor *x, ew_type type)
{
    const size_t size = item(type);
    if (out->data == x->data)
        return; /* in place */
    ROWS (w, 2, out, x) {
        char *const o = (char *)out->data + (ptrdiff_t)size * w.at[0];
        const char *const p = (const char *)x->data + (ptrdiff_t)size * w.at[1];
        copy_row(o, p, w.n, w.step[0], w.step[1], size);
    }
}

/* Towards zero; what has no integer goes to the nearest one, and what is not a number to zero. */
static int64_t whole(float x)
{
    if (!(x == x))
        return 0;
    if (x >= 9223372036854775808.0f)
        return INT64_MAX;
    return x <= -9223372036854775808.0f ? INT64_MIN : (int64_t)x;
}

static void cast_one(char *o, ew_type to, const char *p, ew_type from)
{
    float x;
    if (from == EW_F32) {
        __builtin_memcpy(&x, p, 4);
        put(o, to, to == EW_U8 ? x != 0.0f : whole(x));
    } else {
        put(o, to, to == EW_U8 ? get(p, from) != 0 : get(p, from));
    }
}

void ew_cast(const ew_tensor *out, ew_type to, const ew_tensor *x, ew_type from)
{
    if (to == from) {
        ew_copy(out, x, to);
        return;
    }
    ROWS (w, 2, out, x) {
        char *o = (char *)out->data + (ptrdiff_t)item(to) * w.at[0];
        const char *p = (const char *)x->data + (ptrdiff_t)item(from) * w.at[1];
        for (int32_t i = 0; i < w.n; ++i) {
            cast_one(o, to, p, from);
            o += (ptrdiff_t)item(to) * w.step[0];
            p += (ptrdiff_t)item(from) * w.step[1];
        }
    }
}

/* -- one or two operands --------------------------------------------------------------------------------- */

BINARY(ew_add, (const ew_tensor *out, const ew_tensor *a, const ew_tensor *b, float alpha), u + alpha * v)
BINARY(ew_sub, (const ew_tensor *out, const ew_tensor *a, const ew_tensor *b, float alpha), u - alpha * v)
BINARY(ew_mul, (const ew_tensor *out, const ew_tensor *a, const ew_tensor *b), u * v)
BINARY(ew_div, (const ew_tensor *out, const ew_tensor *a, const ew_tensor *b), u / v)
BINARY(ew_pow, (const ew_tensor *out, const ew_tensor *a, const ew_tensor *b), ew_powf(u, v))
BINARY(ew_xlogy, (const ew_tensor *out, const ew_tensor *a, const ew_tensor *b),
       v != v     ? v
       : u == 0.0f ? 0.0f
                   : u * ew_logf(v))
/* What is not a number wins. */
BINARY(ew_maximum, (const ew_tensor *out, const ew_tensor *a, const ew_tensor *b), u > v || u != u ? u : v)
BINARY(ew_minimum, (const ew_tensor *out, const ew_tensor *a, const ew_tensor *b), u < v || u != u ? u : v)

UNARY(ew_add_scalar, (const ew_tensor *out, const ew_tensor *x, float s), v + s)
UNARY(ew_mul_scalar, (const ew_tensor *out, const ew_tensor *x, float s), v * s)
UNARY(ew_div_scalar, (const ew_tensor *out, const ew_tensor *x, float s), v / s)
UNARY(ew_rsub_scalar, (const ew_tensor *out, const ew_tensor *x, float s), s - v)
UNARY(ew_neg, (const ew_tensor *out, const ew_tensor *x), -v)
UNARY(ew_abs, (const ew_tensor *out, const ew_tensor *x), ew_absf(v))
UNARY(ew_sign, (const ew_tensor *out, const ew_tensor *x), (float)((v > 0.0f) - (v < 0.0f)))
UNARY(ew_exp, (const ew_tensor *out, const ew_tensor *x), ew_expf(v))
UNARY(ew_expm1, (const ew_tensor *out, const ew_tensor *x), ew_expm1f(v))
UNARY(ew_log, (const ew_tensor *out, const ew_tensor *x), ew_logf(v))
UNARY(ew_sqrt, (const ew_tensor *out, const ew_tensor *x), ew_sqrtf(v))
UNARY(ew_rsqrt, (const ew_tensor *out, const ew_tensor *x), 1.0f / ew_sqrtf(v))
UNARY(ew_reciprocal, (const ew_tensor *out, const ew_tensor *x), 1.0f / v)
UNARY(ew_log1p, (const ew_tensor *out, const ew_tensor *x), ew_log1pf(v))
UNARY(ew_erf, (const ew_tensor *out, const ew_tensor *x), ew_erff(v))
UNARY(ew_sin, (const ew_tensor *out, const ew_tensor *x), ew_sinf(v))
UNARY(ew_cos, (const ew_tensor *out, const ew_tensor *x), ew_cosf(v))

/* From 2^23 on there are only whole numbers. */
static float floor_of(float v)
{
    if (!(ew_absf(v) < 8388608.0f))
        return v;
    const float near = (float)(int32_t)v;
    return ew_with_sign(near > v ? near - 1.0f : near, v);
}

UNARY(ew_floor, (const ew_tensor *out, const ew_tensor *x), floor_of(v))

UNARY(ew_round, (const ew_tensor *out, const ew_tensor *x), ew_rounded(v))

static float clamped(float v, float low, float high)
{
    const float raised = v < low ? low : v;
    return raised > high ? high : raised;
}

UNARY(ew_clamp, (const ew_tensor *out, const ew_tensor *x, float low, float high), clamped(v, low, high))

static UNARY(square, (const ew_tensor *out, const ew_tensor *x), v * v)
static UNARY(cube, (const ew_tensor *out, const ew_tensor *x), v *v * v)
static UNARY(inverse_square, (const ew_tensor *out, const ew_tensor *x), 1.0f / (v * v))
static UNARY(power, (const ew_tensor *out, const ew_tensor *x, float s), ew_powf(v, s))

/* The exponents that have a cheaper way take it, as in ATen. */
void ew_pow_scalar(const ew_tensor *out, const ew_tensor *x, float s)
{
    if (s == 2.0f)
        square(out, x);
    else if (s == 3.0f)
        cube(out, x);
    else if (s == -2.0f)
        inverse_square(out, x);
    else if (s == 0.5f)
        ew_sqrt(out, x);
    else if (s == -0.5f)
        ew_rsqrt(out, x);
    else if (s == -1.0f)
        ew_reciprocal(out, x);
    else
        power(out, x, s);
}

/* -- comparing and choosing ------------------------------------------------------------------------------ */

/* What a relation says of two numbers; `none` of those that have no order. */
typedef struct {
    uint8_t less, equal, more, none;
} answers;

static answers answers_of(ew_relation r)
{
    const answers found = {r == EW_LT || r == EW_LE || r == EW_NE, r == EW_EQ || r == EW_LE || r == EW_GE,
                           r == EW_GT || r == EW_GE || r == EW_NE, r == EW_NE};
    return found;
}

static void compare_floats(uint8_t *out, const float *a, const float *b, const ew_walk *w, answers of)
{
    const int32_t n = w->n, step = w->step[0], a_step = w->step[1], b_step = w->step[2];
    for (int32_t i = 0; i < n; ++i, out += step, a += a_step, b += b_step)
        *out = *a < *b ? of.less : *a > *b ? of.more : *a == *b ? of.equal : of.none;
}

static void compare_integers(uint8_t *out, const char *a, const char *b, ew_type type, const ew_walk *w, answers of)
{
    const ptrdiff_t size = (ptrdiff_t)item(type);
    for (int32_t i = 0; i < w->n; ++i, out += w->step[0], a += size * w->step[1], b += size * w->step[2]) {
        const int64_t u = get(a, type), v = get(b, type);
        *out = u < v ? of.less : u > v ? of.more : of.equal;
    }
}

void ew_compare(const ew_tensor *out, const ew_tensor *a, const ew_tensor *b, ew_type type, ew_relation r)
{
    const ptrdiff_t size = (ptrdiff_t)item(type);
    const answers of = answers_of(r);
    ROWS (w, 3, out, a, b) {
        uint8_t *const o = (uint8_t *)out->data + w.at[0];
        if (type == EW_F32)
            compare_floats(o, ew_floats(a, w.at[1]), ew_floats(b, w.at[2]), &w, of);
        else
            compare_integers(o, (const char *)a->data + size * w.at[1], (const char *)b->data + size * w.at[2], type, &w,
                             of);
    }
}

void ew_compare_scalar(const ew_tensor *out, const ew_tensor *a, ew_type type, double s, ew_relation r)
{
    int64_t number[1];
    ew_tensor scalar = *out;
    const float real = (float)s;
    if (type == EW_F32)
        __builtin_memcpy(number, &real, 4);
    else
        put(number, type, (int64_t)s);
    scalar.data = number;
    for (int32_t d = 0; d < scalar.dims; ++d)
        scalar.stride[d] = 0;
    ew_compare(out, a, &scalar, type, r);
}

void ew_where(const ew_tensor *out, const ew_tensor *condition, const ew_tensor *a, const ew_tensor *b)
{
    ROWS (w, 4, out, condition, a, b) {
        float *const o = ew_floats(out, w.at[0]);
        const uint8_t *const c = (const uint8_t *)condition->data + w.at[1];
        const float *const p = ew_floats(a, w.at[2]), *const q = ew_floats(b, w.at[3]);
        for (int32_t i = 0; i < w.n; ++i)
            o[i * w.step[0]] = c[i * w.step[1]] != 0 ? p[i * w.step[2]] : q[i * w.step[3]];
    }
}

void ew_masked_fill(const ew_tensor *out, const ew_tensor *x, const ew_tensor *mask, float value)
{
    ROWS (w, 3, out, x, mask) {
        float *const o = ew_floats(out, w.at[0]);
        const float *const p = ew_floats(x, w.at[1]);
        const uint8_t *const m = (const uint8_t *)mask->data + w.at[2];
        for (int32_t i = 0; i < w.n; ++i)
            o[i * w.step[0]] = m[i * w.step[2]] != 0 ? value : p[i * w.step[1]];
    }
}

void ew_masked_scale(const ew_tensor *out, const ew_tensor *x, const ew_tensor *mask, float scale)
{
    ROWS (w, 3, out, x, mask) {
        float *const o = ew_floats(out, w.at[0]);
        const float *const p = ew_floats(x, w.at[1]);
        const uint8_t *const m = (const uint8_t *)mask->data + w.at[2];
        for (int32_t i = 0; i < w.n; ++i)
            o[i * w.step[0]] = p[i * w.step[1]] * (float)m[i * w.step[2]] * scale;
    }
}

#define MASKS(NAME, EXPRESSION)                                                                              \
    void NAME(const ew_tensor *out, const ew_tensor *a, const ew_tensor *b)                                  \
    {                                                                                                        \
        ROWS(w, 3, out, a, b)                                                                                \
        {                                                                                                    \
            uint8_t *const o = (uint8_t *)out->data + w.at[0];                                               \
            const uint8_t *const p = (const uint8_t *)a->data + w.at[1];                                     \
            const uint8_t *const q = (const uint8_t *)b->data + w.at[2];                                     \
            for (int32_t i = 0; i < w.n; ++i) {                                                              \
                const uint8_t u = p[i * w.step[1]], v = q[i * w.step[2]];                                    \
                o[i * w.step[0]] = (EXPRESSION);                                                             \
            }                                                                                                \
        }                                                                                                    \
    }

MASKS(ew_logical_and, u != 0 && v != 0)
MASKS(ew_logical_or, u != 0 || v != 0)

void ew_logical_not(const ew_tensor *out, const ew_tensor *x)
{
    ROWS (w, 2, out, x) {
        uint8_t *const o = (uint8_t *)out->data + w.at[0];
        const uint8_t *const p = (const uint8_t *)x->data + w.at[1];
        for (int32_t i = 0; i < w.n; ++i)
            o[i * w.step[0]] = p[i * w.step[1]] == 0;
    }
}

/* Row i of the last but one dim: kept are `left` columns from `kept` on, and the others are zero. */
static EW_APART void triangle_row(const ew_tensor *out, const ew_tensor *x, ew_type type, int32_t i,
                                  int32_t kept, int32_t left)
{
    const int32_t rows = out->dims - 2, width = out->size[rows + 1];
    const ew_tensor o = ew_narrow(out, rows, i, 1, item(type)), p = ew_narrow(x, rows, i, 1, item(type));
    ew_tensor to = ew_narrow(&o, rows + 1, kept, left, item(type));
    const ew_tensor from = ew_narrow(&p, rows + 1, kept, left, item(type));
    ew_copy(&to, &from, type);
    to = ew_narrow(&o, rows + 1, kept > 0 ? 0 : left, width - left, item(type));
    ew_fill_bytes(&to, type, 0);
}

void ew_triangle(const ew_tensor *out, const ew_tensor *x, ew_type type, int32_t diagonal, int upper)
{
    const int32_t rows = out->dims - 2, width = out->size[rows + 1];
    for (int32_t i = 0; i < out->size[rows]; ++i) {
        const int32_t edge = ew_max(0, ew_min(width, i + diagonal + (upper ? 0 : 1)));
        triangle_row(out, x, type, i, upper ? edge : 0, upper ? width - edge : edge);
    }
}
