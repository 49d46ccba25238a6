#include "pieces.h"

#include "walk.h"

/* `n` elements of `t` from `begin` on. */
static ew_tensor part_of(const ew_tensor *t, int32_t begin, int32_t n)
{
    const ew_tensor part = {ew_floats(t, begin), 1, {n}, {1}};
    return part;
}

void ew_sgd_pieces(const ew_tensor *parameter, const ew_pieces *gradient, const ew_tensor *momentum,
                   const ew_sgd_settings *s)
{
    float piece[EW_PIECE];
    for (int32_t begin = 0; begin < parameter->size[0]; begin += EW_PIECE) {
        const int32_t n = ew_min(EW_PIECE, parameter->size[0] - begin);
        const ew_tensor g = {piece, 1, {n}, {1}}, p = part_of(parameter, begin, n);
        const ew_tensor m = momentum == NULL ? p : part_of(momentum, begin, n);
        gradient->make(piece, n, (uint32_t)begin, p.data, gradient->source);
        ew_sgd(&p, &g, momentum == NULL ? NULL : &m, s);
    }
}

void ew_adamw_pieces(const ew_tensor *parameter, const ew_pieces *gradient, const ew_tensor *first,
                     const ew_tensor *second, const ew_adamw_settings *s, uint64_t step)
{
    float piece[EW_PIECE];
    for (int32_t begin = 0; begin < parameter->size[0]; begin += EW_PIECE) {
        const int32_t n = ew_min(EW_PIECE, parameter->size[0] - begin);
        const ew_tensor g = {piece, 1, {n}, {1}}, p = part_of(parameter, begin, n);
        const ew_tensor m = part_of(first, begin, n), v = part_of(second, begin, n);
        gradient->make(piece, n, (uint32_t)begin, p.data, gradient->source);
        ew_adamw(&p, &g, &m, &v, s, step);
    }
}
