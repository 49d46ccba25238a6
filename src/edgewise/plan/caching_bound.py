"""A lower bound on the overhead of every plan from what RAM cannot hold between uses.

RAM is a cache. Between two uses of a value either it stays, and takes its bytes at every stage between, or
the second use pays: a page-in, reading it slice by slice, or running its op again. What stays fits beside the
op of each stage. No use is paid for by what another paid, except that one execution brings all its outputs;
so the least total of this linear program, in which a value may stay in part, is below the overhead of every
plan that keeps the order of first executions. It is the relaxation of weighted caching (Bansal, Buchbinder
and Naor, SIAM J. Computing 41(2), 2012, section 2, in its interval form) with recomputation, and strongest
where RAM is much smaller than the values; it does not see what a recomputation needs.
"""

from itertools import pairwise
from typing import NamedTuple

from edgewise.devices import Cost
from edgewise.plan.ledger import Ledger, Terms
from edgewise.plan.milp import INFINITY, Watch
from edgewise.plan.problem import Problem

MOST_TERMS = 2_000_000
"""Most entries of all memory rows: longer steps get rows at the fullest stages only."""


def caching_bound(problem: Problem, *, time_limit: float, watch: Watch | None = None) -> float:
    """Overhead, in units of the objective, that every plan for `problem` has; infinite if there is none."""
    return _Caching(problem).ledger.solve(time_limit=time_limit, gap=1e-6, watch=watch)


class _Held(NamedTuple):
    """How far a value is held strictly between two stages."""

    variable: int
    bytes: int
    start: int
    end: int


class _Caching:
    def __init__(self, problem: Problem) -> None:
        self.problem, self.n = problem, len(problem.ops)
        self.ledger = Ledger(problem)
        self.model = self.ledger.model
        self.away: dict[int, int] = {}  # family -> how far it lives in the tier
        self.out: dict[int, int] = {}
        self.held: list[_Held] = []
        self._build()

    def _build(self) -> None:
        problem = self.problem
        for f, family in enumerate(problem.families if problem.can_page else ()):
            cost, link = problem.least_home_write(family)
            self.away[f] = self.ledger.priced(cost, link, integer=False)
        for v in range(len(problem.names)):
            self._add_gaps(v)
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
        if end - start <= 1 and lives_away is None:
            return
        held = self._hold(v, start, end)
        if lives_away is not None:
            self.model.row([(held, 1.0), (lives_away, 1.0)], -INFINITY, 1.0)
        self.model.row([(held, 1.0), *self._ways_back(v, start, end)], 1.0, INFINITY)

    def _hold(self, v: int, start: int, end: int) -> int:
        held = self.model.binary(integer=False)
        if self.problem.bytes[v]:
            self.held.append(_Held(held, self.problem.bytes[v], start, end))
        return held

    def _add_rest(self, v: int, start: int) -> None:
        """After its last use a parameter or state is in RAM to the end, or at home, or paged out and in."""
        held = self._hold(v, start, self.n + 1)
        terms: Terms = [(held, 1.0)]
        home = self._home(v)
        if home is not None:
            terms += [(home, 1.0), *self._paged(v)]
        self.model.row(terms, 1.0, INFINITY)

    def _ways_back(self, v: int, start: int, end: int) -> Terms:
        terms: Terms = []
        c = self.problem.birth[v]
        if c >= 0 and self.problem.remakable[v] and self._can_rerun(c, start):
            share = 1.0 / len(self.problem.outputs[c])  # one run brings all outputs
            cost = self.problem.op_costs[c]
            part = Cost(cost.seconds * share, cost.joules * share)
            terms.append((self.ledger.priced(part, integer=False), 1.0))
        if self.problem.can_page:
            terms += self._paged(v)
            if end < self.n and v in self.problem.streams[end]:
                terms.append((self._from_tier(v, self.problem.streams[end][v][0], 0.0), 1.0))
        return terms

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
        needed = [*problem.least_tiled_bytes, at_end]
        self._add_start()
        stages = self._stages()
        waiting = sorted(self.held, key=lambda gap: -gap.start)
        active: list[_Held] = []
        for t in range(self.n + 1):
            while waiting and waiting[-1].start < t:
                active.append(waiting.pop())
            if t in stages:
                active = [gap for gap in active if t < gap.end]
                self.ledger.memory_row(
                    [(gap.variable, float(gap.bytes)) for gap in active], budget - needed[t]
                )

    def _add_start(self) -> None:
        """At the start everything that does not live in the tier is in RAM."""
        problem = self.problem
        sources = sum(problem.bytes[v] for v, birth in enumerate(problem.birth) if birth < 0)
        away = [(var, -float(problem.bytes[problem.families[f].head])) for f, var in self.away.items()]
        self.ledger.memory_row(away, problem.budget.ram_bytes - sources)

    def _stages(self) -> set[int]:
        """Those with a memory row: all, or as many as there is room for."""
        lengths = sum(min(gap.end, self.n) - max(gap.start, 0) for gap in self.held)
        every = max(1, -(-lengths // MOST_TERMS))
        return {*range(0, self.n, every), self.n}
