/* What the ops of a training step are computed with: float32 kernels over strided tensors, in C99.
 *
 * A kernel needs no memory but its operands and a little stack, calls nothing of the C library but memcpy and
 * memset, and takes every sum in one fixed order: compiled without contraction (-ffp-contract=off), it makes the
 * same bits on every target. Output comes first. Operands have the shapes that are written here; an operand that
 * is broadcast comes expanded, with stride 0. Output and operand may be the same tensor (same data, sizes and
 * strides) where "in place" is written, and may not overlap otherwise.
 */
#ifndef EW_H
#define EW_H

#include <stddef.h>
#include <stdint.h>

#define EW_DIMS 6
#define EW_INFINITY __builtin_inff()

/* `stride` in elements. The first `dims` entries of `size` and `stride` count. What `data` points to is float,
 * unless the kernel says otherwise: int64_t of indices, uint8_t (0 or 1) of masks. */
typedef struct {
    void *data;
    int32_t dims;
    int32_t size[EW_DIMS];
    int32_t stride[EW_DIMS];
} ew_tensor;

typedef enum { EW_F32, EW_I64, EW_U8, EW_I32, EW_I8, EW_I16 /* weights of fixed point alone */ } ew_type;

/* -- numbers (math.c): the same bits on every target; float32 within 2 units in the last place ------------------ */

float ew_expf(float x);
float ew_logf(float x);
float ew_sqrtf(float x); /* correctly rounded */
float ew_erff(float x);
float ew_tanhf(float x);
float ew_sinf(float x); /* |x| <= 6000, else not a number; so the cosine */
float ew_cosf(float x);
float ew_powf(float x, float y);

/* -- one element after another (elementwise.c); all in place ---------------------------------------------------- */

void ew_fill(const ew_tensor *out, float value);
void ew_fill_bytes(const ew_tensor *out, ew_type type, int64_t value);
void ew_copy(const ew_tensor *out, const ew_tensor *x, ew_type type); /* same type on both sides */
void ew_cast(const ew_tensor *out, ew_type to, const ew_tensor *x, ew_type from);

void ew_add(const ew_tensor *out, const ew_tensor *a, const ew_tensor *b, float alpha); /* a + alpha b */
void ew_sub(const ew_tensor *out, const ew_tensor *a, const ew_tensor *b, float alpha);
void ew_mul(const ew_tensor *out, const ew_tensor *a, const ew_tensor *b);
void ew_div(const ew_tensor *out, const ew_tensor *a, const ew_tensor *b);
void ew_pow(const ew_tensor *out, const ew_tensor *a, const ew_tensor *b);
void ew_xlogy(const ew_tensor *out, const ew_tensor *a, const ew_tensor *b); /* a log b; 0 where a is */
void ew_maximum(const ew_tensor *out, const ew_tensor *a, const ew_tensor *b);
void ew_minimum(const ew_tensor *out, const ew_tensor *a, const ew_tensor *b);
void ew_add_scalar(const ew_tensor *out, const ew_tensor *x, float s);
void ew_mul_scalar(const ew_tensor *out, const ew_tensor *x, float s);
void ew_div_scalar(const ew_tensor *out, const ew_tensor *x, float s);
void ew_rsub_scalar(const ew_tensor *out, const ew_tensor *x, float s); /* s - x */
void ew_pow_scalar(const ew_tensor *out, const ew_tensor *x, float s);
void ew_clamp(const ew_tensor *out, const ew_tensor *x, float low, float high);

