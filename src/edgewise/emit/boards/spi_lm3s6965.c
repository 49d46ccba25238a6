/* The card slot of the LM3S6965 evaluation board: SSI0, a PL022, on port A, and chip select at pin D0. */
#include "spi.h"

#define REGISTER(address) (*(volatile uint32_t *)(uintptr_t)(address))
#define CLOCKS_1 REGISTER(0x400fe104u) /* RCGC1: bit 4 is SSI0 */
#define CLOCKS_2 REGISTER(0x400fe108u) /* RCGC2: bits 0 and 3 are ports A and D */
#define PORT_A_FUNCTION REGISTER(0x40004420u)
#define PORT_A_DIGITAL REGISTER(0x4000451cu)
#define PORT_D_DIRECTION REGISTER(0x40007400u)
#define PORT_D_DIGITAL REGISTER(0x4000751cu)
#define PORT_D_PIN_0 REGISTER(0x40007004u) /* the address says which bits are written */
#define SSI_CONTROL_0 REGISTER(0x40008000u)
#define SSI_CONTROL_1 REGISTER(0x40008004u)
#define SSI_DATA REGISTER(0x40008008u)
#define SSI_STATUS REGISTER(0x4000800cu)
#define SSI_PRESCALE REGISTER(0x40008010u)

enum {
    SSI_PINS = 0x34, /* A2 clock, A4 in, A5 out */
    EIGHT_BITS = 7,
    ENABLED = 2,
    RECEIVED = 4, /* of the status: there is something to read */
    SLOWLY = 32,  /* of the 12.5 MHz after reset */
    FAST = 2
};

void ew_spi_start(int fast)
{
    CLOCKS_1 |= 1u << 4;
    CLOCKS_2 |= 1u << 3 | 1u;
    PORT_A_FUNCTION |= SSI_PINS;
    PORT_A_DIGITAL |= SSI_PINS;
    PORT_D_DIRECTION |= 1;
    PORT_D_DIGITAL |= 1;
    SSI_CONTROL_1 = 0;
    SSI_PRESCALE = fast ? FAST : SLOWLY;
    SSI_CONTROL_0 = EIGHT_BITS;
    SSI_CONTROL_1 = ENABLED;
}

void ew_spi_select(int selected)
{
    PORT_D_PIN_0 = selected ? 0 : 1;
}

uint8_t ew_spi_exchange(uint8_t out)
{
    SSI_DATA = out;
    while (!(SSI_STATUS & RECEIVED))
        continue;
    return (uint8_t)SSI_DATA;
}
