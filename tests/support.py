"""What several rooms' tests need: plans made without any planner, and a device that costs nothing to think about."""

import random

from edgewise.devices import Compute, Device, Memory, Ram, Tier
from edgewise.graph import Graph
from edgewise.plan import Budget, Certificate, Free, PageIn, Plan, replay
from edgewise.plan import Compute as ComputeStep
from edgewise.plan.schedule import Action, Order, lay_out, plain_order

DEVICE = Device(
    "test-board",
    "a board with an SD card",
    Compute(1e8, 1e-9),
    Memory(Ram(2**30), sd=Tier(5e6, 4e6, read_latency_seconds=1e-4, write_latency_seconds=1e-4, watts=0.3)),
)


def plan_of(order: Order, graph: Graph, device: Device = DEVICE, homes: frozenset[str] = frozenset()) -> Plan:
    """A plan for `order`, with addresses that are never used twice."""
    steps = lay_out(order, graph, homes)
    found: Certificate = replay(steps, graph, device, homes=tuple(sorted(homes)))
    return Plan(
        graph=graph.name,
        graph_sha256=graph.sha256,
        device=device.name,
        budget=Budget(found.peak_bytes),
        minimize="joules",
        cost_model="full",
        solver="test",
        status="feasible",
        gap=1.0,
        peak_bytes=found.peak_bytes,
        seconds=found.seconds,
        joules=found.joules,
        steps=steps,
        addresses=naive_addresses(steps, graph, homes),
        homes=tuple(sorted(homes)),
    )


def naive_addresses(steps: tuple, graph: Graph, homes: frozenset[str]) -> dict[str, tuple[int, ...]]:
    """Every stay at an address of its own, but what overwrites an operand in its place."""
    end = 0
    where: dict[str, list[int]] = {}
    live: dict[str, int] = {}
    done: set[str] = set()

    def begin(name: str, at: int | None = None) -> None:
        nonlocal end
        live[name] = end if at is None else at
        where.setdefault(name, []).append(live[name])
        end += graph.value[name].bytes if at is None else 0

    for value in graph.sources():
        if value.name not in homes:
            begin(value.name)
    for step in steps:
        if isinstance(step, Free):
            live.pop(step.value)
        elif isinstance(step, PageIn):
            begin(step.value)
        elif isinstance(step, ComputeStep):
            op = graph.op[step.op]
            pairs = [*op.option(step.option).overwrites, *(op.updates if op.name not in done else ())]
            done.add(op.name)
            for old, new in pairs:
                begin(new, live.pop(old))
            for name in op.outputs:
                if name not in live:
                    begin(name)
    return {name: tuple(offsets) for name, offsets in where.items()}


def random_order(
    graph: Graph, rng: random.Random, *, forget: float, page: float
) -> tuple[Order, frozenset[str]]:
    """A valid order that forgets values at random and recomputes or pages them in when they are wanted.

    `forget` is the chance that a value in RAM is dropped after each op, `page` the share of values that are
    paged rather than recomputed. Also picks homes in the slower tier.
    """
    sources = {v.name: v for v in graph.sources()}
    homes = frozenset(
        n for n, v in sources.items() if v.kind in ("parameter", "state") and rng.random() < page
    )
    actions: list[Action] = []
    present = set(sources) - homes
    stored, done = set(homes), set[str]()

    def bring(name: str) -> None:
        if name in present:
            return
        if name in stored:
            actions.append(Action("in", name))
        else:
            execute(graph.producer[name].name)
        present.add(name)

    def execute(op_name: str) -> None:
        op = graph.op[op_name]
        first = op_name not in done
        for name in op.reads if first else op.inputs:
            bring(name)
        actions.append(Action("compute", op_name))
        done.add(op_name)
        present.update(op.outputs)
        if first:
            for old, new in op.updates:
                present.discard(old)
                stored.discard(old)
                present.add(new)

    def forgettable(name: str) -> bool:
        op = graph.producer.get(name)
        return op is not None and name in op.outputs and op.recomputable and recoverable(op.name)

    def recoverable(op_name: str) -> bool:
        return all(n in present or n in stored or forgettable_deep(n) for n in graph.op[op_name].inputs)

    def forgettable_deep(name: str) -> bool:
        return (
            name in graph.producer
            and name in graph.producer[name].outputs
            and recoverable(graph.producer[name].name)
        )

    last_use = {name: i for i, op in enumerate(graph.ops) for name in op.reads}
    for index, op in enumerate(graph.ops):
        execute(op.name)
        for name in sorted(present):
            if last_use.get(name, -1) <= index or rng.random() >= forget:
                continue
            if rng.random() < page and name not in stored:
                actions.append(Action("out", name))
                stored.add(name)
            if name in stored or (forgettable(name) and _survives(graph, name, index)):
                present.discard(name)
    return tuple(actions), homes


def _survives(graph: Graph, name: str, index: int) -> bool:
    """Whether `name` can be recomputed until its last use: no ancestor is overwritten before."""
    last = max(i for i, op in enumerate(graph.ops) if name in op.reads)
    gone = {old for op in graph.ops[: last + 1] for old, _ in op.updates}
    todo, seen = [name], set()
    while todo:
        producer = graph.producer.get(todo.pop())
        if producer is None or producer.name in seen:
            continue
        seen.add(producer.name)
        if gone & set(producer.inputs):
            return False
        todo.extend(producer.inputs)
    return True


__all__ = ["DEVICE", "naive_addresses", "plain_order", "plan_of", "random_order"]
