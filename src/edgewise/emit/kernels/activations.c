#include "numbers.h"
#include "rows.h"

/* The sign bit decides, and costs less than a comparison of floats; what is not a number stays. */
static inline int is_negative(float v)
{
    return ew_bits(v) - 0x80000000u <= 0x7f800000u;
}

UNARY(ew_relu, (const ew_tensor *out, const ew_tensor *x), is_negative(v) ? 0.0f : v)
UNARY(ew_leaky_relu, (const ew_tensor *out, const ew_tensor *x, float slope), is_negative(v) ? v * slope : v)
BINARY(ew_leaky_relu_backward, (const ew_tensor *out, const ew_tensor *a, const ew_tensor *b, float slope),
       v > 0.0f ? u : u * slope)

BINARY(ew_prelu, (const ew_tensor *out, const ew_tensor *a, const ew_tensor *b), u > 0.0f ? u : u * v)

void ew_prelu_backward(const ew_tensor *dx, const ew_tensor *dslope, const ew_tensor *dy, const ew_tensor *x,
                       const ew_tensor *slope)
{
    ROWS (w, 5, dx, dslope, dy, x, slope) {
        for (int32_t i = 0; i < w.n; ++i) {
            const float u = *ew_floats(dy, w.at[2] + i * w.step[2]);
            const float v = *ew_floats(x, w.at[3] + i * w.step[3]);
            const float s = *ew_floats(slope, w.at[4] + i * w.step[4]);
            *ew_floats(dx, w.at[0] + i * w.step[0]) = v > 0.0f ? u : u * s;
            *ew_floats(dslope, w.at[1] + i * w.step[1]) = v > 0.0f ? 0.0f : u * v;
        }
    }
}

static BINARY(relu_backward, (const ew_tensor *out, const ew_tensor *a, const ew_tensor *b),
              is_negative(v) || ew_bits(v) == 0 ? 0.0f : u)
static BINARY(threshold_backward,
              (const ew_tensor *out, const ew_tensor *a, const ew_tensor *b, float threshold),
              v <= threshold ? 0.0f : u)

void ew_threshold_backward(const ew_tensor *dx, const ew_tensor *dy, const ew_tensor *x, float threshold)
{
    if (threshold == 0.0f)
        relu_backward(dx, dy, x);
    else
        threshold_backward(dx, dy, x, threshold);
}

BINARY(ew_hardtanh_backward,
       (const ew_tensor *out, const ew_tensor *a, const ew_tensor *b, float low, float high),
       v <= low || v >= high ? 0.0f : u)

static float sigmoid(float x)
{
    return 1.0f / (1.0f + ew_expf(-x));
}

UNARY(ew_sigmoid, (const ew_tensor *out, const ew_tensor *x), sigmoid(v))
BINARY(ew_sigmoid_backward, (const ew_tensor *out, const ew_tensor *a, const ew_tensor *b),
       u * (1.0f - v) * v)
UNARY(ew_tanh, (const ew_tensor *out, const ew_tensor *x), ew_tanhf(v))
BINARY(ew_tanh_backward, (const ew_tensor *out, const ew_tensor *a, const ew_tensor *b), u * (1.0f - v * v))
UNARY(ew_silu, (const ew_tensor *out, const ew_tensor *x), v * sigmoid(v))

static float silu_slope(float x)
{
    const float s = sigmoid(x);
    return s * (1.0f + x * (1.0f - s));
}

BINARY(ew_silu_backward, (const ew_tensor *out, const ew_tensor *a, const ew_tensor *b), u * silu_slope(v))

/* -- mish: x tanh(log(1 + e^x)) = x n / (n + 2) with n = e^x (e^x + 2) (arXiv 1908.08681) ---------------- */

static const float MISH_LINE = 20.0f; /* from where on it is x */

static float mish(float x)
{
    const float e = ew_expf(x), n = e * (e + 2.0f);
    return x > MISH_LINE ? x : x * (n / (n + 2.0f));
}

static float mish_slope(float x)
{
    const float e = ew_expf(x), n = e * (e + 2.0f), m = n + 2.0f;
    return x > MISH_LINE ? 1.0f : n / m + x * (e / (1.0f + e)) * (4.0f * (n + 1.0f) / (m * m));
}

UNARY(ew_mish, (const ew_tensor *out, const ew_tensor *x), mish(v))
BINARY(ew_mish_backward, (const ew_tensor *out, const ew_tensor *a, const ew_tensor *b), u * mish_slope(v))

/* -- gelu: x Phi(x), or its approximation by tanh (arXiv 1606.08415) ------------------------------------- */

static const float ROOT_HALF = 0.70710678f;
static const float ROOT_TWO_OVER_PI = 0.79788456f;
static const float CUBE = 0.044715f;

