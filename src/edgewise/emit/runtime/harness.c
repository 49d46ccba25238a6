/* main() of an emulated board: trains on batches from files of the host, and reports.
 *
 * command.bin  what to do: `command`, then its ranges
 * batches.bin  for each step the tensors of `model_inputs`, one after the other
 * result.bin   `report`, the loss of each step as float, then the ranges of the arena that the command named
 *
 * All little-endian. The report is written last: without its magic number the program has not come to its end.
 */
#include "board.h"
#include "host.h"
#include "model.h"
#include "store.h"

enum { COMMAND_MAGIC = 0x43445745 /* EWDC */, REPORT_MAGIC = 0x52445745 /* EWDR */ };

typedef struct {
    uint32_t magic;
    uint32_t first_step;
    uint32_t steps;
    uint32_t ranges; /* of the arena, to write to the result at the end */
} command;

typedef enum { IN_FILES, IN_INIT, IN_STEP, IN_SAVE, AT_END } stage;

typedef struct {
    uint32_t magic;
    int32_t status; /* as model_init, model_step or model_save returned it; -1 for files of the host */
    uint32_t stage; /* where that was */
    uint32_t steps; /* done */
    uint32_t stack_bytes;
    uint32_t reserved;
    uint64_t ticks;
    ew_traffic traffic;
} report;

static command todo;
static report done = {.magic = REPORT_MAGIC};
static int result;
static uint32_t written = sizeof(report);

static int write_result(const void *from, uint32_t bytes)
{
    const int failed = ew_host_write(result, written, from, bytes);

    written += bytes;
    return failed;
}

static int read_batch(int batches, uint32_t step)
{
    uint32_t bytes = 0, at;

    for (uint32_t i = 0; i < MODEL_INPUTS; i++)
        bytes += model_inputs[i].bytes;
    at = step * bytes;
    for (uint32_t i = 0; i < MODEL_INPUTS; i++) {
        if (ew_host_read(batches, at, model_arena + model_inputs[i].offset, model_inputs[i].bytes))
            return -1;
        at += model_inputs[i].bytes;
    }
    return 0;
}

static int train(void)
{
    const int batches = ew_host_open("batches.bin", EW_HOST_READ);
    float loss = 0.0f;
    int failed = 0;

    for (done.steps = 0; done.steps < todo.steps; done.steps++) {
        done.stage = IN_FILES;
        if (batches < 0 || read_batch(batches, done.steps))
            return -1;
        done.stage = IN_STEP;
        if ((failed = model_step((uint64_t)todo.first_step + done.steps, &loss)))
            return failed;
        done.stage = IN_FILES;
        if (write_result(&loss, sizeof loss))
            return -1;
    }
    return 0;
}

static int read_back(int commands)
{
    model_range range;

    done.stage = IN_FILES;
    for (uint32_t i = 0; i < todo.ranges; i++) {
        if (ew_host_read(commands, (uint32_t)(sizeof todo + i * sizeof range), &range, sizeof range) ||
            write_result(model_arena + range.offset, range.bytes))
            return -1;
    }
    done.stage = AT_END;
    return 0;
}

static int run(void)
{
    const int commands = ew_host_open("command.bin", EW_HOST_READ);
    int failed;

    if (commands < 0 || ew_host_read(commands, 0, &todo, sizeof todo) || todo.magic != COMMAND_MAGIC)
        return -1;
    done.stage = IN_INIT;
    if ((failed = model_init()) || (failed = train()))
        return failed;
    done.stage = IN_SAVE;
    if ((failed = model_save()))
        return failed;
    return read_back(commands);
}

int main(void)
{
    result = ew_host_open("result.bin", EW_HOST_CREATE);
    done.status = run();
    done.stack_bytes = ew_board_stack_bytes();
    done.ticks = ew_board_ticks();
    done.traffic = ew_store_traffic;
    const int failed = ew_host_write(result, 0, &done, sizeof done);
    ew_host_exit(done.status || failed ? 1 : 0);
    return 0;
}
