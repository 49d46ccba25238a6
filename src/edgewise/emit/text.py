"""model.h and model.c as text."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from edgewise.emit.image import Store
from edgewise.emit.program import Program
from edgewise.emit.render import INDENT, comment
from edgewise.emit.slots import Slots

HEADER = """\
/* {name}: {what} in {arena:,} bytes of RAM. Written by Edgewise. */
#ifndef MODEL_H
#define MODEL_H

#include <stdint.h>

enum {{
    MODEL_ARENA_BYTES = {arena}, /* all RAM but the stack */
    MODEL_STORE_BYTES = {store}, /* what lives outside RAM */
    MODEL_INPUTS = {inputs}, /* tensors of a batch */
    MODEL_INFER_INPUTS = {infer_inputs}, /* of these, what the model reads without its loss */
    MODEL_SLOTS = {slots} /* values in the store */
}};

typedef struct {{
    uint32_t offset, bytes;
}} model_range;

extern uint8_t model_arena[MODEL_ARENA_BYTES];

{training}{inference}
#endif
"""

TRAINING = """\
/* Where in the arena the tensors of a batch go before each step: {named}. */
extern const model_range model_inputs[MODEL_INPUTS];

/* All return 0, or an error of store.h. */
int model_init(void);                       /* open the store, and load what lives in RAM */
int model_step(uint64_t step, float *loss); /* one training step; `step` decides what is drawn */
int model_save(void);                       /* write what lives in RAM to the store: what a restart finds */
"""

NO_TRAINING = """\
#define MODEL_INFERS_ONLY 1

/* All return 0, or an error of store.h. */
int model_init(void); /* open the store, if there is one */
"""

INFERENCE = """
/* {arena} Each time the inputs are put where
 * model_infer_inputs says ({named}), and the output ({output}) is then at model_output. */
#define MODEL_INFERS 1
extern const model_range model_infer_inputs[MODEL_INFER_INPUTS];
extern const model_range model_output;
int model_infer_begin(void); /* {begin} */
int model_infer(void);       /* the model in evaluation mode */
int model_infer_end(void);   /* {end} */
"""
BORROWED = {
    "arena": "Inference borrows the arena from training, between `begin` and `end`.",
    "begin": "save what training keeps in RAM, if it changed; load the weights",
    "end": "load what training keeps in RAM",
}
ALONE = {
    "arena": "Between `begin` and `end` the arena belongs to inference.",
    "begin": "load the weights that are in RAM",
    "end": "nothing is kept",
}

SOURCE = """\
/* {name}: {what}, op by op. Written by Edgewise; model.h says how to use it. */
#include "model.h"

#include <string.h>

#include "ew.h"
#include "slices.h"
#include "store.h"

#define TRY(call)                \\
    do {{                         \\
        const int error = (call); \\
        if (error) {{             \\
            return error;        \\
        }}                        \\
    }} while (0)

uint8_t model_arena[MODEL_ARENA_BYTES] __attribute__((aligned(8)));
{flash}{store}{training}{inference}"""

STORE = """
static const ew_slot slots[MODEL_SLOTS] = {{
{slots}
}};

static const ew_store store = {{slots, MODEL_SLOTS, {journal_offset}, {journal_bytes}, MODEL_STORE_BYTES}};
"""

TRAINING_SOURCE = """
const model_range model_inputs[MODEL_INPUTS] = {{
{inputs}
}};

static int unsaved; /* whether a step changed what lives in RAM since it was last saved */

{functions}
/* What lives in RAM, to the store. */
static int write_resident(void)
{{
{write}
    return EW_OK;
}}

/* What a step begins with in RAM, from the store. */
static int load_resident(void)
{{
{load}
    return EW_OK;
}}

int model_init(void)
{{
    TRY(ew_store_open(&store));
    return load_resident();
}}

int model_step(uint64_t step, float *loss)
{{
    (void)step;
{body}
    memcpy(loss, model_arena + {loss}, sizeof(float));
{end}
}}

int model_save(void)
{{
    TRY(write_resident());
    unsaved = 0;
    return ew_store_commit();
}}
"""

FLASH = """
/* What training does not change. Kernels take operands by pointers that could write; none of these does. */
extern const uint8_t model_flash[{size}];
#define FLASH(at) ((uint8_t *)(uintptr_t)(model_flash + (at)))
"""

NO_TRAINING_SOURCE = """
int model_init(void)
{{
    return {opened};
}}
"""

INFERENCE_SOURCE = """
const model_range model_infer_inputs[MODEL_INFER_INPUTS] = {{
{inputs}
}};

const model_range model_output = {{{output}}};

{functions}
int model_infer_begin(void)
{{
{load}
    return EW_OK;
}}

int model_infer(void)
{{
    const uint64_t step = 0; /* nothing is drawn */
    (void)step;
{body}
{moved}
    return EW_OK;
}}

