/* Integer weights along directions of bytes, which are drawn again each time: to where a loss is taken, and back. */
#include "fixed_point.h"
#include "fixed_point_draws.h"

#define ONE_SIGN 36 /* 1 in units of 3.5 / 127 */
#define GUIDANCE_BITS 14
#define NOISE_BITS 16

int32_t ew_elements_of(const ew_tensor *t)
{
    int32_t count = 1;
    for (int32_t d = 0; d < t->dims; ++d)
        count *= t->size[d];
    return count;
}

/* Bytes from number `first` on. */
static void draw_bytes(uint8_t *bytes, int32_t n, uint32_t first, uint32_t stream, const ew_integer_directions *d,
                       uint64_t step)
{
    const ew_key key = {d->seed, step, stream};
    uint32_t words[4] = {0, 0, 0, 0};
    for (int32_t i = 0; i < n; ++i) {
        const uint32_t at = first + (uint32_t)i;
        if (i == 0 || at % 16 == 0)
            ew_philox(words, at / 16, &key);
        bytes[i] = (uint8_t)(words[at / 4 % 4] >> 8 * (at % 4));
    }
}

static int8_t level_of(uint8_t byte, ew_law law)
{
    if (law == EW_RADEMACHER)
        return byte < 128 ? -ONE_SIGN : ONE_SIGN;
    return (int8_t)(byte < 128 ? -normal_levels[127 - byte] : normal_levels[byte - 128]);
}

static int8_t guided(int8_t z, int8_t last, const ew_integer_directions *d)
{
    const int32_t sum = (z * d->spread + last * d->rest + (1 << (GUIDANCE_BITS - 1))) >> GUIDANCE_BITS;
    return (int8_t)ew_max(-EW_LEVELS, ew_min(EW_LEVELS, sum));
}

ew_drawn ew_drawn_of(const ew_integer_directions *d, const ew_tensor *kept, const ew_tensor *last, int32_t first)
{
    const int guides = last != NULL && d->step >= d->after;
    const ew_drawn drawn = {d, kept == NULL ? NULL : kept->data, guides ? last->data : NULL, (uint32_t)first};
    return drawn;
}

void ew_draw(int8_t *z, int32_t n, uint32_t begin, int32_t direction, const ew_drawn *drawn)
{
    const ew_integer_directions *const d = drawn->d;
    const uint32_t first = drawn->first + begin;
    uint8_t bytes[EW_DRAWN];
    draw_bytes(bytes, n, first, d->streams[direction], d, d->step);
    for (int32_t i = 0; i < n; ++i) {
        z[i] = level_of(bytes[i], d->law);
        if (drawn->last != NULL)
            z[i] = guided(z[i], drawn->last[begin + (uint32_t)i], d);
        if (drawn->kept != NULL && (drawn->kept[(first + (uint32_t)i) / 8] >> (first + (uint32_t)i) % 8 & 1) == 0)
            z[i] = 0;
    }
    if (d->below == 0)
        return;
    draw_bytes(bytes, n, first, d->mask, d, 0);
    for (int32_t i = 0; i < n; ++i)
        z[i] = bytes[i] < d->below ? z[i] : 0;
}

void ew_shift(const ew_tensor *w, ew_type type, const ew_tensor *kept, const ew_tensor *last, const ew_tensor *sign,
              int32_t times, const ew_factor *rate, int32_t first, const ew_integer_directions *d)
{
    const ew_drawn drawn = ew_drawn_of(d, kept, last, first);
    const int32_t count = ew_elements_of(w), all = sign == NULL ? times : times * *ew_bytes(sign, 0);
    int8_t z[EW_DRAWN];
    for (int32_t begin = 0; begin < count; begin += EW_DRAWN) {
        const int32_t n = ew_min(EW_DRAWN, count - begin);
        ew_draw(z, n, (uint32_t)begin, 0, &drawn);
        for (int32_t i = 0; i < n; ++i)
            ew_set_weight(w, type, begin + i, ew_weight(w, type, begin + i) + all * ew_move_of(z[i], rate));
    }
}

/* -- updates ------------------------------------------------------------------------------------------------------ */

static uint64_t root_of(uint64_t x)
{
    uint64_t root = 0;
    for (uint64_t bit = (uint64_t)1 << 62; bit != 0; bit >>= 2)
        if (x >= root + bit) {
            x -= root + bit;
            root = (root >> 1) + bit;
        } else {
            root >>= 1;
        }
    return root;
}