void ew_neg(const ew_tensor *out, const ew_tensor *x);
void ew_abs(const ew_tensor *out, const ew_tensor *x);
void ew_sign(const ew_tensor *out, const ew_tensor *x);
void ew_exp(const ew_tensor *out, const ew_tensor *x);
void ew_expm1(const ew_tensor *out, const ew_tensor *x);
void ew_log(const ew_tensor *out, const ew_tensor *x);
void ew_sqrt(const ew_tensor *out, const ew_tensor *x);
void ew_rsqrt(const ew_tensor *out, const ew_tensor *x);
void ew_reciprocal(const ew_tensor *out, const ew_tensor *x);
void ew_log1p(const ew_tensor *out, const ew_tensor *x);
void ew_erf(const ew_tensor *out, const ew_tensor *x);
void ew_sin(const ew_tensor *out, const ew_tensor *x); /* |x| <= 6000, else not a number; so the cosine */
void ew_cos(const ew_tensor *out, const ew_tensor *x);
void ew_floor(const ew_tensor *out, const ew_tensor *x);
void ew_round(const ew_tensor *out, const ew_tensor *x); /* of two equally near the even one */
void ew_relu(const ew_tensor *out, const ew_tensor *x);
void ew_sigmoid(const ew_tensor *out, const ew_tensor *x);
void ew_tanh(const ew_tensor *out, const ew_tensor *x);
void ew_gelu(const ew_tensor *out, const ew_tensor *x, int tanh_form);
void ew_silu(const ew_tensor *out, const ew_tensor *x);
void ew_mish(const ew_tensor *out, const ew_tensor *x);
void ew_hardswish(const ew_tensor *out, const ew_tensor *x);
void ew_hardsigmoid(const ew_tensor *out, const ew_tensor *x);
void ew_leaky_relu(const ew_tensor *out, const ew_tensor *x, float slope);
void ew_prelu(const ew_tensor *out, const ew_tensor *x, const ew_tensor *slope);
void ew_softplus(const ew_tensor *out, const ew_tensor *x, float beta, float threshold);
void ew_log_sigmoid(const ew_tensor *out, const ew_tensor *x);
void ew_elu(const ew_tensor *out, const ew_tensor *x, float alpha, float scale, float input_scale);

/* Gradients: `dy` of the result, and what ATen keeps for it (x, or the result y). */
void ew_threshold_backward(const ew_tensor *dx, const ew_tensor *dy, const ew_tensor *x, float threshold);
void ew_hardtanh_backward(const ew_tensor *dx, const ew_tensor *dy, const ew_tensor *x, float low, float high);
void ew_sigmoid_backward(const ew_tensor *dx, const ew_tensor *dy, const ew_tensor *y);
void ew_tanh_backward(const ew_tensor *dx, const ew_tensor *dy, const ew_tensor *y);
void ew_gelu_backward(const ew_tensor *dx, const ew_tensor *dy, const ew_tensor *x, int tanh_form);
void ew_silu_backward(const ew_tensor *dx, const ew_tensor *dy, const ew_tensor *x);
void ew_mish_backward(const ew_tensor *dx, const ew_tensor *dy, const ew_tensor *x);
void ew_hardswish_backward(const ew_tensor *dx, const ew_tensor *dy, const ew_tensor *x);
void ew_hardsigmoid_backward(const ew_tensor *dx, const ew_tensor *dy, const ew_tensor *x);
void ew_leaky_relu_backward(const ew_tensor *dx, const ew_tensor *dy, const ew_tensor *x, float slope);
/* `dslope` has the shape of x: what each element gives to the gradient of its slope. */
void ew_prelu_backward(const ew_tensor *dx, const ew_tensor *dslope, const ew_tensor *dy, const ew_tensor *x,
                       const ew_tensor *slope);
void ew_softplus_backward(const ew_tensor *dx, const ew_tensor *dy, const ew_tensor *x, float beta, float threshold);
void ew_log_sigmoid_backward(const ew_tensor *dx, const ew_tensor *dy, const ew_tensor *x);
void ew_elu_backward(const ew_tensor *dx, const ew_tensor *dy, const ew_tensor *x, float alpha, float scale,
                     float input_scale, int is_result /* x is what elu made of it */);

typedef enum { EW_EQ, EW_NE, EW_LT, EW_LE, EW_GT, EW_GE } ew_relation;
void ew_compare(const ew_tensor *out /* u8 */, const ew_tensor *a, const ew_tensor *b, ew_type type, ew_relation r);
void ew_compare_scalar(const ew_tensor *out /* u8 */, const ew_tensor *a, ew_type type, double s, ew_relation r);
void ew_where(const ew_tensor *out, const ew_tensor *condition /* u8 */, const ew_tensor *a, const ew_tensor *b);
void ew_masked_fill(const ew_tensor *out, const ew_tensor *x, const ew_tensor *mask /* u8 */, float value);
void ew_logical_not(const ew_tensor *out /* u8 */, const ew_tensor *x /* u8 */);
void ew_logical_and(const ew_tensor *out /* u8 */, const ew_tensor *a /* u8 */, const ew_tensor *b /* u8 */);
void ew_logical_or(const ew_tensor *out /* u8 */, const ew_tensor *a /* u8 */, const ew_tensor *b /* u8 */);
void ew_masked_scale(const ew_tensor *out, const ew_tensor *x, const ew_tensor *mask /* u8 */, float scale); /* x mask scale */
void ew_triangle(const ew_tensor *out, const ew_tensor *x, ew_type type, int32_t diagonal, int upper); /* tril, triu of the last two dims */

