"""The plan of a run: the recipe's budget in bytes, and a plan that fits, new or found in the directory."""

from dataclasses import dataclass
from pathlib import Path

import msgspec

from edgewise.devices import Device
from edgewise.errors import CorruptArtifact
from edgewise.graph import Graph
from edgewise.plan import Budget, Certificate, Plan, ProgressCallback, check, load_plan, make_plan, plain_plan
from edgewise.plan.peers import PEERS
from edgewise.plan.planner import PROGRAMS
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
    config: DeviceConfig,
    graph: Graph,
    device: Device,
    *,
    earlier: Plan | None,
    progress: ProgressCallback | None = None,
) -> Planned:
    """A plan for `graph` within the budget of `config`.

    `earlier` is a plan that is taken over, after a check, if it was made for the same graph, device, budget
    and objective, by the same solver.

    Raises:
        BudgetInfeasible: no plan fits.
        PlanRejected: `earlier` was tampered with.
    """
    plain = check(plain_plan(graph, device, minimize=config.minimize), graph, device)
    budget = budget_of(config, device, plain)
    plan = earlier
    if plan is None or not _is_for(plan, config, graph, device, budget):
        plan = make_plan(
            graph,
            device,
            budget,
            minimize=config.minimize,
            solver=config.solver,
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


def earlier_plan(folder: Path, device: Device) -> Plan | None:
    """The plan in a run directory, if it was made for the `device` as it is now."""
    if not (folder / PLAN).exists() or not _same_device(folder / ENVIRONMENT, device):
        return None
    return load_plan(folder / PLAN)


def _is_for(plan: Plan, config: DeviceConfig, graph: Graph, device: Device, budget: Budget) -> bool:
    wanted = (graph.sha256, device.name, budget, config.minimize)
    if (plan.graph_sha256, plan.device, plan.budget, plan.minimize) != wanted:
        return False
    by_peer = plan.solver in (*PROGRAMS, *PEERS)  # `auto` never takes one of these
    return plan.solver == config.solver if config.solver in (*PROGRAMS, *PEERS) else not by_peer


def _same_device(path: Path, device: Device) -> bool:
    """Whether the run's figures of the device are today's: a probe may have changed them since."""
    try:
        environment = msgspec.json.decode(path.read_bytes(), type=Environment)
    except FileNotFoundError:
        return False
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise CorruptArtifact(f"{path} is no environment file: {error}. Restore or remove it.") from error
    return environment.device == dict(msgspec.json.decode(msgspec.json.encode(device)))
