"""Training steps in less RAM than their largest op needs whole: planned, checked, and executed on this host.

    python benchmarks/tiling.py [--cases NAME ...] [--time-limit S] [--page PATH]

Every parameter and optimizer state lives in the slower tier. Each case is planned for a budget that no plan
of whole ops fits, run for one step in PyTorch with the tier in a file, and what it changed compared with the
step without a plan. Writes docs/benchmarks/tiling.md; takes about ten minutes.
"""

import argparse
import copy
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from _command import machine
from torch import Tensor, nn

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from edgewise.capture import SGD, AdamW, Captured, Optimizer, capture  # noqa: E402
from edgewise.devices import Device, load_device  # noqa: E402
from edgewise.graph import Graph, Op  # noqa: E402
from edgewise.plan import Budget, Certificate, Plan, check, make_plan, minimum_ram, plain_plan  # noqa: E402
from edgewise.run import Executor, StepResult  # noqa: E402
from edgewise.zoo import resolve_task  # noqa: E402
from tests.emit.cases import minilm  # noqa: E402
from tests.numerics.eager import relative_difference, train_eagerly  # noqa: E402

PAGE = ROOT / "docs" / "benchmarks" / "tiling.md"
KIB = 1024
MORE_THAN_ROUNDING = 1e-3
"""Where float32 is nearer than this to float64, a tensor's change is more than rounding."""

TEXT = """# Below the largest op

Whole, the largest op of a step sets the least RAM of any plan. As a loop over slices it does not. Batch 1,
float32, parameters and optimizer states in the slower tier of the device.

## What is planned

| step | ops | plain | least, whole ops | least, loops | device | budget | planned peak | arena | planned in |
|---|---:|---:|---:|---:|---|---:|---:|---:|---:|
{plans}

## What it takes

*Loops*: executions that took operands from the tier slice by slice. *Compute*: time of the plain step on the
device. *Page everything*: the same with each op's cheapest tiling that fits and nothing kept between ops.

| step | budget | loops | recomputed | paged in | read | written | compute | step | page everything | gap |
|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|
{costs}

## What was executed

One step on this host, the tier a file. *Measured*: the executor's own count of live bytes. *From unplanned*:
the relative difference, by the norm over all parameters and optimizer states, of what the step changed from
what the unplanned step changes; and that of the worst tensor among those whose change is more than rounding
(the bias of a key in attention, say, has no true gradient). *From float64*: how far the changes of the
unplanned and of the planned step are from those of the same step in float64, which is what rounding alone
does to either.

{columns}
{runs}

*Read*, *written*: bytes that pass between RAM and the tier in one step; what is written wears flash. Measured
with `python benchmarks/tiling.py` on {machine}, limit {limit:.0f} s a plan.
"""

COLUMNS = (
    "| step | budget | measured peak | read | written | loss | unplanned loss | from unplanned "
    "| worst tensor | unplanned from float64 | planned from float64 |\n"
    "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|"
)


class Case(NamedTuple):
    make: Callable[[], tuple[nn.Module, Any, Any]]
    optimizer: Optimizer
    device: str
    budgets: tuple[int, ...]


def from_zoo(name: str) -> Callable[[], tuple[nn.Module, Any, Any]]:
    def make() -> tuple[nn.Module, Any, Any]:
        task = resolve_task(name, batch=1)
        return task.model, task.loss, task.example_batch

    return make


CASES = {
    "resnet8, SGD": Case(from_zoo("resnet8"), SGD(0.1, momentum=0.9), "nrf52840", (64 * KIB, 32 * KIB)),
    "resnet18, SGD": Case(from_zoo("resnet18"), SGD(0.1, momentum=0.9), "nrf52840", (256 * KIB, 128 * KIB)),
    "resnet18, AdamW": Case(from_zoo("resnet18"), AdamW(), "stm32f4", (128 * KIB,)),
    "MiniLM-L6, 32 tokens, SGD": Case(minilm, SGD(0.01), "nrf52840", (256 * KIB, 128 * KIB)),
    "MiniLM-L6, 32 tokens, AdamW": Case(minilm, AdamW(), "nrf52840", (256 * KIB,)),
}


Changes = dict[str, Tensor]


class Steps(NamedTuple):
    result: StepResult
    before: dict[str, Tensor]
    after: dict[str, Tensor]


def run(captured: Captured, plan: Plan, device: Device, batch: Any, start: dict[str, Tensor] | None) -> Steps:
    with Executor(captured, plan, device) as executor:
        if start is not None:
            executor.load_state(start)
        before = executor.state()
        return Steps(executor.step(batch, 0), before, executor.state())


def changes(steps: Steps, names: Iterable[str]) -> Changes:
    return {name: steps.after[name].double() - steps.before[name].double() for name in names}


def distance(ours: Changes, theirs: Changes) -> float:
    """Relative difference of all changes together."""
    flat = [torch.cat([part[name].flatten() for name in theirs]) for part in (ours, theirs)]
    return relative_difference(*flat)


def worst_tensor(ours: Changes, theirs: Changes, exact: Changes) -> float:
    """Relative difference of the worst tensor that float32 has to three digits."""
    known = [name for name in exact if relative_difference(theirs[name], exact[name]) < MORE_THAN_ROUNDING]
    return max(relative_difference(ours[name], theirs[name]) for name in known)