/* -- products (matmul.c): [m, k] x [k, n], or [b, m, k] x [b, k, n], any strides --------------------------------- */

void ew_matmul(const ew_tensor *out, const ew_tensor *a, const ew_tensor *b);
void ew_matmul_add(const ew_tensor *out, const ew_tensor *c, const ew_tensor *a, const ew_tensor *b, float beta,
                   float alpha); /* beta c + alpha a b; c of the shape of out, and may be out */

/* -- convolutions (convolution.c): [n, c, h, w], weights [out, c / groups, kh, kw]; any strides ------------------ */

/* Row `o` of the output reads rows stride o - padding + dilation k, those that are there: sizes are those of the
 * tensors given, so that a band of rows is a convolution of its own, with another (maybe negative) padding. */
typedef struct {
    int32_t stride[2];
    int32_t padding[2];
    int32_t dilation[2];
    int32_t groups;
} ew_convolution_settings;

void ew_convolution(const ew_tensor *y, const ew_tensor *x, const ew_tensor *w, const ew_tensor *bias /* or NULL */,
                    const ew_convolution_settings *s);
void ew_convolution_input_gradient(const ew_tensor *dx, const ew_tensor *dy, const ew_tensor *w,
                                   const ew_convolution_settings *s);
void ew_convolution_weight_gradient(const ew_tensor *dw, const ew_tensor *dy, const ew_tensor *x,
                                    const ew_convolution_settings *s);
void ew_convolution_bias_gradient(const ew_tensor *db, const ew_tensor *dy);

/* -- norms (norms.c) -------------------------------------------------------------------------------------------- */

/* x [n, c, ...]; w, b, running ones, mean and rstd [c]; any of w, b, running ones, and of the gradients, may be NULL.
 * The running variance gets the unbiased one. */
void ew_batch_norm(const ew_tensor *y, const ew_tensor *mean, const ew_tensor *rstd, const ew_tensor *x,
                   const ew_tensor *w, const ew_tensor *b, const ew_tensor *running_mean,
                   const ew_tensor *running_var, float momentum, float eps);
void ew_batch_norm_backward(const ew_tensor *dx, const ew_tensor *dw, const ew_tensor *db, const ew_tensor *dy,
                            const ew_tensor *x, const ew_tensor *w, const ew_tensor *mean, const ew_tensor *rstd);
/* With the running statistics in the place of the batch's. */
void ew_batch_norm_frozen(const ew_tensor *y, const ew_tensor *x, const ew_tensor *w, const ew_tensor *b,
                          const ew_tensor *running_mean, const ew_tensor *running_var, float eps);
void ew_batch_norm_frozen_backward(const ew_tensor *dx, const ew_tensor *dw, const ew_tensor *db, const ew_tensor *dy,
                                   const ew_tensor *x, const ew_tensor *w, const ew_tensor *running_mean,
                                   const ew_tensor *running_var, float eps);
/* The last `normalized` dims are normalized; w, b have these, mean and rstd (or NULL) have the others, and 1s. */
void ew_layer_norm(const ew_tensor *y, const ew_tensor *mean, const ew_tensor *rstd, const ew_tensor *x,
                   const ew_tensor *w, const ew_tensor *b, int32_t normalized, float eps);
void ew_layer_norm_backward(const ew_tensor *dx, const ew_tensor *dw, const ew_tensor *db, const ew_tensor *dy,
                            const ew_tensor *x, const ew_tensor *mean, const ew_tensor *rstd, const ew_tensor *w,
                            int32_t normalized);
/* x [n, c, ...]; w, b [c]; mean and rstd [n, groups]. */
void ew_group_norm(const ew_tensor *y, const ew_tensor *mean, const ew_tensor *rstd, const ew_tensor *x,
                   const ew_tensor *w, const ew_tensor *b, int32_t groups, float eps);
void ew_group_norm_backward(const ew_tensor *dx, const ew_tensor *dw, const ew_tensor *db, const ew_tensor *dy,
                            const ew_tensor *x, const ew_tensor *mean, const ew_tensor *rstd, const ew_tensor *w,
                            int32_t groups);

/* -- softmax and losses (softmax.c) ------------------------------------------------------------------------------ */

