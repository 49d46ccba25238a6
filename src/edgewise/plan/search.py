"""Exact plans for small graphs: a best-first search over what is in RAM and what is in the slower tier.

A state is (number of ops whose turn has come, values in RAM, values stored, values that ever were in RAM).
From it one may run the next op, leave it for later if it may run any time, run an earlier one (again), or
page a value in; what must leave RAM for that is chosen among all minimal sets. What was in RAM once may have
been paged out then: that is decided, and paid for, when it is paged in. Freeing costs nothing, so a state is
dominated by one with more in RAM, as much stored and no higher cost. So the result is optimal among all plans
in which first executions keep the graph's order or come later than in it, and no result is a proof. States
are taken up by their cost plus that of the first runs to come (A*: Hart, Nilsson and Raphael, IEEE
Transactions on Systems Science and Cybernetics 4(2), 1968). The state space is that of the pebble game with
two kinds of pebbles (red and blue: Hong and Kung, STOC 1981).
"""

import heapq
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import combinations
from typing import NamedTuple

from edgewise.devices import Cost
from edgewise.graph import Graph, Op
from edgewise.plan.milp import INFINITY
from edgewise.plan.problem import Problem
from edgewise.plan.schedule import Action, Order

MOST_STATES = 60_000
"""Expanded states after which the search gives up."""

ABOVE = 1e-9
"""Relative slack of limits in seconds and joules: the rounding of sums."""


class Found(NamedTuple):
    """An optimal order, or `None` for the proof that there is none; neither, if not `finished`."""

    order: Order | None
    homes: frozenset[str]
    finished: bool


class _State(NamedTuple):
    done: int
    ram: int
    stored: int
    ever: int


@dataclass(order=True)
class _Label:
    """A way to a state. Ordered by primary objective, then secondary, the first runs to come included."""

    rank: tuple[float, float]
    number: int
    state: _State = field(compare=False)
    cost: Cost = field(compare=False)
    actions: tuple[Action, ...] = field(compare=False)
    parent: "_Label | None" = field(compare=False, default=None)
    homes: int = field(compare=False, default=0)


def search(problem: Problem, *, time_limit: float = INFINITY, most_states: int = MOST_STATES) -> Found:
    """The best order for `problem`; exact where costs add up (`problem.is_additive`)."""
    return _Search(problem, time.monotonic() + time_limit, most_states).run()


