"""A planning problem as plain integer-indexed arrays, and the judge of every proposed order of actions.

Ops that nothing required depends on are left out. Stage `t` is the time from the end of the first execution
of op `t - 1` to the end of the first execution of op `t`; stage `n` is the end of the step, stage `-1` its
start. The *overhead* of a plan is its objective above that of the plain plan, which runs every op once and
pages nothing; docs/decisions/0007-gap-of-the-overhead.md says why gaps are measured on it.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import accumulate
from typing import NamedTuple

import msgspec

from edgewise.devices import Cost, CostModel, Device
from edgewise.errors import PlanRejected
from edgewise.graph import Graph, Op, Option
from edgewise.plan.check import TOLERANCE, replay
from edgewise.plan.nouns import Budget, Certificate, Objective, Step
from edgewise.plan.schedule import Action, Order, lay_out

TIE_BREAK = 1e-6
"""Weight of the secondary objective, as a share of the primary one: it only decides between equals."""


class Family(NamedTuple):
    """A parameter or state with the values that its updates make of it, first to last, as value indices."""

    members: tuple[int, ...]

    @property
    def head(self) -> int:
        """The value that exists before the step, and that may live in the slower tier."""
        return self.members[0]


class InPlace(NamedTuple):
    """The option of an op that saves most, at best `saves` bytes; it overwrites `olds`, needs `workspace`."""

    olds: tuple[int, ...]
    workspace: int
    saves: int


class Tiling(NamedTuple):
    """An op executed by a tiled option, with these of its operands (value indices) in the slower tier."""

    option: Option
    streamed: frozenset[int]


class Footprint(NamedTuple):
    """RAM that an op needs at least: `base`, and each operand whole or, if it is streamed, a tile of it."""

    base: int
    operands: tuple[int, ...]
    tiles: dict[int, int]


@dataclass(frozen=True)
class Problem:
    """Graph, device, budget and objective, indexed.

    `tilings` says which ops (by index) are to be executed by a tiled option; then `inputs`, `reads`,
    `outputs` and `uses` are those in RAM only, and such an op is not run again.

    `link_price` is for choosing what to page on a device whose transfers run beside compute, where paging
    costs nothing until the link is busy: a second of a transfer counts as so many of compute that stands
    still. What a plan takes is counted by replay, as the device is.
    """

    graph: Graph
    device: Device
    budget: Budget
    minimize: Objective
    cost_model: CostModel
    tilings: Mapping[int, Tiling] = field(default_factory=dict)
    link_price: float | None = None

    @cached_property
    def ops(self) -> tuple[Op, ...]:
        """The ops that something required depends on, in the order of the graph."""
        wanted = set(self.graph.required)
        kept = []
        for op in reversed(self.graph.ops):
            if op.updates or wanted.intersection(op.outputs):
                kept.append(op)
                wanted.update(op.reads)
        return tuple(reversed(kept))

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Value names; indices of values refer to this."""
        made = {name for op in self.ops for name in op.writes}
        sources = {value.name for value in self.graph.sources()}
        return tuple(value.name for value in self.graph.values if value.name in made or value.name in sources)

    @cached_property
    def index(self) -> dict[str, int]:
        """Value name -> index."""
        return {name: v for v, name in enumerate(self.names)}

    @cached_property
    def bytes(self) -> list[int]:
        """Size of each value."""
        return [self.graph.value[name].bytes for name in self.names]

    @cached_property
    def inputs(self) -> list[tuple[int, ...]]:
        """Per op, the values that every execution reads from RAM."""
        return [self._resident(t, op.inputs) for t, op in enumerate(self.ops)]

    @cached_property
    def reads(self) -> list[tuple[int, ...]]:
        """Per op, the values that its first execution reads from RAM."""
        return [self._resident(t, op.reads) for t, op in enumerate(self.ops)]

    @cached_property
    def outputs(self) -> list[tuple[int, ...]]:
        """Per op, the values that every execution makes in RAM."""
        return [self._resident(t, op.outputs) for t, op in enumerate(self.ops)]

    def _resident(self, t: int, names: tuple[str, ...]) -> tuple[int, ...]:
        streamed = self.tilings[t].streamed if t in self.tilings else ()
        return tuple(v for v in self._indices(names) if v not in streamed)

    @cached_property
    def streamed_uses(self) -> dict[int, list[int]]:
        """Value -> the ops that read it slice by slice from the tier, in order."""
        uses: dict[int, list[int]] = {}
        for t, tiling in sorted(self.tilings.items()):
            for v in self._indices(self.ops[t].reads):
                if v in tiling.streamed:
                    uses.setdefault(v, []).append(t)
        return uses

    @cached_property
    def born_in_tier(self) -> frozenset[int]:
        """Values that a tiled op leaves in the tier: streamed outputs, and what replaces a streamed value."""
        born: set[int] = set()
        for t, tiling in self.tilings.items():
            op = self.ops[t]
            born |= tiling.streamed.intersection(self._indices(op.outputs))
            born |= {self.index[new] for old, new in op.updates if self.index[old] in tiling.streamed}
        return frozenset(born)

    def _indices(self, names: tuple[str, ...]) -> tuple[int, ...]:
        return tuple(dict.fromkeys(self.index[name] for name in names))

    @cached_property
    def birth(self) -> list[int]:
        """Per value, the op that makes it, or -1 for one that is there from the start."""
        birth = [-1] * len(self.names)
        for t, op in enumerate(self.ops):
            for name in op.writes:
                birth[self.index[name]] = t
        return birth

    @cached_property
    def remakable(self) -> list[bool]:
        """Per value, whether its op may run again and would make it again."""
        remakable = [False] * len(self.names)
        for t, op in enumerate(self.ops):
            for v in self.outputs[t]:
                remakable[v] = op.recomputable and t not in self.tilings
        return remakable

    @cached_property
    def end_of_life(self) -> list[int | None]:
        """Per value, the op that overwrites it for good by an update."""
        ends: list[int | None] = [None] * len(self.names)
        for t, op in enumerate(self.ops):
            for old, _ in op.updates:
                ends[self.index[old]] = t
        return ends

    @cached_property
    def uses(self) -> list[tuple[int, ...]]:
        """Per value, the ops whose first execution reads it, in order."""
        uses: list[list[int]] = [[] for _ in self.names]
        for t, reads in enumerate(self.reads):
            for v in reads:
                uses[v].append(t)
        return [tuple(use) for use in uses]

    @cached_property
    def families(self) -> tuple[Family, ...]:
        """Parameters and states with their updates."""
        after = {old: new for op in self.ops for old, new in op.updates}
        families = []
        for value in self.graph.sources():
            if value.kind in ("parameter", "state"):
                members = [value.name]
                while members[-1] in after:
                    members.append(after[members[-1]])
                families.append(Family(tuple(self.index[name] for name in members)))
        return tuple(families)

    @cached_property
    def family_of(self) -> dict[int, int]:
        """Value -> index of its family, for those that belong to one."""
        return {v: f for f, family in enumerate(self.families) for v in family.members}

    @cached_property
    def required(self) -> frozenset[int]:
        """Values that must be there at the end, in RAM unless they live in the slower tier."""
        return frozenset(self.index[name] for name in self.graph.required if name in self.index)

    @cached_property
    def in_place(self) -> list[InPlace | None]:
        """Per op, the in-place option that saves most, if one saves anything."""
        best: list[InPlace | None] = []
        for t, op in enumerate(self.ops):
            found = None
            for option in op.options if t not in self.tilings else ():
                if option.is_tiled:
                    continue
                olds = tuple(self.index[old] for old, _ in option.overwrites)
                saves = sum(self.bytes[v] for v in olds) - option.workspace_bytes + self.whole_workspace(op)
                if saves > (found.saves if found else 0):
                    found = InPlace(olds, option.workspace_bytes, saves)
            best.append(found)
        return best

    def whole_workspace(self, op: Op) -> int:
        """Bytes that `op` needs beside its operands when it runs whole."""
        whole = op.option("whole")
        return whole.workspace_bytes if whole else 0

    @cached_property
    def working_bytes(self) -> list[int]:
        """Per op, the RAM that its operands, fresh outputs and workspace need, no option in place."""
        return [
            sum(self.bytes[v] for v in (*self.reads[t], *self.outputs[t])) + self._workspace(t)
            for t in range(len(self.ops))
        ]

    def _workspace(self, t: int) -> int:
        if t not in self.tilings:
            return self.whole_workspace(self.ops[t])
        option, streamed = self.tilings[t]
        return option.room_bytes(self.names[v] for v in streamed)

    @cached_property
    def least_working_bytes(self) -> list[int]:
        """Per op, the RAM it needs by its best option with nothing else in RAM."""
        return [
            bytes_ - (in_place.saves if in_place else 0)
            for bytes_, in_place in zip(self.working_bytes, self.in_place, strict=True)
        ]

    @cached_property
    def least_tiled_bytes(self) -> list[int]:
        """Per op, the RAM it needs by its best option of all, with as much of it streamed as can be."""
        return [
            min([least, *(needed for _, needed, _ in self._tiled_bytes(t))])
            for t, least in enumerate(self.least_working_bytes)
        ]

    def _tiled_bytes(self, t: int) -> Iterator[tuple[Option, int, dict[int, int]]]:
        """Per tiled option of op `t`, the least RAM it needs, and how much more with each operand in RAM."""
        operands = dict.fromkeys((*self.reads[t], *self.outputs[t]))
        for option in self.ops[t].options if t not in self.tilings else ():
            if option.is_tiled:
                streams = option.streams if self.can_page else ()
                tiles = {self.index[stream.value]: stream.tile_bytes for stream in streams}
                held = {v: min(self.bytes[v], tiles.get(v, self.bytes[v])) for v in operands}
                more = {v: self.bytes[v] - held[v] for v in operands}
                yield option, option.workspace_bytes + sum(held.values()), more

    @cached_property
    def footprints(self) -> list[Footprint]:
        """Per op, a lower bound of the RAM it needs, whichever option runs and whatever is streamed."""
        found = []
        for t, whole in enumerate(self.least_working_bytes):
            operands = dict.fromkeys((*self.reads[t], *self.outputs[t]))
            base = whole - sum(self.bytes[v] for v in operands)
            tiles: dict[int, int] = {}
            for option, least, more in self._tiled_bytes(t):
                if least <= self.budget.ram_bytes:
                    base = min(base, option.workspace_bytes)
                    for v in operands:
                        if self.names[v] in option.stream and self.can_page:
                            tile = self.bytes[v] - more[v]
                            tiles[v] = min(tile, tiles.get(v, tile))
            found.append(Footprint(base, tuple(operands), tiles))
        return found

    @cached_property
    def too_large(self) -> list[frozenset[int]]:
        """Per op, its operands that cannot be in RAM as a whole while it runs within the budget."""
        found: list[frozenset[int]] = []
        for t, whole in enumerate(self.least_working_bytes):
            operands = (*self.reads[t], *self.outputs[t]) if whole > self.budget.ram_bytes else ()
            ways = list(self._tiled_bytes(t)) if operands else []
            needed = {v: min([whole, *(least + more[v] for _, least, more in ways)]) for v in operands}
            found.append(frozenset(v for v, bytes_ in needed.items() if bytes_ > self.budget.ram_bytes))
        return found

    @cached_property
    def has_tiles(self) -> bool:
        """Whether some op may be executed by a loop over slices."""
        return any(option.is_tiled for op in self.ops for option in op.options)

    @cached_property
    def excess_bytes(self) -> list[int]:
        """Per op, by how much the plain plan exceeds the budget while it runs in its best option."""
        change = [0] * (len(self.ops) + 2)
        for v, size in enumerate(self.bytes):
            last = len(self.ops) if v in self.required else max(self.uses[v], default=self.birth[v])
            if self.birth[v] + 1 < last:
                change[self.birth[v] + 1] += size
                change[last] -= size
            for t in self.uses[v]:
                if t < last:
                    change[t] -= size
                    change[t + 1] += size
        idle = list(accumulate(change))
        least = self.least_working_bytes
        return [idle[t] + least[t] - self.budget.ram_bytes for t in range(len(self.ops))]

    @property
    def can_page(self) -> bool:
        """Whether the device has a tier to page to."""
        return self.device.memory.paging is not None

    @property
    def overlaps(self) -> bool:
        """Whether transfers run beside compute, so that seconds are no sum over actions."""
        return self.cost_model == "full" and self.device.overlaps and self.link_price is None

    @property
    def is_additive(self) -> bool:
        """Whether the objective and the limits are sums over actions."""
        timeless = (
            self.minimize == "joules" and self.device.compute.watts_idle == 0 and self.budget.seconds is None
        )
        return not self.overlaps or timeless

    @cached_property
    def op_costs(self) -> list[Cost]:
        """Per op, seconds and joules of one execution, idle power and what it streams included."""
        return [self._with_idle(self._op_cost(t, op)) for t, op in enumerate(self.ops)]

    def _op_cost(self, t: int, op: Op) -> Cost:
        if t not in self.tilings:
            return self.device.op_cost(self.graph, op)
        option, streamed = self.tilings[t]
        cost = self.device.op_cost(self.graph, op, tiles=option.tiles)
        if not streamed:
            return cost
        moved = self.device.stream_cost(op, option, (self.names[v] for v in streamed))
        seconds = moved.seconds if self.cost_model == "full" else 0.0
        return Cost(cost.seconds + seconds, cost.joules + moved.joules)

    @cached_property
    def read_costs(self) -> list[Cost]:
        """Per value, seconds and joules of paging it in; no seconds where transfers overlap or are free."""
        return [self._transfer(self.device.read_cost(size)) for size in self.bytes] if self.can_page else []

    @cached_property
    def write_costs(self) -> list[Cost]:
        """Per value, seconds and joules of paging it out; see `read_costs`."""
        return [self._transfer(self.device.write_cost(size)) for size in self.bytes] if self.can_page else []

    @cached_property
    def streams(self) -> list[dict[int, tuple[Cost, Cost]]]:
        """Per op, the values that some tiled option streams, each with the least cost of reading and writing.

        Only options that fit the budget count. Like `read_costs`, without seconds where transfers overlap or
        are free.
        """
        found: list[dict[int, tuple[Cost, Cost]]] = []
        for t in range(len(self.ops)):
            costs: dict[int, list[tuple[Cost, Cost]]] = {}
            fitting = (o for o, least, _ in self._tiled_bytes(t) if least <= self.budget.ram_bytes)
            for option in fitting if self.can_page else ():
                for stream in option.streams:
                    moved, count = stream.moved_bytes, stream.transfers
                    read = self._transfer(self.device.read_cost(moved, transfers=count))
                    write = self._transfer(self.device.write_cost(moved, transfers=count))
                    costs.setdefault(self.index[stream.value], []).append((read, write))
            found.append({v: (_least(r for r, _ in c), _least(w for _, w in c)) for v, c in costs.items()})
        return found

    def least_write(self, v: int) -> tuple[Cost, float]:
        """The least that bringing value `v` to the tier takes, whole or in slices, with its link time."""
        cost, link = self.write_costs[v], self.link_seconds[v][1]
        ops = [t for t in (self.birth[v], self.end_of_life[v]) if t is not None and t >= 0]
        streamed = [self.streams[t][v][1] for t in ops if v in self.streams[t]]
        return (_least((cost, *streamed)), 0.0) if streamed else (cost, link)

    def is_streamed_old(self, v: int) -> bool:
        """Whether an update may change value `v`, or have made it, in the tier, perhaps but a part of it."""
        ends = (self.birth[v], self.end_of_life[v])
        return any(
            t is not None and t >= 0 and bool(self.streams[t]) and bool(self.ops[t].updates) for t in ends
        )

    @cached_property
    def tiled_written_bytes(self) -> int:
        """Bytes that the ops in `tilings` write to the tier slice by slice."""
        written = 0
        for t, (option, streamed) in self.tilings.items():
            olds = {old for old, _ in self.ops[t].updates}
            names = (self.names[v] for v in streamed)
            out = [name for name in names if name in self.ops[t].outputs or name in olds]
            written += sum(option.stream[name].moved_bytes for name in out)
        return written

    def least_home_write(self, family: Family) -> tuple[Cost, float]:
        """The least that bringing home what the step makes of a parameter or state takes."""
        olds = family.members[:-1]
        if not olds:
            return Cost(0.0, 0.0), 0.0
        ways = [self.least_write(v) for v in family.members]
        return _least(cost for cost, _ in ways), min(link for _, link in ways)

    @cached_property
    def link_seconds(self) -> list[tuple[float, float]]:
        """Per value, how long reading and writing it keep the link busy; zeros where nothing overlaps."""
        if not self.overlaps or not self.can_page:
            return [(0.0, 0.0)] * len(self.bytes)
        return [(self.device.read_cost(b).seconds, self.device.write_cost(b).seconds) for b in self.bytes]

    def _transfer(self, cost: Cost) -> Cost:
        if self.cost_model == "poet" or self.overlaps:
            return Cost(0.0, cost.joules)
        price = 1.0 if self.link_price is None else self.link_price
        return self._with_idle(Cost(price * cost.seconds, cost.joules))

    def _with_idle(self, cost: Cost) -> Cost:
        idle = self.device.compute.watts_idle if self.cost_model == "full" else 0.0
        return Cost(cost.seconds, cost.joules + cost.seconds * idle)

    @cached_property
    def plain_cost(self) -> Cost:
        """Seconds and joules of every op once."""
        return Cost(sum(c.seconds for c in self.op_costs), sum(c.joules for c in self.op_costs))

    def primary(self, cost: Cost) -> float:
        """What is minimized, of `cost`."""
        return cost.joules if self.minimize == "joules" else cost.seconds

    def secondary(self, cost: Cost) -> float:
        """What decides between equals, of `cost`."""
        return cost.seconds if self.minimize == "joules" else cost.joules

    @cached_property
    def secondary_weight(self) -> float:
        """Factor that makes the secondary objective a tie-break on the scale of the primary one."""
        primary, secondary = self.primary(self.plain_cost), self.secondary(self.plain_cost)
        if secondary <= 0:
            return TIE_BREAK
        return TIE_BREAK * primary / secondary if primary > 0 else 1.0

    def weight(self, cost: Cost) -> float:
        """Primary objective of `cost` plus the tie-break."""
        return self.primary(cost) + self.secondary_weight * self.secondary(cost)

    def with_ram(self, ram_bytes: int) -> "Problem":
        """The same problem with another budget of RAM."""
        return replace(self, budget=msgspec.structs.replace(self.budget, ram_bytes=ram_bytes))

    def tiled(self, tilings: Mapping[int, Tiling]) -> "Problem":
        """The same problem with the ops in `tilings` executed so."""
        return replace(self, tilings=dict(tilings))

    def execution(self, t: int) -> Action:
        """The action that runs op `t` for the first time."""
        if t not in self.tilings:
            return Action("compute", self.ops[t].name)
        option, streamed = self.tilings[t]
        return Action("compute", self.ops[t].name, option.name, frozenset(self.names[v] for v in streamed))