def in_float64(case: Case, model: nn.Module, loss: Any, batch: Any, before: dict[str, Tensor]) -> Changes:
    """What the step changes in float64, in eager PyTorch, starting where the others do."""
    exact = copy.deepcopy(model).double()
    exact.load_state_dict({name: tensor.double() for name, tensor in before.items()}, strict=False)
    inputs, targets = (part.double() if part.is_floating_point() else part for part in batch)
    _, after = train_eagerly(exact, loss, case.optimizer, [(inputs, targets)])
    trained = [name for name in before if before[name].is_floating_point() and name in after]
    buffers = dict(exact.named_buffers())
    return {n: after[n].double() - before[n].double() for n in trained if n not in buffers}


def whole(graph: Graph) -> Graph:
    """The graph with the options that are no loops."""

    def op_of(op: Op) -> Op:
        return Op(**{**fields(op), "options": tuple(o for o in op.options if not o.is_tiled)})

    return Graph(graph.name, graph.values, tuple(map(op_of, graph.ops)), graph.outputs)


def fields(op: Op) -> dict[str, Any]:
    return {name: getattr(op, name) for name in op.__struct_fields__}


class Rows(NamedTuple):
    plans: list[str]
    costs: list[str]
    runs: list[str]


def size(count: int) -> str:
    return f"{count / KIB:,.1f} KiB" if count < 1024 * KIB else f"{count / KIB / KIB:,.1f} MiB"


def measure(name: str, case: Case, limit: float, rows: Rows) -> None:
    device = load_device(case.device)
    model, loss, batch = case.make()
    captured = capture(model, loss, case.optimizer, batch, name=name)
    graph = captured.graph
    plain = plain_plan(graph, device)
    theirs = run(captured, plain, device, batch, None)
    exact = in_float64(case, model, loss, batch, theirs.before)
    floors = [minimum_ram(g, device, time_limit=5).ram_bytes for g in (whole(graph), graph)]
    for ram_bytes in case.budgets:
        begin = time.perf_counter()
        plan = make_plan(graph, device, Budget(ram_bytes), time_limit=limit)
        seconds = time.perf_counter() - begin
        found = check(plan, graph, device)
        paged = make_plan(graph, device, Budget(ram_bytes), solver="page-everything")
        rows.plans.append(
            f"| {name} | {len(graph.ops)} | {size(plain.peak_bytes)} | {size(floors[0])} | "
            f"{size(floors[1])} | {device.name} | {size(ram_bytes)} | {plan.peak_bytes:,} B | "
            f"{found.arena_bytes / found.peak_bytes:.2f} | {seconds:.1f} s |"
        )
        rows.costs.append(
            f"| {name} | {size(ram_bytes)} | {len(found.streamed)} | {len(found.recomputed)} | "
            f"{len(found.paged_in)} | {size(found.bytes_read)} | {size(found.bytes_written)} | "
            f"{plain.seconds:,.1f} s | {plan.seconds:,.1f} s | {paged.seconds:,.1f} s | {plan.gap:.0%} |"
        )
        print(rows.plans[-1], rows.costs[-1], sep="\n", flush=True)
        rows.runs.append(executed(name, captured, plan, found, device, batch, theirs, exact))
        print(rows.runs[-1], flush=True)


def executed(
    name: str,
    captured: Captured,
    plan: Plan,
    found: Certificate,
    device: Device,
    batch: Any,
    theirs: Steps,
    exact: Changes,
) -> str:
    ours = run(captured, plan, device, batch, theirs.before)
    assert ours.result.peak_bytes <= plan.budget.ram_bytes
    assert (ours.result.bytes_read, ours.result.bytes_written) == (found.bytes_read, found.bytes_written)
    mine, wanted = changes(ours, exact), changes(theirs, exact)
    return (
        f"| {name} | {size(plan.budget.ram_bytes)} | {ours.result.peak_bytes:,} B | "
        f"{size(ours.result.bytes_read)} | {size(ours.result.bytes_written)} | {ours.result.loss:.6f} | "
        f"{theirs.result.loss:.6f} | {distance(mine, wanted):.1e} | "
        f"{worst_tensor(mine, wanted, exact):.1e} | {distance(wanted, exact):.1e} | "
        f"{distance(mine, exact):.1e} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Training steps in less RAM than their largest op needs.")
    parser.add_argument("--cases", nargs="*", choices=list(CASES), default=list(CASES))
    parser.add_argument("--time-limit", type=float, default=60.0)
    parser.add_argument("--page", type=Path, default=PAGE)
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = Rows([], [], [])
    for name in options.cases:
        measure(name, CASES[name], options.time_limit, rows)
    text = TEXT.format(
        plans="\n".join(rows.plans),
        costs="\n".join(rows.costs),
        runs="\n".join(rows.runs),
        columns=COLUMNS,
        limit=options.time_limit,
        machine=machine(),
    )
    options.page.parent.mkdir(parents=True, exist_ok=True)
    options.page.write_text(text)


if __name__ == "__main__":
    main()
