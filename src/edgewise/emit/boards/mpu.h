/* Only what the linker script names can be touched from here on. */
#ifndef EW_MPU_H
#define EW_MPU_H

void ew_mpu_start(void);

#endif
