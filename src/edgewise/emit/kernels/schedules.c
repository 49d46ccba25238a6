/* States of a method that are made anew every so many steps (edgewise.capture.schedules). */
#include "walk.h"

void ew_snapshot(const ew_tensor *state, const ew_tensor *w, uint64_t step, uint32_t every)
{
    if (step % every == 0)
        ew_copy(state, w, EW_F32);
}

/* How many elements have at least the magnitude whose bits, as a number, are these. */
static int32_t count_from(const ew_tensor *w, uint32_t bits)
{
    int32_t count = 0;
    for (int32_t i = 0; i < w->size[0]; ++i)
        count += (ew_bits(*ew_floats(w, i)) & 0x7fffffffu) >= bits;
    return count;
}

/* Bit by bit from the highest: the bits of positive numbers are in the order of the numbers. */
void ew_threshold(const ew_tensor *state, const ew_tensor *w, int32_t count, uint64_t step, uint32_t every)
{
    const uint32_t infinity = 0x7f800000u;
    uint32_t found = 0;
    if (step % every != 0)
        return;
    for (uint32_t bit = 1u << 30; bit > 0; bit >>= 1)
        if ((found | bit) < infinity && count_from(w, found | bit) >= count)
            found |= bit;
    *ew_floats(state, 0) = ew_float(found);
}
