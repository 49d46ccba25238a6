"""What goes beside the C: a README with the memory map of the step, and a Makefile."""

from collections.abc import Iterable

from edgewise.capture import Captured
from edgewise.emit.arena import Replay
from edgewise.emit.flash import Flash
from edgewise.emit.slots import Slot, Slots
from edgewise.emit.text import Part
from edgewise.graph import Graph
from edgewise.plan import Certificate, Compute, Plan

MAKEFILE = """\
# The step as a library for your firmware, or as a program for this computer.
#
#   make                                  libmodel.a, by CC
#   make CC=arm-none-eabi-gcc CPU="-mcpu=cortex-m4 -mfpu=fpv4-sp-d16 -mfloat-abi=hard"
#   make host                             build/model, which `edgewise emulate . --board host` runs
#
# A firmware links libmodel.a and one medium: runtime/medium_*.c, or your own behind runtime/medium.h.

CC ?= cc
AR ?= ar
CPU ?=
CFLAGS ?= -std=c99 -O2 -Wall -Wextra -ffp-contract=off -ffunction-sections -fdata-sections
INCLUDE := -I. -Ikernels -Iruntime -Iboards

STEP := model.c $(wildcard flash.c kernels/*.c) runtime/store.c runtime/slices.c
HOST := runtime/medium_file.c runtime/harness.c runtime/host_stdio.c boards/host.c
OBJECTS := $(STEP:%.c=build/%.o)

libmodel.a: $(OBJECTS)
\t$(AR) rcs $@ $^

build/%.o: %.c
\t@mkdir -p $(dir $@)
\t$(CC) $(CPU) $(CFLAGS) $(INCLUDE) -c $< -o $@

host: build/model

build/model: $(STEP) $(HOST)
\t@mkdir -p build
\t$(CC) $(CFLAGS) $(INCLUDE) $^ -o $@

clean:
\trm -rf build libmodel.a

.PHONY: host clean
"""

README = """\
# {name}: {title} in {arena:,} bytes of RAM

Written by `edgewise emit {model}`. {call}
as planned for {device}.

| file | what it is |
|---|---|
| `model.h` | the API: {api}, and where a batch goes |
| `model.c` | the plan, op by op, each with the name of its layer |
| `kernels/` | what the ops are computed with, C99 without any library |
| `runtime/` | the store: what lives outside RAM, safe against a loss of power; and its media |
| `weights.bin` | the first content of the store: copy it to the medium |
| `model.json` | for the host: sizes, inputs, and what lies where in the store |

{commands}

## One {unit}

| | |
|---|---:|
| ops executed | {ops} |
| of these again, to save RAM | {recomputed} |
| of these slice by slice | {streamed} |
| read from the store | {read:,} B |
| written to the store | {written:,} B |
| by the profile of {device} | {seconds:.3g} s, {joules:.3g} J |

## RAM: {arena:,} bytes of arena, and the stack

A batch lies in the arena before each {unit}:

| input | at | bytes |
|---|---:|---:|
{inputs}

All of the arena is not in use at once. It is fullest while `{fullest}` runs, by the plan {peak:,} bytes:

| value | at | bytes |
|---|---:|---:|
{values}

## Flash

{flash}

## Store: {store:,} bytes

{stored}

| value | bytes | lives in |
|---|---:|---|
{slots}
"""

TRAINS = {
    "title": "training",
    "unit": "step",
    "call": "One call of `model_step` makes one training step: forward, backward and\nupdate,",
    "api": "`model_init`, `model_step`, `model_save`",
    "commands": """\
    edgewise emulate .      # build it, run it on an emulated board, and compare with PyTorch
    make                    # libmodel.a for your firmware""",
}
INFERS = {
    "title": "inference",
    "unit": "call",
    "call": "One call of `model_infer` is one forward pass of the model in evaluation mode,",
    "api": "`model_init`, `model_infer_begin`, `model_infer`",
    "commands": "    make                    # libmodel.a for your firmware",
}

