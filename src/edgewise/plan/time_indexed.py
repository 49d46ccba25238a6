"""The default planner: a time-indexed mixed-integer program over idle gaps, solved by HiGHS.

For each middle gap exactly one of: keep, recompute at a candidate stage, page in at a candidate stage;
afterwards the value stays to the end of the gap. Tails are kept or brought back for single stages. One row a
stage counts what is in RAM while its op runs for the first time. Recomputations and page-ins happen in
topological order before that op; no row counts what RAM they need, so `coarse_to_fine.py` replays each
solution and solves again with RAM reserved where it exceeds the budget. Objective: the overhead in joules or
seconds. The first time-indexed form is Checkmate's (arXiv 1910.02653 section 4), the paging POET's
(arXiv 2207.07697 section 4).
"""

from collections import defaultdict
from collections.abc import Collection, Mapping
from collections.abc import Set as AbstractSet
from typing import NamedTuple

from edgewise.devices import Cost
from edgewise.plan.gaps import find_gaps
from edgewise.plan.milp import INFINITY, Model, Solution, Watch
from edgewise.plan.problem import TIE_BREAK, Problem
from edgewise.plan.schedule import Action, Order

ROW_SCALE = 1e4
"""Memory rows are scaled to this right-hand side, so that HiGHS's tolerance of 1e-6 stays below a byte."""

Terms = list[tuple[int, float]]


class Price(NamedTuple):
    """What an action adds: scaled objective, tie-break, seconds of compute, joules, seconds of the link."""

    weight: float
    seconds: float
    joules: float
    link: float = 0.0


FREE = Price(0.0, 0.0, 0.0)