void ew_softmax(const ew_tensor *y, const ew_tensor *x, int32_t dim); /* in place; a row of -inf alone makes zeros */
void ew_log_softmax(const ew_tensor *y, const ew_tensor *x, int32_t dim);
void ew_softmax_backward(const ew_tensor *dx, const ew_tensor *dy, const ew_tensor *y, int32_t dim);
void ew_log_softmax_backward(const ew_tensor *dx, const ew_tensor *dy, const ew_tensor *y, int32_t dim);

typedef enum { EW_NONE, EW_MEAN, EW_SUM } ew_reduction; /* as ATen numbers them */
/* logp [n, c], or [n, c, h, w]; target i64 [n], or [n, h, w]; w [c] or NULL; loss and total are one number each
 * (loss [n] or [n, h, w] if EW_NONE; total may be NULL). A class that is not there makes a loss that is not a
 * number, and no gradient. */
void ew_nll_loss(const ew_tensor *loss, const ew_tensor *total, const ew_tensor *logp, const ew_tensor *target,
                 const ew_tensor *w, ew_reduction reduction, int64_t ignore_index);
void ew_nll_loss_backward(const ew_tensor *dlogp, const ew_tensor *dloss, const ew_tensor *target, const ew_tensor *w,
                          const ew_tensor *total, ew_reduction reduction, int64_t ignore_index);
void ew_mse_loss(const ew_tensor *loss, const ew_tensor *x, const ew_tensor *target, ew_reduction reduction);
void ew_mse_loss_backward(const ew_tensor *dx, const ew_tensor *dloss, const ew_tensor *x, const ew_tensor *target,
                          ew_reduction reduction);
void ew_huber_loss(const ew_tensor *loss, const ew_tensor *x, const ew_tensor *target, ew_reduction reduction,
                   float delta);
/* Of probabilities p, and of logits x; any weights have the shape of these, or are NULL. */
void ew_binary_cross_entropy(const ew_tensor *loss, const ew_tensor *p, const ew_tensor *target, const ew_tensor *w,
                             ew_reduction reduction);
void ew_binary_cross_entropy_slope(const ew_tensor *dp, const ew_tensor *p, const ew_tensor *target); /* in place */
void ew_binary_cross_entropy_of_logits(const ew_tensor *loss, const ew_tensor *x, const ew_tensor *target,
                                       const ew_tensor *w, const ew_tensor *positive_w, ew_reduction reduction);

/* -- pooling (pooling.c): [n, c, h, w] ---------------------------------------------------------------------------- */

typedef struct {
    int32_t kernel[2];
    int32_t stride[2];
    int32_t padding[2];
    int32_t dilation[2];
} ew_pool_settings;

void ew_max_pool(const ew_tensor *y, const ew_tensor *index /* i64, of h * w */, const ew_tensor *x,
                 const ew_pool_settings *s);
void ew_max_pool_backward(const ew_tensor *dx, const ew_tensor *dy, const ew_tensor *index);
void ew_average_pool(const ew_tensor *y, const ew_tensor *x, const ew_pool_settings *s, int count_padding,
                     int32_t divisor /* 0: the size of the window */);
void ew_average_pool_backward(const ew_tensor *dx, const ew_tensor *dy, const ew_pool_settings *s, int count_padding,
                              int32_t divisor);
void ew_adaptive_max_pool(const ew_tensor *y, const ew_tensor *index, const ew_tensor *x);
void ew_adaptive_average_pool(const ew_tensor *y, const ew_tensor *x);
void ew_adaptive_average_pool_backward(const ew_tensor *dx, const ew_tensor *dy);

/* -- reductions (reduce.c): out has the dims of x, with size 1 where it sums over --------------------------------- */

void ew_sum(const ew_tensor *out, const ew_tensor *x);
void ew_mean(const ew_tensor *out, const ew_tensor *x);
void ew_norm(const ew_tensor *out, const ew_tensor *x); /* the root of the sum of squares */
void ew_variance(const ew_tensor *out, const ew_tensor *x, float correction);
void ew_log_sum_exp(const ew_tensor *out, const ew_tensor *x);
void ew_amax(const ew_tensor *out, const ew_tensor *x);
void ew_amin(const ew_tensor *out, const ew_tensor *x);
void ew_argmax(const ew_tensor *out /* i64 */, const ew_tensor *x); /* one dim of size 1 in out; the first of equals */
void ew_argmin(const ew_tensor *out /* i64 */, const ew_tensor *x);
void ew_cumsum(const ew_tensor *out, const ew_tensor *x, ew_type type, int32_t dim); /* f32 or i64; in place */

