/* Float32 to int8, as edgewise.capture.integers rounds: to nearest, half to even, or at random without bias. */
#include "integers.h"

void ew_round_nearest(const ew_tensor *out, const ew_tensor *x, const ew_tensor *scale)
{
    const ew_tensor *const operands[] = {out, x};
    const float inverse = 1.0f / *ew_floats(scale, 0);
    ew_walk w;
    for (ew_walk_begin(&w, 2, operands); w.n > 0; ew_walk_step(&w))
        *ew_bytes(out, ew_walk_at(&w, 0)) = ew_level_of(*ew_floats(x, ew_walk_at(&w, 1)) * inverse);
}

void ew_dither_begin(ew_dither *d, int32_t rows, int32_t row, const ew_key *key)
{
    ew_philox(d->words, (uint32_t)row / 4, key);
    d->row = d->words[row % 4] >> 9;
    d->next = (uint32_t)rows;
    d->key = key;
    ew_philox(d->words, d->next / 4, key);
}

float ew_dither_next(ew_dither *d)
{
    if (d->next % 4 == 0)
        ew_philox(d->words, d->next / 4, d->key);
    return (float)((d->row + (d->words[d->next++ % 4] >> 9)) & 0x7fffffu) * 1.1920928955078125e-7f; /* 2^-23 */
}

/* What the number of a row and that of a column say together: u = frac(a + b). */
void ew_round_stochastic(const ew_tensor *out, const ew_tensor *x, const ew_tensor *scale, const ew_key *key)
{
    const float inverse = 1.0f / *ew_floats(scale, 0);
    for (int32_t row = 0; row < x->size[0]; ++row) {
        const ew_tensor to = ew_select(out, 0, row, 1), from = ew_select(x, 0, row, sizeof(float));
        const ew_tensor *const operands[] = {&to, &from};
        ew_dither d;
        ew_walk w;
        ew_dither_begin(&d, x->size[0], row, key);
        for (ew_walk_begin_in_order(&w, 2, operands); w.n > 0; ew_walk_step(&w)) {
            const float u = ew_dither_next(&d);
            *ew_bytes(&to, ew_walk_at(&w, 0)) = ew_level_of(ew_rounded_down(u + *ew_floats(&from, ew_walk_at(&w, 1)) * inverse));
        }
    }
}
