/* The memory protection unit, PMSAv7 (M3, M4, M7) and PMSAv8 (M33, M55).
 *
 * The default map is off, also for privileged code: what no region names is a memory fault. Hard faults and the
 * system's own registers are beyond its reach.
 */
#include "mpu.h"

#include <stdint.h>

extern uint8_t ew_flash_start[], ew_flash_end[], ew_ram_start[], ew_ram_end[];
extern uint8_t ew_peripherals_start[], ew_peripherals_end[], ew_medium_start[], ew_medium_end[];

#define REGISTER(address) (*(volatile uint32_t *)(uintptr_t)(address))
#define MPU_TYPE REGISTER(0xe000ed90u)
#define MPU_CONTROL REGISTER(0xe000ed94u)
#define MPU_REGION REGISTER(0xe000ed98u)
#define MPU_BASE REGISTER(0xe000ed9cu)
#define MPU_SIZE REGISTER(0xe000eda0u) /* PMSAv8: the limit */
#define MPU_ATTRIBUTES REGISTER(0xe000edc0u)

static uint32_t regions; /* in use */

#if __ARM_ARCH >= 8

typedef enum { CODE = 6u /* read only */, DATA = 3u /* no execution */, DEVICE = 0x103u } use;

static void add(const uint8_t *start, const uint8_t *end, use how)
{
    if (start == end)
        return;
    MPU_REGION = regions++;
    MPU_BASE = ((uint32_t)(uintptr_t)start & ~31u) | ((uint32_t)how & 7u);
    MPU_SIZE = (((uint32_t)(uintptr_t)end - 1u) & ~31u) | ((uint32_t)how >> 8 << 1) | 1u;
}

static void set_attributes(void)
{
    MPU_ATTRIBUTES = 0x0044u; /* 0: memory, not cached; 1: device */
}

#else

typedef enum { CODE = 0x06080000u, DATA = 0x13080000u, DEVICE = 0x13050000u } use; /* AP, XN, TEX S C B */

/* Regions are powers of two from 32 bytes on, at multiples of their size: [start, end) is cut into such, the largest
 * that fits first. If that takes more than `most`, the last one sticks out. */
static void add_pieces(uint32_t start, uint32_t end, use how, uint32_t most)
{
    while (start < end) {
        uint32_t log = 5;
        most--;
        while (log < 31 && !(start & ((2u << log) - 1u)) &&
               (most == 0 ? start + (1u << log) < end : start + (2u << log) <= end))
            log++;
        MPU_REGION = regions++;
        MPU_BASE = start;
        MPU_SIZE = (uint32_t)how | (log - 1u) << 1 | 1u;
        if (most == 0)
            return;
        start += 1u << log;
    }
}

static void add(const uint8_t *start, const uint8_t *end, use how)
{
    add_pieces((uint32_t)(uintptr_t)start, (uint32_t)(uintptr_t)end, how, how == DATA ? 6 : 1);
}

static void set_attributes(void) {}

#endif

void ew_mpu_start(void)
{
    if (!MPU_TYPE)
        return;
    set_attributes();
    add(ew_flash_start, ew_flash_end, CODE);
    add(ew_ram_start, ew_ram_end, DATA);
    add(ew_peripherals_start, ew_peripherals_end, DEVICE);
    add(ew_medium_start, ew_medium_end, DATA);
    MPU_CONTROL = 1;
    __asm__ volatile("dsb\n isb" ::: "memory");
}