/* -- rows of a table (embedding.c): w [rows, width], index i64 [...], out [..., width] ----------------------------- */

/* A row that is not in the table is not a number; a gradient for it goes nowhere. */
void ew_embedding(const ew_tensor *out, const ew_tensor *w, const ew_tensor *index);
void ew_embedding_backward(const ew_tensor *dw, const ew_tensor *dy, const ew_tensor *index, int64_t padding_index);
/* Of the rows of the table from `first` on, as many as dw has. */
void ew_embedding_backward_rows(const ew_tensor *dw, const ew_tensor *dy, const ew_tensor *index,
                                int64_t padding_index, int64_t first);

/* -- integers that count and index (indices.c) -------------------------------------------------------------------- */

void ew_arange(const ew_tensor *out /* i64, one dim */, int64_t start, int64_t step);
void ew_add_scalar_i64(const ew_tensor *out /* i64 */, const ew_tensor *x /* i64 */, int64_t s); /* in place */
void ew_ramp(const ew_tensor *out /* one dim */, float start, float step);
/* out[i, j, ...] = x[index[i, j, ...], j, ...] along `dim`; float or i64. Where there is a `second` index, it goes
 * along the next dim. An index that is not there, as one below 0, picks what is not a number, or -1. */
void ew_gather(const ew_tensor *out, const ew_tensor *x, ew_type type, int32_t dim, const ew_tensor *index,
               const ew_tensor *second /* or NULL */);
/* The other way, of floats: out[index[i, j, ...], j, ...] becomes x[i, j, ...], or that more, in the order of
 * indices. Sizes are those of the index; one that is not there is left out. */
void ew_scatter(const ew_tensor *out, int32_t dim, const ew_tensor *index, const ew_tensor *second /* or NULL */,
                const ew_tensor *x, int add);

/* -- random numbers (philox.c): element i of stream s in step t under a seed, as edgewise.capture.philox ------------ */

typedef struct {
    uint64_t seed;
    uint64_t step;
    uint32_t stream;
} ew_key;

void ew_philox(uint32_t words[4], uint32_t counter, const ew_key *key);
void ew_bernoulli(const ew_tensor *out, ew_type type, uint64_t threshold /* of 2^32 */, const ew_key *key);
void ew_uniform(const ew_tensor *out, const ew_key *key);
void ew_normal(const ew_tensor *out, const ew_key *key);

/* -- updates (optimizers.c): elementwise, any strides, states of the shape of the parameter ------------------------- */

typedef struct {
    float lr, momentum, weight_decay;
} ew_sgd_settings;
void ew_sgd(const ew_tensor *parameter, const ew_tensor *gradient, const ew_tensor *momentum /* or NULL */,
            const ew_sgd_settings *s);

typedef struct {
    double lr, beta1, beta2, eps, weight_decay;
} ew_adamw_settings;
void ew_adamw(const ew_tensor *parameter, const ew_tensor *gradient, const ew_tensor *first, const ew_tensor *second,
              const ew_adamw_settings *s, uint64_t step);

/* -- random directions (directions.c): as edgewise.capture.directions ---------------------------------------------- */

/* Tensors here have one dim, dense: `n` elements of a parameter in the order of its storage, from element `first` on. */
typedef enum { EW_RADEMACHER, EW_STANDARD_NORMAL } ew_law;
typedef struct {
    uint64_t seed, step;
    ew_law law;
    int32_t count;
    const uint32_t *streams; /* of `count` directions z_i */
} ew_directions;

/* Where a threshold is given, z is zero for the elements of `w` whose magnitude is below it. */
void ew_direction(const ew_tensor *out, const ew_tensor *w, const ew_tensor *threshold, int32_t first,
                  const ew_directions *d);
void ew_perturbed(const ew_tensor *out, const ew_tensor *w, const ew_tensor *threshold, float scale, int32_t first,
                  const ew_directions *d); /* w + scale z; in place */
void ew_nudge(const ew_tensor *w, const float scales[], int32_t first,
              const ew_directions *d); /* w = w + sum of scales[i] z_i */
/* The sum of coefficients[i] z_i, where z_i is that of step steps[i] (i64) if steps are given. */
void ew_along(const ew_tensor *out, const ew_tensor *coefficients, const ew_tensor *steps, const ew_tensor *w,
              const ew_tensor *threshold, int32_t first, const ew_directions *d);