def _least(costs: Iterable[Cost]) -> Cost:
    """The least seconds and the least joules of `costs`."""
    found = list(costs)
    return Cost(min(cost.seconds for cost in found), min(cost.joules for cost in found))


class Candidate(NamedTuple):
    """A laid out and replayed order: what a solver proposes, with figures that the replay counted."""

    order: Order
    homes: frozenset[str]
    steps: tuple[Step, ...]
    certificate: Certificate
    overhead: float
    rank: tuple[float, float]
    """Primary and secondary objective: the less the better."""

    def retimed(self, problem: Problem, steps: tuple[Step, ...], found: Certificate) -> "Candidate":
        """The same actions issued in the order of `steps`, which the replay found to need `found`."""
        cost = Cost(found.seconds, found.joules)
        return self._replace(
            steps=steps, certificate=found, overhead=_overhead(problem, found), rank=_rank(problem, cost)
        )


def _rank(problem: Problem, cost: Cost) -> tuple[float, float]:
    return problem.primary(cost), problem.secondary(cost)


def _overhead(problem: Problem, found: Certificate) -> float:
    plain = problem.primary(problem.plain_cost)
    overhead = max(0.0, problem.primary(Cost(found.seconds, found.joules)) - plain)
    if overhead <= TOLERANCE * plain and not found.recomputed and not found.paged_in:
        return 0.0  # the rounding of a sum
    return overhead


