"""What can be made again, until when, and what is wanted later: what the greedy pass knows of the future.

A value is *safe* until the last op before which it can be made again from what can itself be made again; -1
if never. Beyond that it may still be made from operands that stay in RAM, before an update overwrites one.
"""

from bisect import bisect_left
from collections.abc import Set as AbstractSet
from functools import cached_property

from edgewise.plan.milp import INFINITY
from edgewise.plan.problem import Problem


class Remaking:
    """For one problem; `wanted` is the last op that needs each value, the number of ops for the end."""

    def __init__(self, problem: Problem, at_home: AbstractSet[int]) -> None:
        self.problem = problem
        self.weights = [problem.weight(cost) for cost in problem.op_costs]
        self.wanted = [uses[-1] if uses else -1 for uses in problem.uses]
        for v in problem.required - at_home:
            self.wanted[v] = len(problem.ops)
        self._next: tuple[int, list[float]] = (-1, [])

    def ends(self, v: int) -> float:
        """The op that overwrites value `v` by an update."""
        end = self.problem.end_of_life[v]
        return INFINITY if end is None else end

    @cached_property
    def until(self) -> list[float]:
        """Per op, the last stage at which all its operands can exist."""
        return [min((self.ends(v) for v in inputs), default=INFINITY) for inputs in self.problem.inputs]

    @cached_property
    def safe(self) -> list[float]:
        """Per value, the last op before which it can surely be made again."""
        problem = self.problem
        safe = [self.ends(v) if birth < 0 else -1.0 for v, birth in enumerate(problem.birth)]
        for t in range(len(problem.ops)):
            least = min((self._source_until(v, safe) for v in problem.inputs[t]), default=INFINITY)
            for v in problem.outputs[t]:
                safe[v] = least if problem.remakable[v] else -1.0
        return safe

    def _source_until(self, v: int, safe: list[float]) -> float:
        """How long `v` is there, or can be made, to make something else from."""
        if self.problem.birth[v] < 0 or self.problem.remakable[v]:
            return safe[v]
        return self.wanted[v]

    @cached_property
    def sources(self) -> frozenset[int]:
        """Values that are there from the start: an update replaces them, or they stay."""
        return frozenset(v for v, birth in enumerate(self.problem.birth) if birth < 0)

    @cached_property
    def _makers(self) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
        """What each op that may run again makes and reads, the last op first."""
        problem = self.problem
        pairs = [
            (tuple(v for v in outputs if problem.remakable[v]), inputs)
            for outputs, inputs in zip(problem.outputs, problem.inputs, strict=True)
        ]
        return [pair for pair in reversed(pairs) if pair[0]]

    def keep(self, v: int, until: int) -> None:
        """Value `v` is wanted up to op `until` at least."""
        if until > self.wanted[v]:
            self.wanted[v] = until
            self._next = (-1, [])

    def _next_uses(self, now: int) -> list[float]:
        """As `_next_use`, for all values."""
        if self._next[0] != now:
            self._next = (now, [self._next_use(v, now) for v in range(len(self.wanted))])
        return self._next[1]

    def _next_use(self, v: int, now: int) -> float:
        """The next op, from `now` on, whose first execution reads value `v`; or the end."""
        uses = self.problem.uses[v]
        at = bisect_left(uses, now)
        if at < len(uses):
            return uses[at]
        return self.wanted[v] if self.wanted[v] >= now else INFINITY

    def demand(self, ram: AbstractSet[int], now: int) -> list[float]:
        """Per value, when it is next wanted, to be read or to make again what is missing."""
        demand = self._next_uses(now).copy()
        for made, inputs in self._makers:
            soonest = min((demand[v] for v in made if v not in ram), default=INFINITY)
            if soonest < INFINITY:
                for v in inputs:
                    demand[v] = min(demand[v], soonest)
        return demand
