"""The plan of a run: the recipe's budget in bytes, and a plan that fits, new or found in the directory."""

from dataclasses import dataclass
from pathlib import Path

import msgspec

from edgewise.devices import Device
from edgewise.errors import CorruptArtifact
from edgewise.graph import Graph
from edgewise.plan import Budget, Certificate, Plan, ProgressCallback, check, load_plan, make_plan, plain_plan
from edgewise.train.recipe import DeviceConfig
from edgewise.train.records import Environment
from edgewise.train.run_dir import ENVIRONMENT, PLAN


@dataclass(frozen=True)
class Planned:
    """A plan that has passed the check, and what plain training would need on the same device."""

    plan: Plan
    certificate: Certificate
    plain: Certificate


def plan_run(
    config: DeviceConfig, graph: Graph, device: Device, *, earlier: Path | None, progress: ProgressCallback
) -> Planned:
    """A plan for `graph` within the budget of `config`.

    `earlier` is a run directory whose plan is taken over, after a check, if it was made for the same graph,
    device, budget and objective.

    Raises:
        BudgetInfeasible: no plan fits.
        PlanRejected: the plan in `earlier` was tampered with.
    """
    plain = check(plain_plan(graph, device, minimize=config.minimize), graph, device)
    budget = budget_of(config, device, plain)
    plan = None if earlier is None else _earlier_plan(earlier, config, graph, device, budget)
    if plan is None:
        plan = make_plan(
            graph,
            device,
            budget,
            minimize=config.minimize,
            gap=config.gap,
            time_limit=config.time_limit_seconds,
            progress=progress,
        )
    return Planned(plan, check(plan, graph, device), plain)


def budget_of(config: DeviceConfig, device: Device, plain: Certificate) -> Budget:
    """The recipe's budget, with multiples taken of what plain training needs; the device's RAM by default."""
    ram, seconds = config.ram_amount, config.seconds_amount
    return Budget(
        ram_bytes=device.memory.ram.bytes if ram is None else int(ram.of(plain.peak_bytes)),
        seconds=None if seconds is None else seconds.of(plain.seconds),
        written_bytes=config.written_bytes,
    )


def _earlier_plan(
    folder: Path, config: DeviceConfig, graph: Graph, device: Device, budget: Budget
) -> Plan | None:
    if not (folder / PLAN).exists() or not _same_device(folder / ENVIRONMENT, device):
        return None
    plan = load_plan(folder / PLAN)
    wanted = (graph.sha256, device.name, budget, config.minimize)
    return plan if (plan.graph_sha256, plan.device, plan.budget, plan.minimize) == wanted else None


def _same_device(path: Path, device: Device) -> bool:
    """Whether the run's figures of the device are today's: a probe may have changed them since."""
    try:
        environment = msgspec.json.decode(path.read_bytes(), type=Environment)
    except FileNotFoundError:
        return False
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise CorruptArtifact(f"{path} is no environment file: {error}. Restore or remove it.") from error
    return environment.device == dict(msgspec.json.decode(msgspec.json.encode(device)))
