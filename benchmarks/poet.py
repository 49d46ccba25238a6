"""POET's eight networks under POET's own cost model: the time-indexed planner beside POET's program.

    python benchmarks/poet.py [--networks NAME ...] [--time-limit S] [--poet-limit S] [--page PATH]

Writes docs/benchmarks/poet.md. With the default limit of 600 s for POET's program it may take four hours, so
what POET's program found is kept in build/poet.json as it comes: another run goes on from there (`--anew`
begins again), and measures ours anew each time.
"""

import argparse
import platform
import sys
import time
from pathlib import Path
from typing import NamedTuple

import msgspec

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from edgewise.devices import Device, load_device  # noqa: E402
from edgewise.errors import BudgetInfeasible  # noqa: E402
from edgewise.graph import Graph  # noqa: E402
from edgewise.plan import Budget, Plan, Progress, check, make_plan, minimum_ram, plain_plan  # noqa: E402
from tests.plan.poet_networks import ELEMENT_BYTES, NETWORKS, poet_graph, poet_layers  # noqa: E402

PAGE = ROOT / "docs" / "benchmarks" / "poet.md"
KEPT = ROOT / "build" / "poet.json"
SHARES = (0.5, 0.2, 0.05)
DEADLINE = 1.5
DEVICES = {
    "linear": "mkr1000",
    "transformer": "nrf52840",
    "vgg16_cifar": "nrf52840",
    "resnet18_cifar": "nrf52840",
}
GOAL_GAP, GOAL_SECONDS = 0.01, 5.0
TEXT = """# POET's networks

POET (arXiv 2207.07697) plans recomputation and paging together, by a mixed-integer program. Here are the
eight networks of its released code, rebuilt from the shapes of their layers: batch 1, the backward pass a
chain of one op a layer, only outputs counted as memory, the input an op that costs nothing. All figures of
the first table are those of POET's code; `tests/plan/test_poet_networks.py` holds them.

| network | ops | edges | plain peak, B | largest working set, B | parameters, B |
|---|---:|---:|---:|---:|---:|
{networks}

## Plans

POET's cost model (transfers take no time, idle power is not paid) and its profiles: `m0` is the profile
`mkr1000`, `m4` is `nrf52840`, and `a72` is `rpi4` with the 2 GFLOP/s that POET gives it. The budget lies at
that share of the way from the largest working set to the plain peak; the deadline is {deadline} times the
plain time.

*Overhead* is the energy above that of the plan without a memory limit, as the independent check counts it.
*Gap*: at most that share of the overhead could be saved by any plan whatever that first runs the ops in this
order. *Bound* and *program* are seconds of CPU time, on one core, for proving the bound and for finding the
plan. POET's program is `solver="poet"`, our own code from the published formulas. Both programs are solved by
HiGHS on one thread to a gap of {goal_gap:.0%} of their own overhead.

{columns}
|---|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|
{plans}

{verdict}

Measured with `python benchmarks/poet.py --time-limit {limit:.0f} --poet-limit {poet_limit:.0f}
--poet-ops {poet_ops}` on {machine}. The limits are seconds on the clock; those in the table are CPU time, for
POET's program with the time to build it. What it found is kept from run to run; ours is measured anew.
"""

COLUMNS = (
    "| network | device | budget | recomputed, paged in | overhead, J | overhead "
    "| gap | bound, s | program, s | POET: J | POET: s |"
)


class Row(NamedTuple):
    """One network at one budget."""

    overhead: float
    gap: float
    bound_seconds: float
    program_seconds: float
    poet_seconds: float | None
    poet_overhead: float | None
    text: str


class Found(msgspec.Struct):
    """What POET's program found in one case: joules above the plain plan, and CPU seconds."""

    network: str
    share: float
    limit: float
    overhead: float | None
    seconds: float


class PhaseClock:
    """CPU seconds by phase of `make_plan`, from its progress calls."""

    def __init__(self) -> None:
        self.began, self.phase = time.process_time(), "start"
        self.seconds: dict[str, float] = {}

    def __call__(self, progress: Progress | None) -> None:
        now = time.process_time()
        self.seconds[self.phase] = self.seconds.get(self.phase, 0.0) + now - self.began
        self.began, self.phase = now, progress.phase if progress else "end"


def device_of(network: str) -> tuple[str, Device]:
    """POET's name of the device that `network` is planned for, and its profile."""
    if network in DEVICES:
        device = load_device(DEVICES[network])
        return {"mkr1000": "m0", "nrf52840": "m4"}[device.name], device
    rpi = load_device("rpi4")
    compute = msgspec.structs.replace(rpi.compute, flops_per_second=2e9)
    return "a72", msgspec.structs.replace(rpi, name="a72", compute=compute)


def facts(network: str) -> str:
    graph, (_, device) = poet_graph(network), device_of(network)
    cells = (
        len(graph.ops),
        sum(len(op.inputs) for op in graph.ops),
        plain_plan(graph, device, cost_model="poet").peak_bytes,
        minimum_ram(graph, device, cost_model="poet").ram_bytes,
        ELEMENT_BYTES * sum(layer.params for layer in poet_layers(network)),
    )
    return f"| {network} | {' | '.join(f'{cell:,}' for cell in cells)} |"


def planned(
    graph: Graph, device: Device, budget: Budget, solver: str, limit: float
) -> tuple[Plan | None, PhaseClock]:
    clock = PhaseClock()
    try:
        plan = make_plan(
            graph,
            device,
            budget,
            cost_model="poet",
            solver=solver,
            gap=GOAL_GAP,
            time_limit=limit,
            progress=clock,
        )
    except BudgetInfeasible:  # what the reference says when it found nothing in time
        plan = None
    clock(None)
    return plan, clock


