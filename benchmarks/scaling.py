"""How planning grows with the graph: chains and residual networks of 250, 1,000 and 4,000 ops.

    python benchmarks/scaling.py [--ops N ...] [--time-limit S] [--page PATH]

Each graph is one training step in miniature, forward and true backward, with sizes and work drawn by chance
from a fixed seed. The budget is 35% of the way from the largest working set to the plain peak. Planned for a
microcontroller with an SD card, and for the same one without a card, which can only recompute; the peers plan
the same work in the same run. Writes docs/benchmarks/scaling.md; takes about fifteen minutes.
"""

import argparse
import platform
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec

from edgewise.devices import Device, load_device
from edgewise.errors import BudgetInfeasible
from edgewise.graph import WHOLE, Graph, Op, Option, Value, validate
from edgewise.plan import Budget, Plan, Progress, check, make_plan, plain_plan
from edgewise.plan.problem import Problem, floor_bytes

PAGE = Path(__file__).parents[1] / "docs" / "benchmarks" / "scaling.md"
OPS = (250, 500, 1000, 2000, 4000)
SHARE = 0.35
PEERS = ("every-block", "square-root")
KIB = 1024
TEXT = """# Scaling

Training steps in miniature, forward and true backward, with sizes and work drawn by chance: a *chain* of
layers, and a *residual* network of blocks `y = x + conv(relu(conv(x)))`. The budget lies {share:.0%} of the
way from the largest working set to the plain peak. Planned for POET's profile of an nRF52840, with its SD
card and without, in which case it can only recompute; limit {limit:.0f} s a plan.

*First*: seconds of CPU time until there is a plan within the budget. *CPU* and *wall*: until the planner is
done, proofs, addresses and check included; it stops when a sweep over all windows of the graph gains less
than 1%, or at the limit. *Overhead*: joules above the plan without a memory limit. *Gap*: at most that share
of the overhead could be saved by any plan that first runs the ops in this order.

{columns}
|---|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|
{rows}

With a card a plan begins with one visit to every window of the graph, and a window takes the same time in a
large graph as in a small one; what is left of the limit goes into sweeps over the windows and, where its
relaxation says much, into the whole program. Without, it begins with priced cuts, and neighbourhoods follow.
Where wall is much more than CPU, other programs ran on the machine: the limit
is one of wall time. The peers are planned in the same run on the same work; seconds in brackets are theirs.
Measured with `python benchmarks/scaling.py --ops {ops} --time-limit {limit:.0f}`
on {machine}.
"""


COLUMNS = (
    "| graph | device | ops | first, s | CPU, s | wall, s | CPU ms an op "
    "| overhead | gap | arena | every-block | square-root |"
)


class _Builder:
    """Values and ops of one training step; what each forward op made is remembered for its backward op."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        self.values = [Value("x", 32 * KIB, "input")]
        self.ops: list[Op] = []

    def op(self, name: str, inputs: tuple[str, ...], size: int, flops: int, *, over: str = "") -> str:
        """Append an op that makes one value of `size` bytes; `over` is an operand it may overwrite."""
        out = f"{name}.out"
        self.values.append(Value(out, size))
        options = (WHOLE, Option("in-place", ((over, out),))) if over else (WHOLE,)
        layer = name.partition(".")[0]
        self.ops.append(Op(name, inputs, (out,), flops=flops, options=options, layer=layer))
        return out

    def size(self) -> int:
        return self.dice.choice((8, 16, 32, 64)) * KIB

    def work(self, size: int) -> int:
        """Flops of an op that makes `size` bytes: from an element-wise op to a convolution."""
        return int(size / 4 * 10 ** self.dice.uniform(0.5, 3.5))

    def graph(self, name: str, output: str) -> Graph:
        return validate(Graph(name, tuple(self.values), tuple(self.ops), (output,)))


def chain(ops: int) -> Graph:
    """Half of `ops` forward, one after another; each backward op reads its forward op's operand again."""
    build = _Builder(ops)
    length, made, work = ops // 2, ["x"], []
    for i in range(length):
        size = build.size() if i < length - 1 else 4
        work.append(build.work(size))
        made.append(build.op(f"f{i}", (made[-1],), size, work[-1]))
    gradient = made[-1]
    for i in reversed(range(length)):
        operands = tuple(dict.fromkeys((made[i], gradient)))
        size = next(value.bytes for value in build.values if value.name == made[i])
        gradient = build.op(f"b{i}", operands, size, 2 * work[i])
    return build.graph(f"chain-{ops}", gradient)


