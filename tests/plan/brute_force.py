"""The optimum by brute force: every state of the machine that could be part of a cheaper plan.

It shares nothing with the planners: no dominance between states, no choice of what to drop, no notion of what
is useful but that an op which nothing required depends on need not run. A few normal forms keep the states
few, and lose no plan:

* A value is dropped only while something that could be done next lacks the room for it: dropping later never
  hurts before.
* A value is paged in only when something that could run reads it.
* A page-out is paid for when the value is first paged in, or at the end: nobody has to choose, when a value
  leaves, whether it will be wanted. Nothing is ever deleted from the tier, so what it holds is not changed.
* A state from which even the ops that never ran so far cost too much is left out.

Ops run in the graph's order, or (`defer`) later than in it. Written for graphs of a few ops, and for devices
whose costs add up. Sets of values and of ops are bits of an integer, for speed.
"""

import heapq
from collections.abc import Iterator
from itertools import chain, combinations
from typing import NamedTuple

from edgewise.devices import Cost, Device
from edgewise.graph import Graph, Op

INFINITY = float("inf")


class Pay(NamedTuple):
    """What is minimized, and what is limited besides."""

    least: float
    limited: float

    def plus(self, *others: "Pay") -> "Pay":
        """The sum."""
        return Pay(self.least + sum(o.least for o in others), self.limited + sum(o.limited for o in others))


FREE = Pay(0.0, 0.0)


class State(NamedTuple):
    """How many ops have had their turn; which ops have run; what is in RAM; what was paid to be stored."""

    done: int
    ran: int
    ram: int
    stored: int


class Run(NamedTuple):
    """One way to execute an op: bytes it needs besides its operands, what it overwrites, what it makes."""

    need: int
    olds: int
    gone: int
    made: int


def optimum(
    graph: Graph,
    device: Device,
    ram_bytes: int,
    *,
    seconds: float = INFINITY,
    joules: float = INFINITY,
    minimize: str = "joules",
    below: float = INFINITY,
    defer: bool = True,
) -> float | None:
    """The least joules (or seconds) of a plan within all limits, if less than `below`; else `None`."""
    names = (
        [v.name for v in graph.sources() if v.kind in ("parameter", "state")] if device.memory.paging else []
    )
    homes = chain.from_iterable(combinations(names, k) for k in range(len(names) + 1))
    limits = (joules, seconds) if minimize == "joules" else (seconds, joules)
    below, found = min(below * (1 - 1e-9), limits[0] * (1 + 1e-9)), None
    for chosen in homes:
        brute = _Brute(graph, device, ram_bytes, set(chosen), minimize=minimize, defer=defer)
        better = brute.dijkstra(below, limits[1] * (1 + 1e-9))
        if better is not None:
            below = found = better
    return found


def _needed_ops(graph: Graph) -> list[Op]:
    """Ops that something required depends on, and those that make updates."""

    def depends(op: Op) -> bool:
        made = set(op.writes)
        return bool(op.updates or made & graph.required) or any(
            made & set(other.reads) and depends(other) for other in graph.ops
        )

    return [op for op in graph.ops if depends(op)]


