"""Plans for budgets below what whole ops need: one pass over the ops that keeps what is worth most.

RAM is a cache of the slower tier. Each op in turn takes the option and the streamed operands that cost least
together with what must leave RAM for them; what leaves is what costs least to have again for each byte and
stage until it is wanted: Belady's rule (IBM Systems Journal 5(2), 1966) with weights. Nothing is computed
twice. The pass is greedy, so it is made several times, with more or fewer small parameters pinned in RAM and
more or less eager to bring in whole what will be read again; the replay says which is best.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
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


class _Pass:
    """State of the pass: what is in RAM, and what the tier holds a good copy of."""

    def __init__(
        self, problem: Problem, prices: Prices, pinned: frozenset[int], eager: float, hold_bytes: int
    ) -> None:
        self.problem, self.prices, self.eager, self.hold_bytes = problem, prices, eager, hold_bytes
        members = [problem.families[f].members for f in range(len(problem.families))]
        self.pinned = frozenset(v for f in pinned for v in members[f])
        self.stored = {problem.families[f].head for f in range(len(members)) if f not in pinned}
        sources = (v for v, birth in enumerate(problem.birth) if birth < 0)
        self.ram = {v for v in sources if v not in self.stored}
        self.live = sum(problem.bytes[v] for v in self.ram)
        self.at_end = {v for v in problem.required if v not in problem.family_of}
        self.order: list[Action] = []

    def run(self) -> list[Action] | None:
        """The order of actions; `None` where an op does not fit beside what is pinned."""
        for t, op in enumerate(self.problem.ops):
            victims = self._victims(t)
            choice = self._choose(t, op, victims)
            if choice is None:
                return None
            self._evict(victims, choice.evict_bytes)
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

    # -- what must leave --

    def _victims(self, t: int) -> list[tuple[float, int]]:
        """Values that op `t` does not need, the cheapest to lose first, each with what losing it costs."""
        operands = {*self.problem.reads[t], *self.problem.outputs[t]}
        found = []
        for v in self.ram - operands - self.pinned:
            size, again = self.problem.bytes[v], self._next(v, t)
            if size and again is not None:
                found.append((self._loss(v) / size / (again - t), v))
        found.sort()
        return [(self._loss(v), v) for _, v in found]

    def _loss(self, v: int) -> float:
        return self.prices.read[v] + (0.0 if v in self.stored else self.prices.write[v])

    def _evict(self, victims: list[tuple[float, int]], bytes_: int) -> None:
        for _, v in victims:
            if bytes_ <= 0:
                return
            bytes_ -= self.problem.bytes[v]
            self._leave(v)

    def _leave(self, v: int) -> None:
        if v not in self.stored:
            self.order.append(Action("out", self.problem.names[v]))
            self.stored.add(v)
        self._drop(v)

    def _drop(self, v: int) -> None:
        self.ram.discard(v)
        self.live -= self.problem.bytes[v]

    # -- how an op runs --

    def _choose(self, t: int, op: Op, victims: list[tuple[float, int]]) -> _Choice | None:
        sizes = [0, *accumulate(self.problem.bytes[v] for _, v in victims)]
        losses = [0.0, *accumulate(loss for loss, _ in victims)]
        room, hold = (limit - self.live for limit in (self.problem.budget.ram_bytes, self.hold_bytes))
        best: _Choice | None = None
        for option in op.options:
            for way in self._ways(t, op, option) if self._is_usable(t, option) else ():
                if way.ram_bytes - room > sizes[-1]:
                    continue
                evict = min(way.ram_bytes - hold, sizes[-1])
                count = bisect_left(sizes, evict)
                weight = way.weight + losses[count]
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
                self._hold(v)
        option = choice.option.name if choice.option.is_tiled else ""
        streamed = frozenset(names[v] for v in choice.streamed)
        self.order.append(Action("compute", op.name, option, streamed))
        for v in problem.outputs[t]:
            if v in choice.streamed:
                self.stored.add(v)
            else:
                self._hold(v)
        for old, new in op.updates:
            self._update(problem.index[old], problem.index[new])
        for v in [v for v in self.ram if v not in self.pinned and self._next(v, t) is None]:
            self._drop(v)

    def _hold(self, v: int) -> None:
        self.ram.add(v)
        self.live += self.problem.bytes[v]

    def _update(self, old: int, new: int) -> None:
        """A pinned value is replaced in RAM; any other goes back to the tier, where it lives."""
        if old in self.ram:
            self._drop(old)
        if new in self.pinned:
            self._hold(new)
        else:
            self.stored.add(new)
