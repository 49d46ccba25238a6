"""A lower bound on the overhead of every plan from what RAM cannot hold between uses.

RAM is a cache. Between two uses of a value either it stays, and takes its bytes at every stage between, or
the second use pays: a page-in, reading it slice by slice, or running its op again. What stays fits beside the
op of each stage. No use is paid for by what another paid, except that one execution brings all its outputs;
so the least total of this linear program, in which a value may stay in part, is below the overhead of every
plan that keeps the order of first executions. What runs again needs its operands at some stage of that time,
in RAM or streamed, so that they are held or paid for too. The bytes held at a stage are those of the stage
before and what changed since, so that the program grows with the ops. It is the relaxation of weighted
caching (Bansal, Buchbinder and Naor, SIAM J. Computing 41(2), 2012, section 2, in its interval form) with
recomputation.
"""

from collections import defaultdict
from itertools import pairwise
from typing import NamedTuple

from edgewise.devices import Cost
from edgewise.plan.ledger import Ledger, Terms
from edgewise.plan.milp import INFINITY, Watch
from edgewise.plan.problem import Problem, floor_bytes


def caching_bound(problem: Problem, *, time_limit: float, watch: Watch | None = None) -> float:
    """Overhead, in units of the objective, that every plan for `problem` has; infinite if there is none."""
    if floor_bytes(problem) > problem.budget.ram_bytes:
        return INFINITY
    return _Caching(problem).ledger.solve(time_limit=time_limit, gap=1e-6, watch=watch)


class _Held(NamedTuple):
    """How far a value is held strictly between two stages."""

    variable: int
    bytes: int
    start: int
    end: int


class _Gap(NamedTuple):
    """The time between two uses of a value, and what has it in RAM at some stage of it."""

    start: int
    end: int
    in_ram: Terms


class _Rerun(NamedTuple):
    """How far an op runs again at some stage from `low` to `high`."""

    variable: int
    low: int
    high: int