static uint64_t squares_of_weights(const ew_tensor *w, ew_type type)
{
    uint64_t sum = 0;
    for (int32_t i = 0; i < ew_elements_of(w); ++i) {
        const int64_t v = ew_weight(w, type, i);
        sum += (uint64_t)(v * v);
    }
    return sum;
}

static uint64_t squares_of_direction(int32_t count, int32_t direction, const ew_drawn *drawn)
{
    uint64_t sum = 0;
    int8_t z[EW_DRAWN];
    for (int32_t begin = 0; begin < count; begin += EW_DRAWN) {
        const int32_t n = ew_min(EW_DRAWN, count - begin);
        ew_draw(z, n, (uint32_t)begin, direction, drawn);
        for (int32_t i = 0; i < n; ++i)
            sum += (uint64_t)(z[i] * z[i]);
    }
    return sum;
}

/* The norm of the weights over that of the direction, in units of 2^-16. */
static int64_t ratio_of(uint64_t weights, uint64_t direction)
{
    const uint64_t length = direction > 0 ? direction : 1;
    return (int64_t)root_of((weights / length << 2 * NOISE_BITS) + ((weights % length << 2 * NOISE_BITS) / length));
}

static int64_t factor_of(const ew_rate *rate, uint64_t step)
{
    if (rate->decay_steps == 0)
        return rate->units;
    const uint64_t left = rate->decay_steps > step ? rate->decay_steps - step : 0;
    return rate->units * (int64_t)left / (int64_t)rate->decay_steps;
}

static void normalize(int64_t *factors, const ew_tensor *w, ew_type type, const ew_drawn *drawn)
{
    const uint64_t weights = squares_of_weights(w, type);
    for (int32_t i = 0; i < drawn->d->count; ++i) {
        const uint64_t length = squares_of_direction(ew_elements_of(w), i, drawn);
        factors[i] = factors[i] * ratio_of(weights, length) >> NOISE_BITS;
    }
}

/* Some elements of the sums over all directions of s z and of F s z. */
typedef struct {
    int64_t change[EW_DRAWN];
    int32_t followed[EW_DRAWN];
} sums;

static void add_direction(sums *s, int32_t n, uint32_t first, int32_t direction, int8_t sign, int64_t factor,
                          const ew_drawn *drawn)
{
    int8_t z[EW_DRAWN];
    ew_draw(z, n, first, direction, drawn);
    for (int32_t i = 0; i < n; ++i) {
        s->change[i] += sign * factor * z[i];
        s->followed[i] += sign * z[i];
    }
}

/* The change of the weight, rounded at random. */
static void add_noise(sums *s, int32_t n, uint32_t begin, const ew_rate *rate, const ew_drawn *drawn)
{
    const ew_key key = {drawn->d->seed, drawn->d->step, rate->noise};
    uint32_t words[4] = {0, 0, 0, 0};
    for (int32_t i = 0; i < n; ++i) {
        const uint32_t at = drawn->first + begin + (uint32_t)i;
        if (i == 0 || at % 8 == 0)
            ew_philox(words, at / 8, &key);
        s->change[i] = (s->change[i] + (words[at / 2 % 4] >> 16 * (at % 2) & 0xffffu)) >> NOISE_BITS;
    }
}

void ew_follow(const ew_tensor *w, ew_type type, const ew_tensor *kept, const ew_tensor *last, const ew_tensor *signs,
               const ew_rate *rate, int32_t first, const ew_integer_directions *d, void *room)
{
    const ew_drawn drawn = ew_drawn_of(d, kept, last, first);
    const int32_t count = ew_elements_of(w);
    const int64_t most = rate->most;
    int64_t *const factors = room;
    for (int32_t i = 0; i < d->count; ++i)
        factors[i] = factor_of(rate, d->step);
    if (rate->normalized)
        normalize(factors, w, type, &drawn);
    for (int32_t begin = 0; begin < count; begin += EW_DRAWN) {
        const int32_t n = ew_min(EW_DRAWN, count - begin);
        sums s = {{0}, {0}};
        for (int32_t i = 0; i < d->count; ++i)
            add_direction(&s, n, (uint32_t)begin, i, *ew_bytes(signs, i), factors[i], &drawn);
        add_noise(&s, n, (uint32_t)begin, rate, &drawn);
        for (int32_t i = 0; i < n; ++i) {
            const int64_t moved = ew_weight(w, type, begin + i) - s.change[i];
            ew_set_weight(w, type, begin + i, (int32_t)(moved > most ? most : moved < -most ? -most : moved));
            if (last != NULL)
                *ew_bytes(last, begin + i) = (int8_t)(s.followed[i] / d->count);
        }
    }
}
