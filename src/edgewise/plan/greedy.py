"""Greedy eviction: run the ops in order, and when RAM is short drop the value that is cheapest to lose.

After Dynamic Tensor Rematerialization (arXiv 2006.09616 section 3): the score of a value is what it costs
to bring back, by the cheaper of recomputing it (with all that is missing for that) and paging it, per byte
and per op since its last use; the least score goes. Other rules put the time until a value is next wanted
in place of the time since its last use, as Belady's does, and weigh it less: the future is known here.

What an op misses is made again in the order of the graph, so that a shortcut is there before the branch that
is added to it. Where nothing else is left to drop, what an execution waits for goes too, and is made again
later. A gradient may be dropped while its operands are there: these stay until it is made again, which is
before an update overwrites one of them. The pass takes tenths of a second for a thousand ops, and often ends
with less RAM than programs find a plan for; that there is no plan where it is stuck is not said.
"""

import math
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from edgewise.plan.milp import INFINITY
from edgewise.plan.prefetch import prefetch
from edgewise.plan.problem import Candidate, InPlace, Problem, fits, judge
from edgewise.plan.remaking import Remaking
from edgewise.plan.schedule import Action, Order

MOST_ACTIONS = 60
"""Actions an op on average after which eviction is said to thrash, and the attempt ends."""

MOST_DEPTH = 50
"""Executions that wait for one another, after which the attempt ends."""

ROUNDS = 4
"""How often the operands of an execution are brought together before it is said that they do not fit."""


class Rule(NamedTuple):
    """What the score of a value is divided by, besides its bytes: a time, to the power of `exponent`.

    The time is that until the value is next wanted if the pass is `foreseeing`, else since its last use.
    """

    foreseeing: bool
    exponent: float


DTR = Rule(foreseeing=False, exponent=1.0)
RULES = (
    DTR,
    Rule(foreseeing=True, exponent=0.5),
    Rule(foreseeing=True, exponent=1.0),
    Rule(foreseeing=False, exponent=0.5),
    Rule(foreseeing=True, exponent=0.25),
)
"""None of them is the best everywhere; the first is the fastest."""


LINK_PRICES = (1.0, 2.0, 0.5, 0.25, None)
"""Where transfers run beside compute, what a second of one counts as (`Problem.link_price`), in turn."""


class Way(NamedTuple):
    """How a pass decides: by which score, what lives in the slower tier, and at what price of the link."""

    rule: Rule = DTR
    homes: frozenset[str] = frozenset()
    link_price: float | None = None


def greedy(
    problem: Problem, rules: Sequence[Rule] = (DTR,), *, deadline: float = INFINITY
) -> Iterator[Candidate]:
    """The plans of `ways`."""
    for _, candidate in ways(problem, rules, deadline=deadline):
        yield candidate


def ways(
    problem: Problem, rules: Sequence[Rule] = RULES, *, deadline: float = INFINITY
) -> Iterator[tuple[Way, Candidate]]:
    """A plan for each way: by each rule, parameters in RAM at the start or in the slower tier, and so on.

    One of the three choices is varied at a time, the others being those of the best plan so far. After
    `deadline`, by `time.monotonic`, no further way is tried.
    """
    heads = frozenset(problem.names[family.head] for family in problem.families)
    homes = (frozenset[str](), heads) if problem.can_page else (frozenset[str](),)
    prices = LINK_PRICES if problem.overlaps else (None,)
    choices: tuple[Callable[[Way], list[Way]], ...] = (
        lambda way: [way._replace(homes=home) for home in homes],
        lambda way: [way._replace(link_price=price) for price in prices],
        lambda way: [way._replace(rule=rule) for rule in rules],
    )
    best, least = Way(rules[0], homes[0], prices[0]), (INFINITY, INFINITY)
    tried = set[Way]()
    for choice in choices:
        for way in choice(best):
            if way in tried or (tried and time.monotonic() > deadline):
                continue
            tried.add(way)
            found = evicting(problem, way)
            if found is not None:
                yield way, found
                if fits(problem, found) and found.rank < least:
                    best, least = way, found.rank


def evicting(problem: Problem, way: Way, bias: Mapping[int, float] | None = None) -> Candidate | None:
    """The plan of one pass, scores multiplied by `bias`; or none."""
    priced = replace(problem, link_price=way.link_price)
    try:
        order = _Greedy(priced, way.homes, way.rule, bias or {}).run()
    except _Stuck:
        return None
    found = judge(problem, order, way.homes)
    return None if found is None else prefetch(problem, found)


class _Stuck(Exception):
    """The method found no way on; no error."""


