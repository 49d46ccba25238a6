#include "model.h"

#include <string.h>

#include "store.h"

enum { FEATURES = 8, BATCH = 4, STEPS_KEPT = 100 };
enum { X = 0, T = 128, W = 144, B = 176, DW = 192 };
enum { SLOT_W, SLOT_B, SLOT_LOSSES };

static const ew_slot slots[MODEL_SLOTS] = {
    {2048, 4 * FEATURES, EW_DOUBLE},
    {3072, 4, EW_DOUBLE},
    {4096, 4 * STEPS_KEPT, EW_JOURNAL},
};
static const ew_store store = {slots, MODEL_SLOTS, 1024, 1024, MODEL_STORE_BYTES};

const model_range model_inputs[MODEL_INPUTS] = {{X, 4 * BATCH * FEATURES}, {T, 4 * BATCH}};
uint8_t model_arena[MODEL_ARENA_BYTES] __attribute__((aligned(8)));

#define AT(offset) ((float *)(void *)(model_arena + (offset)))

int model_init(void)
{
    const int failed = ew_store_open(&store);

    return failed ? failed : ew_slot_read(SLOT_B, EW_OLD, 0, AT(B), 4);
}

int model_step(uint64_t step, float *loss)
{
    float *const x = AT(X), *const t = AT(T), *const w = AT(W), *const b = AT(B), *const dw = AT(DW);
    float db = 0.0f, sum = 0.0f;
    int failed = ew_slot_read(SLOT_W, EW_OLD, 0, w, 4 * FEATURES);

    memset(dw, 0, 4 * FEATURES);
    for (int i = 0; i < BATCH; i++) {
        float y = *b;
        for (int j = 0; j < FEATURES; j++)
            y += w[j] * x[i * FEATURES + j];
        y -= t[i];
        sum += y * y;
        db += y;
        for (int j = 0; j < FEATURES; j++)
            dw[j] += y * x[i * FEATURES + j];
    }
    for (int j = 0; j < FEATURES; j++)
        w[j] -= 0.025f * dw[j];
    *b = (float)((double)*b - 0.025 * (double)db); /* double, as AdamW has it */
    *loss = sum / (float)BATCH;
    failed = failed ? failed : ew_slot_write(SLOT_W, 0, w, 4 * FEATURES);
    failed = failed ? failed : ew_slot_write(SLOT_LOSSES, (uint32_t)(step % STEPS_KEPT) * 4, loss, 4);
    return failed ? failed : ew_store_commit();
}

int model_save(void)
{
    const int failed = ew_slot_write(SLOT_B, 0, AT(B), 4);

    return failed ? failed : ew_store_commit();
}