class _Caching:
    def __init__(self, problem: Problem) -> None:
        self.problem, self.n = problem, len(problem.ops)
        self.ledger = Ledger(problem)
        self.model = self.ledger.model
        self.away: dict[int, int] = {}  # family -> how far it lives in the tier
        self.out: dict[int, int] = {}
        self.streamed: dict[tuple[int, int], int] = {}  # value, op -> how far the op takes it from the tier
        self.held: list[_Held] = []
        self.gaps: dict[int, list[_Gap]] = defaultdict(list)
        self.reruns: dict[int, list[_Rerun]] = defaultdict(list)  # op -> what may run it again
        self.rest: dict[int, int] = {}  # parameter or state -> how far it stays to the end
        self.kept: dict[int, _Held] = {}  # value -> how far it stays when nobody has a first use for it
        self.tails: dict[int, _Rerun] = {}  # value -> running its op again when nobody has a first use for it
        self._build()

    def _build(self) -> None:
        problem = self.problem
        for f, family in enumerate(problem.families if problem.can_page else ()):
            cost, link = problem.least_home_write(family)
            self.away[f] = self.ledger.priced(cost, link, integer=False)
        for v in range(len(problem.names)):
            self._add_gaps(v)
        for c in reversed(range(self.n)):
            for rerun in (*self.reruns[c], *(self.tails[v] for v in problem.outputs[c] if v in self.tails)):
                for w in problem.inputs[c]:
                    self._need(w, c, rerun)
        self._add_rows()
        self.ledger.limit()
        self._add_wear()

    def _add_wear(self) -> None:
        """What is stored was written, and what is updated away from RAM goes home; parts of it may not."""
        problem = self.problem
        whole = [v for v in self.out if not problem.is_streamed_old(v)]
        written = [(self.out[v], float(problem.bytes[v])) for v in whole]
        for f, var in self.away.items():
            members = problem.families[f].members
            if len(members) > 1 and not any(problem.is_streamed_old(v) for v in members):
                written.append((var, float(problem.bytes[members[0]])))
        self.ledger.wear(written)

    def _home(self, v: int) -> int | None:
        return self.away.get(self.problem.family_of.get(v, -1))

    def _add_gaps(self, v: int) -> None:
        problem = self.problem
        family = problem.family_of.get(v)
        if self._is_too_large(v, problem.birth[v]) and v in problem.outputs[problem.birth[v]]:
            self.model.row([(self._stored(v), 1.0)], 1.0, INFINITY)  # its op can only make it in the tier
        points = [problem.birth[v], *problem.uses[v]]
        if v in problem.required and family is None:
            points.append(self.n)
        for number, (start, end) in enumerate(pairwise(points)):
            lives_away = self._home(v) if number == 0 and start < 0 else None
            self._add_gap(v, start, end, lives_away)
        if family is not None and problem.families[family].members[-1] == v:
            self._add_rest(v, points[-1])

    def _add_gap(self, v: int, start: int, end: int, lives_away: int | None) -> None:
        """Held from `start` to `end`, or paid for at `end`; what lives in the tier is not held yet."""
        if self._is_too_large(v, end):
            self.model.row([(self._streamed(v, end), 1.0)], 1.0, INFINITY)
            return
        if end - start <= 1 and lives_away is None and not self._is_too_large(v, start):
            return
        in_ram = self._ways_back(v, start, end)
        if not self._is_too_large(v, start):
            held = self._hold(v, start, end)
            in_ram.append((held, 1.0))
            if lives_away is not None:
                self.model.row([(held, 1.0), (lives_away, 1.0)], -INFINITY, 1.0)
        self.gaps[v].append(_Gap(start, end, in_ram))
        streams = end < self.n and v in self.problem.footprints[end].tiles
        self.model.row([*in_ram, *([(self._streamed(v, end), 1.0)] if streams else [])], 1.0, INFINITY)

    def _is_too_large(self, v: int, t: int) -> bool:
        """Whether op `t` can only take `v` from the tier, or leave it there."""
        return 0 <= t < self.n and v in self.problem.too_large[t]

    def _streamed(self, v: int, t: int) -> int:
        """How far op `t` takes `v` from the tier slice by slice, or leaves it there."""
        if (v, t) not in self.streamed:
            if v in self.problem.outputs[t]:
                self.streamed[v, t] = self.model.binary(integer=False)
                self.model.row([(self.streamed[v, t], 1.0), (self._stored(v), -1.0)], -INFINITY, 0.0)
            else:
                self.streamed[v, t] = self._from_tier(v, self.problem.streams[t][v][0], 0.0)
        return self.streamed[v, t]

    def _hold(self, v: int, start: int, end: int) -> int:
        held = self.model.binary(integer=False)
        if self.problem.bytes[v]:
            self.held.append(_Held(held, self.problem.bytes[v], start, end))
        return held

    def _add_rest(self, v: int, start: int) -> None:
        """After its last use a parameter or state is in RAM to the end, or at home, or paged out and in."""
        held = self.rest[v] = self._hold(v, start, self.n + 1)
        terms: Terms = [(held, 1.0)]
        home = self._home(v)
        if home is not None:
            terms += [(home, 1.0), *self._paged(v)]
        self.model.row(terms, 1.0, INFINITY)

    def _ways_back(self, v: int, start: int, end: int) -> Terms:
        """What brings `v` into RAM after `start`, up to `end`."""
        terms = self._paged(v) if self.problem.can_page else []
        c = self.problem.birth[v]
        if c >= 0 and self.problem.remakable[v] and self._can_rerun(c, start):
            rerun = _Rerun(self._run_again(c), start + 1, end)
            self.reruns[c].append(rerun)
            terms.append((rerun.variable, 1.0))
        return terms

    def _run_again(self, c: int) -> int:
        """Running op `c` again for one of its outputs: all of them share what it costs."""
        return self.ledger.priced(self._share(c, self.problem.op_costs[c]), integer=False)

    def _share(self, c: int, cost: Cost) -> Cost:
        count = len(self.problem.outputs[c])
        return Cost(cost.seconds / count, cost.joules / count)

    def _need(self, w: int, c: int, rerun: "_Rerun") -> None:
        """To run op `c` again its operand `w` is in RAM at some stage of that time, or streamed."""
        points = [self.problem.birth[w], *self.problem.uses[w]]
        if any(rerun.low <= point <= rerun.high for point in points):
            return
        there = [gap.in_ram for gap in self.gaps[w] if gap.start < rerun.low and rerun.high < gap.end]
        terms: Terms = [*there[0]] if there else self._in_tail(w, rerun)
        if w in self.problem.streams[c]:
            cost = self._share(c, self.problem.streams[c][w][0])
            terms.append((self._from_tier(w, cost, 0.0), 1.0))
        self.model.row([*terms, (rerun.variable, -1.0)], 0.0, INFINITY)

    def _in_tail(self, w: int, rerun: "_Rerun") -> Terms:
        """What brings `w` into RAM after its last use; once may serve everyone who needs it."""
        c = self.problem.birth[w]
        terms = self._paged(w) if self.problem.can_page else []
        terms.append((self._kept(w, rerun.low), 1.0))
        if c >= 0 and self.problem.remakable[w]:
            known = self.tails.get(w, _Rerun(-1, rerun.low, rerun.high))
            variable = self._run_again(c) if known.variable < 0 else known.variable
            window = (min(known.low, rerun.low), max(known.high, rerun.high))
            self.tails[w] = _Rerun(variable, *window)
            terms.append((variable, 1.0))
        return terms

    def _kept(self, w: int, low: int) -> int:
        """How far `w` stays after its last use, at least until the first stage that wants it again."""
        if w in self.rest:
            return self.rest[w]
        last = max((self.problem.birth[w], *self.problem.uses[w]))
        known = self.kept.get(w)
        variable = self.model.binary(integer=False) if known is None else known.variable
        end = low if known is None else min(low, known.end)
        self.kept[w] = _Held(variable, self.problem.bytes[w], last, end)
        return variable

    def _can_rerun(self, c: int, after: int) -> bool:
        """Whether every operand of op `c` may still exist after stage `after`."""
        ends = (self.problem.end_of_life[v] for v in self.problem.inputs[c])
        return all(end is None or end > after for end in ends)

    def _paged(self, v: int) -> Terms:
        read, link = self.problem.read_costs[v], self.problem.link_seconds[v][0]
        return [(self._from_tier(v, read, link), 1.0)]

    def _from_tier(self, v: int, cost: Cost, link: float) -> int:
        """Taking `v` from the tier: it was put there before, or lives there."""
        variable = self.ledger.priced(cost, link, integer=False)
        stored: Terms = [(self._stored(v), -1.0)]
        home = self._home(v)
        if home is not None:
            members = self.problem.families[self.problem.family_of[v]].members
            stored += [(home, -1.0)] if v in (members[0], members[-1]) else []
        self.model.row([(variable, 1.0), *stored], -INFINITY, 0.0)
        return variable

    def _stored(self, v: int) -> int:
        if v not in self.out:
            cost, link = self.problem.least_write(v)
            self.out[v] = self.ledger.priced(cost, link, integer=False)
        return self.out[v]

    def _add_rows(self) -> None:
        """What is held fits beside the op of each stage, at the start, and at the end."""
        problem, budget = self.problem, self.problem.budget.ram_bytes
        at_end = sum(problem.bytes[v] for v in problem.required if v not in problem.family_of)
        self._add_start()
        change: dict[int, Terms] = defaultdict(list)  # stage -> what is held from it on, and no longer
        for variable, bytes_, start, end in (*self.held, *self.kept.values()):
            if start + 1 < end:
                change[max(start + 1, 0)].append((variable, float(bytes_)))
                change[end].append((variable, -float(bytes_)))
        before: Terms = []
        for t in range(self.n + 1):
            load = self.ledger.load([*before, *change[t]])
            before = [(load, self.ledger.scale)]
            needed, saved = self._working(t) if t < self.n else (at_end, [])
            self.ledger.memory_row([(load, self.ledger.scale), *saved], budget - needed)

    def _working(self, t: int) -> tuple[int, Terms]:
        """Bytes that op `t` needs with all its operands in RAM, and what is saved by streaming them."""
        bytes_ = self.problem.bytes
        base, operands, tiles = self.problem.footprints[t]
        saved = [(self._streamed(v, t), -float(bytes_[v] - tile)) for v, tile in tiles.items()]
        return base + sum(bytes_[v] for v in operands), saved

    def _add_start(self) -> None:
        """At the start everything that does not live in the tier is in RAM."""
        problem = self.problem
        sources = sum(problem.bytes[v] for v, birth in enumerate(problem.birth) if birth < 0)
        away = [(var, -float(problem.bytes[problem.families[f].head])) for f, var in self.away.items()]
        self.ledger.memory_row(away, problem.budget.ram_bytes - sources)
