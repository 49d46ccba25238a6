"""A lower bound on the overhead of every plan of a graph, whatever it keeps, recomputes or pages.

The only thing fixed is the order of first executions. Choose checkpoints among them. Whatever a plan does, at
each checkpoint some values are in RAM beside the op that runs, and they fit. Between two checkpoints (an
*epoch*) a value can only come back by running its op, whose operands must be in RAM at some time of that
epoch too, or by a page-in of a value that was stored. Counting each such action once an epoch gives a
mixed-integer program all of whose rows hold for every plan: a relaxation of the stage-indexed formulation of
Checkmate (arXiv 1910.02653 section 4) with POET's paging (arXiv 2207.07697 section 4), in which most stages
were merged. What HiGHS proves of it is valid for the graph. Few checkpoints, solved to the end, often prove
more than many, cut short (docs/benchmarks/poet.md).
"""

from bisect import bisect_left

from edgewise.devices import Cost
from edgewise.plan.milp import INFINITY, Model, Watch
from edgewise.plan.problem import Family, Problem

MOST_CHECKPOINTS = 20
MOST_PRESENCES = 4_000
"""Most value-checkpoint pairs in a relaxation: large graphs have fewer checkpoints."""

ROW_SCALE = 1e4
SLACK = 1e-6
"""HiGHS may violate a row by that much, relative to the scaled right-hand side; rows are twice as loose."""

Terms = list[tuple[int, float]]


def lower_bound(
    problem: Problem,
    *,
    time_limit: float,
    checkpoints: int = MOST_CHECKPOINTS,
    gap: float = 1e-3,
    watch: Watch | None = None,
) -> float:
    """Overhead, in units of the objective, that every plan for `problem` has; infinite if there is none."""
    relaxed = _Relaxation(problem, checkpoints)
    solution = relaxed.model.solve(time_limit=time_limit, gap=gap, watch=watch)
    if solution.status == "infeasible":
        return INFINITY
    return max(0.0, solution.bound) * relaxed.unit * (1 - SLACK) if solution.bound > -INFINITY else 0.0


