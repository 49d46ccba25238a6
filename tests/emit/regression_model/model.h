/* Written by hand in the form of a generated model: a linear regression whose weights are paged. */
#ifndef MODEL_H
#define MODEL_H

#include <stdint.h>

enum { MODEL_ARENA_BYTES = 512, MODEL_STORE_BYTES = 6 * 512 + 1024 + 512, MODEL_INPUTS = 2, MODEL_SLOTS = 3 };

typedef struct {
    uint32_t offset, bytes;
} model_range;

extern const model_range model_inputs[MODEL_INPUTS];
extern uint8_t model_arena[MODEL_ARENA_BYTES];

int model_init(void);
int model_step(uint64_t step, float *loss);
int model_save(void);

#endif
