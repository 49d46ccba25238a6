"""RAM below which no plan can be on a device that cannot page: what must stand in RAM beside each op.

A value that its op cannot make again must be in RAM from its birth to its last use: that op may run only
once, or an update has overwritten an operand of it. So beside the working set of each op stand all such
values that are wanted later. And the operands of op `t` do not come together for nothing: one of them comes
last, by its own op, and the others are in RAM beside the working set of that one; or all are there already
while op `t - 1` runs.

The bound holds for every plan that keeps the graph's order of first executions. It says nothing of the
values that one must have to make others again, so that the least RAM may be above it.
"""

from functools import cached_property

from edgewise.plan.problem import Problem, floor_bytes


def standing_bytes(problem: Problem) -> int:
    """The bound; where the device can page, it is that of `floor_bytes`."""
    floor = floor_bytes(problem)
    return floor if problem.can_page else max(floor, *_Standing(problem).needed())


class _Standing:
    def __init__(self, problem: Problem) -> None:
        self.problem, self.n = problem, len(problem.ops)

    @cached_property
    def since(self) -> list[int]:
        """Per value, the first op during which it must be in RAM if it is wanted after that one."""
        problem = self.problem
        since = []
        for v, birth in enumerate(problem.birth):
            if birth < 0 or not problem.remakable[v]:
                since.append(birth + 1)
            else:
                since.append(max(birth + 1, self.until(birth)))
        return since

    def until(self, c: int) -> int:
        """The last stage at which every operand of op `c` can exist."""
        ends = (self.problem.end_of_life[v] for v in self.problem.inputs[c])
        return min((end for end in ends if end is not None), default=self.n + 1)

    @cached_property
    def held(self) -> list[set[int]]:
        """Per op, the values that must be in RAM during its first execution because of later ones."""
        problem = self.problem
        held: list[set[int]] = [set() for _ in range(self.n)]
        for v, uses in enumerate(problem.uses):
            last = self.n if v in problem.required else max(uses, default=-1)
            for t in range(self.since[v], min(last + 1, self.n)):
                held[t].add(v)
        return held

    def needed(self) -> list[int]:
        """Per op, bytes that must be in RAM during its first execution, or at some time before."""
        first = [self._beside(t, self.held[t]) for t in range(self.n)]
        return [max(bytes_, self._coming_together(t)) for t, bytes_ in enumerate(first)]

    def _beside(self, c: int, others: set[int]) -> int:
        """Bytes of `others` and of what op `c` needs, when that runs. Updates take the place of the old."""
        problem = self.problem
        news = (problem.index[new] for _, new in problem.ops[c].updates)
        operands = {*problem.reads[c], *problem.outputs[c], *news}
        return problem.least_tiled_bytes[c] + self._bytes(others - operands)

    def _again_beside(self, c: int, others: set[int]) -> int:
        """The same for another execution of op `c`, which makes no updates."""
        problem = self.problem
        operands = {*problem.inputs[c], *problem.outputs[c]}
        olds = set(problem.reads[c]) - operands
        return problem.least_tiled_bytes[c] - self._bytes(olds) + self._bytes(others - operands)

    def _bytes(self, values: set[int]) -> int:
        return sum(self.problem.bytes[v] for v in values)

    def _coming_together(self, t: int) -> int:
        """Bytes that must be in RAM when the last operand of op `t` comes."""
        problem = self.problem
        operands = set(problem.reads[t])
        if all(problem.birth[v] < 0 for v in operands):
            return 0
        ways = [self._beside(t - 1, operands | self.held[t - 1])]
        lasting = {v for v in self.held[t] if self._cannot_come_in(v, t)}
        makers = {problem.birth[v] for v in operands if problem.remakable[v]}
        ways += [self._again_beside(c, operands | lasting) for c in makers if self.until(c) >= t]
        return min(ways)

    def _cannot_come_in(self, v: int, t: int) -> bool:
        """Whether value `v` cannot be made in stage `t`, before op `t` runs."""
        birth = self.problem.birth[v]
        return birth < 0 or not self.problem.remakable[v] or self.until(birth) < t
