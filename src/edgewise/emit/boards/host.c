/* A computer in the place of a board: no stack of ours to measure, no clock to count. */
#include "board.h"

uint32_t ew_board_stack_bytes(void)
{
    return 0;
}

uint64_t ew_board_ticks(void)
{
    return 0;
}