KINDS = {
    (True, "double"): "RAM; here after `model_save`, twice",
    (True, "journal"): "RAM; never changes",
    (False, "double"): "the store, twice: old and new",
    (False, "journal"): "the store; never changes",
    (False, "scratch"): "RAM and the store, within a step",
}


def readme(  # noqa: PLR0913  # one page of all that is known
    captured: Captured,
    plan: Plan,
    certificate: Certificate,
    part: Part,
    *,
    model: str,
    arena_bytes: int,
    store_bytes: int,
    flash: Flash,
    trains: bool,
) -> str:
    """README.md of an emitted folder; `part` is its training step, or inference if it does not train."""
    graph, made, slots = captured.graph, part.program, part.slots
    executed = [step for step in plan.steps if isinstance(step, Compute)]
    fullest, live = _fullest(graph, plan, certificate)
    return README.format(
        name=graph.name,
        model=model,
        device=plan.device,
        arena=arena_bytes,
        ops=len(executed),
        recomputed=len(certificate.recomputed),
        streamed=len(certificate.streamed),
        read=certificate.bytes_read,
        written=certificate.bytes_written,
        seconds=plan.seconds,
        joules=plan.joules,
        inputs=_rows((name, offset, graph.value[name].bytes) for name, offset in made.inputs.items()),
        fullest=fullest,
        peak=plan.peak_bytes,
        values=_rows((name, offset, size) for name, (offset, size) in live.items()),
        store=store_bytes,
        flash=_in_flash(flash, trains=trains),
        stored=_stored(slots, trains=trains),
        slots="\n".join(f"| {s.value} | {s.bytes:,} | {_home(s)} |" for s in slots.slots),
        **(TRAINS if trains else INFERS),
    )


def _home(slot: Slot) -> str:
    if slot.journal_bytes:
        return "the store; a step changes some rows"
    return KINDS[slot.resident, slot.kind]


def _rows(rows: Iterable[tuple[str, int, int]]) -> str:
    ordered = sorted(rows, key=lambda row: row[1])
    return "\n".join(f"| {name} | {offset:,} | {size:,} |" for name, offset, size in ordered)


def _fullest(graph: Graph, plan: Plan, certificate: Certificate) -> tuple[str, dict[str, tuple[int, int]]]:
    """The op that runs when most is held, and what is in the arena then: offset and bytes by name."""
    peak = max(range(len(plan.steps)), key=certificate.ram_bytes.__getitem__)
    number, name, live = -1, "", {}
    for moment in Replay(graph, plan).run():
        number = next(i for i in range(number + 1, len(plan.steps)) if plan.steps[i] is moment.step)
        if number > peak:
            break
        step = moment.step
        name = step.op if isinstance(step, Compute) else step.value
        sizes = {value: graph.value[value].bytes for value in moment.at}
        live = {value: (offset, sizes[value]) for value, offset in moment.at.items() if sizes[value]}
        if isinstance(step, Compute):
            option = graph.op[step.op].option(step.option) or graph.op[step.op].options[0]
            if room := option.room_bytes(step.streamed):
                live[f"tiles and workspace of `{step.op}`"] = (moment.room, room)
    return name, live


def _in_flash(flash: Flash, *, trains: bool) -> str:
    if not flash.offsets and not trains:
        return "Code and constants. The weights live in the store."
    if not flash.offsets:
        return "Code and constants. Everything that is trained lives in the store."
    return (
        f"Code, constants, and {len(flash.contents):,} bytes of {len(flash.offsets)} tensors that "
        f"{'training does not change' if trains else 'the model reads'} (`flash.c`)."
    )


def _stored(slots: Slots, *, trains: bool) -> str:
    if not trains:
        return "Inference leaves the weights in the store as they are."
    if any(slot.journal_bytes or (slot.kind == "double" and not slot.resident) for slot in slots.slots):
        return (
            "Every step ends with a commit: after a loss of power everything is as the last finished step "
            "left it."
        )
    return "A step leaves the store as it is; `model_save` commits all weights at once."
