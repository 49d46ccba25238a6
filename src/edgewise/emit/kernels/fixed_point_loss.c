/* Cross entropy in integers: log2 of the sum over classes of 2^(l_j - l_y), by tables and straight lines between. */
#include "fixed_point_loss.h"

#include "fixed_point.h"

#define UNIT_BITS 20
#define STEP_BITS 12 /* between entries of the tables */
#define SUM_BITS 30  /* behind the point of the powers that are added up */
#define ONE ((int64_t)1 << UNIT_BITS)

static int64_t between(int64_t low, int64_t high, int64_t fraction)
{
    const int64_t rest = fraction & ((1 << STEP_BITS) - 1);
    return low + (((high - low) * rest + (1 << (STEP_BITS - 1))) >> STEP_BITS);
}

/* 2^-below in units of 2^-30. */
static int64_t power_of(int64_t below)
{
    const int64_t limited = below > 40 * ONE ? 40 * ONE : below, whole = (limited + ONE - 1) >> UNIT_BITS;
    const int64_t fraction = (whole << UNIT_BITS) - limited, i = fraction >> STEP_BITS;
    return between(powers[i], powers[i + 1], fraction) >> whole;
}

/* log2(total / 2^30); `total` is at least 2^30. */
static int64_t logarithm_of(int64_t total)
{
    int32_t exponent = 0;
    while (total >> (exponent + 1) >= (int64_t)1 << SUM_BITS)
        ++exponent;
    const int64_t fraction = ((total >> exponent) - ((int64_t)1 << SUM_BITS)) >> (SUM_BITS - UNIT_BITS);
    const int64_t i = fraction >> STEP_BITS;
    return exponent * ONE + between(logarithms[i], logarithms[i + 1], fraction);
}

int64_t ew_entropy(const int32_t *logits, int32_t classes, int64_t target, const ew_factor *f)
{
    int64_t top = ew_times_factor(logits[0], f), total = 0;
    for (int32_t c = 1; c < classes; ++c) {
        const int64_t units = ew_times_factor(logits[c], f);
        top = units > top ? units : top;
    }
    for (int32_t c = 0; c < classes; ++c)
        total += power_of(top - ew_times_factor(logits[c], f));
    return logarithm_of(total) + top - ew_times_factor(logits[target], f);
}

void ew_integer_cross_entropy(const ew_tensor *loss, const ew_tensor *logits, const ew_tensor *targets,
                              const ew_factor *f)
{
    int64_t total = 0;
    for (int32_t row = 0; row < logits->size[0]; ++row)
        total += ew_entropy(ew_words(logits, row * logits->size[1]), logits->size[1],
                            ((const int64_t *)targets->data)[row * targets->stride[0]], f);
    *(int64_t *)loss->data = total;
}

static int8_t sign_of(int64_t x)
{
    return (int8_t)((x > 0) - (x < 0));
}

void ew_integer_sign(const ew_tensor *out, const ew_tensor *a, const ew_tensor *b)
{
    *ew_bytes(out, 0) = sign_of(*(const int64_t *)a->data - *(const int64_t *)b->data);
}

void ew_integer_real(const ew_tensor *out, const ew_tensor *x, double scale)
{
    *ew_floats(out, 0) = (float)((double)*(const int64_t *)x->data * scale);
}

/* -- all directions of a linear head ------------------------------------------------------------------------------ */

typedef struct {
    const ew_tensor *x, *w, *b, *targets;
    ew_type type;
    ew_drawn of_w, of_b;
    const ew_probe_settings *s;
    int32_t samples, classes, features;
    int32_t *at_w, *change, *logits; /* [samples, classes] twice, and [classes] */
} probe;

/* What the weights, or their move along a direction, make of all samples. */
static void multiply(const probe *p)
{
    for (int32_t row = 0; row < p->samples; ++row)
        for (int32_t c = 0; c < p->classes; ++c)
            p->at_w[row * p->classes + c] = ew_weighted(ew_bytes(p->x, row * p->features), 1, p->w, p->type,
                                                        c * p->features, p->features);
}

static void multiply_move(const probe *p, int32_t direction)
{
    const int32_t count = p->classes * p->features;
    int8_t z[EW_DRAWN];
    for (int32_t i = 0; i < p->samples * p->classes; ++i)
        p->change[i] = 0;
    for (int32_t i = 0; p->s->rates[0].m != 0 && i < count; ++i) {
        if (i % EW_DRAWN == 0)
            ew_draw(z, ew_min(EW_DRAWN, count - i), (uint32_t)i, direction, &p->of_w);
        const int32_t move = ew_move_of(z[i % EW_DRAWN], &p->s->rates[0]);
        for (int32_t row = 0; row < p->samples; ++row)
            p->change[row * p->classes + i / p->features] +=
                move * *ew_bytes(p->x, row * p->features + i % p->features);
    }
}

static int32_t offset_of(const probe *p, int32_t c, int32_t direction, int32_t sign)
{
    int8_t z[EW_DRAWN];
    int32_t own = ew_weight(p->b, p->type, c);
    if (p->s->rates[1].m != 0) {
        ew_draw(z, c % EW_DRAWN + 1, (uint32_t)(c / EW_DRAWN * EW_DRAWN), direction, &p->of_b);
        own += sign * ew_move_of(z[c % EW_DRAWN], &p->s->rates[1]);
    }
    return (int32_t)ew_times_factor(own, &p->s->bias);
}

static int64_t loss_of(const probe *p, int32_t direction, int32_t sign)
{
    int64_t total = 0;
    for (int32_t row = 0; row < p->samples; ++row) {
        for (int32_t c = 0; c < p->classes; ++c) {
            const int32_t at = row * p->classes + c;
            p->logits[c] = p->at_w[at] + sign * p->change[at];
            if (p->b != NULL)
                p->logits[c] += offset_of(p, c, direction, sign);
        }
        total += ew_entropy(p->logits, p->classes, ((const int64_t *)p->targets->data)[row], &p->s->logits);
    }
    return total;
}

void ew_probe(const ew_tensor *signs, const ew_tensor *losses, const ew_tensor *x, const ew_tensor *w,
              const ew_tensor *b, ew_type type, const ew_tensor *targets, const ew_tensor *kept_w,
              const ew_tensor *last_w, const ew_integer_directions *d_w, const ew_tensor *kept_b,
              const ew_tensor *last_b, const ew_integer_directions *d_b, const ew_probe_settings *s, void *room)
{
    const int32_t directions = signs->size[0], cells = x->size[0] * w->size[0];
    int32_t *const at_w = room;
    probe p = {x, w, b, targets, type, ew_drawn_of(d_w, kept_w, last_w, 0), ew_drawn_of(d_b, kept_b, last_b, 0),
               s, x->size[0], w->size[0], w->size[1], at_w, at_w + cells, at_w + 2 * cells};
    int64_t total = 0;
    multiply(&p);
    for (int32_t i = 0; i < directions; ++i) {
        multiply_move(&p, i);
        const int64_t plus = loss_of(&p, i, 1), minus = loss_of(&p, i, -1);
        *ew_bytes(signs, i) = sign_of(plus - minus);
        total += plus + minus;
    }
    *(int64_t *)losses->data = total;
}
