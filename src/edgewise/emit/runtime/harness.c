/* main() of an emulated board: trains on batches from files of the host, and reports.
 *
 * command.bin  what to do: `command`, then its ranges
 * batches.bin  for each step the tensors of `model_inputs`, one after the other
 * inputs.bin   for each inference after that the tensors of `model_infer_inputs`, one after the other
 * result.bin   `report`, the loss of each step as float, the output of each inference, then the ranges of the arena
 *              that the command named
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
    uint32_t inferences; /* after the last step */
    uint32_t ranges;     /* of the arena, to write to the result at the end */
} command;

typedef enum { IN_FILES, IN_INIT, IN_STEP, IN_SAVE, IN_INFER, AT_END } stage;

/* What the run has taken so far, after each of its parts. */
typedef struct {
    uint64_t ticks;
    ew_traffic traffic;
} mark;

enum { WITH_ALL = 4 /* init, steps, save, inferences */, MARKS };

typedef struct {
    uint32_t magic;
    int32_t status; /* as model_init, model_step or model_save returned it; -1 for files of the host */
    uint32_t stage; /* where that was */
    uint32_t steps; /* done */
    uint32_t stack_bytes;
    uint32_t reserved;
    mark marks[MARKS];
} report;

static command todo;
static report done = {.magic = REPORT_MAGIC};
static int result;
static uint32_t written = sizeof(report);

static void set_mark(uint32_t after)
{
    done.marks[after].ticks = ew_board_ticks();
    done.marks[after].traffic = ew_store_traffic;
}

static int write_result(const void *from, uint32_t bytes)
{
    const int failed = ew_host_write(result, written, from, bytes);

    written += bytes;
    return failed;
}

/* Record `number` of a file, into the ranges of the arena. */
static int read_record(int file, uint32_t number, const model_range *ranges, uint32_t count)
{
    uint32_t bytes = 0, at;

    for (uint32_t i = 0; i < count; i++)
        bytes += ranges[i].bytes;
    at = number * bytes;
    for (uint32_t i = 0; i < count; i++) {
        if (ew_host_read(file, at, model_arena + ranges[i].offset, ranges[i].bytes))
            return -1;
        at += ranges[i].bytes;
    }
    return 0;
}

static int train(void)
{
#ifdef MODEL_INFERS_ONLY
    return todo.steps ? -1 : 0;
#else
    const int batches = ew_host_open("batches.bin", EW_HOST_READ);
    float loss = 0.0f;
    int failed = 0;

    for (done.steps = 0; done.steps < todo.steps; done.steps++) {
        done.stage = IN_FILES;
        if (batches < 0 || read_record(batches, done.steps, model_inputs, MODEL_INPUTS))
            return -1;
        done.stage = IN_STEP;
        if ((failed = model_step((uint64_t)todo.first_step + done.steps, &loss)))
            return failed;
        done.stage = IN_FILES;
        if (write_result(&loss, sizeof loss))
            return -1;
    }
    return 0;
#endif
}

static int save(void)
{
#ifdef MODEL_INFERS_ONLY
    return 0;
#else
    done.stage = IN_SAVE;
    return model_save();
#endif
}

static int infer(void)
{
#ifdef MODEL_INFERS
    const int inputs = todo.inferences ? ew_host_open("inputs.bin", EW_HOST_READ) : 0;
    int failed;

    if (!todo.inferences)
        return 0;
    done.stage = IN_INFER;
    if ((failed = model_infer_begin()))
        return failed;
    for (uint32_t i = 0; i < todo.inferences; i++) {
        if (inputs < 0 || read_record(inputs, i, model_infer_inputs, MODEL_INFER_INPUTS))
            return -1;
        if ((failed = model_infer()))
            return failed;
        if (write_result(model_arena + model_output.offset, model_output.bytes))
            return -1;
    }
    return model_infer_end();
#else
    return todo.inferences ? -1 : 0;
#endif
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
    static int (*const parts[])(void) = {model_init, train, save, infer};
    const int commands = ew_host_open("command.bin", EW_HOST_READ);
    int failed;

    if (commands < 0 || ew_host_read(commands, 0, &todo, sizeof todo) || todo.magic != COMMAND_MAGIC)
        return -1;
    done.stage = IN_INIT;
    for (uint32_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        if ((failed = parts[i]()))
            return failed;
        set_mark(i);
    }
    return read_back(commands);
}

int main(void)
{
    result = ew_host_open("result.bin", EW_HOST_CREATE);
    done.status = run();
    done.stack_bytes = ew_board_stack_bytes();
    set_mark(WITH_ALL);
    const int failed = ew_host_write(result, 0, &done, sizeof done);
    ew_host_exit(done.status || failed ? 1 : 0);
    return 0;
}
