"""model.c and model.h: the plan of one training step as straight-line C."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from edgewise.capture import Captured
from edgewise.capture.kernels import AtenKernel
from edgewise.capture.lowering import STEP
from edgewise.emit.arena import Moment, Replay
from edgewise.emit.flash import Flash
from edgewise.emit.loops import Execution
from edgewise.emit.render import INDENT, comment, render
from edgewise.emit.slots import Slots
from edgewise.emit.statements import aligned, statements
from edgewise.emit.touched_rows import loop_body
from edgewise.emit.views import slots_of as slots_of_program
from edgewise.graph import Op
from edgewise.plan import Compute, PageIn, PageOut, Plan


@dataclass(frozen=True)
class Source:
    """A carried value that lives in RAM: its slot, where a step finds it, where it leaves what follows."""

    slot: int
    begins: int
    ends: int
    bytes: int
    last: str
    """The name under which a step leaves it."""


@dataclass(frozen=True)
class Program:
    """The text of a step's body, its functions, and the offsets that its frame needs."""

    functions: tuple[str, ...]
    body: tuple[str, ...]
    inputs: Mapping[str, int]
    resident: tuple[Source, ...]
    result: tuple[int, int]
    """Where the loss is in the end, or the output: offset and bytes."""
    arena_bytes: int


@dataclass
class _Writer:
    captured: Captured
    plan: Plan
    slots: Slots
    flash: Flash
    prefix: str
    body: list[str] = field(default_factory=list)
    functions: list[str] = field(default_factory=list)


def program(captured: Captured, plan: Plan, slots: Slots, flash: Flash, prefix: str) -> Program:
    """The C of `plan`, which is one for `captured.graph`; its functions' names begin with `prefix`."""
    replay = Replay(captured.graph, plan)
    begin = dict(replay.at)
    writer = _Writer(captured, plan, slots, flash, prefix)
    for number, moment in enumerate(replay.run()):
        _step(writer, number, moment)
    carries = captured.graph.carries
    resident = tuple(
        Source(index, begin[name], replay.at[last], slots.slots[index].bytes, last)
        for index, name in slots.resident
        for last in (carries.get(name, name),)
    )
    result = slots_of_program(captured.loss.program, captured.layouts)[captured.loss.slot]
    if not isinstance(result.offset, int):
        raise TypeError(result)
    result_bytes = math.prod(n for n in result.size if isinstance(n, int)) * result.dtype.itemsize
    place = replay.at[result.value] + result.offset * result.dtype.itemsize
    inputs = {name: begin[name] for name in captured.batch if name in begin}
    counted = [f"memcpy(model_arena + {begin[STEP]}, &step, sizeof step);"] if _reads_step(captured) else []
    return Program(
        tuple(writer.functions),
        (*counted, *writer.body),
        inputs,
        resident,
        (place, result_bytes),
        _arena(captured, plan),
    )


def _reads_step(captured: Captured) -> bool:
    """Whether some op wants the number of the step as a tensor; all others get it as it is."""
    kernels = [kernel for kernel in captured.kernels.values() if isinstance(kernel, AtenKernel)]
    return any(STEP in kernel.program.operands for kernel in kernels)


def _arena(captured: Captured, plan: Plan) -> int:
    """The end of the highest address."""
    graph = captured.graph
    tops = [
        offset + graph.value[name].bytes for name, offsets in plan.addresses.items() for offset in offsets
    ]
    rooms: dict[str, list[int]] = {}
    for step in plan.steps:
        if isinstance(step, Compute):
            op = graph.op[step.op]
            room = (op.option(step.option) or op.options[0]).room_bytes(step.streamed)
            if room:
                rooms.setdefault(op.name, []).append(room)
    for name, sizes in rooms.items():
        tops += [offset + size for offset, size in zip(plan.workspaces[name], sizes, strict=True)]
    return aligned(max(tops, default=0))


def _step(writer: _Writer, number: int, moment: Moment) -> None:
    match moment.step:
        case Compute():
            _compute(writer, number, moment, moment.step)
        case PageIn(name) | PageOut(name) if name in writer.flash.offsets:
            pass  # it is always there
        case PageIn(name):
            access = writer.slots.access[name]
            _page(writer, name, moment, f"ew_slot_read({access.slot}, {access.version}, 0")
        case PageOut(name):
            access = writer.slots.access[name]
            if access.version == "EW_NEW":  # the old version is there already
                _page(writer, name, moment, f"ew_slot_write({access.slot}, 0")
        case _:
            pass


def _page(writer: _Writer, name: str, moment: Moment, head: str) -> None:
    size = writer.captured.layouts[name].storage_bytes
    writer.body.append(f"TRY({head}, model_arena + {moment.at[name]}, {size})); /* {comment(name)} */")


def _compute(writer: _Writer, number: int, moment: Moment, step: Compute) -> None:
    captured = writer.captured
    op = captured.graph.op[step.op]
    option = op.option(step.option) or op.options[0]
    title = f"{_words(op)}{_how(step)}"

    def place(name: str) -> str:
        found = writer.flash.offsets.get(name)
        return f"model_arena + {moment.at[name]}" if found is None else f"FLASH({found})"

    if option.is_tiled:
        loop = captured.loops[op.name][option.name]
        streamed = frozenset(step.streamed)
        run = Execution(
            captured, op.name, loop, streamed, moment.first, moment.room, place, writer.slots.access
        )
        name = f"{writer.prefix}_{number:04d}"
        head = [f"/* {title} */", f"static int {name}(uint64_t step)", "{", f"{INDENT}(void)step;"]
        writer.functions += [*head, *loop_body(run), "}", ""]
        writer.body.append(f"TRY({name}(step)); /* {title} */")
        return
    room = f"model_arena + {moment.room}"
    writer.body.append(f"/* {title} */")
    for call in statements(captured.kernels[op.name], op, captured.layouts, first=moment.first, room=room):
        writer.body += render(call, lambda view: view.place or place(view.value))


def _words(op: Op) -> str:
    """The name of `op`, for a comment."""
    return comment(op.name)


def _how(step: Compute) -> str:
    if step.option == "whole":
        return ""
    from_store = f"; {', '.join(step.streamed)} in the store" if step.streamed else ""
    return f", {step.option}{from_store}"
