#include "numbers.h"
#include "rows.h"
#include "sums.h"

/* -- negative log likelihood ----------------------------------------------------------------------------- */

/* All targets: [n] or [n, h, w], with logp [n, c] or [n, c, h, w] seen without its classes. */
typedef struct {
    ew_walk w;
    int32_t classes, class_step;
} targets;

static void begin(targets *t, const ew_tensor *target, const ew_tensor *logp, const ew_tensor *other)
{
    const ew_tensor places = ew_select(logp, 1, 0, sizeof(float));
    const ew_tensor *const operands[] = {target, &places, other};
    t->classes = logp->size[1];
    t->class_step = logp->stride[1];
    ew_walk_begin_in_order(&t->w, other == NULL ? 2 : 3, operands);
}

static int64_t class_of(const targets *t, const ew_tensor *target)
{
    return ((const int64_t *)target->data)[ew_walk_at(&t->w, 0)];
}

static float weight_of(const targets *t, const ew_tensor *w, int64_t class)
{
    if (class < 0 || class >= t->classes)
        return ew_float(0x7fc00000u); /* there is no such class: the loss is not a number */
    return w == NULL ? 1.0f : *ew_floats(w, (int32_t)class * w->stride[0]);
}

static float likelihood_of(const targets *t, const ew_tensor *logp, int64_t class)
{
    return class < 0 || class >= t->classes
               ? 0.0f
               : *ew_floats(logp, ew_walk_at(&t->w, 1) + (int32_t)class * t->class_step);
}

void ew_nll_loss(const ew_tensor *loss, const ew_tensor *total, const ew_tensor *logp,
                 const ew_tensor *target, const ew_tensor *w, ew_reduction reduction, int64_t ignore_index)
{
    ew_total sum, weights;
    targets t;
    ew_total_begin(&sum);
    ew_total_begin(&weights);
    for (begin(&t, target, logp, reduction == EW_NONE ? loss : NULL); t.w.n > 0; ew_walk_step(&t.w)) {
        const int64_t class = class_of(&t, target);
        const float weight = class == ignore_index ? 0.0f : weight_of(&t, w, class);
        const float term = class == ignore_index ? 0.0f : -(weight * likelihood_of(&t, logp, class));
        if (reduction == EW_NONE) {
            *ew_floats(loss, ew_walk_at(&t.w, 2)) = term;
            continue;
        }
        ew_total_add(&sum, term);
        ew_total_add(&weights, weight);
    }
    const float all = ew_total_end(&weights), result = ew_total_end(&sum);
    if (total != NULL)
        *ew_floats(total, 0) = all;
    if (reduction != EW_NONE)
        *ew_floats(loss, 0) = reduction == EW_MEAN ? result / all : result;
}

void ew_nll_loss_backward(const ew_tensor *dlogp, const ew_tensor *dloss, const ew_tensor *target,
                          const ew_tensor *w, const ew_tensor *total, ew_reduction reduction,
                          int64_t ignore_index)
{
    targets t;
    ew_fill(dlogp, 0.0f);
    for (begin(&t, target, dlogp, reduction == EW_NONE ? dloss : NULL); t.w.n > 0; ew_walk_step(&t.w)) {
        const int64_t class = class_of(&t, target);
        float slope = -*ew_floats(dloss, reduction == EW_NONE ? ew_walk_at(&t.w, 2) : 0);
        if (class == ignore_index || class < 0 || class >= t.classes)
            continue;
        if (reduction == EW_MEAN)
            slope /= *ew_floats(total, 0);
        *ew_floats(dlogp, ew_walk_at(&t.w, 1) + (int32_t)class * t.class_step) =
            slope * weight_of(&t, w, class);
    }
}

/* -- of an output x and a target t, element by element --------------------------------------------------- */

/* The loss of one element, with the weights w and p (1 if there are none), or a setting. */
typedef float loss_of(float x, float t, float w, float p, float setting);

