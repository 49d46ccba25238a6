"""What the planner finds, how far that is from the best there is, and how long it takes.

    python benchmarks/planner.py [--graphs N] [--models NAME ...] [--time-limit S] [--page PATH]

Three tables: random small graphs, where brute force knows the optimum; chains, where POET's program (the
reference) and the time-indexed one run on the same work; and steps captured from the zoo on two devices.
Writes docs/benchmarks/planner.md; takes about ten minutes.
"""

import argparse
import platform
import random
import statistics
import sys
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from edgewise.capture import SGD, capture  # noqa: E402
from edgewise.devices import Device, load_device  # noqa: E402
from edgewise.errors import BudgetInfeasible  # noqa: E402
from edgewise.graph import Graph  # noqa: E402
from edgewise.plan import Budget, Plan, check, make_plan, minimum_ram, plain_plan  # noqa: E402
from edgewise.zoo import resolve_task  # noqa: E402
from tests.plan.brute_force import INFINITY, optimum  # noqa: E402
from tests.plan.graphs import DISKLESS, PAGING, chain, random_graph  # noqa: E402

PAGE = ROOT / "docs" / "benchmarks" / "planner.md"
MODELS = ("digits-cnn", "resnet8", "text-classifier", "unet", "transformer", "resnet18", "mobilenetv2")
SHARES = (0.5, 0.3, 0.2)
TEXT = """# The planner

## Against brute force

{graphs} random graphs of 2 to 7 ops, at a budget in the lower half between the least RAM and the plain peak,
on a device that pages (up to 5 ops) and on one that only recomputes. Brute force tries every step that could
matter in every state of the machine, and shares no code with the planners.

| planner | plans as cheap as the optimum | mean excess over the optimum | median seconds | longest |
|---|---:|---:|---:|---:|
{exact}

## Against POET's program

Chains of forward and backward ops at the middle between the least RAM and the plain peak. Both programs are
solved by HiGHS on one thread to a gap of 1% of their own overhead, in at most {limit:.0f} s; overhead is in
joules above the plain plan, as the independent check counts it.

| ops | POET: overhead | seconds | time-indexed: overhead | seconds |
|---:|---:|---:|---:|---:|
{poet}

## Captured training steps

Batch 8, SGD with momentum. Budgets are shares of the plain peak, parameters and optimizer states included;
where that is below the least RAM, the least RAM is the budget. *Gap*: at most that share of the overhead
could be saved by any plan that first runs the ops in the captured order; it counts what the bound cannot see,
such as waiting for the link, as savable.

{columns}
|---|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|
{models}

*Arena*: the end of the highest address, as a multiple of the peak of live bytes. Measured with `python
benchmarks/planner.py` on {machine}, limit {limit:.0f} s a plan.
"""

COLUMNS = (
    "| model | device | ops | plain peak | least RAM | budget "
    "| recomputed, paged in | joules | seconds | gap | arena | solved in |"
)


class Timed(NamedTuple):
    plan: Plan | None
    seconds: float


def plan_within(graph: Graph, device: Device, budget: Budget, **options: object) -> Timed:
    begin = time.perf_counter()
    try:
        plan = make_plan(graph, device, budget, **options)
    except BudgetInfeasible:
        plan = None
    return Timed(plan, time.perf_counter() - begin)


