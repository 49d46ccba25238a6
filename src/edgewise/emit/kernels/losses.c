#include "numbers.h"
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

/* -- squared error --------------------------------------------------------------------------------------- */

void ew_mse_loss(const ew_tensor *loss, const ew_tensor *x, const ew_tensor *target, ew_reduction reduction)
{
    const ew_tensor *const operands[] = {x, target, loss};
    ew_total total;
    ew_walk w;
    ew_total_begin(&total);
    for (ew_walk_begin_in_order(&w, reduction == EW_NONE ? 3 : 2, operands); w.n > 0; ew_walk_next(&w))
        for (int32_t i = 0; i < w.n; ++i) {
            const float d =
                *ew_floats(x, w.at[0] + i * w.step[0]) - *ew_floats(target, w.at[1] + i * w.step[1]);
            if (reduction == EW_NONE)
                *ew_floats(loss, w.at[2] + i * w.step[2]) = d * d;
            else
                ew_total_add(&total, d * d);
        }
    if (reduction != EW_NONE)
        *ew_floats(loss, 0) = ew_total_end(&total) / (reduction == EW_MEAN ? (float)ew_elements(x) : 1.0f);
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
