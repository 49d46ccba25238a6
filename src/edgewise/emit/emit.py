"""`emit`: a captured step, planned for the RAM of a device, as a folder of C."""

from functools import partial
from pathlib import Path
from typing import NamedTuple

import msgspec
from torch.utils import _pytree as pytree

from edgewise.capture import Captured
from edgewise.capture.forward import SeveralOutputs, capture_forward
from edgewise.capture.joint import fill
from edgewise.devices import Device
from edgewise.emit.boards import FAULT_STACK_BYTES
from edgewise.emit.flash import Flash, flash_of, without
from edgewise.emit.folder import STACK_BYTES, Emitted, Planned, write_folder
from edgewise.emit.prepare import prepare
from edgewise.errors import BudgetInfeasible
from edgewise.plan import Budget, Certificate, Plan, ProgressCallback, check, make_plan

RESERVED_BYTES = STACK_BYTES + FAULT_STACK_BYTES + 1024
"""RAM of a program beside the arena: stacks, and the variables of the store."""

MOST_PLANS = 4
"""Plans that are made, each for less RAM, until the arena of one fits."""


class Made(NamedTuple):
    """What was emitted, the plan that it executes, and what the check certified."""

    emitted: Emitted
    captured: Captured
    plan: Plan
    certificate: Certificate


def emit(  # noqa: PLR0913  # what a plan needs, and a place
    captured: Captured,
    device: Device,
    budget: Budget,
    folder: Path,
    *,
    model: str,
    train: bool = True,
    infer: bool = True,
    flash_bytes: int = 0,
    time_limit: float = 60.0,
    progress: ProgressCallback | None = None,
) -> Made:
    """Plan `captured` within `budget` as C executes it, and write the C into `folder`.

    If `infer`, the same is done for the forward pass of the model, within the same RAM, if it has one output;
    without `train`, for the forward pass alone. Up to `flash_bytes` of what the program does not change
    become its constants.

    Raises:
        ModelUnsupported: it has ops that there is no C for.
        BudgetInfeasible: no plan fits; with the least RAM that would.
        UsageError: the folder cannot be written, or inference alone is wanted and has several outputs.
    """
    if not train:
        only = _forward(captured)
        alone = _planned(only, flash_of(only, flash_bytes), device, budget, time_limit, progress)
        return _made(alone, write_folder(folder, None, alone, model=model))
    flash = flash_of(captured, flash_bytes)
    training = _planned(captured, flash, device, budget, time_limit, progress)
    inference = None
    if infer and (forward := _forward_if_one(captured)):
        within = Budget(budget.ram_bytes)
        inference = _planned(forward, flash.of_model(), device, within, time_limit, progress)
    return _made(training, write_folder(folder, training, inference, model=model))


def _made(planned: Planned, emitted: Emitted) -> Made:
    return Made(emitted, planned.captured, planned.plan, planned.certificate)


def _forward_if_one(captured: Captured) -> Captured | None:
    """The forward pass if it has one output; a model with several only trains in C."""
    try:
        return _forward(captured)
    except SeveralOutputs:
        return None


def _forward(captured: Captured) -> Captured:
    """The forward pass of the model that `captured` trains."""
    tensors = tuple(captured.blank(name) for name in captured.batch)
    leaves = fill(list(captured.batch_leaves), tensors)
    batch = pytree.tree_unflatten(leaves, captured.batch_spec)
    own = getattr(captured.model, "capture_forward", None)  # of a model that no tracer can follow
    found: Captured = (own or partial(capture_forward, captured.model))(batch, name=captured.graph.name)
    return found


def _planned(
    captured: Captured,
    flash: Flash,
    device: Device,
    budget: Budget,
    time_limit: float,
    progress: ProgressCallback | None,
) -> Planned:
    ready = without(prepare(captured), flash.offsets)
    plan, certificate = _fitting(ready, device, budget, time_limit, progress)
    return Planned(ready, plan, certificate, flash)


def _fitting(
    ready: Captured, device: Device, budget: Budget, time_limit: float, progress: ProgressCallback | None
) -> tuple[Plan, Certificate]:
    """A plan whose arena fits: where holes between values take it beyond the budget, one that holds less."""
    asked, arenas = budget.ram_bytes, list[int]()
    for _ in range(MOST_PLANS):
        smaller = msgspec.structs.replace(budget, ram_bytes=asked)
        try:
            plan = make_plan(ready.graph, device, smaller, time_limit=time_limit, progress=progress)
        except BudgetInfeasible:
            if not arenas:
                raise
            break  # less than what was asked for, and too little
        plan = msgspec.structs.replace(plan, budget=budget)
        certificate = check(plan, ready.graph, device)
        if certificate.arena_bytes <= budget.ram_bytes:
            return plan, certificate
        asked -= certificate.arena_bytes - budget.ram_bytes
        arenas.append(certificate.arena_bytes)
    least = min(arenas)
    raise BudgetInfeasible(
        f"No plan was found whose addresses fit {budget.ram_bytes:,} B; the best takes {least:,} B. "
        f"Try `--ram {least}`.",
        min_ram_bytes=least,
    )
