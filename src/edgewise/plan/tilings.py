"""Which tiled option an op takes, and which of its operands it streams, within so much RAM.

Every operand of an execution adds to RAM and to cost on its own: whole in RAM it takes its bytes and the
transfer that brings it there; streamed it takes a tile and moves what its option says. So the best choices
for each amount of RAM are a Pareto front, merged operand by operand.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from edgewise.devices import Cost
from edgewise.graph import Option
from edgewise.plan.problem import Problem, Tiling

MOST_WAYS = 64
"""Most ways kept of a front: beyond, every other one is left out."""


class Way(NamedTuple):
    """RAM that an execution (or an operand of it) adds, what it costs, and what it streams."""

    ram_bytes: int
    weight: float
    streamed: tuple[int, ...] = ()


def front(parts: Iterable[list[Way]]) -> list[Way]:
    """The undominated ways to take one of each of `parts`, by falling weight and rising RAM."""
    ways = [Way(0, 0.0)]
    for part in parts:
        sums = (
            Way(a.ram_bytes + b.ram_bytes, a.weight + b.weight, a.streamed + b.streamed)
            for a in ways
            for b in part
        )
        ways = undominated(sums)
    return ways


def undominated(ways: Iterable[Way]) -> list[Way]:
    """Those of which no other needs as little RAM at as little weight."""
    kept: list[Way] = []
    for way in sorted(ways):
        if not kept or way.weight < kept[-1].weight:
            kept.append(way)
    if len(kept) > MOST_WAYS:
        kept = [*kept[:-1:2], kept[-1]]
    return kept


class Prices:
    """What transfers weigh in the objective, one after another, on a device that does one thing at a time."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        sizes = problem.bytes if problem.can_page else []
        self.read = [self._weight(problem.device.read_cost(size)) for size in sizes]
        self.write = [self._weight(problem.device.write_cost(size)) for size in sizes]
        self._streams: dict[tuple[int, str, int], float] = {}

    def _weight(self, cost: Cost) -> float:
        idle = self.problem.device.compute.watts_idle
        return self.problem.weight(Cost(cost.seconds, cost.joules + cost.seconds * idle))

    def stream(self, t: int, option: Option, v: int) -> float:
        """Moving value `v` slice by slice while op `t` runs."""
        key = (t, option.name, v)
        if key not in self._streams:
            moved = self.problem.device.stream_cost(self.problem.ops[t], option, (self.problem.names[v],))
            self._streams[key] = self._weight(moved)
        return self._streams[key]

    def loop(self, t: int, option: Option) -> float:
        """What the iterations of a tiled option add to one execution of op `t`."""
        if option.tiles == 1:
            return 0.0
        problem, op = self.problem, self.problem.ops[t]
        whole = problem.device.op_cost(problem.graph, op)
        loop = problem.device.op_cost(problem.graph, op, tiles=option.tiles)
        return self._weight(Cost(loop.seconds - whole.seconds, loop.joules - whole.joules))


def _ways(problem: Problem, prices: Prices, t: int) -> Iterator[tuple[Option | None, list[Way]]]:
    """Per option of op `t`, the ways to execute it when nothing else is in RAM and all is in the tier."""
    yield None, [Way(problem.least_working_bytes[t], _paged(problem, prices, t))]
    outputs, olds = problem.outputs[t], {problem.index[old] for old, _ in problem.ops[t].updates}
    for option in problem.ops[t].options:
        if not option.is_tiled:
            continue
        parts = [[Way(option.workspace_bytes, prices.loop(t, option))]]
        for v in dict.fromkeys((*problem.reads[t], *outputs)):
            part = [Way(problem.bytes[v], _transfer(prices, v, v in outputs, v in olds))]
            stream = option.stream.get(problem.names[v])
            if stream is not None and problem.can_page:
                part.append(Way(stream.tile_bytes, prices.stream(t, option, v), (v,)))
            parts.append(part)
        yield option, front(parts)


def _paged(problem: Problem, prices: Prices, t: int) -> float:
    outputs, olds = problem.outputs[t], {problem.index[old] for old, _ in problem.ops[t].updates}
    return sum(
        _transfer(prices, v, v in outputs, v in olds) for v in dict.fromkeys((*problem.reads[t], *outputs))
    )


def _transfer(prices: Prices, v: int, is_output: bool, is_old: bool) -> float:
    if not prices.read:
        return 0.0
    return (0.0 if is_output else prices.read[v]) + (prices.write[v] if is_output or is_old else 0.0)


def cheapest_tilings(problem: Problem, ram_bytes: int) -> Mapping[int, Tiling] | None:
    """Per op that does not fit `ram_bytes` whole, its cheapest tiling that does; `None` if one has none."""
    prices = Prices(problem)
    tilings: dict[int, Tiling] = {}
    for t, least in enumerate(problem.least_working_bytes):
        if least <= ram_bytes:
            continue
        fitting = [
            (way.weight, way.ram_bytes, option, way)
            for option, ways in _ways(problem, prices, t)
            for way in ways
            if option is not None and way.ram_bytes <= ram_bytes
        ]
        if not fitting:
            return None
        _, _, option, way = min(fitting, key=lambda choice: choice[:2])
        assert option is not None  # noqa: S101  # those without were left out
        tilings[t] = Tiling(option, frozenset(way.streamed))
    return tilings
