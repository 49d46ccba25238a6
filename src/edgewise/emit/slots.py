"""The store of a plan: which values have a slot in the slower tier, of which kind, and where.

| value | kind |
|---|---|
| lives in the slower tier, and every step makes it anew | double: a step writes the other copy |
| lives there, and a step changes some rows | journal: one copy, and what was there before |
| lives there and never changes | journal: one copy, which nobody writes |
| lives in RAM and outlives the step | double: written by `model_save`, read by `model_init` |
| leaves RAM within a step, and comes back | scratch |

A value that a step carries on has one slot under all its names: what it replaces, and what the next step
finds.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from edgewise.capture import Captured
from edgewise.emit.flash import Flash
from edgewise.emit.image import SECTOR, journal_entry_bytes
from edgewise.emit.rooms import changes_rows, row_writes
from edgewise.graph import Value
from edgewise.plan import Compute, PageIn, PageOut, Plan

SlotKind = Literal["scratch", "double", "journal"]


@dataclass(frozen=True)
class Slot:
    """A place for the value `value` in the store.

    `resident` if a training step begins and ends with it in RAM, `inferred` if inference alone reads it.
    """

    value: str
    bytes: int
    kind: SlotKind
    resident: bool = False
    inferred: bool = False
    journal_bytes: int = 0
    """Of the journal, for the rows that a step changes at most; 0 if it changes all of the value, or none."""


@dataclass(frozen=True)
class Access:
    """How the value of a name is read and written: by which slot, and in which version."""

    slot: int
    version: Literal["EW_OLD", "EW_NEW"]


@dataclass(frozen=True)
class Slots:
    """All slots of a store; `access` finds that of a value which the plan pages or streams.

    `resident` are the values that the plan begins with in RAM, and the slots that they are loaded from.
    """

    slots: tuple[Slot, ...]
    access: Mapping[str, Access]
    resident: tuple[tuple[int, str], ...]


NO_SLOTS = Slots((), {}, ())
"""Of a program that does not train: it begins with nothing in a store."""


def slots_of(captured: Captured, plan: Plan, flash: Flash) -> Slots:
    """The slots that the values of `captured` need under `plan`."""
    layouts = captured.layouts
    chains = _chains(captured)
    head = {name: chain[0] for chain in chains.values() for name in chain}
    moved = _moved(plan)
    changed = _changed_by_rows(captured, plan)
    slots: list[Slot] = []
    access: dict[str, Access] = {}
    for value in _beside_weights(captured):
        if value.name in flash.offsets:
            continue
        home = value.name in plan.homes
        journal = changed.get(value.name, 0)
        kind: SlotKind = "double" if len(chains[value.name]) > 1 and not journal else "journal"
        size = layouts[value.name].storage_bytes
        slots.append(Slot(value.name, size, kind, resident=not home, journal_bytes=journal))
        if home:
            for index, name in enumerate(chains[value.name]):
                access[name] = Access(len(slots) - 1, "EW_NEW" if index else "EW_OLD")
    for name in moved:
        if name not in access and name not in flash.offsets:
            first = head.get(name, name)
            access.update(dict.fromkeys(chains.get(first, [name]), Access(len(slots), "EW_NEW")))
            slots.append(Slot(first, layouts[name].storage_bytes, "scratch"))
    return Slots(tuple(slots), access, tuple((i, s.value) for i, s in enumerate(slots) if s.resident))


def _beside_weights(captured: Captured) -> list[Value]:
    """What a step carries on, the states of each parameter behind it: an update wants them together."""
    carried = [value for value in captured.graph.sources() if value.kind in ("parameter", "state")]
    place = {value.name: index for index, value in enumerate(carried)}
    owner = captured.states
    return sorted(carried, key=lambda value: place.get(owner.get(value.name, ""), place[value.name]))


def inference_slots(captured: Captured, plan: Plan, training: Slots, flash: Flash) -> Slots:
    """The slots of a forward pass under `plan`: those of `training`, and what it needs besides.

    It reads the weights from where training keeps them, and changes none of them.
    """
    layouts = captured.layouts
    index = {slot.value: i for i, slot in enumerate(training.slots) if slot.kind != "scratch"}
    slots = list(training.slots)
    access: dict[str, Access] = {}
    resident = []
    for value in captured.graph.sources():
        if value.kind not in ("parameter", "state") or value.name in flash.offsets:
            continue
        if value.name not in index or _is_constant(value.name):
            index[value.name] = len(slots)
            slots.append(Slot(value.name, layouts[value.name].storage_bytes, "journal", inferred=True))
        if value.name in plan.homes:
            access[value.name] = Access(index[value.name], "EW_OLD")
        else:
            resident.append((index[value.name], value.name))
    for name in _moved(plan):
        if name not in access and name not in flash.offsets:
            access[name] = Access(len(slots), "EW_NEW")
            slots.append(Slot(name, layouts[name].storage_bytes, "scratch", inferred=True))
    return Slots(tuple(slots), access, tuple(resident))


def _is_constant(name: str) -> bool:
    """Whether it is a tensor that a trace found: another trace may call another one so."""
    return name.startswith("constant.")


def _chains(captured: Captured) -> dict[str, list[str]]:
    """Source -> all its names within a step: what replaces it, and what replaces that."""
    follow = {old: new for op in captured.graph.ops for old, new in op.updates}
    chains = {}
    for value in captured.graph.sources():
        chain = [value.name]
        while chain[-1] in follow:
            chain.append(follow[chain[-1]])
        chains[value.name] = chain
    return chains


def _changed_by_rows(captured: Captured, plan: Plan) -> dict[str, int]:
    """Tables in the store of which a step changes some rows only -> bytes of the journal that this takes."""
    found = {}
    for step in plan.steps:
        if not isinstance(step, Compute) or step.option not in captured.loops.get(step.op, {}):
            continue
        loop = captured.loops[step.op][step.option]
        if changes_rows(loop) and loop.nest.inouts[0].value in step.streamed:
            count, size = row_writes(loop)
            found[loop.nest.inouts[0].value] = count * journal_entry_bytes(SECTOR - 1, size)
    return found


def _moved(plan: Plan) -> list[str]:
    """Values that some step of `plan` moves, in order."""
    found: dict[str, None] = {}
    for step in plan.steps:
        match step:
            case PageIn(name) | PageOut(name):
                found[name] = None
            case Compute():
                found.update(dict.fromkeys(step.streamed))
            case _:
                pass
    return list(found)