/* Updates by the gradient that ew_along makes, which is never there as a whole. */
void ew_sgd_along(const ew_tensor *parameter, const ew_tensor *coefficients, const ew_tensor *steps,
                  const ew_tensor *threshold, int32_t first, const ew_directions *d, const ew_tensor *momentum,
                  const ew_sgd_settings *s);
void ew_adamw_along(const ew_tensor *parameter, const ew_tensor *coefficients, const ew_tensor *steps,
                    const ew_tensor *threshold, int32_t first, const ew_directions *d, const ew_tensor *mean,
                    const ew_tensor *square, const ew_adamw_settings *s, uint64_t step);

/* -- states that are made anew in the steps that `every` divides (schedules.c) --------------------------------------- */

void ew_snapshot(const ew_tensor *state, const ew_tensor *w, uint64_t step, uint32_t every); /* w, dense */
void ew_threshold(const ew_tensor *state, const ew_tensor *w /* one dim */, int32_t count, uint64_t step,
                  uint32_t every); /* the `count`-th largest magnitude */

/* -- whole numbers that count (counting.c): i64, any strides --------------------------------------------------------- */

void ew_add_i64(const ew_tensor *out, const ew_tensor *a, const ew_tensor *b, int64_t alpha); /* a + alpha b */
void ew_floor_divide_i64(const ew_tensor *out, const ew_tensor *x, int64_t s); /* rounded down */
void ew_remainder_i64(const ew_tensor *out, const ew_tensor *x, int64_t s);    /* with the sign of s */
void ew_where_i64(const ew_tensor *out, const ew_tensor *condition /* u8 */, const ew_tensor *a, const ew_tensor *b);
void ew_clamp_i64(const ew_tensor *out, const ew_tensor *x, int64_t low, int64_t high);
void ew_sum_i8(const ew_tensor *out, const ew_tensor *x /* i8 */); /* as ew_sum */
/* For each of the targets [n] other labels, out [count, n], as edgewise.capture.contrast draws them. */
void ew_wrong_labels(const ew_tensor *out, const ew_tensor *targets, int32_t classes, const ew_key *key);

/* -- int8 (integer_rounding.c, integer_products.c): as edgewise.capture.integers ------------------------------------- */

void ew_round_nearest(const ew_tensor *out /* i8 */, const ew_tensor *x, const ew_tensor *scale); /* x / scale */
/* Rounded down, after adding a u in [0, 1) that is drawn for each row (of dim 0) and column of x. */
void ew_round_stochastic(const ew_tensor *out /* i8 */, const ew_tensor *x, const ew_tensor *scale, const ew_key *key);

/* Convolutions in f32 whose weights are i8; each channel of y times its factor (f32 [outputs]) (convolution_by_i8.c). */
void ew_convolution_by_i8(const ew_tensor *y, const ew_tensor *x, const ew_tensor *w, const ew_tensor *factor,
                          const ew_convolution_settings *s);
void ew_convolution_input_gradient_by_i8(const ew_tensor *dx, const ew_tensor *dy, const ew_tensor *w,
                                         const ew_convolution_settings *s);

/* Results are i32, operands i8; otherwise as the float32 kernels of the same names. */
void ew_matmul_i8(const ew_tensor *out, const ew_tensor *a, const ew_tensor *b);
void ew_convolution_i8(const ew_tensor *y, const ew_tensor *x, const ew_tensor *w, const ew_convolution_settings *s);
void ew_convolution_input_gradient_i8(const ew_tensor *dx, const ew_tensor *dy, const ew_tensor *w,
                                      const ew_convolution_settings *s);
void ew_convolution_weight_gradient_i8(const ew_tensor *dw, const ew_tensor *dy, const ew_tensor *x,
                                       const ew_convolution_settings *s);

/* -- layers on int8 (integer_layers.c): as edgewise.capture.integer_layers, labelled_layer and contrast --------------- */

/* q [rows, n], y and g [rows, outputs] are i8; squares are mean squares of rows. `room` holds a row of q. */
void ew_round_rows(const ew_tensor *out, const ew_tensor *x); /* each at the scale of its largest element */
void ew_mean_squares(const ew_tensor *out, const ew_tensor *q);
/* The same of rows in slices: first sums (i32) of each, then what they are in the mean of `count` numbers. */
void ew_add_squares(const ew_tensor *total, const ew_tensor *q);
void ew_mean_of_squares(const ew_tensor *out, const ew_tensor *total, int32_t count);
void ew_linear_relu_i8(const ew_tensor *y, const ew_tensor *q, const ew_tensor *squares, const ew_tensor *w,
                       const ew_tensor *b /* or NULL */, float step, void *room);
