"""Plans for budgets below what whole ops need: one pass over the ops that keeps what is worth most.

RAM is a cache of the slower tier. Each op in turn takes the option and the streamed operands that cost least
together with what must leave RAM for them; what leaves is what costs least to have again for each byte and
stage until it is wanted: Belady's rule (IBM Systems Journal 5(2), 1966) with weights. That only grows until
then, so that a heap of what it was is a heap of lower bounds, of which no more than the top need be brought
up to date: a pass takes time in proportion to the ops. Nothing is computed twice. The pass is greedy, so it
is made several times, with more or fewer small parameters pinned in RAM and more or less eager to bring in
whole what will be read again; the replay says which is best.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from heapq import heapify, heappop, heappush, heapreplace
from itertools import accumulate
from typing import NamedTuple

from edgewise.graph import Op, Option
from edgewise.plan.problem import Candidate, Problem, Tiling, judge
from edgewise.plan.schedule import Action
from edgewise.plan.tilings import Prices, Way, front

PINNED = (0.0, 0.1, 0.25, 0.5)
"""Shares of the budget that pinned parameters and states may take, tried in turn."""

DEARER_WRITES = (1.0, 4.0, 16.0)
"""What writing counts more than it costs, tried in turn where wear is limited."""

EAGER = (0.0, 0.7)
"""Shares of the price of the next transfer that bringing a value in whole is taken to save."""


def streamed_plans(problem: Problem, *, hold_bytes: int | None = None) -> Iterator[Candidate]:
    """Candidates by all settings of the pass that end; a device without a tier has none.

    With `hold_bytes`, no more is held but where an op alone needs more.
    """
    if not problem.can_page:
        return
    factors = (1.0,) if problem.budget.written_bytes is None else DEARER_WRITES
    for factor in factors:
        prices = Prices(problem, dearer_writes=factor)
        yield from _passes(problem, prices, problem.budget.ram_bytes if hold_bytes is None else hold_bytes)


def _passes(problem: Problem, prices: Prices, hold_bytes: int) -> Iterator[Candidate]:
    seen: set[frozenset[int]] = set()
    for share in PINNED:
        pinned = _smallest(problem, int(share * problem.budget.ram_bytes))
        if pinned in seen:
            continue
        seen.add(pinned)
        for eager in EAGER:
            order = _Pass(problem, prices, pinned, eager, hold_bytes).run()
            if order is not None:
                homes = {
                    problem.names[family.head] for f, family in enumerate(problem.families) if f not in pinned
                }
                candidate = judge(problem, tuple(order), frozenset(homes))
                if candidate is not None:
                    yield candidate


def tilings_of(problem: Problem, candidate: Candidate) -> dict[int, Tiling]:
    """How the ops that `candidate` tiles are executed."""
    turn = {op.name: t for t, op in enumerate(problem.ops)}
    found: dict[int, Tiling] = {}
    for action in candidate.order:
        if action.option and turn[action.name] not in found:
            option = problem.graph.op[action.name].option(action.option)
            assert option is not None  # noqa: S101  # the candidate was replayed
            streamed = frozenset(problem.index[name] for name in action.streamed)
            found[turn[action.name]] = Tiling(option, streamed)
    return found


def _smallest(problem: Problem, room: int) -> frozenset[int]:
    """Families, the smallest first, that together take no more than `room` bytes."""
    size = {f: problem.bytes[family.head] for f, family in enumerate(problem.families)}
    order = sorted(size, key=lambda f: (size[f], f))
    totals = list(accumulate(size[f] for f in order))
    return frozenset(order[: bisect_right(totals, room)])


class _Choice(NamedTuple):
    weight: float
    option: Option
    streamed: frozenset[int]
    evict_bytes: int


class _Idle(NamedTuple):
    """What it cost to lose value `v` for each byte and stage when it was last looked at, and its next use."""

    price: float
    v: int
    again: int


class _Leaving:
    """Values that may leave RAM, the cheapest to lose first, as far as anybody asks."""

    def __init__(self, problem: Problem) -> None:
        self.bytes = problem.bytes
        self.heap: list[_Idle] = []
        self.again: dict[int, int] = {}  # what may leave, and when it is wanted
        self.loss: dict[int, float] = {}
        self.all_bytes = 0
        self.now = 0
        self.operands: frozenset[int] = frozenset()
        self.drawn: list[_Idle] = []
        self.sizes, self.losses = [0], [0.0]  # of the first so many together

    def add(self, v: int, again: int, loss: float) -> None:
        """`v` is in RAM until stage `again` wants it."""
        if self.again.get(v) == again:
            return  # it stands in the heap
        self.discard(v)
        if self.bytes[v]:
            self.again[v], self.loss[v] = again, loss
            self.all_bytes += self.bytes[v]
            heappush(self.heap, self._at(v, again))

    def _at(self, v: int, again: int) -> _Idle:
        left = max(1, again - self.now)
        return _Idle(self.loss[v] / self.bytes[v] / left, v, again)

    def discard(self, v: int) -> None:
        """`v` is not in RAM any more, or stays for good."""
        if self.again.pop(v, None) is not None:
            self.all_bytes -= self.bytes[v]

    def turn(self, t: int, operands: Iterable[int]) -> None:
        """It is the turn of op `t`, and its `operands` do not leave."""
        for idle in self.drawn:
            heappush(self.heap, idle)
        self.now, self.operands = t, frozenset(operands)
        self.drawn, self.sizes, self.losses = [], [0], [0.0]
        # where most of the heap is out of date, what is left of it is made anew
        if len(self.heap) > 2 * len(self.again) + 8:
            self.heap = [self._at(v, again) for v, again in self.again.items()]
            heapify(self.heap)

    @property
    def most_bytes(self) -> int:
        """How much could leave."""
        return self.all_bytes - sum(self.bytes[v] for v in self.operands if v in self.again)

    def first(self, bytes_: int) -> list[int]:
        """The values that leave to make room for so many bytes."""
        return [idle.v for idle in self.drawn[: self._count(bytes_)]]

    def loss_of(self, bytes_: int) -> float:
        """What it costs to make room for so many bytes."""
        return self.losses[self._count(bytes_)]

    def _count(self, bytes_: int) -> int:
        while self.sizes[-1] < bytes_:
            idle = self._next()
            self.drawn.append(idle)
            self.sizes.append(self.sizes[-1] + self.bytes[idle.v])
            self.losses.append(self.losses[-1] + self.loss[idle.v])
        return bisect_left(self.sizes, bytes_)

    def _next(self) -> _Idle:
        """Draw the next value; what it costs now is no less than the heap says."""
        while True:
            idle = self.heap[0]
            if self.again.get(idle.v) != idle.again or idle.v in self.operands:
                heappop(self.heap)  # an operand is added again after the op that reads it
                continue
            now = self._at(idle.v, idle.again)
            if now.price <= idle.price:
                return heappop(self.heap)
            heapreplace(self.heap, now)


class _Pass:
    """State of the pass: what is in RAM, and what the tier holds a good copy of."""

    def __init__(
        self, problem: Problem, prices: Prices, pinned: frozenset[int], eager: float, hold_bytes: int
    ) -> None:
        self.problem, self.prices, self.eager, self.hold_bytes = problem, prices, eager, hold_bytes
        members = [problem.families[f].members for f in range(len(problem.families))]
        self.pinned = frozenset(v for f in pinned for v in members[f])
        self.stored = {problem.families[f].head for f in range(len(members)) if f not in pinned}
        self.at_end = {v for v in problem.required if v not in problem.family_of}
        self.order: list[Action] = []
        self.ram: set[int] = set()
        self.live = 0
        self.leaving = _Leaving(problem)
        for v, birth in enumerate(problem.birth):
            if birth < 0 and v not in self.stored:
                self._hold(v, -1)

    def run(self) -> list[Action] | None:
        """The order of actions; `None` where an op does not fit beside what is pinned."""
        for t, op in enumerate(self.problem.ops):
            self.leaving.turn(t, (*self.problem.reads[t], *self.problem.outputs[t]))
            choice = self._choose(t, op)
            if choice is None:
                return None
            for v in self.leaving.first(choice.evict_bytes):
                self._leave(v)
            self._execute(t, op, choice)
        self.order += [Action("in", self.problem.names[v]) for v in sorted(self.at_end - self.ram)]
        return self.order

    def _next(self, v: int, t: int) -> int | None:
        """The next op after `t` that reads `v`, or the end of the step."""
        uses = self.problem.uses[v]
        at = bisect_right(uses, t)
        if at < len(uses):
            return uses[at]
        return len(self.problem.ops) if v in self.at_end else None

    # -- what is in RAM --

    def _loss(self, v: int) -> float:
        return self.prices.read[v] + (0.0 if v in self.stored else self.prices.write[v])

    def _hold(self, v: int, t: int) -> None:
        self.ram.add(v)
        self.live += self.problem.bytes[v]
        self._await(v, t)

    def _await(self, v: int, t: int) -> None:
        """After op `t`, `v` may leave RAM until its next use."""
        again = self._next(v, t)
        if again is not None and v not in self.pinned:
            self.leaving.add(v, again, self._loss(v))
        else:
            self.leaving.discard(v)

    def _leave(self, v: int) -> None:
        if v not in self.stored:
            self.order.append(Action("out", self.problem.names[v]))
            self.stored.add(v)
        self._drop(v)

    def _drop(self, v: int) -> None:
        self.ram.discard(v)
        self.live -= self.problem.bytes[v]
        self.leaving.discard(v)

    # -- how an op runs --

    def _choose(self, t: int, op: Op) -> _Choice | None:
        most = self.leaving.most_bytes
        room, hold = (limit - self.live for limit in (self.problem.budget.ram_bytes, self.hold_bytes))
        best: _Choice | None = None
        for option in op.options:
            for way in self._ways(t, op, option) if self._is_usable(t, option) else ():
                if way.ram_bytes - room > most:
                    continue
                evict = min(way.ram_bytes - hold, most)
                weight = way.weight + self.leaving.loss_of(evict)
                if best is None or weight < best.weight:
                    best = _Choice(weight, option, frozenset(way.streamed), evict)
        return best

    def _ways(self, t: int, op: Op, option: Option) -> list[Way]:
        """RAM that executing `op` by `option` adds to what is there, and what it costs."""
        saved = sum(self.problem.graph.value[old].bytes for old, _ in option.overwrites)
        parts = [[Way(option.workspace_bytes - saved, self.prices.loop(t, option))]]
        olds = {self.problem.index[old] for old, _ in op.updates}
        parts += [self._read(t, option, v, is_old=v in olds) for v in dict.fromkeys(self.problem.reads[t])]
        parts += [self._made(t, option, v) for v in self.problem.outputs[t]]
        return front(parts)

    def _is_usable(self, t: int, option: Option) -> bool:
        """Whether nobody will want what `option` overwrites."""
        return all(self._next(self.problem.index[old], t) is None for old, _ in option.overwrites)

    def _read(self, t: int, option: Option, v: int, *, is_old: bool) -> list[Way]:
        """The ways to have operand `v`: where it is, brought in whole, or streamed."""
        size, again = self.problem.bytes[v], self._next(v, t) is not None
        back = self.prices.write[v] if is_old and v not in self.pinned else 0.0
        if v in self.ram:
            ways = [Way(0, back)]
        else:
            later = self.eager * self.prices.read[v] if again else 0.0
            ways = [Way(size, self.prices.read[v] - later + back)]
        stream = option.stream.get(self.problem.names[v])
        if stream is not None and v not in self.pinned:
            cost = self.prices.stream(t, option, v)
            if v in self.ram:
                cost += (0.0 if v in self.stored else self.prices.write[v]) + (
                    self.prices.read[v] if again else 0.0
                )
            ways.append(Way(stream.tile_bytes - (size if v in self.ram else 0), cost, (v,)))
        return ways

    def _made(self, t: int, option: Option, v: int) -> list[Way]:
        """The ways to make output `v`: in RAM, or slice by slice in the tier."""
        ways = [Way(self.problem.bytes[v], 0.0)]
        if self.problem.names[v] in option.stream:
            again = self.prices.read[v] if self._next(v, t) is not None else 0.0
            ways.append(Way(0, self.prices.stream(t, option, v) + again, (v,)))
        return ways

    def _execute(self, t: int, op: Op, choice: _Choice) -> None:
        problem, names = self.problem, self.problem.names
        for v in dict.fromkeys(problem.reads[t]):
            if v in choice.streamed and v in self.ram:
                self._leave(v)
            elif v not in choice.streamed and v not in self.ram:
                self.order.append(Action("in", names[v]))
                self._hold(v, t)
        option = choice.option.name if choice.option.is_tiled else ""
        streamed = frozenset(names[v] for v in choice.streamed)
        self.order.append(Action("compute", op.name, option, streamed))
        for v in problem.outputs[t]:
            if v in choice.streamed:
                self.stored.add(v)
            else:
                self._hold(v, t)
        for old, new in op.updates:
            self._update(problem.index[old], problem.index[new], t)
        # besides what the op reads and makes, only what nobody ever reads is done with after the first op
        done = self.ram if t == 0 else self.ram.intersection((*problem.reads[t], *problem.outputs[t]))
        for v in list(done):
            self._await(v, t)
            if v not in self.pinned and self._next(v, t) is None:
                self._drop(v)

    def _update(self, old: int, new: int, t: int) -> None:
        """A pinned value is replaced in RAM; any other goes back to the tier, where it lives."""
        if old in self.ram:
            self._drop(old)
        if new in self.pinned:
            self._hold(new, t)
        else:
            self.stored.add(new)
