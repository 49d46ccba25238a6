/* From reset to main() on a Cortex-M with semihosting, and what happens if the program goes astray.
 *
 * Handlers run on a stack of their own (MSP): that of the program (PSP) may be what has failed. The MPU lets the
 * program touch its flash (read, execute), the RAM of its budget (read, write) and the peripherals of the board if it
 * uses any; everything else, such as what lies below the stack, ends in `ew_fault`.
 */
#include <stdint.h>
#include <string.h>

#include "board.h"
#include "host.h"
#include "mpu.h"

extern uint8_t ew_stack_start[], ew_stack_end[], ew_fault_stack_end[];
extern uint8_t ew_data_start[], ew_data_end[], ew_data_image[], ew_bss_start[], ew_bss_end[];
extern uint8_t ew_ram_start[], ew_ram_end[];

int main(void);
void ew_reset(void);
void ew_start(void);
void ew_fault(const uint32_t *frame);

#define REGISTER(address) (*(volatile uint32_t *)(uintptr_t)(address))
#define SYSTICK_CONTROL REGISTER(0xe000e010u)
#define SYSTICK_RELOAD REGISTER(0xe000e014u)
#define SYSTICK_NOW REGISTER(0xe000e018u)
#define SHCSR REGISTER(0xe000ed24u)
#define CFSR REGISTER(0xe000ed28u)
#define HFSR REGISTER(0xe000ed2cu)
#define MMFAR REGISTER(0xe000ed34u)
#define BFAR REGISTER(0xe000ed38u)
#define CPACR REGISTER(0xe000ed88u)

enum {
    PAINT = 0xa5,
    SYSTICK_TOP = 0xffffff, /* 24 bits */
    FAULT_MAGIC = 0x46445745 /* EWDF */
};

/* -- reset ------------------------------------------------------------------------------------------------------- */

static void copy_data(void)
{
    memcpy(ew_data_start, ew_data_image, (size_t)(ew_data_end - ew_data_start));
    memset(ew_bss_start, 0, (size_t)(ew_bss_end - ew_bss_start));
    memset(ew_stack_start, PAINT, (size_t)(ew_stack_end - ew_stack_start));
}

void ew_start(void)
{
    SYSTICK_RELOAD = SYSTICK_TOP;
    SYSTICK_NOW = 0;
    SYSTICK_CONTROL = 7; /* processor clock, interrupt, on */
    SHCSR |= 7u << 16;   /* faults of memory, bus and usage have handlers of their own numbers */
    copy_data();
    ew_mpu_start();
}

/* The FPU comes first: a compiler may use it, or MVE, to copy and clear memory. */
__attribute__((naked, noreturn)) void ew_reset(void)
{
    __asm__ volatile(
#ifdef __ARM_FP
        "ldr r0, =0xe000ed88\n" /* CPACR: full access to coprocessors 10 and 11 */
        "ldr r1, [r0]\n"
        "orr r1, r1, #0xf00000\n"
        "str r1, [r0]\n"
        "dsb\n"
        "isb\n"
#endif
#if defined(__ARM_FP) && defined(EW_EMULATED)
        "vmrs r0, fpscr\n"
        "orr r0, r0, #0x10\n" /* FPSCR.IXC, which emulators ask for before they use the FPU of their host */
        "vmsr fpscr, r0\n"
#endif
        "bl ew_start\n" /* on the stack of the handlers, where reset begins */
        "ldr r0, =ew_stack_end\n"
        "msr psp, r0\n"
        "mov r0, #2\n" /* CONTROL.SPSEL */
        "msr control, r0\n"
        "isb\n"
        "bl main\n"
        "b .\n");
}

/* -- clock and stack --------------------------------------------------------------------------------------------- */

static volatile uint32_t turns;

static void systick(void)
{
    turns++;
}

uint64_t ew_board_ticks(void)
{
    uint32_t before, now;

    do {
        before = turns;
        now = SYSTICK_NOW;
    } while (before != turns);
    return (uint64_t)before * (SYSTICK_TOP + 1u) + (SYSTICK_TOP - now);
}

uint32_t ew_board_stack_bytes(void)
{
    const uint8_t *at = ew_stack_start;

    while (at < ew_stack_end && *at == PAINT)
        at++;
    return (uint32_t)(ew_stack_end - at);
}

/* -- faults ------------------------------------------------------------------------------------------------------ */

/* What fault.bin says; 0 where it is not known. */
typedef struct {
    uint32_t magic;
    uint32_t exception; /* 3 hard fault, 4 memory, 5 bus, 6 usage */
    uint32_t status;    /* CFSR */
    uint32_t address;   /* of the access */
    uint32_t pc;
    uint32_t lr;
    uint32_t sp;
} fault;

void ew_fault(const uint32_t *frame)
{
    fault f = {.magic = FAULT_MAGIC, .status = CFSR, .sp = (uint32_t)(uintptr_t)frame};
    const uint8_t *const at = (const uint8_t *)frame;
    int file;

    __asm__ volatile("mrs %0, ipsr" : "=r"(f.exception));
    if (f.status & 0x80u)
        f.address = MMFAR;
    if (f.status & 0x8000u)
        f.address = BFAR;
    if (at >= ew_ram_start && at + 32 <= ew_ram_end) { /* else the frame could not be written */
        f.lr = frame[5];
        f.pc = frame[6];
    }
    file = ew_host_open("fault.bin", EW_HOST_CREATE);
    ew_host_write(file, 0, &f, sizeof f);
    ew_host_exit(3);
}

__attribute__((naked)) static void faulted(void)
{
    __asm__ volatile("tst lr, #4\n"
                     "ite eq\n"
                     "mrseq r0, msp\n"
                     "mrsne r0, psp\n"
                     "ldr r1, =ew_fault_stack_end\n"
                     "mov sp, r1\n"
                     "b ew_fault\n");
}

__attribute__((section(".vectors"), used)) static void (*const vectors[16])(void) = {
    (void (*)(void))ew_fault_stack_end,
    ew_reset,
    faulted, /* NMI */
    faulted, /* hard fault */
    faulted, /* memory */
    faulted, /* bus */
    faulted, /* usage */
    faulted, /* secure */
    0,
    0,
    0,
    faulted, /* SVC */
    faulted, /* debug */
    0,
    faulted, /* PendSV */
    systick,
};