class _Relaxation:
    def __init__(self, problem: Problem, most: int) -> None:
        self.problem, self.most = problem, most
        self.n = len(problem.ops)
        self.until = _last_use(problem)
        self.checkpoints = self._choose()
        self.model = Model()
        costs = (*problem.op_costs, *problem.read_costs, *problem.write_costs)
        positive = [price for cost in costs if (price := problem.primary(cost)) > 0]
        self.unit = sum(positive) / len(positive) if positive else 1.0
        self.home: dict[int, int] = {}
        self.out: dict[int, int] = {}
        self.present: dict[tuple[int, int], int] = {}
        self.rerun: dict[tuple[int, int], int] = {}
        self.unchecked: list[tuple[int, int]] = []  # reruns whose operands have no rows yet
        self.page_in: dict[tuple[int, int], int] = {}
        self.seconds: Terms = []
        self.joules: Terms = []
        self.link: Terms = []
        self._build()

    # -- which checkpoints --

    def _choose(self) -> list[int]:
        """Stages at which the plain plan exceeds the budget, spread over where it does so most."""
        excess = self.problem.excess_bytes
        over = [t for t in range(self.n) if excess[t] > 0]
        if not over:
            return []
        alive = sum(max(0, self.until[v] - self.problem.birth[v]) for v in range(len(self.until))) / max(
            1, self.n
        )
        most = max(2, min(self.most, len(over), int(MOST_PRESENCES / max(alive, 1.0))))
        total = sum(excess[t] for t in over)
        chosen, run = {max(over, key=lambda t: excess[t])}, 0.0
        for t in over:
            before = int(run / total * most)
            run += excess[t]
            if int(run / total * most) > before:
                chosen.add(t)
        return sorted(chosen)

    # -- variables --

    def _priced(self, cost: Cost, link: float = 0.0) -> int:
        variable = self.model.binary(self.problem.primary(cost) / self.unit)
        self.seconds.append((variable, cost.seconds))
        self.joules.append((variable, cost.joules))
        self.link.append((variable, link))
        return variable

    def _build(self) -> None:
        if not self.checkpoints:
            return
        problem = self.problem
        for f, family in enumerate(problem.families if problem.can_page else ()):
            cost, link = self._home_write(family) if len(family.members) > 1 else (Cost(0.0, 0.0), 0.0)
            self.home[f] = self._priced(cost, link)
        for k, t in enumerate(self.checkpoints):
            terms = []
            for v in range(len(problem.names)):
                if problem.birth[v] < t <= self.until[v] and v not in problem.reads[t]:
                    self.present[v, k] = self.model.binary(integer=False)
                    terms.append((self.present[v, k], float(problem.bytes[v])))
            self._memory_row(terms, problem.budget.ram_bytes - problem.least_tiled_bytes[t])
        for v in range(len(problem.names)):
            self._follow(v)
        while self.unchecked:
            c, k = self.unchecked.pop()
            for w in set(problem.inputs[c]).difference(problem.streams[c]):
                self._need(w, k, [(self.rerun[c, k], -1.0)], 0.0)
        self._add_limits()

    def _home_write(self, family: Family) -> tuple[Cost, float]:
        """The least that bringing an updated value home takes, paged out whole or updated in the tier."""
        problem, head = self.problem, family.head
        cost, link = problem.write_costs[head], problem.link_seconds[head][1]
        for t in (problem.end_of_life[v] for v in family.members):
            for v in family.members if t is not None else ():
                if t is not None and v in problem.streams[t]:
                    streamed = problem.streams[t][v][1]
                    cost = Cost(min(cost.seconds, streamed.seconds), min(cost.joules, streamed.joules))
                    link = 0.0
        return cost, link

    def _memory_row(self, terms: Terms, room: int) -> None:
        scale = max(1, self.problem.budget.ram_bytes) / ROW_SCALE
        self.model.row([(var, x / scale) for var, x in terms], -INFINITY, room / scale + 2 * SLACK)

    def _epoch(self, t: int) -> int:
        """The epoch in which op `t` runs: the one that ends with the first checkpoint not before it."""
        return bisect_left(self.checkpoints, t)

    def _follow(self, v: int) -> None:
        """Rows for how `v` gets from one checkpoint to the next, and for its uses."""
        problem = self.problem
        for k in range(len(self.checkpoints)):
            if (v, k) in self.present:
                self._need(v, k, [(self.present[v, k], -1.0)], 0.0)
        for k in {self._epoch(t) for t in problem.uses[v] if v not in problem.streams[t]}:
            self._need(v, k, [], 1.0)
        for t in problem.uses[v]:
            if v in problem.streams[t]:
                self._need(v, self._epoch(t), [(self._streamed(v, t), 1.0)], 1.0)
        family = problem.family_of.get(v)
        if family is None and v in problem.required:
            self._need(v, len(self.checkpoints), [], 1.0)

    def _need(self, v: int, k: int, terms: Terms, least: float) -> None:
        """`v` is in RAM at some time of epoch `k`: terms + (there at its start or brought in it) >= least."""
        sure, start = self._at_start(v, k)
        if sure:
            return
        self.model.row([*terms, *start, *self._brought(v, k)], least, INFINITY)

    def _at_start(self, v: int, k: int) -> tuple[bool, Terms]:
        """Whether `v` is surely in RAM at some time early in epoch `k`, or the terms that say so."""
        problem = self.problem
        if problem.birth[v] >= 0 and self._epoch(problem.birth[v]) == k:
            return True, []
        if k == 0:
            home = self.home.get(problem.family_of.get(v, -1))
            return (True, []) if home is None else (False, [(self._not(home), 1.0)])
        t = self.checkpoints[k - 1]
        if v in problem.reads[t] or problem.birth[v] == t:
            return True, []
        variable = self.present.get((v, k - 1))
        return False, [] if variable is None else [(variable, 1.0)]

    def _not(self, variable: int) -> int:
        """A variable for 1 - `variable`."""
        key = -1 - variable
        if (key, key) not in self.present:
            self.present[key, key] = self.model.binary(integer=False)
            self.model.row([(self.present[key, key], 1.0), (variable, 1.0)], 1.0, 1.0)
        return self.present[key, key]

    def _brought(self, v: int, k: int) -> Terms:
        """Variables for bringing `v` back in epoch `k`."""
        problem = self.problem
        terms: Terms = []
        c = problem.birth[v]
        if c >= 0 and problem.remakable[v] and v in problem.outputs[c]:
            if (c, k) not in self.rerun:
                self.rerun[c, k] = self._priced(problem.op_costs[c])
                self.unchecked.append((c, k))
            terms.append((self.rerun[c, k], 1.0))
        if problem.can_page:
            if (v, k) not in self.page_in:
                self.page_in[v, k] = self._priced(problem.read_costs[v], problem.link_seconds[v][0])
                self._need_stored(v, self.page_in[v, k])
            terms.append((self.page_in[v, k], 1.0))
        return terms

    def _streamed(self, v: int, t: int) -> int:
        """A variable for reading `v` slice by slice while op `t` runs, at the least that any option takes."""
        variable = self._priced(self.problem.streams[t][v][0])
        self._need_stored(v, variable)
        return variable

    def _need_stored(self, v: int, variable: int) -> None:
        """What `variable` does takes `v` from the tier, so it was paged out or made there, or lives there."""
        problem = self.problem
        stored = [(self._out(v), -1.0)]
        family = problem.family_of.get(v, -1)
        if family in self.home and v in (problem.families[family].head, problem.families[family].members[-1]):
            stored.append((self.home[family], -1.0))
        self.model.row([(variable, 1.0), *stored], -INFINITY, 0.0)

    def _out(self, v: int) -> int:
        if v not in self.out:
            self.out[v] = self._priced(self.problem.write_costs[v], self.problem.link_seconds[v][1])
        return self.out[v]

    # -- limits --

    def _add_limits(self) -> None:
        problem = self.problem
        budget, plain, idle = problem.budget, problem.plain_cost, problem.device.compute.watts_idle
        span = max(plain.seconds, 1e-300)
        if problem.overlaps:
            cost = Cost(span, span * idle)
            waiting = self.model.variable(0.0, INFINITY, problem.primary(cost) / self.unit)
            busy = [(var, x / span) for var, x in self.link if x]
            computing = [(var, -x / span) for var, x in self.seconds if x]
            self.model.row([*busy, *computing, (waiting, -1.0)], -INFINITY, 1.0 + 2 * SLACK)
            self.seconds.append((waiting, span))
            self.joules.append((waiting, span * idle))
        for limit, spent, terms in (
            (budget.seconds, plain.seconds, self.seconds),
            (budget.joules, plain.joules, self.joules),
        ):
            if limit is not None:
                unit = max(spent, limit, 1e-300) / ROW_SCALE
                self.model.row(
                    [(var, x / unit) for var, x in terms], -INFINITY, (limit - spent) / unit + 2 * SLACK
                )


def _last_use(problem: Problem) -> list[int]:
    """Per value, the last stage at which it might be wanted in RAM: by a first use, a rerun, or the end."""
    n = len(problem.ops)
    until = [max(uses, default=-1) for uses in problem.uses]
    for v in problem.required:
        until[v] = n
    for c in range(n - 1, -1, -1):
        if problem.ops[c].recomputable:
            ends = [end for v in problem.inputs[c] if (end := problem.end_of_life[v]) is not None]
            last = min([max((until[v] for v in problem.outputs[c]), default=-1), *ends])
            for v in problem.inputs[c]:
                until[v] = max(until[v], last)
    return until
