"""Greedy eviction: run the ops in order, and when RAM is short drop the value that is cheapest to lose.

After Dynamic Tensor Rematerialization (arXiv 2006.09616 section 3): the score of a value is what it costs
to bring back, by the cheaper of recomputing it (with all that is missing for that) and paging it, per byte
and per op since its last use; the least score goes. What is missing is brought back on demand, one value
after another. Unlike DTR it knows what is never read again, and an updated parameter cannot be used to
recompute what its old value made.
"""

from collections.abc import Iterator

from edgewise.plan.milp import INFINITY
from edgewise.plan.problem import Candidate, Problem, judge
from edgewise.plan.schedule import Action, Order

MOST_ACTIONS = 60
"""Actions an op on average after which eviction is said to thrash, and the attempt ends."""


def greedy(problem: Problem) -> Iterator[Candidate]:
    """The plan with parameters in RAM at the start, and the one with all of them in the slower tier."""
    heads = frozenset(problem.names[family.head] for family in problem.families)
    for homes in (frozenset[str](), heads) if problem.can_page and heads else (frozenset[str](),):
        try:
            order = _Greedy(problem, homes).run()
        except _Stuck:
            continue
        candidate = judge(problem, order, homes)
        if candidate is not None:
            yield candidate


class _Stuck(Exception):
    """The method found no way on; no error."""