static float gelu(float x)
{
    return 0.5f * x * (1.0f + ew_erff(x * ROOT_HALF));
}

static float gelu_by_tanh(float x)
{
    return 0.5f * x * (1.0f + ew_tanhf(ROOT_TWO_OVER_PI * (x + CUBE * x * x * x)));
}

static float gelu_slope(float x)
{
    const float density = 0.39894228f * ew_expf(-0.5f * x * x);
    return 0.5f * (1.0f + ew_erff(x * ROOT_HALF)) + x * density;
}

static float gelu_by_tanh_slope(float x)
{
    const float t = ew_tanhf(ROOT_TWO_OVER_PI * (x + CUBE * x * x * x));
    const float inner = ROOT_TWO_OVER_PI * (1.0f + 3.0f * CUBE * x * x);
    return 0.5f * (1.0f + t) + 0.5f * x * (1.0f - t * t) * inner;
}

UNARY(ew_gelu, (const ew_tensor *out, const ew_tensor *x, int tanh_form),
      tanh_form ? gelu_by_tanh(v) : gelu(v))
BINARY(ew_gelu_backward, (const ew_tensor *out, const ew_tensor *a, const ew_tensor *b, int tanh_form),
       u * (tanh_form ? gelu_by_tanh_slope(v) : gelu_slope(v)))

/* -- the hard ones: pieces of lines ---------------------------------------------------------------------- */

static float ramp(float x) /* 0 up to -3, 6 from 3 on */
{
    const float v = x + 3.0f, raised = v < 0.0f ? 0.0f : v;
    return raised > 6.0f ? 6.0f : raised;
}

static float hardswish_gradient(float dy, float x)
{
    return x <= -3.0f ? 0.0f : x < 3.0f ? dy * (x / 3.0f + 0.5f) : dy;
}

UNARY(ew_hardswish, (const ew_tensor *out, const ew_tensor *x), v * ramp(v) / 6.0f)
BINARY(ew_hardswish_backward, (const ew_tensor *out, const ew_tensor *a, const ew_tensor *b),
       hardswish_gradient(u, v))
UNARY(ew_hardsigmoid, (const ew_tensor *out, const ew_tensor *x), ramp(v) / 6.0f)
BINARY(ew_hardsigmoid_backward, (const ew_tensor *out, const ew_tensor *a, const ew_tensor *b),
       v > -3.0f && v < 3.0f ? u / 6.0f : 0.0f)

/* -- softplus: log(1 + e^(beta x)) / beta, and x above the threshold ------------------------------------- */

UNARY(ew_softplus, (const ew_tensor *out, const ew_tensor *x, float beta, float threshold),
      v * beta > threshold ? v : ew_log1pf(ew_expf(v * beta)) / beta)

static float softplus_slope(float scaled)
{
    const float z = ew_expf(scaled);
    return z / (z + 1.0f);
}

BINARY(ew_softplus_backward,
       (const ew_tensor *out, const ew_tensor *a, const ew_tensor *b, float beta, float threshold),
       v * beta > threshold ? u : u * softplus_slope(v * beta))

/* -- log(sigmoid(x)) = min(x, 0) - log(1 + e^-|x|) ------------------------------------------------------- */

UNARY(ew_log_sigmoid, (const ew_tensor *out, const ew_tensor *x),
      (v < 0.0f ? v : 0.0f) - ew_log1pf(ew_expf(-ew_absf(v))))
BINARY(ew_log_sigmoid_backward, (const ew_tensor *out, const ew_tensor *a, const ew_tensor *b),
       u * sigmoid(-v))

/* -- elu: x, or alpha (e^x - 1) below zero, with factors before and after (arXiv 1706.02515) ------------- */

UNARY(ew_elu, (const ew_tensor *out, const ew_tensor *x, float alpha, float scale, float input_scale),
      v > 0.0f ? v * scale : ew_expm1f(v * input_scale) * (alpha * scale))

static BINARY(elu_backward_of_input,
              (const ew_tensor *out, const ew_tensor *a, const ew_tensor *b, float low, float scale,
               float input_scale),
              v <= 0.0f ? u * input_scale * low * ew_expf(v * input_scale) : u * scale)
static BINARY(elu_backward_of_result,
              (const ew_tensor *out, const ew_tensor *a, const ew_tensor *b, float low, float scale,
               float input_scale),
              v <= 0.0f ? u * input_scale * (v + low) : u * scale)

void ew_elu_backward(const ew_tensor *dx, const ew_tensor *dy, const ew_tensor *x, float alpha, float scale,
                     float input_scale, int is_result)
{
    if (is_result)
        elu_backward_of_result(dx, dy, x, alpha * scale, scale, input_scale);
    else
        elu_backward_of_input(dx, dy, x, alpha * scale, scale, input_scale);
}