static inline void losses(loss_of *of, float setting, const ew_tensor *loss, const ew_tensor *x,
                          const ew_tensor *target, const ew_tensor *w, const ew_tensor *p,
                          ew_reduction reduction)
{
    static const float one = 1.0f;
    const ew_tensor ones = ew_constant(&one, x);
    const ew_tensor *const operands[] = {x, target, w == NULL ? &ones : w, p == NULL ? &ones : p, loss};
    ew_total total;
    ew_walk k;
    ew_total_begin(&total);
    for (ew_walk_begin_in_order(&k, reduction == EW_NONE ? 5 : 4, operands); k.n > 0; ew_walk_step(&k)) {
        float of_element[4];
        for (int32_t i = 0; i < 4; ++i)
            of_element[i] = *ew_floats(operands[i], ew_walk_at(&k, i));
        const float term = of(of_element[0], of_element[1], of_element[2], of_element[3], setting);
        if (reduction == EW_NONE)
            *ew_floats(loss, ew_walk_at(&k, 4)) = term;
        else
            ew_total_add(&total, term);
    }
    if (reduction != EW_NONE)
        *ew_floats(loss, 0) = ew_total_end(&total) / (reduction == EW_MEAN ? (float)ew_elements(x) : 1.0f);
}

static float squared(float x, float t, float w, float p, float setting)
{
    (void)w, (void)p, (void)setting;
    return (x - t) * (x - t);
}

void ew_mse_loss(const ew_tensor *loss, const ew_tensor *x, const ew_tensor *target, ew_reduction reduction)
{
    losses(squared, 0.0f, loss, x, target, NULL, NULL, reduction);
}

void ew_mse_loss_backward(const ew_tensor *dx, const ew_tensor *dloss, const ew_tensor *x,
                          const ew_tensor *target, ew_reduction reduction)
{
    const float scale = reduction == EW_MEAN ? 2.0f / (float)ew_elements(x) : 2.0f;
    const ew_tensor given = reduction == EW_NONE ? *dloss : ew_constant(dloss->data, x);
    ew_sub(dx, x, target, 1.0f);
    ew_mul_scalar(dx, dx, scale);
    ew_mul(dx, dx, &given);
}

/* A parabola up to delta, and a line from there on. */
static float huber(float x, float t, float w, float p, float delta)
{
    const float d = ew_absf(x - t);
    (void)w, (void)p;
    return d < delta ? 0.5f * d * d : delta * (d - 0.5f * delta);
}

void ew_huber_loss(const ew_tensor *loss, const ew_tensor *x, const ew_tensor *target, ew_reduction reduction,
                   float delta)
{
    losses(huber, delta, loss, x, target, NULL, NULL, reduction);
}

/* -- cross entropy of two classes ------------------------------------------------------------------------ */

static const float LEAST_LOG = -100.0f; /* that ATen takes of a probability */

static float at_least(float v, float least)
{
    return v < least ? least : v;
}

static float of_probability(float x, float t, float w, float p, float setting)
{
    (void)p, (void)setting;
    return w * ((t - 1.0f) * at_least(x < 1.0f ? ew_log1pf(-x) : LEAST_LOG, LEAST_LOG)
                - t * at_least(ew_logf(x), LEAST_LOG));
}

void ew_binary_cross_entropy(const ew_tensor *loss, const ew_tensor *p, const ew_tensor *target,
                             const ew_tensor *w, ew_reduction reduction)
{
    losses(of_probability, 0.0f, loss, p, target, w, NULL, reduction);
}

BINARY(ew_binary_cross_entropy_slope, (const ew_tensor *out, const ew_tensor *a, const ew_tensor *b),
       (u - v) / at_least((1.0f - u) * u, 1e-12f))

/* (1 - t) x + (1 + (p - 1) t) log(1 + e^-x) */
static float of_logit(float x, float t, float w, float p, float setting)
{
    const float softplus = ew_log1pf(ew_expf(-ew_absf(x))) - (x < 0.0f ? x : 0.0f);
    (void)setting;
    return w * ((1.0f - t) * x + (1.0f + (p - 1.0f) * t) * softplus);
}

void ew_binary_cross_entropy_of_logits(const ew_tensor *loss, const ew_tensor *x, const ew_tensor *target,
                                       const ew_tensor *w, const ew_tensor *positive_w,
                                       ew_reduction reduction)
{
    losses(of_logit, 0.0f, loss, x, target, w, positive_w, reduction);
}