def measure(network: str, share: float, options: argparse.Namespace) -> Row:
    graph, (label, device) = poet_graph(network), device_of(network)
    plain = plain_plan(graph, device, cost_model="poet")
    least = minimum_ram(graph, device, cost_model="poet").ram_bytes
    budget = Budget(int(least + share * (plain.peak_bytes - least)), DEADLINE * plain.seconds)
    plan, clock = planned(graph, device, budget, "time-indexed", options.time_limit)
    assert plan is not None
    found, overhead = check(plan, graph, device), plan.joules - plain.joules
    bound = clock.seconds.pop("bound", 0.0)
    program = sum(clock.seconds.values())
    poet_overhead, poet_seconds = None, None
    poet = by_poet(network, share, graph, device, budget, plain.joules, options)
    if poet is not None:
        poet_overhead, poet_seconds = poet.overhead, poet.seconds
    its = (
        f"{poet_overhead:.4g}"
        if poet_overhead is not None
        else "none"
        if poet_seconds is not None
        else "not run"
    )
    cells = (
        network,
        label,
        f"{share:.0%}",
        f"{len(found.recomputed)}, {len(found.paged_in)}",
        f"{overhead:.4g}",
        f"{overhead / plain.joules:.3%}",
        f"{plan.gap:.1%}",
        f"{bound:.1f}",
        f"{program:.1f}",
        its,
        "-" if poet_seconds is None else f"{poet_seconds:.1f}",
    )
    text = f"| {' | '.join(cells)} |"
    return Row(overhead, plan.gap, bound, program, poet_seconds, poet_overhead, text)


def by_poet(  # one case, and where to look for it
    network: str,
    share: float,
    graph: Graph,
    device: Device,
    budget: Budget,
    plain_joules: float,
    options: argparse.Namespace,
) -> Found | None:
    """What POET's program finds, now or in an earlier run; `None` if it is not to be run on so many ops."""
    path: Path = options.kept
    kept = msgspec.json.decode(path.read_bytes(), type=list[Found]) if path.exists() else []
    case = (network, share, options.poet_limit)
    for found in kept:
        if not options.anew and (found.network, found.share, found.limit) == case:
            return found
    if len(graph.ops) > options.poet_ops:
        return None
    plan, clock = planned(graph, device, budget, "poet", options.poet_limit)
    overhead = plan.joules - plain_joules if plan else None
    found = Found(*case, overhead, clock.seconds.get("poet", 0.0))
    others = [old for old in kept if (old.network, old.share, old.limit) != case]
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(msgspec.json.format(msgspec.json.encode([*others, found]), indent=1))
    return found


def verdict(rows: list[Row]) -> str:
    """What of the aims was reached, counted from `rows`."""
    quick = sum(row.program_seconds <= GOAL_SECONDS for row in rows)
    whole = sum(row.program_seconds + row.bound_seconds <= GOAL_SECONDS for row in rows)
    proved = sum(row.gap <= GOAL_GAP for row in rows)
    tried = sum(row.poet_seconds is not None for row in rows)
    rivals = [row for row in rows if row.poet_overhead is not None]
    # To the digits shown: the last ones of two sums of a few hundred joules differ.
    won = sum(float(f"{row.overhead:.4g}") <= float(f"{row.poet_overhead:.4g}") for row in rivals)
    count, goal = len(rows), f"{GOAL_GAP:.0%}"
    lines = (
        f"The program is solved within {GOAL_SECONDS:.0f} s in {quick} of {count} cases, {whole} with the",
        f"bound included. The gap is at most {goal} in {proved} of {count}; where it is wider, the bound is",
        "weak or the plan is not the best, and which of the two is not known. POET's program finds a",
        f"plan in {len(rivals)} of the {tried} cases in which it was run, and ours needs no more energy",
        f"in {won} of those.",
    )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description="POET's networks: the time-indexed planner and POET's program."
    )
    parser.add_argument("--networks", nargs="*", default=list(NETWORKS), choices=list(NETWORKS))
    parser.add_argument("--shares", nargs="*", type=float, default=list(SHARES))
    parser.add_argument("--time-limit", type=float, default=20.0)
    parser.add_argument("--poet-limit", type=float, default=600.0)
    parser.add_argument(
        "--poet-ops", type=int, default=1000, help="leave POET's program out above so many ops"
    )
    parser.add_argument("--page", type=Path, default=PAGE)
    parser.add_argument("--kept", type=Path, default=KEPT, help="what POET's program found so far")
    parser.add_argument("--anew", action="store_true", help="run POET's program again where it was kept")
    options = parser.parse_args()
    rows = []
    for network in options.networks:
        for share in options.shares:
            rows.append(measure(network, share, options))
            print(rows[-1].text, flush=True)
    text = TEXT.format(
        columns=COLUMNS,
        networks="\n".join(facts(network) for network in options.networks),
        plans="\n".join(row.text for row in rows),
        verdict=verdict(rows),
        deadline=DEADLINE,
        goal_gap=GOAL_GAP,
        limit=options.time_limit,
        poet_limit=options.poet_limit,
        poet_ops=options.poet_ops,
        machine=f"{platform.machine()}, Python {platform.python_version()}",
    )
    options.page.parent.mkdir(parents=True, exist_ok=True)
    options.page.write_text(text)


if __name__ == "__main__":
    main()
