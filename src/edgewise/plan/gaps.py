"""Idle gaps of values between their uses, and the stages in which a value might be brought back within each.

A value that is used at stages `a < d` and not between must be kept over the stages strictly between, or
brought back by a recomputation or a page-in at some stage in `(a, d]`. A value that nobody reads any more may
still be wanted by recomputations: its *tail*. Candidate stages: `d`, and the candidates of whatever a
recomputable reader of the value makes, since that reader may have to run again then. The *depth* of a
candidate is how many ops run again between it and a use; of many candidates those of least depth are taken,
since the longer the chain of recomputations, the dearer it is.
"""

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


def find_gaps(problem: Problem, *, most: int) -> list[Gap]:
    """All gaps of all values; each with its `most` candidate stages nearest to a use."""
    return _Finder(problem, most).gaps()


Depths = dict[int, int]
"""Stage -> depth."""


class _Finder:
    def __init__(self, problem: Problem, most: int) -> None:
        self.problem, self.most = problem, most
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
                within = {t: depth for t, depth in demand.items() if start < t < end}
                gaps.append(Gap(v, start, end, "middle", (*self._nearest(within), end)))
        stages = self._nearest({t: depth for t, depth in demand.items() if t > points[-1]})
        if is_last:
            gaps.append(Gap(v, points[-1], self.n + 1, "rest", stages))
        elif stages and problem.end_of_life[v] is None:
            gaps.append(Gap(v, points[-1], max(stages) + 1, "tail", stages))
        if problem.remakable[v]:
            for gap in gaps:
                for t in gap.stages:
                    _lower(self.reruns[problem.birth[v]], t, demand[t])
        return gaps

    def _demand(self, v: int) -> Depths:
        """Stages at which some reader of `v` might run again."""
        demand: Depths = {}
        for c in self.readers[v]:
            for t, depth in self.reruns[c].items():
                if t <= self.last_rerun[c]:
                    _lower(demand, t, depth + 1)
        return demand

    def _nearest(self, demand: Depths) -> tuple[int, ...]:
        """The `most` stages of least depth, the latest at a tie."""
        chosen = sorted(demand, key=lambda t: (demand[t], -t))[: self.most]
        return tuple(sorted(chosen))


def _lower(depths: Depths, t: int, depth: int) -> None:
    depths[t] = min(depth, depths.get(t, depth))
