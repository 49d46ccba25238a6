"""model.h and model.c as text."""

from collections.abc import Iterator, Sequence

from edgewise.emit.image import Store
from edgewise.emit.program import Program
from edgewise.emit.render import INDENT, comment
from edgewise.emit.slots import Slots

HEADER = """\
/* {name}: one training step at a time in {arena:,} bytes of RAM. Written by Edgewise. */
#ifndef MODEL_H
#define MODEL_H

#include <stdint.h>

enum {{
    MODEL_ARENA_BYTES = {arena}, /* all RAM of a step but the stack */
    MODEL_STORE_BYTES = {store}, /* what lives outside RAM */
    MODEL_INPUTS = {inputs}, /* tensors of a batch */
    MODEL_SLOTS = {slots} /* values in the store */
}};

typedef struct {{
    uint32_t offset, bytes;
}} model_range;

extern uint8_t model_arena[MODEL_ARENA_BYTES];

/* Where in the arena the tensors of a batch go before each step: {named}. */
extern const model_range model_inputs[MODEL_INPUTS];

/* All return 0, or an error of store.h. */
int model_init(void);                       /* open the store, and load what lives in RAM */
int model_step(uint64_t step, float *loss); /* one training step; `step` decides what is drawn */
int model_save(void);                       /* write what lives in RAM to the store: what a restart finds */

#endif
"""

SOURCE = """\
/* {name}: the planned training step, op by op. Written by Edgewise; model.h says how to use it. */
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

const model_range model_inputs[MODEL_INPUTS] = {{
{inputs}
}};

static const ew_slot slots[MODEL_SLOTS] = {{
{slots}
}};

static const ew_store store = {{slots, MODEL_SLOTS, {journal_offset}, {journal_bytes}, MODEL_STORE_BYTES}};

{functions}
/* What lives in RAM, to the store. */
static int write_resident(void)
{{
{write}
    return EW_OK;
}}

int model_init(void)
{{
    TRY(ew_store_open(&store));
{load}
    return EW_OK;
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
    return ew_store_commit();
}}
"""


def header(name: str, program: Program, slots: Slots, store: Store) -> str:
    """model.h."""
    return HEADER.format(
        name=name,
        arena=program.arena_bytes,
        store=store.bytes,
        inputs=len(program.inputs),
        slots=len(slots.slots),
        named=", ".join(program.inputs),
    )


def source(name: str, program: Program, slots: Slots, store: Store, sizes: Sequence[int]) -> str:
    """model.c; `sizes` are the bytes of the inputs."""
    ranges = [f"{{{offset}, {size}}}" for offset, size in zip(program.inputs.values(), sizes, strict=True)]
    table = [
        f"{{{placed.offset}, {placed.bytes}, EW_{placed.kind.upper()}}}, /* {comment(slot.value)} */"
        for placed, slot in zip(store.slots, slots.slots, strict=True)
    ]
    return SOURCE.format(
        name=name,
        inputs=_indented(f"{text}," for text in ranges),
        slots=_indented(table),
        journal_offset=store.journal_offset,
        journal_bytes=store.journal_bytes,
        functions="\n".join(program.functions),
        write=_indented(_writes(program, slots)),
        load=_indented(_loads(program)),
        body=_indented(program.body),
        loss=program.loss,
        end=_indented(_end(program, slots)),
    )


def _indented(lines: "Iterator[str] | Sequence[str]") -> str:
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
    moved = [source for source in program.resident if source.begins != source.ends]
    for source in moved:
        slot = slots.access[source.last].slot
        yield f"TRY(ew_slot_write({slot}, 0, model_arena + {source.ends}, {source.bytes}));"
    for source in moved:
        slot = slots.access[source.last].slot
        yield f"TRY(ew_slot_read({slot}, EW_NEW, 0, model_arena + {source.begins}, {source.bytes}));"
    if any(slot.kind == "double" and not slot.resident for slot in slots.slots):
        yield "TRY(write_resident());"
        yield "return ew_store_commit();"
    else:
        yield "return EW_OK;"
