"""The optimum by brute force: Dijkstra over every state of the machine, one plain step at a time.

It shares nothing with the planners: no dominance, no choice of what to drop, no notion of what is useful but
that an op which nothing required depends on need not run. Three normal forms keep the states few, and lose no
plan: a value is dropped only while something that could be done next lacks the room for it (dropping later
never hurts before), paged out only when it leaves RAM, and paged in only when something that could run reads
it. Ops run in the graph's order, or (`defer`) later than in it. Written for graphs of a few ops, and for
devices whose costs add up. Sets of values are bits of an integer, for speed.
"""

import heapq
from collections.abc import Iterator
from itertools import chain, combinations

from edgewise.devices import Cost, Device
from edgewise.graph import Graph, Op

INFINITY = float("inf")


def optimum(
    graph: Graph,
    device: Device,
    ram_bytes: int,
    *,
    seconds: float = INFINITY,
    below: float = INFINITY,
    defer: bool = True,
) -> float | None:
    """Least joules of a plan within `ram_bytes` and `seconds`, if less than `below`; else `None`."""
    names = (
        [v.name for v in graph.sources() if v.kind in ("parameter", "state")] if device.memory.paging else []
    )
    homes = chain.from_iterable(combinations(names, k) for k in range(len(names) + 1))
    found = (
        _Brute(graph, device, ram_bytes, seconds, set(chosen), defer=defer).dijkstra(below)
        for chosen in homes
    )
    return min((best for best in found if best is not None), default=None)


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
        self, graph: Graph, device: Device, limit: int, seconds: float, homes: set[str], *, defer: bool
    ) -> None:
        self.defer = defer
        self.device, self.limit, self.seconds = device, limit, seconds
        self.bit = {v.name: 1 << i for i, v in enumerate(graph.values)}
        self.size = {self.bit[v.name]: v.bytes for v in graph.values}
        self.ops = _needed_ops(graph)
        self.idle = device.compute.watts_idle
        self.graph, self.homes = graph, self._set(homes)
        at_home = {graph.carries.get(name, name) for name in homes}
        self.needed, self.at_home = self._set(graph.required - at_home), self._set(at_home)
        self.slots = self._set({graph.carries[home] for home in homes if home in graph.carries})
        self.start = self._set({v.name for v in graph.sources()} - homes)
        self.costs = [device.op_cost(graph, op) for op in self.ops]
        spent = [cost.joules + cost.seconds * self.idle for cost in self.costs]
        # what must still be paid, in joules and in seconds, once the turn of the first ops has come
        self.rest = [sum(spent[t:]) for t in range(len(self.ops) + 1)]
        self.rest_seconds = [sum(cost.seconds for cost in self.costs[t:]) for t in range(len(self.ops) + 1)]
        self.gone = [
            self._set({old for op in self.ops[:t] for old, _ in op.updates}) for t in range(len(self.ops) + 1)
        ]
        tier = device.memory.paging
        self.tier_bytes = tier[1].bytes if tier else 0
        self.reads = [self._set(set(op.reads)) for op in self.ops]
        self.read_by = [self._any(self.reads[: t + 1]) for t in range(len(self.ops))] + [
            self._any(self.reads)
        ]
        self.read_by[-1] |= self.needed

    @staticmethod
    def _any(sets: list[int]) -> int:
        united = 0
        for values in sets:
            united |= values
        return united

    def _set(self, names: "set[str] | frozenset[str]") -> int:
        return sum(self.bit[name] for name in names)

    def bytes(self, values: int) -> int:
        return sum(size for bit, size in self.size.items() if values & bit)

    def dijkstra(self, below: float) -> float | None:
        if self.bytes(self.start) > self.limit:
            return None
        queue = [(0.0, 0.0, 0, self.start, self.homes)]
        best: dict[tuple[int, int, int], float] = {}  # state -> least seconds so far; joules only grow
        while queue:
            joules, time, done, ram, stored = heapq.heappop(queue)
            if best.get((done, ram, stored), INFINITY) <= time:
                continue
            best[done, ram, stored] = time
            if done == len(self.ops) and self.needed & ~ram == 0 and self.at_home & ~stored == 0:
                return joules
            for cost, spent, *state in self.moves(done, ram, stored):
                total = joules + cost + spent * self.idle
                in_time = time + spent + self.rest_seconds[state[0]] <= self.seconds * (1 + 1e-9)
                if in_time and total + self.rest[state[0]] < below * (1 - 1e-9):
                    heapq.heappush(queue, (total, time + spent, *state))
        return None

    def moves(self, done: int, ram: int, stored: int) -> Iterator[tuple[float, float, int, int, int]]:
        live, short = self.bytes(ram), False
        for bit, size in self.size.items():
            if stored & ~ram & ~self.gone[done] & self.read_by[done] & bit:
                if live + size <= self.limit:
                    yield *self.device.read_cost(size)[::-1], done, ram | bit, stored
                short |= live + size > self.limit
        if self.defer and done < len(self.ops) and self.ops[done].recomputable and not self.ops[done].updates:
            yield 0.0, 0.0, done + 1, ram, stored
        for index, op in enumerate(self.ops[: done + 1]):
            first = index == done
            needed = self.reads[index] if first else self._set(set(op.inputs))
            if (first or op.recomputable) and needed & ~ram == 0:
                cost = self.costs[index]
                for need, olds, after in self.results(op, ram, first=first):
                    short |= live + need > self.limit
                    for paid, kept in self.ways_out(olds, stored) if live + need <= self.limit else ():
                        yield (
                            cost.joules + paid.joules,
                            cost.seconds + paid.seconds,
                            done + first,
                            after,
                            kept,
                        )
        leaving = list(self.size) if short else []
        for bit in leaving:
            for paid, kept in self.ways_out(bit, stored) if ram & bit else ():
                yield paid.joules, paid.seconds, done, ram & ~bit, kept
        if done == len(self.ops):
            for bit in self.size:
                if self.at_home & ram & ~stored & bit:
                    yield *self.device.write_cost(self.size[bit])[::-1], done, ram, stored | bit

    def ways_out(self, values: int, stored: int) -> Iterator[tuple[Cost, int]]:
        """What it costs that `values` leave RAM, and what is stored then: each is paged out first, or not."""
        bits = [bit for bit in self.size if values & bit & ~stored] if self.tier_bytes != 0 else []
        for count in range(len(bits) + 1):
            for paged in combinations(bits, count):
                after = stored | sum(paged)
                costs = [self.device.write_cost(self.size[bit]) for bit in paged]
                if not paged or self.tier_fits(after):
                    yield Cost(sum(c.seconds for c in costs), sum(c.joules for c in costs)), after

    def results(self, op: Op, ram: int, *, first: bool) -> Iterator[tuple[int, int, int]]:
        """Per option of `op`: fresh bytes it needs, operands it overwrites, and what is in RAM after it."""
        updates = op.updates if first else ()
        gone = self._set({old for old, _ in updates})
        for option in op.options:
            olds = self._set({old for old, _ in option.overwrites})
            news = self._set({new for _, new in option.overwrites})
            made = self._set(set(op.outputs))
            after = (ram & ~olds & ~gone) | made | self._set({new for _, new in updates})
            yield self.bytes(made & ~news) + option.workspace_bytes, olds, after

    def tier_fits(self, stored: int) -> bool:
        return self.tier_bytes is None or self.bytes(stored & ~self.slots) <= self.tier_bytes
