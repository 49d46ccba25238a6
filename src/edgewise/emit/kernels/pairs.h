/* Private to the kernels: two products in one instruction, where the core has it: the DSP extension of Armv7E-M and
 * Armv8-M. A pair is a word of two int16. EW_PAIRS is 1 where there are such instructions; a test sets it elsewhere, to
 * go the same way in plain C.
 *
 * `volatile` keeps instructions in the order of the source, in which few values are alive at once: a compiler that thinks
 * of latencies alone runs out of registers. */
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

/* The lower halves of two words; the upper halves. */
static inline ew_pair ew_lower(uint32_t a, uint32_t b)
{
    ew_pair made;
    __asm__ volatile("pkhbt %0, %1, %2, lsl #16" : "=r"(made) : "r"(a), "r"(b));
    return made;
}

static inline ew_pair ew_upper(uint32_t a, uint32_t b)
{
    ew_pair made;
    __asm__ volatile("pkhtb %0, %1, %2, asr #16" : "=r"(made) : "r"(b), "r"(a));
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

static inline ew_pair ew_lower(uint32_t a, uint32_t b)
{
    return (a & 0xffffu) | b << 16;
}

static inline ew_pair ew_upper(uint32_t a, uint32_t b)
{
    return a >> 16 | (b & 0xffff0000u);
}

static inline ew_pair ew_even(uint32_t four)
{
    return ew_lower((uint32_t)(int8_t)four, (uint32_t)(int8_t)(four >> 16));
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
