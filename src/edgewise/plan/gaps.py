"""Idle gaps of values between their uses, and the stages in which a value might be brought back within each.

A value that is used at stages `a < d` and not between must be kept over the stages strictly between, or
brought back by a recomputation or a page-in at some stage in `(a, d]`. A value that nobody reads any more may
still be wanted by recomputations: its *tail*. Candidate stages: `d`, and the candidates of whatever a
recomputable reader of the value makes, since that reader may have to run again then. The *depth* of a
candidate is how many ops run again between it and a use; of many candidates those of least depth are taken,
since the longer the chain of recomputations, the dearer it is. With *anchors*, what later stages
demand is made at the latest anchor before: a chain of recomputations then has few candidates, and still
reaches far back.
"""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from itertools import groupby, pairwise
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


Depths = dict[int, int]
"""Stage -> depth."""


def find_gaps(
    problem: Problem, *, most: int, anchors: int = 0, brought: Mapping[int, AbstractSet[int]] | None = None
) -> list[Gap]:
    """All gaps of all values, each with `most` candidate stages nearest to a use, at about so many `anchors`.

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
        # per op, the stages at which it might run again, each with its depth: how many ops run again for it
        self.reruns: list[Depths] = [{} for _ in problem.ops]
        self.readers: list[list[int]] = [[] for _ in problem.names]
        for c, reads in enumerate(problem.inputs):
            if problem.ops[c].recomputable:
                for v in reads:
                    self.readers[v].append(c)
        self.last_rerun = [self._last_rerun(c) for c in range(self.n)]

    def _last_rerun(self, c: int) -> int:
        """The last stage at which every operand of op `c` can still exist."""
        ends = (self.problem.end_of_life[v] for v in self.problem.inputs[c])
        return min((end for end in ends if end is not None), default=self.n)

    def gaps(self) -> list[Gap]:
        found: list[Gap] = []
        by_birth = sorted(range(len(self.problem.names)), key=lambda v: -self.problem.birth[v])
        for _, together in groupby(by_birth, key=self.problem.birth.__getitem__):
            for v in together:
                found += self._gaps_of(v)
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
                demand[end] = 0
                gaps.append(Gap(v, start, end, "middle", (*self._nearest(v, demand, start, end), end)))
        stages = self._nearest(v, demand, points[-1], self.n + 1)
        if is_last:
            gaps.append(Gap(v, points[-1], self.n + 1, "rest", stages))
        elif stages and problem.end_of_life[v] is None:
            gaps.append(Gap(v, points[-1], max(stages) + 1, "tail", stages))
        if problem.remakable[v]:
            for gap in gaps:
                for t in gap.stages:
                    _lower(self.reruns[problem.birth[v]], t, demand.get(t, 0))
        return gaps

    def _demand(self, v: int) -> Depths:
        """Stages at which some reader of `v` might run again."""
        demand: Depths = {}
        for c in self.readers[v]:
            for t, depth in self.reruns[c].items():
                if t <= self.last_rerun[c]:
                    _lower(demand, self._anchored(t, self.problem.birth[v]), depth + 1)
        return demand

    def _anchored(self, t: int, after: int) -> int:
        """The latest anchor up to stage `t`, if it is `after` that one."""
        anchor = self.anchors[max(0, bisect_right(self.anchors, t) - 1)] if self.anchors else t
        return anchor if after < anchor < t else t

    def _nearest(self, v: int, demand: Depths, after: int, before: int) -> tuple[int, ...]:
        """The `most` stages of least depth between two, the latest at a tie, and those of the known plan."""
        within = [t for t in demand if after < t < before]
        within.sort(key=lambda t: (demand[t], -t))
        also = (t for t in self.brought.get(v, ()) if after < t < before)
        return tuple(sorted({*within[: self.most], *also}))


def _lower(depths: Depths, t: int, depth: int) -> None:
    depths[t] = min(depth, depths.get(t, depth))