/* Samples x with each of the labels (i64 [labels, samples]) in turn. */
void ew_labelled_rows(const ew_tensor *q, const ew_tensor *squares, const ew_tensor *x, const ew_tensor *labels,
                      int32_t classes, float height);
/* Adds to the goodness (i32 [labels - 1, samples], dense) the squares of what the layer makes of samples q, which
 * have their right labels (labels[0]), with each of the wrong ones. `room` holds a row of q. */
void ew_judge_labels(const ew_tensor *goodness, const ew_tensor *q, const ew_tensor *squares, const ew_tensor *labels,
                     const ew_tensor *w, const ew_tensor *b /* or NULL */, float step, void *room);
/* Samples x with that of the wrong labels in which most goodness was found. */
void ew_best_rows(const ew_tensor *q, const ew_tensor *squares, const ew_tensor *x, const ew_tensor *labels,
                  const ew_tensor *goodness, int32_t classes, float height);
/* Of a loss with this slope in the squares of y, and in the first half of the rows with the slope p in y; rounded
 * at random if there is a key. `total` is the sum over rows. */
void ew_relu_gradient_i8(const ew_tensor *g, const ew_tensor *scale, const ew_tensor *total, const ew_tensor *y,
                         const ew_tensor *slope, const ew_tensor *p /* or NULL */, const ew_tensor *squares,
                         float unit, const ew_key *key /* or NULL */);
/* scale g^T q: as a dense tensor of one dim, or within the update of such a parameter. */
void ew_weight_gradient_i8(const ew_tensor *out, const ew_tensor *g, const ew_tensor *q, const ew_tensor *scale);
void ew_sgd_i8(const ew_tensor *parameter, const ew_tensor *g, const ew_tensor *q, const ew_tensor *scale,
               const ew_tensor *momentum, const ew_sgd_settings *s);
void ew_adamw_i8(const ew_tensor *parameter, const ew_tensor *g, const ew_tensor *q, const ew_tensor *scale,
                 const ew_tensor *first, const ew_tensor *second, const ew_adamw_settings *s, uint64_t step);
/* The loss that tells right labels (the first half) from wrong ones by their goodness, and its slope. */
void ew_contrast(const ew_tensor *loss, const ew_tensor *slope, const ew_tensor *goodness, float sharpness,
                 float threshold, int pairs);

/* -- frozen layers (frozen_layers.c): as edgewise.capture.requantized; x, w and y are i8, b i32 [outputs] ------------- */

/* Sums of products and b, times the factor (f32 [outputs]) of the output, rounded, within `least` and `most`. */
void ew_convolution_layer_i8(const ew_tensor *y, const ew_tensor *x, const ew_tensor *w, const ew_tensor *b,
                             const ew_tensor *factor, const ew_convolution_settings *s, int32_t least, int32_t most);
void ew_linear_layer_i8(const ew_tensor *y, const ew_tensor *x, const ew_tensor *w, const ew_tensor *b,
                        const ew_tensor *factor, int32_t least, int32_t most);
/* int8 terms (those that are not there are NULL) times their scales, added in order and clamped after each; then
 * rounded at `scale`. */
typedef struct {
    int32_t count;
    float scale[4], low[4], high[4];
} ew_terms_i8;
void ew_sum_of_i8(const ew_tensor *out, const ew_tensor *a, const ew_tensor *b, const ew_tensor *c, const ew_tensor *d,
                  const ew_tensor *scale, const ew_terms_i8 *s);
/* What the table (i8 [256]) has at each byte of x (i8 or u8). */
void ew_map_i8(const ew_tensor *out, const ew_tensor *x, const ew_tensor *table);
void ew_floats_of_i8(const ew_tensor *out, const ew_tensor *q, float scale);

/* -- fixed point (fixed_point_*.c): as edgewise.methods.fixed_point, to the bit --------------------------------------- */

/* Tensors are dense, but slices of y. Weights are i16 or i8 (`type`), activations i8, accumulators and logits i32. */

/* The integers z from -127 to 127 of a parameter, in the order of its elements. */
typedef struct {
    uint64_t seed, step;
    ew_law law;
    int32_t count;
    const uint32_t *streams; /* of `count` directions */
    /* Which elements are moved: where a byte of this stream is less than `below`, if that is not 0. */
    uint32_t mask, below;
    /* From step `after` on (spread z + rest last) / 2^14 in the place of z, if there is a `last`. */
    int32_t spread, rest;
    uint64_t after;
} ew_integer_directions;