class TimeIndexed:
    """The model. After `solve`, `order` turns a solution into actions.

    Args:
        problem: what to plan.
        ram_bytes: right-hand side of the memory rows; `None` to minimize it instead of the overhead.
        most: candidate stages a gap.
        anchors: how many stages to gather recomputations at, or 0 for wherever they are wanted.
        brought: more candidate stages, by value.
        negligible: values up to this many bytes are always kept.
        reserve: bytes by stage that its memory row leaves free, for what the row does not see.
        stages: those that get a memory row, besides the start and the end of the step; all by default.
        crowded: ops whose recomputations get memory rows of their own, with bytes to leave free by stage.
    """

    def __init__(  # noqa: PLR0913  # what a program is made of
        self,
        problem: Problem,
        ram_bytes: int | None,
        *,
        most: int = 24,
        anchors: int = 0,
        brought: Mapping[int, AbstractSet[int]] | None = None,
        negligible: int = 0,
        reserve: Mapping[int, int] | None = None,
        stages: Collection[int] | None = None,
        crowded: Mapping[int, Mapping[int, int]] | None = None,
    ) -> None:
        self.problem, self.ram_bytes, self.reserve = problem, ram_bytes, reserve or {}
        self.is_seeded = bool(brought)
        self.model = Model()
        self.n = len(problem.ops)
        self.costs = _Costs(problem)
        self.gaps = find_gaps(problem, most=most, anchors=anchors, brought=brought)
        out = problem.born_in_tier  # they are in RAM only where they are brought there
        self.fixed = [problem.bytes[gap.value] <= negligible and gap.value not in out for gap in self.gaps]
        self.of_value: dict[int, list[int]] = defaultdict(list)
        for g, gap in enumerate(self.gaps):
            self.of_value[gap.value].append(g)
        self.keep: dict[int, int] = {}
        # gap -> stage -> what brings the value back there: for good, or for this stage only
        self.stay: dict[int, dict[int, Terms]] = defaultdict(dict)
        self.held: dict[int, dict[int, int]] = defaultdict(dict)  # gap -> stage -> from (a tail: to) there
        self.visit: dict[int, dict[int, Terms]] = defaultdict(dict)
        self.page_in: dict[tuple[int, int], list[int]] = defaultdict(list)  # (value, stage) -> variables
        self.rerun: dict[tuple[int, int], int] = {}  # (op, stage) -> variable
        self.page_out: dict[int, int] = {}
        self.home: dict[int, int] = {}
        self.seconds: Terms = []
        self.joules: Terms = []
        self.link: Terms = []
        self._build(stages)
        self.readers: dict[int, list[int]] = defaultdict(list)
        for c, inputs in enumerate(problem.inputs):
            for v in inputs:
                self.readers[v].append(c)
        for c, t in list(self.rerun):
            if c in (crowded or {}):
                self._add_rerun(c, t, (crowded or {})[c].get(t, 0))

    # -- variables --

    def _build(self, stages: Collection[int] | None) -> None:
        self.scale = max(1, self.ram_bytes or max(self.problem.working_bytes, default=1)) / ROW_SCALE
        self.peak = None
        if self.ram_bytes is None:
            self.peak = self.model.variable(0.0, INFINITY, 1.0)
        self._add_homes()
        for g in range(len(self.gaps)):
            self._add_gap(g)
        for (c, t), _ in list(self.rerun.items()):
            self._need_inputs(c, t)
        for v, uses in self.problem.streamed_uses.items():
            for t in uses:
                self._need_in_tier(v, t)
        self._add_limits()
        for t in range(-1, self.n + 1):
            if stages is None or t in stages or t in (-1, self.n):
                self._add_stage(t)

    def _priced(self, price: Price) -> int:
        """A binary variable for an action of that price."""
        variable = self.model.binary(price.weight if self.ram_bytes is not None else price.weight * 1e-6)
        self.seconds.append((variable, price.seconds))
        self.joules.append((variable, price.joules))
        self.link.append((variable, price.link))
        return variable

    def _add_homes(self) -> None:
        if not self.problem.can_page:
            return
        for f, family in enumerate(self.problem.families):
            if self.fixed[self.of_value[family.members[-1]][-1]]:
                continue
            read = self.costs.read[family.head] if self.problem.uses[family.head] else FREE
            write = self.costs.write[family.head] if len(family.members) > 1 else FREE
            self.home[f] = self._priced(Price(*(a + b for a, b in zip(read, write, strict=True))))
            if self.problem.born_in_tier.intersection(family.members):  # it is updated there
                self.model.row([(self.home[f], 1.0)], 1.0, 1.0)

    def home_of(self, v: int) -> int | None:
        """The variable for `v` living in the tier, if it may."""
        return self.home.get(self.problem.family_of.get(v, -1))

    def _stored(self, v: int) -> Terms:
        """Whether `v` is in the tier: paged out, or at home there."""
        if v not in self.page_out:
            self.page_out[v] = self._priced(self.costs.write[v])
        home = self.home_of(v)
        is_at_home = home is not None and v in self._at_home(v)
        return [(self.page_out[v], 1.0), *([(home, 1.0)] if is_at_home and home is not None else [])]

    def _at_home(self, v: int) -> tuple[int, int]:
        members = self.problem.families[self.problem.family_of[v]].members
        return members[0], members[-1]

    def _rerun(self, c: int, t: int) -> int:
        if (c, t) not in self.rerun:
            self.rerun[c, t] = self._priced(self.costs.op[c])
        return self.rerun[c, t]

    def _add_gap(self, g: int) -> None:
        gap = self.gaps[g]
        if self.fixed[g] or gap.role == "head":
            return
        if gap.role != "rest":
            is_away = gap.value in self.problem.born_in_tier and gap.start == self.problem.birth[gap.value]
            self.keep[g] = self.model.variable(0.0, 0.0, 0.0) if is_away else self.model.binary()
        if gap.role != "middle":
            for t in gap.stages:
                self.visit[g][t], paged = self._ways_back(gap.value, t)
                self._need_stored(gap.value, paged)
            if gap.role == "tail" and self.is_seeded:
                self._add_leaving(g)
            return
        chosen: Terms = [(self.keep[g], 1.0)]
        all_paged: Terms = []
        for t in gap.stages:
            back, paged = self._ways_back(gap.value, t)
            self.stay[g][t] = back if t == gap.end else [*self._visited(g, t, back, paged), *paged]
            chosen += self.stay[g][t]
            all_paged += paged
        self.model.row(chosen, 1.0, 1.0)
        if self.ram_bytes is not None:  # without a limit, HiGHS finds its first plan sooner in long rows
            self._add_held(g)
        self._need_stored(gap.value, all_paged)

    def _add_leaving(self, g: int) -> None:
        """Variables for `kept up to this stage`: a value may leave its tail before the last candidate.

        Known plans do so; without one to start from, HiGHS is faster if it need not think of that.
        """
        before = self.keep[g]
        for t in self.gaps[g].stages:
            held = self.model.binary(integer=False)
            self.model.row([(held, 1.0), (before, -1.0)], -INFINITY, 0.0)
            self.held[g][t] = before = held

    def _add_held(self, g: int) -> None:
        """Variables for `kept, or back by this stage`: with short rows HiGHS is several times as fast."""
        before = self.keep[g]
        for t, back in self.stay[g].items():
            if t < self.gaps[g].end:
                held = self.model.binary(integer=False)
                self.model.row([(held, 1.0), (before, -1.0), *((var, -x) for var, x in back)], 0.0, 0.0)
                self.held[g][t] = before = held

    def _visited(self, g: int, t: int, back: Terms, paged: Terms) -> Terms:
        """A recomputation of the gap's value at stage `t` need not stay: the variables that say it does."""
        staying: Terms = []
        for made in (term for term in back if term not in paged):
            self.visit[g][t] = [made]
            staying.append((self.model.binary(), 1.0))
            self.model.row([staying[-1], (made[0], -1.0)], -INFINITY, 0.0)
        return staying

    def _ways_back(self, v: int, t: int) -> tuple[Terms, Terms]:
        """New variables for bringing `v` back at stage `t`; and which of them are page-ins."""
        terms: Terms = []
        paged: Terms = []
        if self.problem.remakable[v]:
            c = self.problem.birth[v]
            back = self._rerun(c, t)
            if len(self.problem.outputs[c]) > 1:  # it may run again for another of its outputs
                back = self.model.binary()
                self.model.row([(back, 1.0), (self._rerun(c, t), -1.0)], -INFINITY, 0.0)
            terms.append((back, 1.0))
        if self.problem.can_page:
            back = self._priced(self.costs.read[v])
            self.page_in[v, t].append(back)
            paged.append((back, 1.0))
        return [*terms, *paged], paged

    def _need_stored(self, v: int, paged: Terms) -> None:
        """At most one of `paged`, the ways to page `v` in, and only if it is in the tier."""
        if paged and v not in self.problem.born_in_tier:
            self.model.row([*paged, *((var, -1.0) for var, _ in self._stored(v))], -INFINITY, 0.0)

    def _need_in_tier(self, v: int, t: int) -> None:
        """Op `t` reads `v` slice by slice: it is in the tier, if not in RAM anyway."""
        constant, terms = self._presence(v, t)
        if v not in self.problem.born_in_tier and constant < 1.0:
            self.model.row([*self._stored(v), *terms], 1.0 - constant, INFINITY)

    # -- rows --

    def _presence(self, v: int, t: int) -> tuple[float, Terms]:
        """Whether `v` is in RAM at stage `t` before op `t` runs, as a constant plus terms."""
        for g in self.of_value[v]:
            gap = self.gaps[g]
            if gap.start < t < gap.end:
                return self.gap_presence(g, t, visiting=True)
        used = self.problem.birth[v] < t and (t in self.problem.uses[v] or self._ends_at(v, t))
        return (1.0 if used else 0.0), []

    def _ends_at(self, v: int, t: int) -> bool:
        return t == self.n and v in self.problem.required

    def gap_presence(self, g: int, t: int, *, visiting: bool) -> tuple[float, Terms]:
        """As `_presence`, within a gap; `visiting` adds the values brought back for stage `t` alone."""
        gap = self.gaps[g]
        if self.fixed[g]:
            return 1.0, []
        visit = self.visit[g].get(t, []) if visiting else []
        if gap.role in ("head", "rest"):
            home = self.home_of(gap.value)
            return 1.0, [(home, -1.0), *visit] if home is not None else []
        if gap.role == "tail":
            held = min((q for q in self.held[g] if q >= t), default=None)
        else:
            held = max((q for q in self.held[g] if q <= t), default=None)
        if held is not None:
            return 0.0, [(self.held[g][held], 1.0), *visit]
        back = [term for q, terms in self.stay[g].items() if q <= t for term in terms]
        return 0.0, [(self.keep[g], 1.0), *back, *visit]

    def _need_inputs(self, c: int, t: int) -> None:
        """An op can only run again at `t` if all its operands are there."""
        for v in self.problem.inputs[c]:
            constant, terms = self._presence(v, t)
            if constant == 1.0 and not terms:
                continue
            self.model.row([(self.rerun[c, t], 1.0), *((var, -x) for var, x in terms)], -INFINITY, constant)

    def _add_limits(self) -> None:
        budget, plain = self.problem.budget, self.problem.plain_cost
        if self.problem.overlaps:
            self._add_waiting()
        for limit, spent, terms in (
            (budget.seconds, plain.seconds, self.seconds),
            (budget.joules, plain.joules, self.joules),
        ):
            if limit is not None:
                left = limit * (1 + 1e-10) - spent
                unit = max(spent, limit, 1e-300) / ROW_SCALE
                self.model.row([(var, x / unit) for var, x in terms], -INFINITY, left / unit)
        self._add_tier()
        self._add_wear()

    def _add_wear(self) -> None:
        """Bytes written to the tier: paged out, brought home updated, or left there by tiled ops."""
        problem, limit = self.problem, self.problem.budget.written_bytes
        if limit is None:
            return
        written = [(var, float(problem.bytes[v])) for v, var in self.page_out.items()]
        for f, var in self.home.items():
            members = problem.families[f].members
            if len(members) > 1 and members[-1] not in problem.born_in_tier:
                written.append((var, float(problem.bytes[members[0]])))
        unit = max(1, limit) / ROW_SCALE
        left = limit - problem.tiled_written_bytes
        self.model.row([(var, x / unit) for var, x in written], -INFINITY, left / unit)

    def _add_waiting(self) -> None:
        """Seconds in which compute waits for the link: at least what the link is busy longer than compute."""
        problem, idle = self.problem, self.problem.device.compute.watts_idle
        span = max(problem.plain_cost.seconds, 1e-300)
        weight = problem.weight(Cost(span, span * idle)) / self.costs.unit
        waiting = self.model.variable(0.0, INFINITY, weight if self.ram_bytes is not None else weight * 1e-6)
        busy = [(var, seconds / span) for var, seconds in self.link if seconds]
        computing = [(var, -seconds / span) for var, seconds in self.seconds if seconds]
        self.model.row([*busy, *computing, (waiting, -1.0)], -INFINITY, 1.0)
        self.seconds.append((waiting, span))
        self.joules.append((waiting, span * idle))

    def _add_tier(self) -> None:
        tier = self.problem.device.memory.paging
        if tier is not None and tier[1].bytes is not None:
            stored = [(var, float(self.problem.bytes[v])) for v, var in self.page_out.items()]
            stored += [
                (var, float(self.problem.bytes[self.problem.families[f].head]))
                for f, var in self.home.items()
            ]
            unit = max(1, tier[1].bytes) / ROW_SCALE
            self.model.row([(var, x / unit) for var, x in stored], -INFINITY, tier[1].bytes / unit)

    def _memory_row(self, t: int, constant: float, terms: Terms) -> None:
        """`constant` plus `terms`, in bytes, within the RAM at stage `t`."""
        constant += self.reserve.get(t, 0)
        row = [(var, x / self.scale) for var, x in terms]
        if self.peak is None:
            self.model.row(row, -INFINITY, (self.ram_bytes or 0) / self.scale - constant / self.scale)
        else:
            self.model.row([*row, (self.peak, -1.0)], -INFINITY, -constant / self.scale)

    def _idle(self, t: int) -> tuple[float, Terms]:
        """Bytes in RAM at stage `t` of the values whose gaps it lies in."""
        constant, terms = 0.0, []
        for g, gap in enumerate(self.gaps):
            if gap.start < t < gap.end:
                present, parts = self.gap_presence(g, t, visiting=False)
                size = float(self.problem.bytes[gap.value])
                constant += present * size
                terms += [(var, x * size) for var, x in parts]
        return constant, terms

    def _add_stage(self, t: int) -> None:
        """The first execution of op `t`; at -1 the start, at n the end of the step."""
        problem = self.problem
        if t < 0:
            sources = [v for v, birth in enumerate(problem.birth) if birth < 0]
            homes = [(home, v) for v in sources if (home := self.home_of(v)) is not None]
            self._memory_row(
                t,
                float(sum(problem.bytes[v] for v in sources)),
                [(h, -float(problem.bytes[v])) for h, v in homes],
            )
            return
        constant, terms = self._idle(t)
        if t == self.n:
            families = problem.family_of
            constant += sum(problem.bytes[v] for v in problem.required if v not in families)
            self._memory_row(t, constant, terms)
            return
        constant += problem.working_bytes[t]
        if problem.in_place[t] is not None:
            saved, parts = self.saved_in_place(t)
            constant -= saved
            terms += parts
        self._memory_row(t, constant, terms)

    def _add_rerun(self, c: int, t: int, reserved: int) -> None:
        """What is in RAM while op `c` runs again at stage `t`, in a row that binds only if it does."""
        problem = self.problem
        constant, terms = float(problem.least_working_bytes[c] + reserved), []
        own = {*problem.inputs[c], *problem.outputs[c]}
        for v, size in enumerate(problem.bytes):
            if size and v not in own:
                present, parts = self._present_before(v, t, made=problem.birth[v] < c)
                if present < 1.0 and problem.birth[v] < c:
                    parts = self._or_passing(v, c, t, parts)
                constant += present * size
                terms += [(var, x * size) for var, x in parts]
        beyond = constant + sum(x for _, x in terms if x > 0) - (self.ram_bytes or 0)
        if self.ram_bytes is not None and beyond > 0:
            self._memory_row(-2, constant - beyond, [*terms, (self.rerun[c, t], beyond)])

    def _or_passing(self, v: int, c: int, t: int, parts: Terms) -> Terms:
        """`parts`, or more if `v` was made again before op `c` for a reader that runs again after it."""
        readers = [self.rerun[d, t] for d in self.readers[v] if d > c and (d, t) in self.rerun]
        if not readers:
            return parts
        present = self.model.binary(integer=False)
        self.model.row([*parts, (present, -1.0)], -INFINITY, 0.0)
        for reader in readers:
            self.model.row([(reader, 1.0), (present, -1.0)], -INFINITY, 0.0)
        return [(present, 1.0)]

    def _present_before(self, v: int, t: int, *, made: bool) -> tuple[float, Terms]:
        """As `_presence`, but without what is made or paged in at stage `t` itself, unless `made` by now."""
        for g in self.of_value[v]:
            gap = self.gaps[g]
            if gap.start < t <= gap.end:
                if t == gap.end and made:
                    return 1.0, []
                return self.gap_presence(g, t if made else t - 1, visiting=False)
        used = self.problem.birth[v] < t and (t in self.problem.uses[v] or self._ends_at(v, t))
        return (1.0 if used else 0.0), []

    def saved_in_place(self, t: int) -> tuple[float, Terms]:
        """Bytes that working in place saves at stage `t`: nothing for operands that are kept afterwards."""
        in_place = self.problem.in_place[t]
        if in_place is None:
            return 0.0, []
        terms: Terms = []
        for v in in_place.olds:
            for g in self.of_value[v]:
                if self.gaps[g].start == t:
                    size = float(self.problem.bytes[v])
                    if g in self.keep:
                        terms.append((self.keep[g], size))
                    else:
                        return 0.0, []  # kept for certain
            if t + 1 in self.problem.uses[v] or (t + 1 == self.n and v in self.problem.required):
                return 0.0, []
        return float(in_place.saves), terms

    # -- solution --

    def solve(
        self,
        *,
        time_limit: float,
        gap: float,
        watch: Watch | None = None,
        start: Mapping[int, float] | None = None,
    ) -> Solution:
        """Run HiGHS; objective and bound of the result are overheads, in the scaled unit of `costs.unit`."""
        return self.model.solve(time_limit=time_limit, gap=gap, watch=watch, start=start)

    def order(self, solution: Solution) -> tuple[Order, frozenset[str]]:
        """The actions that `solution` stands for, and what lives in the tier."""
        values = solution.values
        if values is None:
            raise ValueError("a solution without values has no order")
        on = {var for var in range(len(values)) if values[var] > 0.5}
        homes = frozenset(
            self.problem.names[self.problem.families[f].head] for f, var in self.home.items() if var in on
        )
        return _Decoder(self, on, homes).order(), homes


