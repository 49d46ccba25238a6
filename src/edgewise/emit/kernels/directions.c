/* Random directions, drawn where they are needed: no more of one is ever there than a piece on the stack. */
#include "numbers.h"
#include "philox.h"
#include "pieces.h"

/* The sum of some directions of a parameter, piece by piece. */
typedef struct {
    const ew_directions *d;
    const float *scales; /* or, without: */
    const ew_tensor *coefficients, *steps;
    const ew_tensor *threshold; /* or NULL */
    int32_t first;              /* element of the parameter with which a slice of it begins */
} combination;

/* Adds c z to `total`, elements of z from `first` on: 32 signs in a word, its lowest bit first. */
static void add_signs(float *total, int32_t n, uint32_t first, float c, const ew_key *key)
{
    uint32_t words[4] = {0, 0, 0, 0};
    for (int32_t i = 0; i < n; ++i) {
        const uint32_t at = first + (uint32_t)i;
        if (i == 0 || at % 128 == 0)
            ew_philox(words, at / 128, key);
        total[i] += (words[at / 32 % 4] >> at % 32 & 1) != 0 ? c : -c;
    }
}

/* The same of normal numbers: two of each pair of words. */
static void add_normals(float *total, int32_t n, uint32_t first, float c, const ew_key *key)
{
    uint32_t words[4] = {0, 0, 0, 0};
    float pair[2] = {0.0f, 0.0f};
    for (int32_t i = 0; i < n; ++i) {
        const uint32_t at = first + (uint32_t)i;
        if (i == 0 || at % 4 == 0)
            ew_philox(words, at / 4, key);
        if (i == 0 || at % 2 == 0)
            ew_normal_pair(words + (at & 2), pair);
        total[i] += c * pair[at % 2];
    }
}

static float coefficient_of(const combination *c, int32_t i)
{
    if (c->coefficients == NULL)
        return c->scales == NULL ? 1.0f : c->scales[i];
    return *ew_floats(c->coefficients, i * c->coefficients->stride[0]);
}

static uint64_t step_of(const combination *c, int32_t i)
{
    return c->steps == NULL ? c->d->step : (uint64_t)((const int64_t *)c->steps->data)[i * c->steps->stride[0]];
}

/* `n` elements of the sum, of a slice of the parameter those from `begin` on; `w` are these. */
static void combine(float *total, int32_t n, uint32_t begin, const float *w, const void *source)
{
    const combination *const c = source;
    const uint32_t first = (uint32_t)c->first + begin;
    __builtin_memset(total, 0, (size_t)n * sizeof *total);
    for (int32_t i = 0; i < c->d->count; ++i) {
        const float scale = coefficient_of(c, i);
        const ew_key key = {c->d->seed, step_of(c, i), c->d->streams[i]};
        if (i > 0 && scale == 0.0f)
            continue;
        if (c->d->law == EW_RADEMACHER)
            add_signs(total, n, first, scale, &key);
        else
            add_normals(total, n, first, scale, &key);
    }
    for (int32_t i = 0; c->threshold != NULL && i < n; ++i)
        if (ew_absf(w[i]) < *ew_floats(c->threshold, 0))
            total[i] = 0.0f;
}

void ew_along(const ew_tensor *out, const ew_tensor *coefficients, const ew_tensor *steps, const ew_tensor *w,
              const ew_tensor *threshold, int32_t first, const ew_directions *d)
{
    const combination c = {d, NULL, coefficients, steps, threshold, first};
    combine(ew_floats(out, 0), out->size[0], 0, w == NULL ? NULL : ew_floats(w, 0), &c);
}

void ew_direction(const ew_tensor *out, const ew_tensor *w, const ew_tensor *threshold, int32_t first,
                  const ew_directions *d)
{
    ew_along(out, NULL, NULL, w, threshold, first, d);
}

/* out = w + the sum */
static void move(float *out, const float *w, int32_t n, const combination *c)
{
    float total[EW_PIECE];
    for (int32_t begin = 0; begin < n; begin += EW_PIECE) {
        const int32_t length = ew_min(EW_PIECE, n - begin);
        combine(total, length, (uint32_t)begin, w + begin, c);
        for (int32_t i = 0; i < length; ++i)
            out[begin + i] = w[begin + i] + total[i];
    }
}

void ew_perturbed(const ew_tensor *out, const ew_tensor *w, const ew_tensor *threshold, float scale, int32_t first,
                  const ew_directions *d)
{
    const combination c = {d, &scale, NULL, NULL, threshold, first};
    move(ew_floats(out, 0), ew_floats(w, 0), w->size[0], &c);
}

void ew_nudge(const ew_tensor *w, const float scales[], int32_t first, const ew_directions *d)
{
    const combination c = {d, scales, NULL, NULL, NULL, first};
    move(ew_floats(w, 0), ew_floats(w, 0), w->size[0], &c);
}

void ew_sgd_along(const ew_tensor *parameter, const ew_tensor *coefficients, const ew_tensor *steps,
                  const ew_tensor *threshold, int32_t first, const ew_directions *d, const ew_tensor *momentum,
                  const ew_sgd_settings *s)
{
    const combination c = {d, NULL, coefficients, steps, threshold, first};
    const ew_pieces pieces = {combine, &c};
    ew_sgd_pieces(parameter, &pieces, momentum, s);
}

void ew_adamw_along(const ew_tensor *parameter, const ew_tensor *coefficients, const ew_tensor *steps,
                    const ew_tensor *threshold, int32_t first, const ew_directions *d, const ew_tensor *mean,
                    const ew_tensor *square, const ew_adamw_settings *s, uint64_t step)
{
    const combination c = {d, NULL, coefficients, steps, threshold, first};
    const ew_pieces pieces = {combine, &c};
    ew_adamw_pieces(parameter, &pieces, mean, square, s, step);
}
