/* What the harness asks of the board it runs on; boards/startup.c, or boards/host.c. */
#ifndef EW_BOARD_H
#define EW_BOARD_H

#include <stdint.h>

uint32_t ew_board_stack_bytes(void); /* of the stack, used at some time since the start; 0 if not known */
uint64_t ew_board_ticks(void);       /* of the processor's clock since the start; 0 if not known */

#endif
