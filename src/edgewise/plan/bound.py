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

from edgewise.plan.ledger import Ledger, Terms
from edgewise.plan.milp import INFINITY, Watch
from edgewise.plan.problem import Problem

MOST_CHECKPOINTS = 20
MOST_PRESENCES = 4_000
"""Most value-checkpoint pairs in a relaxation: large graphs have fewer checkpoints."""


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
    return relaxed.ledger.solve(time_limit=time_limit, gap=gap, watch=watch)


class _Relaxation:
    def __init__(self, problem: Problem, most: int) -> None:
        self.problem, self.most = problem, most
        self.n = len(problem.ops)
        self.until = _last_use(problem)
        self.checkpoints = self._choose()
        self.ledger = Ledger(problem)
        self.model = self.ledger.model
        self.home: dict[int, int] = {}
        self.out: dict[int, int] = {}
        self.present: dict[tuple[int, int], int] = {}
        self.streamed: dict[tuple[int, int], int] = {}
        self.rerun: dict[tuple[int, int], int] = {}
        self.unchecked: list[tuple[int, int]] = []  # reruns whose operands have no rows yet
        self.page_in: dict[tuple[int, int], int] = {}
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

    def _build(self) -> None:
        if not self.checkpoints:
            return
        problem = self.problem
        for f, family in enumerate(problem.families if problem.can_page else ()):
            self.home[f] = self.ledger.priced(*problem.least_home_write(family))
        for k, t in enumerate(self.checkpoints):
            terms = []
            for v in range(len(problem.names)):
                if problem.birth[v] < t <= self.until[v] and v not in problem.reads[t]:
                    self.present[v, k] = self.model.binary(integer=False)
                    terms.append((self.present[v, k], float(problem.bytes[v])))
            self.ledger.memory_row([*terms, *self._saved(t)], problem.budget.ram_bytes - self._whole(t))
        for v in range(len(problem.names)):
            self._follow(v)
        while self.unchecked:
            c, k = self.unchecked.pop()
            for w in set(problem.inputs[c]).difference(problem.streams[c]):
                self._need(w, k, [(self.rerun[c, k], -1.0)], 0.0)
        self.ledger.limit()

    def _whole(self, t: int) -> int:
        """Bytes that op `t` needs with all its operands in RAM."""
        base, operands, _ = self.problem.footprints[t]
        return base + sum(self.problem.bytes[v] for v in operands)

    def _saved(self, t: int) -> Terms:
        """What op `t` needs less for each operand that it streams."""
        bytes_, tiles = self.problem.bytes, self.problem.footprints[t].tiles
        return [(self._streamed(v, t), -float(bytes_[v] - tile)) for v, tile in tiles.items()]

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
                self.rerun[c, k] = self.ledger.priced(problem.op_costs[c])
                self.unchecked.append((c, k))
            terms.append((self.rerun[c, k], 1.0))
        if problem.can_page:
            if (v, k) not in self.page_in:
                self.page_in[v, k] = self.ledger.priced(problem.read_costs[v], problem.link_seconds[v][0])
                self._need_stored(v, self.page_in[v, k])
            terms.append((self.page_in[v, k], 1.0))
        return terms

    def _streamed(self, v: int, t: int) -> int:
        """A variable for moving `v` slice by slice while op `t` runs, at the least that any option takes."""
        if (v, t) not in self.streamed:
            reads = v not in self.problem.outputs[t]
            variable = self.ledger.priced(self.problem.streams[t][v][0]) if reads else self.model.binary()
            self.streamed[v, t] = variable
            self._need_stored(v, variable)
        return self.streamed[v, t]

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
            self.out[v] = self.ledger.priced(self.problem.write_costs[v], self.problem.link_seconds[v][1])
        return self.out[v]


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