class _Search:
    def __init__(self, problem: Problem, deadline: float, most_states: int) -> None:
        self.problem, self.deadline, self.most_states = problem, deadline, most_states
        self.n, self.limit = len(problem.ops), problem.budget.ram_bytes
        self.inputs = [_mask(vs) for vs in problem.inputs]
        self.reads = [_mask(vs) for vs in problem.reads]
        self.outputs = [_mask(vs) for vs in problem.outputs]
        self.alive = [self._alive(t) for t in range(self.n + 1)]
        self.returning = [self._returning(t) for t in range(self.n + 1)]
        self.rest = [_sum(problem.op_costs[t:]) for t in range(self.n + 1)]  # each op must run at least once
        self.queue: list[_Label] = []
        self.seen: dict[tuple[int, int, int], list[tuple[int, int, Cost]]] = {}
        self.count = 0
        tier = problem.device.memory.paging
        self.tier_bytes = tier[1].bytes if tier else 0

    def run(self) -> Found:
        self._start()
        expanded = 0
        while self.queue:
            label = heapq.heappop(self.queue)
            if label.state.done == self.n and self._is_goal(label):
                return Found(_unwind(label, self.problem.graph), self._home_names(label.homes), True)
            expanded += 1
            if expanded > self.most_states or (expanded % 256 == 0 and time.monotonic() > self.deadline):
                return Found(None, frozenset(), False)
            self._expand(label)
        return Found(None, frozenset(), True)

    # -- states --

    def _start(self) -> None:
        problem = self.problem
        families = problem.families if problem.can_page else ()
        present = _mask(v for v, birth in enumerate(problem.birth) if birth < 0)
        for size in range(len(families) + 1):
            for chosen in combinations(range(len(families)), size):
                heads = _mask(families[f].head for f in chosen)
                updated = [f for f in chosen if len(families[f].members) > 1]
                cost = _sum(problem.write_costs[families[f].head] for f in updated)
                start = present & ~heads
                if self._bytes(start) <= self.limit:
                    self._push(_State(0, start & self.alive[0], heads, start), cost, (), None, _mask(chosen))

    def _is_goal(self, label: _Label) -> bool:
        at_home = _mask(self.problem.families[f].members[-1] for f in _bits(label.homes))
        needed = _mask(self.problem.required) & ~at_home
        return needed & ~label.state.ram == 0

    def _alive(self, done: int) -> int:
        """Values that may still be of use once `done` ops have run."""
        problem = self.problem
        alive = _mask(problem.required)
        for t in range(done, self.n):
            alive |= self.reads[t]
        for c in range(done - 1, -1, -1):
            ends = (problem.end_of_life[v] for v in problem.inputs[c])
            if (
                problem.ops[c].recomputable
                and self.outputs[c] & alive
                and all(e is None or e >= done for e in ends)
            ):
                alive |= self.inputs[c]
        return alive

    def _returning(self, done: int) -> int:
        """Values that may come back from the tier once `done` ops have run."""
        if not self.problem.can_page:
            return 0
        ends = self.problem.end_of_life
        return self.alive[done] & _mask(v for v, end in enumerate(ends) if end is None or end >= done)

    def _push(
        self, state: _State, cost: Cost, actions: tuple[Action, ...], parent: _Label | None, homes: int
    ) -> None:
        budget = self.problem.budget
        least = _sum((cost, self.rest[state.done]))
        for limit, spent in ((budget.seconds, least.seconds), (budget.joules, least.joules)):
            if limit is not None and spent > limit * (1 + ABOVE):
                return
        if self.tier_bytes and self._bytes(state.stored) > self.tier_bytes:
            return
        if not self._is_new(state, cost, homes):
            return
        self.count += 1
        rank = (self.problem.primary(least), self.problem.secondary(least))
        heapq.heappush(self.queue, _Label(rank, self.count, state, cost, actions, parent, homes))

    def _is_new(self, state: _State, cost: Cost, homes: int) -> bool:
        """Whether no state seen before has, and had, as much in RAM for as little; if so, note this one."""
        entries = self.seen.setdefault((state.done, state.stored, homes), [])
        for ram, ever, other in entries:
            has_more = not (state.ram & ~ram or state.ever & ~ever)
            if has_more and other.seconds <= cost.seconds and other.joules <= cost.joules:
                return False
        entries.append((state.ram, state.ever, cost))
        return True

    def _bytes(self, mask: int) -> int:
        return sum(self.problem.bytes[v] for v in _bits(mask))

    def _home_names(self, homes: int) -> frozenset[str]:
        return frozenset(self.problem.names[self.problem.families[f].head] for f in _bits(homes))

    # -- moves --

    def _expand(self, label: _Label) -> None:
        done, ram, stored, ever = label.state
        if done < self.n:
            self._run_op(label, done, first=True)
            if self.problem.ops[done].recomputable and not self.problem.ops[done].updates:
                state = self._state(done + 1, ram, stored, ever)
                self._push(state, label.cost, (), label, label.homes)
        for c in range(done):
            missing = self.outputs[c] & ~ram & self.alive[done]
            if self.problem.ops[c].recomputable and missing:
                self._run_op(label, c, first=False)
        for v in _bits((stored | ever) & ~ram & self.returning[done]):
            self._page_in(label, v)

    def _state(self, done: int, ram: int, stored: int, ever: int) -> _State:
        """What matters of a state: values that can be of use."""
        return _State(done, ram & self.alive[done], stored, ever & self.returning[done])

    def _run_op(self, label: _Label, c: int, *, first: bool) -> None:
        done, ram, _, _ = label.state
        needed = self.reads[c] if first else self.inputs[c]
        if needed & ~ram:
            return
        op = self.problem.ops[c]
        cost = self.problem.op_costs[c]
        made = self.outputs[c] | (_mask(self.problem.index[new] for _, new in op.updates) if first else 0)
        gone = _mask(self.problem.index[old] for old, _ in op.updates) if first else 0
        for option in op.options:
            olds = _mask(self.problem.index[old] for old, _ in option.overwrites)
            news = _mask(self.problem.index[new] for _, new in option.overwrites)
            need = self._bytes(self.outputs[c] & ~news) + option.workspace_bytes
            for kept in self._keepable(ram, needed, need, done):
                after = (kept & ~olds & ~gone) | made
                self._leave(label, after, op, cost, done + first)

    def _page_in(self, label: _Label, v: int) -> None:
        done, ram, stored, ever = label.state
        name, cost = self.problem.names[v], self.problem.read_costs[v]
        actions: tuple[Action, ...] = (Action("in", name),)
        if not stored >> v & 1:
            cost = _sum((cost, self.problem.write_costs[v]))
            actions = (Action("out", name), *actions)
        for kept in self._keepable(ram, 0, self.problem.bytes[v], done):
            state = self._state(done, kept | 1 << v, stored | 1 << v, ever)
            self._push(state, _sum((label.cost, cost)), actions, label, label.homes)

    def _leave(self, label: _Label, after: int, op: Op, cost: Cost, done: int) -> None:
        """Run `op`, after which there is `after` in RAM."""
        at_home = self._homed_news(op, label)
        stored = label.state.stored & ~self._replaced(at_home) | at_home
        state = self._state(done, after, stored, label.state.ever | after)
        self._push(state, _sum((label.cost, cost)), (Action("compute", op.name),), label, label.homes)

    def _homed_news(self, op: Op, label: _Label) -> int:
        """Updated values that `op` makes and that go straight to the tier, where they live."""
        if not label.homes:
            return 0
        lasts = {self.problem.families[f].members[-1] for f in _bits(label.homes)}
        return _mask(lasts.intersection(self.problem.index[new] for _, new in op.updates))

    def _replaced(self, at_home: int) -> int:
        heads = (self.problem.families[self.problem.family_of[v]].head for v in _bits(at_home))
        return _mask(heads)

    def _keepable(self, ram: int, needed: int, need: int, done: int) -> Iterator[int]:
        """The largest sets, all with `needed`, that can stay in RAM while `need` more bytes are taken."""
        room = self.limit - need - self._bytes(needed)
        if room < 0:
            return
        others = sorted(_bits(ram & ~needed & self.alive[done]), key=lambda v: -self.problem.bytes[v])
        yield from (kept | needed for kept in self._largest(others, room))

    def _largest(self, others: list[int], room: int) -> Iterator[int]:
        """Sets of `others` that fit `room` and to which none of the rest could be added."""
        sizes = self.problem.bytes

        def extend(at: int, kept: int, left: int, skipped: int | None) -> Iterator[int]:
            if at == len(others):
                if skipped is None or skipped > left:
                    yield kept
                return
            size = sizes[others[at]]
            if size <= left:
                yield from extend(at + 1, kept | 1 << others[at], left - size, skipped)
            if size:
                yield from extend(at + 1, kept, left, size if skipped is None else min(skipped, size))

        return extend(0, 0, room, None)


