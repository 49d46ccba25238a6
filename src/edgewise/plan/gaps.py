"""Idle gaps of values between their uses, and the stages in which a value might be brought back within each.

A value that is used at stages `a < d` and not between must be kept over the stages strictly between, or
brought back by a recomputation or a page-in at some stage in `(a, d]`. A value that nobody reads any more may
still be wanted by recomputations: its *tail*. Candidate stages: `d`, and the candidates of whatever a
recomputable reader of the value makes, since that reader may have to run again then. With *anchors*, what
later stages demand is made at the latest anchor before: a chain of recomputations then has few candidates,
and still reaches far back.
"""

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from edgewise.plan.problem import Problem

Role = Literal["middle", "tail", "head", "rest"]
"""`middle`: between two uses. `tail`: after the last one. `head` and `rest`: before the first and after the
last use of a parameter, where only its home decides whether it is in RAM."""


@dataclass(frozen=True)
class Gap:
    """Stages strictly between `start` and `end`, in which `value` is not used.

    `stages` are the candidates to bring the value back: for good in a `middle` gap, else for one stage only.
    """

    value: int
    start: int
    end: int
    role: Role
    stages: tuple[int, ...] = ()


def find_gaps(
    problem: Problem, *, most: int, anchors: int = 0, brought: Mapping[int, AbstractSet[int]] | None = None
) -> list[Gap]:
    """All gaps of all values; each with its `most` latest candidate stages, at about so many `anchors`.

    `brought` adds candidates: stages by value, at which some plan makes it again.
    """
    return _Finder(problem, most, _anchors(problem, anchors), brought or {}).gaps()


def _anchors(problem: Problem, count: int) -> Sequence[int]:
    """About `count` of the stages at which the plain plan reads again what it made, once RAM is short."""
    excess = problem.excess_bytes
    short = next((t for t, over in enumerate(excess) if over > 0), None)
    if not count or short is None:
        return ()
    ends: set[int] = set()
    for v, uses in enumerate(problem.uses):
        if problem.remakable[v]:
            ends.update(b for a, b in pairwise((problem.birth[v], *uses)) if b - a > 1 and b > short)
    return sorted(ends)[:: max(1, len(ends) // count)]


class _Finder:
    def __init__(
        self, problem: Problem, most: int, anchors: Sequence[int], brought: Mapping[int, AbstractSet[int]]
    ) -> None:
        self.problem, self.most, self.anchors, self.brought = problem, most, anchors, brought
        self.n = len(problem.ops)
        self.reruns: list[set[int]] = [
            set() for _ in problem.ops
        ]  # per op, stages at which it might run again
        self.readers: list[list[int]] = [[] for _ in problem.names]
        for c, reads in enumerate(problem.inputs):
            for v in reads:
                self.readers[v].append(c)

    def gaps(self) -> list[Gap]:
        found: list[Gap] = []
        by_birth = sorted(range(len(self.problem.names)), key=lambda v: -self.problem.birth[v])
        at = 0
        while at < len(by_birth):
            birth = self.problem.birth[by_birth[at]]
            while at < len(by_birth) and self.problem.birth[by_birth[at]] == birth:
                found += self._gaps_of(by_birth[at])
                at += 1
        return found

    def _gaps_of(self, v: int) -> list[Gap]:
        problem = self.problem
        demand = self._demand(v)
        family = problem.family_of.get(v)
        is_head = family is not None and problem.birth[v] < 0
        is_last = family is not None and problem.families[family].members[-1] == v
        points = [problem.birth[v], *problem.uses[v]]
        if v in problem.required and family is None:
            points.append(self.n)
        gaps = []
        for number, (start, end) in enumerate(pairwise(points)):
            if is_head and number == 0:
                gaps.append(Gap(v, start, end, "head"))
            elif end - start > 1 or (number == 0 and v in problem.born_in_tier):
                gaps.append(self._middle(v, start, end, demand))
        if is_last:
            stages = self._latest(t for t in demand if t > points[-1])
            gaps.append(Gap(v, points[-1], self.n + 1, "rest", stages))
        elif points[-1] < self.n and problem.end_of_life[v] is None:
            also = {t for t in self.brought.get(v, ()) if t > points[-1]}
            stages = tuple(sorted(also.union(self._latest(t for t in demand if t > points[-1]))))
            if stages:
                gaps.append(Gap(v, points[-1], max(stages) + 1, "tail", stages))
        if problem.remakable[v]:
            for gap in gaps:
                self.reruns[problem.birth[v]].update(gap.stages)
        return gaps

    def _middle(self, v: int, start: int, end: int, demand: set[int]) -> Gap:
        within = self._latest(t for t in demand if start < t < end)[-self.most + 1 :]
        also = {t for t in self.brought.get(v, ()) if start < t < end}
        return Gap(v, start, end, "middle", (*sorted(also.union(within)), end))

    def _demand(self, v: int) -> set[int]:
        """Stages at which some reader of `v` might run again."""
        demand: set[int] = set()
        for c in self.readers[v]:
            if self.problem.ops[c].recomputable:
                demand |= {t for t in self.reruns[c] if self._can_rerun(c, t)}
        return {self._anchored(t, self.problem.birth[v]) for t in demand} if self.anchors else demand

    def _anchored(self, t: int, after: int) -> int:
        """The latest anchor up to stage `t`, if it is `after` that one."""
        anchor = self.anchors[max(0, bisect_right(self.anchors, t) - 1)]
        return anchor if after < anchor < t else t

    def _can_rerun(self, c: int, t: int) -> bool:
        """Whether every operand of op `c` can still exist at stage `t`."""
        ends = (self.problem.end_of_life[v] for v in self.problem.inputs[c])
        return all(end is None or t <= end for end in ends)

    def _latest(self, stages: Iterable[int]) -> tuple[int, ...]:
        return tuple(sorted(set(stages)))[-self.most :]