int model_infer_end(void)
{{
    return {end};
}}
"""

SAVED = ("if (unsaved) {", "    TRY(model_save());", "}")


@dataclass(frozen=True)
class Part:
    """Training, or inference: its program, the slots as it sees them, and the bytes of its inputs."""

    program: Program
    slots: Slots
    sizes: Sequence[int]


def header(name: str, training: Part | None, inference: Part | None, output: str, store: Store) -> str:
    """model.h; `output` is the output of inference, for people."""
    programs = [part.program for part in (training, inference) if part is not None]
    text = ""
    if inference is not None:
        named = ", ".join(inference.program.inputs)
        text = INFERENCE.format(named=named, output=output, **(BORROWED if training else ALONE))
    return HEADER.format(
        name=name,
        what="inference" if training is None else "one training step at a time",
        arena=max(program.arena_bytes for program in programs),
        store=store.bytes,
        inputs=0 if training is None else len(training.program.inputs),
        infer_inputs=0 if inference is None else len(inference.program.inputs),
        slots=len(store.slots),
        training=NO_TRAINING
        if training is None
        else TRAINING.format(named=", ".join(training.program.inputs)),
        inference=text,
    )


def source(name: str, training: Part | None, inference: Part | None, store: Store, flash_bytes: int) -> str:
    """model.c; `flash_bytes` of weights are in flash.c."""
    last = inference or training
    opened = "ew_store_open(&store)" if store.slots else "EW_OK"
    return SOURCE.format(
        name=name,
        what="the model's forward pass" if training is None else "the planned training step",
        flash=FLASH.format(size=flash_bytes) if flash_bytes else "",
        store=_store(last.slots, store) if last and store.slots else "",
        training=NO_TRAINING_SOURCE.format(opened=opened) if training is None else _training(training),
        inference="" if inference is None else _inference(inference, trains=training is not None),
    )


def _store(slots: Slots, store: Store) -> str:
    table = [
        f"{{{placed.offset}, {placed.bytes}, EW_{placed.kind.upper()}}}, /* {comment(slot.value)} */"
        for placed, slot in zip(store.slots, slots.slots, strict=True)
    ]
    return STORE.format(
        slots=_indented(table), journal_offset=store.journal_offset, journal_bytes=store.journal_bytes
    )


def _training(training: Part) -> str:
    program, slots = training.program, training.slots
    return TRAINING_SOURCE.format(
        inputs=_ranges(training),
        functions="\n".join(program.functions),
        write=_indented(_writes(program, slots)),
        load=_indented(_loads(program)),
        body=_indented(program.body),
        loss=program.result[0],
        end=_indented(_end(program, slots)),
    )


def _inference(inference: Part, *, trains: bool) -> str:
    program = inference.program
    return INFERENCE_SOURCE.format(
        inputs=_ranges(inference),
        output=", ".join(map(str, program.result)),
        functions="\n".join(program.functions),
        load=_indented([*(SAVED if trains else ()), *_loads(program)]),
        body=_indented(program.body),
        moved=_indented(_moved_back(program, inference.slots)),
        end="load_resident()" if trains else "EW_OK",
    )


def _ranges(part: Part) -> str:
    places = zip(part.program.inputs.values(), part.sizes, strict=True)
    return _indented(f"{{{offset}, {size}}}," for offset, size in places)


def _indented(lines: Iterable[str]) -> str:
    return "\n".join(INDENT + line if line else line for line in lines)


def _loads(program: Program) -> Iterator[str]:
    for source in program.resident:
        yield f"TRY(ew_slot_read({source.slot}, EW_OLD, 0, model_arena + {source.begins}, {source.bytes}));"


def _writes(program: Program, slots: Slots) -> Iterator[str]:
    for source in program.resident:
        if slots.slots[source.slot].kind == "double":
            yield f"TRY(ew_slot_write({source.slot}, 0, model_arena + {source.begins}, {source.bytes}));"


def _end(program: Program, slots: Slots) -> Iterator[str]:
    """Back to where the next step looks for it; and if the store changed, everything is committed at once."""
    yield from _moved_back(program, slots)
    changes = (slot.journal_bytes or (slot.kind == "double" and not slot.resident) for slot in slots.slots)
    if any(changes):
        yield "return model_save();"
    else:
        yield "unsaved = 1;"
        yield "return EW_OK;"


def _moved_back(program: Program, slots: Slots) -> Iterator[str]:
    """What began in RAM and left it lies elsewhere now: by its scratch slot to where it began."""
    moved = [source for source in program.resident if source.begins != source.ends]
    for source in moved:
        slot = slots.access[source.last].slot
        yield f"TRY(ew_slot_write({slot}, 0, model_arena + {source.ends}, {source.bytes}));"
    for source in moved:
        slot = slots.access[source.last].slot
        yield f"TRY(ew_slot_read({slot}, EW_NEW, 0, model_arena + {source.begins}, {source.bytes}));"
