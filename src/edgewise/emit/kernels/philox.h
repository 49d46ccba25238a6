/* Private to the kernels: numbers of other laws, made of the generator's words. */
#ifndef EW_PHILOX_H
#define EW_PHILOX_H

#include "ew.h"

/* Two standard normal numbers of two words. */
void ew_normal_pair(const uint32_t words[2], float normal[2]);

#endif