def _unwind(label: _Label | None, graph: Graph) -> Order:
    """The actions up to `label`, each page-out moved to where its value was last in RAM for certain."""
    parts: list[tuple[Action, ...]] = []
    while label is not None:
        parts.append(label.actions)
        label = label.parent
    order: list[Action] = []
    for action in (action for part in reversed(parts) for action in part):
        at = len(order)
        while action.what == "out" and at and not _brings(order[:at], action.name, graph):
            at -= 1
        order.insert(at, action)
    return tuple(order)


def _brings(order: list[Action], value: str, graph: Graph) -> bool:
    """Whether the last action of `order` brings `value` to RAM."""
    *before, action = order
    if action.what != "compute":
        return action.what == "in" and action.name == value
    op = graph.op[action.name]
    return value in op.outputs or (value in op.writes and action not in before)  # updates are made once


def _sum(costs: Iterable[Cost]) -> Cost:
    seconds = joules = 0.0
    for cost in costs:
        seconds += cost.seconds
        joules += cost.joules
    return Cost(seconds, joules)


def _mask(values: Iterable[int]) -> int:
    mask = 0
    for v in values:
        mask |= 1 << v
    return mask


def _bits(mask: int) -> Iterator[int]:
    while mask:
        low = mask & -mask
        yield low.bit_length() - 1
        mask ^= low
