"""Large neighbourhood search: a known plan, bettered part by part by the time-indexed program.

All decisions of the plan are held fast but those on the values of two stretches of the step; what HiGHS finds
for these in a few seconds is taken if its replay fits and costs less, and two other stretches follow (Shaw,
CP 1998). Two, because one stretch can only use RAM that another one gives up. Stretches grow while they are
solved at once and shrink where they are not. Their choice is random, from a fixed seed.
"""

import random
import time
from collections.abc import Iterator
from dataclasses import replace

from edgewise.plan.crowding import Rows
from edgewise.plan.milp import Model, Solution
from edgewise.plan.problem import Candidate, Problem, fits, judge
from edgewise.plan.time_indexed import TimeIndexed
from edgewise.plan.warm_start import admit, brought, known, start, unseen

STAGES = 24
"""Candidate stages a gap, besides those of the known plan."""

PATIENCE = 0.08
"""Share of the time for the search that a neighbourhood may take."""

QUICK = 0.25
"""One that takes less than this share of that makes the next one larger."""

FIRST, LEAST, MOST = 0.1, 0.02, 0.5
"""Share of the values in a stretch: at first, at least and at most."""

DONE = 1e-4
"""A neighbourhood is solved to this relative gap, and must win as much."""

IDLE = 40
"""Neighbourhoods in a row that bring nothing, after which the search ends."""


def neighbourhoods(
    problem: Problem, model: Problem, best: Candidate, rows: Rows, *, deadline: float
) -> Iterator[Candidate]:
    """Ever better plans, all of which fit; nothing if `best` pages.

    Args:
        problem: what to plan.
        model: the same as the program is to see it.
        best: a plan that fits.
        rows: where the program needs rows of memory.
        deadline: when to stop, by `time.monotonic`.
    """
    search = _Search(problem, model, rows, PATIENCE * (deadline - time.monotonic()))
    while search.build(best) and time.monotonic() < deadline:
        found = search.better(best, deadline)
        if found is None:
            return
        if fits(problem, found):
            best = found
            yield found
        elif not rows.learn(problem, found):
            search.avoid()


class _Search:
    def __init__(self, problem: Problem, model: Problem, rows: Rows, patience: float) -> None:
        self.problem, self.model, self.rows = problem, model, rows
        self.patience = patience
        self.dice = random.Random(0)  # noqa: S311  # a plan must be the same every time
        self.size = FIRST
        self.idle = 0
        self.program: TimeIndexed | None = None
        self.values: dict[int, float] = {}
        self.loose: set[int] = set()

    def build(self, best: Candidate) -> bool:
        """Make the program with `best` as its incumbent; whether that can be done."""
        plan = known(self.problem, best)
        if plan is None:
            return False
        self.program = TimeIndexed(
            self.model,
            self.problem.budget.ram_bytes,
            most=STAGES,
            brought=brought(self.problem, [plan]),
            negligible=self.rows.negligible,
            stages=self.rows.stages,
            crowded={c: {} for c in self.rows.crowded},
        )
        self.values = start(self.program, plan)
        self.loose = unseen(self.program, plan)
        admit(self.program.model, self.values)
        return True

    def avoid(self) -> None:
        """The program cannot see why its last plan does not fit: smaller steps may."""
        self.size = max(LEAST, self.size / 2)
        self.idle += 1

    def better(self, best: Candidate, deadline: float) -> Candidate | None:
        """A plan that costs less, though it may not fit; `None` if the search is over."""
        program = self.program
        assert program is not None  # noqa: S101  # `build` came before
        threshold = best.overhead * (1 - DONE)
        while (left := deadline - time.monotonic()) > 0 and self.idle < IDLE:
            begin = time.monotonic()
            solution = self._solve(program, min(self.patience, left))
            seconds = time.monotonic() - begin
            self._resize(seconds, solution)
            found = judge(self.problem, *program.order(solution)) if solution.values is not None else None
            if found is not None and found.overhead < threshold:
                self.idle = 0
                return found
            self.idle += 1
        return None

    def _resize(self, seconds: float, solution: Solution) -> None:
        if solution.status == "stopped":
            self.size = max(LEAST, self.size / 1.5)
        elif seconds < QUICK * self.patience:
            self.size = min(MOST, self.size * 1.3)

    def _solve(self, program: TimeIndexed, limit: float) -> Solution:
        free = self._free(program)
        held = {variable: value for variable, value in self.values.items() if variable not in free}
        return _held(program.model, held).solve(time_limit=limit, gap=DONE, start=self.values)

    def _free(self, program: TimeIndexed) -> set[int]:
        """Variables on the values of two stretches, by when they are made."""
        movable = sorted(program.keep, key=lambda g: self.problem.birth[program.gaps[g].value])
        span = max(1, int(self.size * len(movable)))
        chosen: set[int] = set()
        for _ in range(2):
            at = self.dice.randrange(max(1, len(movable) - span + 1))
            chosen.update(movable[at : at + span])
        values = {program.gaps[g].value for g in chosen} | self.loose
        free: set[int] = set()
        for g in (g for v in values for g in program.of_value[v] if g in program.keep):
            free.add(program.keep[g])
            for terms in (*program.stay[g].values(), *program.visit[g].values()):
                free.update(variable for variable, _ in terms)
        makers = {self.problem.birth[v] for v in values}
        free.update(variable for (c, _), variable in program.rerun.items() if c in makers)
        return free


def _held(model: Model, values: dict[int, float]) -> Model:
    """`model` with some variables held at `values`."""
    lower, upper = list(model.lower), list(model.upper)
    for variable, value in values.items():
        lower[variable] = upper[variable] = value
    return replace(model, lower=lower, upper=upper)