class _Brute:
    def __init__(
        self, graph: Graph, device: Device, limit: int, homes: set[str], *, minimize: str, defer: bool
    ) -> None:
        self.defer, self.minimize, self.device, self.limit = defer, minimize, device, limit
        self.bit = {v.name: 1 << i for i, v in enumerate(graph.values)}
        self.size = {self.bit[v.name]: v.bytes for v in graph.values}
        self.known_bytes: dict[int, int] = {}
        self.ops, self.homes = _needed_ops(graph), self._set(homes)
        at_home = {graph.carries.get(name, name) for name in homes}
        self.needed, self.at_home = self._set(graph.required - at_home), self._set(at_home)
        self.slots = self._set({graph.carries[home] for home in homes if home in graph.carries})
        self.start = self._set({v.name for v in graph.sources()} - homes)
        self._tabulate(graph)

    def _tabulate(self, graph: Graph) -> None:
        """Costs and sets that every state asks for."""
        device, ops, count = self.device, self.ops, len(self.ops)
        self.costs = [self._pay(device.op_cost(graph, op)) for op in ops]
        tier = device.memory.paging
        self.tier_bytes = tier[1].bytes if tier else 0
        if tier:
            self.read = {bit: self._pay(device.read_cost(size)) for bit, size in self.size.items()}
            self.write = {bit: self._pay(device.write_cost(size)) for bit, size in self.size.items()}
        # what must still be paid once the turn of the first ops has come
        self.rest = [FREE.plus(*self.costs[t:]) for t in range(count + 1)]
        self.gone = [self._set({old for op in ops[:t] for old, _ in op.updates}) for t in range(count + 1)]
        self.reads = [self._set(set(op.reads)) for op in ops]
        self.inputs = [self._set(set(op.inputs)) for op in ops]
        self.made = [self._set(set(op.writes)) for op in ops]
        self.firsts = [list(self._runs(op, first=True)) for op in ops]
        self.reruns = [list(self._runs(op, first=False)) for op in ops]
        self.read_by = [self._any(self.reads[: t + 1]) for t in range(count)] + [self._any(self.reads)]
        self.read_by[-1] |= self.needed

    def _pay(self, cost: Cost) -> Pay:
        joules = cost.joules + cost.seconds * self.device.compute.watts_idle
        return Pay(joules, cost.seconds) if self.minimize == "joules" else Pay(cost.seconds, joules)

    @staticmethod
    def _any(sets: list[int]) -> int:
        united = 0
        for values in sets:
            united |= values
        return united

    def _set(self, names: "set[str] | frozenset[str]") -> int:
        return sum(self.bit[name] for name in names)

    def _runs(self, op: Op, *, first: bool) -> Iterator[Run]:
        updates = op.updates if first else ()
        for option in op.options:
            olds = self._set({old for old, _ in option.overwrites})
            news = self._set({new for _, new in option.overwrites})
            made = self._set(set(op.outputs))
            need = self.bytes(made & ~news) + option.workspace_bytes
            gone = self._set({old for old, _ in updates})
            yield Run(need, olds, gone, made | self._set({new for _, new in updates}))

    def bytes(self, values: int) -> int:
        found = self.known_bytes.get(values)
        if found is None:
            found = self.known_bytes[values] = sum(size for bit, size in self.size.items() if values & bit)
        return found

    def dijkstra(self, below: float, limit: float) -> float | None:
        """The least that reaches the end, if less than `below`, with no more than `limit` of the other."""
        if self.bytes(self.start) > self.limit:
            return None
        queue = [(0.0, 0.0, State(0, 0, self.start, self.homes))]
        best: dict[State, float] = {}  # least of the limited so far; of what is minimized, it only grows
        while queue:
            least, limited, state = heapq.heappop(queue)
            if best.get(state, INFINITY) <= limited:
                continue
            best[state] = limited
            if state.done == len(self.ops) and not (self.needed & ~state.ram or self.at_home & ~state.stored):
                return least
            for paid, after in self.moves(state):
                total, spent = least + paid.least, limited + paid.limited
                if best.get(after, INFINITY) <= spent:
                    continue
                to_come = self.to_come(after)
                if total + to_come.least < below and spent + to_come.limited <= limit:
                    heapq.heappush(queue, (total, spent, after))
        return None

    def to_come(self, state: State) -> Pay:
        """What the ops cost that have not run: each must run once."""
        pay = self.rest[state.done]
        late = ~state.ran & ((1 << state.done) - 1)
        return pay.plus(*(self.costs[t] for t in range(state.done) if late >> t & 1)) if late else pay

    def moves(self, state: State) -> Iterator[tuple[Pay, State]]:
        done, ran, ram, stored = state
        live, short = self.bytes(ram), False
        wanted = self.in_tier(state) & ~ram & ~self.gone[done] & self.read_by[done]
        for bit, size in self.size.items() if wanted else ():
            if wanted & bit and self.tier_fits(stored | bit):
                if live + size <= self.limit:
                    owed = FREE if stored & bit else self.write[bit]
                    yield self.read[bit].plus(owed), State(done, ran, ram | bit, stored | bit)
                short |= live + size > self.limit
        if self.defer and done < len(self.ops) and self.ops[done].recomputable and not self.ops[done].updates:
            yield FREE, State(done + 1, ran, ram, stored)
        for index in range(min(done + 1, len(self.ops))):
            first = index == done
            needed = self.reads[index] if first else self.inputs[index]
            if needed & ~ram or not (first or self.ops[index].recomputable):
                continue
            for run in self.firsts[index] if first else self.reruns[index]:
                short |= live + run.need > self.limit
                if live + run.need <= self.limit:
                    after = ram & ~run.olds & ~run.gone | run.made
                    yield self.costs[index], State(done + first, ran | 1 << index, after, stored)
        for bit in self.size if short else ():
            if ram & bit:
                yield FREE, State(done, ran, ram & ~bit, stored)
        yield from self.settles(state) if done == len(self.ops) else ()

    def in_tier(self, state: State) -> int:
        """What may be paged in: what is stored, and on credit whatever was in RAM before."""
        if self.tier_bytes == 0:
            return 0
        return (
            self._any([m for t, m in enumerate(self.made) if state.ran >> t & 1]) | self.start | state.stored
        )

    def tier_fits(self, stored: int) -> bool:
        """Nothing is ever deleted from the tier, so only all that is ever stored there counts."""
        return self.tier_bytes is None or self.bytes(stored & ~self.slots) <= self.tier_bytes

    def settles(self, state: State) -> Iterator[tuple[Pay, State]]:
        """At the end, what lives in the tier is written there."""
        there = self.at_home & ~state.stored & (state.ram | self.in_tier(state))
        for bit in self.size if there else ():
            if there & bit:
                yield self.write[bit], state._replace(stored=state.stored | bit)