def judge(problem: Problem, order: Order, homes: frozenset[str] = frozenset()) -> Candidate | None:
    """Lay `order` out and replay it; `None` if it cannot be done. Whether it fits is `fits`'s to say."""
    steps = lay_out(order, problem.graph, homes)
    try:
        found = replay(
            steps, problem.graph, problem.device, homes=tuple(sorted(homes)), cost_model=problem.cost_model
        )
    except PlanRejected:
        return None
    rank = _rank(problem, Cost(found.seconds, found.joules))
    return Candidate(order, homes, steps, found, _overhead(problem, found), rank)


def fits(problem: Problem, candidate: Candidate) -> bool:
    """Whether `candidate` keeps every limit of the budget."""
    budget, found = problem.budget, candidate.certificate
    return (
        found.peak_bytes <= budget.ram_bytes
        and (budget.seconds is None or found.seconds <= budget.seconds * (1 + TOLERANCE / 2))
        and (budget.joules is None or found.joules <= budget.joules * (1 + TOLERANCE / 2))
        and (budget.written_bytes is None or found.bytes_written <= budget.written_bytes)
    )


def floor_bytes(problem: Problem, *, tiled: bool = True) -> int:
    """RAM below which no plan can be: the largest working set, and what must be there at start and end.

    Not `tiled`: below which none can be that executes no op by a loop but those in `tilings`.
    """
    at_start = [v for v, birth in enumerate(problem.birth) if birth < 0]
    at_end = list(problem.required)
    if problem.can_page:
        at_start = [v for v in at_start if v not in problem.family_of]
        at_end = [v for v in at_end if v not in problem.family_of]
    ends = (sum(problem.bytes[v] for v in vs) for vs in (at_start, at_end))
    working = problem.least_tiled_bytes if tiled else problem.least_working_bytes
    return max([*working, *ends])


def page_everything(problem: Problem) -> tuple[Order, frozenset[str]]:
    """The order of least RAM, which holds nothing between ops: each reads its operands from the tier."""
    homes = frozenset(problem.names[family.head] for family in problem.families)
    order = [Action("out", v.name) for v in problem.graph.sources() if v.name not in homes]
    for t in range(len(problem.ops)):
        order += [Action("in", problem.names[v]) for v in problem.reads[t]]
        order.append(problem.execution(t))
        order += [Action("out", problem.names[v]) for v in problem.outputs[t]]
    at_home = {problem.graph.carries.get(name, name) for name in homes}
    order += [Action("in", name) for name in sorted(problem.graph.required - at_home)]
    return tuple(order), homes
