"""What several rooms' tests need: plans made without any planner, and a device to think of."""

import random

import msgspec

from edgewise.devices import Compute, Device, Memory, Ram, Tier
from edgewise.graph import Graph, Op, Option, Stream, validate
from edgewise.plan import Budget, Certificate, Free, PageIn, Plan, Step, replay
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
    return plan_of_steps(lay_out(order, graph, homes), graph, device, homes)


def plan_of_steps(
    steps: tuple[Step, ...], graph: Graph, device: Device = DEVICE, homes: frozenset[str] = frozenset()
) -> Plan:
    """A plan of just these steps, whose budget is its peak."""
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
        workspaces=naive_workspaces(steps, graph, homes),
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
            updates = op.updates if op.name not in done else ()
            pairs = [*op.option(step.option).overwrites, *(u for u in updates if u[0] not in step.streamed)]
            done.add(op.name)
            for old, new in pairs:
                begin(new, live.pop(old))
            for name in set(op.outputs) - set(live) - set(step.streamed):
                begin(name)
    return {name: tuple(offsets) for name, offsets in where.items()}


def looped(graph: Graph, *, reordered: tuple[str, ...] = ()) -> Graph:
    """`graph` whose ops may run in eight overlapping slices; those in `reordered` not bit for bit."""
    size = {value.name: value.bytes for value in graph.values}
    ops = []
    for op in graph.ops:
        streams = tuple(
            Stream(name, 0 if name in op.outputs else size[name] // 8, size[name] + size[name] // 4, 8)
            for name in dict.fromkeys((*op.reads, *op.outputs))
            if size[name] >= 512
        )
        workspace = sum(size[name] for name in op.outputs) // 8
        loop = Option(
            "rows 8", workspace_bytes=workspace, streams=streams, tiles=8, exact=op.name not in reordered
        )
        ops.append(msgspec.structs.replace(op, options=(*op.options, loop) if streams else op.options))
    return validate(msgspec.structs.replace(graph, ops=tuple(ops)))


def naive_workspaces(steps: tuple, graph: Graph, homes: frozenset[str]) -> dict[str, tuple[int, ...]]:
    """Every op works behind all values."""
    stays = naive_addresses(steps, graph, homes)
    end = max((at + graph.value[name].bytes for name, offsets in stays.items() for at in offsets), default=0)
    where: dict[str, tuple[int, ...]] = {}
    for step in steps:
        if isinstance(step, ComputeStep):
            room = graph.op[step.op].option(step.option).room_bytes(step.streamed)
            where[step.op] = (*where.get(step.op, ()), *((end,) if room else ()))
    return {name: offsets for name, offsets in where.items() if offsets}


class _Wanderer:
    """Makes a valid order op by op; knows what is in RAM (`present`) and in the tier (`stored`)."""

    def __init__(self, graph: Graph, homes: frozenset[str]) -> None:
        self.graph = graph
        self.actions: list[Action] = []
        self.present = {value.name for value in graph.sources()} - homes
        self.stored = set(homes)
        self.done: set[str] = set()

    def bring(self, name: str) -> None:
        if name in self.present:
            return
        if name in self.stored:
            self.actions.append(Action("in", name))
        else:
            self.execute(self.graph.producer[name])
        self.present.add(name)

    def execute(self, op: Op) -> None:
        first = op.name not in self.done
        for name in op.reads if first else op.inputs:
            self.bring(name)
        self.actions.append(Action("compute", op.name))
        self.done.add(op.name)
        self.present.update(op.outputs)
        for old, new in op.updates if first else ():
            self.present.discard(old)
            self.stored.discard(old)
            self.present.add(new)

    def page_out(self, name: str) -> None:
        self.actions.append(Action("out", name))
        self.stored.add(name)

    def forget(self, name: str) -> None:
        """Drop `name` if it can be had again: from the tier, or by recomputing it until its last use."""
        op = self.graph.producer.get(name)
        again = op is not None and name in op.outputs and op.recomputable and self._recoverable(op)
        if name in self.stored or (again and _survives(self.graph, name)):
            self.present.discard(name)

    def _recoverable(self, op: Op) -> bool:
        return all(n in self.present or n in self.stored or self._made_again(n) for n in op.inputs)

    def _made_again(self, name: str) -> bool:
        op = self.graph.producer.get(name)
        return op is not None and name in op.outputs and op.recomputable and self._recoverable(op)


def random_order(
    graph: Graph, rng: random.Random, *, forget: float, page: float
) -> tuple[Order, frozenset[str]]:
    """A valid order that forgets values at random and recomputes or pages them in when they are wanted.

    `forget` is the chance that a value in RAM is dropped after each op, `page` the share of those
    that are paged rather than recomputed. Also picks homes in the slower tier.
    """
    carried = [v.name for v in graph.sources() if v.kind in ("parameter", "state")]
    homes = frozenset(name for name in carried if rng.random() < page)
    wanderer = _Wanderer(graph, homes)
    last_use = {name: i for i, op in enumerate(graph.ops) for name in op.reads}
    for index, op in enumerate(graph.ops):
        wanderer.execute(op)
        for name in sorted(wanderer.present):
            if last_use.get(name, -1) > index and rng.random() < forget:
                if rng.random() < page and name not in wanderer.stored:
                    wanderer.page_out(name)
                wanderer.forget(name)
    return tuple(wanderer.actions), homes


def _survives(graph: Graph, name: str) -> bool:
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


__all__ = ["DEVICE", "looped", "naive_addresses", "plain_order", "plan_of", "random_order"]
