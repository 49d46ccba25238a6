"""Where a time-indexed program needs rows of memory: learned from the replays of its plans.

Few of the rows bind, and dense rows are what makes the program slow. So it starts with some, and where the
replay of a plan exceeds the budget a row is added: at that stage, or for that op wherever it may run again.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

from edgewise.plan.nouns import Compute, Free
from edgewise.plan.problem import Candidate, Problem


class Excess(NamedTuple):
    """By how many bytes a replay exceeds the budget: per stage, and per recomputation `(op, stage)`."""

    first: dict[int, int]
    again: dict[tuple[int, int], int]


@dataclass
class Rows:
    """Stages whose first executions have rows, and ops whose recomputations have.

    Values up to `negligible` bytes are always kept, until that leaves no plan.
    """

    stages: set[int]
    negligible: int
    crowded: set[int] = field(default_factory=set)

    def learn(self, problem: Problem, candidate: Candidate) -> bool:
        """Add rows for what `candidate` exceeds; whether there are any new ones."""
        excess = excess_of(problem, candidate)
        before = len(self.stages) + len(self.crowded)
        self.stages |= excess.first.keys()
        self.crowded |= {c for c, _ in excess.again}
        return len(self.stages) + len(self.crowded) > before


def excess_of(problem: Problem, candidate: Candidate) -> Excess:
    """Where the replay of `candidate` exceeds the budget of RAM."""
    turn = {op.name: t for t, op in enumerate(problem.ops)}
    excess = Excess({}, {})
    stage = 0
    for step, bytes_ in zip(candidate.steps, candidate.certificate.ram_bytes, strict=True):
        over = bytes_ - problem.budget.ram_bytes
        if over > 0 and isinstance(step, Compute) and turn[step.op] < stage:
            rerun = turn[step.op], stage
            excess.again[rerun] = max(over, excess.again.get(rerun, 0))
        elif over > 0 and not isinstance(step, Free):  # RAM is no fuller before a free than it was before
            excess.first[stage] = max(over, excess.first.get(stage, 0))
        if isinstance(step, Compute):
            stage = max(stage, turn[step.op] + 1)
    return excess