class _Decoder:
    def __init__(self, ti: TimeIndexed, on: set[int], homes: frozenset[str]) -> None:
        self.ti, self.problem, self.homes = ti, ti.problem, homes
        self.reruns: dict[int, list[int]] = defaultdict(list)
        for (c, t), var in ti.rerun.items():
            if var in on:
                self.reruns[t].append(c)
        self.page_ins: dict[int, list[int]] = defaultdict(list)
        for (v, t), variables in ti.page_in.items():
            if on.intersection(variables):
                self.page_ins[t].append(v)
        for name in homes:
            v = self.problem.index[name]
            if self.problem.uses[v]:
                self.page_ins[self.problem.uses[v][0]].append(v)
        self.outs = self._first_paged(on)

    def _first_paged(self, on: set[int]) -> dict[int, list[int]]:
        """Stage -> values to page out there: where the first gap begins in which they are paged in."""
        outs: dict[int, list[int]] = defaultdict(list)
        at_home = {self.problem.index[self.problem.graph.carries.get(name, name)] for name in self.homes}
        paged: dict[int, list[int]] = defaultdict(list)
        for t, values in self.page_ins.items():
            for v in values:
                paged[v].append(t)
        for v, var in self.ti.page_out.items():
            stages = paged[v] + list(self.problem.streamed_uses.get(v, []))
            if var not in on or not stages or self.problem.names[v] in self.homes or v in at_home:
                continue
            first = min(stages)
            starts = (gap.start for g in self.ti.of_value[v] if (gap := self.ti.gaps[g]).start < first)
            outs[max(starts, default=self.problem.birth[v])].append(v)
        return outs

    def order(self) -> Order:
        names, ops = self.problem.names, self.problem.ops
        actions = [Action("out", names[v]) for v in self.outs[-1]]
        for t in range(self.ti.n + 1):
            waiting = dict.fromkeys(self.page_ins[t])
            for c in sorted(self.reruns[t]):
                for v in self.problem.inputs[c]:
                    if v in waiting:
                        waiting.pop(v)
                        actions.append(Action("in", names[v]))
                actions.append(Action("compute", ops[c].name))
            actions += [Action("in", names[v]) for v in waiting]
            if t == self.ti.n:
                break
            made = {v for v in self.outs[t] if self.problem.birth[v] == t}
            actions += [Action("out", names[v]) for v in self.outs[t] if v not in made]
            actions.append(self.problem.execution(t))
            actions += [Action("out", names[v]) for v in made]
        return tuple(actions)


class _Costs:
    """Prices of all actions; weights are in units of their mean, so that tolerances mean something."""

    def __init__(self, problem: Problem) -> None:
        costs = (*problem.op_costs, *problem.read_costs, *problem.write_costs)
        positive = [weight for cost in costs if (weight := problem.weight(cost)) > 0]
        self.unit = sum(positive) / len(positive) if positive else 1.0
        self.op = [Price(problem.weight(c) / self.unit, c.seconds, c.joules) for c in problem.op_costs]
        links = problem.link_seconds
        self.read = [self._transfer(problem, c, links[v][0]) for v, c in enumerate(problem.read_costs)]
        self.write = [self._transfer(problem, c, links[v][1]) for v, c in enumerate(problem.write_costs)]

    def _transfer(self, problem: Problem, cost: Cost, link: float) -> Price:
        plain = (
            problem.plain_cost
        )  # a transfer that overlaps may cost nothing: still, none is better than one
        nudge = TIE_BREAK * problem.primary(plain) / plain.seconds * link if plain.seconds > 0 else 0.0
        return Price((problem.weight(cost) + nudge) / self.unit, cost.seconds, cost.joules, link)
