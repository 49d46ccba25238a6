"""The store of a plan: which values have a slot in the slower tier, of which kind, and where.

| value | kind |
|---|---|
| lives in the slower tier, and every step makes it anew | double: a step writes the other copy |
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
from edgewise.plan import Compute, PageIn, PageOut, Plan

SECTOR_BYTES = 512
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


def slots_of(captured: Captured, plan: Plan, flash: Flash) -> Slots:
    """The slots that the values of `captured` need under `plan`."""
    graph, layouts = captured.graph, captured.layouts
    chains = _chains(captured)
    head = {name: chain[0] for chain in chains.values() for name in chain}
    moved = _moved(plan)
    slots: list[Slot] = []
    access: dict[str, Access] = {}
    for value in graph.sources():
        if value.kind not in ("parameter", "state") or value.name in flash.offsets:
            continue
        home = value.name in plan.homes
        kind: SlotKind = "double" if len(chains[value.name]) > 1 else "journal"
        slots.append(Slot(value.name, layouts[value.name].storage_bytes, kind, resident=not home))
        if home:
            for index, name in enumerate(chains[value.name]):
                access[name] = Access(len(slots) - 1, "EW_NEW" if index else "EW_OLD")
    for name in moved:
        if name not in access and name not in flash.offsets:
            first = head.get(name, name)
            access.update(dict.fromkeys(chains.get(first, [name]), Access(len(slots), "EW_NEW")))
            slots.append(Slot(first, layouts[name].storage_bytes, "scratch"))
    return Slots(tuple(slots), access, tuple((i, s.value) for i, s in enumerate(slots) if s.resident))


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
