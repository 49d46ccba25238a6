/* Updates as PyTorch makes them (torch/optim/sgd.py and adamw.py, 2.13), element by element. */
#include "numbers.h"

void ew_sgd(const ew_tensor *parameter, const ew_tensor *gradient, const ew_tensor *momentum,
            const ew_sgd_settings *s)
{
    const ew_tensor *const operands[] = {parameter, gradient, momentum};
    ew_walk w;
    for (ew_walk_begin(&w, momentum == NULL ? 2 : 3, operands); w.n > 0; ew_walk_next(&w))
        for (int32_t i = 0; i < w.n; ++i) {
            float *const p = ew_floats(parameter, w.at[0] + i * w.step[0]);
            float step = *ew_floats(gradient, w.at[1] + i * w.step[1]);
            if (s->weight_decay != 0.0f)
                step += s->weight_decay * *p;
            if (momentum != NULL) {
                float *const m = ew_floats(momentum, w.at[2] + i * w.step[2]);
                step = *m = *m * s->momentum + step;
            }
            *p -= s->lr * step;
        }
}

/* 1 - beta^n, by squaring. */
static double correction(double beta, uint64_t n)
{
    double power = 1.0, square = beta;
    for (; n > 0; n >>= 1, square *= square)
        if ((n & 1) != 0)
            power *= square;
    return 1.0 - power;
}

/* From the root of the float, by two steps of Newton's. */
static double root(double x)
{
    double y = ew_sqrtf((float)x);
    if (!(y > 0.0))
        return y;
    y = 0.5 * (y + x / y);
    return 0.5 * (y + x / y);
}

void ew_adamw(const ew_tensor *parameter, const ew_tensor *gradient, const ew_tensor *first,
              const ew_tensor *second, const ew_adamw_settings *s, uint64_t step)
{
    const ew_tensor *const operands[] = {parameter, gradient, first, second};
    const float decay = (float)(1.0 - s->lr * s->weight_decay), beta2 = (float)s->beta2, eps = (float)s->eps;
    const float fresh1 = (float)(1.0 - s->beta1), fresh2 = (float)(1.0 - s->beta2), kept1 = (float)s->beta1;
    const float rate = (float)(s->lr / correction(s->beta1, step + 1));
    const float scale = (float)root(correction(s->beta2, step + 1));
    ew_walk w;
    for (ew_walk_begin(&w, 4, operands); w.n > 0; ew_walk_next(&w))
        for (int32_t i = 0; i < w.n; ++i) {
            float *const p = ew_floats(parameter, w.at[0] + i * w.step[0]);
            const float g = *ew_floats(gradient, w.at[1] + i * w.step[1]);
            float *const m = ew_floats(first, w.at[2] + i * w.step[2]);
            float *const v = ew_floats(second, w.at[3] + i * w.step[3]);
            /* The nearer end is where ATen's lerp starts from. */
            *m = fresh1 < 0.5f ? *m + fresh1 * (g - *m) : g - (g - *m) * kept1;
            *v = *v * beta2 + fresh2 * g * g;
            *p = *p * decay - rate * (*m / (ew_sqrtf(*v) / scale + eps));
        }
}