class _Greedy:
    def __init__(self, problem: Problem, homes: frozenset[str]) -> None:
        self.problem, self.limit = problem, problem.budget.ram_bytes
        self.stored = {problem.index[name] for name in homes}
        self.ram = {v for v, birth in enumerate(problem.birth) if birth < 0} - self.stored
        self.at_home = {family.members[-1] for family in problem.families if family.head in self.stored}
        self.locks: dict[int, int] = {}
        self.used = [0] * len(problem.names)
        self.last = [problem.uses[v][-1] if problem.uses[v] else -1 for v in range(len(problem.names))]
        for v in problem.required - self.at_home:
            self.last[v] = len(problem.ops)
        self.safe = self._safe_until()
        self.now = 0
        self.order: list[Action] = []

    def _safe_until(self) -> list[float]:
        """Per value, the last op before which it can surely be recomputed; -1 if it never can."""
        problem = self.problem
        safe: list[float] = [-1.0] * len(problem.names)
        for v, birth in enumerate(problem.birth):
            if birth < 0:
                end = problem.end_of_life[v]
                safe[v] = INFINITY if end is None else end
        for t in range(len(problem.ops)):
            least = min((self._source_until(v, safe) for v in problem.inputs[t]), default=INFINITY)
            for v in problem.outputs[t]:
                safe[v] = least if problem.remakable[v] else -1.0
        return safe

    def _source_until(self, v: int, safe: list[float]) -> float:
        """How long `v` is there, or can be made, to recompute something from."""
        if self.problem.birth[v] < 0 or self.problem.remakable[v]:
            return safe[v]
        return self.last[v]

    def run(self) -> Order:
        problem = self.problem
        if self._bytes(self.ram) > self.limit:
            raise _Stuck
        for t, op in enumerate(problem.ops):
            self.now = t
            self._compute(t, problem.reads[t], first=True)
            for v, new in ((problem.index[old], problem.index[new]) for old, new in op.updates):
                self.ram.discard(v)
                self.stored.discard(v)
                self.ram.add(new)
                self.stored |= {new} & self.at_home
            self._drop_dead()
        self.now = len(problem.ops)
        self._hold(sorted(problem.required - self.at_home))
        return tuple(self.order)

    def _bytes(self, values: set[int]) -> int:
        return sum(self.problem.bytes[v] for v in values)

    def _drop_dead(self) -> None:
        """Free what nothing reads again; a value that is there from the start waits for its update."""
        self.ram = {
            v
            for v in self.ram
            if self.last[v] > self.now or (self.problem.birth[v] < 0 and self._ends(v) > self.now)
        }

    def _ends(self, v: int) -> float:
        end = self.problem.end_of_life[v]
        return INFINITY if end is None else end

    # -- bringing back --

    def _hold(self, values: list[int]) -> None:
        """Bring `values` into RAM and lock them there."""
        for v in values:
            self._bring(v)
            self.locks[v] = self.locks.get(v, 0) + 1

    def _release(self, values: list[int]) -> None:
        for v in values:
            self.locks[v] -= 1
            self.used[v] = self.now

    def _bring(self, v: int) -> None:
        if v in self.ram:
            return
        if len(self.order) > MOST_ACTIONS * (1 + len(self.problem.ops)):
            raise _Stuck
        if v in self.stored and self._read_weight(v) <= self._remake_weight(v, set()):
            self._make_room(self.problem.bytes[v])
            self.order.append(Action("in", self.problem.names[v]))
            self.ram.add(v)
        elif self.problem.remakable[v]:
            c = self.problem.birth[v]
            self._compute(c, self.problem.inputs[c], first=False)
        else:
            raise _Stuck

    def _compute(self, c: int, reads: tuple[int, ...], *, first: bool) -> None:
        problem = self.problem
        held = sorted(reads, key=lambda v: -problem.bytes[v])
        self._hold(held)
        made = set(problem.outputs[c]) - self.ram
        fresh = (
            problem.working_bytes[c]
            - self._bytes(set(problem.reads[c]))
            - self._bytes(set(problem.outputs[c]) - made)
        )
        self._make_room(fresh)
        self.order.append(Action("compute", problem.ops[c].name))
        self._release(held)
        for v in made:
            self.ram.add(v)
            self.used[v] = self.now
        if first:
            self.stored -= made

    # -- eviction --

    def _make_room(self, bytes_: int) -> None:
        while self._bytes(self.ram) + bytes_ > self.limit:
            victims = [
                v for v in self.ram if not self.locks.get(v) and self.problem.bytes[v] and self._may_go(v)
            ]
            if not victims:
                raise _Stuck
            self._evict(min(victims, key=lambda v: (self._score(v), v)))

    def _may_go(self, v: int) -> bool:
        return v in self.stored or self.problem.can_page or self._is_remade(v)

    def _is_remade(self, v: int) -> bool:
        return self.problem.remakable[v] and self.safe[v] >= self.last[v]

    def _score(self, v: int) -> float:
        staleness = 1 + self.now - self.used[v]
        return min(self._drop_weight(v), self._page_weight(v)) / (self.problem.bytes[v] * staleness)

    def _drop_weight(self, v: int) -> float:
        return self._remake_weight(v, set()) if self._is_remade(v) else INFINITY

    def _read_weight(self, v: int) -> float:
        return self.problem.weight(self.problem.read_costs[v])

    def _page_weight(self, v: int) -> float:
        """Cost of paging `v` out, unless it is stored, and in."""
        if v in self.stored:
            return self._read_weight(v)
        if not self.problem.can_page:
            return INFINITY
        return self._read_weight(v) + self.problem.weight(self.problem.write_costs[v])

    def _remake_weight(self, v: int, seen: set[int]) -> float:
        """Cost of recomputing `v` with everything that is missing for it."""
        problem, c = self.problem, self.problem.birth[v]
        if not problem.remakable[v]:
            return INFINITY
        if c in seen:
            return 0.0
        seen.add(c)
        total = problem.weight(problem.op_costs[c])
        for w in problem.inputs[c]:
            if w not in self.ram:
                total += self._read_weight(w) if w in self.stored else self._remake_weight(w, seen)
        return total

    def _evict(self, v: int) -> None:
        if self._page_weight(v) < self._drop_weight(v) and v not in self.stored:
            self.order.append(Action("out", self.problem.names[v]))
            self.stored.add(v)
        self.ram.discard(v)