def residual(ops: int) -> Graph:
    """Blocks of `y = x + conv(relu(conv(x)))`, between layers of a chain that fill up to `ops`."""
    build = _Builder(ops)
    blocks = (ops - 2) // 8
    size = 32 * KIB
    stem = (ops - 8 * blocks) // 2
    work = {i: build.work(size) for i in range(stem)}
    x = build.values[0].name
    read = []  # what each stem layer or block reads
    for i in range(stem):
        read.append(x)
        x = build.op(f"stem{i}.f", (x,), size, work[i])
    inner = []
    for i in range(blocks):
        read.append(x)
        wide, one, two = build.size(), build.work(size), build.work(size)
        a = build.op(f"{i}.conv1", (x,), wide, one)
        r = build.op(f"{i}.relu", (a,), wide, wide // 4, over=a)
        c = build.op(f"{i}.conv2", (r,), size, two)
        inner.append((r, wide, one, two))
        x = build.op(f"{i}.add", (x, c), size, size // 4, over=c)
    gradient = x
    for i in reversed(range(blocks)):
        r, wide, one, two = inner[i]
        g = build.op(f"{i}.conv2-grad", (r, gradient), wide, 2 * two)
        g = build.op(f"{i}.relu-grad", (r, g), wide, wide // 4, over=g)
        g = build.op(f"{i}.conv1-grad", (read[stem + i], g), size, 2 * one)
        gradient = build.op(f"{i}.add-grad", (gradient, g), size, size // 4, over=g)
    for i in reversed(range(stem)):
        gradient = build.op(f"stem{i}.b", (read[i], gradient), size, 2 * work[i])
    return build.graph(f"residual-{ops}", gradient)


class Row(NamedTuple):
    """One plan: overhead in percent of the plain joules, and seconds."""

    overhead: float
    gap: float
    cpu_seconds: float
    wall_seconds: float
    first_cpu_seconds: float
    arena: float


def planned(graph: Graph, device: Device, budget: Budget, plain: Plan, limit: float) -> Row:
    first: list[float] = []
    cpu, wall = time.process_time(), time.monotonic()

    def progress(now: Progress) -> None:
        if now.incumbent is not None and not first:
            first.append(time.process_time() - cpu)

    plan = make_plan(graph, device, budget, time_limit=limit, progress=progress)
    cpu, wall = time.process_time() - cpu, time.monotonic() - wall
    found = check(plan, graph, device)
    return Row(
        plan.joules / plain.joules - 1,
        plan.gap,
        cpu,
        wall,
        first[0] if first else cpu,
        found.arena_bytes / found.peak_bytes,
    )


def by_peer(graph: Graph, device: Device, budget: Budget, plain: Plan, solver: str) -> str:
    begin = time.process_time()
    try:
        plan = make_plan(graph, device, budget, solver=solver)
    except BudgetInfeasible:
        return "does not fit"
    return f"+{plan.joules / plain.joules - 1:.2%} ({time.process_time() - begin:.0f} s)"


def without_card(device: Device) -> Device:
    memory = msgspec.structs.replace(device.memory, sd=None)
    return msgspec.structs.replace(device, name="no card", memory=memory)


def rows(ops: list[int], limit: float) -> Iterator[str]:
    board = load_device("nrf52840")
    for make in (chain, residual):
        for device in (msgspec.structs.replace(board, name="SD card"), without_card(board)):
            for count in ops:
                graph = make(count)
                plain = plain_plan(graph, device)
                floor = floor_bytes(Problem(graph, device, Budget(0), "joules", "full"))
                budget = Budget(int(floor + SHARE * (plain.peak_bytes - floor)))
                row = planned(graph, device, budget, plain, limit)
                peers = " | ".join(by_peer(graph, device, budget, plain, solver) for solver in PEERS)
                yield (
                    f"| {make.__name__} | {device.name} | {count:,} "
                    f"| {row.first_cpu_seconds:.1f} | {row.cpu_seconds:.0f} | {row.wall_seconds:.0f} | "
                    f"{1000 * row.cpu_seconds / count:.0f} | "
                    f"+{row.overhead:.2%} | {row.gap:.0%} | {row.arena:.3f} | {peers} |"
                )


def main() -> None:
    parser = argparse.ArgumentParser(description="How planning grows with the graph.")
    parser.add_argument("--ops", type=int, nargs="*", default=list(OPS))
    parser.add_argument("--time-limit", type=float, default=120.0)
    parser.add_argument("--page", type=Path, default=PAGE)
    options = parser.parse_args()
    found = []
    for row in rows(options.ops, options.time_limit):
        print(row, flush=True)
        found.append(row)
    text = TEXT.format(
        share=SHARE,
        columns=COLUMNS,
        rows="\n".join(found),
        limit=options.time_limit,
        ops=" ".join(map(str, options.ops)),
        machine=f"{platform.machine()}, Python {platform.python_version()}",
    )
    options.page.parent.mkdir(parents=True, exist_ok=True)
    options.page.write_text(text)


if __name__ == "__main__":
    main()
