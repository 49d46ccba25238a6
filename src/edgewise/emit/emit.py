"""`emit`: a captured step, planned for the RAM of a device, as a folder of C."""

from pathlib import Path
from typing import NamedTuple

from edgewise.capture import Captured
from edgewise.devices import Device
from edgewise.emit.folder import Emitted, write_folder
from edgewise.emit.prepare import prepare
from edgewise.plan import Budget, Certificate, Plan, ProgressCallback, check, make_plan


class Made(NamedTuple):
    """What was emitted, the plan that it executes, and what the check certified."""

    emitted: Emitted
    captured: Captured
    plan: Plan
    certificate: Certificate


def emit(  # what a plan needs, and a place
    captured: Captured,
    device: Device,
    budget: Budget,
    folder: Path,
    *,
    model: str,
    time_limit: float = 60.0,
    progress: ProgressCallback | None = None,
) -> Made:
    """Plan `captured` within `budget` as C executes it, and write the C into `folder`.

    Raises:
        ModelUnsupported: it has ops that there is no C for.
        BudgetInfeasible: no plan fits; with the least RAM that would.
        UsageError: the folder cannot be written.
    """
    ready = prepare(captured)
    plan = make_plan(ready.graph, device, budget, time_limit=time_limit, progress=progress)
    certificate = check(plan, ready.graph, device)
    return Made(write_folder(folder, ready, plan, certificate, model=model), ready, plan, certificate)