class _Greedy:
    def __init__(
        self, problem: Problem, homes: frozenset[str], rule: Rule, bias: Mapping[int, float]
    ) -> None:
        self.problem, self.limit, self.rule, self.bias = problem, problem.budget.ram_bytes, rule, bias
        self.stored = {problem.index[name] for name in homes}
        self.ram = {v for v, birth in enumerate(problem.birth) if birth < 0} - self.stored
        self.live = sum(problem.bytes[v] for v in self.ram)
        self.at_home = {family.members[-1] for family in problem.families if family.head in self.stored}
        self.future = Remaking(problem, self.at_home)
        self.can_page = problem.can_page
        self.movable = {v for v, size in enumerate(problem.bytes) if size and self._is_movable(v)}
        self.due: dict[int, set[int]] = defaultdict(set)  # op -> what must be made again before it runs
        self.locks: Counter[int] = Counter()  # operands of what is to run
        self.pending: Counter[int] = Counter()  # operands of what is to run again before that
        self.depth = 0
        self.used = [0] * len(problem.names)
        self.demand: list[float] = []
        self.now = 0
        self.order: list[Action] = []

    def run(self) -> Order:
        problem = self.problem
        if self.live > self.limit:
            raise _Stuck
        for t, op in enumerate(problem.ops):
            self.now = t
            due = sorted(self.due.pop(t, ()))
            operands = tuple(dict.fromkeys((*problem.reads[t], *due)))
            self._compute(t, operands, first=True)
            for v, new in ((problem.index[old], problem.index[new]) for old, new in op.updates):
                self._drop(v)
                self.stored.discard(v)
                self._add(new)
                self.stored |= {new} & self.at_home
            self._drop_dead()
        self.now = len(problem.ops)
        self._gather(sorted(problem.required - self.at_home))
        return tuple(self.order)

    def _add(self, v: int) -> None:
        if v not in self.ram:
            self.ram.add(v)
            self.live += self.problem.bytes[v]
        self.used[v] = self.now

    def _drop(self, v: int) -> None:
        if v in self.ram:
            self.ram.discard(v)
            self.live -= self.problem.bytes[v]

    def _is_movable(self, v: int) -> bool:
        """Whether value `v` may ever leave RAM while it is wanted."""
        return self.can_page or self.problem.remakable[v]

    def _drop_dead(self) -> None:
        """Free what nothing wants again; a value that is there from the start waits for its update."""
        wanted = self.future.wanted
        for v in self.ram - self.future.sources:
            if wanted[v] <= self.now:
                self._drop(v)

    # -- bringing back --

    def _gather(self, values: Iterable[int]) -> None:
        """Bring `values` into RAM and lock them there."""
        values = tuple(values)
        self.locks.update(values)
        for _ in range(ROUNDS):
            missing = [v for v in values if v not in self.ram]
            if not missing:
                return
            self._bring(missing)
        raise _Stuck

    def _bring(self, missing: list[int]) -> None:
        """Page in, or make again in the order of the graph, what is `missing` and what that takes."""
        again, read = self._closure(missing)
        waiting = Counter(v for c in again for v in dict.fromkeys(self.problem.inputs[c]))
        self.pending += waiting
        self.depth += 1
        if self.depth > MOST_DEPTH:
            raise _Stuck
        for v in read:
            self._make_room(self.problem.bytes[v])
            self.order.append(Action("in", self.problem.names[v]))
            self._add(v)
        for c in again:
            operands = tuple(dict.fromkeys(self.problem.inputs[c]))
            self._compute(c, operands, first=False)
            self.pending -= Counter(operands)
        self.depth -= 1

    def _closure(self, missing: list[int]) -> tuple[list[int], list[int]]:
        """Ops to run again for what is `missing`, in order, and those of `missing` to be paged in."""
        again: set[int] = set()
        read: list[int] = []
        todo = list(missing)
        while todo:
            v = todo.pop()
            if v in self.stored and self._read_weight(v) <= self._remake_weight(v):
                read += [v] if v in missing else []
                continue
            c = self.problem.birth[v]
            if not self.problem.remakable[v] or self.future.until[c] < self.now:
                raise _Stuck
            if c not in again:
                again.add(c)
                todo += [w for w in self.problem.inputs[c] if w not in self.ram]
        return sorted(again), read

    def _compute(self, c: int, operands: tuple[int, ...], *, first: bool) -> None:
        problem = self.problem
        if len(self.order) > MOST_ACTIONS * (1 + len(problem.ops)):
            raise _Stuck
        self._gather(operands)
        made = [v for v in dict.fromkeys(problem.outputs[c]) if v not in self.ram]
        there = {*problem.reads[c], *problem.outputs[c]}.difference(made)
        fresh = problem.working_bytes[c] - sum(problem.bytes[v] for v in there)
        over = self._make_room(fresh, problem.in_place[c], operands)
        self.order.append(problem.execution(c) if first else Action("compute", problem.ops[c].name))
        self.locks -= Counter(operands)
        for v in operands:
            self.used[v] = self.now
        for v in over:
            self._drop(v)
        for v in made:
            self._add(v)
        if first:
            self.stored.difference_update(made)

    # -- eviction --

    def _make_room(
        self, bytes_: int, in_place: InPlace | None = None, operands: tuple[int, ...] = ()
    ) -> tuple[int, ...]:
        """Drop what is cheapest to lose until there is room; return what is better worked over instead."""
        if self.live + bytes_ <= self.limit:
            return ()
        scores = self._scores(operands)
        olds = in_place.olds if in_place and self._may_be_worked_over(in_place) else ()
        over: tuple[int, ...] = ()
        while self.live + bytes_ > self.limit:
            loss = (0, sum(self._score(v) for v in olds if self._is_wanted(v)), -1)
            best = min(scores.values(), default=None)
            if in_place and olds and not over and (best is None or loss <= best):
                over, bytes_ = olds, bytes_ - in_place.saves
                for v in over:
                    self._store(v)
            elif best is not None:
                self._evict(best[2])
                del scores[best[2]]
            else:
                raise _Stuck
        return over

    def _scores(self, operands: tuple[int, ...]) -> dict[int, tuple[int, float, int]]:
        """What may go, with how much is lost: first what nothing waits for, then what something does."""
        if self.rule.foreseeing:
            self.demand = self.future.demand(self.ram, self.now)
        found = {}
        for v in (self.ram & self.movable).difference(operands):
            if self._may_go(v):
                found[v] = (2 if self.locks[v] else 1 if self.pending[v] else 0, self._score(v), v)
        return found

    def _is_wanted(self, v: int) -> bool:
        """Whether value `v`, an operand of what runs now, is wanted after that."""
        return self.future.wanted[v] > self.now or self.locks[v] > 1 or self.depth > 0

    def _may_be_worked_over(self, in_place: InPlace) -> bool:
        return all(
            self.locks[v] == 1 and self.pending[v] <= 1 and (not self._is_wanted(v) or self._may_go(v))
            for v in in_place.olds
        )

    def _may_go(self, v: int) -> bool:
        return v in self.stored or self.can_page or self._is_remade(v)

    def _is_remade(self, v: int) -> bool:
        """Whether value `v` can be made again when it is wanted, or as long as its operands stay."""
        if not self.problem.remakable[v]:
            return False
        if self.future.safe[v] >= max(self.now, self.future.wanted[v]):
            return True
        c = self.problem.birth[v]
        return self.future.until[c] > self.now and all(
            w in self.ram or self.future.safe[w] >= self._due(v) for w in self.problem.inputs[c]
        )

    def _due(self, v: int) -> int:
        """The op before which value `v` must be made again."""
        return int(min(self.future.until[self.problem.birth[v]], self.future.wanted[v]))

    def _evict(self, v: int) -> None:
        self._store(v)
        self._drop(v)

    def _store(self, v: int) -> None:
        """Page out value `v`, or see to it that it can be made again, before it goes."""
        future = self.future
        if v in self.stored:
            return
        if self._page_weight(v) < self._drop_weight(v):
            self.order.append(Action("out", self.problem.names[v]))
            self.stored.add(v)
        elif future.safe[v] < future.wanted[v]:
            due = self._due(v)
            if due < future.wanted[v]:
                self.due[due].add(v)
            for w in self.problem.inputs[self.problem.birth[v]]:
                future.keep(w, due)

    # -- what it costs --

    def _score(self, v: int) -> float:
        """What losing value `v` costs for each byte, the less the longer it is not wanted."""
        if self.pending[v] or self.locks[v]:
            distance = 1.0
        elif self.rule.foreseeing:
            distance = 1 + self.demand[v] - self.now
        else:
            distance = 1.0 + self.now - self.used[v]
        if distance == INFINITY:
            return 0.0
        loss = min(self._drop_weight(v), self._page_weight(v)) * self.bias.get(v, 1.0)
        size = max(self.problem.bytes[v], 1)  # some values have no bytes
        return loss / (size * math.pow(distance, self.rule.exponent))

    def _drop_weight(self, v: int) -> float:
        return self._remake_weight(v) if self._is_remade(v) else INFINITY

    def _read_weight(self, v: int) -> float:
        return self.problem.weight(self.problem.read_costs[v])

    def _page_weight(self, v: int) -> float:
        """Cost of paging `v` out, unless it is stored, and in."""
        if v in self.stored:
            return self._read_weight(v)
        if not self.can_page:
            return INFINITY
        return self._read_weight(v) + self.problem.weight(self.problem.write_costs[v])

    def _remake_weight(self, v: int) -> float:
        """Cost of recomputing `v` with everything that is missing for it."""
        problem = self.problem
        total, seen, todo = 0.0, set[int](), [v]
        while todo:
            w = todo.pop()
            if not problem.remakable[w]:
                return INFINITY
            c = problem.birth[w]
            if c in seen:
                continue
            seen.add(c)
            total += self.future.weights[c]
            for operand in problem.inputs[c]:
                if operand in self.ram:
                    continue
                if operand in self.stored:
                    total += self._read_weight(operand)
                else:
                    todo.append(operand)
        return total
