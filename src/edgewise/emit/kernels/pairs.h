/* Private to the kernels: two products in one instruction, where the core has it: the DSP extension of Armv7E-M and
 * Armv8-M. A pair is a word of two int16. EW_PAIRS is 1 where pairs are worth it; a test sets it elsewhere, to go the
 * same way in plain C. */
#ifndef EW_PAIRS_H
#define EW_PAIRS_H

#include <stdint.h>

typedef uint32_t ew_pair;

/* Four bytes from anywhere, the first one lowest. */
static inline uint32_t ew_four_at(const int8_t *p)
{
    uint32_t bytes;
    __builtin_memcpy(&bytes, p, sizeof bytes);
    return bytes;
}

#ifdef __ARM_FEATURE_DSP
#define EW_PAIRS 1

/* Bytes 0 and 2 of four; bytes 1 and 3. */
static inline ew_pair ew_even(uint32_t four)
{
    ew_pair made;
    __asm__ volatile("sxtb16 %0, %1" : "=r"(made) : "r"(four));
    return made;
}

static inline ew_pair ew_odd(uint32_t four)
{
    ew_pair made;
    __asm__ volatile("sxtb16 %0, %1, ror #8" : "=r"(made) : "r"(four));
    return made;
}

/* sum + a0 b0 + a1 b1 */
static inline int32_t ew_add_products(int32_t sum, ew_pair a, ew_pair b)
{
    __asm__ volatile("smlad %0, %1, %2, %0" : "+r"(sum) : "r"(a), "r"(b));
    return sum;
}

#else
#ifndef EW_PAIRS
#define EW_PAIRS 0
#endif

static inline ew_pair ew_even(uint32_t four)
{
    const uint32_t low = (uint32_t)(int8_t)four, high = (uint32_t)(int8_t)(four >> 16);
    return (low & 0xffffu) | high << 16;
}

static inline ew_pair ew_odd(uint32_t four)
{
    return ew_even(four >> 8);
}

static inline int32_t ew_add_products(int32_t sum, ew_pair a, ew_pair b)
{
    return sum + (int16_t)a * (int16_t)b + (int16_t)(a >> 16) * (int16_t)(b >> 16);
}

#endif
#endif