def against_brute_force(count: int) -> str:
    found: dict[str, list[tuple[float, float, float]]] = {"search": [], "time-indexed": []}
    for seed in range(count):
        dice = random.Random(seed)
        device = (PAGING, DISKLESS)[seed % 2]
        graph = random_graph(seed, most_ops=7 if device is DISKLESS else 5)
        least, plain = minimum_ram(graph, device).ram_bytes, plain_plan(graph, device)
        budget = Budget(dice.randint(least, (least + plain.peak_bytes) // 2))
        best = None
        for solver, rows in found.items():
            timed = plan_within(graph, device, budget, solver=solver, gap=0, time_limit=20)
            if best is None and timed.plan is not None:
                cheaper = optimum(graph, device, budget.ram_bytes, below=timed.plan.joules)
                best = timed.plan.joules if cheaper is None else cheaper
            joules = timed.plan.joules if timed.plan else INFINITY
            rows.append((joules, best if best is not None else INFINITY, timed.seconds))
    return "\n".join(_exact_row(solver, rows) for solver, rows in found.items())


def _exact_row(solver: str, rows: list[tuple[float, float, float]]) -> str:
    planned = [(joules, best) for joules, best, _ in rows if joules < INFINITY]
    equal = sum(joules <= best * (1 + 1e-9) for joules, best in planned)
    excess = statistics.mean(joules / best - 1 if best else 0.0 for joules, best in planned)
    seconds = [row[2] for row in rows]
    return (
        f"| {solver} | {equal} of {len(planned)} | {excess:.2%} of its joules | "
        f"{statistics.median(seconds):.3f} | {max(seconds):.2f} |"
    )


def against_poet(limit: float) -> str:
    rows = []
    for length in (5, 10, 15, 30, 60):
        graph = chain(length)
        least, plain = minimum_ram(graph, PAGING).ram_bytes, plain_plan(graph, PAGING)
        budget = Budget((least + plain.peak_bytes) // 2)
        cells = [str(len(graph.ops))]
        for solver in ("poet", "time-indexed"):
            timed = plan_within(graph, PAGING, budget, solver=solver, time_limit=limit)
            cells.append(f"{timed.plan.joules - plain.joules:.4g}" if timed.plan else "no plan")
            cells.append(f"{timed.seconds:.1f}")
        rows.append(f"| {' | '.join(cells)} |")
        print(rows[-1], flush=True)
    return "\n".join(rows)


def captured_steps(names: list[str], limit: float) -> str:
    rows = []
    for name in names:
        task = resolve_task(name, batch=8)
        graph = capture(task.model, task.loss, SGD(0.1, momentum=0.9), task.example_batch, name=name).graph
        for device in (load_device("nrf52840"), load_device("rpi4")):
            rows += _model_rows(name, graph, device, limit)
    return "\n".join(rows)


def _model_rows(name: str, graph: Graph, device: Device, limit: float) -> list[str]:
    plain, least = plain_plan(graph, device), minimum_ram(graph, device).ram_bytes
    rows = []
    for ram_bytes in dict.fromkeys(max(least, int(share * plain.peak_bytes)) for share in SHARES):
        plan, seconds = plan_within(graph, device, Budget(ram_bytes), time_limit=limit)
        assert plan is not None
        found = check(plan, graph, device)
        rows.append(
            f"| {name} | {device.name} | {len(graph.ops)} | {plain.peak_bytes / 1024:,.0f} KiB | "
            f"{least / 1024:,.0f} KiB | {ram_bytes / plain.peak_bytes:.0%} | "
            f"{len(found.recomputed)}, {len(found.paged_in)} | {plan.joules / plain.joules - 1:+.1%} | "
            f"{plan.seconds / plain.seconds - 1:+.1%} | {plan.gap:.0%} | "
            f"{found.arena_bytes / found.peak_bytes:.2f} | {seconds:.1f} s |"
        )
        print(rows[-1], flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description="What the planner finds, and how far from the best that is.")
    parser.add_argument("--graphs", type=int, default=200)
    parser.add_argument("--models", nargs="*", default=list(MODELS))
    parser.add_argument("--time-limit", type=float, default=30.0)
    parser.add_argument("--page", type=Path, default=PAGE)
    options = parser.parse_args()
    exact = against_brute_force(options.graphs)
    print(exact, flush=True)
    text = TEXT.format(
        graphs=options.graphs,
        exact=exact,
        columns=COLUMNS,
        poet=against_poet(options.time_limit),
        models=captured_steps(options.models, options.time_limit),
        limit=options.time_limit,
        machine=f"{platform.machine()}, Python {platform.python_version()}",
    )
    options.page.parent.mkdir(parents=True, exist_ok=True)
    options.page.write_text(text)


if __name__ == "__main__":
    main()