/* The real number m / 2^k. */
typedef struct {
    int64_t m;
    int32_t k;
} ew_factor;

/* w = w + times round(rate z): along the one direction of d, `sign` times if there is one (i8). `kept` are bits
 * (u8) of elements that are moved, `last` (i8) the direction that was followed last; both may be NULL. w may be a
 * slice that begins with element `first`, and `last` is the same one; `kept` is whole. */
void ew_shift(const ew_tensor *w, ew_type type, const ew_tensor *kept, const ew_tensor *last, const ew_tensor *sign,
              int32_t times, const ew_factor *rate, int32_t first, const ew_integer_directions *d);

typedef struct {
    int64_t units;        /* of 2^-16, that a z moves a weight by; or the share of the norms, if normalized */
    uint64_t decay_steps; /* in which that falls to nothing; 0: it stays */
    int32_t normalized;
    int32_t most;   /* of a weight */
    uint32_t noise; /* the stream of what rounds at random */
} ew_rate;
/* The update by the sum of all directions of d, each times its sign (i8 [directions]); in slices, if not normalized. */
void ew_follow(const ew_tensor *w, ew_type type, const ew_tensor *kept, const ew_tensor *last, const ew_tensor *signs,
               const ew_rate *rate, int32_t first, const ew_integer_directions *d,
               void *room); /* int64_t for each direction */

/* What accumulators become: i8 from `low` to `high` at another scale, or i32 as they are if factor.k is 0. The bias
 * comes at a scale of its own. */
typedef struct {
    ew_factor factor;
    int32_t low, high;
    ew_factor bias;
} ew_requantize;
void ew_quantize(const ew_tensor *out, const ew_tensor *x, float scale); /* i8, of float */
void ew_integer_linear(const ew_tensor *y, const ew_tensor *x, const ew_tensor *w, ew_type type, const ew_tensor *b,
                       const ew_requantize *s); /* x [rows, n], w [outputs, n], b [outputs] or NULL */
void ew_integer_convolution(const ew_tensor *y, const ew_tensor *x, const ew_tensor *w, ew_type type,
                            const ew_tensor *b, const ew_requantize *s, const ew_convolution_settings *c);
void ew_integer_max_pool(const ew_tensor *y, const ew_tensor *x, const ew_pool_settings *p);
void ew_integer_mean_pool(const ew_tensor *y, const ew_tensor *x, const ew_requantize *s, const ew_pool_settings *p);
void ew_integer_sum(const ew_tensor *out, const ew_tensor *a, const ew_tensor *b, int64_t of_a, int64_t of_b,
                    const ew_requantize *s); /* (of_a a + of_b b) / 2^k; any strides */
void ew_integer_product(const ew_tensor *out, const ew_tensor *a, const ew_tensor *b, const ew_requantize *s);
void ew_integer_scale(const ew_tensor *out, const ew_tensor *x, const ew_requantize *s); /* any strides */
void ew_lookup(const ew_tensor *out, const ew_tensor *x, const int8_t table[]); /* table[x + 127] */

/* The sum over samples of the cross entropy of logits [n, c], in units of 2^-20 bits (i64). */
void ew_integer_cross_entropy(const ew_tensor *loss, const ew_tensor *logits, const ew_tensor *targets,
                              const ew_factor *f);
void ew_integer_sign(const ew_tensor *out /* i8 */, const ew_tensor *a /* i64 */, const ew_tensor *b); /* of a - b */
void ew_integer_real(const ew_tensor *out, const ew_tensor *x /* i64 */, double scale);

/* All directions of a linear head in turn: signs [directions] (i8) of the differences of losses at w + d and at
 * w - d, and the sum of all losses. `room` holds 2 n c + c numbers of 32 bits. */
typedef struct {
    ew_factor rates[2]; /* of the weight and of the bias; m is 0 for one that stays */
    ew_factor bias, logits;
} ew_probe_settings;
void ew_probe(const ew_tensor *signs, const ew_tensor *losses, const ew_tensor *x, const ew_tensor *w,
              const ew_tensor *b, ew_type type, const ew_tensor *targets, const ew_tensor *kept_w,
              const ew_tensor *last_w, const ew_integer_directions *d_w, const ew_tensor *kept_b,
              const ew_tensor *last_b, const ew_integer_directions *d_b, const ew_probe_settings *s, void *room);

#endif
